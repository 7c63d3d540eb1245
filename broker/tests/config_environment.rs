//! The forms in which the environment may give keys.

mod config_support;

use config_support::{Given, key, key_of, pool, texts};
use keybroker::catalogue::{Limit, Tier};

#[test]
fn comma_lists_may_have_whitespace_and_newlines_around_their_entries() {
    let given = Given::env([("GEMINI_KEYS", &format!(" {} ,\n{}\n{},, ", key(1), key(2), key(3)))]);
    assert_eq!(texts(&given.loaded().catalogue), [key(1), key(2), key(3)]);
    let given = Given::env([("GEMINI_API_KEYS", &format!("{},{}", key(1), key(2)))]);
    assert_eq!(texts(&given.loaded().catalogue), [key(1), key(2)]);
}

#[test]
fn numbered_variables_count_from_1_to_100_with_gaps() {
    let names = [
        "GEMINI_API_KEY",
        "GEMINI_API_KEY_1",
        "GEMINI_API_KEY_7",
        "GEMINI_API_KEY_100",
        "GEMINI_API_KEY_101",
    ];
    let mut given = Given::nothing();
    for (number, name) in (1..).zip(names) {
        given.set(name, &key(number));
    }
    assert_eq!(texts(&given.loaded().catalogue), [key(1), key(2), key(3), key(4)]);
}

#[test]
fn all_forms_are_merged() {
    let mut given = Given::env([
        ("GEMINI_KEYS", &key(1)),
        ("GEMINI_API_KEYS", &key(2)),
        ("GEMINI_API_KEY", &key(3)),
        ("GEMINI_API_KEY_2", &key(4)),
        ("GOOGLE_API_KEY", &key(5)),
        ("GEMINI_FREE_KEYS", &key(6)),
        ("GEMINI_PAID_KEY", &key(7)),
    ]);
    let file = given.write("keys.txt", key(8).as_bytes());
    given.set("KEYBROKER_KEY_FILE", file.to_str().unwrap());
    let mut found = texts(&given.loaded().catalogue);
    found.sort();
    assert_eq!(found, (1..=8).map(key).collect::<Vec<_>>());
    assert!(given.warnings().is_empty());
}

#[test]
fn a_plain_key_is_its_own_project_in_the_default_pool_without_limits() {
    let loaded = Given::env([("GOOGLE_API_KEY", &key(1))]).loaded();
    let (project, held) = key_of(&loaded.catalogue, &key(1));
    assert_eq!(project.id, held.id);
    assert_eq!(held.id, format!("key-{}", &held.fingerprint[..8]));
    assert_eq!(project.tier, Tier::Unknown);
    assert!(pool(&loaded.catalogue, "default").limits_for(project, "m").is_empty());
}

#[test]
fn missing_limits_are_warned_of_once_for_all_projects() {
    let loaded = Given::env([("GEMINI_KEYS", &format!("{},{}", key(1), key(2)))]).loaded();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let expected = "limits: no limits configured for 2 projects; Google's refusals alone will hold them back";
    assert_eq!(warnings.iter().filter(|text| *text == expected).count(), 1, "{warnings:#?}");
    assert_eq!(warnings.len(), 2, "and one about the formats: {warnings:#?}");
}

#[test]
fn free_keys_come_first_and_paid_ones_after_each_with_its_rate() {
    let mut given =
        Given::env([("GEMINI_FREE_KEYS", &format!("{},{}", key(1), key(2))), ("GEMINI_PAID_KEY", &key(3))]);
    let rates = |given: &Given| {
        let catalogue = given.loaded().catalogue;
        [1, 3].map(|number| {
            let (project, held) = key_of(&catalogue, &key(number));
            let default = pool(&catalogue, "default");
            let limits = default.limits_for(project, "any-model");
            (project.tier, default.standing_of(project, held).class, limits)
        })
    };
    let expected = |free, paid| {
        [
            (Tier::Free, 0, vec![Limit::requests_per_minute(free)]),
            (Tier::Paid, 8, vec![Limit::requests_per_minute(paid)]),
        ]
    };
    assert_eq!(rates(&given), expected(60, 1000));
    given.set("GEMINI_FREE_RATE_LIMIT", "5").set("GEMINI_PAID_RATE_LIMIT", " 150 ");
    assert_eq!(rates(&given), expected(5, 150));
}

