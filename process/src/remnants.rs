//! What the kernel shows of the strings that this process was started with.
//!
//! `/proc/PID/cmdline`, for every user of the machine, and `/proc/PID/environ`, for the same user, are
//! windows on the page where `execve` left them. A secret among them is overwritten where it stands, by way
//! of `/proc/self/mem`: no reference leads there without `unsafe`. Children inherit the environment from the
//! same place.
//!
//! It takes no copy back that somebody has made before, and none that is on this process's heap.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use zeroize::Zeroizing;

/// The two areas. It may be used while the process has one thread only: std and libc read there, too.
#[derive(Debug)]
pub struct Remnants {
    memory: File,
    arguments: Range<u64>,
    variables: Range<u64>,
}

impl Remnants {
    /// Those of this process.
    ///
    /// # Errors
    /// There is no `/proc`, or it does not let the process write to its own memory.
    pub fn of_process() -> io::Result<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let [arguments, variables] = areas(&stat).ok_or(io::ErrorKind::InvalidData)?;
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/proc/self/mem")?;
        Ok(Self {
            memory,
            arguments,
            variables,
        })
    }

    /// Masks an argument that is this secret, or an option with it as its value.
    ///
    /// # Errors
    /// The memory cannot be read or written.
    pub fn hide_argument(&self, secret: &str) -> io::Result<()> {
        self.overwrite(&self.arguments, MASK, |item| {
            let name = item.strip_suffix(secret.as_bytes())?;
            // `SECRET`, `--option=SECRET`, `-kt SECRET` in one.
            let is_value = name.is_empty() || name.ends_with(b"=") || name.starts_with(b"-");
            is_value.then_some(name.len())
        })
    }

    /// Removes a variable, name and value, in every place where it is set. libc and std skip what is left, an
    /// entry of no bytes; a child that inherits the environment has that entry and no such variable.
    ///
    /// # Errors
    /// The memory cannot be read or written.
    pub fn remove_variable(&self, name: &str) -> io::Result<()> {
        self.overwrite(&self.variables, NOTHING, |item| {
            let value = item.strip_prefix(name.as_bytes())?;
            value.starts_with(b"=").then_some(0)
        })
    }

    /// `keeps` says how many bytes of an item may stay; `None` is all of them.
    fn overwrite(
        &self,
        area: &Range<u64>,
        with: u8,
        keeps: impl Fn(&[u8]) -> Option<usize>,
    ) -> io::Result<()> {
        let size = usize::try_from(area.end - area.start).unwrap_or(AREA_SIZE_MAX);
        let mut bytes = Zeroizing::new(vec![0; size.min(AREA_SIZE_MAX)]);
        self.memory.read_exact_at(&mut bytes, area.start)?;
        let mut at = area.start;
        for item in bytes.split(|byte| *byte == 0) {
            if let Some(kept) = keeps(item) {
                let cover = vec![with; item.len() - kept];
                self.memory.write_all_at(&cover, at + kept as u64)?;
            }
            at += item.len() as u64 + 1;
        }
        Ok(())
    }
}

/// Where arguments and variables are: fields 48 to 51 of `/proc/PID/stat`.
fn areas(stat: &str) -> Option<[Range<u64>; 2]> {
    // The name in parentheses, field 2, may have spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ends = fields.split_ascii_whitespace().skip(48 - 3);
    let mut area = || {
        let start = ends.next()?.parse().ok()?;
        let end = ends.next()?.parse().ok()?;
        // All are 0 where the reader may not know them.
        (0 < start && start <= end).then_some(start..end)
    };
    Some([area()?, area()?])
}

/// Of an argument: who reads the list of processes sees that something was there.
const MASK: u8 = b'*';

/// Of a variable: it ends the text before it begins.
const NOTHING: u8 = 0;

/// More than the kernel takes: three quarters of 8 MiB (`execve(2)`).
const AREA_SIZE_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Areas in a file, as if it were the memory.
    fn remnants(directory: &tempfile::TempDir, arguments: &[u8], variables: &[u8]) -> Remnants {
        let path = directory.path().join("memory");
        std::fs::write(&path, [arguments, variables].concat()).unwrap();
        let memory = OpenOptions::new().read(true).write(true).open(path);
        let (middle, end) = (arguments.len() as u64, variables.len() as u64);
        Remnants {
            memory: memory.unwrap(),
            arguments: 0..middle,
            variables: middle..middle + end,
        }
    }

    fn left(directory: &tempfile::TempDir) -> String {
        std::fs::read_to_string(directory.path().join("memory")).unwrap()
    }

    #[test]
    fn an_argument_is_hidden_in_every_spelling_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let arguments =
            b"adit\0-t\0canary\0-tcanary\0-kvtcanary\0--acc=canary\0canary2\0a canary\0-s\0one\0";
        let remnants = remnants(&directory, arguments, b"T=canary\0");
        remnants.hide_argument("canary").unwrap();
        assert_eq!(
            left(&directory),
            "adit\0-t\0******\0-t******\0-kvt******\0--acc=******\0canary2\0a canary\0-s\0one\0T=canary\0"
        );
    }

    #[test]
    fn a_variable_is_removed_by_its_whole_name() {
        let directory = tempfile::tempdir().unwrap();
        let remnants = remnants(&directory, b"T=1\0", b"T=1\0TT=1\0T\0T=two=2\0T=\0U=1\0");
        remnants.remove_variable("T").unwrap();
        assert_eq!(
            left(&directory),
            "T=1\0\0\0\0\0TT=1\0T\0\0\0\0\0\0\0\0\0\0\0\0U=1\0"
        );
    }

    #[test]
    fn the_areas_are_told_apart() {
        let fields = (3..=52).map(|field| (field * 100).to_string());
        let fields = fields.collect::<Vec<_>>().join(" ");
        let stat = format!("1 (a) b) {fields}\n");
        assert_eq!(areas(&stat), Some([4800..4900, 5000..5100]));
        assert_eq!(areas("1 (a) R 1 2"), None);
        assert_eq!(areas(&stat.replace(" 4800 ", " 0 ")), None);
        assert_eq!(areas(""), None);
        Remnants::of_process().unwrap();
    }
}
