//! Bounds of one proxy, each with its range, from an option or the settings file.

use std::ops::RangeInclusive;
use std::time::Duration;

use adit_engine::tunnel::endpoint::Excerpt;

use super::quantity::{Size, Time, parse_size, parse_time, shown_range};
use crate::args::ProxyArgs;
use crate::args::options::Opt;
use crate::fault::BadInput;

/// What one tunnel may hold and how long it may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Local connections open at a time, over all services. One more is refused, nothing else suffers
    /// (Q-17b).
    pub connections_max: u32,
    /// The same for each service of a source (the reference's `tcp.max_active_connections`); `None`: the
    /// limit over all services is the only one.
    pub service_connections_max: Option<u32>,
    /// Bytes held for one connection whose application does not take its data, and with credit under
    /// way for it. When nobody chose it, at most half of the tunnel's.
    pub connection_buffer_size: usize,
    /// Bytes held for all connections of the tunnel; at this mark the tunnel is not read.
    pub tunnel_buffer_size: usize,
    /// A connection that takes nothing for so long, while the tunnel waits for it, is reset.
    pub stall_timeout: Duration,
    /// After a local application stopped sending: how long what comes for it may stay quiet before the
    /// connection is ended.
    pub half_close_grace: Duration,
    /// Time between WebSocket pings.
    pub ping_interval: Duration,
    /// After a signal to end, open connections may go on so long.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            service_connections_max: None,
            connection_buffer_size: 4 << 20,
            tunnel_buffer_size: 8 << 20,
            stall_timeout: Duration::from_secs(10),
            half_close_grace: Duration::from_secs(2),
            ping_interval: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Puts what was given on the command line or in a `--config` file over `self`. `is_chosen`: the buffer
    /// of a connection is not the default any more.
    pub fn apply(&mut self, args: &ProxyArgs, is_chosen: bool) -> Result<(), BadInput> {
        count(
            args,
            Opt::MaxConnections,
            &CONNECTIONS,
            &mut self.connections_max,
        )?;
        size(
            args,
            Opt::ConnectionBuffer,
            &CONNECTION_BUFFER,
            &mut self.connection_buffer_size,
        )?;
        size(
            args,
            Opt::TunnelBuffer,
            &TUNNEL_BUFFER,
            &mut self.tunnel_buffer_size,
        )?;
        time(args, Opt::StallTimeout, &STALL, &mut self.stall_timeout)?;
        time(
            args,
            Opt::HalfCloseGrace,
            &GRACE,
            &mut self.half_close_grace,
        )?;
        time(args, Opt::PingInterval, &PING, &mut self.ping_interval)?;
        time(args, Opt::DrainTimeout, &DRAIN, &mut self.drain_timeout)?;
        if !is_chosen && !args.has(Opt::ConnectionBuffer) {
            let half = self.tunnel_buffer_size / 2;
            self.connection_buffer_size = self.connection_buffer_size.min(half);
        }
        self.check_buffers(args)
    }

    fn check_buffers(&self, args: &ProxyArgs) -> Result<(), BadInput> {
        if self.connection_buffer_size <= self.tunnel_buffer_size {
            return Ok(());
        }
        let (one, all) = (
            Size(self.connection_buffer_size),
            Size(self.tunnel_buffer_size),
        );
        let message = format!(
            "--connection-buffer ({one}) is larger than --tunnel-buffer ({all}), which all connections share"
        );
        let fault = BadInput::fatal(message, "make the tunnel's buffer at least as large");
        let from_args = args.has(Opt::ConnectionBuffer) || args.has(Opt::TunnelBuffer);
        Err(if from_args { fault } else { fault.in_file() })
    }
}

fn time(
    args: &ProxyArgs,
    option: Opt,
    range: &RangeInclusive<Duration>,
    target: &mut Duration,
) -> Result<(), BadInput> {
    let allowed = || {
        let range = shown_range(range, Time);
        format!("allowed are {range}, for example 500ms, 10s or 2m")
    };
    quantity(args, option, range, target, parse_time, allowed)
}

fn size(
    args: &ProxyArgs,
    option: Opt,
    range: &RangeInclusive<usize>,
    target: &mut usize,
) -> Result<(), BadInput> {
    let allowed = || {
        let range = shown_range(range, Size);
        format!("allowed are {range}, for example 256KiB or 8MiB")
    };
    quantity(args, option, range, target, parse_size, allowed)
}

fn count(
    args: &ProxyArgs,
    option: Opt,
    range: &RangeInclusive<u32>,
    target: &mut u32,
) -> Result<(), BadInput> {
    let allowed = || format!("allowed are {}", shown_range(range, |count| count));
    quantity(
        args,
        option,
        range,
        target,
        |text| text.parse().ok(),
        allowed,
    )
}

