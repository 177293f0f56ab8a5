//! What a profile knows at its end, beyond what the recorder was told.

use std::collections::BTreeMap;
use std::time::Duration;

/// Of one worker, or of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What went wrong, in words: the first of each worker.
    pub notes: Vec<String>,
    /// Connections that were held and proved to be whole at the end.
    pub held: Option<u64>,
    /// What happened to the others when a reader stalled.
    pub stall: Option<StallOutcome>,
}

/// Bytes of the streams beside the one that stalled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StallOutcome {
    /// Of each, in the window before.
    pub before: Vec<u64>,
    /// Of each, in the window while it stalled.
    pub during: Vec<u64>,
    /// Lengths of the two windows.
    pub windows: (Duration, Duration),
    /// Whether there was a stream to stall, and it lasted until then.
    pub has_stalled: bool,
    /// Whether the stalled stream was cut by the target, rather than carried on with afterwards.
    pub was_cut: bool,
}

impl Outcome {
    /// Adds another worker's.
    pub fn add(&mut self, other: Self) {
        self.notes.extend(other.notes);
        self.held = match (self.held, other.held) {
            (Some(mine), Some(theirs)) => Some(mine + theirs),
            (mine, theirs) => mine.or(theirs),
        };
        match (&mut self.stall, other.stall) {
            (Some(mine), Some(theirs)) => mine.add(theirs),
            (mine, theirs) => *mine = mine.take().or(theirs),
        }
    }

    /// Figures by name; each name ends in its unit.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<String, f64> {
        let mut figures = BTreeMap::new();
        if let Some(held) = self.held {
            figures.insert("held_connections".to_owned(), held as f64);
        }
        if let Some(stall) = self.stall.as_ref().filter(|it| it.why_void().is_none()) {
            figures.extend(stall.figures());
        }
        figures
    }

    /// What the reader of the figures should know: what went wrong, and what is not told.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let void = self.stall.as_ref().and_then(StallOutcome::why_void);
        let void = void.map(str::to_owned);
        self.notes.iter().cloned().chain(void).collect()
    }
}

impl StallOutcome {
    fn add(&mut self, other: Self) {
        self.before.extend(other.before);
        self.during.extend(other.during);
        self.has_stalled |= other.has_stalled;
        self.was_cut |= other.was_cut;
    }

    /// Why there are no figures, if there are none: of a stall that was none, or that nobody could notice, they would tell
    /// that all went well.
    fn why_void(&self) -> Option<&'static str> {
        if !self.has_stalled {
            return Some(
                "nothing stalled, since connection 0 could not be opened, or was gone by then: the others tell nothing",
            );
        }
        self.before
            .is_empty()
            .then_some("no connection was open beside the one that stalled: nobody could notice it")
    }

    fn figures(&self) -> [(String, f64); 5] {
        let rate = |bytes: &[u64], window: Duration| {
            bytes.iter().sum::<u64>() as f64 * 8.0 / window.as_secs_f64().max(1e-9)
        };
        let before = rate(&self.before, self.windows.0);
        let during = rate(&self.during, self.windows.1);
        let scale = self.windows.0.as_secs_f64() / self.windows.1.as_secs_f64().max(1e-9);
        let kept =
            |(before, during): (&u64, &u64)| *during as f64 * scale / (*before).max(1) as f64;
        let worst = self.before.iter().zip(&self.during).map(kept);
        [
            ("others_before_bits_per_second", before),
            ("others_during_bits_per_second", during),
            ("others_kept_share", during / before.max(1e-9)),
            (
                "worst_of_others_kept_share",
                worst.fold(f64::INFINITY, f64::min),
            ),
            (
                "stalled_stream_was_cut_count",
                f64::from(u8::from(self.was_cut)),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::assert_directions;

    #[test]
    fn windows_of_different_lengths_are_compared_by_rate() {
        let second = Duration::from_secs(1);
        let one = |before, during| Outcome {
            stall: Some(StallOutcome {
                before: vec![before],
                during: vec![during],
                windows: (second, 2 * second),
                has_stalled: true,
                was_cut: false,
            }),
            ..Outcome::default()
        };
        let mut all = one(100, 200);
        all.add(one(100, 100));
        let figures = all.figures();
        assert_eq!(figures["others_before_bits_per_second"], 1600.0);
        assert_eq!(figures["others_kept_share"], 0.75);
        assert_eq!(figures["worst_of_others_kept_share"], 0.5);
    }

    #[test]
    fn it_is_known_of_each_figure_which_way_is_better() {
        let stall = StallOutcome {
            before: vec![1],
            during: vec![1],
            has_stalled: true,
            ..StallOutcome::default()
        };
        let all = Outcome {
            held: Some(1),
            stall: Some(stall),
            ..Outcome::default()
        };
        let higher = [
            "held_connections",
            "others_before_bits_per_second",
            "others_during_bits_per_second",
            "others_kept_share",
            "worst_of_others_kept_share",
        ];
        let lower = ["stalled_stream_was_cut_count"];
        assert_directions(&all.figures(), &higher, &lower);
    }

    #[test]
    fn a_stall_that_nobody_could_see_has_no_figures() {
        let of = |others: Vec<u64>, has_stalled| Outcome {
            stall: Some(StallOutcome {
                before: others.clone(),
                during: others,
                windows: (Duration::from_secs(1), Duration::from_secs(1)),
                has_stalled,
                was_cut: false,
            }),
            ..Outcome::default()
        };
        for (outcome, why) in [
            (of(vec![100], false), "connection 0 could not be opened"),
            (of(vec![], true), "nobody could notice"),
        ] {
            assert!(outcome.figures().is_empty(), "{outcome:?}");
            assert!(outcome.warnings()[0].contains(why), "{outcome:?}");
        }
        // One worker has the stream that stalls, and another the others.
        let mut all = of(vec![100], false);
        all.add(of(vec![], true));
        assert_eq!(all.figures()["others_kept_share"], 1.0);
        assert!(all.warnings().is_empty());
    }
}
