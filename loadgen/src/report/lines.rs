//! One plain line each second, for pipes and logs.

use std::io::{self, Write};

use super::{
    error_kind::ErrorKind,
    summary::Second,
    units,
    view::{Sink, View},
};

/// Writes a line for each second.
pub(crate) struct Lines<W> {
    out: W,
}

impl<W: Write + Send> Lines<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write + Send> Sink for Lines<W> {
    fn second(&mut self, view: &View<'_>) -> io::Result<()> {
        writeln!(self.out, "{}", line(view))?;
        self.out.flush()
    }
}

fn line(view: &View<'_>) -> String {
    let second = view.second;
    let mut parts = vec![format!("{:>5}s", second.second + 1)];
    if let Some(offered) = view.facts.offered_rate {
        parts.push(format!("offered {}", units::rate(offered)));
    }
    parts.push(format!(
        "achieved {}",
        units::rate(second.operations as f64)
    ));
    if second.operations > 0 {
        let time = |nanoseconds: u64| units::time(nanoseconds as f64);
        parts.push(format!("p50 {}", time(second.p50_ns)));
        parts.push(format!("p99 {}", time(second.p99_ns)));
        parts.push(format!("max {}", time(second.max_ns)));
    }
    let bits = |bytes: u64| units::bits(bytes as f64 * 8.0);
    parts.push(format!("up {}", bits(second.bytes_up)));
    parts.push(format!("down {}", bits(second.bytes_down)));
    parts.push(format!("open {}", units::count(second.open as f64)));
    parts.push(format!("errors {}", errors(second)));
    if second.connection_errors > 0 {
        let failed = units::count(second.connection_errors as f64);
        parts.push(format!("connections failed {failed}"));
    }
    parts.push(format!("cpu {}", units::percent(second.generator_cpu)));
    parts.extend(
        view.warnings()
            .into_iter()
            .map(|warning| format!("! {warning}")),
    );
    parts.join("  ")
}

fn errors(second: &Second) -> String {
    match second.errors_total() {
        0 => "0".to_owned(),
        total => format!(
            "{} ({})",
            units::count(total as f64),
            by_kind(second.errors.iter().map(|(k, n)| (*k, *n)))
        ),
    }
}

/// `refused 3, reset 1`
pub(crate) fn by_kind(errors: impl Iterator<Item = (ErrorKind, u64)>) -> String {
    let one = |(kind, count): (ErrorKind, u64)| format!("{kind} {}", units::count(count as f64));
    errors.map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn lines_look_as_they_did() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out);
        sample::run(|view| lines.second(view).expect("a Vec takes everything"));
        sample::assert_snapshot("lines.txt", &String::from_utf8(out).expect("text"));
    }
}
