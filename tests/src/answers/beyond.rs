//! What rows promise beyond one answer: repetition, breakers, streams, and requests without an answer.

use std::time::Duration;

use futures_util::StreamExt;
use keybroker_client::{
    AcquireOptions, Action, GeminiError, SettleState, Signal, gemini::types::GenerateContentRequest,
};
use keybroker_proto::v1::{
    AcquireRequest, Constraints, Cooldown, Lease, SettleState as WireState, advice::Action as WireAction,
};

use super::{
    play::play,
    row::Row,
    stage::{KEYS, OTHER_MODEL, QUESTION, Stage, config, key_text},
};
use crate::{
    fake_gemini::{Fault, FaultRule, NamedError, bodies, fingerprint},
    harness::{
        api::{MODEL, answered, ask, succeeded, time, wire},
        broker::BrokerOptions,
        process::free_port,
        rig::{Backing, eventually},
    },
};

/// Plays a row and what it promises beyond.
///
/// # Panics
/// If anything is not as the row says.
pub async fn check(row: &Row, backing: Backing) {
    play(row, backing).await;
    match row.number {
        1 => an_error_inside_a_stream_cools_like_any_other(backing).await,
        7 => a_project_that_names_no_account_is_out_alone(backing).await,
        11 => {
            two_requests_of_one_key_do_not_make_two_suspended_keys(backing).await;
            the_echo_of_a_key_stays_within_the_broker(backing).await;
        }
        15 => {
            a_repeated_report_is_told_once_again(backing).await;
            a_key_that_is_denied_three_times_in_a_row_is_cooled(backing).await;
        }
        20 => a_success_closes_the_breaker(backing).await,
        21 => a_network_that_fails_blames_nobody(backing).await,
        22 => {
            a_cancelled_request_frees_its_slot_and_keeps_its_charge(backing).await;
            a_dead_workers_lease_frees_its_slot_and_keeps_its_charge(backing).await;
        }
        23 => what_was_never_sent_is_refunded(backing).await,
        _ => {}
    }
}

async fn an_error_inside_a_stream_cools_like_any_other(backing: Backing) {
    let stage = Stage::start(backing).await;
    stage.go_wrong(FaultRule::always(Fault::InStreamError { name: NamedError::Minute429 }).times(1));
    let client = stage.client(3).build().expect("the settings are good");
    let request = GenerateContentRequest::text(QUESTION);
    let stream = client.stream_generate_content(MODEL, &request).await.expect("the stream begins well");
    let events: Vec<_> = stream.collect().await;
    let error = events.into_iter().find_map(Result::err).expect("the stream ends in an error");
    let advice = error.advice().expect("the broker gave advice");
    assert_eq!((advice.signal, advice.action), (Signal::MinuteQuota, Action::RetryOtherKey));
    let subjects: Vec<_> = stage.cooldowns().await.into_iter().map(|cooldown| cooldown.subject).collect();
    assert_eq!(subjects, ["project alpha, model gemini-fake"]);
    assert_eq!(stage.keys_called(), ["a1"], "half an answer is not asked for again");
    assert_eq!(stage.rig.api.used("alpha", "requests per minute").await, 1);
}

async fn a_project_that_names_no_account_is_out_alone(backing: Backing) {
    let unnamed: Vec<String> =
        config().lines().filter(|line| !line.starts_with("billing_account")).map(str::to_owned).collect();
    let stage = Stage::start_as(backing, &unnamed.join("\n")).await;
    let depleted = Fault::Error { name: NamedError::CreditsDepleted429 };
    stage.go_wrong(FaultRule::always(depleted).on_project("alpha"));
    stage.served(6, MODEL).await;
    let subjects: Vec<_> = stage.cooldowns().await.into_iter().map(|cooldown| cooldown.subject).collect();
    assert_eq!(subjects, ["billing account of project alpha"]);
    let of_alpha = stage.calls().iter().filter(|call| &*call.project == "alpha").count();
    assert_eq!(of_alpha, 1, "both of its keys are out after the first refusal");
}

async fn two_requests_of_one_key_do_not_make_two_suspended_keys(backing: Backing) {
    let stage = Stage::start(backing).await;
    let (first, second) = (lease_of(&stage, "a1").await, lease_of(&stage, "a1").await);
    for lease in [first, second] {
        let report = answered(&lease.lease_id, 403, bodies::suspended(&key_text("a1")).text);
        stage.rig.api.report(report).await.expect("the broker takes reports");
    }
    let subjects: Vec<_> = stage.cooldowns().await.into_iter().map(|cooldown| cooldown.subject).collect();
    assert_eq!(subjects, ["key a1"], "two requests of one key are not two keys");
    let other = lease_of(&stage, "a2").await;
    stage.rig.api.report(succeeded(&other.lease_id, 1)).await.expect("the broker takes reports");
}

