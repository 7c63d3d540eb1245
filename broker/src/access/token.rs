//! Bearer tokens: random texts, of which the configuration holds digests alone.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::RngExt;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// By what tokens that are made here begin, so that scanners for leaked secrets find them.
const MARK: &str = "kbt_";

/// The SHA-256 of a token. Tokens are random and long, so nobody finds one by trying.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// That of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = hex::decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// Whether both are the same; the time it takes does not tell where they differ.
    pub fn equals(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({self})")
    }
}

/// A new token of 256 random bits.
pub fn generate_token() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    rand::rng().fill(&mut bytes[..]);
    Zeroizing::new(format!("{MARK}{}", BASE64_URL_SAFE_NO_PAD.encode(&bytes[..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_digest() {
        let token = generate_token();
        let digest = TokenDigest::of(&token);
        assert!(TokenDigest::parse(&digest.to_string()).unwrap().equals(&digest));
        assert!(!TokenDigest::of("another").equals(&digest));
        assert_eq!(token.len(), 47);
        assert_ne!(*generate_token(), *token);
        assert_eq!(TokenDigest::parse("abc"), None);
        // As `printf %s token | sha256sum` prints it.
        let known = "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";
        assert_eq!(TokenDigest::of("token").to_string(), known);
    }
}
