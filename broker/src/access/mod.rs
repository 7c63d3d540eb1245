//! Who calls, and what they may do: identities with roles, proved by bearer tokens and client certificates.
//!
//! All of it stands in the configuration and is replaced whole when that changes. Where no identity is
//! configured, whoever reaches the broker may do everything; a broker then listens on this host alone, unless
//! it was told otherwise.

mod calls;
mod certificate;
mod identity;
mod jwt;
mod tls;
mod token;

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use http::{HeaderMap, header::AUTHORIZATION};

pub use calls::{Needs, needs_of};
pub use certificate::ClientAuthorities;
pub use identity::{Caller, Denied, Identity, Role};
pub use jwt::{BadKeySet, TokenIssuer};
pub use tls::{BadTls, PeerCertificates, Tls};
pub use token::{TokenDigest, generate_token};

/// Everything that is configured of identities.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    identities: Vec<Arc<Identity>>,
    // Each digest with the place of its identity.
    tokens: Vec<(TokenDigest, usize)>,
    names: HashMap<String, usize>,
    subjects: HashMap<String, usize>,
    /// Whose signed tokens are taken.
    pub issuer: Option<Arc<TokenIssuer>>,
    /// How connections are encrypted; none: they are not.
    pub tls: Option<Arc<Tls>>,
}

/// By what an identity is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Digests of its tokens.
    pub tokens: Vec<TokenDigest>,
    /// Alternative names of its certificates.
    pub certificate_names: Vec<String>,
    /// Subjects of its signed tokens.
    pub token_subjects: Vec<String>,
}

impl Rules {
    /// Adds an identity. Credentials that another has already are its own from now on: the configuration
    /// finds fault with that.
    pub fn add(&mut self, identity: Identity, credentials: Credentials) {
        let place = self.identities.len();
        self.identities.push(Arc::new(identity));
        self.tokens.extend(credentials.tokens.into_iter().map(|digest| (digest, place)));
        self.names.extend(credentials.certificate_names.into_iter().map(|name| (name, place)));
        self.subjects.extend(credentials.token_subjects.into_iter().map(|subject| (subject, place)));
    }

    /// Whether callers have to say who they are.
    pub fn are_closed(&self) -> bool {
        !self.identities.is_empty()
    }

    /// The identities, in the order of the configuration.
    pub fn identities(&self) -> impl ExactSizeIterator<Item = &Identity> {
        self.identities.iter().map(|identity| &**identity)
    }

    /// Who sent a request with these headers over a connection with these certificates. A token that was
    /// sent decides, whatever the certificate says.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`] with what is wrong.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        certificates: Option<&PeerCertificates>,
    ) -> Result<Caller, Denied> {
        if !self.are_closed() {
            return Ok(Caller::anyone());
        }
        let place = match headers.get(AUTHORIZATION) {
            Some(header) => self.by_token(bearer(header)?)?,
            None => match certificates {
                Some(certificates) => self.by_certificate(certificates)?,
                None => {
                    return Err(Denied::unauthenticated(
                        "the call has no credentials; send a token as `authorization: Bearer TOKEN`, or connect with \
                         a client certificate",
                    ));
                }
            },
        };
        Ok(Caller::of(self.identities[place].clone()))
    }

    fn by_token(&self, token: &str) -> Result<usize, Denied> {
        let digest = TokenDigest::of(token);
        // All of them are looked at, so that the time it takes tells nothing of which came near.
        let mut found = None;
        for (known, place) in &self.tokens {
            if known.equals(&digest) {
                found = Some(*place);
            }
        }
        if let Some(place) = found {
            return Ok(place);
        }
        let Some(issuer) = self.issuer.as_ref().filter(|_| jwt::looks_signed(token)) else {
            return Err(Denied::unauthenticated("the token is not known here"));
        };
        let subject = issuer.subject_of(token)?;
        self.subjects.get(&subject).copied().ok_or_else(|| {
            Denied::unauthenticated(
                "the token is valid, but no identity has its subject among `token_subjects`",
            )
        })
    }

    fn by_certificate(&self, certificates: &PeerCertificates) -> Result<usize, Denied> {
        let authorities = self.tls.as_ref().and_then(|tls| tls.client_authorities());
        let authorities = authorities.ok_or_else(|| {
            Denied::unauthenticated(
                "client certificates are not taken here: no `client_ca_file` is configured",
            )
        })?;
        let names = certificates.names_by(authorities)?;
        names.iter().find_map(|name| self.names.get(name)).copied().ok_or_else(|| {
            Denied::unauthenticated(
                "the client certificate is valid, but no identity has one of its alternative names among \
                 `certificate_names`",
            )
        })
    }
}