fn quantity<T: PartialOrd>(
    args: &ProxyArgs,
    option: Opt,
    range: &RangeInclusive<T>,
    target: &mut T,
    parse: impl Fn(&str) -> Option<T>,
    allowed: impl Fn() -> String,
) -> Result<(), BadInput> {
    let Some(given) = args.given(option) else {
        return Ok(());
    };
    let problem = |what: &str| {
        let problem = format!("`{}` {what}", Excerpt(&given.value));
        BadInput::value(option, &given.origin, problem, allowed())
    };
    match parse(&given.value) {
        None => Err(problem("cannot be read")),
        Some(value) if !range.contains(&value) => Err(problem("is out of range")),
        Some(value) => {
            *target = value;
            Ok(())
        }
    }
}

/// A slot per connection is reserved when it comes, not before; the top is what fits 32-bit slot tables.
pub const CONNECTIONS: RangeInclusive<u32> = 1..=1_000_000;
/// One payload of the largest kind must fit (64,512 bytes).
pub const CONNECTION_BUFFER: RangeInclusive<usize> = 64 << 10..=64 << 20;
/// The same for the tunnel; the top keeps a typing error from taking the machine.
pub const TUNNEL_BUFFER: RangeInclusive<usize> = 256 << 10..=1 << 30;
const STALL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3_600);
/// Short ones are for tests; AWS ends a connection that is silent for an hour.
pub const PING: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3_600);
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Origin;

    fn applied(option: Opt, value: &str) -> Result<Limits, BadInput> {
        let mut args = ProxyArgs::default();
        args.insert(option, value.into(), Origin::CommandLine);
        let mut limits = Limits::default();
        limits.apply(&args, false).map(|()| limits)
    }

    #[test]
    fn defaults_are_in_range_and_in_the_help() {
        let limits = Limits::default();
        assert!(CONNECTIONS.contains(&limits.connections_max));
        assert!(CONNECTION_BUFFER.contains(&limits.connection_buffer_size));
        assert!(TUNNEL_BUFFER.contains(&limits.tunnel_buffer_size));
        assert!(STALL.contains(&limits.stall_timeout));
        assert!(GRACE.contains(&limits.half_close_grace));
        assert!(PING.contains(&limits.ping_interval));
        assert!(DRAIN.contains(&limits.drain_timeout));
        for (option, shown) in [
            (Opt::MaxConnections, limits.connections_max.to_string()),
            (
                Opt::ConnectionBuffer,
                Size(limits.connection_buffer_size).to_string(),
            ),
            (
                Opt::TunnelBuffer,
                Size(limits.tunnel_buffer_size).to_string(),
            ),
            (Opt::StallTimeout, Time(limits.stall_timeout).to_string()),
            (
                Opt::HalfCloseGrace,
                Time(limits.half_close_grace).to_string(),
            ),
            (Opt::PingInterval, Time(limits.ping_interval).to_string()),
            (Opt::DrainTimeout, Time(limits.drain_timeout).to_string()),
        ] {
            let help = option.spelling().help;
            assert!(help.ends_with(&format!("[{shown}]")), "{help}");
        }
    }

    #[test]
    fn options_are_applied() {
        assert_eq!(
            applied(Opt::MaxConnections, "7").unwrap().connections_max,
            7
        );
        let limits = applied(Opt::ConnectionBuffer, "1MiB").unwrap();
        assert_eq!(limits.connection_buffer_size, 1 << 20);
        let limits = applied(Opt::TunnelBuffer, "1MiB").unwrap();
        assert_eq!(limits.connection_buffer_size, 512 << 10);
        let limits = applied(Opt::StallTimeout, "1500ms").unwrap();
        assert_eq!(limits.stall_timeout, Duration::from_millis(1_500));
        let limits = applied(Opt::HalfCloseGrace, "0").unwrap();
        assert_eq!(limits.half_close_grace, Duration::ZERO);
    }

    #[test]
    fn out_of_range_names_option_value_and_range() {
        for (option, value, allowed) in [
            (Opt::MaxConnections, "0", "1 to 1000000"),
            (Opt::MaxConnections, "many", "1 to 1000000"),
            (Opt::ConnectionBuffer, "1K", "64KiB to 64MiB"),
            (Opt::TunnelBuffer, "5GiB", "256KiB to 1GiB"),
            (Opt::StallTimeout, "0s", "100ms to 1h"),
            (Opt::PingInterval, "2h", "10ms to 1h"),
            (Opt::DrainTimeout, "1d", "0s to 1h"),
            (Opt::HalfCloseGrace, "\x1b[2J", "0s to 24h"),
        ] {
            let fault = applied(option, value).unwrap_err();
            assert!(fault.message().starts_with(&option.flag()), "{fault:?}");
            assert!(fault.hint().contains(allowed), "{fault:?}");
            assert!(!fault.message().contains('\x1b'));
        }
    }

    #[test]
    fn one_connection_may_not_hold_more_than_all() {
        let fault = applied(Opt::ConnectionBuffer, "16MiB").unwrap_err();
        assert!(
            fault.message().contains("--tunnel-buffer (8MiB)"),
            "{fault:?}"
        );
    }
}
