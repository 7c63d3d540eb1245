//! What holds for every body there is.

use std::time::Duration;

use proptest::prelude::*;

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
            prop_assert!(block.length.steps.iter().all(|step| *step >= Duration::from_secs(1)));
            prop_assert!(block.length.steps.is_sorted());
        }
        if status >= 500 || status == 408 {
            prop_assert!(decision.blocks.is_empty());
        }
        if matches!(decision.signal, Signal::RequestFault | Signal::ServerFault | Signal::Unreadable | Signal::WrongProject) {
            prop_assert!(decision.blocks.is_empty());
        }
        if status == 429 {
            prop_assert!(decision.blocks.iter().all(|block| block.scope != Scope::Key), "quota is never a key's");
        }
        prop_assert_eq!(decision.advice.retry_after.is_some(), decision.advice.action == Action::RetryAfter);
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
