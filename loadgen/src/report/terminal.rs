//! Takes the terminal over and gives it back, however the program ends.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

/// A terminal that shows pages of ours. Dropping it gives the terminal back.
pub(crate) struct Fullscreen(());

impl Fullscreen {
    /// Switches to the terminal's second screen, on which nothing of the user's stands.
    pub(crate) fn enter() -> io::Result<Self> {
        restore_on_panic();
        let mut out = io::stderr().lock();
        IS_TAKEN.store(true, Ordering::SeqCst);
        write!(out, "{ENTER}")?;
        out.flush()?;
        Ok(Self(()))
    }

    /// Writes a page over the last one. Each line is cleared behind its end, so nothing flickers.
    pub(crate) fn draw(&mut self, page: &[String]) -> io::Result<()> {
        let mut text = String::from(HOME);
        for (index, line) in page.iter().enumerate() {
            text += if index == 0 { "" } else { "\r\n" };
            text += line;
            text += CLEAR_TO_END_OF_LINE;
        }
        text += CLEAR_BELOW;
        let mut out = io::stderr().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Columns and lines now.
    pub(crate) fn size(&self) -> (usize, usize) {
        let size = terminal_size::terminal_size_of(io::stderr());
        size.map_or((80, 24), |(width, height)| {
            (usize::from(width.0), usize::from(height.0))
        })
    }

    /// Gives the terminal back.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        restore()
    }
}

impl Drop for Fullscreen {
    fn drop(&mut self) {
        // Nobody is left who could be told.
        let _ = restore();
    }
}

/// Gives the terminal back, if it was taken over. For ends of the process that drop nothing.
///
/// # Errors
/// The terminal cannot be written to.
pub fn restore() -> io::Result<()> {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stderr().lock();
        write!(out, "{LEAVE}")?;
        out.flush()?;
    }
    Ok(())
}

/// Whether a live screen can be shown: standard error is a terminal that can more than print.
pub(crate) fn can_show() -> bool {
    io::stderr().is_terminal()
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty())
}

/// Whether colours are wanted on a stream that is a terminal (`NO_COLOR`, no-color.org).
pub(crate) fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// A panic's message belongs on the user's screen, not on the one that goes away.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let _ = restore();
            before(info);
        }));
    });
}

static IS_TAKEN: AtomicBool = AtomicBool::new(false);

const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_TO_END_OF_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
