//! Core files: none of a process that holds secrets, and those of its children as they were before.
//!
//! The limit is inherited, so the programs that such a process starts would leave none either. They get back
//! what was in force before, once they run: a child that crashes in the moment between leaves no file.
//! The other order, to raise the limit here around each start, would leave the secrets without protection.

use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// What was in force before [`write_none`].
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Leaves no file with this process's memory behind when it crashes. Who wants one raises the limit again:
/// `prlimit --core=unlimited --pid PID`. A limit that cannot be set stays what it is.
pub fn write_none() {
    let before = getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        ..before
    };
    if setrlimit(Resource::Core, none).is_ok() {
        // The first call knows what it was.
        let _ = BEFORE.set(before);
    }
}

/// Gives a child that was just started the limit that this process had before [`write_none`]; `child` is its id,
/// of a process that was not waited for yet. Without [`write_none`], and for a child that runs as another user,
/// nothing changes.
pub fn restore(child: u32) {
    let id = i32::try_from(child).ok().and_then(Pid::from_raw);
    if let (Some(before), Some(id)) = (BEFORE.get(), id) {
        // What it may not change is not for us to change.
        let _ = prlimit(Some(id), Resource::Core, *before);
    }
}
