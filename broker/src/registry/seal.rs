//! Key texts, sealed before they leave the broker.
//!
//! A sealed text is base64 of: a version byte (1), four bytes that name the master key, a nonce of
//! 24 random bytes, and the text under XChaCha20-Poly1305. The key's id and the first five bytes are bound
//! to it, so a sealed text that is put under another key's id does not open.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, Generate, KeyInit, Payload},
};
use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

use crate::secret::Secret;

/// The variable that holds the master key.
pub const MASTER_KEY: &str = "KEYBROKER_MASTER_KEY";
/// The variable that holds former master keys, separated by commas: they open, and seal nothing.
pub const FORMER_MASTER_KEYS: &str = "KEYBROKER_MASTER_KEY_OLD";

const VERSION: u8 = 1;
const NAME_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;
const DOMAIN: &[u8] = b"keybroker.v1/sealed-key\0";
const NAME_DOMAIN: &[u8] = b"keybroker.v1/master-key-name\0";

/// The master keys of a broker.
pub struct MasterKeys {
    current: MasterKey,
    former: Vec<MasterKey>,
}

struct MasterKey {
    name: [u8; NAME_BYTES],
    cipher: XChaCha20Poly1305,
}

/// Why there is no master key although one was named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// It is not 32 bytes.
    #[error(
        "{0} is not a master key: write 32 bytes in base64 or hex, or file:PATH; `keybroker generate-master-key` \
         prints a new one"
    )]
    Malformed(&'static str),
    /// The file it names cannot be read.
    #[error("the file that {variable} names cannot be read: {error}")]
    Unreadable {
        /// The variable.
        variable: &'static str,
        /// What the system said.
        error: String,
    },
    /// There are former ones, and none to seal with.
    #[error(
        "{FORMER_MASTER_KEYS} is set and {MASTER_KEY} is not: set {MASTER_KEY} to the master key that new keys \
         are sealed under"
    )]
    NoCurrent,
}

/// Why a sealed text was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no master key.
    #[error("{MASTER_KEY} is not set")]
    NoMasterKey,
    /// It was sealed under another one.
    #[error(
        "it was sealed under the master key {sealed_under}, which is neither in {MASTER_KEY} nor in \
         {FORMER_MASTER_KEYS}"
    )]
    OtherMasterKey {
        /// Names it.
        sealed_under: String,
    },
    /// It was made by a newer version of keybroker.
    #[error("it was sealed in form {0}, which this version does not know")]
    UnknownForm(u8),
    /// It was changed after it was sealed, or belongs to another key.
    #[error("what is stored is damaged or belongs to another key")]
    Damaged,
}

/// A new master key, in base64.
pub fn generate_master_key() -> Zeroizing<String> {
    let bytes = Zeroizing::new(<[u8; KEY_BYTES]>::generate());
    Zeroizing::new(BASE64.encode(bytes.as_slice()))
}

impl MasterKeys {
    /// Reads them from the environment; none if there are none.
    ///
    /// # Errors
    /// If a variable is set to something that is no master key.
    pub fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, MasterKeyError> {
        let text = |name: &str| env(name).map(Zeroizing::new).filter(|text| !text.trim().is_empty());
        let former = match text(FORMER_MASTER_KEYS) {
            Some(texts) => texts
                .split(',')
                .filter(|text| !text.trim().is_empty())
                .map(|text| MasterKey::read(FORMER_MASTER_KEYS, text))
                .collect::<Result<Vec<_>, _>>()?,
            None => Vec::new(),
        };
        match text(MASTER_KEY) {
            Some(text) => Ok(Some(Self { current: MasterKey::read(MASTER_KEY, &text)?, former })),
            None if former.is_empty() => Ok(None),
            None => Err(MasterKeyError::NoCurrent),
        }
    }

    /// Seals the text of the key with that id.
    pub fn seal(&self, key_id: &str, secret: &Secret) -> String {
        let nonce = XNonce::generate();
        let mut sealed = vec![VERSION];
        sealed.extend(self.current.name);
        let bound = bound(key_id, &sealed);
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &bound };
        let text =
            self.current.cipher.encrypt(&nonce, payload).expect("only a text of many gigabytes is refused");
        sealed.extend(nonce);
        sealed.extend(text);
        BASE64.encode(sealed)
    }

    /// Opens what was sealed for the key with that id.
    ///
    /// # Errors
    /// If it was sealed under another master key, for another key, or not at all.
    pub fn open(&self, key_id: &str, sealed: &str) -> Result<Secret, OpenError> {
        let sealed = BASE64.decode(sealed).map_err(|_| OpenError::Damaged)?;
        match sealed.first() {
            Some(&VERSION) => {}
            Some(&other) => return Err(OpenError::UnknownForm(other)),
            None => return Err(OpenError::Damaged),
        }
        let (head, rest) = sealed.split_at_checked(1 + NAME_BYTES).ok_or(OpenError::Damaged)?;
        let (nonce, text) = rest.split_at_checked(NONCE_BYTES).ok_or(OpenError::Damaged)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| OpenError::Damaged)?;
        let mut known = std::iter::once(&self.current).chain(&self.former);
        let key = known
            .find(|key| key.name == head[1..])
            .ok_or_else(|| OpenError::OtherMasterKey { sealed_under: hex::encode(&head[1..]) })?;
        let payload = Payload { msg: text, aad: &bound(key_id, head) };
        let text = Zeroizing::new(key.cipher.decrypt(&nonce, payload).map_err(|_| OpenError::Damaged)?);
        let text = std::str::from_utf8(&text).map_err(|_| OpenError::Damaged)?;
        Ok(Secret::from(text))
    }
}

