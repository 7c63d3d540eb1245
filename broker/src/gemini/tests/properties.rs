//! What holds for every body there is.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Action, Charge, Outcome, Scope, Signal, TransportKind, read, redact};
use super::shapes::samples;

/// A real body, hurt: bytes changed, parts removed, repeated or joined.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0_u8..5, any::<u8>()), 0..8);
    (0..samples().len(), edits).prop_map(|(sample, edits)| {
        let mut body = samples()[sample].1.to_string().into_bytes();
        for (at, edit, byte) in edits {
            let at = at.index(body.len().max(1)).min(body.len());
            match edit {
                0 if at < body.len() => body[at] = byte,
                1 => body.insert(at, byte),
                2 => body.truncate(at),
                3 => drop(body.drain(at..(at + usize::from(byte)).min(body.len()))),
                _ => body.extend_from_within(at..),
            }
        }
        body
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        mutated(),
        prop::collection::vec(any::<u8>(), 0..300),
        "[\\[\\]{}:,\"a-z0-9 \n]{0,200}".prop_map(String::into_bytes),
    ]
}

/// The five shapes of an error, and how each of them is mistreated on its way.
const SHAPES: usize = 7;

/// The body in one of its shapes, with the status it then comes with.
fn shaped(status: u16, body: &Value, shape: usize) -> (u16, Vec<u8>) {
    let chunk = r#"{"candidates":[{"content":{"parts":[{"text":"Hello"}]}}]}"#;
    match shape {
        0 => (status, body.to_string().into()),
        1 => (status, format!("[{body}\n]\n").into()),
        // The Interactions API's words for a status stand where others have a number.
        2 => {
            let mut body = body.clone();
            body["error"]["code"] = json!("a_word");
            (status, body.to_string().into())
        }
        3 => (200, format!("data: {chunk}\r\n\r\ndata: {body}\r\n\r\n").into()),
        4 => (200, format!("[{chunk}\n,\r\n{body}\n]").into()),
        5 => (status, format!("upstream said: {body}").into()),
        _ => (status, format!("<html><body><pre>{body}</pre></body></html>").into()),
    }
}

/// A sample with its details and violations in any order.
fn shuffled() -> impl Strategy<Value = (usize, Value)> {
    (0..samples().len()).prop_flat_map(|sample| {
        let body = samples()[sample].1.clone();
        let details = body["error"]["details"].as_array().cloned().unwrap_or_default();
        Just(details).prop_shuffle().prop_map(move |details| {
            let mut body = body.clone();
            if !details.is_empty() {
                body["error"]["details"] = details.into();
            }
            (sample, body)
        })
    })
}

/// A sample of which some details are missing, and whether those that decide are still there.
fn with_details_missing() -> impl Strategy<Value = (usize, Value, bool)> {
    (0..samples().len(), any::<u8>()).prop_map(|(sample, kept)| {
        let (_, mut body, _) = samples()[sample].clone();
        let mut decides = true;
        if let Some(details) = body["error"]["details"].as_array_mut() {
            let mut at = 0;
            details.retain(|detail| {
                at += 1;
                let keep = kept & (1 << (at % 8)) != 0;
                decides &= keep || (detail.get("reason").is_none() && detail.get("violations").is_none());
                keep
            });
        }
        (sample, body, decides)
    })
}