/// An SDK masks its key before it reports; one that does not must do no harm.
async fn the_echo_of_a_key_stays_within_the_broker(backing: Backing) {
    let stage = Stage::start_with(backing, BrokerOptions::default().arg("--log", "trace")).await;
    let lease = lease_of(&stage, "a1").await;
    let stranger = "test-key-that-is-in-no-pool-Qq7";
    for key in [key_text("a1"), stranger.to_owned()] {
        let body = bodies::suspended(&key).text;
        let told = stage.rig.api.report(answered(&lease.lease_id, 403, body)).await;
        let told = told.expect("the broker takes reports");
        assert!(!format!("{told:?}").contains(&key), "{told:?}");
    }
    let again = stage.rig.api.report(answered(&lease.lease_id, 403, "")).await.expect("it takes reports");
    assert_eq!(again.state(), WireState::AlreadySettled);
    assert!(!format!("{again:?}").contains(&key_text("a1")), "{again:?}");
    stage.rig.logs("CONSUMER_SUSPENDED").await;
    for key in [key_text("a1"), stranger.to_owned()] {
        assert!(!stage.rig.broker.log().contains(&key), "a key is in the log");
        assert!(!kept_by_redis(&stage).contains(&key), "a key is in Redis");
    }
}

async fn a_repeated_report_is_told_once_again(backing: Backing) {
    let stage = Stage::start(backing).await;
    let lease = lease_of(&stage, "a1").await;
    for expected in [WireState::Settled, WireState::AlreadySettled] {
        let report = answered(&lease.lease_id, 403, bodies::caller_forbidden().text);
        let told = stage.rig.api.report(report).await.expect("the broker takes reports");
        assert_eq!(told.state(), expected);
        let advice = told.advice.expect("every result has advice");
        assert_eq!((advice.action(), advice.once), (WireAction::RetryOtherKey, true));
    }
}

async fn a_key_that_is_denied_three_times_in_a_row_is_cooled(backing: Backing) {
    let stage = Stage::start(backing).await;
    let denied = Fault::Error { name: NamedError::CallerForbidden };
    stage.go_wrong(FaultRule::always(denied).on_key(&fingerprint(&key_text("a1"))));
    for time in 1..=3 {
        assert_eq!(stage.cooldowns().await, [], "denied {} times in a row", time - 1);
        let before = stage.keys_called().iter().filter(|key| **key == "a1").count();
        assert_eq!(before, time - 1);
        while stage.keys_called().iter().filter(|key| **key == "a1").count() == before {
            stage.served(1, MODEL).await;
        }
    }
    let cooldowns = stage.cooldowns().await;
    let [cooldown] = &cooldowns[..] else { panic!("one cooldown, not {cooldowns:?}") };
    assert_eq!((cooldown.subject.as_str(), cooldown.reason.as_str()), ("key a1", "permission_unclear"));
    stage.served(6, MODEL).await;
    assert_eq!(stage.keys_called().iter().filter(|key| **key == "a1").count(), 3);
}

async fn a_success_closes_the_breaker(backing: Backing) {
    let stage = Stage::start(backing).await;
    let overloaded = Fault::Error { name: NamedError::Overloaded };
    stage.go_wrong(FaultRule::always(overloaded).times(3));
    stage.ask(3, MODEL).await.expect_err("the model is overloaded");
    let refused = stage.rig.api.acquire(ask(MODEL)).await;
    let refused = refused.expect_err("no key is of use while the breaker is open");
    let told = crate::harness::api::Details::of(&refused);
    assert_eq!(told.reason, "COOLING_DOWN", "{refused}");
    assert!(told.retry_after.is_some_and(|wait| wait <= Duration::from_secs(1)), "{told:?}");
    stage.served(1, OTHER_MODEL).await;

    // Ten at once: one of them is the probe, and the others wait for what it finds.
    let client = stage.client(3).build().expect("the settings are good");
    let asked = futures_util::future::join_all((0..10).map(|_| client.ask(MODEL, QUESTION))).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    let closed = async || {
        let cooldowns = stage.cooldowns().await;
        let is_ramp = |cooldown: &Cooldown| cooldown.ramp_until.is_some() && !cooldown.probing;
        cooldowns.len() == 1 && cooldowns.iter().all(is_ramp)
    };
    assert!(closed().await, "a success closes it: what is left of it is a ramp");
    stage.go_wrong(FaultRule::always(overloaded).times(2));
    for _ in 0..2 {
        stage.ask(1, MODEL).await.expect_err("it is overloaded again");
    }
    assert!(closed().await, "and the count begins anew");
}

