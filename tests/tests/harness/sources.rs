//! The project's own sources and scripts, read for the tests in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Macros that make a test of every name they are given.
const MAKERS: [&str; 5] = [
    "on_own_choice!",
    "on_each_loop!",
    // Of the service: the rules that all its stores hold.
    "suite!",
    "rule_tests!",
    "registry_conformance!",
];

/// Where sources with tests are.
const PLACES: [&str; 8] = [
    "cli",
    "engine",
    "loadgen",
    "process",
    "proto",
    "service",
    "tests/src",
    "tests/tests",
];

/// The top of the project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the project.
pub(crate) fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The names of all tests that cargo would run.
pub(crate) fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for place in PLACES {
        names.extend(tests_below(place));
    }
    names
}

/// The names of all tests below a directory of the project.
pub(crate) fn tests_below(place: &str) -> BTreeSet<String> {
    let mut directories = vec![root().join(place)];
    let mut names = BTreeSet::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                names.extend(tests_in(
                    &std::fs::read_to_string(path).expect("a source file"),
                ));
            }
        }
    }
    names
}

/// The names of the tests in a source.
pub(crate) fn tests_in(source: &str) -> BTreeSet<String> {
    let mut names = with_attribute(source);
    for maker in MAKERS {
        for (at, _) in source.match_indices(maker) {
            let list = in_brackets(source[at + maker.len()..].trim_start());
            names.extend(words(list.unwrap_or_default()));
        }
    }
    names
}

/// Functions with an attribute such as `#[test]` or `#[tokio::test(…)]` right above them.
fn with_attribute(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut is_test, mut in_attribute) = (false, false);
    for line in source.lines().map(str::trim) {
        if in_attribute || line.starts_with("#[") {
            is_test |= !in_attribute && is_test_attribute(line);
            in_attribute = !line.ends_with(']');
        } else if let Some(name) = function(line) {
            if is_test {
                names.insert(name.to_owned());
            }
            is_test = false;
        } else if !line.starts_with("//") {
            is_test = false;
        }
    }
    names
}

fn is_test_attribute(line: &str) -> bool {
    let path = line.trim_start_matches("#[");
    let path = path.split(['(', ']', ' ']).next().unwrap_or_default();
    path.rsplit("::").next() == Some("test")
}

/// The name of the function that begins in this line.
pub(crate) fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async ").unwrap_or(line);
    let (name, _) = rest.strip_prefix("fn ")?.split_once('(')?;
    Some(name)
}

/// What is between a bracket, the first character, and the one that closes it.
fn in_brackets(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth = depth.checked_sub(1)?,
            _ if depth == 0 => return None,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[1..at]);
        }
    }
    None
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(move |character| !is_part(character));
    words.filter(|word| word.contains('_')).map(str::to_owned)
}

/// The parts that a script offers: those of its arrays, each of which has to be a function, too.
pub(crate) fn parts(script: &str) -> BTreeSet<String> {
    let arrays = script.split("=(\n").skip(1);
    let arrays = arrays.filter_map(|rest| rest.split_once("\n)\n"));
    let lines = arrays.flat_map(|(array, _)| array.lines());
    let names = lines.filter_map(|line| line.trim().split_once(":\"").map(|(name, _)| name));
    names
        .filter(|name| script.contains(&format!("\n{name}() {{\n")))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod of_this {
    use super::*;

    #[test]
    fn a_test_is_known_by_its_attribute_or_its_macro() {
        let source = "
            #[test]
            fn plain_one() {}
            #[tokio::test(flavor = \"multi_thread\")]
            /// With words.
            #[expect(
                lint,
                reason = \"in several lines\"
            )]
            async fn long_one() {}
            fn helper_of_both() {}
            #[cfg(test)]
            fn only_compiled_there() {}
            // #[test]
            fn left_out() {}
            #[test]
            const NOT_A_FUNCTION: u8 = 0;
            fn after_it() {}
            async fn sentence_one(scenario: Scenario) {}
            async fn sentence_two(scenario: Scenario) {}
            async fn never_listed(scenario: Scenario) {}
            on_own_choice!(within LIMIT; sentence_one);
            suite! { $place; module { sentence_two, sentence_three } }
            fn this_names(on_own_choice: u8) {}
        ";
        let names: Vec<String> = tests_in(source).into_iter().collect();
        let expected = [
            "long_one",
            "plain_one",
            "sentence_one",
            "sentence_three",
            "sentence_two",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_part_is_in_the_array_and_a_function() {
        let script = "usage() {\n}\nparts=(\n  one:\"first\"\n  two:\"second\"\n)\n\none() {\n}\n";
        assert_eq!(parts(script).into_iter().collect::<Vec<_>>(), ["one"]);
    }
}
