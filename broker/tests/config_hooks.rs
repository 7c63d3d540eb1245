//! Hooks and probing.

mod config_support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config_support::{assert_faults, with_key};
use keybroker::catalogue::{EventKind, Hook, HookAction, HookFormat, Probing};
use keybroker::config::summary;

fn hook(fields: &str) -> Hook {
    let given = with_key(&format!("[[hooks]]\nname = \"alerts\"\n{fields}"));
    given.loaded().catalogue.hooks.remove(0)
}

fn url_of(hook: &Hook) -> &str {
    match &hook.action {
        HookAction::Post { url, .. } => url.expose(),
        HookAction::Run { .. } => panic!("runs a program"),
    }
}

/// One hook with a fault in one field, and the fault.
#[track_caller]
fn assert_hook_faults(cases: &[(&str, &str)]) {
    for (fields, expected) in cases {
        assert_faults(&[(&format!("[[hooks]]\nname = \"alerts\"\n{fields}"), expected)]);
    }
}

#[test]
fn a_hook_has_sensible_spans_unless_it_says_otherwise() {
    let hook = hook("events = [\"key_disabled\"]\nurl = \"https://hooks.example.com/x\"");
    assert_eq!((hook.cooldown, hook.timeout), (Duration::from_secs(300), Duration::from_secs(10)));
    assert_eq!(hook.attempts, 3);
    assert_eq!(hook.events, BTreeSet::from([EventKind::KeyDisabled]));
    assert!(hook.labels.is_empty() && hook.pools.is_empty());
    assert!(matches!(hook.action, HookAction::Post { format: HookFormat::Json, .. }));
}

#[test]
fn a_hook_arrives_with_every_field() {
    let hook = hook(
        "events = [\"cooldown_begun\", \"pool_exhausted\"]\nlabels = { integration = \"zalo\" }\npools = [\"default\"]\n\
         url = \"http://127.0.0.1:9/login\"\nformat = \"slack\"\ncooldown = \"0s\"\ntimeout = \"100ms\"\nattempts = 10",
    );
    assert_eq!(url_of(&hook), "http://127.0.0.1:9/login");
    assert!(matches!(hook.action, HookAction::Post { format: HookFormat::Slack, .. }));
    assert_eq!((hook.cooldown, hook.timeout), (Duration::ZERO, Duration::from_millis(100)));
    assert_eq!((hook.attempts, hook.labels["integration"].as_str()), (10, "zalo"));
    assert_eq!(hook.pools, BTreeSet::from(["default".to_owned()]));
}

#[test]
fn a_hook_may_run_a_program_and_does_not_show_its_arguments() {
    let hook = hook("events = [\"*\"]\ncommand = [\"/bin/notify\", \"--token\", \"s3cret\"]");
    assert_eq!(hook.events, BTreeSet::from(EventKind::ALL));
    let command = ["/bin/notify", "--token", "s3cret"].map(str::to_owned).to_vec();
    assert_eq!(hook.action, HookAction::Run { command });
    assert!(!format!("{hook:?}").contains("s3cret"), "{hook:?}");
}

#[test]
fn the_url_may_stand_in_a_variable_or_a_file_and_is_shown_nowhere() {
    let mut given = with_key(
        "[[hooks]]\nname = \"one\"\nevents = [\"*\"]\nurl = \"env:HOOK_URL\"\n\
         [[hooks]]\nname = \"two\"\nevents = [\"*\"]\nurl = \"file:hook.url\"",
    );
    given.set("HOOK_URL", "https://hooks.example.com/services/T0/hidden-token/one ");
    let path = given.write("hook.url", b"https://hooks.example.com/services/T0/hidden-token/two\n");
    let loaded = given.loaded();
    let urls: Vec<_> = loaded.catalogue.hooks.iter().map(url_of).collect();
    assert_eq!(urls.iter().map(|url| &url[url.len() - 3..]).collect::<Vec<_>>(), ["one", "two"]);
    assert!(loaded.files.contains(&path), "watched too");
    let shown = format!("{:?}\n{}", loaded.catalogue, summary(&loaded).join("\n"));
    assert!(!shown.contains("hidden-token"), "{shown}");
    assert!(shown.contains("hook one: every event"), "{shown}");
}

