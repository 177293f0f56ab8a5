//! `--config-dir`: files of `service = endpoint` lines (wire specification, section 11.4).
//!
//! ```text
//! ; comment, also with #
//! SSH = 22
//! web.internal = 10.0.0.1:80
//! ```
//!
//! All regular files below the directory are read once, at start, in the order of their paths. The first
//! match for a service wins. A file that cannot be read as a whole is skipped with a warning, as by the
//! reference. Names are plain text: a dot in one is a character like any other (Q-29).
//!
//! Without the option, `./config` is read if it is a directory and not empty. "`.`" is the directory the
//! command is *started in*, not the one its program file is in (Q-26: the reference's help says otherwise,
//! its code does not).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use adit_engine::tunnel::endpoint::Endpoint;
use adit_proto::Mode;
use adit_proto::escape::Escaped;

use crate::args::Given;
use crate::args::options::Opt;
use crate::fault::BadInput;
use crate::world::{FILE_SIZE_MAX, World, read_text};

/// What the files map, and what to warn about.
#[derive(Debug, Default)]
pub struct Table {
    /// Service name to endpoint.
    pub entries: BTreeMap<String, Endpoint>,
    /// One line each, with file and line number.
    pub warnings: Vec<String>,
}

/// The directory to read: the given one, which must be good, or the default one if it is.
pub fn directory(world: &World, given: Option<&Given>) -> Result<Option<PathBuf>, BadInput> {
    let Some(given) = given else {
        let path = world.path(DEFAULT_DIRECTORY);
        return Ok(check(&path).is_ok().then_some(path));
    };
    let path = world.path(given.value.as_str());
    match check(&path) {
        Ok(()) => Ok(Some(path)),
        Err(error) => {
            let shown = Escaped(&given.value);
            Err(BadInput::value(
                Opt::ConfigDir,
                &given.origin,
                format!("`{shown}`: {error}"),
                "give a directory with at least one file of `service = endpoint` lines",
            )
            .reference(format!("Invalid configuration directory: {shown}"))
            .in_file())
        }
    }
}

/// Reads all files below the directory.
pub fn read(directory: &Path, mode: Mode) -> Table {
    let mut table = Table::default();
    let mut files = Vec::new();
    if let Err(error) = collect(directory, 0, &mut files) {
        let shown = directory.to_string_lossy();
        table.warnings.push(format!("{}: {error}", Escaped(&shown)));
    }
    files.sort();
    for path in files {
        let shown = path.to_string_lossy();
        let shown = Escaped(&shown);
        let lines = read_text(&path, FILE_SIZE_MAX)
            .map_err(|error| format!("{shown}: {error}; the file is skipped"))
            .and_then(|text| {
                parse(&text).map_err(|(line, problem)| {
                    format!("{shown}:{line}: {problem}; the file is skipped")
                })
            });
        match lines {
            Ok(lines) => table.add(&shown, lines, mode),
            Err(warning) => table.warnings.push(warning),
        }
    }
    table
}

impl Table {
    fn add(&mut self, file: &Escaped<'_>, lines: Vec<Line>, mode: Mode) {
        for Line { line, name, value } in lines {
            let shown = Escaped(&name);
            if self.entries.contains_key(&name) {
                let warning =
                    format!("{file}:{line}: {shown} is mapped already, the first one counts");
                self.warnings.push(warning);
                continue;
            }
            if self.entries.len() == ENTRIES_MAX {
                let warning =
                    format!("{file}:{line}: more than {ENTRIES_MAX} services; {shown} is ignored");
                self.warnings.push(warning);
                return;
            }
            match Endpoint::parse(&value, mode) {
                Ok(Endpoint::Stdio) => self.warnings.push(format!(
                    "{file}:{line}: {shown}: `stdio:` works with -s only"
                )),
                Ok(endpoint) => _ = self.entries.insert(name, endpoint),
                Err(error) => self
                    .warnings
                    .push(format!("{file}:{line}: {shown}: {error}")),
            }
        }
    }
}

fn check(path: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(path)?;
    match entries.next() {
        Some(_) => Ok(()),
        None => Err(io::Error::other("the directory is empty")),
    }
}

