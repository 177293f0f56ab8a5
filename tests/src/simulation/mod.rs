//! The real source, relay and destination on a network and a clock that are made up, all of it from
//! one seed. A reference model says what each application must see.
//!
//! ```text
//! application ─ socket ─ side (Proxy) ═ link ═ middle (Relay) ═ link ═ side (Proxy) ─ socket ─ application
//!                             └──────────── gate (tokens, MemoryStore) ────────────┘
//!
//! world     one step, whichever the dice say     settle    the end of a round: all must be there
//! scene     time, links, ends of connections     verdict   the reference model
//! profile   what a seed is like                  dice      every choice
//! side      a proxy's core and its driver        middle    the relay's
//! link, pipe   cut, joined, late, held up, broken, half closed, vanished
//! input, queue  what was read and not handled, what waits to be written
//! socket, application   full and short, slow, rude, half closing
//! hostile   a peer that says anything            gate      the service's rules about tokens
//! numbers   a source that counts from elsewhere
//! bugs, tamper   mistakes planted to test all this
//! days      many tunnels one after the other, with long silences between what happens
//! ```
//!
//! The cores are the product's; the drivers are written anew after those of `engine::ring`, without
//! sockets and TLS. A run is rounds of steps. In a round everything may go wrong. At its end
//! everybody is polite, and when nothing is under way any more:
//!
//! * each application has received its partner's transfer to the trailer, or there is a reason: an
//!   application left, a link was lost, a socket was cut for a stall, a grace time was over. A
//!   reason excuses one direction; what an ended application had written must arrive all the same;
//! * each client that was not lost met a server, or as many were refused;
//! * no application has heard two others, one of another service, or one that another one hears;
//! * nothing is left in the cores, and a new connection works in every service.
//!
//! And at all times: no panic, no honest peer refused, each socket ended once and cut only for a
//! reason, every bound kept, no token good after it was rotated.

mod application;
mod bugs;
mod days;
mod dice;
mod gate;
mod hostile;
mod input;
mod link;
mod middle;
mod numbers;
mod pipe;
mod profile;
mod queue;
mod scene;
mod settle;
mod side;
mod socket;
mod tamper;
mod verdict;
mod world;

pub use bugs::Bug;
pub use scene::Tally;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use world::World;

/// Steps of one round.
const ROUND: u64 = 2_500;

/// How long a run is, and of what kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many steps of one tunnel, in rounds: as much as can happens at once.
    Steps(u64),
    /// So many simulated days, of one tunnel after the other, in which not much happens.
    Days(u64),
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// What everything follows from.
    pub seed: u64,
    /// How long it is.
    pub length: Length,
    /// A mistake that is planted.
    pub bug: Option<Bug>,
    /// What happened last is remembered.
    pub has_trace: bool,
}

/// Why a run failed, and how to repeat it.
#[derive(Debug)]
pub struct Failure {
    /// The run.
    pub run: Run,
    /// Steps that were taken, or days that were over.
    pub step: u64,
    /// What was wrong.
    pub reason: String,
    /// What happened last, oldest first.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run {
            seed, length, bug, ..
        } = self.run;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        let (unit, option, count) = match length {
            Length::Steps(count) => ("step", "--steps", count),
            Length::Days(count) => ("day", "--days", count),
        };
        writeln!(
            f,
            "seed {seed} fails at {unit} {}: {}",
            self.step, self.reason
        )?;
        write!(f, "replay: simulate --seed {seed} {option} {count}")?;
        match bug {
            Some(bug) => write!(f, " --bug {bug:?}"),
            None => Ok(()),
        }
    }
}

impl Run {
    /// Runs it.
    ///
    /// # Errors
    /// Something happened that must not; a panic is that, too.
    pub fn go(self) -> Result<Tally, Box<Failure>> {
        let mut world = None;
        let mut step = 0;
        let result = catch_unwind(AssertUnwindSafe(|| self.go_on(&mut world, &mut step)));
        let reason = match result {
            Ok(Ok(tally)) => return Ok(tally),
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                format!("a panic: {}", text.unwrap_or_default())
            }
        };
        Err(Box::new(Failure {
            run: self,
            step,
            reason,
            trace: world.iter().flat_map(World::trace).cloned().collect(),
        }))
    }

    fn go_on(self, world: &mut Option<World>, step: &mut u64) -> anyhow::Result<Tally> {
        let world = world.insert(World::new(self.seed, self.bug, self.has_trace)?);
        match self.length {
            Length::Days(days) => world.live(days, step)?,
            Length::Steps(steps) => {
                while *step < steps {
                    *step += 1;
                    world.step()?;
                    if step.is_multiple_of(ROUND) || *step == steps {
                        world.settle()?;
                    }
                }
            }
        }
        Ok(world.tally())
    }
}

/// Runs the seeds from `first` on, on all processors, until one fails; the one with the smallest
/// number of those that were under way then is reported.
///
/// # Errors
/// A seed fails.
pub fn run_all(
    first: u64,
    seeds: u64,
    length: Length,
    bug: Option<Bug>,
) -> Result<Tally, Box<Failure>> {
    let next = AtomicU64::new(first);
    let result = Mutex::new((Tally::default(), None::<Box<Failure>>));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            let run = Run {
                seed,
                length,
                bug,
                has_trace: false,
            };
            let outcome = run.go();
            let mut result = result.lock().expect("nobody panics with it");
            match outcome {
                Ok(tally) => result.0 += tally,
                Err(failure) => {
                    next.store(first + seeds, Ordering::Relaxed);
                    let known = result.1.take();
                    let known = known.filter(|known| known.run.seed < seed);
                    result.1 = Some(known.unwrap_or(failure));
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    match result.into_inner().expect("nobody panics with it") {
        (tally, None) => Ok(tally),
        (_, Some(failure)) => Err(failure),
    }
}