#[test]
fn a_hook_is_for_its_events_pools_and_labels_all_of_them() {
    let hook = hook(
        "events = [\"cooldown_begun\"]\nlabels = { a = \"1\", b = \"2\" }\npools = [\"default\"]\nurl = \"https://h.example.com\"",
    );
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let both = labels(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert!(hook.is_for(EventKind::CooldownBegun, "default", &both));
    assert!(!hook.is_for(EventKind::CooldownEnded, "default", &both));
    assert!(!hook.is_for(EventKind::CooldownBegun, "other", &both));
    for some in [labels(&[]), labels(&[("a", "1")]), labels(&[("a", "1"), ("b", "3")])] {
        assert!(!hook.is_for(EventKind::CooldownBegun, "default", &some), "{some:?}");
    }
}

#[test]
fn every_event_and_form_has_a_name_of_its_own() {
    for event in EventKind::ALL {
        assert_eq!(EventKind::parse(event.as_str()), Some(event));
        let hook = hook(&format!("events = [\"{event}\"]\nurl = \"https://h.example.com\""));
        assert_eq!(hook.events, BTreeSet::from([event]));
    }
    for format in HookFormat::ALL {
        assert_eq!(HookFormat::parse(format.as_str()), Some(format));
    }
}

#[test]
fn events_that_are_unknown_missing_or_named_twice_are_faults() {
    const URL: &str = "url = \"https://h.example.com\"";
    for (events, expected) in [
        ("", "hooks[0]: has no `events`; add events = [\"key_disabled\"], or [\"*\"] for every event"),
        (
            "events = []",
            "hooks[0].events: is an empty list; write one such as [\"key_disabled\", \"pool_exhausted\"]",
        ),
        ("events = \"key_disabled\"", "hooks[0].events: is a text; write a list of texts"),
        ("events = [1]", "hooks[0].events[0]: is a number; write text in quotes"),
        ("events = [\"key_disable\"]", "hooks[0].events[0]: is not an event; did you mean \"key_disabled\"?"),
        (
            "events = [\"party\"]",
            "hooks[0].events[0]: is not an event; write \"key_disabled\" or \"key_recovered\"",
        ),
        (
            "events = [\"key_disabled\", \"key_disabled\"]",
            "hooks[0].events[1]: the event key_disabled is named twice",
        ),
        (
            "events = [\"*\", \"key_disabled\"]",
            "hooks[0].events[1]: is named beside \"*\", which is every event",
        ),
    ] {
        assert_hook_faults(&[(&format!("{events}\n{URL}"), expected)]);
    }
}

#[test]
fn a_hook_without_exactly_one_right_action_is_a_fault() {
    for (action, expected) in [
        ("", "hooks[0]: has neither `url` nor `command`"),
        ("url = \"https://h.example.com\"\ncommand = [\"/bin/x\"]", "hooks[0].command: stands beside `url`"),
        ("url = 5", "hooks[0].url: is a number"),
        ("url = \"ftp://h.example.com\"", "hooks[0].url: is not an http or https URL"),
        ("url = \"h.example.com/x\"", "hooks[0].url: is not an http or https URL"),
        ("url = \"https://\"", "hooks[0].url: is not an http or https URL"),
        ("url = \"https://h.example.com/a b\"", "hooks[0].url: is not an http or https URL"),
        ("url = \"\"", "hooks[0].url: is not an http or https URL"),
        (
            "url = \"env:UNSET_URL\"",
            "hooks[0].url: the variable UNSET_URL is not set or empty; set it to the URL's text",
        ),
        ("url = \"file:./missing\"", "hooks[0].url: the file it names cannot be read"),
        (
            "url = \"https://h.example.com\"\nformat = \"slak\"",
            "hooks[0].format: is not a format; did you mean \"slack\"?",
        ),
        ("url = \"https://h.example.com\"\nformat = \"xml\"", "write \"json\" or \"slack\" or \"discord\""),
        ("command = [\"/bin/x\"]\nformat = \"slack\"", "hooks[0].format: is for `url` alone"),
        ("command = \"/bin/x\"", "hooks[0].command: is a text; write a list of texts"),
        ("command = []", "hooks[0].command: is an empty list"),
        ("command = [\"notify\"]", "hooks[0].command[0]: is not the absolute path of a program"),
        ("command = [\"/bin/x\", 5]", "hooks[0].command[1]: is a number"),
        ("command = [\"/bin/x\", \"\\u0000\"]", "hooks[0].command[1]: cannot be an argument"),
        (
            "command = [\"/bin/x\", \"test-key-aaaaaaaa-0001\"]",
            "hooks[0].command[1]: holds the text of a key",
        ),
    ] {
        assert_hook_faults(&[(&format!("events = [\"*\"]\n{action}"), expected)]);
    }
}

#[test]
fn spans_tries_pools_and_labels_of_a_hook_that_are_not_right_are_faults() {
    for (field, expected) in [
        (
            "cooldown = \"25h\"",
            "hooks[0].cooldown: is out of range; write 0s to 24h, such as cooldown = \"0s\"",
        ),
        ("cooldown = 300", "hooks[0].cooldown: is a number; write text in quotes"),
        ("cooldown = \"-1s\"", "hooks[0].cooldown: is not a duration"),
        ("timeout = \"99ms\"", "hooks[0].timeout: is out of range; write 100ms to 60s"),
        ("timeout = \"61s\"", "hooks[0].timeout: is out of range"),
        ("attempts = 0", "hooks[0].attempts: is out of range; write a whole number, 1 to 10"),
        ("attempts = 11", "hooks[0].attempts: is out of range"),
        ("attempts = \"3\"", "hooks[0].attempts: is a text"),
        (
            "pools = [\"defualt\"]",
            "hooks[0].pools[0]: names a pool that is not there; did you mean \"default\"?",
        ),
        ("pools = [\"xyz\"]", "hooks[0].pools[0]: names a pool that is not there; name one of: default"),
        ("pools = []", "hooks[0].pools: is an empty list"),
        ("pools = \"default\"", "hooks[0].pools: is a text; write a list of texts, such as [\"default\"]"),
        ("labels = { a = 1 }", "hooks[0].labels.a: is a number"),
        ("labels = { \"a b\" = \"1\" }", "is not a valid label name"),
        ("labels = [\"a\"]", "hooks[0].labels: is a list; write a table of texts"),
        ("event = [\"*\"]", "hooks[0].event: unknown field; did you mean `events`?"),
    ] {
        let fields = format!("events = [\"*\"]\nurl = \"https://h.example.com\"\n{field}");
        assert_hook_faults(&[(&fields, expected)]);
    }
}

#[test]
fn hooks_without_a_name_or_with_one_that_is_taken_are_faults() {
    const REST: &str = "events = [\"*\"]\nurl = \"https://h.example.com\"";
    assert_faults(&[
        (&format!("[[hooks]]\n{REST}"), "hooks[0]: has no `name`; add name = \"alerts\""),
        (&format!("[[hooks]]\nname = \"a/b\"\n{REST}"), "hooks[0].name: is not a valid name"),
        (
            &format!("[[hooks]]\nname = \"a\"\n{REST}\n[[hooks]]\nname = \"a\"\n{REST}"),
            "hooks[1].name: the hook a was written before (keys.toml:2: hooks[0].name)",
        ),
        ("hooks = true", "hooks: is a boolean; write a list of tables"),
    ]);
}

#[test]
fn a_hook_may_name_a_pool_that_only_the_environment_makes() {
    let mut given = config_support::Given::file(
        "[[pools]]\nname = \"other\"\n[[hooks]]\nname = \"a\"\nevents = [\"*\"]\nurl = \"https://h.example.com\"\npools = [\"default\"]",
    );
    given.set("GEMINI_KEYS", &config_support::key(1));
    assert_eq!(given.loaded().catalogue.hooks.len(), 1);
}

fn probing(fields: &str) -> Probing {
    with_key(&format!("[probing]\n{fields}")).loaded().catalogue.probing
}

#[test]
fn probing_is_on_but_for_leaked_keys_unless_it_says_otherwise() {
    let default = with_key("").loaded().catalogue.probing;
    assert_eq!(default, probing(""));
    assert!(default.enabled && !default.leaked);
    assert_eq!(default.base_url, "https://generativelanguage.googleapis.com");
    assert_eq!((default.first, default.longest), (Duration::from_secs(600), Duration::from_secs(86400)));
    assert_eq!(default.model, "gemini-2.5-flash");
}

#[test]
fn probing_arrives_with_every_field() {
    let read = probing(
        "enabled = true\nleaked = true\nbase_url = \"http://127.0.0.1:9/\"\nfirst = \"10s\"\nlongest = \"1m\"\nmodel = \"models/m\"",
    );
    let expected = Probing {
        enabled: true,
        leaked: true,
        base_url: "http://127.0.0.1:9".to_owned(),
        first: Duration::from_secs(10),
        longest: Duration::from_secs(60),
        model: "m".to_owned(),
    };
    assert_eq!(read, expected);
    assert!(!probing("enabled = false").enabled);
    assert_eq!(probing("first = \"24h\"").longest, Duration::from_secs(86400));
}

#[test]
fn fields_of_probing_that_are_not_right_are_faults() {
    for (field, expected) in [
        ("enabled = \"no\"", "probing.enabled: is a text; write true or false, without quotes"),
        ("leaked = 1", "probing.leaked: is a number"),
        (
            "base_url = \"generativelanguage.googleapis.com\"",
            "probing.base_url: is not a plain http or https URL",
        ),
        ("base_url = \"https://h.example.com/?key=x\"", "probing.base_url: is not a plain http or https URL"),
        (
            "base_url = \"https://me:pass@h.example.com\"",
            "probing.base_url: is not a plain http or https URL",
        ),
        (
            "base_url = \"https://h.example.com/test-key-aaaaaaaa-0001\"",
            "probing.base_url: holds the text of a key",
        ),
        ("base_url = 5", "probing.base_url: is a number"),
        ("first = \"9s\"", "probing.first: is out of range; write 10s to 24h"),
        ("first = \"25h\"", "probing.first: is out of range"),
        ("longest = \"169h\"", "probing.longest: is out of range; write 10s to 168h"),
        ("first = \"2h\"\nlongest = \"1h\"", "probing.longest: is shorter than `first`"),
        ("longest = \"9m\"", "probing.longest: is shorter than `first`"),
        ("model = \"gemini-*\"", "probing.model: is not a valid name; name one model"),
        ("model = 1", "probing.model: is a number"),
        ("intervall = \"1h\"", "probing.intervall: unknown field"),
    ] {
        assert_faults(&[(&format!("[probing]\n{field}"), expected)]);
    }
    assert_faults(&[
        ("probing = false", "probing: is a boolean; write a table, such as { enabled = false }"),
        ("[[probing]]", "probing: is a list; write a table"),
    ]);
}

#[test]
fn keys_that_would_travel_in_the_clear_or_a_setting_without_effect_are_warned_of() {
    let warnings = |fields: &str| with_key(&format!("[probing]\n{fields}")).warnings();
    let clear =
        "keys.toml:2: probing.base_url: is not https, so keys that are probed can be read on their way";
    assert_eq!(warnings("base_url = \"http://gemini.example.com\""), [clear]);
    for local in ["http://localhost:1", "http://127.9.9.9:1", "http://[::1]:1", "https://gemini.example.com"]
    {
        assert!(warnings(&format!("base_url = \"{local}\"")).is_empty(), "{local}");
    }
    assert_eq!(
        warnings("enabled = false\nleaked = true"),
        ["keys.toml:3: probing.leaked: has no effect, because probing is not enabled"]
    );
}
