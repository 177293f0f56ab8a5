//! Numbers with units, as they are typed.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

/// `HOST:PORT`: an address, or the first of a name.
///
/// # Errors
/// There is no such name, or no port.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses
        .next()
        .ok_or_else(|| "the name has no address".to_owned())
}

/// `30s`, `500ms`, `2m`, `1h`. From a microsecond to 30 days.
///
/// # Errors
/// There is no unit, or the number is none, or out of bounds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time with its unit is needed, such as 500ms, 30s or 2m".to_owned()),
    };
    let seconds = positive(digits)? * scale;
    if seconds > 30.0 * 86_400.0 {
        return Err("more than 30 days".to_owned());
    }
    if seconds < 1e-6 {
        return Err("less than a microsecond".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Bytes: `64`, `16KiB`, `1MiB`, `1GiB`.
///
/// # Errors
/// The number is none, or the unit is unknown.
pub fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "" | "B" => 1_usize,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("known units are KiB, MiB and GiB".to_owned()),
    };
    let number: usize = digits
        .parse()
        .map_err(|_| format!("'{digits}' is no whole number"))?;
    number
        .checked_mul(scale)
        .ok_or_else(|| "too large".to_owned())
}

/// Per second: `1000`, `2.5`, `20k`. From [`RATE_MIN`] to [`RATE_MAX`].
///
/// # Errors
/// The number is none, or out of bounds.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate = match text.strip_suffix('k') {
        Some(thousands) => positive(thousands)? * 1000.0,
        None => positive(text)?,
    };
    match rate {
        RATE_MIN..=RATE_MAX => Ok(rate),
        _ => Err(format!("a rate is from {RATE_MIN} to {RATE_MAX} a second")),
    }
}

/// One in a quarter of an hour. The next start of a much lower rate would be in no time that a clock can tell.
pub const RATE_MIN: f64 = 0.001;

/// More than a thread can begin, so of a higher rate a run would do nothing but count starts that it skips.
pub const RATE_MAX: f64 = 10_000_000.0;

fn positive(digits: &str) -> Result<f64, String> {
    match digits.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err(format!("'{digits}' is no positive number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5ms"), Ok(Duration::from_micros(1500)));
        for wrong in [
            "", "30", "s", "-1s", "1d", "inf s", "infs", "1000h", "0s", "1e300s", "1e-20s", "0.1us",
        ] {
            duration(wrong).unwrap_err();
        }
    }

    #[test]
    fn sizes_and_rates_are_read() {
        assert_eq!(size("16KiB"), Ok(16 << 10));
        assert_eq!(size("64"), Ok(64));
        assert_eq!(rate("2.5k"), Ok(2500.0));
        for wrong in ["", "KiB", "1.5", "99999999999GiB", "-1"] {
            size(wrong).unwrap_err();
        }
        assert_eq!(rate("0.001"), Ok(RATE_MIN));
        assert_eq!(rate("10000k"), Ok(RATE_MAX));
        for wrong in [
            "", "0", "-1", "k", "NaN", "inf", "1e-20", "0.00099", "1e300", "1e308k", "10001k",
        ] {
            rate(wrong).unwrap_err();
        }
    }
}
