//! Memory and descriptors of processes that live through the whole day.
//!
//! *Memory*: after a third of the run, during which allocators and caches fill, a straight line through
//! what is resident may rise by at most [`SLOPE_MAX`] in a day. A run of less than a day is too short for
//! a slope; there, what is resident at the end may exceed what was at that third by [`SLACK`].
//!
//! *Descriptors*: as many at the end as before, or less.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use adit_tests::deadline::{pause, until};
use adit_tests::kernel::{processor_ticks, resident_memory};
use anyhow::{Context, Result, bail};

use super::day::Day;

/// In a day.
const SLOPE_MAX: f64 = MIB;
/// What an allocator may add in minutes.
const SLACK: f64 = 8.0 * MIB;
const INTERVAL: Duration = Duration::from_millis(500);
const MIB: f64 = 1024.0 * 1024.0;

/// What is known of one process.
struct Watched {
    name: String,
    id: u32,
    descriptors: usize,
    ticks: u64,
    /// Seconds since the beginning, and resident bytes.
    resident: Vec<(f64, f64)>,
}

pub(crate) struct Watch {
    began: Instant,
    processes: Mutex<Vec<Watched>>,
}

impl Watch {
    /// Counts descriptors, and begins to watch.
    pub(crate) fn begin(processes: Vec<(String, u32)>) -> Result<Self> {
        let watched = processes.into_iter().map(|(name, id)| {
            Ok(Watched {
                descriptors: descriptors(id)?,
                ticks: processor_ticks(id)?,
                resident: Vec::new(),
                name,
                id,
            })
        });
        Ok(Self {
            began: Instant::now(),
            processes: Mutex::new(watched.collect::<Result<_>>()?),
        })
    }

    /// Looks at the memory again and again; ends only when a process is gone.
    pub(crate) async fn sample<T>(&self) -> Result<T> {
        loop {
            self.look()?;
            pause(INTERVAL).await;
        }
    }

    fn look(&self) -> Result<()> {
        let now = self.began.elapsed().as_secs_f64();
        let mut processes = self.processes.lock().expect("nothing panics with it");
        for process in processes.iter_mut() {
            let resident = resident_memory(process.id);
            let resident = resident.with_context(|| process.name.clone())?;
            process.resident.push((now, resident as f64));
        }
        Ok(())
    }

    /// Prints what was seen.
    ///
    /// # Errors
    /// Something is over its bound; all that is, is named.
    pub(crate) async fn judge(self, day: &Day) -> Result<()> {
        let mut wrong = Vec::new();
        let took = self.began.elapsed().as_secs_f64();
        for process in self.processes.into_inner().expect("nothing panics with it") {
            let Watched { name, id, .. } = &process;
            let settled = process.settled(took / 3.0);
            let slope = slope(settled) * day.seconds_of_a_day();
            let (first, last) = (mean(front(settled)), mean(back(settled)));
            let ticks = processor_ticks(*id)?.saturating_sub(process.ticks) as f64;
            let what = format!("descriptors of {name}");
            let gone = until(&what, || {
                descriptors(*id).is_ok_and(|count| count <= process.descriptors)
            });
            let is_back = gone.await.is_ok();
            let now = descriptors(*id)?;
            eprintln!(
                "{name}: {:.2} -> {:.2} MiB resident, {:+.2} MiB a day; {} -> {now} descriptors; {:.1} % of a core",
                first / MIB,
                last / MIB,
                slope / MIB,
                process.descriptors,
                ticks / took,
            );
            // Whether it still rises at the end, or has filled what it fills.
            eprintln!("{name}: MiB resident, by eighths: {}", process.eighths());
            if !is_back {
                wrong.push(format!(
                    "{name} has {now} descriptors, and had {}",
                    process.descriptors
                ));
            }
            if day.is_whole() && slope > SLOPE_MAX {
                wrong.push(format!("{name} grows by {:.2} MiB a day", slope / MIB));
            }
            if last - first > SLACK {
                wrong.push(format!(
                    "{name} has grown by {:.2} MiB",
                    (last - first) / MIB
                ));
            }
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => bail!(wrong.join("; ")),
        }
    }
}

impl Watched {
    /// The samples after this many seconds.
    fn settled(&self, after: f64) -> &[(f64, f64)] {
        let at = self.resident.partition_point(|(second, _)| *second < after);
        &self.resident[at..]
    }

    /// The mean of each eighth of all samples.
    fn eighths(&self) -> String {
        let eighths = self.resident.chunks(self.resident.len().div_ceil(8));
        let means = eighths.map(|eighth| format!("{:.2}", mean(eighth) / MIB));
        means.collect::<Vec<_>>().join(", ")
    }
}

/// Of the straight line with the least squares, in units a second; 0 where there is none.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let middle = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let height = mean(points);
    let (mut shared, mut own) = (0.0, 0.0);
    for (x, y) in points {
        shared += (x - middle) * (y - height);
        own += (x - middle) * (x - middle);
    }
    if own > 0.0 { shared / own } else { 0.0 }
}

fn mean(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|(_, y)| y).sum::<f64>() / points.len() as f64
}

fn front(points: &[(f64, f64)]) -> &[(f64, f64)] {
    &points[..points.len().div_ceil(8)]
}

fn back(points: &[(f64, f64)]) -> &[(f64, f64)] {
    &points[points.len() - points.len().div_ceil(8)..]
}

fn descriptors(id: u32) -> Result<usize> {
    let directory = std::fs::read_dir(format!("/proc/{id}/fd"));
    Ok(directory
        .with_context(|| format!("process {id} is gone"))?
        .count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An allocator's ups and downs, of 3 MiB, over a leak of so much a second.
    fn resident(leak: f64) -> Vec<(f64, f64)> {
        let up_and_down = |second: f64| 3.0 * MIB * (second * 0.7).sin();
        let seconds = (0..1200).map(f64::from);
        let resident = seconds.map(|at| (at, 30.0 * MIB + leak * at + up_and_down(at)));
        resident.collect()
    }

    #[test]
    fn a_small_leak_shows_in_the_slope_and_ups_and_downs_do_not() {
        let day = 1800.0;
        assert!(slope(&resident(0.0)).abs() * day < 0.1 * MIB);
        assert!(slope(&resident(1.2 * MIB / day)) * day > SLOPE_MAX);
    }

    #[test]
    fn this_process_has_descriptors_and_one_more_is_seen() {
        let before = descriptors(std::process::id()).unwrap();
        let _file = std::fs::File::open("/dev/null").unwrap();
        assert!(descriptors(std::process::id()).unwrap() > before.min(1));
    }
}
