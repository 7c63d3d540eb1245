//! What the configuration file may say and what is made of it.

mod config_support;

use std::time::Duration;

use config_support::{Given, key, key_of, pool, project, texts};
use keybroker::catalogue::{Dimension, Limit, NamePattern, Tier, Window};
use keybroker::config::summary;

const FULL: &str = r#"
[[pools]]
name = "default"
send_within = "500ms"
lease_ttl = "2m"
[[pools.limits]]
model = "*"
tier = "free"
requests_per_minute = 10

[[projects]]
id = "team-a"
pool = "default"
tier = "free"
billing_account = "acct-1"
limits = [ { model = "gemini-2.5-flash", requests_per_second = 1, requests_per_minute = 5, requests_per_10_minutes = 40,
  requests_per_day = 500, requests_per_month = 9000, input_tokens_per_minute = 250000, input_tokens_per_day = 1000000,
  total_tokens_per_minute = 300000, total_tokens_per_day = 2000000, in_flight = 4 } ]
keys = [
  { id = "a1", secret = "env:TEAM_A_KEY", weight = 3, priority = 2, labels = { owner = "x" } },
  { secret = "test-key-aaaaaaaa-0002", limits = [ { requests_per_minute = 2 } ] },
]

[model_aliases]
"models/gemini-3-flash-preview" = "gemini-3-flash"
"#;

fn full() -> Given {
    let mut given = Given::file(FULL);
    given.set("TEAM_A_KEY", &key(1));
    given
}

fn one_project(fields: &str) -> Given {
    Given::file(&format!("[[projects]]\nid = \"a\"\n{fields}\n"))
}

#[test]
fn every_field_of_a_full_file_arrives() {
    let loaded = full().loaded();
    let catalogue = &loaded.catalogue;
    let default = pool(catalogue, "default");
    assert_eq!(
        (default.send_within, default.lease_ttl),
        (Duration::from_millis(500), Duration::from_secs(120))
    );
    let team = project(catalogue, "team-a");
    assert_eq!((team.tier, team.billing_account.as_deref()), (Tier::Free, Some("acct-1")));
    let first = &team.keys[0];
    assert_eq!(
        (first.id.as_str(), first.secret.expose(), first.weight, first.priority),
        ("a1", key(1).as_str(), 3, Some(2))
    );
    assert_eq!(first.labels["owner"], "x");
    assert_eq!(first.fingerprint, first.secret.fingerprint());
    let limits = default.limits_for(team, "gemini-2.5-flash");
    assert_eq!(limits.len(), 10);
    for (dimension, window, amount) in [
        (Dimension::Requests, Window::Trailing(1), 1),
        (Dimension::Requests, Window::Trailing(60), 5),
        (Dimension::Requests, Window::Trailing(600), 40),
        (Dimension::Requests, Window::PacificDay, 500),
        (Dimension::Requests, Window::Month, 9000),
        (Dimension::InputTokens, Window::Trailing(60), 250_000),
        (Dimension::InputTokens, Window::PacificDay, 1_000_000),
        (Dimension::TotalTokens, Window::Trailing(60), 300_000),
        (Dimension::TotalTokens, Window::PacificDay, 2_000_000),
        (Dimension::InFlight, Window::None, 4),
    ] {
        assert!(limits.contains(&Limit::new(dimension, window, amount)), "{dimension} {window}");
    }
    assert_eq!(default.limits_for(team, "gemini-2.5-pro"), [Limit::requests_per_minute(10)]);
    assert_eq!(default.key_limits_for(team, &team.keys[1], "any"), [Limit::requests_per_minute(2)]);
    assert_eq!(catalogue.quota_model("gemini-3-flash-preview"), "gemini-3-flash");
    assert_eq!(loaded.files.len(), 1);
}

#[test]
fn a_key_without_an_id_gets_one_from_its_fingerprint() {
    let catalogue = full().loaded().catalogue;
    let (_, unnamed) = key_of(&catalogue, &key(2));
    assert_eq!(unnamed.id, format!("key-{}", &unnamed.fingerprint[..8]));
}

#[test]
fn without_pools_there_is_the_default_one_with_the_default_spans() {
    let catalogue = one_project("keys = [ { secret = \"test-key-aaaaaaaa-0001\" } ]").loaded().catalogue;
    let default = pool(&catalogue, "default");
    assert_eq!((default.send_within, default.lease_ttl), (Duration::from_secs(1), Duration::from_secs(60)));
    let (owner, key) = key_of(&catalogue, &key(1));
    assert_eq!((owner.tier, key.weight, key.priority), (Tier::Unknown, 1, None));
}

