//! The live part: what the meter says, as rows for a terminal or as a line for a log.

use super::meter::{Direction, Meter};
use super::quantity::{bytes, counted, long_time, rate, short_time};
use super::text::{Look, Row};

/// Columns of a label and the arrow behind it, where there is room for both.
const LABEL_WIDTH: usize = 20;

/// Narrower than this, labels are arrows only.
const ROOMY: usize = 56;

/// Columns of the curve at most, which is a minute.
const CURVE_WIDTH_MAX: usize = 60;

/// A curve of fewer columns shows nothing.
const CURVE_WIDTH_MIN: usize = 8;

/// The rows, none of them wider than `width` columns.
pub(super) fn rows(meter: &Meter, width: usize) -> Vec<Row> {
    let is_roomy = width >= ROOMY;
    let latest = meter.latest();
    let open = latest
        .source
        .connections
        .max(latest.destination.connections) as u64;
    let total = latest.source.counters.connections;
    let mut rows = vec![Row::new(), heading(meter, open, total, is_roomy)];
    for (label, arrow, direction) in [
        ("to the device", "▶", meter.delivered_there()),
        ("from the device", "◀", meter.delivered_here()),
    ] {
        rows.push(direction_row(label, arrow, direction, width, is_roomy));
    }
    rows.push(round_trips(meter, is_roomy));
    rows.into_iter().map(|row| row.cut(width)).collect()
}

/// The same in one line without colours, for whoever reads it later.
pub(super) fn line(meter: &Meter, since_last: &[f64; 2]) -> String {
    let latest = meter.latest();
    let open = latest
        .source
        .connections
        .max(latest.destination.connections);
    format!(
        "{} · {open} open, {} so far · to the device {} ({}) · from the device {} ({})",
        long_time(meter.elapsed()),
        counted(latest.source.counters.connections, "connection"),
        bytes(meter.delivered_there().total),
        rate(since_last[0]),
        bytes(meter.delivered_here().total),
        rate(since_last[1]),
    )
}

fn heading(meter: &Meter, open: u64, total: u64, is_roomy: bool) -> Row {
    let latest = meter.latest();
    let is_up = latest.source.is_running && latest.destination.is_running;
    let row = if is_up {
        Row::new().and(Look::Good, " ●")
    } else {
        Row::new().and(Look::Bad, " ○")
    };
    let label = if is_up { " live" } else { " connecting" };
    let row = row.strong(if is_roomy {
        format!("{label:<width$}", width = LABEL_WIDTH - 2)
    } else {
        format!("{label}  ")
    });
    let row = row.strong(format!("{open} open"));
    let row = row.plain(format!("  {} so far", counted(total, "connection")));
    row.faint(format!("  {}", long_time(meter.elapsed())))
}

fn direction_row(
    label: &str,
    arrow: &str,
    direction: &Direction,
    width: usize,
    is_roomy: bool,
) -> Row {
    let row = Row::new().plain(" ");
    let row = if is_roomy {
        let pad = LABEL_WIDTH - 3;
        row.plain(format!("{label:<pad$}"))
            .accent(format!("{arrow} "))
    } else {
        row.accent(format!("{arrow} "))
    };
    let row = row.strong(format!("{:>9}", bytes(direction.total)));
    let row = row.plain(format!("{:>12}", rate(direction.rate)));
    let room = width.saturating_sub(row.width() + 3).min(CURVE_WIDTH_MAX);
    if room < CURVE_WIDTH_MIN {
        return row;
    }
    row.accent(format!("  {}", curve(direction, room)))
}

fn round_trips(meter: &Meter, is_roomy: bool) -> Row {
    let latest = meter.latest();
    let shown = |time: Option<_>| time.map_or_else(|| "…".to_owned(), short_time);
    let source = shown(latest.source.round_trip);
    let destination = shown(latest.destination.round_trip);
    if is_roomy {
        let label = format!(" {:<width$}", "round trips", width = LABEL_WIDTH - 1);
        Row::new().plain(label).plain(format!(
            "source – relay {source}, relay – destination {destination}"
        ))
    } else {
        Row::new().plain(format!(" ↻ {source} + {destination}"))
    }
}