proptest! {
    #[test]
    fn no_body_makes_the_reading_panic_or_lie(
        status in prop_oneof![any::<u16>(), 200_u16..600],
        body in body(),
        header in prop::option::of((any::<u64>(), 0_u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n))),
    ) {
        let outcome = Outcome::HttpError { status, body: &body, retry_after: header };
        let decision = read(&outcome);
        prop_assert_eq!(&decision, &read(&outcome));
        prop_assert_eq!(decision.charge, Charge::Keep);
        for block in &decision.blocks {
            prop_assert!(!block.length.steps.is_empty());
            let counts_only = |step: &Duration| step.is_zero();
            prop_assert!(block.length.steps.iter().all(|step| counts_only(step) || *step >= Duration::from_secs(1)));
            prop_assert!(!block.length.steps.iter().all(counts_only), "a block blocks at last");
            prop_assert!(block.length.steps.is_sorted());
        }
        if status >= 500 || status == 408 {
            prop_assert!(decision.blocks.iter().all(|block| block.scope == Scope::Model), "a server blames no key");
            prop_assert_eq!(decision.health, 0);
        }
        if matches!(decision.signal, Signal::RequestFault | Signal::ServerFault | Signal::Unreadable | Signal::WrongProject) {
            prop_assert!(decision.blocks.is_empty());
            prop_assert_eq!(decision.health, 0);
        }
        let blames_the_key = decision.blocks.iter().any(|block| block.scope == Scope::Key);
        prop_assert_eq!(decision.health < 0, blames_the_key, "standing falls with what blocks the key, and with nothing else");
        if status == 429 {
            prop_assert!(decision.blocks.iter().all(|block| block.scope != Scope::Key), "quota is never a key's");
        }
        prop_assert_eq!(decision.advice.retry_after.is_some(), decision.advice.action == Action::RetryAfter);
    }

    #[test]
    fn every_row_is_read_the_same_whatever_the_order_of_its_details_and_whatever_its_shape(
        (sample, body) in shuffled(),
        shape in 0..SHAPES,
    ) {
        let (status, _, signal) = &samples()[sample];
        let (status, bytes) = shaped(*status, &body, shape);
        let decision = read(&Outcome::HttpError { status, body: &bytes, retry_after: None });
        let plain = read(&Outcome::HttpError { status: samples()[sample].0, body: samples()[sample].1.to_string().as_bytes(), retry_after: None });
        prop_assert_eq!(decision.signal, *signal, "{}", String::from_utf8_lossy(&bytes));
        // Torn text teaches nothing, and is read the same all the same.
        prop_assert_eq!((&decision.blocks, &decision.advice, decision.health), (&plain.blocks, &plain.advice, plain.health));
    }

    #[test]
    fn a_row_that_lost_some_of_its_details_never_blames_more_than_it_did(
        (sample, body, kept) in with_details_missing(),
        shape in 0..SHAPES,
    ) {
        let (status, whole, signal) = &samples()[sample];
        let whole = read(&Outcome::HttpError { status: *status, body: whole.to_string().as_bytes(), retry_after: None });
        let (status, bytes) = shaped(*status, &body, shape);
        let decision = read(&Outcome::HttpError { status, body: &bytes, retry_after: None });
        let scopes = |decision: &super::super::Decision| decision.blocks.iter().map(|block| block.scope).collect::<Vec<_>>();
        prop_assert!(
            scopes(&decision).iter().all(|scope| scopes(&whole).contains(scope) || *scope == Scope::Key),
            "{} {:?}", String::from_utf8_lossy(&bytes), decision
        );
        if kept {
            prop_assert_eq!(decision.signal, *signal, "the deciding detail is there");
        } else if whole.signal == Signal::KeySuspended || whole.signal == Signal::KeyInvalid {
            prop_assert_eq!(decision.signal, *signal, "the words decide where the details are missing");
        }
        prop_assert!(decision.health >= -20);
    }

    #[test]
    fn a_network_fault_never_blocks(kind in prop::sample::select(vec![
        TransportKind::Connect, TransportKind::Timeout, TransportKind::Reset, TransportKind::Cancelled,
    ])) {
        prop_assert!(read(&Outcome::Transport(kind)).blocks.is_empty());
    }

    #[test]
    fn redact_never_shows_a_key_wherever_it_stands(
        key in "[A-Za-z0-9._/+=-]{8,60}",
        other in "[A-Za-z0-9._-]{8,60}",
        before in prop::collection::vec(any::<u8>(), 0..5_000),
        after in prop::collection::vec(any::<u8>(), 0..5_000),
    ) {
        let body = [&before[..], key.as_bytes(), &after[..]].concat();
        let text = redact(&body, [other.as_str(), key.as_str()].into_iter());
        prop_assert!(!text.contains(&key));
        prop_assert!(text.len() <= super::super::MAX_REDACTED + '…'.len_utf8());
    }

    #[test]
    fn no_message_of_an_advice_holds_text_of_the_body(body in body(), status in 400_u16..600) {
        let read_it = |body: &[u8]| read(&Outcome::HttpError { status, body, retry_after: None });
        let decision = read_it(&body);
        // The message belongs to the signal: the same signal from a tame body says the same.
        let tame = samples().into_iter().map(|(status, body, _)| {
            read(&Outcome::HttpError { status, body: body.to_string().as_bytes(), retry_after: None })
        });
        for other in tame.filter(|other| other.signal == decision.signal) {
            prop_assert_eq!(&other.advice.message, &decision.advice.message);
        }
    }
}