#[test]
fn a_pool_without_a_name_is_the_default_one() {
    let given = Given::file(
        "[[pools]]\nlease_ttl = \"5s\"\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"test-key-aaaaaaaa-0001\" } ]",
    );
    assert_eq!(pool(&given.loaded().catalogue, "default").lease_ttl, Duration::from_secs(5));
}

#[test]
fn a_secret_is_read_from_the_first_line_of_a_file_beside_the_configuration() {
    let given = one_project("keys = [ { secret = \"file:a.key\" } ]");
    given.write("a.key", format!("  {}  \r\nnot this\n", key(1)).as_bytes());
    let loaded = given.loaded();
    assert_eq!(texts(&loaded.catalogue), [key(1)]);
    assert!(loaded.files[1].ends_with("a.key"), "watched too");
}

#[test]
fn a_key_given_twice_in_one_project_is_skipped_with_a_warning_that_names_both_places() {
    let given = one_project(
        "keys = [ { secret = \"test-key-aaaaaaaa-0001\" }, { secret = \"test-key-aaaaaaaa-0001\" } ]",
    );
    assert_eq!(
        given.warnings(),
        [
            "keys.toml:3: projects[0].keys[1]: the key …0001 is given twice, first at keys.toml:3: projects[0].keys[0]; this one is skipped"
        ]
    );
    assert_eq!(texts(&given.loaded().catalogue), [key(1)]);
}

#[test]
fn a_tiers_limits_stand_before_the_pools_and_behind_the_projects() {
    let given = Given::file(
        "[[pools]]\nlimits = [ { requests_per_minute = 100, in_flight = 9 }, { tier = \"free\", requests_per_minute = 10 },\n\
         { tier = \"free\", model = \"flash-lite\", requests_per_minute = 15 }, { tier = \"paid\", requests_per_minute = 1000 } ]\n\
         [[projects]]\nid = \"free\"\ntier = \"free\"\n[[projects]]\nid = \"paid\"\ntier = \"paid\"\n[[projects]]\nid = \"unsaid\"\n\
         [[projects]]\nid = \"own\"\ntier = \"free\"\nlimits = [ { model = \"flash*\", requests_per_minute = 7 } ]\nkeys = [ { secret = \"test-key-aaaaaaaa-0001\" } ]\n",
    );
    let catalogue = given.loaded().catalogue;
    let default = pool(&catalogue, "default");
    let rpm = |id: &str, model: &str| default.limits_for(project(&catalogue, id), model)[0].amount;
    assert_eq!(
        [rpm("free", "pro"), rpm("paid", "pro"), rpm("unsaid", "pro"), rpm("own", "pro")],
        [10, 1000, 100, 10]
    );
    assert_eq!([rpm("free", "flash-lite"), rpm("own", "flash-lite"), rpm("own", "flash")], [15, 7, 7]);
    assert_eq!(default.limits_for(project(&catalogue, "own"), "flash").len(), 2, "in_flight is the pool's");
    assert!(given.warnings().iter().any(|text| text.contains("1 of its projects name no tier")));
}

#[test]
fn patterns_are_parsed_and_printed_alike() {
    for (text, pattern) in [
        ("*", NamePattern::Any),
        ("gemini-2.5-*", NamePattern::Prefix("gemini-2.5-".to_owned())),
        ("models/gemini-2.5-flash", NamePattern::Exact("gemini-2.5-flash".to_owned())),
    ] {
        let parsed: NamePattern = text.parse().unwrap();
        assert_eq!(parsed, pattern);
        assert_eq!(parsed.to_string(), text.trim_start_matches("models/"));
    }
    for text in ["", "a*b", "**", "a b", "ä"] {
        assert!(text.parse::<NamePattern>().is_err(), "{text}");
    }
}

#[test]
fn the_file_may_be_named_by_its_variable() {
    let mut given = full();
    let path = given.file.take().unwrap();
    given.set("KEYBROKER_CONFIG", path.to_str().unwrap());
    assert_eq!(given.loaded().catalogue.keys().count(), 2);
}

#[test]
fn the_summary_counts_everything_and_masks_keys() {
    let lines = summary(&full().loaded());
    assert!(lines[0].starts_with("1 pool, 1 project, 2 keys, 12 limits; digest "), "{lines:#?}");
    assert_eq!(lines[1], "pool default: round_robin, 1 project, 2 keys, send within 500ms, leases of 120s");
    assert!(
        lines[2].starts_with("  project team-a (free tier, account acct-1): a1 …0001, key-"),
        "{lines:#?}"
    );
    assert!(!lines.join("\n").contains("aaaaaaaa"));
}

