//! What a system is made of.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use adit_engine::ring::IoChoice;
use adit_engine::tls::RecordsChoice;
use anyhow::Context as _;

use crate::args;
use crate::exit::Error;
use crate::settings::within;

/// The most tunnels of one system: both of their links at the relay, and a reserve, stay within the
/// 20,000 descriptors that a process commonly may have.
pub const TUNNELS_MAX: usize = 9_500;

/// The most loops of the relay, each a thread.
const LOOPS_MAX: usize = 1_024;

/// Descriptors of a process that are not for links, listeners and connections.
const DESCRIPTORS_RESERVED: usize = 200;

/// What a system is made of.
#[derive(Debug, Clone)]
pub struct SystemSettings {
    /// The executable that the parts run: `adit-loadgen`.
    pub executable: PathBuf,
    /// 1 to [`TUNNELS_MAX`].
    pub tunnels: usize,
    /// Connections that will be open at once over all tunnels: decides into how many processes the
    /// proxies are split.
    pub connections: usize,
    /// Descriptors that a process may have.
    pub descriptors: usize,
    /// Kernel interface of the product's parts.
    pub io: IoChoice,
    /// TLS records in the caller's buffer rather than by the library.
    pub in_place_records: bool,
    /// Loops of the relay; `None`: one a core.
    pub relay_loops: Option<NonZeroUsize>,
    /// Congestion control of the verifying server's sockets; the system's default otherwise. Those of
    /// the product's parts have the system's.
    pub congestion: Option<String>,
    /// Whether source proxies are started; without, somebody else has to come with the tokens.
    pub has_source: bool,
    /// The same for the destination's.
    pub has_destination: bool,
    /// What destinations dial; `None`: a verifying server is started.
    pub target: Option<SocketAddr>,
    /// Threads of the verifying server.
    pub server_threads: usize,
    /// Whether links that the service ends are reset rather than closed.
    pub resets_links: bool,
    /// How long to wait until all is ready, besides what many tunnels take.
    pub patience: Duration,
}

impl SystemSettings {
    /// One tunnel, all parts, the product's defaults.
    #[must_use]
    pub fn new(executable: PathBuf) -> Self {
        Self {
            executable,
            tunnels: 1,
            connections: 1,
            descriptors: descriptor_limit(),
            io: IoChoice::Auto,
            in_place_records: RecordsChoice::default() == RecordsChoice::InPlace,
            relay_loops: None,
            congestion: None,
            has_source: true,
            has_destination: true,
            target: None,
            server_threads: 1,
            resets_links: false,
            patience: Duration::from_secs(20),
        }
    }

    /// The system that the arguments describe, with all its parts; with `tunnels` unless they say how
    /// many.
    ///
    /// # Errors
    /// More tunnels than there can be, or this executable is not to be found.
    pub fn of(parts: &args::Parts, tunnels: usize) -> Result<Self, Error> {
        let tunnels = parts.tunnels.unwrap_or(tunnels);
        within("--tunnels", tunnels, TUNNELS_MAX)?;
        if let Some(loops) = parts.relay_loops {
            within("--relay-loops", loops.get(), LOOPS_MAX)?;
        }
        let executable = std::env::current_exe().context("this executable is not to be found")?;
        let settings = Self {
            tunnels,
            connections: tunnels,
            io: parts.system_io,
            in_place_records: parts.tls_records == args::system::TlsRecords::InPlace,
            relay_loops: parts.relay_loops,
            ..Self::new(executable)
        };
        settings.check_descriptors()?;
        Ok(settings)
    }

    /// The relay is one process, and has both links of every tunnel.
    fn check_descriptors(&self) -> Result<(), Error> {
        let needed = 2 * self.tunnels + DESCRIPTORS_RESERVED;
        if needed <= self.descriptors {
            return Ok(());
        }
        let allowed = self.descriptors;
        let most = allowed.saturating_sub(DESCRIPTORS_RESERVED) / 2;
        Err(Error::usage(
            format!(
                "--tunnels {} needs {needed} descriptors in the one relay, and {allowed} are allowed",
                self.tunnels
            ),
            format!("raise the hard limit (ulimit -Hn {needed}), or take at most {most} tunnels"),
        ))
    }

    /// Tunnels that one process carries: their links, listeners and connections stay within its
    /// descriptors. At least one.
    pub(super) fn tunnels_per_process(&self) -> usize {
        let connections = self.connections.div_ceil(self.tunnels.max(1));
        let room = self.descriptors.saturating_sub(DESCRIPTORS_RESERVED);
        (room / (2 + connections)).clamp(1, self.tunnels.max(1))
    }

    /// How long to wait until all is ready: twenty links a second are the least that is expected of
    /// a machine, however busy.
    pub(super) fn ready_within(&self) -> Duration {
        self.patience + Duration::from_millis(50) * self.tunnels as u32
    }
}

/// What a process may have, by `/proc`: its hard limit, which parts raise themselves to.
fn descriptor_limit() -> usize {
    const COMMON: usize = 20_000;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    hard_limit(&limits).unwrap_or(COMMON)
}

fn hard_limit(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|it| it.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(tunnels: usize, connections: usize) -> SystemSettings {
        SystemSettings {
            tunnels,
            connections,
            descriptors: 20_000,
            ..SystemSettings::new(PathBuf::new())
        }
    }

    #[test]
    fn proxies_are_split_where_descriptors_would_run_out() {
        for (tunnels, connections, expected) in [
            (1, 1, 1),
            (1, 10_000, 1),
            // More than can be: one tunnel cannot be split.
            (1, 100_000, 1),
            (1_000, 10, 1_000),
            (9_500, 10, 6_600),
            (10, 100_000, 1),
            (100, 100_000, 19),
        ] {
            let settings = settings(tunnels, connections);
            let per_process = settings.tunnels_per_process();
            assert_eq!(per_process, expected, "{tunnels} {connections}");
        }
    }

    #[test]
    fn too_few_descriptors_for_the_relay_are_told_before_anything_is_started() {
        settings(9_500, 1).check_descriptors().unwrap();
        let few = SystemSettings {
            descriptors: 4_096,
            ..settings(9_500, 1)
        };
        let told = few.check_descriptors().unwrap_err().to_string();
        for part in ["19200", "4096", "hint: ", "at most 1948 tunnels"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn the_hard_limit_is_read() {
        let text = "Limit  Soft Limit  Hard Limit  Units\n\
                    Max open files            1024                 20000                files\n";
        assert_eq!(hard_limit(text), Some(20_000));
        assert_eq!(hard_limit(""), None);
        assert!(descriptor_limit() > 100);
    }
}