/// Regular files, also behind links; directories behind links are not entered, so there is no loop.
fn collect(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if depth == DEPTH_MAX {
                return Err(io::Error::other(format!(
                    "directories are nested more than {DEPTH_MAX} deep; the rest is ignored"
                )));
            }
            collect(&path, depth + 1, files)?;
        } else if fs::metadata(&path).is_ok_and(|data| data.is_file()) {
            if files.len() == FILES_MAX {
                return Err(io::Error::other(format!(
                    "more than {FILES_MAX} files; the rest is ignored"
                )));
            }
            files.push(path);
        }
    }
    Ok(())
}

struct Line {
    line: usize,
    name: String,
    value: String,
}

/// The INI grammar of Boost.PropertyTree without sections' meaning: a section, a line without `=`, an
/// empty or repeated name make the file unparsable.
fn parse(text: &str) -> Result<Vec<Line>, (usize, String)> {
    let mut lines: Vec<Line> = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        let text = text.trim();
        if text.is_empty() || text.starts_with([';', '#']) {
            continue;
        }
        if text.starts_with('[') {
            return Err((line, "sections are not known here".to_owned()));
        }
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| (line, "the line has no `=`".to_owned()))?;
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        if name.is_empty() {
            return Err((line, "the line names no service".to_owned()));
        }
        if lines.iter().any(|other| other.name == name) {
            return Err((line, format!("{} is there twice", Escaped(&name))));
        }
        if lines.len() == ENTRIES_MAX {
            return Err((line, format!("more than {ENTRIES_MAX} services")));
        }
        lines.push(Line { line, name, value });
    }
    Ok(lines)
}

/// Reads a file of any bytes, for either side: at most so many entries, each once, and warnings that
/// can be shown.
pub fn fuzz_services_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for mode in [Mode::Source, Mode::Destination] {
        let mut table = Table::default();
        match parse(&text) {
            Ok(lines) => {
                let count = lines.len();
                table.add(&Escaped("services.ini"), lines, mode);
                assert_eq!(table.entries.len() + table.warnings.len(), count);
            }
            Err((line, problem)) => {
                assert!(line <= text.lines().count());
                assert!(!problem.contains(char::is_control), "{problem:?}");
            }
        }
        assert!(table.entries.len() <= ENTRIES_MAX);
        for warning in table.warnings {
            assert!(!warning.contains(char::is_control), "{warning:?}");
        }
    }
}