/// The last seconds as a curve, the newest at the right end; its top is the highest of them.
fn curve(direction: &Direction, columns: usize) -> String {
    let shown = direction.history.len().min(columns);
    let seconds = || direction.history.iter().rev().take(columns).rev();
    let top = seconds().fold(0.0_f64, |top, rate| top.max(*rate));
    let mut curve = STEPS[0].to_string().repeat(columns - shown);
    curve.extend(seconds().map(|rate| step(*rate, top)));
    curve
}

/// Any byte at all shows as more than nothing.
fn step(rate: f64, top: f64) -> char {
    if rate <= 0.0 {
        return STEPS[0];
    }
    let highest = STEPS.len() - 1;
    let index = (rate / top * highest as f64).ceil() as usize;
    STEPS[index.clamp(1, highest)]
}

const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::meter::testing::sample;
    use super::*;

    fn meter() -> Meter {
        let start = Instant::now();
        let mut meter = Meter::new(sample(start, 0, 0));
        let mut last = sample(start + Duration::from_secs(1), 3 << 20, 120 << 20);
        last.source.connections = 2;
        last.destination.connections = 1;
        last.source.counters.connections = 17;
        last.source.round_trip = Some(Duration::from_micros(210));
        meter.record(last);
        meter
    }

    fn shown(meter: &Meter, width: usize) -> Vec<String> {
        rows(meter, width)
            .iter()
            .map(|row| row.paint(false))
            .collect()
    }

    #[test]
    fn a_roomy_terminal_shows_everything_in_columns() {
        let curve = "▁".repeat(35);
        assert_eq!(
            shown(&meter(), 80),
            [
                String::new(),
                " ● live             2 open  17 connections so far  1 s".to_owned(),
                format!(" to the device    ▶  3.00 MiB  3.00 MiB/s  {curve}█"),
                format!(" from the device  ◀   120 MiB   120 MiB/s  {curve}█"),
                " round trips        source – relay 0.21 ms, relay – destination …".to_owned(),
            ]
        );
    }

    #[test]
    fn a_narrow_terminal_shows_the_numbers() {
        assert_eq!(
            shown(&meter(), 30),
            [
                "",
                " ● live  2 open  17 connectio…",
                " ▶  3.00 MiB  3.00 MiB/s",
                " ◀   120 MiB   120 MiB/s",
                " ↻ 0.21 ms + …",
            ]
        );
    }

    #[test]
    fn no_row_is_wider_than_the_terminal() {
        let meter = meter();
        for width in 0..200 {
            let rows = rows(&meter, width);
            assert_eq!(rows.len(), 5);
            assert!(rows.iter().all(|row| row.width() <= width), "{width}");
        }
    }

    #[test]
    fn a_side_that_is_not_connected_is_seen() {
        let start = Instant::now();
        let mut first = sample(start, 0, 0);
        first.destination.is_running = false;
        assert!(shown(&Meter::new(first), 80)[1].starts_with(" ○ connecting"));
    }

    #[test]
    fn a_curve_rises_to_the_highest_of_what_it_shows() {
        let direction = |history: &[f64]| Direction {
            history: history.iter().copied().collect(),
            ..Direction::default()
        };
        assert_eq!(curve(&direction(&[0.0, 1.0, 50.0, 100.0]), 6), "▁▁▁▂▅█");
        assert_eq!(curve(&direction(&[100.0, 0.0, 5.0, 10.0]), 3), "▁▅█");
        assert_eq!(curve(&direction(&[]), 3), "▁▁▁");
    }

    #[test]
    fn the_line_has_the_same_numbers() {
        assert_eq!(
            line(&meter(), &[0.0, 512.0]),
            "1 s · 2 open, 17 connections so far · to the device 3.00 MiB (0 B/s) · \
             from the device 120 MiB (512 B/s)"
        );
    }
}
