//! Numbers as people read them: three digits that count, with a unit.

/// A time in nanoseconds: `870 ns`, `24.1 µs`, `1.53 ms`, `12.0 s`.
#[must_use]
pub(crate) fn time(nanoseconds: f64) -> String {
    scaled(nanoseconds, 1_000.0, &["ns", "µs", "ms", "s"])
}

/// Bits a second: `9.41 Gbit/s`.
#[must_use]
pub(crate) fn bits(per_second: f64) -> String {
    scaled(
        per_second,
        1_000.0,
        &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"],
    )
}

/// Bytes: `1.50 MiB`.
#[must_use]
pub(crate) fn bytes(bytes: f64) -> String {
    scaled(bytes, 1_024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A rate: `12,000/s`, `0.50/s`.
#[must_use]
pub(crate) fn rate(per_second: f64) -> String {
    if per_second != 0.0 && per_second.abs() < 100.0 {
        return format!("{per_second:.2}/s");
    }
    format!("{}/s", count(per_second))
}

/// A count with its thousands apart: `1,234,567`.
#[must_use]
pub(crate) fn count(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::from(if number < 0.0 && digits != "0" {
        "-"
    } else {
        ""
    });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share of one as per cent: `99.5 %`.
#[must_use]
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", three_digits(share * 100.0))
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (value, 0);
    // 999.5 would be rounded up to four digits.
    while value.abs() >= step.min(999.5) && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let text = if unit == 0 {
        format!("{value:.0}")
    } else {
        three_digits(value)
    };
    format!("{text} {}", units[unit])
}

/// Three digits that count, and never an exponent: `1.53`, `24.1`, `870`.
#[must_use]
pub(crate) fn three_digits(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        for (nanoseconds, text) in [
            (0.0, "0 ns"),
            (870.0, "870 ns"),
            (999.6, "1.00 µs"),
            (24_140.0, "24.1 µs"),
            (999_700.0, "1.00 ms"),
            (1_530_000.0, "1.53 ms"),
            (9_996_000.0, "10.0 ms"),
            (3.6e12, "3600 s"),
        ] {
            assert_eq!(time(nanoseconds), text);
        }
        assert_eq!(bits(9.414e9), "9.41 Gbit/s");
        assert_eq!(bytes(1_536.0 * 1_024.0), "1.50 MiB");
        assert_eq!(percent(0.9949), "99.5 %");
    }

    #[test]
    fn thousands_are_apart() {
        for (number, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (1_000.0, "1,000"),
            (1_234_567.4, "1,234,567"),
            (-1_000.0, "-1,000"),
            (-0.2, "0"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(rate(0.5), "0.50/s");
        assert_eq!(rate(12_000.0), "12,000/s");
    }
}