const DEFAULT_DIRECTORY: &str = "config";
/// Services in all files together. A tunnel has three by default and 128 at most here.
const ENTRIES_MAX: usize = 1_024;
const FILES_MAX: usize = 1_024;
const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Origin;
    use crate::world::testing::world;
    use zeroize::Zeroizing;

    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn shown(table: &Table) -> Vec<String> {
        table
            .entries
            .iter()
            .map(|(name, endpoint)| format!("{name} -> {endpoint}"))
            .collect()
    }

    #[test]
    fn all_files_are_read_whatever_their_name() {
        let directory = files(&[
            (
                "a.ini",
                "; one\n# two\n\nSSH1= 5555\r\n web.internal = 10.0.0.1:80 ",
            ),
            ("deep/er/b", "a:b=[::1]:22"),
        ]);
        let table = read(directory.path(), Mode::Destination);
        assert_eq!(
            shown(&table),
            [
                "SSH1 -> 5555",
                "a:b -> [::1]:22",
                "web.internal -> 10.0.0.1:80"
            ]
        );
        assert_eq!(table.warnings, Vec::<String>::new());
    }

    #[test]
    fn the_first_match_wins_in_the_order_of_paths() {
        let directory = files(&[("b", "SSH=2"), ("a", "SSH=1"), ("c", "SSH=3")]);
        let table = read(directory.path(), Mode::Source);
        assert_eq!(shown(&table), ["SSH -> 1"]);
        assert_eq!(table.warnings.len(), 2);
        assert!(
            table.warnings[0].contains("b:1: SSH is mapped already"),
            "{:?}",
            table.warnings
        );
    }

    #[test]
    fn an_unparsable_file_is_skipped_and_named() {
        for (text, problem) in [
            ("SSH 22", ":1: the line has no `=`"),
            ("A=1\n=22", ":2: the line names no service"),
            ("A=1\nA=2", ":2: A is there twice"),
            ("[ssh]\nA=1", ":1: sections are not known here"),
        ] {
            let directory = files(&[("bad", text), ("good", "RDP=3389")]);
            let table = read(directory.path(), Mode::Source);
            assert_eq!(shown(&table), ["RDP -> 3389"], "{text}");
            assert!(
                table.warnings[0].contains(&format!("bad{problem}")),
                "{:?}",
                table.warnings
            );
        }
        let directory = files(&[("good", "RDP=3389")]);
        fs::write(directory.path().join("bad"), b"\xff\xfe").unwrap();
        let table = read(directory.path(), Mode::Source);
        assert_eq!((shown(&table).len(), table.warnings.len()), (1, 1));
    }

    #[test]
    fn a_bad_endpoint_costs_its_line_only() {
        let directory = files(&[("a", "A=host\nB=stdio:\nC=22")]);
        let table = read(directory.path(), Mode::Source);
        assert_eq!(shown(&table), ["C -> 22"]);
        assert!(
            table.warnings[0].contains("a:1: A: `host` has no port"),
            "{:?}",
            table.warnings
        );
        assert!(
            table.warnings[1].contains("a:2: B: `stdio:`"),
            "{:?}",
            table.warnings
        );
    }

    #[test]
    fn links_to_files_are_read_and_loops_are_not_entered() {
        let directory = files(&[("real/a", "A=1")]);
        let link = |target: &Path, name: &str| {
            std::os::unix::fs::symlink(target, directory.path().join(name)).unwrap();
        };
        link(&directory.path().join("real/a"), "z-link");
        link(directory.path(), "real/loop");
        let table = read(directory.path(), Mode::Source);
        assert_eq!(shown(&table), ["A -> 1"]);
        assert_eq!(
            table.warnings.len(),
            1,
            "the link repeats A: {:?}",
            table.warnings
        );
    }

    #[test]
    fn a_given_directory_must_exist_and_hold_something() {
        let directory = files(&[("file", ""), ("good/a", "A=1")]);
        fs::create_dir(directory.path().join("empty")).unwrap();
        let world = world(directory.path());
        let find = |path: &str| {
            let given = Given {
                value: Zeroizing::new(path.to_owned()),
                origin: Origin::CommandLine,
            };
            super::directory(&world, Some(&given))
        };
        assert_eq!(find("good").unwrap(), Some(directory.path().join("good")));
        for (path, problem) in [
            ("none", "No such file"),
            ("file", "Not a directory"),
            ("empty", "empty"),
        ] {
            let fault = find(path).unwrap_err();
            assert!(
                fault
                    .message()
                    .starts_with(&format!("--config-dir: `{path}`"))
            );
            assert!(fault.message().contains(problem), "{fault:?}");
            let reference = format!("Invalid configuration directory: {path}");
            assert_eq!(fault.reference_text(), reference);
        }
    }

    #[test]
    fn the_default_is_config_in_the_working_directory() {
        let directory = files(&[("config/a", "A=1")]);
        let found = super::directory(&world(directory.path()), None).unwrap();
        assert_eq!(found, Some(directory.path().join("config")));
        let bare = files(&[("other", "")]);
        assert_eq!(super::directory(&world(bare.path()), None).unwrap(), None);
        fs::create_dir(bare.path().join("config")).unwrap();
        assert_eq!(super::directory(&world(bare.path()), None).unwrap(), None);
    }

    #[test]
    fn deep_trees_end() {
        let deep = vec!["d"; DEPTH_MAX + 2].join("/");
        let directory = files(&[(&format!("{deep}/a"), "A=1")]);
        let table = read(directory.path(), Mode::Source);
        assert!(table.entries.is_empty());
        assert!(table.warnings[0].contains("nested"), "{:?}", table.warnings);
    }
}
