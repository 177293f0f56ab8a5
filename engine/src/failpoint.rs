//! Panics, kills and delays on demand, for tests of what they cost. A release build has nothing of it.

/// Panics if a test wants it to, once for each time that it does.
///
/// A test in this process arms a point for its thread (`arm`). One that looks at the program from outside
/// names a directory in `ADIT_FAILPOINTS`; each file in it arms the point of its name, `POINT` or
/// `POINT.SUBJECT`, and is removed by the thread that gets there first. What it says is what happens: `kill`
/// ends the process at once, `delay` takes a second, anything else panics.
#[cfg(debug_assertions)]
pub fn failpoint(point: &str, subject: &dyn std::fmt::Display) {
    use std::path::PathBuf;
    use std::sync::OnceLock;

    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    #[cfg(test)]
    if armed::take(point, subject) {
        panic!("failpoint {point} of {subject}");
    }
    let directory = DIRECTORY.get_or_init(|| std::env::var_os("ADIT_FAILPOINTS").map(Into::into));
    if let Some(directory) = directory {
        for name in [point.to_owned(), format!("{point}.{subject}")] {
            let file = directory.join(name);
            let Ok(what) = std::fs::read_to_string(&file) else {
                continue;
            };
            if std::fs::remove_file(&file).is_err() {
                continue;
            }
            match what.as_str() {
                "kill" => std::process::abort(),
                "delay" => delay(),
                _ => panic!("failpoint {point} of {subject}"),
            }
        }
    }
}

#[cfg(debug_assertions)]
fn delay() {
    #[expect(clippy::disallowed_methods, reason = "a delay is what is asked for")]
    std::thread::sleep(std::time::Duration::from_secs(1));
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn failpoint(_: &str, _: &dyn std::fmt::Display) {}

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
