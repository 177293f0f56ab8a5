//! Panics, kills, delays and errors on demand, for tests of what they cost. A release build has nothing of it.

use std::fmt::Display;
use std::io;

/// Panics if a test wants it to, once for each time that it does.
///
/// A test in this process arms a point for its thread (`arm`). One that looks at the program from outside
/// names a directory in `ADIT_FAILPOINTS`; each file in it arms the point of its name, `POINT` or
/// `POINT.SUBJECT`, and is removed by the thread that gets there first. What it says is what happens: `kill`
/// ends the process at once, `delay` takes a second, anything else panics.
#[cfg(debug_assertions)]
pub fn failpoint(point: &str, subject: &dyn Display) {
    if let Err(error) = fallible(point, subject) {
        panic!("{error}");
    }
}

/// [`failpoint`] in front of what may fail.
///
/// # Errors
///
/// If a file says `error`: one that stands for a failure of the disk.
#[cfg(debug_assertions)]
pub fn fallible(point: &str, subject: &dyn Display) -> io::Result<()> {
    match taken(point, subject).as_deref() {
        None => Ok(()),
        Some("kill") => std::process::abort(),
        Some("delay") => {
            delay();
            Ok(())
        }
        Some("error") => Err(io::Error::other(format!("failpoint {point} of {subject}"))),
        Some(_) => panic!("failpoint {point} of {subject}"),
    }
}

/// What a test wants to happen here and now.
#[cfg(debug_assertions)]
fn taken(point: &str, subject: &dyn Display) -> Option<String> {
    use std::path::PathBuf;
    use std::sync::OnceLock;

    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    #[cfg(test)]
    if armed::take(point, subject) {
        return Some("panic".to_owned());
    }
    let directory = DIRECTORY.get_or_init(|| std::env::var_os("ADIT_FAILPOINTS").map(Into::into));
    let directory = directory.as_ref()?;
    [point.to_owned(), format!("{point}.{subject}")]
        .into_iter()
        .find_map(|name| {
            let file = directory.join(name);
            let what = std::fs::read_to_string(&file).ok()?;
            // Whoever removes it is the one that got there first.
            std::fs::remove_file(&file).ok().map(|()| what)
        })
}

#[cfg(debug_assertions)]
fn delay() {
    #[expect(clippy::disallowed_methods, reason = "a delay is what is asked for")]
    std::thread::sleep(std::time::Duration::from_secs(1));
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn failpoint(_: &str, _: &dyn Display) {}

/// Nothing.
///
/// # Errors
///
/// None.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn fallible(_: &str, _: &dyn Display) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, debug_assertions))]
pub(crate) mod armed {
    use std::cell::RefCell;

    thread_local! {
        static POINT: RefCell<Option<(&'static str, &'static str)>> = const { RefCell::new(None) };
    }

    /// The next time that this thread comes to `point` for `subject`, it panics.
    pub(crate) fn arm(point: &'static str, subject: &'static str) {
        POINT.set(Some((point, subject)));
    }

    pub(super) fn take(point: &str, subject: &dyn std::fmt::Display) -> bool {
        POINT.with_borrow_mut(|armed| {
            let is_meant = |it: &mut (&str, &str)| it.0 == point && it.1 == subject.to_string();
            armed.take_if(is_meant).is_some()
        })
    }
}
