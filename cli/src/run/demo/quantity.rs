//! Numbers as people read them: at most three digits that matter, and a unit.

use std::time::Duration;

/// Bytes in binary units: `0 B`, `999 B`, `1.00 KiB`, `12.3 MiB`, `456 GiB`. At most 8 columns.
pub(super) fn bytes(count: u64) -> String {
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = 0;
    // From 999.5 on, three digits would show 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// Bytes per second.
pub(super) fn rate(per_second: f64) -> String {
    format!("{}/s", bytes(per_second.round().max(0.0) as u64))
}

/// A time that is mostly short: `0.21 ms`, `12.3 ms`, `1.20 s`.
pub(super) fn short_time(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1_000.0;
    if milliseconds < 999.5 {
        format!("{} ms", three_digits(milliseconds))
    } else {
        format!("{} s", three_digits(milliseconds / 1_000.0))
    }
}

/// A time that is mostly long: `7 s`, `1 min 07 s`, `2 h 03 min`.
pub(super) fn long_time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// `1 connection`, `2 connections`.
pub(super) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn three_digits(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        9.995..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_and_a_unit() {
        for (count, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "0.98 KiB"),
            (1_024, "1.00 KiB"),
            (10_234, "9.99 KiB"),
            (10_236, "10.0 KiB"),
            (1_023_487, "999 KiB"),
            (1_023_489, "0.98 MiB"),
            (64 << 20, "64.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), shown, "{count}");
        }
    }

    #[test]
    fn no_count_of_bytes_is_wider_than_its_column() {
        let mut count: u64 = 1;
        while let Some(next) = count.checked_mul(3) {
            assert!(bytes(count).len() <= 8, "{}", bytes(count));
            count = next - 1;
        }
    }

    #[test]
    fn rates_are_whole_bytes_and_never_negative() {
        assert_eq!(rate(1_536.4), "1.50 KiB/s");
        assert_eq!(rate(0.4), "0 B/s");
        assert_eq!(rate(-1.0), "0 B/s");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        for (micros, shown) in [
            (4, "0.00 ms"),
            (214, "0.21 ms"),
            (12_340, "12.3 ms"),
            (999_400, "999 ms"),
            (999_600, "1.00 s"),
        ] {
            assert_eq!(short_time(Duration::from_micros(micros)), shown);
        }
        for (seconds, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (67, "1 min 07 s"),
            (7_380, "2 h 03 min"),
        ] {
            assert_eq!(long_time(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1, "connection"), "1 connection");
        assert_eq!(counted(0, "connection"), "0 connections");
    }
}
