//! Whether the generator itself was the limit.

use super::{
    summary::{Generator, ProcessUse, Second},
    units,
};

/// A thread of the generator that uses more than this share of a core leaves no room for a burst.
pub const CPU_SHARE_MAX: f64 = 0.8;

/// Woken later than this (99th percentile), the generator's own delay shows in the latencies.
pub const LAG_MAX_NS: u64 = 1_000_000;

/// Warnings about a whole run.
#[must_use]
pub(crate) fn run(generator: &Generator) -> Vec<String> {
    let mut warnings = Vec::new();
    if generator.cpu_busiest_thread > CPU_SHARE_MAX {
        warnings.push(format!(
            "the generator was busy: a thread of it used {} of a core (limit {}); more --threads, or fewer \
             operations, would tell whether the target or the generator set the figures",
            units::percent(generator.cpu_busiest_thread),
            units::percent(CPU_SHARE_MAX),
        ));
    }
    if lacks_a_core(generator) {
        warnings.push(format!(
            "the generator lacked a core: a thread of it was ready to run for {} of the time (limit {}), and none had a \
             core for more than {}; it shares the machine with too much for its figures to be the target's alone",
            units::percent(generator.busiest_wanted),
            units::percent(CPU_SHARE_MAX),
            units::percent(generator.cpu_busiest_thread),
        ));
    }
    if generator.lag_p99_ns > LAG_MAX_NS {
        warnings.push(format!(
            "the generator was woken late: by {} at the 99th percentile (limit {}), which is part of the latencies; the \
             machine has too few free cores for it",
            units::time(generator.lag_p99_ns as f64),
            units::time(LAG_MAX_NS as f64),
        ));
    }
    warnings
}

/// A warning about starts that were never made, and whose fault it may be.
#[must_use]
pub(crate) fn shortfall(generator: &Generator, skipped: u64, due: u64) -> Option<String> {
    let fault = match is_bottleneck(generator) {
        true => "the generator itself may be why",
        // The far end may have been: it has a warning of its own.
        false => "the generator's threads kept up, so answers came too late for so few connections",
    };
    (skipped > 0).then(|| {
        format!(
            "{} of {} starts were never made, since no connection was free for them in time: {fault}; more connections \
             (of mixed: --interactive) would make more of them",
            units::count(skipped as f64),
            units::count(due as f64),
        )
    })
}

/// A warning about the far end, which is the generator's as well, if it had no more room; it has one thread.
#[must_use]
pub(crate) fn far_end(server: &ProcessUse) -> Option<String> {
    let wanted = server.cpu_cores + server.waiting_cores.unwrap_or(0.0);
    (wanted > CPU_SHARE_MAX).then(|| {
        format!(
            "the verifying server was ready to run for {} of the time (limit {}) and had a core for {}: answers waited for \
             it, not for the target alone",
            units::percent(wanted),
            units::percent(CPU_SHARE_MAX),
            units::percent(server.cpu_cores),
        )
    })
}

/// Whether a thread had work all the time, and other threads the cores for it.
fn lacks_a_core(generator: &Generator) -> bool {
    generator.busiest_wanted > CPU_SHARE_MAX && generator.cpu_busiest_thread <= CPU_SHARE_MAX
}

/// Warnings about one second, in few words.
#[must_use]
pub(crate) fn second(second: &Second) -> Vec<String> {
    let mut warnings = Vec::new();
    if second.generator_cpu_busiest > CPU_SHARE_MAX {
        warnings.push(format!(
            "generator busy: {} of a core",
            units::percent(second.generator_cpu_busiest)
        ));
    }
    if second.lag_p99_ns > LAG_MAX_NS {
        warnings.push(format!(
            "generator late: {} at p99",
            units::time(second.lag_p99_ns as f64)
        ));
    }
    warnings
}

/// Whether the figures may be the generator's own.
#[must_use]
pub(crate) fn is_bottleneck(generator: &Generator) -> bool {
    generator.cpu_busiest_thread > CPU_SHARE_MAX
        || lacks_a_core(generator)
        || generator.lag_p99_ns > LAG_MAX_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_that_were_never_made_are_laid_at_somebodys_door() {
        let fine = Generator::default();
        assert_eq!(shortfall(&fine, 0, 300), None);
        let told = shortfall(&fine, 12, 300).expect("twelve are missing");
        assert!(
            told.contains("12 of 300") && told.contains("kept up"),
            "{told}"
        );
        let late = Generator {
            lag_p99_ns: 2_500_000,
            ..fine
        };
        let told = shortfall(&late, 12, 300).expect("twelve are missing");
        assert!(told.contains("the generator itself"), "{told}");
    }

    #[test]
    fn a_far_end_without_room_says_so() {
        let mut server = ProcessUse {
            cpu_cores: 0.5,
            waiting_cores: None,
            ..ProcessUse::default()
        };
        assert_eq!(far_end(&server), None);
        server.waiting_cores = Some(0.4);
        let told = far_end(&server).expect("it had no room");
        assert!(
            told.contains("for 90.0 % of the time") && told.contains("for 50.0 %"),
            "{told}"
        );
    }

    #[test]
    fn a_busy_or_late_generator_says_so() {
        let fine = Generator {
            cpu_busiest_thread: 0.8,
            lag_p99_ns: 1_000_000,
            ..Generator::default()
        };
        assert_eq!((run(&fine), is_bottleneck(&fine)), (Vec::new(), false));
        let busy = Generator {
            cpu_busiest_thread: 0.93,
            ..fine.clone()
        };
        assert!(run(&busy)[0].contains("93.0 % of a core (limit 80.0 %)") && is_bottleneck(&busy));
        let starved = Generator {
            cpu_busiest_thread: 0.3,
            busiest_wanted: 0.95,
            ..fine.clone()
        };
        let told = &run(&starved)[0];
        assert!(told.contains("for 95.0 % of the time") && told.contains("for more than 30.0 %"));
        assert!(is_bottleneck(&starved));
        let late = Generator {
            lag_p99_ns: 2_500_000,
            ..fine
        };
        assert!(run(&late)[0].contains("2.50 ms at the 99th percentile") && is_bottleneck(&late));
        let late = Second {
            lag_p99_ns: 1_000_001,
            ..Second::default()
        };
        assert_eq!(second(&late).len(), 1);
        assert_eq!(second(&Second::default()).len(), 0);
    }
}
