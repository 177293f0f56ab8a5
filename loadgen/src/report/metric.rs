//! Figures of a summary by name, for thresholds and comparisons.

use super::{summary::Summary, units};

/// One figure of a summary.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// A percentile of the latency; `uncorrected.` before its name: from the actual start.
    Percentile {
        /// From the intended start, rather than from the actual one.
        is_corrected: bool,
        /// 0 to 100.
        percentile: f64,
    },
    /// The average latency.
    Mean {
        /// From the intended start, rather than from the actual one.
        is_corrected: bool,
    },
    /// The longest latency.
    Max {
        /// From the intended start, rather than from the actual one.
        is_corrected: bool,
    },
    /// The shortest latency.
    Min {
        /// From the intended start, rather than from the actual one.
        is_corrected: bool,
    },
    /// Operations a second that ended well.
    Rate,
    /// `Rate` by the rate that was offered.
    RateShare,
    /// Operations that did not end well.
    Errors,
    /// The share of them.
    ErrorRate,
    /// Payload bits a second towards the target.
    Up,
    /// Payload bits a second from it.
    Down,
    /// Both.
    Throughput,
    /// Jain's fairness index of the streams.
    Jain,
    /// Cores that the processes under test used together.
    Cpu,
    /// Their CPU seconds for each GiB.
    CpuPerGib,
    /// The most user memory they held, each at its worst second, together.
    Memory,
    /// CPU of the generator's busiest thread.
    GeneratorCpu,
    /// The generator's scheduling lag, 99th percentile.
    Lag,
    /// A figure that the profile has made.
    Figure(String),
}

/// What a metric is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nanoseconds.
    Time,
    /// A second.
    PerSecond,
    /// A whole number.
    Count,
    /// A share of one.
    Share,
    /// Bits a second.
    BitsPerSecond,
    /// Bytes.
    Bytes,
    /// A number without a unit.
    Number,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
}

