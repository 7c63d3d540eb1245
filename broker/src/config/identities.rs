//! `[[identities]]`, `[tls]` and `[jwt]`: who may call, and how it is known who does.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::consumers::known_plan;
use super::fault::Findings;
use super::key_text::Lookup;
use super::nearest::nearest;
use super::reference;
use super::section::{ID_RULE, Section, is_id};
use crate::access::{BadTls, Credentials, Identity, Role, Rules, Tls, TokenDigest, TokenIssuer};
use crate::catalogue::{Catalogue, NamePattern, is_consumer_id, is_model_name};

/// The most characters of an alternative name of a certificate, or of the subject of a token.
const LONGEST_NAME: usize = 512;

/// What a file says of who may call.
#[derive(Default)]
pub(super) struct WrittenAccess {
    identities: Vec<WrittenIdentity>,
    tls: Option<Arc<Tls>>,
    issuer: Option<Arc<TokenIssuer>>,
    /// Whether certificates of clients, or signed tokens, were meant to be taken, also where it is wrong how.
    certificates: bool,
    signed_tokens: bool,
}

/// One of `[[identities]]`.
struct WrittenIdentity {
    place: String,
    plan_place: String,
    identity: Identity,
    credentials: Credentials,
}

/// Reads all of it.
pub(super) fn read(root: &Section<'_>, lookup: &mut Lookup<'_>, found: &mut Findings) -> WrittenAccess {
    let identities = root.sections("identities", found);
    let tls = root.table("tls", found);
    let jwt = root.table("jwt", found);
    WrittenAccess {
        identities: identities.iter().filter_map(|section| read_identity(section, found)).collect(),
        certificates: tls.as_ref().is_some_and(|section| section.has("client_ca_file")),
        signed_tokens: jwt.is_some(),
        tls: tls.and_then(|section| read_tls(&section, lookup, found)),
        issuer: jwt.and_then(|section| read_issuer(&section, lookup, found)),
    }
}

fn read_identity(section: &Section<'_>, found: &mut Findings) -> Option<WrittenIdentity> {
    section.only(&reference::IDENTITY, found);
    let name = section.required_id("name", "nightly-report", found);
    let credentials = Credentials {
        tokens: read_digests(section, found),
        certificate_names: read_names(section, "certificate_names", "[\"worker.example.com\"]", found),
        token_subjects: read_names(
            section,
            "token_subjects",
            "[\"system:serviceaccount:jobs:nightly\"]",
            found,
        ),
    };
    if !["token_sha256", "certificate_names", "token_subjects"].iter().any(|field| section.has(field)) {
        found.fault(
            section.place(),
            "has nothing to be known by",
            "add token_sha256 = [\"...\"] (keybroker generate-token prints one), certificate_names or token_subjects",
        );
    }
    let mut identity = Identity::named(name.unwrap_or_default());
    identity.roles = read_roles(section, found);
    let pool_rule = format!("{ID_RULE}, perhaps with a star at the end");
    identity.pools = read_patterns(section, "pools", "[\"default\"]", &pool_rule, is_id, found);
    identity.models = read_patterns(
        section,
        "models",
        "[\"gemini-2.5-*\"]",
        "write a model name, perhaps with a star at the end",
        is_model_name,
        found,
    );
    identity.consumers = read_patterns(
        section,
        "consumers",
        "[\"nightly-report\"]",
        "use 1 to 128 visible ASCII characters without spaces, perhaps with a star at the end",
        is_consumer_id,
        found,
    );
    identity.plan = section.id("plan", found).map(str::to_owned);
    name?;
    Some(WrittenIdentity {
        place: section.place_of("name"),
        plan_place: section.place_of("plan"),
        identity,
        credentials,
    })
}

fn read_roles(section: &Section<'_>, found: &mut Findings) -> BTreeSet<Role> {
    let example = "[\"worker\"]";
    if !section.has("roles") {
        found.fault(section.place(), "has no `roles`", format!("add roles = {example}"));
    }
    let names = Role::ALL.map(Role::as_str);
    let mut roles = BTreeSet::new();
    for (text, place) in section.texts("roles", example, found) {
        match Role::ALL.into_iter().find(|role| role.as_str() == text) {
            Some(role) => drop(roles.insert(role)),
            None => {
                let fix = match nearest(text, names) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => format!("write one of: {}", names.join(", ")),
                };
                found.fault(place, "is not a role", fix);
            }
        }
    }
    roles
}

fn read_digests(section: &Section<'_>, found: &mut Findings) -> Vec<TokenDigest> {
    let mut digests = Vec::new();
    for (text, place) in section.texts("token_sha256", "[\"64 hexadecimal digits\"]", found) {
        match TokenDigest::parse(text) {
            Some(digest) => digests.push(digest),
            None => {
                // It may be the token itself.
                found.keep_secret(text);
                found.fault(
                    place,
                    "is not the SHA-256 of a token",
                    "write its 64 hexadecimal digits, as keybroker generate-token prints them; never the token",
                );
            }
        }
    }
    digests
}