#[test]
fn a_rate_that_is_no_rate_is_a_fault() {
    for rate in ["0", "-1", "ten", "1e9", "99999999"] {
        let given = Given::env([("GEMINI_FREE_KEYS", &key(1)), ("GEMINI_FREE_RATE_LIMIT", rate)]);
        assert!(
            given.fault().starts_with("GEMINI_FREE_RATE_LIMIT: is not a rate; set requests per minute, 1 to")
        );
    }
}

#[test]
fn a_key_that_is_free_and_paid_or_plain_keeps_the_terms_that_promise_less() {
    let given = Given::env([
        ("GEMINI_API_KEY", &key(1)),
        ("GEMINI_FREE_KEYS", &key(1)),
        ("GEMINI_PAID_KEY", &key(1)),
    ]);
    assert_eq!(key_of(&given.loaded().catalogue, &key(1)).0.tier, Tier::Free);
    assert_eq!(given.warnings().len(), 2);
}

#[test]
fn a_key_file_has_one_key_a_line_and_comments() {
    for name in ["KEYBROKER_KEY_FILE", "GEMINI_KEY_FILE"] {
        let mut given = Given::nothing();
        let text = format!("\u{feff}# ours\r\n{}\r\n\n  {} # the second\nbad key\n", key(1), key(2));
        let path = given.write("keys.txt", text.as_bytes());
        given.set(name, path.to_str().unwrap());
        let loaded = given.loaded();
        assert_eq!(texts(&loaded.catalogue), [key(1), key(2)]);
        assert_eq!(loaded.files, [path]);
        assert_eq!(given.warnings(), [format!("{name} line 5: … has whitespace in it; skipped")]);
    }
}

#[test]
fn a_key_file_that_cannot_be_read_is_a_fault_even_beside_other_keys() {
    let given = Given::env([("GEMINI_KEYS", &key(1)), ("KEYBROKER_KEY_FILE", "/nowhere/at-all")]);
    assert!(given.fault().starts_with("KEYBROKER_KEY_FILE: the file it names cannot be read: "));
}

#[test]
fn malformed_entries_are_named_masked_by_position_and_skipped() {
    let long = "x".repeat(513);
    let entries = [
        ("test key-aaaaaaaa-0002", "…0002 has whitespace in it"),
        ("test-key-aaaaaaaä-0003", "…0003 has a character in it that is not ASCII"),
        ("test-key-aaaa\u{7}aaa-0004", "…0004 has a control character in it"),
        ("short-5", "… is shorter than 8 characters"),
        (&long, "…xxxx is longer than 512 characters"),
        ("\"test-key-aaaaaaaa-0007\"", "…007\" has a quote or a backslash left over"),
        ("${TEST_KEY_VARIABLE}", "…BLE} is the name of a variable that was not expanded"),
        (
            "test-key-aaaaaaaa-0009;test-key-aaaaaaaa-0010",
            "…0010 has a separator in it (keys are separated by commas)",
        ),
    ];
    let list: Vec<_> =
        std::iter::once(key(1)).chain(entries.iter().map(|(text, _)| (*text).to_owned())).collect();
    let given = Given::env([("GEMINI_KEYS", &list.join(","))]);
    let expected =
        entries.iter().zip(2..).map(|((_, why), entry)| format!("GEMINI_KEYS entry {entry}: {why}; skipped"));
    assert_eq!(given.warnings(), expected.collect::<Vec<_>>());
    assert_eq!(texts(&given.loaded().catalogue), [key(1)]);
}

#[test]
fn duplicates_are_named_masked_with_both_places_and_skipped() {
    let given = Given::env([("GEMINI_KEYS", &format!("{0},{0}", key(1))), ("GOOGLE_API_KEY", &key(1))]);
    assert_eq!(
        given.warnings(),
        [
            "GEMINI_KEYS entry 2: the key …0001 was given before (GEMINI_KEYS entry 1); skipped",
            "GOOGLE_API_KEY: the key …0001 was given before (GEMINI_KEYS entry 1); skipped",
        ]
    );
    assert_eq!(texts(&given.loaded().catalogue), [key(1)]);
}