impl Metric {
    /// The metric of that name; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (is_corrected, rest) = match name.strip_prefix("uncorrected.") {
            Some(rest) => (false, rest),
            None => (true, name),
        };
        Some(match rest {
            "mean" => Self::Mean { is_corrected },
            "max" => Self::Max { is_corrected },
            "min" => Self::Min { is_corrected },
            _ if rest.starts_with('p') && rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let percentile = rest[1..]
                    .parse()
                    .ok()
                    .filter(|p| (0.0..=100.0).contains(p))?;
                Self::Percentile {
                    is_corrected,
                    percentile,
                }
            }
            _ if !is_corrected => return None,
            _ => return Self::parse_plain(rest),
        })
    }

    fn parse_plain(name: &str) -> Option<Self> {
        if let Some(figure) = name.strip_prefix("figure.") {
            return (!figure.is_empty()).then(|| Self::Figure(figure.to_owned()));
        }
        PLAIN
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, metric)| metric.clone())
    }

    /// Its name, as [`Metric::parse`] takes it.
    #[must_use]
    pub fn name(&self) -> String {
        let of = |is_corrected: &bool, name: String| {
            if *is_corrected {
                name
            } else {
                format!("uncorrected.{name}")
            }
        };
        match self {
            Self::Percentile {
                is_corrected,
                percentile,
            } => of(is_corrected, format!("p{percentile}")),
            Self::Mean { is_corrected } => of(is_corrected, "mean".to_owned()),
            Self::Max { is_corrected } => of(is_corrected, "max".to_owned()),
            Self::Min { is_corrected } => of(is_corrected, "min".to_owned()),
            Self::Figure(name) => format!("figure.{name}"),
            plain => {
                let known = PLAIN.iter().find(|(_, metric)| metric == plain);
                known
                    .expect("every metric without a parameter is in the table")
                    .0
                    .to_owned()
            }
        }
    }

    /// What it is counted in.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Percentile { .. }
            | Self::Mean { .. }
            | Self::Max { .. }
            | Self::Min { .. }
            | Self::Lag => Kind::Time,
            Self::Rate => Kind::PerSecond,
            Self::RateShare | Self::ErrorRate | Self::GeneratorCpu => Kind::Share,
            Self::Errors => Kind::Count,
            Self::Up | Self::Down | Self::Throughput => Kind::BitsPerSecond,
            Self::Memory => Kind::Bytes,
            Self::Jain | Self::Cpu | Self::CpuPerGib => Kind::Number,
            Self::Figure(name) => Kind::of_figure(name),
        }
    }

    /// Which way is better.
    #[must_use]
    pub fn better(&self) -> Better {
        match self {
            Self::Rate
            | Self::RateShare
            | Self::Up
            | Self::Down
            | Self::Throughput
            | Self::Jain => Better::Higher,
            Self::Figure(name) => Better::of_figure(name),
            _ => Better::Lower,
        }
    }

    /// Its value in a summary, in the unit of its kind; `None` where the run did not measure it.
    #[must_use]
    pub fn read(&self, summary: &Summary) -> Option<f64> {
        let latency = |is_corrected: &bool| {
            let latency = if *is_corrected {
                &summary.corrected
            } else {
                &summary.uncorrected
            };
            (latency.count > 0).then_some(latency)
        };
        match self {
            Self::Percentile {
                is_corrected,
                percentile,
            } => {
                let latency = latency(is_corrected)?;
                let value = match percentile {
                    50.0 => latency.p50_ns,
                    90.0 => latency.p90_ns,
                    99.0 => latency.p99_ns,
                    99.9 => latency.p999_ns,
                    other => latency.at(*other)?,
                };
                Some(value as f64)
            }
            Self::Mean { is_corrected } => Some(latency(is_corrected)?.mean_ns),
            Self::Max { is_corrected } => Some(latency(is_corrected)?.max_ns as f64),
            Self::Min { is_corrected } => Some(latency(is_corrected)?.min_ns as f64),
            Self::Rate => Some(summary.achieved_rate),
            Self::RateShare => summary.achieved_share(),
            Self::Errors => Some(summary.errors_total() as f64),
            Self::ErrorRate => Some(summary.error_share()),
            Self::Up => Some(summary.up_bits_per_second),
            Self::Down => Some(summary.down_bits_per_second),
            Self::Throughput => Some(summary.up_bits_per_second + summary.down_bits_per_second),
            Self::Jain => summary.shares.as_ref().map(|shares| shares.jain),
            Self::Cpu => sum(summary
                .processes
                .iter()
                .map(|process| Some(process.cpu_cores))),
            Self::CpuPerGib => sum(summary
                .processes
                .iter()
                .map(|process| process.cpu_s_per_gib)),
            Self::Memory => sum(summary
                .processes
                .iter()
                .map(|it| it.user_memory_max_bytes.map(|bytes| bytes as f64))),
            Self::GeneratorCpu => Some(summary.generator.cpu_busiest_thread),
            Self::Lag => {
                (summary.generator.wakes > 0).then_some(summary.generator.lag_p99_ns as f64)
            }
            Self::Figure(name) => summary.figures.get(name).copied(),
        }
    }

    /// Every name without a parameter, for messages.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ["pNN", "mean", "max", "min"]
            .into_iter()
            .chain(PLAIN.iter().map(|(name, _)| *name))
            .chain(["figure.NAME"])
    }
}

impl Better {
    /// By the unit in which a figure's name ends, but for those with which it is the other way round.
    fn of_figure(name: &str) -> Self {
        match name {
            "held_connections"
            | "tunnels_back_count"
            | "far_end_connections_count"
            | "far_end_received_bytes" => Self::Higher,
            // What nobody asked for: work without load, and all at once after a storm.
            "all_idle_cpu_share" | "attempts_max_per_second" => Self::Lower,
            _ if name.ends_with("_per_second") || name.ends_with("_share") => Self::Higher,
            _ => Self::Lower,
        }
    }
}

