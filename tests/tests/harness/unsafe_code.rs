//! Every `unsafe` carries an argument of its own. Lints see that there is one in what is compiled; this sees that it
//! is two notes, why and what makes it sound, that no two are the same, and what the lints do not reach: the fuzzer's
//! workspace, and code behind a condition.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where it may be: the drivers, and allocators that count for tests.
const HOMES: [&str; 5] = [
    "engine/src/ring/",
    "engine/tests/steady_state.rs",
    "engine/tests/relay_allocations.rs",
    "engine/tests/sealing_and_opening_in_place_allocates_nothing.rs",
    "bench/benches/gate/allocations.rs",
];

/// One block or implementation.
struct Site {
    line: usize,
    /// The comment right above its statement.
    notes: String,
}

#[test]
fn every_unsafe_block_has_an_argument_of_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut wrong, mut count) = (String::new(), 0);
    for path in sources_below(&root) {
        let source = std::fs::read_to_string(&path).expect("a source file");
        let name = path.strip_prefix(&root).expect("below the root").display();
        let name = name.to_string();
        let is_driver = name.starts_with(HOMES[0]);
        let mut arguments = HashMap::new();
        for Site { line, notes } in sites_in(&source) {
            count += 1;
            let place = format!("{name}:{line}");
            if !HOMES.iter().any(|home| name.starts_with(home)) {
                let _ = writeln!(wrong, "{place}: unsafe has no place here");
            }
            if is_driver && !notes.contains("WHY: ") {
                let _ = writeln!(wrong, "{place}: does not say why");
            }
            let Some((_, argument)) = notes.split_once("SAFETY: ") else {
                let _ = writeln!(wrong, "{place}: does not say what makes it sound");
                continue;
            };
            // An argument that fits two blocks of a driver says too little about either.
            if let (true, Some(other)) = (is_driver, arguments.insert(argument.to_owned(), line)) {
                let _ = writeln!(wrong, "{place}: the same argument as in line {other}");
            }
        }
    }
    assert_eq!(wrong, "");
    assert!(count > 30, "only {count} were found");
}

#[test]
fn a_block_without_an_argument_is_found() {
    let source = "\
// WHY: a reason.\n// SAFETY: an argument.\nlet a = unsafe { b() };\n\nunsafe { c() };\n\
// SAFETY: of many\n// lines.\nlet size =\n    unsafe { d() };\n/// Not `unsafe { x }`.\nunsafe impl E for F {}\n";
    let found: Vec<_> = sites_in(source)
        .map(|site| (site.line, site.notes))
        .collect();
    let notes = |text: &str| text.to_owned();
    let expected = [
        (3, notes("WHY: a reason. SAFETY: an argument.")),
        (5, notes("")),
        (9, notes("SAFETY: of many lines.")),
        (11, notes("")),
    ];
    assert_eq!(found, expected);
}

fn sites_in(source: &str) -> impl Iterator<Item = Site> {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let sites = (0..lines.len()).filter_map(move |at| {
        let code = lines[at].split("//").next()?;
        let mut behind = code.split("unsafe").skip(1);
        let is_site = |rest: &str| rest.starts_with(" {") || rest.starts_with(" impl");
        let is_site = behind.any(is_site);
        is_site.then(|| Site {
            line: at + 1,
            notes: notes_above(&lines[..at]),
        })
    });
    sites.collect::<Vec<_>>().into_iter()
}

/// The comment above the statement that ends behind `lines`, which may have begun before its last line.
fn notes_above(lines: &[&str]) -> String {
    let begun = lines.iter().rev().take_while(|line| {
        !line.is_empty() && !line.starts_with("//") && !line.ends_with([';', '{', '}', ','])
    });
    let lines = &lines[..lines.len() - begun.count()];
    let comment = lines.iter().rev();
    let comment = comment.take_while(|line| line.starts_with("// "));
    let mut comment: Vec<_> = comment.map(|line| &line[3..]).collect();
    comment.reverse();
    comment.join(" ")
}

/// Every Rust source of the project, those that no workspace member has included.
fn sources_below(root: &Path) -> Vec<PathBuf> {
    let mut directories = vec![root.to_owned()];
    let mut sources = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of the project") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                directories.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                sources.push(path);
            }
        }
    }
    sources
}
