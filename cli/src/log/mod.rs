//! The log on standard error: three forms, one filter.
//!
//! | form | for | looks like |
//! | --- | --- | --- |
//! | [`Format::Reference`] | `localproxy` | `[2026-01-31 12:00:00.123456] (0x0000000000000001) [info] text key=value` |
//! | [`Format::Text`] | people | `12:00:00.123  INFO text key=value`, the full date when nobody watches |
//! | [`Format::Json`] | machines | `{"time":"…","level":"info","target":"…","message":"text","key":"value"}` |
//!
//! Control characters are escaped in every form, wherever the text came from: nothing that a peer sends
//! can move a cursor or begin a line of its own. `NO_COLOR` and pipes are respected.

mod event;
mod line;

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::str::FromStr;

use time::UtcOffset;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::Layer;
use tracing_subscriber::prelude::*;

use crate::settings::UnknownWord;
use crate::world::World;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// As the reference writes it.
    Reference,
}

impl FromStr for Format {
    type Err = UnknownWord;

    /// The words of `--log-format`; the reference's form has none, it comes with the personality.
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownWord),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Reference => "reference",
        })
    }
}

/// How much is logged: the numbers of `-v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verbosity(pub u16);

impl Verbosity {
    /// What `-v` is when it is not given: info.
    pub const DEFAULT: Self = Self(4);

    /// Whether fatal errors are logged; only 0 turns them off.
    pub fn shows_fatal(self) -> bool {
        self >= Self(1)
    }

    /// Whether warnings are logged.
    pub fn shows_warnings(self) -> bool {
        self >= Self(3)
    }

    /// The filter for our own events. `fatal` is no level of ours: see [`fatal`].
    pub fn filter(self) -> LevelFilter {
        match self.0 {
            0 | 1 => LevelFilter::OFF,
            2 => LevelFilter::ERROR,
            3 => LevelFilter::WARN,
            4 => LevelFilter::INFO,
            5 => LevelFilter::DEBUG,
            6.. => LevelFilter::TRACE,
        }
    }
}

/// How and how much to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How much.
    pub verbosity: Verbosity,
    /// How.
    pub format: Format,
}

/// Starts logging for the whole process; a second call changes nothing. To be called before any thread is
/// started: the difference from UTC can only be asked then, and is kept from then on.
pub fn start(settings: LogSettings, world: &World) {
    let style = Style::of_process(settings.format, world);
    let ours = settings.verbosity.filter();
    // Libraries get a word in only where someone should look, or where everything is wanted.
    let theirs = if ours == LevelFilter::TRACE {
        LevelFilter::DEBUG
    } else {
        ours.min(LevelFilter::WARN)
    };
    let targets = [
        "adit",
        "adit_cli",
        "adit_engine",
        "adit_proto",
        "adit_service",
    ];
    let filter = targets
        .iter()
        .fold(Targets::new().with_default(theirs), |filter, target| {
            filter.with_target(*target, ours)
        });
    let layer = Layer::new()
        .event_format(event::Formatter(style))
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_filter(filter);
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

/// Writes one line at level fatal, the reference's last words before exit 1.
pub fn fatal(text: &str, settings: LogSettings, world: &World) {
    write_line(
        settings.verbosity.shows_fatal(),
        "fatal",
        text,
        settings,
        world,
    );
}

/// Writes one warning without a running log: what is said about an input before it is refused.
pub fn early_warning(text: &str, settings: LogSettings, world: &World) {
    write_line(
        settings.verbosity.shows_warnings(),
        "warning",
        text,
        settings,
        world,
    );
}

fn write_line(shown: bool, level: &str, text: &str, settings: LogSettings, world: &World) {
    if !shown {
        return;
    }
    let style = Style::of_process(settings.format, world);
    let mut line = String::new();
    line::write(&mut line, style, level, "adit", text, &[]);
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// What a formatter has to know; the same for every line of the process.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    format: Format,
    color: bool,
    /// A terminal shows the log as it comes: the date would only take room.
    short_time: bool,
    offset: UtcOffset,
}

impl Style {
    fn of_process(format: Format, world: &World) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            format,
            color: world.wants_color(terminal) && format == Format::Text,
            short_time: terminal,
            offset: UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC),
        }
    }
}

/// The reference's name of a level.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warning",
        Level::ERROR => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_mean_what_the_reference_means() {
        let filters: Vec<LevelFilter> = [0, 1, 2, 3, 4, 5, 6, 7, 65_535]
            .map(|number| Verbosity(number).filter())
            .into();
        let expected = [
            LevelFilter::OFF,
            LevelFilter::OFF,
            LevelFilter::ERROR,
            LevelFilter::WARN,
            LevelFilter::INFO,
            LevelFilter::DEBUG,
            LevelFilter::TRACE,
            LevelFilter::TRACE,
            LevelFilter::TRACE,
        ];
        assert_eq!(filters, expected);
        assert!(!Verbosity(0).shows_fatal() && Verbosity(1).shows_fatal());
        assert!(!Verbosity(2).shows_warnings() && Verbosity(3).shows_warnings());
    }

    #[test]
    fn words_of_the_option() {
        assert_eq!("text".parse(), Ok(Format::Text));
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!("reference".parse::<Format>().is_err());
    }
}
