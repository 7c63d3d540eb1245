//! Ids of calls.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::secret::holds_a_key;

/// The longest id that is taken from a caller.
const LONGEST: usize = 128;

/// By what a call is known in logs, in answers and to whoever makes it.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The header and the metadata that carry it.
    pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

    /// The caller's, where it is sane, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(Self::HEADER).filter(|value| is_sane(value.as_bytes()));
        let mut id = given.cloned().unwrap_or_else(new);
        // No two are the same: the other side has no use for a table of them.
        id.set_sensitive(true);
        Self(id)
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As the value of a header.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// It goes into logs and answers as it is: it is short, breaks out of no line, and holds no key that stands in the
/// wrong place.
fn is_sane(value: &[u8]) -> bool {
    (1..=LONGEST).contains(&value.len())
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte))
        && !std::str::from_utf8(value).is_ok_and(holds_a_key)
}

fn new() -> HeaderValue {
    let mut text = [0; 32];
    // It is as long as it must be.
    let _ = hex::encode_to_slice(rand::random::<u128>().to_be_bytes(), &mut text);
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(RequestId::HEADER, HeaderValue::from_str(text).unwrap());
        RequestId::of(&headers).as_str().to_owned()
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_is_replaced() {
        for sane in ["7", "order-17/retry:2", "550e8400-e29b-41d4-a716-446655440000", &"a".repeat(LONGEST)] {
            assert_eq!(of(sane), sane);
        }
        let key = format!("AIza{}", "x".repeat(35));
        for other in ["", "a b", "a\"b", "a\\b", "a{b", &"a".repeat(LONGEST + 1), &key, &format!("of/{key}")]
        {
            let made = of(other);
            assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
        }
        assert_ne!(RequestId::of(&HeaderMap::new()).as_str(), RequestId::of(&HeaderMap::new()).as_str());
    }
}
