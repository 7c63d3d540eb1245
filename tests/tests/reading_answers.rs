//! What Google's answers do to keys, projects and callers: read by a real broker, from what the real
//! SDK reports of a fake Gemini that goes wrong on order.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::time::Duration;

use keybroker_client::{Broker, Gemini};
use keybroker_proto::v1::Cooldown;
use keybroker_tests::{
    fake_gemini::{FakeGemini, FakeGeminiConfig, Fault, FaultRule, NamedError, fingerprint},
    harness::{
        api::MODEL,
        broker::BrokerOptions,
        rig::{Backing, Rig},
    },
};

const A1: &str = "test-key-reading-answers-a1-Xk4";
const A2: &str = "test-key-reading-answers-a2-Vb9";
const B1: &str = "test-key-reading-answers-b1-Qm7";
const OTHER_MODEL: &str = "gemini-other-fake";
/// So many calls that every key has its turn.
const CALLS: usize = 8;

#[tokio::test]
async fn a_minute_429_cools_that_model_of_that_project_for_the_time_named_and_the_other_project_serves() {
    let stage = Stage::start().await;
    stage.go_wrong(error(NamedError::Minute429).on_project("alpha"));
    stage.ask_many(MODEL).await;

    let cooldown = stage.only_cooldown("project alpha, model gemini-fake", "minute_quota").await;
    assert_lasts(&cooldown, 11, 12);
    assert_eq!(stage.statuses_of_project("alpha", MODEL), [429], "it is not asked again");
    assert_eq!(stage.statuses_of_project("beta", MODEL), [200; CALLS]);
}

#[tokio::test]
async fn a_daily_429_cools_that_model_to_pacific_midnight_whatever_the_hint_and_leaves_the_other_model_free()
{
    let stage = Stage::start().await;
    let before = pacific_midnight();
    stage.go_wrong(error(NamedError::Daily429).on_project("alpha").on_model(MODEL));
    stage.ask_many(MODEL).await;
    stage.ask_many(OTHER_MODEL).await;

    let cooldown = stage.only_cooldown("project alpha, model gemini-fake", "daily_quota").await;
    let until = cooldown.0.until.unwrap().seconds;
    let midnights = before..=pacific_midnight() + 61;
    assert!(midnights.contains(&until), "{until} is not the midnight in {midnights:?}");
    assert_eq!(stage.statuses_of_project("alpha", MODEL), [429]);
    assert_eq!(stage.statuses_of_project("beta", MODEL), [200; CALLS]);
    let other_model = stage.statuses_of_project("alpha", OTHER_MODEL);
    assert!(!other_model.is_empty() && other_model.iter().all(|status| *status == 200), "{other_model:?}");
}

#[tokio::test]
async fn a_429_that_names_no_quota_cools_that_model_of_that_project_for_two_seconds_at_first() {
    let stage = Stage::start().await;
    stage.go_wrong(error(NamedError::Opaque429).on_project("alpha").times(1));
    while stage.statuses_of_project("alpha", MODEL).is_empty() {
        stage.ask(MODEL).await.unwrap();
    }
    let cooldown = stage.only_cooldown("project alpha, model gemini-fake", "capacity").await;
    assert_lasts(&cooldown, 0, 2);
    assert_eq!(stage.statuses_of_project("alpha", MODEL), [429]);
}

#[tokio::test]
async fn an_invalid_key_is_cooled_for_a_recheck_and_the_other_key_of_its_project_serves() {
    let stage = Stage::start().await;
    stage.go_wrong(error(NamedError::Invalid).on_key(&fingerprint(A1)));
    stage.ask_many(MODEL).await;

    let cooldown = stage.only_cooldown("key a1", "key_invalid").await;
    assert_lasts(&cooldown, 50, 60);
    stage.only_a1_is_out(400).await;
}

#[tokio::test]
async fn a_leaked_key_is_out_until_an_operator_acts_who_is_told_so() {
    let stage = Stage::start().await;
    stage.go_wrong(error(NamedError::Leaked).on_key(&fingerprint(A1)));
    stage.ask_many(MODEL).await;

    let cooldown = stage.only_cooldown("key a1", "key_leaked").await;
    assert_eq!(cooldown.0.until, None);
    stage.only_a1_is_out(403).await;
    stage.rig.logs("an operator must act").await;
}

#[tokio::test]
async fn a_suspended_key_is_out_and_its_echo_is_in_no_log_and_in_no_error() {
    let stage = Stage::start().await;
    stage.go_wrong(error(NamedError::Suspended));
    // The last error is what the caller sees; each try takes one key out.
    let refused = stage.ask(MODEL).await.unwrap_err();
    assert_eq!(refused.status(), Some(403));
    let cooldowns = stage.rig.api.inspect().await.cooldowns;
    assert_eq!(cooldowns.len(), 3, "{cooldowns:?}");
    assert!(cooldowns.iter().all(|cooldown| cooldown.reason == "key_suspended" && cooldown.until.is_none()));

    stage.rig.logs("an operator must act").await;
    for told in [stage.rig.broker.log(), refused.to_string(), format!("{refused:?}")] {
        for key in [A1, A2, B1] {
            assert!(!told.contains(key), "a key is shown in:\n{told}");
        }
    }
}

