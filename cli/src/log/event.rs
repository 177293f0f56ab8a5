//! From a tracing event to a line.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::{Style, level_name, line};

/// Formats every event of the process in one style. Spans are not shown: what belongs to a line is a field.
pub(super) struct Formatter(pub(super) Style);

impl<S, N> FormatEvent<S, N> for Formatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut collected = Collected::default();
        event.record(&mut collected);
        let mut out = String::new();
        let data = event.metadata();
        line::write(
            &mut out,
            self.0,
            level_name(*data.level()),
            data.target(),
            &collected.message,
            &collected.fields,
        );
        writer.write_str(&out)
    }
}

#[derive(Default)]
struct Collected {
    message: String,
    fields: Vec<line::Field>,
}

impl Collected {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Collected {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Format;
    use std::io;
    use std::sync::{Arc, Mutex};
    use time::UtcOffset;
    use tracing_subscriber::prelude::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let style = Style {
            format,
            color: false,
            short_time: true,
            offset: UtcOffset::UTC,
        };
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::Layer::new()
            .event_format(Formatter(style))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_line_with_its_fields() {
        let log = || {
            tracing::warn!(port = 22, peer = %"a\nb", name = "x", on = true, "hello {}", 1);
        };
        let text = logged(Format::Reference, log);
        assert!(
            text.ends_with("[warning] hello 1 port=22 peer=a\\nb name=x on=true\n"),
            "{text}"
        );
        let value: Value = serde_json::from_str(&logged(Format::Json, log)).unwrap();
        assert_eq!(value["port"], 22);
        assert_eq!(value["on"], true);
        assert_eq!(value["peer"], "a\nb");
        assert!(
            value["target"]
                .as_str()
                .unwrap()
                .starts_with("adit_cli::log")
        );
    }
}
