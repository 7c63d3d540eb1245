//! Plays a row and checks all that it says.

use std::time::Duration;

use keybroker_client::{
    Action, GeminiError, SettleState, Signal,
    gemini::{estimate_input_tokens, types::GenerateContentRequest},
};
use keybroker_proto::v1::Cooldown;

use super::{
    row::{Advised, Answer, Lasts, Row},
    stage::{KEYS, OTHER_MODEL, QUESTION, Stage, key_of, key_text},
};
use crate::{
    fake_gemini::{Fault, FaultRule, LogEntry},
    harness::{api::MODEL, rig::Backing, rig::eventually},
};

/// So many calls that every key that is left has its turn.
const ROUND: usize = 6;

/// Plays every answer of a row, each on a stage of its own.
///
/// # Panics
/// If anything is not as the row says.
pub async fn play(row: &Row, backing: Backing) {
    // Several at a time: some of them wait as they are told.
    for answers in row.answers.chunks(3) {
        futures_util::future::join_all(
            answers.iter().map(|(answer, signal)| play_answer(row, *answer, *signal, backing)),
        )
        .await;
    }
}

/// Plays one answer of a row.
///
/// # Panics
/// If anything is not as the row says.
pub async fn play_answer(row: &Row, answer: Answer, signal: Signal, backing: Backing) {
    let stage = Stage::start(backing).await;
    let before = pacific_midnight();
    stage.go_wrong(FaultRule::always(answer.fault()));
    let outcome = stage.ask(row.attempts, MODEL).await;
    stage.gemini.clear_faults();

    check_caller(row, answer, signal, outcome);
    assert_eq!(stage.keys_called(), row.calls, "{answer:?}: the keys that were called");
    let cooldowns = check_ledger(row, answer, before, &stage).await;
    check_charge(answer, &stage).await;
    check_who_serves(row, &cooldowns, &stage).await;
    if row.alert {
        stage.rig.logs("an operator must act").await;
    } else {
        assert!(!stage.rig.broker.log().contains("an operator must act"), "nobody need act on {answer:?}");
    }
}

/// What the caller was told, and that it holds no key.
fn check_caller(row: &Row, answer: Answer, signal: Signal, outcome: Result<String, GeminiError>) {
    if answer == Answer::Other(Fault::Withheld) {
        assert_eq!(outcome.expect("a withheld answer is no error"), "");
        return;
    }
    let error = outcome.expect_err("Google went wrong with every call");
    let advice = error.advice().unwrap_or_else(|| panic!("{answer:?}: no advice came with {error}"));
    assert_eq!(advice.signal, signal, "{answer:?}");
    let expected = match row.advice {
        Advised::OtherKey => (Action::RetryOtherKey, false),
        Advised::OtherKeyOnce => (Action::RetryOtherKey, true),
        Advised::After(wait) => (Action::RetryAfter(Some(wait)), false),
        Advised::Never => (Action::DoNotRetry, false),
    };
    assert_eq!((advice.action, advice.once), expected, "{answer:?}");
    assert_eq!(advice.settled, SettleState::Settled, "the report settled its lease");
    assert!(!advice.message.is_empty());
    for told in [error.to_string(), format!("{error:?}")] {
        for (id, ..) in KEYS {
            assert!(!told.contains(&key_text(id)), "a key is shown in {told}");
        }
    }
}

