//! What is wrong with a file is said whole: every fault, its place and its fix.

mod config_support;

use config_support::{Given, key};

fn one_project(fields: &str) -> Given {
    Given::file(&format!("[[projects]]\nid = \"a\"\n{fields}\n"))
}

#[test]
fn a_secret_that_cannot_be_had_is_a_fault_that_says_why() {
    let mut given = one_project(
        "keys = [ { secret = \"env:UNSET_KEY\" }, { secret = \"file:missing\" }, { secret = \"file:empty\" }, { secret = \"\" }, {} ]",
    );
    given.write("empty", b"\n");
    given.set("UNSET_KEY", " ");
    let faults = given.faults();
    assert_eq!(faults.len(), 5, "{faults:#?}");
    assert!(
        faults[0].contains("projects[0].keys[0].secret: the variable UNSET_KEY is not set"),
        "{}",
        faults[0]
    );
    assert!(
        faults[1].contains("projects[0].keys[1].secret: the file it names cannot be read"),
        "{}",
        faults[1]
    );
    assert!(faults[2].contains("empty first line"), "{}", faults[2]);
    assert!(faults[3].contains("shorter than 8"), "{}", faults[3]);
    assert!(faults[4].contains("projects[0].keys[4]: has no `secret`"), "{}", faults[4]);
}

