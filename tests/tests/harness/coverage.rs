//! Every row and every rule that the project promises a test for has one, by its name.

use std::fmt::Write as _;
use std::path::Path;

/// The names of all scenarios below a directory of tests.
fn scenarios_in(directory: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(directory);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).expect("the tests are where they were built") {
        let path = entry.expect("an entry").path();
        let source = std::fs::read_to_string(path).expect("a source file");
        let functions = source.split("\nasync fn ").skip(1);
        names.extend(functions.filter_map(|rest| Some(rest.split('(').next()?.to_owned())));
    }
    names
}

fn missing(names: &[String], prefixes: impl Iterator<Item = String>) -> String {
    let mut missing = String::new();
    for prefix in prefixes {
        if !names
            .iter()
            .any(|name| name.starts_with(&prefix) || name.contains(&format!("_and_{prefix}")))
        {
            let _ = write!(missing, "{prefix} ");
        }
    }
    missing
}

/// Wire specification, section 17.
#[test]
fn every_defect_of_the_reference_has_its_test() {
    let names = scenarios_in("proxy");
    let rows = (1..=38).map(|row| format!("q{row:02}_"));
    assert_eq!(missing(&names, rows.chain(["q17b_".to_owned()])), "");
}

/// Wire specification, section 12.
#[test]
fn every_rule_of_the_relay_has_its_test() {
    let names = scenarios_in("relay");
    assert_eq!(
        missing(&names, (1..=14).map(|rule| format!("rule{rule}_"))),
        ""
    );
}
