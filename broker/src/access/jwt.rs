//! Tokens that somebody else signed, such as those of Kubernetes' service accounts.

use std::fmt;

use jsonwebtoken::{
    DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, JwkSet, PublicKeyUse},
};
use serde::Deserialize;

use super::Denied;

/// By how many seconds clocks may differ.
const LEEWAY: u64 = 10;

/// Whoever signs tokens that are taken here.
#[derive(Clone)]
pub struct TokenIssuer {
    issuer: String,
    audience: String,
    keys: Vec<(Option<String>, DecodingKey)>,
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, audience, keys } = self;
        let keys = keys.len();
        f.debug_struct("TokenIssuer")
            .field("issuer", issuer)
            .field("audience", audience)
            .field("keys", &keys)
            .finish()
    }
}

/// Why a set of keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKeySet {
    /// It is not the JSON of a set.
    #[error("is not a JSON Web Key Set")]
    NotASet,
    /// One of its keys would have to be kept secret.
    #[error("has a symmetric key, which whoever checks tokens could also sign with")]
    Symmetric,
    /// None of its keys can be used.
    #[error("has no key to check signatures with")]
    NoKey,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl TokenIssuer {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.issuer
    }

    /// For whom the tokens are.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// One who signs with these keys, for this audience.
    ///
    /// # Errors
    /// If the set of keys cannot be used.
    pub fn new(issuer: &str, audience: &str, key_set: &str) -> Result<Self, BadKeySet> {
        let set: JwkSet = serde_json::from_str(key_set).map_err(|_| BadKeySet::NotASet)?;
        if set.keys.iter().any(|key| matches!(key.algorithm, AlgorithmParameters::OctetKey(_))) {
            return Err(BadKeySet::Symmetric);
        }
        let signs = |usage: &Option<PublicKeyUse>| matches!(usage, None | Some(PublicKeyUse::Signature));
        let keys = set.keys.iter().filter(|key| signs(&key.common.public_key_use));
        // A set may hold keys of kinds that are not known yet, beside those that are.
        let keys = keys.filter_map(|key| Some((key.common.key_id.clone(), DecodingKey::from_jwk(key).ok()?)));
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() {
            return Err(BadKeySet::NoKey);
        }
        Ok(Self { issuer: issuer.to_owned(), audience: audience.to_owned(), keys })
    }

    /// The subject of a token whose signature, time, issuer and audience are right.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`] with what is not.
    pub(super) fn subject_of(&self, token: &str) -> Result<String, Denied> {
        let wrong = |why: &str| Denied::unauthenticated(format!("the signed token is not taken: {why}"));
        let header = decode_header(token).map_err(|_| wrong("it cannot be read"))?;
        let by_id = |id: &Option<String>| match (&header.kid, id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        let mut outcome = Err(wrong("it is signed by a key that is not in `jwks_file`"));
        for (_, key) in self.keys.iter().filter(|(id, _)| by_id(id)) {
            let mut validation = Validation::new_for_family(key.family());
            validation.leeway = LEEWAY;
            validation.validate_nbf = true;
            validation.set_issuer(&[&self.issuer]);
            validation.set_audience(&[&self.audience]);
            validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
            match decode::<Claims>(token, key, &validation) {
                Ok(token) => return Ok(token.claims.sub),
                // The signature is right where a claim is found wrong.
                Err(error) => match error.kind() {
                    ErrorKind::ExpiredSignature => return Err(wrong("it has expired")),
                    ErrorKind::ImmatureSignature => return Err(wrong("it is not valid yet")),
                    ErrorKind::InvalidAudience => return Err(wrong("it is for another audience")),
                    ErrorKind::InvalidIssuer => return Err(wrong("it is of another issuer")),
                    ErrorKind::MissingRequiredClaim(claim) => {
                        return Err(wrong(&format!("it has no `{claim}`")));
                    }
                    _ => outcome = Err(wrong("its signature is not right")),
                },
            }
        }
        outcome
    }
}

/// Whether a token has the three parts of a signed one.
pub(super) fn looks_signed(token: &str) -> bool {
    token.split('.').filter(|part| !part.is_empty()).count() == 3
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://kubernetes.default.svc";

    struct Signer {
        key: EncodingKey,
        id: &'static str,
    }

    impl Signer {
        fn new(id: &'static str) -> Self {
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            Self { key: EncodingKey::from_ec_der(pair.serialized_der()), id }
        }

        fn public(&self) -> Value {
            let mut key = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
            key.common.key_id = Some(self.id.to_owned());
            serde_json::to_value(key).unwrap()
        }

        fn sign(&self, claims: &Value) -> String {
            let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) };
            encode(&header, claims, &self.key).unwrap()
        }
    }

    fn claims(changed: Value) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({
            "iss": ISSUER, "aud": ["keybroker"], "sub": "system:serviceaccount:jobs:nightly",
            "iat": now, "nbf": now, "exp": now + 600,
        });
        for (name, value) in changed.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    #[test]
    fn a_signed_token_names_its_subject_until_it_expires() {
        let (ours, other) = (Signer::new("one"), Signer::new("two"));
        let set = json!({ "keys": [Signer::new("former").public(), ours.public()] }).to_string();
        let issuer = TokenIssuer::new(ISSUER, "keybroker", &set).unwrap();
        let subject = issuer.subject_of(&ours.sign(&claims(json!({})))).unwrap();
        assert_eq!(subject, "system:serviceaccount:jobs:nightly");

        for (changed, said) in [
            (json!({ "exp": 1_700_000_000 }), "expired"),
            (json!({ "nbf": 9_000_000_000_u64, "exp": 9_000_000_600_u64 }), "not valid yet"),
            (json!({ "aud": "somebody else" }), "another audience"),
            (json!({ "iss": "https://elsewhere" }), "another issuer"),
        ] {
            let denied = issuer.subject_of(&ours.sign(&claims(changed))).unwrap_err().to_string();
            assert!(denied.contains(said), "{denied}");
        }
        let mut without = claims(json!({}));
        without.as_object_mut().unwrap().remove("aud");
        let denied = issuer.subject_of(&ours.sign(&without)).unwrap_err().to_string();
        assert!(denied.contains("no `aud`"), "{denied}");

        // A foreign key, also under an id that is known; a changed text; another algorithm.
        let denied = issuer.subject_of(&other.sign(&claims(json!({})))).unwrap_err().to_string();
        assert!(denied.contains("not in `jwks_file`"), "{denied}");
        let forger = Signer { id: "one", ..other };
        let denied = issuer.subject_of(&forger.sign(&claims(json!({})))).unwrap_err().to_string();
        assert!(denied.contains("signature"), "{denied}");
        let plain = encode(
            &Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) },
            &claims(json!({})),
            &EncodingKey::from_secret(set.as_bytes()).unwrap(),
        );
        let denied = issuer.subject_of(&plain.unwrap()).unwrap_err().to_string();
        assert!(denied.contains("signature"), "{denied}");
        issuer.subject_of("a.b.c").unwrap_err();
    }

    #[test]
    fn a_set_that_cannot_be_used_says_why() {
        let new = |set: &str| TokenIssuer::new(ISSUER, "keybroker", set).map(drop).unwrap_err();
        assert_eq!(new("{}"), BadKeySet::NotASet);
        assert_eq!(new(r#"{"keys":[]}"#), BadKeySet::NoKey);
        assert_eq!(new(r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#), BadKeySet::Symmetric);
    }
}
