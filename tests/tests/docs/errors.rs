//! `docs/errors.md`: every reason of the contract and every kind of error of the SDKs is in it, and no other.

use std::{collections::BTreeSet, fs};

use keybroker_proto::v1::{AdminErrorReason, ErrorReason};

use super::root;

/// The cells of the table below a heading, without their backticks; the heads are left out.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("there is no {heading}"));
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
    rows.skip(1).map(cells).collect()
}

fn first_column(heading: &str) -> BTreeSet<String> {
    table(heading).into_iter().map(|row| row[0].clone()).collect()
}

#[test]
fn every_reason_is_told_with_its_cure() {
    let reasons = (1..200).filter_map(|number| ErrorReason::try_from(number).ok());
    let reasons: BTreeSet<_> = reasons.map(|reason| reason.as_str_name().to_owned()).collect();
    assert_eq!(first_column("Reasons"), reasons);
    let reasons = (1..200).filter_map(|number| AdminErrorReason::try_from(number).ok());
    let reasons: BTreeSet<_> = reasons.map(|reason| reason.as_str_name().to_owned()).collect();
    assert_eq!(first_column("Reasons of operators' calls"), reasons);
    for row in table("Reasons").into_iter().chain(table("Reasons of operators' calls")) {
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

#[test]
fn every_kind_of_error_of_the_sdks_is_told_by_its_name_in_each() {
    let source = |path: &str| fs::read_to_string(root().join("client-sdk").join(path)).unwrap();
    let go = source("go/errors.go");
    let kinds = go.lines().filter_map(|line| line.split_once(" Kind = \"")?.1.strip_suffix('"'));
    // `transport` is Google's silence, and `other` whatever has no name.
    let kinds: BTreeSet<_> =
        kinds.filter(|kind| !["transport", "other"].contains(kind)).map(str::to_owned).collect();
    assert!(kinds.len() >= 12, "{kinds:?}");
    assert_eq!(first_column("Errors of the SDKs"), kinds);
    let (python, js, rust) =
        (source("python/src/keybroker/errors.py"), source("js/src/errors.ts"), source("rust/src/error.rs"));
    for row in table("Errors of the SDKs") {
        let [kind, in_python, in_go, in_js, in_rust, retryable, ..] = row.as_slice() else {
            panic!("{row:?}")
        };
        let class = python.split_once(&format!("class {in_python}(KeybrokerError)")).map(|(_, rest)| rest);
        let class =
            class.and_then(|rest| rest.split("\nclass ").next()).unwrap_or_else(|| panic!("no {in_python}"));
        assert!(class.contains(&format!("kind = \"{kind}\"")), "{in_python} is not {kind}");
        assert_eq!(class.contains("retryable = True"), retryable == "yes", "{in_python}");
        assert!(go.contains(&format!("type {in_go} struct")), "{in_go}");
        assert!(js.contains(&format!("class {in_js} ")), "{in_js}");
        assert!(rust.contains(&format!("    {in_rust}")), "{in_rust}");
    }
}
