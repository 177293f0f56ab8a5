//! The live screen on a terminal.
//!
//! Plain escape sequences, not a terminal library: the screen is a page of text that is written
//! anew each second, reads no keys and needs no raw mode, so ^C stays the terminal's.

use std::{io, time::Duration};

use super::{
    interval::Interval,
    lines::by_kind,
    summary::Second,
    terminal::Fullscreen,
    text::{Line, Style, bar, sparkline},
    units,
    view::{Sink, View},
};

/// Shows each second in place of the one before it.
pub(crate) struct Screen {
    terminal: Fullscreen,
    has_colour: bool,
}

impl Screen {
    /// Takes the terminal over, until it is dropped.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub(crate) fn new(has_colour: bool) -> io::Result<Self> {
        Ok(Self {
            terminal: Fullscreen::enter()?,
            has_colour,
        })
    }
}

impl Sink for Screen {
    fn second(&mut self, view: &View<'_>) -> io::Result<()> {
        let (width, height) = self.terminal.size();
        self.terminal
            .draw(&page(view, width, height, self.has_colour))
    }

    fn end(&mut self) -> io::Result<()> {
        self.terminal.leave()
    }
}

/// The page, at most `height` lines of at most `width` columns.
fn page(view: &View<'_>, width: usize, height: usize, has_colour: bool) -> Vec<String> {
    let lines = [
        head(view, width),
        rates(view),
        latencies(view),
        series(view, width),
        tail(view),
    ];
    let lines = lines.concat();
    lines
        .iter()
        .take(height)
        .map(|line| line.render(width, has_colour))
        .collect()
}

fn head(view: &View<'_>, width: usize) -> Vec<Line> {
    let facts = view.facts;
    let done = Duration::from_secs(u64::from(view.second.second) + 1);
    let all = Duration::from_secs_f64(facts.duration_s);
    let title = Line::new()
        .with(Style::Bold, format!("adit-loadgen {}", facts.profile))
        .with(Style::Dim, format!("  →  {}", facts.target));
    let time = format!("{} / {}", clock(done), clock(all));
    let gap = width.saturating_sub(title.width() + time.len()).max(2);
    let title = title
        .with(Style::Plain, " ".repeat(gap))
        .with(Style::Bold, time);
    let share = done.as_secs_f64() / all.as_secs_f64().max(1e-9);
    let done = bar(share, width.min(PROGRESS_WIDTH_MAX));
    let rest = width
        .min(PROGRESS_WIDTH_MAX)
        .saturating_sub(done.chars().count());
    let progress = Line::new()
        .with(Style::Accent, done)
        .with(Style::Dim, "░".repeat(rest));
    let how = match facts.offered_rate {
        Some(rate) => format!("{} model at {}", facts.model.name(), units::rate(rate)),
        None => format!("{} model", facts.model.name()),
    };
    let congestion = facts
        .congestion_control
        .as_deref()
        .unwrap_or("system's congestion control");
    let how = format!(
        "{how}, {} connections, seed {}, {congestion}",
        units::count(facts.connections as f64),
        facts.seed
    );
    vec![
        title,
        progress,
        Line::new().with(Style::Dim, how),
        Line::new(),
    ]
}

fn rates(view: &View<'_>) -> Vec<Line> {
    let (facts, second) = (view.facts, view.second);
    let achieved = second.operations as f64;
    let mut line = Line::new().with(Style::Dim, label("rate"));
    if let Some(offered) = facts.offered_rate {
        let share = achieved / offered;
        let style = if share < RATE_SHARE_FINE {
            Style::Warning
        } else {
            Style::Good
        };
        line = line
            .with(
                Style::Plain,
                format!("offered {:<14}", units::rate(offered)),
            )
            .with(
                Style::Plain,
                format!("achieved {:<14}", units::rate(achieved)),
            )
            .with(style, units::percent(share));
    } else {
        line = line.with(Style::Plain, format!("achieved {}", units::rate(achieved)));
    }
    let open = Line::new().with(Style::Dim, label("open")).with(
        Style::Plain,
        format!("{} connections", units::count(second.open as f64)),
    );
    vec![line, open, errors(view), Line::new()]
}

fn errors(view: &View<'_>) -> Line {
    let line = Line::new().with(Style::Dim, label("errors"));
    let (total, now) = (view.tally.errors.total(), view.second.errors_total());
    let failed = view.tally.connection_errors.total();
    let line = match failed {
        0 => line,
        _ => {
            let failed = format!("{} connections failed  ", units::count(failed as f64));
            line.with(Style::Bad, failed)
        }
    };
    if total == 0 {
        return match failed {
            0 => line.with(Style::Good, "none"),
            _ => line,
        };
    }
    line.with(Style::Bad, format!("{} in all", units::count(total as f64)))
        .with(
            Style::Plain,
            format!(", {} now: ", units::count(now as f64)),
        )
        .with(Style::Bad, by_kind(view.tally.errors.iter()))
}

