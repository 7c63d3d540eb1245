//! No input makes a key's text appear in anything that is printed, and none makes a panic.

mod config_support;

use config_support::{Given, key};
use keybroker::config::summary;
use proptest::prelude::*;

/// Everything that could be printed of an outcome.
fn printed(given: &Given) -> String {
    match given.load() {
        Ok(loaded) => {
            let shown: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
            format!("{loaded:?}\n{:#?}\n{}\n{}", loaded, shown.join("\n"), summary(&loaded).join("\n"))
        }
        Err(error) => format!("{error}\n{error:?}\n{error:#?}"),
    }
}

/// The part of every test key that no mask shows.
const HIDDEN: &str = "key-aaaaaaaa";

#[track_caller]
fn assert_silent(given: &Given) {
    let shown = printed(given);
    assert!(!shown.contains(HIDDEN), "{shown}");
}

/// Files with a key where one belongs, and where nothing or no text does.
const FILES: &[&str] = &[
    "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\", weight = 0 } ]",
    "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" weight = 0 } ]",
    "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY",
    "[[projects]]\nid = \"a\"\nkeys = [ KEY ]",
    "[[projects]]\nid = \"a\"\nkeys = [ \"KEY\" ]",
    "[[projects]]\nid = \"a\"\nkeys = \"KEY\"",
    "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY KEY\" } ]",
    "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"'KEY'\" } ]",
    "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"env:KEY\" } ]",
    "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"file:KEY\" } ]",
    "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" }, { secret = \"KEY\" } ]",
    "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]\n[[projects]]\nid = \"b\"\nkeys = [ { secret = \"KEY\" } ]",
    "[projects.KEY]\nid = 1",
    "KEY = \"KEY\"",
    "KEY",
    "[[hooks]]\nname = \"a\"\nevents = [\"KEY\"]\nurl = \"KEY\"",
    "[[hooks]]\nname = \"a\"\nevents = [\"*\"]\nurl = \"https://h.example.com/?key=KEY\"",
    "[[hooks]]\nname = \"a\"\nevents = [\"*\"]\nurl = \"env:KEY\"\nformat = \"KEY\"\npools = [\"KEY\"]",
    "[[hooks]]\nname = \"a\"\nevents = [\"*\"]\ncommand = [\"/bin/x\", \"KEY\"]",
    "[[hooks]]\nname = \"a\"\nevents = [\"*\"]\ncommand = [\"KEY\"]",
    "[probing]\nmodel = [\"KEY\"]\nbase_url = \"KEY\"\nfirst = \"KEY\"",
    "[[prices]]\nmodel = [\"KEY\"]\ninput_per_million = \"KEY\"",
    "[[pools]]\nstrategy = \"KEY\"\nlearn_limits = \"KEY\"\nmargin_percent = \"KEY\"\ntotals = \"KEY\"",
    "[[plans]]\nname = \"a\"\nmode = \"KEY\"\nspend_per_day = \"KEY\"",
    "[[KEY]]\n[[pools]]\nsend_within = \"KEY\"\nlease_ttl = \"KEY\"",
];

/// Files with a key where one belongs and also where a name does.
const NAMES: &[&str] = &[
    "[[projects]]\nid = \"KEY\"\nkeys = [ { id = \"KEY\", secret = \"KEY\", labels = { KEY = \"KEY\" } } ]",
    "[[projects]]\nid = \"KEY\"\npool = \"KEY\"\nbilling_account = \"KEY\"\nkeys = [ { secret = \"KEY\" } ]",
    "[[pools]]\nname = \"KEY\"\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "[[projects]]\nid = \"a\"\nlimits = [ { model = \"KEY\", in_flight = 1 } ]\nkeys = [ { secret = \"KEY\" } ]",
    "[model_aliases]\nKEY = \"KEY\"\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "default_plan = \"KEY\"\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "[[plans]]\nname = \"KEY\"\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "[[consumers]]\nid = \"KEY\"\nplan = \"KEY\"\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "[[consumers]]\nid = \"KEY\"\nplan = \"default\"\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "[[billing_accounts]]\nid = \"KEY\"\ntotals = { in_flight = 1 }\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "[[hooks]]\nname = \"KEY\"\nevents = [\"*\"]\nurl = \"https://h/KEY\"\nlabels = { KEY = \"KEY\" }\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "[probing]\nmodel = \"KEY\"\nbase_url = \"https://KEY\"\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "[[prices]]\nmodel = \"KEY\"\n[[projects]]\nid = \"a\"\nkeys = [ { secret = \"KEY\" } ]",
    "[[projects]]\nid = \"KEY\"\nkeys = [ { secert = \"KEY\" } ]",
    "[[pools]]\nname = \"KEY\"\n[[projects]]\nid = \"a\"\nkys = [ { secret = \"KEY\" } ]",
];

