//! Takes the leased key out of what an upstream sent back: some of Google's errors echo it whole.

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};

const MASK: &[u8] = b"[redacted]";

/// The body with every exact occurrence of the key masked.
pub(crate) fn redact(body: Bytes, key: &SecretString) -> Bytes {
    let key = key.expose_secret().as_bytes();
    if key.is_empty() || find(&body, key).is_none() {
        return body;
    }
    let mut clean = Vec::with_capacity(body.len());
    let mut rest = &body[..];
    while let Some(at) = find(rest, key) {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(MASK);
        rest = &rest[at + key.len()..];
    }
    clean.extend_from_slice(rest);
    Bytes::from(clean)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_occurrence_is_masked() {
        let key = SecretString::from("fake-key-1");
        let body = Bytes::from_static(b"fake-key-1 of api_key:fake-key-1.");
        assert_eq!(redact(body, &key), Bytes::from_static(b"[redacted] of api_key:[redacted]."));
    }

    #[test]
    fn an_empty_key_changes_nothing() {
        let body = Bytes::from_static(b"text");
        assert_eq!(redact(body.clone(), &SecretString::from("")), body);
    }
}
