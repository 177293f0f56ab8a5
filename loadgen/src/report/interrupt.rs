//! ^C and its kin: the first ends the run, the second the program.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::signal::unix::{SignalKind, signal};

/// Watches for SIGINT, SIGTERM and SIGHUP on a thread of its own. The first sets the flag, so that
/// the run ends early and reports; the second gives the terminal back and ends the process with
/// 128 + the signal's number, as a shell would say it.
///
/// # Errors
/// The system gives no thread, or does not let signals be watched.
pub fn watch() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let set = Arc::clone(&flag);
    let (mut interrupt, mut terminate, mut hangup) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        )
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                loop {
                    let number = tokio::select! {
                        _ = interrupt.recv() => SignalKind::interrupt(),
                        _ = terminate.recv() => SignalKind::terminate(),
                        _ = hangup.recv() => SignalKind::hangup(),
                    };
                    if set.swap(true, Ordering::SeqCst) {
                        // Whether or not the terminal takes it, the process ends.
                        let _ = super::restore_terminal();
                        std::process::exit(128 + number.as_raw_value());
                    }
                }
            });
        })?;
    Ok(flag)
}