#[test]
fn every_fault_of_a_file_is_listed_with_its_line_path_and_fix() {
    let given = one_project(
        "tier = \"gold\"\nkeys = [\n  { secret = \"test-key-aaaaaaaa-0001\", weight = 0 },\n  { secret = \"test-key-aaaaaaaa-0002\", priority = \"high\", wieght = 2 },\n]\n\n[[pools]]\nsend_within = \"1h\"\nlease_ttl = 60",
    );
    let faults = given.faults();
    let expected = [
        "keys.toml:10: pools[0].send_within: is out of range; write 100ms to 30s",
        "keys.toml:11: pools[0].lease_ttl: is a number; write text in quotes",
        "keys.toml:3: projects[0].tier: is not a tier; write \"free\" or \"paid\"",
        "keys.toml:5: projects[0].keys[0].weight: is out of range; write a whole number, 1 to 1000",
        "keys.toml:6: projects[0].keys[1].priority: is a text; write a whole number, 0 to 15",
        "keys.toml:6: projects[0].keys[1].wieght: unknown field; did you mean `weight`?",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for part in expected {
        assert!(faults.iter().any(|fault| fault.starts_with(part)), "{part} in {faults:#?}");
    }
    let shown = given.load().unwrap_err().to_string();
    assert_eq!(shown.lines().count(), 1 + expected.len(), "one a line below a heading: {shown}");
}

#[test]
fn a_syntax_error_has_a_line_and_a_column_and_quotes_nothing() {
    let given = one_project("keys = [ { secret = \"test-key-aaaaaaaa-0001\" weight = 1 } ]");
    let fault = given.fault();
    assert!(fault.starts_with("keys.toml:3:"), "{fault}");
    assert!(!fault.contains("aaaaaaaa"), "{fault}");
}

#[test]
fn an_unknown_field_with_no_near_name_lists_the_known_ones() {
    let fault = Given::file("colour = 1").fault();
    assert_eq!(
        fault,
        "keys.toml:1: colour: unknown field; known here: pools, projects, billing_accounts, model_aliases, prices, plans, consumers, default_plan, hooks, probing, log, identities, tls, jwt, secrets, vault"
    );
}

#[test]
fn a_project_in_a_second_pool_is_a_fault_that_says_how_to_fix_it() {
    let given = Given::file(
        "[[pools]]\nname = \"one\"\n[[pools]]\nname = \"two\"\n\
         [[projects]]\nid = \"a\"\npool = \"one\"\nkeys = [ { secret = \"test-key-aaaaaaaa-0001\" } ]\n\
         [[projects]]\nid = \"a\"\npool = \"two\"\nkeys = [ { secret = \"test-key-aaaaaaaa-0002\" } ]\n",
    );
    let fault = given.fault();
    assert!(fault.contains("the project a is in the pool one") && fault.contains("and in two"), "{fault}");
    assert!(fault.contains("counted in one place; remove one of the two"), "{fault}");
}

#[test]
fn a_project_written_twice_in_one_pool_is_a_fault() {
    let fault = Given::file("[[projects]]\nid = \"a\"\n[[projects]]\nid = \"a\"\n").fault();
    assert!(fault.starts_with("keys.toml:3: projects[1]: the project a was written before"), "{fault}");
}

#[test]
fn a_billing_account_in_two_pools_is_a_fault() {
    let given = Given::file(
        "[[pools]]\nname = \"one\"\n[[pools]]\nname = \"two\"\n\
         [[projects]]\nid = \"a\"\npool = \"one\"\nbilling_account = \"acct\"\n\
         [[projects]]\nid = \"b\"\npool = \"two\"\nbilling_account = \"acct\"\n",
    );
    let fault = given.fault();
    assert!(
        fault.starts_with("keys.toml:12: projects[1].billing_account: the billing account acct"),
        "{fault}"
    );
    assert!(fault.contains("move its projects into the pool one"), "{fault}");
}

#[test]
fn a_pool_that_is_not_there_is_a_fault_that_suggests_one_that_is() {
    let fault = one_project("pool = \"batsh\"\n[[pools]]\nname = \"batch\"").fault();
    assert!(fault.contains("there is no pool batsh; did you mean \"batch\"?"), "{fault}");
    let fault = one_project("[[pools]]\nname = \"batch\"").fault();
    assert!(
        fault.contains("there is no pool default; add it as [[pools]], or set pool to one of: batch"),
        "{fault}"
    );
}

#[test]
fn a_pool_written_twice_is_a_fault() {
    let fault = Given::file("[[pools]]\n[[pools]]\nname = \"default\"").fault();
    assert!(fault.contains("pools[1].name: the pool default was written before"), "{fault}");
}

#[test]
fn a_key_given_in_two_projects_is_a_fault_that_names_both_places() {
    let given = Given::file(
        "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"test-key-aaaaaaaa-0001\" } ]\n\
         [[projects]]\nid = \"b\"\nkeys = [ { secret = \"test-key-aaaaaaaa-0001\" } ]\n",
    );
    let fault = given.fault();
    assert!(
        fault.contains(
            "projects[1].keys[0]: the key …0001 is given twice, first at keys.toml:3: projects[0].keys[0]"
        ),
        "{fault}"
    );
}

#[test]
fn a_key_id_given_twice_is_a_fault() {
    let given = one_project(
        "keys = [ { id = \"k\", secret = \"test-key-aaaaaaaa-0001\" }, { id = \"k\", secret = \"test-key-aaaaaaaa-0002\" } ]",
    );
    assert!(given.fault().contains("the key id k was given before"));
}

#[test]
fn ids_are_1_to_63_letters_digits_dots_hyphens_and_underscores() {
    for id in ["", "a b", "ä", "a/b", &"a".repeat(64)] {
        let fault = Given::file(&format!("[[projects]]\nid = \"{id}\"\n")).fault();
        assert!(fault.contains("projects[0].id: is not a valid name; use 1 to 63 letters"), "{fault}");
    }
    assert!(Given::file("[[projects]]\n").fault().contains("projects[0]: has no `id`"));
}

#[test]
fn a_name_that_holds_a_key_is_a_fault_because_names_are_printed() {
    let given = one_project(
        "keys = [ { id = \"test-key-aaaaaaaa-0001\", secret = \"test-key-aaaaaaaa-0001\", labels = { note = \"was test-key-aaaaaaaa-0001\" } } ]",
    );
    let faults = given.faults();
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(
        faults.iter().all(|fault| fault.contains("holds the text of a key") && !fault.contains("aaaaaaaa"))
    );
}

#[test]
fn limits_that_would_hold_nothing_back_or_twice_are_faults() {
    let given = Given::file(
        "[[projects]]\nid = \"a\"\nlimits = [ { model = \"m\" }, { model = \"al*as\", in_flight = 1 }, { model = \"alias\", in_flight = 1 },\n\
         { model = \"x\", in_flight = 1 }, { model = \"x\", in_flight = 2 }, { model = \"y\", in_flight = 0 } ]\n\
         [model_aliases]\nalias = \"real\"\n",
    );
    let faults = given.faults();
    let expected = [
        "limits[0]: names no limit",
        "limits[1].model: is not a model pattern",
        "limits[2].model: the model alias counts as real",
        "limits[4].in_flight: was given for this model before",
        "limits[5].in_flight: is out of range",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, part) in faults.iter().zip(expected) {
        assert!(fault.contains(part), "{part} in {fault}");
    }
}

#[test]
fn an_alias_of_an_alias_is_a_fault_that_names_the_last_one() {
    let fault = Given::file("[model_aliases]\na = \"b\"\nb = \"c\"\nd = \"d\"").fault();
    assert!(
        fault.contains("model_aliases.a: b is itself an alias") && fault.contains("write \"c\""),
        "{fault}"
    );
}

#[test]
fn a_project_without_keys_is_warned_of_and_a_file_without_any_is_refused() {
    let fault = one_project("").fault();
    assert!(
        fault.contains(
            "no usable key was found; looked at keys.toml (no usable keys), GEMINI_FREE_KEYS (not set)"
        ),
        "{fault}"
    );
    let mut given = one_project("");
    given.set("GEMINI_API_KEY", &key(1));
    assert_eq!(given.warnings(), ["keys.toml:1: projects[0]: has no keys, so nothing is leased from it"]);
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_whoever_names_it() {
    let mut given = Given::nothing();
    given.set("KEYBROKER_CONFIG", "/nowhere/keys.toml");
    assert!(given.fault().starts_with("/nowhere/keys.toml: cannot be read: "));
    assert!(Given::bytes(b"# fine\n\xff").fault().contains("not UTF-8 text (line 2)"));
}

#[test]
fn levels_that_would_log_nothing_are_a_fault() {
    let given = one_project("[log]\nlevel = \"infoo\"\nrefusals_per_second = 1001");
    let faults = given.faults();
    let expected = [
        "keys.toml:5: log.refusals_per_second: is out of range; write a whole number, 0 to 1000",
        "keys.toml:4: log.level: is not a level or directive; write error, warn, info, debug or trace",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for part in expected {
        assert!(faults.iter().any(|fault| fault.starts_with(part)), "{part} in {faults:#?}");
    }
    assert!(one_project("[log]\nlevel = 3").fault().contains("log.level: is a number"));
}
