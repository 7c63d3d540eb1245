//! Rows 8 to 13 of the table: keys and projects that are refused.

use std::time::Duration;

use serde_json::json;

use super::super::{Action, FOREVER, Reason, Scope, Signal};
use super::bodies::*;
use super::{blocked, fake_key, of, only_the_request, secs};

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
fn row_11_a_suspended_key_is_blocked_for_good_and_a_second_one_takes_its_project_along() {
    let mut without_details = suspended(&fake_key());
    without_details["error"]["details"] = json!([]);
    for body in [suspended(&fake_key()), without_details] {
        let decision = of(403, &body);
        assert_eq!(decision.signal, Signal::KeySuspended);
        let [key, project] = &decision.blocks[..] else { panic!("two blocks, not {:?}", decision.blocks) };
        assert_eq!((key.scope, key.reason, key.probe), (Scope::Key, Reason::KeySuspended, false));
        assert_eq!(key.length.steps, [FOREVER]);
        assert_eq!(
            (project.scope, project.reason, project.probe),
            (Scope::Project, Reason::KeySuspended, false)
        );
        assert_eq!(project.length.steps, [Duration::ZERO, FOREVER]);
        assert_eq!(decision.advice.action, Action::RetryOtherKey);
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