#[test]
fn none_left_is_an_error_that_says_where_was_looked_and_what_to_set() {
    let given = Given::env([("GEMINI_KEYS", "short, \"quoted-key-0001\""), ("GEMINI_API_KEY", "  ")]);
    let fault = given.fault();
    for part in [
        "keys: no usable key was found; looked at KEYBROKER_CONFIG and --config (not set)",
        "GEMINI_KEYS (0 usable of 2)",
        "GEMINI_API_KEYS (not set)",
        "GEMINI_API_KEY (not set)",
        "GEMINI_API_KEY_1 to GEMINI_API_KEY_100 (not set)",
        "GOOGLE_API_KEY (not set)",
        "GEMINI_FREE_KEYS (not set)",
        "GEMINI_PAID_KEY (not set)",
        "KEYBROKER_KEY_FILE (not set)",
        "GEMINI_KEY_FILE (not set)",
        "set GEMINI_KEYS to one or more keys separated by commas, or KEYBROKER_CONFIG to a file",
    ] {
        assert!(fault.contains(part), "{part} in {fault}");
    }
    let shown = given.load().unwrap_err().to_string();
    assert!(
        shown.contains("warning: GEMINI_KEYS entry 1: … is shorter"),
        "the skipped are told too: {shown}"
    );
}

#[test]
fn keys_of_known_formats_are_taken_without_a_warning_and_others_with_one_for_all() {
    let old = format!("{}{}", "AIza", "A".repeat(35));
    let new = format!("{}{}", "AQ.", "A".repeat(50));
    let mut given = Given::env([("GEMINI_KEYS", &format!("{old},{new}"))]);
    let of_formats = |given: &Given| {
        let warnings = given.loaded().warnings.into_iter().filter(|warning| warning.place == "keys");
        warnings.map(|warning| warning.text).collect::<Vec<_>>()
    };
    assert!(of_formats(&given).is_empty());
    let others: Vec<_> = (1..=9).map(key).collect();
    given.set("GEMINI_API_KEYS", &others.join(","));
    let warnings = of_formats(&given);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("9 of 11 keys have a format not known to be Google's"), "{warnings:?}");
}

#[test]
fn keys_beside_a_file_are_added_unless_the_file_has_them() {
    let mut given = Given::file(
        "[[projects]]\nid = \"a\"\nkeys = [ { id = \"mine\", secret = \"test-key-aaaaaaaa-0001\" } ]\n",
    );
    given.set("GEMINI_KEYS", &format!("{},{}", key(1), key(2)));
    let catalogue = given.loaded().catalogue;
    assert_eq!(texts(&catalogue), [key(1), key(2)]);
    assert_eq!(key_of(&catalogue, &key(1)).1.id, "mine");
    assert_eq!(
        given.warnings(),
        [
            "GEMINI_KEYS entry 1: the key …0001 is in the file (keys.toml:3: projects[0].keys[0]), which stands"
        ]
    );
}

#[test]
fn a_variable_that_the_file_itself_names_is_not_warned_of() {
    let mut given = Given::file("[[projects]]\nid = \"a\"\nkeys = [ { secret = \"env:GEMINI_API_KEY\" } ]\n");
    given.set("GEMINI_API_KEY", &key(1));
    assert!(given.warnings().is_empty());
    assert_eq!(given.loaded().catalogue.keys().count(), 1);
}

#[test]
fn plain_keys_take_the_default_limits_of_the_default_pool() {
    let mut given = Given::file("[[pools]]\nlimits = [ { requests_per_minute = 9 } ]\n");
    given.set("GEMINI_API_KEY", &key(1));
    let catalogue = given.loaded().catalogue;
    let (project, _) = key_of(&catalogue, &key(1));
    assert_eq!(pool(&catalogue, "default").limits_for(project, "m"), [Limit::requests_per_minute(9)]);
}

#[test]
fn plain_keys_make_a_default_pool_where_the_file_has_only_others() {
    let mut given = Given::file("[[pools]]\nname = \"batch\"\n");
    given.set("GEMINI_API_KEY", &key(1));
    assert_eq!(given.loaded().catalogue.pools.keys().collect::<Vec<_>>(), ["batch", "default"]);
}