#[test]
fn the_summary_says_strategies_totals_plans_prices_hooks_and_probing_in_few_words() {
    let given = Given::file(
        r#"
default_plan = "off"
[[pools]]
strategy = "priority"
margin_percent = 10
smooth_bursts = true
learn_limits = "off"
limits = [ { requests_per_minute = 10 } ]
totals = { spend_per_day = 2.5 }
model_totals = [ { model = "pro", in_flight = 2 } ]
[[projects]]
id = "a"
billing_account = "acct"
margin_percent = 0
smooth_bursts = false
totals = { requests_per_day = 9 }
keys = [ { id = "k", secret = "test-key-aaaaaaaa-0001" } ]
[[billing_accounts]]
id = "acct"
totals = { requests_per_month = 7 }
[[plans]]
name = "team"
mode = "soft"
requests_per_minute = 5
in_flight = 2
[[plans]]
name = "unused"
[[consumers]]
id = "ann"
plan = "team"
[[prices]]
model = "pro*"
input_per_million = 1
output_per_million = 1
[[prices]]
input_per_million = 1
output_per_million = 1
[[hooks]]
name = "alerts"
events = ["pool_exhausted", "key_disabled"]
url = "https://hooks.example.com/services/token"
[probing]
leaked = true
first = "90s"
"#,
    );
    let lines = summary(&given.loaded());
    assert_eq!(
        lines[1..],
        [
            "pool default: priority, 1 project, 1 key, send within 1s, leases of 60s, margin 10 %, bursts smoothed, \
             no limits learned; *: requests_per_minute = 10; all keys together: spend_per_day = 2.5; \
             all projects together: pro: in_flight = 2",
            "  billing account acct: requests_per_month = 7",
            "  project a (unknown tier, account acct, margin 0 %, bursts not smoothed): k …0001; \
             all models together: requests_per_day = 9",
            "plan team (soft, for 1 consumer): requests_per_minute = 5, in_flight = 2",
            "plan unused (hard, for nobody): no limits",
            "consumers that are not named have no plan",
            "prices of pro*, *",
            "hook alerts: key_disabled, pool_exhausted",
            "disabled keys are probed after 90s, then at intervals of up to 24h, leaked ones too",
        ]
    );
    assert!(lines[0].starts_with("1 pool, 1 project, 1 key, 5 limits; digest "), "{}", lines[0]);
}

#[test]
fn the_summary_of_keys_alone_says_what_holds_without_a_word() {
    let lines = summary(&one_project("keys = [ { secret = \"test-key-aaaaaaaa-0001\" } ]").loaded());
    assert_eq!(
        lines[3..],
        [
            "plan default (hard, for every consumer): requests_per_minute = 20",
            "disabled keys are probed after 10m, then at intervals of up to 24h",
        ]
    );
}

#[test]
fn a_summary_stays_short_however_much_there_is() {
    let many: String = (0..25)
        .map(|n| {
            format!(
                "[[plans]]\nname = \"p{n}\"\n[[prices]]\nmodel = \"m{n}\"\ninput_per_million = 1\noutput_per_million = 1\n\
                 [[hooks]]\nname = \"h{n}\"\nevents = [\"*\"]\nurl = \"https://h.example.com\"\n[[projects]]\nid = \"x{n}\"\n"
            )
        })
        .collect();
    let lines = summary(&config_support::with_key(&many).loaded());
    for line in ["and 6 plans more", "and 5 hooks more", "  and 6 projects more"] {
        assert!(lines.iter().any(|found| found == line), "{line} in {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.ends_with("m19, and 5 more")), "{lines:#?}");
}

#[test]
fn every_example_of_the_reference_is_read_without_a_fault() {
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let text = std::fs::read_to_string(reference).unwrap();
    let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let blocks: Vec<_> = blocks.collect();
    assert!(blocks.len() >= 10, "{}", blocks.len());
    for block in blocks {
        let mut given = config_support::with_key(block);
        given.set("TEAM_C_KEY", &key(2)).set("TEAM_D_KEY", &key(3));
        given.write("team-d-2.key", key(4).as_bytes());
        let warnings = given.warnings();
        let expected = |text: &String| {
            ["has no keys", "name no tier", "may have no price"].iter().any(|known| text.contains(known))
        };
        assert!(warnings.iter().all(expected), "{block}\n{warnings:#?}");
    }
}
