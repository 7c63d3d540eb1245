//! An event in the forms that are posted.

use serde_json::{Value, json};

use crate::{catalogue::HookFormat, events::Event};

/// The longest text that Discord takes, in characters.
const LONGEST_OF_DISCORD: usize = 2000;

/// What is posted.
pub(super) fn body(event: &Event, format: HookFormat) -> Value {
    match format {
        HookFormat::Json => serde_json::to_value(event).expect("an event has no map with keys but text"),
        HookFormat::Slack => json!({"text": for_slack(&text(event))}),
        // A label must not be able to call everybody together.
        HookFormat::Discord => json!({
            "content": text(event).chars().take(LONGEST_OF_DISCORD).collect::<String>(),
            "allowed_mentions": {"parse": []},
        }),
    }
}

/// The event in a sentence, with the labels of the request if they are known.
fn text(event: &Event) -> String {
    let labels: Vec<String> =
        event.subject.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" [{}]", labels.join(", ")) };
    format!("{}: {}{labels}", event.kind, event.message())
}

/// Slack reads three characters as marks of its own.
fn for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{event, labelled};
    use super::*;
    use crate::catalogue::EventKind;

    #[test]
    fn json_is_the_event_itself() {
        let event = event(EventKind::CooldownBegun);
        let body = body(&event, HookFormat::Json);
        assert_eq!(body["kind"], "cooldown_begun");
        assert_eq!(body["id"], event.id.as_str());
    }

    #[test]
    fn slack_gets_a_text_in_which_nothing_is_a_mark() {
        let event = labelled(event(EventKind::CooldownBegun), "team", "<!channel> & more");
        let body = body(&event, HookFormat::Slack);
        assert_eq!(
            body["text"],
            "cooldown_begun: pool default: project team-a, model flash cools down [team=&lt;!channel&gt; &amp; more]"
        );
        assert_eq!(body.as_object().unwrap().len(), 1);
    }

    #[test]
    fn discord_gets_a_content_that_mentions_nobody() {
        let body = body(&labelled(event(EventKind::KeyDisabled), "team", "@everyone"), HookFormat::Discord);
        assert!(body["content"].as_str().unwrap().ends_with("[team=@everyone]"));
        assert_eq!(body["allowed_mentions"]["parse"], json!([]));
    }
}
