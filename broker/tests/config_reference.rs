//! The tables of `docs/configuration.md` are those that the file is read by.

mod config_support;

use std::path::{Path, PathBuf};
use std::{env, fs};

use config_support::Given;
use keybroker::config::reference;

#[test]
fn every_field_of_the_reference_is_read() {
    for table in reference::TABLES {
        for name in table.names() {
            // No field is a date, so whatever reads it says so.
            let given = Given::file(&format!("{}{name} = 1979-05-27\n", table.header));
            let faults = given.faults();
            let said = format!("{name}: is a date; ");
            assert!(faults.iter().any(|fault| fault.contains(&said)), "{}: {faults:#?}", table.name);
        }
    }
}

#[test]
fn a_field_that_is_in_no_table_is_a_fault_everywhere() {
    for table in reference::TABLES {
        let faults = Given::file(&format!("{}colour = 1\n", table.header)).faults();
        assert!(
            faults.iter().any(|fault| fault.contains("colour: unknown field; ")),
            "{}: {faults:#?}",
            table.name
        );
    }
}

/// The page with the text between each pair of marks replaced by what the code says.
fn with_tables(page: &str) -> String {
    reference::sections().into_iter().fold(page.to_owned(), |page, (name, table)| {
        let (begin, end) = (format!("<!-- from the code: {name} -->\n"), "<!-- end -->");
        let parts = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?)));
        let Some((before, (_, after))) = parts else { panic!("no mark for {name}: {begin}{end}") };
        format!("{before}{begin}\n{table}\n{end}{after}")
    })
}

#[test]
fn the_page_shows_the_tables_as_they_are() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let expected = with_tables(&page);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    } else if page != expected {
        let first = page.lines().zip(expected.lines()).find(|(is, should)| is != should);
        panic!(
            "docs/configuration.md differs from the code at {first:#?}; `make docs-update` writes it anew"
        );
    }
}

#[test]
fn the_whole_reference_names_every_table() {
    let whole = reference::markdown();
    for table in reference::TABLES {
        assert!(whole.contains(&format!("## {}\n\n| field |", table.name)), "{}", table.name);
    }
}
