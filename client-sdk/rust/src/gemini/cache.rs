//! Answers to identical requests, kept in memory.
//!
//! Without the feature `cache` there is none.

use bytes::Bytes;

#[cfg(feature = "cache")]
use {sha2::Digest, std::time::Duration};

/// The largest answer that is kept, in bytes.
#[cfg(feature = "cache")]
const MOST: usize = 1024 * 1024;
/// Methods whose answer depends on the request alone.
#[cfg(feature = "cache")]
const METHODS: [&str; 4] = ["generateContent", "countTokens", "embedContent", "batchEmbedContents"];

/// Keeps good answers in memory, for [`GeminiBuilder::cache`](super::GeminiBuilder::cache): a request with the same
/// URL, project and body is then answered without a lease and without Google. Clones share what is kept.
///
/// It holds answers in one piece, of 1 MiB at most, and no streams.
///
/// ```
/// use std::time::Duration;
/// use keybroker_client::{Broker, Gemini, gemini::ResponseCache};
///
/// let broker = Broker::connect("127.0.0.1:50051")?;
/// let gemini = Gemini::builder(&broker).cache(ResponseCache::new(1_000, Duration::from_secs(600))).build()?;
/// # let _ = gemini;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "cache")]
#[derive(Clone, Debug)]
pub struct ResponseCache(moka::sync::Cache<Key, Bytes>);

#[cfg(not(feature = "cache"))]
#[derive(Clone, Debug)]
pub(crate) enum ResponseCache {}

/// What a request is known by.
pub(crate) type Key = [u8; 32];

#[cfg(feature = "cache")]
impl ResponseCache {
    /// A cache of at most so many answers, each for so long.
    pub fn new(answers: u64, ttl: Duration) -> Self {
        // What lasts longer than a century is refused there by a panic.
        let ttl = ttl.min(Duration::from_secs(100 * 365 * 24 * 3600));
        Self(moka::sync::Cache::builder().max_capacity(answers).time_to_live(ttl).build())
    }

    /// The key of a request; none if its answer is not one to keep.
    pub(crate) fn key(&self, method: &str, url: &str, project: &str, body: &[u8]) -> Option<Key> {
        METHODS.contains(&method).then(|| {
            let mut hash = sha2::Sha256::new();
            for part in [url.as_bytes(), project.as_bytes(), body] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hash.finalize().into()
        })
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    pub(crate) fn keep(&self, key: Key, body: &Bytes) {
        if body.len() <= MOST {
            // A copy: what came may be a slice of something larger.
            self.0.insert(key, Bytes::copy_from_slice(body));
        }
    }
}

#[cfg(not(feature = "cache"))]
impl ResponseCache {
    pub(crate) fn key(&self, _: &str, _: &str, _: &str, _: &[u8]) -> Option<Key> {
        match *self {}
    }

    pub(crate) fn get(&self, _: &Key) -> Option<Bytes> {
        match *self {}
    }

    pub(crate) fn keep(&self, _: Key, _: &Bytes) {
        match *self {}
    }
}

#[cfg(all(test, feature = "cache"))]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_url_project_and_body() {
        let cache = ResponseCache::new(10, Duration::MAX);
        let key = |method, url, project, body: &str| cache.key(method, url, project, body.as_bytes());
        let one = key("generateContent", "u", "p", "b").unwrap();
        assert_eq!(key("generateContent", "u", "p", "b"), Some(one));
        for other in [
            key("generateContent", "v", "p", "b"),
            key("generateContent", "u", "q", "b"),
            key("generateContent", "u", "p", "c"),
            key("generateContent", "up", "", "b"),
        ] {
            assert!(other.is_some() && other != Some(one));
        }
        assert_eq!(key("streamGenerateContent", "u", "p", "b"), None);
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let cache = ResponseCache::new(10, Duration::from_secs(60));
        cache.keep([1; 32], &Bytes::from(vec![b' '; MOST + 1]));
        cache.keep([2; 32], &Bytes::from_static(b"{}"));
        assert_eq!((cache.get(&[1; 32]), cache.get(&[2; 32])), (None, Some(Bytes::from_static(b"{}"))));
    }
}
