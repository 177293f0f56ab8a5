//! The one-second series as CSV (RFC 4180, without quotes: all fields are numbers).

use std::fmt::Write as _;

use super::{error_kind::ErrorKind, summary::Second};

/// Name of the series in its directory.
pub const CSV_FILE: &str = "series.csv";

/// The series with one line of names, times in nanoseconds.
#[must_use]
pub fn csv(series: &[Second]) -> String {
    let mut out = String::from(
        "second,due,operations,bytes_up,bytes_down,open,p50_ns,p90_ns,p99_ns,p999_ns,max_ns,uncorrected_max_ns,\
         lag_p99_ns,generator_cpu,generator_cpu_busiest,connection_errors,errors",
    );
    for kind in ErrorKind::ALL {
        write!(out, ",errors_{}", kind.name().replace('-', "_")).expect(INFALLIBLE);
    }
    out.push('\n');
    for second in series {
        row(&mut out, second).expect(INFALLIBLE);
    }
    out
}

fn row(out: &mut String, it: &Second) -> std::fmt::Result {
    write!(
        out,
        "{},{},{},{},{},{}",
        it.second, it.due, it.operations, it.bytes_up, it.bytes_down, it.open
    )?;
    write!(
        out,
        ",{},{},{},{},{}",
        it.p50_ns, it.p90_ns, it.p99_ns, it.p999_ns, it.max_ns
    )?;
    write!(out, ",{},{}", it.uncorrected_max_ns, it.lag_p99_ns)?;
    write!(
        out,
        ",{:.4},{:.4},{},{}",
        it.generator_cpu,
        it.generator_cpu_busiest,
        it.connection_errors,
        it.errors_total()
    )?;
    for kind in ErrorKind::ALL {
        write!(out, ",{}", it.errors.get(&kind).copied().unwrap_or(0))?;
    }
    writeln!(out)
}

const INFALLIBLE: &str = "a String takes everything";

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn every_row_has_a_number_for_every_name() {
        let text = csv(&sample::summary().series);
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().expect("names").split(',').collect();
        let column = |name: &str| names.iter().position(|it| *it == name).expect("a column");
        let rows: Vec<Vec<f64>> = lines
            .map(|line| {
                line.split(',')
                    .map(|field| field.parse().expect("a number"))
                    .collect()
            })
            .collect();
        assert_eq!(rows.len(), 5);
        assert!(rows.iter().all(|row| row.len() == names.len()));
        assert_eq!(
            rows.iter()
                .map(|row| row[column("errors_timed_out")])
                .sum::<f64>(),
            2.0
        );
        assert!(rows[3][column("max_ns")] > rows[0][column("max_ns")]);
    }
}