fn latencies(view: &View<'_>) -> Vec<Line> {
    let heading = format!(
        "{}{:<12}{:<12}{:<12}",
        label("latency"),
        "this second",
        "whole run",
        "uncorrected"
    );
    let mut lines = vec![Line::new().with(Style::Dim, heading)];
    let tally = view.tally;
    let longest = (tally.corrected.max() as f64).max(1.0);
    for (name, percentile) in PERCENTILES {
        let whole = at(&tally.corrected, percentile);
        let line = Line::new()
            .with(Style::Plain, label(name))
            .with(
                Style::Bold,
                format!("{:<12}", time(now(view.interval, percentile))),
            )
            .with(Style::Plain, format!("{:<12}", time(whole)))
            .with(
                Style::Dim,
                format!("{:<12}", time(at(&tally.uncorrected, percentile))),
            )
            .with(
                Style::Accent,
                whole.map_or_else(String::new, |whole| bar(decades(whole, longest), BAR_WIDTH)),
            );
        lines.push(line);
    }
    lines.push(Line::new());
    lines
}

fn now(interval: &Interval, percentile: f64) -> Option<u64> {
    let histogram = &interval.corrected;
    (!histogram.is_empty()).then(|| {
        histogram
            .value_at_percentile(percentile)
            .min(histogram.max())
    })
}

fn at(histogram: &hdrhistogram::Histogram<u64>, percentile: f64) -> Option<u64> {
    (!histogram.is_empty()).then(|| {
        histogram
            .value_at_percentile(percentile)
            .min(histogram.max())
    })
}

fn time(nanoseconds: Option<u64>) -> String {
    nanoseconds.map_or_else(
        || "-".to_owned(),
        |nanoseconds| units::time(nanoseconds as f64),
    )
}

/// Where `value` lies between a microsecond and `longest`, by its logarithm.
fn decades(value: u64, longest: f64) -> f64 {
    const SHORTEST: f64 = 1_000.0;
    let span = (longest / SHORTEST).ln().max(f64::MIN_POSITIVE);
    ((value as f64 / SHORTEST).max(1.0).ln() / span).clamp(0.01, 1.0)
}

fn series(view: &View<'_>, width: usize) -> Vec<Line> {
    let of =
        |figure: fn(&Second) -> f64| view.tally.series.iter().map(figure).collect::<Vec<f64>>();
    let line = |name: &str, value: String, values: &[f64]| {
        let columns = width
            .saturating_sub(LABEL_WIDTH + SERIES_VALUE_WIDTH)
            .min(PROGRESS_WIDTH_MAX);
        Line::new()
            .with(Style::Dim, label(name))
            .with(Style::Plain, format!("{value:<SERIES_VALUE_WIDTH$}"))
            .with(Style::Accent, sparkline(values, columns))
    };
    let bits = |bytes: u64| units::bits(bytes as f64 * 8.0);
    let second = view.second;
    vec![
        line(
            "up",
            bits(second.bytes_up),
            &of(|second| second.bytes_up as f64),
        ),
        line(
            "down",
            bits(second.bytes_down),
            &of(|second| second.bytes_down as f64),
        ),
        line(
            "achieved",
            units::rate(second.operations as f64),
            &of(|second| second.operations as f64),
        ),
        line(
            "p99",
            time(Some(second.p99_ns)),
            &of(|second| second.p99_ns as f64),
        ),
        Line::new(),
    ]
}

fn tail(view: &View<'_>) -> Vec<Line> {
    let second = view.second;
    let own = format!(
        "CPU {}, busiest thread {}, woken late by {} at p99",
        units::percent(second.generator_cpu),
        units::percent(second.generator_cpu_busiest),
        units::time(second.lag_p99_ns as f64),
    );
    let mut lines = vec![
        Line::new()
            .with(Style::Dim, label("generator"))
            .with(Style::Plain, own),
    ];
    lines.extend(
        view.warnings()
            .into_iter()
            .map(|warning| Line::new().with(Style::Warning, format!("! {warning}"))),
    );
    lines.push(Line::new().with(Style::Dim, "^C ends the run and reports what there is"));
    lines
}

fn label(name: &str) -> String {
    format!("{name:<LABEL_WIDTH$}")
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3600 {
        0 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("max", 100.0),
];
const LABEL_WIDTH: usize = 11;
const SERIES_VALUE_WIDTH: usize = 13;
const PROGRESS_WIDTH_MAX: usize = 100;
const BAR_WIDTH: usize = 24;
/// An achieved rate under this share of the offered one is shown as a warning.
const RATE_SHARE_FINE: f64 = 0.98;

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn last_page(width: usize, height: usize, has_colour: bool) -> Vec<String> {
        let mut last = Vec::new();
        sample::run(|view| last = page(view, width, height, has_colour));
        last
    }

    #[test]
    fn the_screen_looks_as_it_did() {
        sample::assert_snapshot("screen.txt", &(last_page(80, 24, false).join("\n") + "\n"));
    }

    #[test]
    fn colours_are_all_that_colours_add() {
        let coloured = last_page(80, 24, true).join("\n");
        assert!(coloured.contains("\x1b[1m"));
        let mut plain = String::new();
        for piece in coloured.split('\x1b') {
            plain += piece.strip_prefix('[').map_or(piece, |rest| {
                rest.split_once('m').map_or("", |(_, text)| text)
            });
        }
        let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
        assert_eq!(trimmed, last_page(80, 24, false));
    }

    #[test]
    fn a_small_terminal_gets_the_top_of_it() {
        let small = last_page(20, 5, false);
        assert_eq!(small.len(), 5);
        assert!(
            small.iter().all(|line| line.chars().count() <= 20),
            "{small:?}"
        );
        assert!(last_page(0, 0, false).is_empty());
    }
}