#[test]
fn no_malformed_file_makes_its_key_appear() {
    for file in FILES.iter().chain(NAMES) {
        assert_silent(&Given::file(&file.replace("KEY", &key(1))));
    }
}

/// Every variable that is looked at.
const VARIABLES: &[&str] = &[
    "GEMINI_KEYS",
    "GEMINI_API_KEYS",
    "GEMINI_API_KEY",
    "GEMINI_API_KEY_1",
    "GEMINI_API_KEY_100",
    "GOOGLE_API_KEY",
    "GEMINI_FREE_KEYS",
    "GEMINI_PAID_KEY",
    "GEMINI_FREE_RATE_LIMIT",
    "GEMINI_PAID_RATE_LIMIT",
    "KEYBROKER_CONSUMER_RATE_LIMIT",
    "KEYBROKER_KEY_FILE",
    "GEMINI_KEY_FILE",
];

#[test]
fn no_malformed_value_makes_its_key_appear() {
    let values = [
        "KEY",
        "KEY KEY",
        "\"KEY\"",
        "KEY;KEY",
        "KEY,KEY",
        "[KEY]",
        "$KEY",
        "KEY\u{7f}",
        "KEYä",
        "key=KEY",
        "KEY\\",
    ];
    for variable in VARIABLES {
        for value in values {
            let value = value.replace("KEY", &key(1));
            assert_silent(&Given::env([(variable, &value)]));
            assert_silent(&Given::env([(variable, &value), ("GEMINI_API_KEY_9", &key(1))]));
        }
    }
}

/// A text with keys, separators and odd characters in any order.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop_oneof![
        3 => (1_u32..4).prop_map(key),
        2 => prop::sample::select(vec![",", "\n", " ", "\"", "'", ";", "#", "=", "$", "[", "]", "{", "}", "\\", "\0", "é", "\u{feff}"])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(scrap, 0..12).prop_map(|scraps| scraps.concat())
}

/// A file that is nearly right: one of [`FILES`] with some of its bytes gone or replaced. Not one of
/// [`NAMES`]: with the place of the key spoilt, nothing tells that the name is a key's text.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(any::<u8>())), 0..4);
    (prop::sample::select(FILES), edits).prop_map(|(file, edits)| {
        // Only what surrounds the keys is edited: an edited key is another key.
        let mut bytes = file.as_bytes().to_vec();
        for (index, edit) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match edit {
                Some(byte) => bytes[at] = byte,
                None => drop(bytes.remove(at)),
            }
        }
        let mut filled = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some(at) = rest.windows(3).position(|window| window == b"KEY") {
            filled.extend_from_slice(&rest[..at]);
            filled.extend_from_slice(key(1).as_bytes());
            rest = &rest[at + 3..];
        }
        filled.extend_from_slice(rest);
        filled
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_values_never_panic_and_never_print_a_key(
        values in prop::collection::vec((prop::sample::select(VARIABLES), scraps()), 1..5),
    ) {
        let mut given = Given::nothing();
        for (name, value) in &values {
            given.set(name, value);
        }
        let shown = printed(&given);
        prop_assert!(!shown.contains(HIDDEN), "{}", shown);
    }

    #[test]
    fn arbitrary_bytes_of_a_file_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        drop(printed(&Given::bytes(&bytes)));
    }

    #[test]
    fn arbitrary_scraps_as_a_file_never_panic_and_never_print_a_key(text in scraps()) {
        let shown = printed(&Given::file(&text));
        prop_assert!(!shown.contains(HIDDEN), "{}", shown);
    }

    #[test]
    fn files_that_are_nearly_right_never_panic_and_never_print_a_key(bytes in nearly_right()) {
        let shown = printed(&Given::bytes(&bytes));
        prop_assert!(!shown.contains(HIDDEN), "{}", shown);
    }
}
