//! Every row and every rule that the project promises a test for has one, by its name.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::sources::{parts, read, root, tests, tests_below};

fn missing(names: &BTreeSet<String>, prefixes: impl Iterator<Item = String>) -> String {
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
    let names = tests_below("tests/tests/proxy");
    let rows = (1..=38).map(|row| format!("q{row:02}_"));
    assert_eq!(missing(&names, rows.chain(["q17b_".to_owned()])), "");
}

/// Wire specification, section 12.
#[test]
fn every_rule_of_the_relay_has_its_test() {
    let names = tests_below("tests/tests/relay");
    assert_eq!(
        missing(&names, (1..=14).map(|rule| format!("rule{rule}_"))),
        ""
    );
}

/// A row of `RULES.md`: its rule, and the file and the function of each of its tests.
fn rules() -> Vec<(String, Vec<(String, String)>)> {
    let table = read("tests/RULES.md");
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let rows = rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (id, _, tests) = (cells.next()?, cells.next()?, cells.next()?);
        id.starts_with(|first: char| first.is_ascii_digit())
            .then(|| {
                let texts: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
                let tests = texts.chunks(2).filter_map(|pair| match pair {
                    [file, name] => Some(((*file).to_owned(), (*name).to_owned())),
                    _ => None,
                });
                (id.to_owned(), tests.collect())
            })
    });
    rows.collect()
}

/// Wire specification, sections 1 to 16.
#[test]
fn every_rule_of_the_wire_has_its_test() {
    let known = tests();
    let (mut wrong, mut ids) = (String::new(), Vec::new());
    for (id, tests) in rules() {
        if tests.is_empty() {
            let _ = writeln!(wrong, "{id} has no test");
        }
        for (file, name) in tests {
            let source = std::fs::read_to_string(root().join(&file)).unwrap_or_default();
            if !source.contains(&format!("fn {name}(")) || !known.contains(&name) {
                let _ = writeln!(wrong, "{id}: there is no test {name} in {file}");
            }
        }
        ids.push(id);
    }
    for (section, count) in RULES_OF_SECTIONS {
        let of_section = |id: &&String| id.split(['.', '-']).next() == Some(section);
        let found = ids.iter().filter(of_section).count();
        if found != count {
            let _ = writeln!(wrong, "section {section} has {found} rules of {count}");
        }
    }
    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "a rule comes twice");
    assert_eq!(wrong, "");
}

/// Names of tests, files and parts of `tests/release` in the table of `SECURITY.md`.
#[test]
fn what_shows_that_a_threat_is_met_exists() {
    let known = tests();
    let parts = parts(&read("tests/release"));
    let text = read("SECURITY.md");
    let (mut wrong, mut count) = (String::new(), 0);
    for row in text.lines().filter(|line| line.starts_with("| T-")) {
        let shown_by = row.trim_end_matches([' ', '|']).rsplit(" | ").next();
        let names = shown_by.unwrap_or_default().split('`').skip(1).step_by(2);
        for name in names {
            count += 1;
            let file = name.split(' ').next().unwrap_or_default();
            let is_there = known.contains(name)
                || file.contains('/') && root().join(file).exists()
                || parts.contains(name);
            if !is_there {
                let _ = writeln!(wrong, "there is no {name}: {row}");
            }
        }
    }
    assert_eq!(wrong, "");
    assert!(count > 30, "only {count} names are read");
}

/// How many rules each section has, so that none is lost unseen.
const RULES_OF_SECTIONS: [(&str, usize); 16] = [
    ("1", 36),
    ("2", 14),
    ("3", 6),
    ("4", 11),
    ("5", 12),
    ("6", 11),
    ("7", 29),
    ("8", 6),
    ("9", 12),
    ("10", 7),
    ("11", 14),
    ("12", 14),
    ("13", 11),
    ("14", 12),
    ("15", 5),
    ("16", 6),
];