fn bearer(header: &http::HeaderValue) -> Result<&str, Denied> {
    let text = header.to_str().unwrap_or_default();
    let (scheme, token) = text.split_once(' ').unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        let why = "the header `authorization` is not of the form `Bearer TOKEN`";
        return Err(Denied::unauthenticated(why));
    }
    Ok(token.trim())
}

/// The rules in place, for everybody who serves.
#[derive(Clone, Default)]
pub struct Access(Arc<RwLock<Arc<Rules>>>);

impl Access {
    /// Begins with these.
    pub fn new(rules: Rules) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(rules))))
    }

    /// The rules in place.
    pub fn rules(&self) -> Arc<Rules> {
        self.0.read().expect("no holder of this lock panics").clone()
    }

    /// Passes if these rules may take the place of those that stand. What a broker began with decides whether it
    /// encrypts and whether it asks who calls, since its addresses were chosen by that: neither is given up by a
    /// reload.
    ///
    /// # Errors
    /// What cannot be changed while the broker runs, and the fix.
    pub fn may_become(&self, rules: &Rules) -> Result<(), &'static str> {
        let standing = self.rules();
        if standing.tls.is_some() != rules.tls.is_some() {
            return Err("[tls] cannot be added or removed while the broker runs; restart it");
        }
        if standing.are_closed() && !rules.are_closed() {
            return Err("the last of [[identities]] cannot be removed while the broker runs; restart it");
        }
        Ok(())
    }

    /// Puts these in place; whoever does has asked whether they may.
    pub fn replace(&self, rules: Rules) {
        *self.0.write().expect("no holder of this lock panics") = Arc::new(rules);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str, roles: &[Role]) -> Identity {
        Identity { roles: roles.iter().copied().collect(), ..Identity::named(name) }
    }

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().unwrap())])
    }

    fn rules() -> Rules {
        let mut rules = Rules::default();
        let of = |token| Credentials { tokens: vec![TokenDigest::of(token)], ..Credentials::default() };
        rules.add(identity("a", &[Role::Worker]), of("token-of-a"));
        rules.add(identity("b", &[Role::Admin]), of("token-of-b"));
        rules
    }

    #[test]
    fn without_identities_everybody_may_do_everything() {
        let caller = Rules::default().authenticate(&HeaderMap::new(), None).unwrap();
        assert!(Role::ALL.iter().all(|role| caller.has(*role)));
        assert_eq!(caller.name(), "");
    }

    #[test]
    fn a_token_names_its_identity() {
        assert_eq!(rules().authenticate(&headers("Bearer token-of-a"), None).unwrap().name(), "a");
        assert_eq!(rules().authenticate(&headers("bearer  token-of-b "), None).unwrap().name(), "b");
    }

    #[test]
    fn whoever_has_no_right_credential_is_told_what_is_wrong_and_nothing_of_others() {
        for (sent, said) in [
            ("Bearer token-of-c", "not known"),
            ("Bearer token-of-", "not known"),
            ("Bearer ", "form"),
            ("Basic dG9rZW4=", "form"),
            ("token-of-a", "form"),
        ] {
            let denied = rules().authenticate(&headers(sent), None).unwrap_err();
            assert!(denied.to_string().contains(said), "{sent}: {denied}");
            assert!(!denied.to_string().contains("token-of"), "{denied}");
        }
        let denied = rules().authenticate(&HeaderMap::new(), None).unwrap_err();
        assert!(denied.to_string().contains("authorization: Bearer"), "{denied}");
    }

    #[test]
    fn a_reload_does_not_open_what_was_closed() {
        let access = Access::new(rules());
        access.may_become(&rules()).unwrap();
        assert!(access.may_become(&Rules::default()).unwrap_err().contains("[[identities]]"));
        Access::default().may_become(&rules()).unwrap();
    }
}