fn read_names(section: &Section<'_>, field: &str, example: &str, found: &mut Findings) -> Vec<String> {
    let mut names = Vec::new();
    for (text, place) in section.texts(field, example, found) {
        let printable = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if (1..=LONGEST_NAME).contains(&text.len()) && printable {
            names.push(text.to_owned());
        } else {
            let fix = format!("write 1 to {LONGEST_NAME} bytes without spaces");
            found.fault(place, "cannot be a name", fix);
        }
    }
    names
}

fn read_patterns(
    section: &Section<'_>,
    field: &str,
    example: &str,
    rule: &str,
    test: fn(&str) -> bool,
    found: &mut Findings,
) -> Vec<NamePattern> {
    if !section.has(field) {
        return vec![NamePattern::Any];
    }
    let mut patterns = Vec::new();
    for (text, place) in section.texts(field, example, found) {
        match NamePattern::read(text, test) {
            Some(pattern) => {
                found.keep_name(&place, text);
                patterns.push(pattern);
            }
            None => found.fault(place, "is not a valid name", rule),
        }
    }
    patterns
}

fn read_tls(section: &Section<'_>, lookup: &mut Lookup<'_>, found: &mut Findings) -> Option<Arc<Tls>> {
    section.only(&reference::TLS, found);
    let certificate = lookup.file(section, "cert_file", "the server's certificate, in PEM form", found);
    let key = lookup.file(section, "key_file", "the certificate's private key, in PEM form", found);
    let authorities = if section.has("client_ca_file") {
        let what = "the certificates of whoever signs those of clients, in PEM form";
        Some(lookup.file(section, "client_ca_file", what, found)?)
    } else {
        None
    };
    match Tls::new(&certificate?, &key?, authorities.as_ref().map(|text| text.as_str())) {
        Ok(tls) => {
            // The broker itself would run as if nothing were.
            if let Some(until) = tls.valid_until().filter(|until| *until < Timestamp::now()) {
                let text = format!("the certificate expired at {until}, so clients refuse it; renew it");
                found.warn(section.place_of("cert_file"), text);
            }
            Some(Arc::new(tls))
        }
        Err(bad) => {
            let (field, why, what) = match bad {
                BadTls::Certificate(why) => ("cert_file", why, "certificate"),
                BadTls::Key(why) => ("key_file", why, "private key"),
                BadTls::ClientAuthorities(why) => ("client_ca_file", why, "authorities"),
            };
            let fix = format!("name a PEM file with the {what}");
            found.fault(section.place_of(field), format!("the file {why}"), fix);
            None
        }
    }
}

fn read_issuer(
    section: &Section<'_>,
    lookup: &mut Lookup<'_>,
    found: &mut Findings,
) -> Option<Arc<TokenIssuer>> {
    section.only(&reference::JWT, found);
    let issuer = section.required_text("issuer", found);
    let audience = section.required_text("audience", found);
    let key_set = lookup.file(section, "jwks_file", "the issuer's JSON Web Key Set", found);
    // The set is looked at also where something else is missing.
    match TokenIssuer::new(issuer.unwrap_or_default(), audience.unwrap_or_default(), &key_set?) {
        Ok(token_issuer) => {
            issuer?;
            audience?;
            Some(Arc::new(token_issuer))
        }
        Err(bad) => {
            let fix = "name a file with the issuer's public keys, as its jwks_uri serves them";
            found.fault(section.place_of("jwks_file"), format!("the file {bad}"), fix);
            None
        }
    }
}

/// Makes rules of it, once all plans are known.
pub(super) fn settle(written: WrittenAccess, catalogue: &Catalogue, found: &mut Findings) -> Rules {
    let mut rules = Rules::default();
    (rules.tls, rules.issuer) = (written.tls, written.issuer);
    let mut places: HashMap<String, String> = HashMap::new();
    let mut owners: HashMap<String, String> = HashMap::new();
    for WrittenIdentity { place, plan_place, identity, credentials } in written.identities {
        if let Some(first) = places.get(&identity.name) {
            let problem = format!("the identity {} was written before ({first})", identity.name);
            found.fault(&place, problem, "put both into one [[identities]], or name one otherwise");
            continue;
        }
        places.insert(identity.name.clone(), place.clone());
        if !credentials.certificate_names.is_empty() && !written.certificates {
            let fix = "add client_ca_file to [tls], or remove certificate_names";
            found.fault(&place, "is known by certificates, but none are taken", fix);
        }
        if !credentials.token_subjects.is_empty() && !written.signed_tokens {
            let fix = "add [jwt] with issuer, audience and jwks_file, or remove token_subjects";
            found.fault(&place, "is known by signed tokens, but none are taken", fix);
        }
        let all = credentials.tokens.iter().map(|digest| format!("the token digest {digest}"));
        let all = all.chain(credentials.certificate_names.iter().map(|name| format!("the name {name}")));
        let all = all.chain(credentials.token_subjects.iter().map(|name| format!("the subject {name}")));
        for credential in all {
            if let Some(owner) = owners.get(&credential) {
                let problem = format!("{credential} is that of identity {owner} already");
                found.fault(&place, problem, "give each credential to one identity");
            }
            owners.insert(credential, identity.name.clone());
        }
        if let Some(plan) = &identity.plan {
            known_plan(plan, &plan_place, &catalogue.plans, found);
        }
        rules.add(identity, credentials);
    }
    rules
}
