//! What Google answers, and ids.

use std::time::Duration;

use keybroker::{
    gemini::{MAX_REDACTED, Outcome, parse_quota_id, read, redact},
    lease_id::LeaseId,
};

use super::driver::Target;

/// A key that stands in the examples, as Google echoes it.
const KEY: &str = "fake-key-that-is-echoed-0001";

pub(crate) const ANSWERS: Target = Target { name: "answers", share: 430, examples: Vec::new };
pub(crate) const QUOTA_IDS: Target = Target { name: "quota_ids", share: 100, examples: Vec::new };
pub(crate) const LEASE_IDS: Target = Target { name: "lease_ids", share: 100, examples: Vec::new };

#[test]
fn answers_of_google_are_read_whatever_they_hold() {
    ANSWERS.run(|body| {
        // The first byte of the body chooses the status too.
        let status = 200 + u16::from(body.first().copied().unwrap_or_default()) * 2;
        for (status, retry_after) in [(429, None), (status, Some(Duration::MAX)), (400, Some(Duration::ZERO))]
        {
            let decision = read(&Outcome::HttpError { status, body, retry_after });
            if decision.blocks.iter().any(|block| block.length.steps.is_empty()) {
                return Err(format!("a block without a length: {decision:?}"));
            }
            if decision.advice.message.contains(KEY) {
                return Err("an advice shows the key".to_owned());
            }
        }
        let text = redact(body, [KEY].into_iter());
        if text.contains(KEY) {
            return Err("a redacted body shows the key".to_owned());
        }
        if text.len() > MAX_REDACTED + '…'.len_utf8() {
            return Err(format!("a redacted body of {} bytes", text.len()));
        }
        Ok(())
    });
}

#[test]
fn quota_ids_are_read_whatever_they_hold() {
    QUOTA_IDS.run(|input| {
        let id = String::from_utf8_lossy(input);
        match parse_quota_id(&id) {
            Some(_) if !["PerDay", "PerMinute", "PerSecond"].iter().any(|word| id.contains(word)) => {
                Err("a window that is not named".to_owned())
            }
            _ => Ok(()),
        }
    });
}

#[test]
fn lease_ids_are_read_as_they_are_written_or_not_at_all() {
    LEASE_IDS.run(|input| {
        let text = String::from_utf8_lossy(input);
        let Some(id) = LeaseId::parse(&text) else { return Ok(()) };
        if id.to_string() != text {
            return Err(format!("it is written as {id}"));
        }
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain(&text) && plain(id.quota_model()) {
            Ok(())
        } else {
            Err("it holds what no id holds".to_owned())
        }
    });
}
