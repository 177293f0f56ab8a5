//! Times, sizes and counts as people write them.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Reads `250ms`, `10s`, `2m`, `1h`; a bare number is seconds.
pub fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "" | "s" | "sec" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(milliseconds)?))
}

/// Reads `64K`, `256KiB`, `8MiB`, `1G`; a bare number is bytes. K, M and G are powers of 1024.
pub fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let bytes: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(bytes)?).ok()
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// A time in the form that is read back.
#[derive(Clone, Copy)]
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        match milliseconds {
            0 => f.write_str("0s"),
            _ if milliseconds.is_multiple_of(3_600_000) => {
                write!(f, "{}h", milliseconds / 3_600_000)
            }
            _ if milliseconds.is_multiple_of(60_000) => write!(f, "{}m", milliseconds / 60_000),
            _ if milliseconds.is_multiple_of(1_000) => write!(f, "{}s", milliseconds / 1_000),
            _ => write!(f, "{milliseconds}ms"),
        }
    }
}

/// A size in bytes in the form that is read back.
#[derive(Clone, Copy)]
pub struct Size(pub usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            size if size.is_multiple_of(1 << 30) => write!(f, "{}GiB", size >> 30),
            size if size.is_multiple_of(1 << 20) => write!(f, "{}MiB", size >> 20),
            size if size.is_multiple_of(1 << 10) => write!(f, "{}KiB", size >> 10),
            size => write!(f, "{size}"),
        }
    }
}

/// A range for a message: `1s to 1h`.
pub fn shown_range<T: Copy, D: fmt::Display>(
    range: &RangeInclusive<T>,
    show: impl Fn(T) -> D,
) -> String {
    format!("{} to {}", show(*range.start()), show(*range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, milliseconds) in [
            ("0", 0),
            ("10", 10_000),
            ("10s", 10_000),
            ("10 s", 10_000),
            ("250ms", 250),
            ("2m", 120_000),
            ("2min", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(
                parse_time(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "+1",
            "1s ",
            "99999999999999999999",
            "18446744073709551615h",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("131076", 131_076),
            ("64K", 65_536),
            ("256KiB", 262_144),
            ("8 MiB", 8 << 20),
            ("1g", 1 << 30),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "1KB", "1T", "18446744073709551615K"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn shown_forms_are_read_back() {
        for milliseconds in [0, 1, 250, 1_000, 1_500, 60_000, 90_000, 3_600_000] {
            let time = Duration::from_millis(milliseconds);
            assert_eq!(parse_time(&Time(time).to_string()), Some(time));
        }
        for size in [0, 1, 1_023, 1_024, 131_076, 256 << 10, 8 << 20, 3 << 30] {
            assert_eq!(parse_size(&Size(size).to_string()), Some(size));
        }
    }
}