#[tokio::test]
async fn an_overloaded_model_is_tried_again_and_nobody_is_cooled_for_it() {
    let stage = Stage::start().await;
    stage.go_wrong(FaultRule::always(Fault::Status { code: 503 }).times(1));
    stage.ask(MODEL).await.unwrap();
    assert_eq!(stage.statuses(|_| true), [503, 200]);
    assert_eq!(stage.rig.api.inspect().await.cooldowns, []);
}

#[tokio::test]
async fn a_bad_request_is_not_sent_again_and_nobody_is_cooled_for_it() {
    let stage = Stage::start().await;
    stage.go_wrong(error(NamedError::BadRequest).times(1));
    let refused = stage.ask(MODEL).await.unwrap_err();
    assert_eq!(refused.status(), Some(400));
    assert!(!refused.is_retryable());
    assert_eq!(stage.statuses(|_| true), [400]);
    assert_eq!(stage.rig.api.inspect().await.cooldowns, []);
    stage.ask(MODEL).await.unwrap();
}

/// A broker with two projects, a fake Gemini, and the SDK between them.
struct Stage {
    rig: Rig,
    gemini: FakeGemini,
    client: Gemini,
}

impl Stage {
    async fn start() -> Self {
        let config = format!(
            r#"
[[projects]]
id = "alpha"
keys = [ {{ id = "a1", secret = "{A1}" }}, {{ id = "a2", secret = "{A2}" }} ]

[[projects]]
id = "beta"
keys = [ {{ id = "b1", secret = "{B1}" }} ]
"#
        );
        let options = BrokerOptions::default().arg("--log", "trace");
        let rig = Rig::start_with(Backing::Embedded, &config, options).await;
        let google =
            FakeGeminiConfig::default().with_key(A1, "alpha").with_key(A2, "alpha").with_key(B1, "beta");
        let gemini = FakeGemini::start(google).await.unwrap();
        let broker = Broker::connect(rig.broker.url()).unwrap();
        let client = Gemini::builder(&broker).base_url(&gemini.base_url).deadline(Duration::from_secs(30));
        Self { rig, gemini, client: client.build().unwrap() }
    }

    fn go_wrong(&self, rule: FaultRule) {
        self.gemini.add_fault(rule);
    }

    async fn ask(&self, model: &str) -> Result<String, keybroker_client::GeminiError> {
        self.client.ask(model, "Why is the sky blue?").await
    }

    /// Every one of many calls is served, whatever goes wrong behind it.
    async fn ask_many(&self, model: &str) {
        for _ in 0..CALLS {
            self.ask(model).await.unwrap();
        }
    }

    /// The statuses of the calls that Google saw, in their order.
    fn statuses(&self, chosen: impl Fn(&keybroker_tests::fake_gemini::LogEntry) -> bool) -> Vec<u16> {
        self.gemini.log(0).entries.iter().filter(|entry| chosen(entry)).map(|entry| entry.status).collect()
    }

    fn statuses_of_project(&self, project: &str, model: &str) -> Vec<u16> {
        self.statuses(|entry| &*entry.project == project && entry.quota_model == model)
    }

    fn statuses_of_key(&self, key: &str) -> Vec<u16> {
        let key = fingerprint(key);
        self.statuses(|entry| *entry.key == key)
    }

    /// The one cooldown there is, and the ledger's clock in seconds.
    async fn only_cooldown(&self, subject: &str, reason: &str) -> (Cooldown, i64) {
        let mut view = self.rig.api.inspect().await;
        assert_eq!(view.cooldowns.len(), 1, "{:?}", view.cooldowns);
        let cooldown = view.cooldowns.remove(0);
        assert_eq!((cooldown.subject.as_str(), cooldown.reason.as_str()), (subject, reason));
        (cooldown, view.now.unwrap().seconds)
    }

    /// `a1` was asked once and answered with an error; the other keys served everything.
    async fn only_a1_is_out(&self, status: u16) {
        let keys = self.rig.api.inspect().await.keys;
        let available: Vec<_> = keys.iter().map(|key| (key.key_id.as_str(), key.available)).collect();
        assert_eq!(available, [("a1", false), ("a2", true), ("b1", true)]);
        assert_eq!(self.statuses_of_key(A1), [status]);
        assert!(!self.statuses_of_key(A2).is_empty(), "the other key of the project serves");
        assert_eq!(self.statuses(|entry| entry.status == 200), [200; CALLS]);
    }
}

fn error(name: NamedError) -> FaultRule {
    FaultRule::always(Fault::Error { name })
}

fn assert_lasts((cooldown, now): &(Cooldown, i64), least: i64, most: i64) {
    let left = cooldown.until.as_ref().unwrap().seconds - now;
    assert!((least - 2..=most + 1).contains(&left), "{left} s are left of {cooldown:?}");
}

/// The next one, in Unix seconds.
fn pacific_midnight() -> i64 {
    let now = jiff::Timestamp::now().in_tz("America/Los_Angeles").unwrap();
    now.tomorrow().unwrap().start_of_day().unwrap().timestamp().as_second()
}