async fn a_network_that_fails_blames_nobody(backing: Backing) {
    for fault in [Fault::Reset, Fault::Hang, Fault::HalfStream] {
        let stage = Stage::start(backing).await;
        stage.go_wrong(FaultRule::always(fault).times(1));
        // What hangs is given up soon.
        let client = stage.client(1).request_timeout(Duration::from_secs(1)).build().expect("good settings");
        let error = client.ask(MODEL, QUESTION).await.expect_err("the network fails");
        let advice = error.advice().expect("the broker gave advice");
        assert_eq!(advice.signal, Signal::NetworkFault, "{fault:?}");
        assert_eq!(advice.action, Action::RetryAfter(Some(Duration::from_secs(1))), "{fault:?}");
        assert_eq!(stage.cooldowns().await, [], "{fault:?}");
        assert_eq!(
            stage.used_in_all("requests per minute").await,
            1,
            "{fault:?}: Google may have counted it"
        );
        assert!(eventually(async || stage.in_flight().await == 0).await);
        stage.served(5, MODEL).await;
    }
}

async fn a_cancelled_request_frees_its_slot_and_keeps_its_charge(backing: Backing) {
    let stage = Stage::start(backing).await;
    stage.go_wrong(FaultRule::always(Fault::Hang).times(1));
    let client = stage.client(3).build().expect("the settings are good");
    let call = tokio::spawn(async move { client.ask(MODEL, QUESTION).await });
    assert!(eventually(async || !stage.calls().is_empty()).await, "the request is on its way");
    assert_eq!(stage.in_flight().await, 1);
    call.abort();
    assert!(eventually(async || stage.in_flight().await == 0).await, "the slot is freed");
    assert_eq!(stage.used_in_all("requests per minute").await, 1, "the charge stays");
    assert_eq!(stage.cooldowns().await, []);
    stage.served(5, MODEL).await;
}

async fn a_dead_workers_lease_frees_its_slot_and_keeps_its_charge(backing: Backing) {
    let stage = Stage::start(backing).await;
    let request = AcquireRequest { ttl: Some(wire(Duration::from_secs(1))), ..ask(MODEL) };
    let lease = stage.rig.api.acquire(request).await.expect("a lease is free");
    assert!(time(lease.expires_in) <= Duration::from_secs(2));
    assert_eq!(stage.in_flight().await, 1);
    assert!(eventually(async || stage.in_flight().await == 0).await, "the slot is freed when it expires");
    assert_eq!(stage.used_in_all("requests per minute").await, 1, "the charge stays");
    assert_eq!(stage.cooldowns().await, []);
    let late = stage.rig.api.report(succeeded(&lease.lease_id, 1)).await.expect("a late report is taken");
    assert_eq!(late.state(), WireState::SettledLate);
}

async fn what_was_never_sent_is_refunded(backing: Backing) {
    let stage = Stage::start(backing).await;
    let options = || AcquireOptions::new(MODEL).input_tokens(50);
    let lease = stage.broker.acquire(options()).await.expect("a lease is free");
    assert_eq!(stage.used_in_all("requests per minute").await, 1);
    let advice = lease.not_sent().await.expect("the broker takes reports");
    let said = (advice.action, advice.signal, advice.settled);
    assert_eq!(said, (Action::Done, Signal::NotSent, SettleState::Settled));

    // One that is dropped, by an early return or a panic, says the same of itself.
    drop(stage.broker.acquire(options()).await.expect("a lease is free"));
    stage.broker.flush().await.expect("reports are delivered");

    // A connection that was never made has sent nothing either.
    let nowhere = format!("http://127.0.0.1:{}", free_port().expect("a port is free"));
    let client = stage.client(1).base_url(nowhere).build().expect("the settings are good");
    match client.ask(MODEL, QUESTION).await {
        Err(GeminiError::Transport { advice: Some(advice), .. }) => {
            assert_eq!(advice.signal, Signal::NetworkFault);
        }
        other => panic!("nobody listens there, and yet: {other:?}"),
    }
    for limit in ["requests per minute", "requests per Pacific day", "input tokens per minute"] {
        assert_eq!(stage.used_in_all(limit).await, 0, "{limit}");
    }
    assert_eq!(stage.in_flight().await, 0);
    assert_eq!(stage.cooldowns().await, []);
    assert_eq!(stage.calls(), []);
}

/// A lease of that very key.
async fn lease_of(stage: &Stage, id: &str) -> Lease {
    let exclude_key_ids = KEYS.iter().map(|(other, ..)| (*other).to_owned()).filter(|key| key != id);
    let constraints = Constraints { exclude_key_ids: exclude_key_ids.collect(), ..Constraints::default() };
    let request = AcquireRequest { constraints: Some(constraints), ..ask(MODEL) };
    let lease = stage.rig.api.acquire(request).await.expect("the key is free");
    assert_eq!(lease.key_id, id);
    lease
}

/// All that Redis keeps, as text; nothing if there is none.
fn kept_by_redis(stage: &Stage) -> String {
    let Some(server) = &stage.rig.redis else { return String::new() };
    let mut connection = server.connect().expect("redis-server listens");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("redis answers");
    let mut text = String::new();
    for key in keys {
        let dump: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut connection).expect("redis answers");
        text.push_str(&String::from_utf8_lossy(&dump));
    }
    text
}
