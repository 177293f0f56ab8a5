//! What `RESULTS.md` owes: of each row of the plan the last run with its date, or why there is none, and of each part of
//! `tests/release` what it has shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::sources::{parts, read};

/// The rows of the reliability plan: threats, load, faults, bad input.
const PLAN: [(&str, usize); 4] = [("T", 30), ("L", 6), ("R", 18), ("F", 9)];

/// What stands in the place of a date where nothing was run; the reason is in the last cell.
const NOT_DONE: &str = "not done";

/// Ids such as `T-01` in a cell.
fn ids(cell: &str) -> impl Iterator<Item = &str> {
    cell.split([',', ' ']).filter(|word| {
        word.split_once('-').is_some_and(|(kind, number)| {
            PLAN.iter().any(|(known, _)| *known == kind) && number.parse::<usize>().is_ok()
        })
    })
}

fn is_date(cell: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.parse::<u16>().is_ok();
    matches!(cell.split('-').collect::<Vec<_>>()[..],
        [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
}

/// The cells of each row of the tables below, an empty first one replaced by the one above it.
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells = line.trim_matches('|').split(" | ").map(str::trim);
        let mut cells: Vec<String> = cells.map(str::to_owned).collect();
        if cells[0].is_empty()
            && let Some(above) = rows.last()
        {
            cells[0].clone_from(&above[0]);
        }
        rows.push(cells);
    }
    rows
}

/// What is wrong with the table: a row without date or reason, an id of the plan without a row.
fn wrong(text: &str) -> String {
    let (mut wrong, mut found) = (String::new(), BTreeMap::<String, usize>::new());
    for cells in rows(text).iter().filter(|cells| cells[0] != "row") {
        let (date, result) = (&cells[1], &cells[cells.len() - 1]);
        let is_told = match date.as_str() {
            // A reason is a sentence.
            NOT_DONE => result.len() > 20,
            _ => is_date(date) && !result.is_empty(),
        };
        if !is_told {
            let _ = writeln!(wrong, "{}: no date, or no result: {date}", cells[0]);
        }
        for id in ids(&cells[0]) {
            *found.entry(id.to_owned()).or_default() += 1;
        }
    }
    for (kind, count) in PLAN {
        for number in 1..=count {
            let id = format!("{kind}-{number:02}");
            if !found.contains_key(&id) {
                let _ = writeln!(wrong, "{id} has no row");
            }
        }
    }
    wrong
}

#[test]
fn every_row_of_the_plan_has_a_result_or_a_reason() {
    assert_eq!(wrong(&read("tests/RESULTS.md")), "");
}

#[test]
fn every_part_of_a_release_has_a_result() {
    let text = read("tests/RESULTS.md");
    let parts = parts(&read("tests/release"));
    assert!(parts.len() > 40, "only {} parts are read", parts.len());
    let missing: Vec<_> = parts
        .iter()
        .filter(|part| !text.contains(&format!("`{part}`")))
        .collect();
    assert!(missing.is_empty(), "no result of {missing:?}");
}

#[test]
fn what_is_missing_is_told() {
    let text = "\
| row | date | result |
|---|---|---|
| T-01, T-02 | 2026-11-29 | seen at no start of them all |
| | yesterday | seen at no start of them all |
| T-03, one | not done | there is nothing to look at |
| T-04 | 2026-11-29 | |
";
    let wrong = wrong(text);
    let told: Vec<&str> = wrong.lines().take(3).collect();
    assert_eq!(
        told,
        [
            "T-01, T-02: no date, or no result: yesterday",
            "T-04: no date, or no result: 2026-11-29",
            "T-05 has no row"
        ]
    );
    assert_eq!(wrong.lines().count(), 2 + 26 + 6 + 18 + 9);
}
