//! Processor time of a thread, as the scheduler has counted it.

use std::fs;
use std::time::Duration;

/// What the thread of this name has used so far, in user space and kernel.
///
/// # Panics
/// When there is no such thread, or the kernel does not say (`CONFIG_SCHED_INFO`).
pub(crate) fn time_of(name: &str) -> Duration {
    let threads = fs::read_dir("/proc/self/task").expect("the threads of this process");
    for thread in threads {
        let path = thread.expect("a thread").path();
        // A thread that has just ended is none of ours.
        let Ok(comm) = fs::read_to_string(path.join("comm")) else {
            continue;
        };
        if comm.trim_end() == name {
            let statistics = fs::read_to_string(path.join("schedstat")).expect("its times");
            let first = statistics.split(' ').next().expect("a number");
            return Duration::from_nanos(first.parse().expect("nanoseconds"));
        }
    }
    panic!("no thread is called {name}");
}