impl MasterKey {
    fn read(variable: &'static str, text: &str) -> Result<Self, MasterKeyError> {
        let text = text.trim();
        let malformed = || MasterKeyError::Malformed(variable);
        let of_file;
        let text = match text.strip_prefix("file:") {
            None => text,
            Some(path) => {
                let read = std::fs::read_to_string(Path::new(path.trim()));
                let unreadable =
                    |error: std::io::Error| MasterKeyError::Unreadable { variable, error: error.to_string() };
                of_file = Zeroizing::new(read.map_err(unreadable)?);
                of_file.trim()
            }
        };
        let decoded =
            if text.len() == 2 * KEY_BYTES { hex::decode(text).ok() } else { BASE64.decode(text).ok() };
        let bytes = Zeroizing::new(decoded.ok_or_else(malformed)?);
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| malformed())?;
        let digest = Sha256::new().chain_update(NAME_DOMAIN).chain_update(&*bytes).finalize();
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&digest[..NAME_BYTES]);
        Ok(Self { name, cipher })
    }
}

/// What is bound to a sealed text beside its own bytes.
fn bound(key_id: &str, head: &[u8]) -> Vec<u8> {
    [DOMAIN, head, key_id.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(current: &str, former: &str) -> Result<Option<MasterKeys>, MasterKeyError> {
        let values = [(MASTER_KEY, current.to_owned()), (FORMER_MASTER_KEYS, former.to_owned())];
        MasterKeys::read(&|name| {
            values.iter().find(|(known, _)| *known == name).map(|(_, text)| text.clone())
        })
    }

    fn keys(current: &str, former: &str) -> MasterKeys {
        read(current, former).unwrap().unwrap()
    }

    #[test]
    fn what_is_sealed_opens_again_and_shows_nothing() {
        let keys = keys(&generate_master_key(), "");
        let secret = Secret::from("test-key-aaaaaaaa-0001");
        let sealed = keys.seal("a1", &secret);
        assert_eq!(keys.open("a1", &sealed), Ok(secret.clone()));
        assert!(!BASE64.decode(&sealed).unwrap().windows(8).any(|part| part == b"aaaaaaaa"));
        assert_ne!(sealed, keys.seal("a1", &secret), "every sealing has a nonce of its own");
    }

    #[test]
    fn it_opens_for_no_other_key_and_not_after_a_change() {
        let keys = keys(&generate_master_key(), "");
        let sealed = keys.seal("a1", &Secret::from("test-key-aaaaaaaa-0001"));
        assert_eq!(keys.open("a2", &sealed), Err(OpenError::Damaged));
        let mut bytes = BASE64.decode(&sealed).unwrap();
        for at in 5..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(keys.open("a1", &BASE64.encode(&bytes)), Err(OpenError::Damaged), "byte {at}");
            bytes[at] ^= 1;
        }
        bytes[0] = 2;
        assert_eq!(keys.open("a1", &BASE64.encode(&bytes)), Err(OpenError::UnknownForm(2)));
        assert_eq!(keys.open("a1", "no base64!"), Err(OpenError::Damaged));
        assert_eq!(keys.open("a1", ""), Err(OpenError::Damaged));
        assert_eq!(keys.open("a1", &BASE64.encode([1, 2, 3])), Err(OpenError::Damaged));
    }

    #[test]
    fn a_former_master_key_opens_and_another_is_named() {
        let (first, second) = (generate_master_key(), generate_master_key());
        let sealed = keys(&first, "").seal("a1", &Secret::from("test-key-aaaaaaaa-0001"));
        assert!(keys(&second, &first).open("a1", &sealed).is_ok());
        assert!(matches!(keys(&second, "").open("a1", &sealed), Err(OpenError::OtherMasterKey { .. })));
        let sealed_anew = keys(&second, &first).seal("a1", &Secret::from("test-key-aaaaaaaa-0001"));
        assert!(
            keys(&second, "").open("a1", &sealed_anew).is_ok(),
            "new ones are sealed under the current one"
        );
    }

    #[test]
    fn a_master_key_is_base64_hex_or_a_file_and_nothing_else() {
        let key = generate_master_key();
        let bytes = BASE64.decode(key.as_str()).unwrap();
        let sealed = keys(&key, "").seal("a1", &Secret::from("test-key-aaaaaaaa-0001"));
        assert!(keys(&hex::encode(&bytes), "").open("a1", &sealed).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master");
        std::fs::write(&path, format!("{}\n", key.as_str())).unwrap();
        assert!(keys(&format!("file:{}", path.display()), "").open("a1", &sealed).is_ok());

        assert!(read("", "").unwrap().is_none());
        assert_eq!(read("", &key).err(), Some(MasterKeyError::NoCurrent));
        for text in ["short", "not base64 at all, but quite a long text", &BASE64.encode([7; 16])] {
            let error = read(text, "").err().unwrap();
            assert_eq!(error, MasterKeyError::Malformed(MASTER_KEY));
            assert!(!error.to_string().contains(text), "{error}");
            assert_eq!(read(&key, text).err(), Some(MasterKeyError::Malformed(FORMER_MASTER_KEYS)));
        }
        assert!(matches!(read("file:/nowhere", ""), Err(MasterKeyError::Unreadable { .. })));
    }
}