/// What is cooling down: what, why and for how long; and which keys are said to be available.
async fn check_ledger(row: &Row, answer: Answer, midnight: i64, stage: &Stage) -> Vec<Cooldown> {
    let view = stage.rig.api.inspect().await;
    let now = view.now.as_ref().map_or(0, |now| now.seconds);
    let cooldowns = stage.cooldowns().await;
    let subjects: Vec<&str> = cooldowns.iter().map(|cooldown| cooldown.subject.as_str()).collect();
    assert_eq!(subjects, row.cooldowns, "{answer:?}: {cooldowns:?}");
    for cooldown in &cooldowns {
        assert_eq!(cooldown.reason, row.reason, "{cooldown:?}");
        let until = cooldown.until.as_ref().map(|until| until.seconds);
        let (least, most) = match row.lasts {
            Lasts::Nothing => panic!("{cooldown:?} should not be"),
            Lasts::UntilAnOperatorActs => {
                assert_eq!(until, None, "{cooldown:?}");
                continue;
            }
            Lasts::For(length) => (now, now + seconds(length)),
            Lasts::ToPacificMidnight(least) => (midnight, pacific_midnight().max(now + seconds(least))),
        };
        let until = until.unwrap_or_else(|| panic!("{cooldown:?} has no end"));
        // The ledger was asked within a few seconds of the answer; a busy machine takes some of them.
        let slack = if matches!(row.lasts, Lasts::For(_)) { most - now } else { 0 }.min(15);
        let begins = if matches!(row.lasts, Lasts::For(_)) { most - slack } else { least };
        assert!((begins..=most + 1).contains(&until), "{until} is not in {begins}..={most}: {cooldown:?}");
    }
    for key in view.keys {
        let out = row.for_all_models && row.out.contains(&key.key_id.as_str());
        assert_eq!(key.available, !out, "{answer:?}: key {}", key.key_id);
    }
    cooldowns
}

/// What was sent stays charged, tokens and all, and no slot stays taken.
async fn check_charge(answer: Answer, stage: &Stage) {
    let calls = stage.calls();
    for project in ["alpha", "beta", "gamma", "delta"] {
        let sent = calls.iter().filter(|call| &*call.project == project).count();
        let sent = i64::try_from(sent).expect("there are few calls");
        let used = stage.rig.api.used(project, "requests per minute").await;
        assert_eq!(used, sent, "{answer:?}: requests charged to {project}");
        let per_day = stage.rig.api.used(project, "requests per Pacific day").await;
        assert_eq!(per_day, sent, "{answer:?}: requests of the day charged to {project}");
        let tokens = stage.rig.api.used(project, "input tokens per minute").await;
        // A withheld answer says what it used, any other error does not.
        let each = if answer == Answer::Other(Fault::Withheld) { 7 } else { estimate() };
        assert_eq!(tokens, sent * each, "{answer:?}: input tokens charged to {project}");
    }
    assert!(eventually(async || stage.in_flight().await == 0).await, "{answer:?}: a slot stays taken");
}

/// Once Google is well again, whoever is not out serves, and nobody who is out is called before its time.
async fn check_who_serves(row: &Row, cooldowns: &[Cooldown], stage: &Stage) {
    let until = |cooldown: &Cooldown| cooldown.until.as_ref().map_or(i64::MAX, |until| until.seconds);
    let out_until = cooldowns.iter().map(until).min().unwrap_or(0);
    for (model, are_out) in [(MODEL, true), (OTHER_MODEL, row.for_all_models)] {
        let out: &[&str] = if are_out { row.out } else { &[] };
        let begun = stage.calls().len();
        let waits_for = |calls: &[LogEntry]| {
            KEYS.iter()
                .map(|(id, ..)| *id)
                .find(|id| !out.contains(id) && !calls[begun..].iter().any(|call| key_of(call) == *id))
        };
        // One round is enough, unless a busy machine makes a lease come too late to be used.
        for _ in 0..4 {
            if waits_for(&stage.calls()).is_some() {
                stage.served(ROUND, model).await;
            }
        }
        let calls = stage.calls();
        if let Some(id) = waits_for(&calls) {
            panic!("{id} is not out and was not called among {:?}", stage.keys_called());
        }
        for call in &calls[begun..] {
            let in_vain = out.contains(&key_of(call)) && call.unix_micros / 1_000_000 < out_until;
            assert!(!in_vain, "{} was called while it is out", key_of(call));
        }
    }
}

fn estimate() -> i64 {
    let request = serde_json::to_value(GenerateContentRequest::text(QUESTION)).expect("a request is JSON");
    estimate_input_tokens(&request)
}

fn seconds(length: Duration) -> i64 {
    i64::try_from(length.as_secs_f64().ceil() as u64).expect("lengths of tests are short")
}

/// The next one, in Unix seconds.
fn pacific_midnight() -> i64 {
    let now = jiff::Timestamp::now().in_tz("America/Los_Angeles").expect("the zone is known");
    let next = now.tomorrow().and_then(|day| day.start_of_day()).expect("time goes on");
    next.timestamp().as_second()
}
