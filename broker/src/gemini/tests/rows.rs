//! One test for each row of the table of signals.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Action, Charge, Decision, FOREVER, Outcome, Reason, Scope, Signal, TransportKind, read};
use super::bodies::*;
use super::{answer, fake_key, scopes, secs};

/// Asserts the one block of a decision and returns its steps.
fn blocked(decision: &Decision, scope: Scope, reason: Reason, probe: bool) -> Vec<Duration> {
    assert_eq!(decision.charge, Charge::Keep);
    assert_eq!(decision.advice.action, Action::RetryOtherKey);
    assert_eq!(decision.advice.retry_after, None);
    let [block] = &decision.blocks[..] else { panic!("one block, not {:?}", decision.blocks) };
    assert_eq!((block.scope, block.reason, block.probe), (scope, reason, probe));
    block.length.steps.clone()
}

/// Asserts that nobody is penalised and the request is not to be repeated.
fn only_the_request(decision: &Decision, signal: Signal) {
    assert_eq!(decision.signal, signal);
    assert_eq!(decision.blocks, []);
    assert_eq!(decision.charge, Charge::Keep);
    assert_eq!((decision.advice.action, decision.advice.retry_after), (Action::DoNotRetry, None));
    assert!(!decision.alert);
}

fn of(status: u16, body: &Value) -> Decision {
    answer(status, body.to_string())
}

#[test]
fn row_1_a_spent_minute_cools_the_project_and_model_for_the_delay() {
    for (delay, expected) in [
        (Some("34s"), secs(34)),
        (Some("11.769242877s"), Duration::new(11, 769_242_877)),
        (Some("0s"), secs(1)),
        (None, secs(60)),
    ] {
        let decision = of(429, &minute(delay));
        assert_eq!(decision.signal, Signal::MinuteQuota);
        let steps = blocked(&decision, Scope::ProjectModel, Reason::MinuteQuota, true);
        assert_eq!(steps, [expected], "{delay:?}");
        assert!(!decision.blocks[0].length.until_pacific_midnight);
    }
}

#[test]
fn row_1_a_delay_that_is_garbage_counts_as_missing() {
    for delay in ["", "-5s", "soon", "2764801s", "99999999999999999999999s"] {
        assert_eq!(of(429, &minute(Some(delay))).blocks[0].length.steps, [secs(60)], "{delay}");
    }
}

#[test]
fn row_1_a_burst_within_a_second_cools_for_a_second() {
    let id = "GenerateRequestsPerSecondPerProjectPerModel";
    assert_eq!(of(429, &quota(vec![violation(id, Some("3"))], None)).blocks[0].length.steps, [secs(1)]);
}

#[test]
fn row_1_the_message_and_the_header_give_the_delay_when_no_detail_does() {
    let mut body = minute(None);
    body["error"]["message"] = json!("Quota exceeded.\nPlease retry in 26.2s.");
    let text = body.to_string();
    let with = |retry_after| {
        let decision = read(&Outcome::HttpError { status: 429, body: text.as_bytes(), retry_after });
        decision.blocks[0].length.steps.clone()
    };
    assert_eq!(with(None), [Duration::from_millis(26_200)]);
    assert_eq!(with(Some(secs(90))), [secs(90)], "the larger wait wins");
    assert_eq!(with(Some(Duration::MAX)), [Duration::from_millis(26_200)], "an absurd header is ignored");
}

#[test]
fn row_2_a_spent_day_cools_to_midnight_however_small_the_hint() {
    for (delay, expected) in [(Some("26s"), 60), (Some("0s"), 60), (None, 60), (Some("85783s"), 85_783)] {
        let decision = of(429, &day(delay));
        assert_eq!(decision.signal, Signal::DailyQuota);
        let steps = blocked(&decision, Scope::ProjectModel, Reason::DailyQuota, true);
        assert_eq!(steps, [secs(expected)], "{delay:?}");
        assert!(decision.blocks[0].length.until_pacific_midnight);
    }
}

#[test]
fn row_2_the_interactions_api_names_a_spent_day_by_its_code() {
    let decision =
        of(429, &json!({"error": {"code": "quota_exceeded", "message": "You exceeded your current quota."}}));
    assert_eq!(decision.signal, Signal::DailyQuota);
}

