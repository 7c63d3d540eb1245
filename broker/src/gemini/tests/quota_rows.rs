//! Rows 1 to 7 of the table: quotas, capacity and money.

use std::time::Duration;

use serde_json::json;

use super::super::{Outcome, Reason, Scope, Signal, read};
use super::bodies::*;
use super::{answer, blocked, of, secs};

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
