//! Rows 14 to 23 of the table: requests, servers, networks and callers, and success.

use serde_json::json;

use super::super::policy::{Facts, decide};
use super::super::{Action, Charge, Outcome, Reason, Scope, Signal, TransportKind, read};
use super::bodies::*;
use super::{answer, blocked, of, only_the_request, scopes, secs};

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
fn row_15_a_denial_without_a_reason_is_acted_on_only_when_it_repeats() {
    let denied = error(403, "PERMISSION_DENIED", "The caller does not have permission", vec![]);
    let unheard_of = reasoned(403, "PERMISSION_DENIED", "No.", "A_REASON_OF_TOMORROW");
    for (status, body) in
        [(403, denied.to_string()), (403, unheard_of.to_string()), (401, "Unauthorized".into())]
    {
        let decision = answer(status, &body);
        assert_eq!(decision.signal, Signal::PermissionUnclear);
        assert_eq!(
            blocked(&decision, Scope::Key, Reason::PermissionUnclear, true),
            [0, 0, 600, 3_600, 21_600, 86_400].map(secs)
        );
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
fn row_20_an_overloaded_model_opens_its_breaker_and_blames_no_key_and_no_project() {
    let demand = error(503, "UNAVAILABLE", "This model is currently experiencing high demand.", vec![]);
    for body in [overloaded(), demand] {
        let decision = of(503, &body);
        assert_eq!(decision.signal, Signal::ModelOverloaded);
        assert_eq!((decision.charge, decision.health), (Charge::Keep, 0));
        let [block] = &decision.blocks[..] else { panic!("one block, not {:?}", decision.blocks) };
        assert_eq!((block.scope, block.reason, block.probe), (Scope::Model, Reason::ModelOverloaded, true));
        assert_eq!(block.length.steps, [0, 0, 1, 2, 4, 8, 16, 30].map(secs));
        assert_eq!(
            (decision.advice.action, decision.advice.retry_after),
            (Action::RetryAfter, Some(secs(1)))
        );
    }
}

#[test]
fn row_20_a_wait_that_a_proxy_asks_for_is_the_callers_and_not_the_breakers() {
    let body = overloaded().to_string();
    let decision =
        read(&Outcome::HttpError { status: 503, body: body.as_bytes(), retry_after: Some(secs(7_200)) });
    assert_eq!(decision.advice.retry_after, Some(secs(7_200)));
    assert_eq!(decision.blocks[0].length.steps, [0, 0, 1, 2, 4, 8, 16, 30].map(secs));
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

#[test]
fn only_a_fault_of_the_key_itself_lowers_its_standing() {
    use Signal::*;
    for signal in Signal::ALL {
        let expected = match signal {
            Ok => 5,
            KeyInvalid | KeyBinding | KeyLeaked | KeySuspended | KeyRestricted | PermissionUnclear => -20,
            _ => 0,
        };
        assert_eq!(decide(signal, Facts::default()).health, expected, "{signal}");
    }
}