#[test]
fn row_3_a_limit_of_zero_means_that_the_model_is_not_offered() {
    let mut in_text = quota(vec![violation(DAY_ID, None), violation(MINUTE_ID, None)], Some("26s"));
    in_text["error"]["message"] =
        json!("* Quota exceeded for metric: m, limit: 0, model: gemini-3-pro\nPlease retry in 26s.");
    let bare = error(429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: m, limit: 0", vec![]);
    let explicit = quota(vec![violation(DAY_ID, Some("0"))], None);
    let words =
        error(429, "RESOURCE_EXHAUSTED", "Gemini 2.5 Pro Preview doesn't have a free quota tier.", vec![]);
    for body in [in_text, bare, explicit, words] {
        let decision = of(429, &body);
        assert_eq!(decision.signal, Signal::ModelNotOffered, "{body}");
        assert_eq!(
            blocked(&decision, Scope::ProjectModel, Reason::ModelNotOffered, true),
            [secs(86_400), secs(604_800)]
        );
        assert!(decision.alert);
    }
}

#[test]
fn row_3_a_limit_that_only_begins_with_zero_is_not_zero() {
    for limit in ["20", "05", "0.5", "100"] {
        let body =
            error(429, "RESOURCE_EXHAUSTED", &format!("Quota exceeded, limit: {limit}, model: m"), vec![]);
        assert_eq!(of(429, &body).signal, Signal::Capacity, "{limit}");
    }
}

#[test]
fn row_4_an_opaque_refusal_cools_from_two_seconds_to_five_minutes() {
    let interactions = json!({"error": {"code": "too_many_requests", "message": "Too many requests."}});
    let capacity = reasoned(
        429,
        "RESOURCE_EXHAUSTED",
        "No capacity available for model on the server",
        "MODEL_CAPACITY_EXHAUSTED",
    );
    for body in [
        opaque().to_string(),
        interactions.to_string(),
        capacity.to_string(),
        "slow down".into(),
        String::new(),
    ] {
        let decision = answer(429, &body);
        assert_eq!(decision.signal, Signal::Capacity, "{body}");
        let steps = blocked(&decision, Scope::ProjectModel, Reason::Capacity, true);
        assert_eq!(steps, [2, 4, 8, 16, 32, 64, 128, 256, 300].map(secs));
        assert_eq!(decision.blocks[0].length.step(100), secs(300));
    }
}

#[test]
fn row_5_the_spend_rate_cools_the_whole_account() {
    let body = error(
        429,
        "RESOURCE_EXHAUSTED",
        "You have exceeded the spend-based rate limit of your billing account.",
        vec![],
    );
    let decision = of(429, &body);
    assert_eq!(decision.signal, Signal::SpendRate);
    let steps = blocked(&decision, Scope::BillingAccount, Reason::SpendRate, true);
    assert_eq!((steps.first(), steps.last()), (Some(&secs(60)), Some(&secs(600))));
}

#[test]
fn row_6_the_monthly_cap_disables_the_project() {
    let body =
        error(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its monthly spending cap.", vec![]);
    let decision = of(429, &body);
    assert_eq!(decision.signal, Signal::SpendCap);
    blocked(&decision, Scope::Project, Reason::SpendCap, true);
    assert!(decision.blocks[0].length.until_pacific_midnight && decision.alert);
}

#[test]
fn row_7_spent_credit_disables_the_account() {
    let body = error(
        429,
        "RESOURCE_EXHAUSTED",
        "Your prepayment credits are depleted. Please go to AI Studio.",
        vec![],
    );
    for decision in [of(429, &body), answer(402, "Payment Required")] {
        assert_eq!(decision.signal, Signal::CreditDepleted);
        blocked(&decision, Scope::BillingAccount, Reason::CreditDepleted, true);
        assert!(decision.alert);
    }
}

#[test]
fn row_8_an_invalid_key_is_checked_once_more_and_then_blocked_for_good() {
    let unauthenticated = reasoned(401, "UNAUTHENTICATED", "API key not valid.", "API_KEY_INVALID");
    let expired = error(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", vec![]);
    let interactions = json!({"error": {"code": "invalid_request", "message": "API key not valid. Please pass a valid API key."}});
    for (status, body) in [(400, invalid_key()), (401, unauthenticated), (400, expired), (400, interactions)]
    {
        let decision = of(status, &body);
        assert_eq!(decision.signal, Signal::KeyInvalid, "{body}");
        assert_eq!(blocked(&decision, Scope::Key, Reason::KeyInvalid, true), [secs(60), FOREVER]);
        assert!(!decision.alert);
    }
}

#[test]
fn row_8_a_bad_request_that_quotes_the_sentence_blames_no_key() {
    let message = "Invalid value at 'contents[0].parts[0].text': \"API key not valid. API_KEY_INVALID, reported as leaked\"";
    only_the_request(&of(400, &error(400, "INVALID_ARGUMENT", message, vec![])), Signal::RequestFault);
}

#[test]
fn row_9_a_key_of_the_wrong_binding_is_quarantined() {
    let message = "Request had invalid authentication credentials. Expected OAuth 2 access token.";
    let decision = of(401, &reasoned(401, "UNAUTHENTICATED", message, "ACCESS_TOKEN_TYPE_UNSUPPORTED"));
    assert_eq!(decision.signal, Signal::KeyBinding);
    assert_eq!(
        blocked(&decision, Scope::Key, Reason::KeyBinding, true),
        [600, 3_600, 21_600, 86_400].map(secs)
    );
}

#[test]
fn row_10_a_leaked_key_is_blocked_for_good() {
    let decision = of(403, &leaked());
    assert_eq!(decision.signal, Signal::KeyLeaked);
    assert_eq!(blocked(&decision, Scope::Key, Reason::KeyLeaked, false), [FOREVER]);
    assert!(decision.alert);
}

#[test]
fn row_11_a_suspended_key_is_blocked_for_good() {
    let mut without_details = suspended(&fake_key());
    without_details["error"]["details"] = json!([]);
    for body in [suspended(&fake_key()), without_details] {
        let decision = of(403, &body);
        assert_eq!(decision.signal, Signal::KeySuspended);
        assert_eq!(blocked(&decision, Scope::Key, Reason::KeySuspended, false), [FOREVER]);
        assert!(decision.alert);
        assert!(!format!("{decision:?}").contains(&fake_key()), "a decision echoes no key");
    }
}

#[test]
fn row_12_a_disabled_project_is_probed_slowly() {
    let mut bodies: Vec<_> = ["SERVICE_DISABLED", "CONSUMER_INVALID", "BILLING_DISABLED"]
        .map(|reason| reasoned(403, "PERMISSION_DENIED", "Permission denied.", reason))
        .into();
    bodies.push(error(
        403,
        "PERMISSION_DENIED",
        "Your project has been denied access. Please contact support.",
        vec![],
    ));
    for body in bodies {
        let decision = of(403, &body);
        assert_eq!(decision.signal, Signal::ProjectDisabled, "{body}");
        assert_eq!(
            blocked(&decision, Scope::Project, Reason::ProjectDisabled, true),
            [600, 3_600, 21_600, 86_400].map(secs)
        );
        assert!(decision.alert);
    }
}

#[test]
fn row_13_a_restricted_key_is_quarantined() {
    for reason in ["API_KEY_SERVICE_BLOCKED", "API_KEY_IP_ADDRESS_BLOCKED", "API_KEY_HTTP_REFERRER_BLOCKED"] {
        let decision =
            of(403, &reasoned(403, "PERMISSION_DENIED", "Requests to this API are blocked.", reason));
        assert_eq!(decision.signal, Signal::KeyRestricted, "{reason}");
        blocked(&decision, Scope::Key, Reason::KeyRestricted, true);
    }
}

#[test]
fn row_14_a_resource_of_another_project_blames_nobody() {
    let file = "You do not have permission to access the File abc123 or it may not exist.";
    let cache = "CachedContent not found (or permission denied)";
    for message in [file, cache] {
        only_the_request(&of(403, &error(403, "PERMISSION_DENIED", message, vec![])), Signal::WrongProject);
    }
    only_the_request(
        &of(404, &error(404, "NOT_FOUND", "Requested entity was not found.", vec![])),
        Signal::RequestFault,
    );
}

#[test]
fn row_15_a_denial_without_a_reason_penalises_nobody_and_tries_another_key() {
    let denied = error(403, "PERMISSION_DENIED", "The caller does not have permission", vec![]);
    let unheard_of = reasoned(403, "PERMISSION_DENIED", "No.", "A_REASON_OF_TOMORROW");
    for (status, body) in
        [(403, denied.to_string()), (403, unheard_of.to_string()), (401, "Unauthorized".into())]
    {
        let decision = answer(status, &body);
        assert_eq!(decision.signal, Signal::PermissionUnclear);
        assert_eq!(decision.blocks, []);
        assert_eq!((decision.charge, decision.advice.action), (Charge::Keep, Action::RetryOtherKey));
    }
}

#[test]
fn row_16_several_credentials_are_the_requests_fault() {
    let message = "Multiple authentication credentials received. Please pass only one.";
    only_the_request(&of(400, &error(400, "INVALID_ARGUMENT", message, vec![])), Signal::RequestFault);
}

#[test]
fn row_17_an_unserved_region_blames_nobody() {
    let message = "User location is not supported for the API use.";
    only_the_request(
        &of(400, &error(400, "FAILED_PRECONDITION", message, vec![])),
        Signal::RegionUnsupported,
    );
}

#[test]
fn row_18_a_bad_request_blames_nobody() {
    let unknown_model =
        "models/gemini-9 is not found for API version v1beta, or is not supported for generateContent.";
    for (status, name, message) in [
        (400, "INVALID_ARGUMENT", "Invalid JSON payload received. Unknown name \"foo\": Cannot find field."),
        (404, "NOT_FOUND", unknown_model),
        (413, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
        (405, "UNIMPLEMENTED", "Method not allowed."),
    ] {
        only_the_request(&of(status, &error(status, name, message, vec![])), Signal::RequestFault);
    }
}

#[test]
fn row_18_a_withheld_answer_blames_nobody() {
    let prompt = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}});
    let answer_ = json!({"candidates": [{"finishReason": "SAFETY", "index": 0}]});
    for body in [prompt.to_string(), answer_.to_string(), format!("data: {answer_}\r\n\r\n")] {
        only_the_request(&answer(200, &body), Signal::RequestFault);
    }
}

#[test]
fn row_19_a_model_closed_to_new_users_is_closed_for_this_project() {
    let message = "This model models/gemini-2.0-flash is no longer available to new users.";
    let decision = of(404, &error(404, "NOT_FOUND", message, vec![]));
    assert_eq!(decision.signal, Signal::ModelClosed);
    blocked(&decision, Scope::ProjectModel, Reason::ModelClosed, true);
}

#[test]
fn row_20_an_overloaded_model_blames_no_key_and_no_project() {
    let demand = error(503, "UNAVAILABLE", "This model is currently experiencing high demand.", vec![]);
    for body in [overloaded(), demand] {
        let decision = of(503, &body);
        assert_eq!(decision.signal, Signal::ModelOverloaded);
        assert_eq!((scopes(&decision), decision.charge), (vec![], Charge::Keep));
        assert_eq!(
            (decision.advice.action, decision.advice.retry_after),
            (Action::RetryAfter, Some(secs(5)))
        );
    }
}

#[test]
fn row_21_a_server_or_network_that_fails_keeps_the_charge_and_blames_nobody() {
    let mut decisions: Vec<_> = [408, 499, 500, 502, 504, 529]
        .map(|status| answer(status, "<html><title>Error</title></html>"))
        .into();
    decisions
        .extend([TransportKind::Timeout, TransportKind::Reset].map(|kind| read(&Outcome::Transport(kind))));
    for decision in decisions {
        assert!(matches!(decision.signal, Signal::ServerFault | Signal::NetworkFault));
        assert_eq!((scopes(&decision), decision.charge), (vec![], Charge::Keep));
        assert_eq!(decision.advice.action, Action::RetryAfter);
        assert!(decision.advice.retry_after.is_some_and(|wait| wait >= secs(1)));
    }
}

#[test]
fn row_21_a_server_that_fails_may_ask_for_more_time() {
    let decision = read(&Outcome::HttpError { status: 502, body: b"", retry_after: Some(secs(30)) });
    assert_eq!(decision.advice.retry_after, Some(secs(30)));
}

#[test]
fn row_21_a_connection_that_was_never_made_is_refunded() {
    let decision = read(&Outcome::Transport(TransportKind::Connect));
    assert_eq!((decision.signal, decision.charge), (Signal::NetworkFault, Charge::Refund));
    assert_eq!((scopes(&decision), decision.advice.action), (vec![], Action::RetryAfter));
}

#[test]
fn row_22_a_cancelled_request_keeps_its_charge() {
    let decision = read(&Outcome::Transport(TransportKind::Cancelled));
    assert_eq!((decision.signal, decision.charge), (Signal::Cancelled, Charge::Keep));
    assert_eq!((scopes(&decision), decision.advice.action), (vec![], Action::Done));
}

#[test]
fn row_23_a_request_that_was_not_sent_is_refunded() {
    let decision = read(&Outcome::NotSent);
    assert_eq!((decision.signal, decision.charge), (Signal::NotSent, Charge::Refund));
    assert_eq!((scopes(&decision), decision.advice.action), (vec![], Action::Done));
}

#[test]
fn a_success_trues_up_and_asks_for_nothing() {
    let decision = read(&Outcome::Success);
    assert_eq!((decision.signal, decision.charge), (Signal::Ok, Charge::TrueUp));
    assert_eq!((scopes(&decision), decision.advice.action), (vec![], Action::Done));
}
