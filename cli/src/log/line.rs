//! One log line in each of the three forms.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use adit_proto::escape::Escaped;
use serde_json::{Map, Value};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

use super::{Format, Style};

/// A key beside the text. JSON keeps numbers and switches as they are.
pub(super) type Field = (&'static str, Value);

/// Appends one whole line, with its line break, for this moment and this thread.
pub(super) fn write(
    out: &mut String,
    style: Style,
    level: &str,
    target: &str,
    text: &str,
    fields: &[Field],
) {
    let now = OffsetDateTime::now_utc();
    match style.format {
        Format::Reference => {
            let time = formatted(now.to_offset(style.offset), REFERENCE_TIME);
            let thread = thread_number();
            let _ = write!(
                out,
                "[{time}] (0x{thread:016x}) [{level}] {}",
                Escaped(text)
            );
            write_fields(out, fields, false);
        }
        Format::Text => {
            let time = if style.short_time {
                formatted(now.to_offset(style.offset), SHORT_TIME)
            } else {
                formatted(now.to_offset(UtcOffset::UTC), FULL_TIME)
            };
            let label = format!("{:>5}", label(level));
            let (dim, color, reset) = match style.color {
                true => ("\x1b[2m", color(level), "\x1b[0m"),
                false => ("", "", ""),
            };
            let _ = write!(
                out,
                "{dim}{time}{reset} {color}{label}{reset} {}",
                Escaped(text)
            );
            write_fields(out, fields, style.color);
        }
        Format::Json => {
            let mut object = Map::new();
            for (name, value) in fields {
                object.insert((*name).to_owned(), value.clone());
            }
            let time = formatted(now.to_offset(UtcOffset::UTC), FULL_TIME);
            for (name, value) in [
                ("time", time.as_str()),
                ("level", level),
                ("target", target),
                ("message", text),
            ] {
                object.insert(name.to_owned(), value.into());
            }
            out.push_str(&ascii(&Value::Object(object).to_string()));
        }
    }
    out.push('\n');
}

fn write_fields(out: &mut String, fields: &[Field], color: bool) {
    let (dim, reset) = if color {
        ("\x1b[2m", "\x1b[0m")
    } else {
        ("", "")
    };
    for (name, value) in fields {
        let _ = match value {
            Value::String(text) if text.is_empty() || text.contains([' ', '"', '=']) => {
                write!(
                    out,
                    " {dim}{name}={reset}\"{}\"",
                    Escaped(&text.replace('"', "\\\""))
                )
            }
            Value::String(text) => write!(out, " {dim}{name}={reset}{}", Escaped(text)),
            other => write!(out, " {dim}{name}={reset}{other}"),
        };
    }
}

/// JSON escapes the C0 controls only; the rest of what could disturb a terminal is ASCII afterwards.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if Escaped(character.encode_utf8(&mut [0; 4]))
            .to_string()
            .len()
            == character.len_utf8()
        {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

fn formatted(time: OffsetDateTime, format: &[BorrowedFormatItem<'_>]) -> String {
    // Fails only for a time outside the years 0 to 9999.
    time.format(format).unwrap_or_default()
}

fn label(level: &str) -> &str {
    match level {
        "trace" => "TRACE",
        "debug" => "DEBUG",
        "info" => "INFO",
        "warning" => "WARN",
        "error" => "ERROR",
        _ => "FATAL",
    }
}

fn color(level: &str) -> &'static str {
    match level {
        "trace" | "debug" => "\x1b[34m",
        "info" => "\x1b[32m",
        "warning" => "\x1b[33m",
        _ => "\x1b[31m",
    }
}

/// Threads are numbered as they first log; the reference prints a pointer there.
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

const REFERENCE_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]");
const SHORT_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
const FULL_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

#[cfg(test)]
mod tests {
    use super::*;

    fn style(format: Format, color: bool, short_time: bool) -> Style {
        Style {
            format,
            color,
            short_time,
            offset: UtcOffset::UTC,
        }
    }

    fn line(style: Style, text: &str, fields: &[Field]) -> String {
        let mut out = String::new();
        write(&mut out, style, "warning", "adit", text, fields);
        out
    }

    /// Digits as `9`, so that a moment can be compared.
    fn shape(text: &str) -> String {
        text.chars()
            .map(|character| {
                if character.is_ascii_digit() {
                    '9'
                } else {
                    character
                }
            })
            .collect()
    }

    #[test]
    fn the_references_form() {
        let text = line(
            style(Format::Reference, false, false),
            "text",
            &[("port", 22.into())],
        );
        let (time, rest) = text.split_once("] (").unwrap();
        assert_eq!(shape(time), "[9999-99-99 99:99:99.999999");
        let (thread, rest) = rest.split_once(") ").unwrap();
        assert!(thread.len() == 18 && thread.starts_with("0x"), "{thread}");
        assert_eq!(rest, "[warning] text port=22\n");
    }

    #[test]
    fn the_form_for_people() {
        let fields = [("a", "b".into()), ("c", "d e".into()), ("f", true.into())];
        let text = line(style(Format::Text, false, true), "text", &fields);
        assert_eq!(
            shape(&text),
            "99:99:99.999  WARN text a=b c=\"d e\" f=true\n"
        );
        let text = line(style(Format::Text, false, false), "text", &[]);
        assert_eq!(shape(&text), "9999-99-99T99:99:99.999Z  WARN text\n");
        let text = line(style(Format::Text, true, true), "text", &fields);
        assert!(text.contains("\x1b[33m WARN\x1b[0m text"), "{text:?}");
    }

    #[test]
    fn the_form_for_machines() {
        let fields = [("port", 22.into()), ("message", "not this".into())];
        let text = line(style(Format::Json, false, true), "a \"b\"", &fields);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["message"], "a \"b\"");
        assert_eq!(value["level"], "warning");
        assert_eq!(value["port"], 22);
        assert_eq!(
            shape(value["time"].as_str().unwrap()),
            "9999-99-99T99:99:99.999Z"
        );
    }

    #[test]
    fn no_form_lets_a_control_character_through() {
        let hostile = "a\x1b[2J\r\n\u{9b}31m\u{202e}\u{2028}b";
        let fields = [("evil", hostile.into())];
        for format in [Format::Reference, Format::Text, Format::Json] {
            let text = line(style(format, false, true), hostile, &fields);
            let body = text.strip_suffix('\n').unwrap();
            assert!(!body.chars().any(char::is_control), "{body:?}");
            assert!(!body.contains(['\u{202e}', '\u{2028}']), "{body:?}");
            if format == Format::Json {
                let value: Value = serde_json::from_str(body).unwrap();
                assert_eq!(value["evil"], hostile);
            }
        }
    }

    #[test]
    fn threads_have_numbers_of_their_own() {
        let here = thread_number();
        assert_eq!(here, thread_number());
        let there = std::thread::spawn(thread_number).join().unwrap();
        assert_ne!(here, there);
    }
}
