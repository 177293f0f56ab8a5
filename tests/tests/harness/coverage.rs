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

/// A row of `RULES.md`: its rule, and the file and the function of each of its tests.
fn rules() -> Vec<(String, Vec<(String, String)>)> {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("RULES.md");
    let table = std::fs::read_to_string(table).expect("the table of rules");
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut wrong, mut ids) = (String::new(), Vec::new());
    for (id, tests) in rules() {
        if tests.is_empty() {
            let _ = writeln!(wrong, "{id} has no test");
        }
        for (file, name) in tests {
            let source = std::fs::read_to_string(root.join(&file)).unwrap_or_default();
            if !source.contains(&format!("fn {name}(")) {
                let _ = writeln!(wrong, "{id}: there is no {name} in {file}");
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read =
        |file: &str| std::fs::read_to_string(root.join(file)).expect("a file of the project");
    let sources = sources_of(&root);
    let is_test = |name: &str| {
        let head = format!("fn {name}(");
        sources.iter().any(|source| source.contains(&head))
    };
    let (text, release) = (read("SECURITY.md"), read("tests/release"));
    let (mut wrong, mut count) = (String::new(), 0);
    for row in text.lines().filter(|line| line.starts_with("| T-")) {
        let shown_by = row.trim_end_matches([' ', '|']).rsplit(" | ").next();
        let names = shown_by.unwrap_or_default().split('`').skip(1).step_by(2);
        for name in names {
            count += 1;
            let file = name.split(' ').next().unwrap_or_default();
            let is_there = is_test(name)
                || file.contains('/') && root.join(file).exists()
                || release.contains(&format!("\n{name}() {{"));
            if !is_there {
                let _ = writeln!(wrong, "there is no {name}: {row}");
            }
        }
    }
    assert_eq!(wrong, "");
    assert!(count > 30, "only {count} names are read");
}

/// Every Rust source of the crates.
fn sources_of(root: &Path) -> Vec<String> {
    let crates = [
        "cli",
        "engine",
        "proto",
        "service",
        "tests/src",
        "tests/tests",
    ];
    let mut directories: Vec<_> = crates.map(|name| root.join(name)).into();
    let mut sources = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                sources.push(std::fs::read_to_string(&path).expect("a source file"));
            }
        }
    }
    sources
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
