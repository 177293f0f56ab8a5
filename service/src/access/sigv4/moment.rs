//! The time in a signature: `20261123T151813Z`.

use std::fmt;

use time::{Date, Month, OffsetDateTime, Time};

use crate::clock::Timestamp;

/// A second of the calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(OffsetDateTime);

impl Moment {
    /// The second that this time falls into.
    pub fn at(time: Timestamp) -> Self {
        Self(time.to_date_time())
    }

    /// Reads `YYYYMMDDTHHMMSSZ`; `None` for anything else, also for times that do not exist.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let shape = |(index, byte): (usize, &u8)| match index {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        };
        if bytes.len() != 16 || !bytes.iter().enumerate().all(shape) {
            return None;
        }
        let number = |from: usize, to: usize| text[from..to].parse::<u8>().ok();
        let year = text[..4].parse().ok()?;
        let month = Month::try_from(number(4, 6)?).ok()?;
        let date = Date::from_calendar_date(year, month, number(6, 8)?).ok()?;
        let time = Time::from_hms(number(9, 11)?, number(11, 13)?, number(13, 15)?).ok()?;
        Some(Self(OffsetDateTime::new_utc(date, time)))
    }

    /// `YYYYMMDD`, for the scope.
    pub(super) fn date(self) -> String {
        let (year, month, day) = self.0.to_calendar_date();
        format!("{year:04}{:02}{day:02}", u8::from(month))
    }

    /// Seconds that `self` is after `other`; negative when it is before.
    pub(super) fn seconds_after(self, other: Self) -> i64 {
        self.0.unix_timestamp() - other.0.unix_timestamp()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute, second) = self.0.to_hms();
        write!(f, "{}T{hour:02}{minute:02}{second:02}Z", self.date())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["20261123T151813Z", "20240229T000000Z", "19700101T235959Z"] {
            let moment = Moment::parse(text).unwrap();
            assert_eq!(moment.to_string(), text);
            assert_eq!(moment.date(), text[..8]);
        }
        let at = Moment::at(Timestamp::from_millis(1_440_938_160_999));
        assert_eq!(at.to_string(), "20150830T123600Z");
    }

    #[test]
    fn other_texts_are_no_moments() {
        for text in [
            "",
            "20261123T151813",
            "20261123t151813Z",
            "20261123T151813Z ",
            "2026-11-23T15:18",
            "20261323T151813Z",
            "20260229T151813Z",
            "20261123T241813Z",
            "20261123T151860Z",
            "+0261123T151813Z",
            "２０２６1123T1",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }
}