impl Kind {
    /// A figure's name ends in its unit.
    fn of_figure(name: &str) -> Self {
        match name {
            "held_connections" => Self::Count,
            _ if name.ends_with("_ns") => Self::Time,
            _ if name.ends_with("_bits_per_second") => Self::BitsPerSecond,
            _ if name.ends_with("_per_second") => Self::PerSecond,
            _ if name.ends_with("_bytes") => Self::Bytes,
            _ if name.ends_with("_share") => Self::Share,
            _ if name.ends_with("_count") => Self::Count,
            _ => Self::Number,
        }
    }

    /// A value of this kind, for people.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Time => units::time(value),
            Self::PerSecond => units::rate(value),
            Self::Count => units::count(value),
            Self::Share => units::percent(value),
            Self::BitsPerSecond => units::bits(value),
            Self::Bytes => units::bytes(value),
            Self::Number => format!("{value:.3}"),
        }
    }
}

/// A sum in which one missing part makes the whole unknown; of no parts likewise.
fn sum(parts: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut parts = parts.peekable();
    parts.peek()?;
    parts.sum()
}

const PLAIN: [(&str, Metric); 13] = [
    ("rate", Metric::Rate),
    ("rate-share", Metric::RateShare),
    ("errors", Metric::Errors),
    ("error-rate", Metric::ErrorRate),
    ("up", Metric::Up),
    ("down", Metric::Down),
    ("throughput", Metric::Throughput),
    ("jain", Metric::Jain),
    ("cpu", Metric::Cpu),
    ("cpu-per-gib", Metric::CpuPerGib),
    ("memory", Metric::Memory),
    ("generator-cpu", Metric::GeneratorCpu),
    ("lag", Metric::Lag),
];

/// For the tests of whoever makes figures: these are all, with the direction in which each gets better.
#[cfg(test)]
pub(crate) fn assert_directions(
    figures: &std::collections::BTreeMap<String, f64>,
    higher: &[&'static str],
    lower: &[&'static str],
) {
    let of = |better| {
        let figures = figures.keys().map(String::as_str);
        figures
            .filter(|name| Metric::Figure((*name).to_owned()).better() == better)
            .collect::<Vec<_>>()
    };
    let sorted = |names: &[&'static str]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    assert_eq!(of(Better::Higher), sorted(higher));
    assert_eq!(of(Better::Lower), sorted(lower));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figures_unit_is_the_end_of_its_name() {
        for (name, kind) in [
            ("alone_cpu_per_operation_ns", Kind::Time),
            ("others_before_bits_per_second", Kind::BitsPerSecond),
            ("alone_per_second", Kind::PerSecond),
            ("far_end_received_bytes", Kind::Bytes),
            ("kept_share", Kind::Share),
            ("tunnels_back_count", Kind::Count),
            ("held_connections", Kind::Count),
            ("bytes_flow_p99_s", Kind::Number),
        ] {
            assert_eq!(Metric::Figure(name.to_owned()).kind(), kind, "{name}");
        }
    }

    #[test]
    fn a_name_is_read_back() {
        for name in [
            "p50",
            "p99.9",
            "uncorrected.p99",
            "uncorrected.max",
            "mean",
            "min",
            "figure.storm_bytes",
        ] {
            assert_eq!(Metric::parse(name).expect(name).name(), name);
        }
        for (name, metric) in PLAIN {
            assert_eq!(
                (Metric::parse(name), metric.name().as_str()),
                (Some(metric.clone()), name)
            );
        }
        for name in [
            "",
            "p",
            "p101",
            "p99x",
            "P99",
            "uncorrected.rate",
            "uncorrected.",
            "figure.",
            "rates",
        ] {
            assert_eq!(Metric::parse(name), None, "{name}");
        }
    }

    #[test]
    fn what_was_not_measured_has_no_value() {
        let summary = Summary::default();
        for name in [
            "p99",
            "uncorrected.max",
            "jain",
            "cpu",
            "memory",
            "lag",
            "rate-share",
            "figure.x",
        ] {
            assert_eq!(
                Metric::parse(name).expect(name).read(&summary),
                None,
                "{name}"
            );
        }
        assert_eq!(Metric::Errors.read(&summary), Some(0.0));
    }
}
