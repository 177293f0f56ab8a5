//! Quotas: what one installation allows, under the names that the command line knows.
//!
//! AWS's values are a business's (control-plane specification, section 10). Ours, the default, only keep
//! one caller from using up the machine. What AWS does not publish is the same in both.

use std::fmt;

use crate::tunnels::Limits;

/// All quotas. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    values: [Option<u64>; ROWS.len()],
}

/// One quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Services of one tunnel.
    ServicesPerTunnel,
    /// Tags on one tunnel.
    TagsPerTunnel,
    /// Open tunnels of the account.
    OpenTunnels,
    /// Open tunnels that were opened with one access key.
    OpenTunnelsPerKey,
    /// Open tunnels to one thing.
    OpenTunnelsPerThing,
    /// Calls in a second with one access key; beyond, `ThrottlingException`.
    ApiCallsPerSecond,
    /// New connections in a second through one tunnel.
    ConnectionsPerSecond,
    /// Bytes in a second through one tunnel.
    BytesPerSecond,
}

struct Row {
    name: &'static str,
    quota: Quota,
    ours: Option<u64>,
    aws: Option<u64>,
    max: u64,
    /// Whether 0 can be set, and stands for no limit.
    may_be_unlimited: bool,
}

const fn row(
    name: &'static str,
    quota: Quota,
    ours: Option<u64>,
    aws: Option<u64>,
    max: u64,
    may_be_unlimited: bool,
) -> Row {
    Row {
        name,
        quota,
        ours,
        aws,
        max,
        may_be_unlimited,
    }
}

const ROWS: [Row; 8] = [
    row(
        "services-per-tunnel",
        Quota::ServicesPerTunnel,
        Some(128),
        Some(3),
        128,
        false,
    ),
    row(
        "tags-per-tunnel",
        Quota::TagsPerTunnel,
        Some(50),
        Some(50),
        200,
        false,
    ),
    row(
        "open-tunnels",
        Quota::OpenTunnels,
        Some(100_000),
        Some(100_000),
        10_000_000,
        false,
    ),
    row(
        "open-tunnels-per-key",
        Quota::OpenTunnelsPerKey,
        Some(50_000),
        Some(50_000),
        10_000_000,
        true,
    ),
    row(
        "open-tunnels-per-thing",
        Quota::OpenTunnelsPerThing,
        Some(1_000),
        Some(1_000),
        10_000_000,
        true,
    ),
    row(
        "api-calls-per-second",
        Quota::ApiCallsPerSecond,
        Some(1_000),
        Some(1_000),
        1_000_000,
        true,
    ),
    row(
        "connections-per-second",
        Quota::ConnectionsPerSecond,
        None,
        Some(10),
        1_000_000,
        true,
    ),
    row(
        "bytes-per-second",
        Quota::BytesPerSecond,
        None,
        Some(800_000),
        1 << 40,
        true,
    ),
];

impl Quotas {
    /// Ours.
    pub fn generous() -> Self {
        Self {
            values: ROWS.map(|row| row.ours),
        }
    }

    /// AWS's, as far as they are published.
    pub fn aws() -> Self {
        Self {
            values: ROWS.map(|row| row.aws),
        }
    }

    /// The preset of this name: `default` or `aws`.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::generous()),
            "aws" => Some(Self::aws()),
            _ => None,
        }
    }

    /// Sets one quota from `name=value`.
    ///
    /// # Errors
    /// Lists the names, or the values that fit.
    pub fn set(&mut self, assignment: &str) -> Result<(), InvalidQuota> {
        let (name, value) = assignment.split_once('=').ok_or(InvalidQuota::Form)?;
        let index = ROWS.iter().position(|row| row.name == name);
        let index = index.ok_or(InvalidQuota::Name)?;
        let Row { name, max, .. } = ROWS[index];
        let min = u64::from(!ROWS[index].may_be_unlimited);
        let value = value.parse::<u64>().ok();
        let value = value.filter(|value| (min..=max).contains(value));
        let value = value.ok_or(InvalidQuota::Value { name, min, max })?;
        self.values[index] = (value > 0).then_some(value);
        Ok(())
    }

    /// The value of a quota; `None` is no limit.
    pub fn get(&self, quota: Quota) -> Option<u64> {
        let index = ROWS.iter().position(|row| row.quota == quota);
        self.values[index.expect("every quota has a row")]
    }

    /// Those that the tunnel table keeps.
    pub(crate) fn apply_to(&self, limits: &mut Limits) {
        let size = |quota| self.get(quota).map_or(usize::MAX, |value| value as usize);
        limits.services_per_tunnel_max = size(Quota::ServicesPerTunnel);
        limits.tags_per_tunnel_max = size(Quota::TagsPerTunnel);
        limits.open_tunnels_max = size(Quota::OpenTunnels);
        limits.open_tunnels_per_key_max = size(Quota::OpenTunnelsPerKey);
        limits.open_tunnels_per_thing_max = size(Quota::OpenTunnelsPerThing);
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self::generous()
    }
}

/// Why a quota is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidQuota {
    /// No equals sign.
    Form,
    /// No quota has this name.
    Name,
    /// The value is no number, or too small, or too large.
    Value {
        /// The quota's name.
        name: &'static str,
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
    },
}

impl fmt::Display for InvalidQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("a quota is set as NAME=VALUE"),
            Self::Name => {
                let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
                write!(f, "no quota has this name; there are {}", names.join(", "))
            }
            Self::Value { name, min, max } => {
                write!(f, "{name} must be a number from {min} to {max}")?;
                f.write_str(if *min == 0 { ", 0 for no limit" } else { "" })
            }
        }
    }
}

impl std::error::Error for InvalidQuota {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_those_of_the_table_and_aws_has_its_own() {
        let mut limits = Limits::default();
        Quotas::default().apply_to(&mut limits);
        assert_eq!(format!("{limits:?}"), format!("{:?}", Limits::default()));
        let aws = Quotas::preset("aws").unwrap();
        assert_eq!(aws.get(Quota::ServicesPerTunnel), Some(3));
        assert_eq!(aws.get(Quota::ConnectionsPerSecond), Some(10));
        assert_eq!(aws.get(Quota::BytesPerSecond), Some(800_000));
        assert_eq!(Quotas::preset("default"), Some(Quotas::default()));
        assert_eq!(Quotas::preset("AWS"), None);
    }

    #[test]
    fn one_is_set_by_its_name() {
        let mut quotas = Quotas::aws();
        quotas.set("services-per-tunnel=50").unwrap();
        quotas.set("bytes-per-second=0").unwrap();
        assert_eq!(quotas.get(Quota::ServicesPerTunnel), Some(50));
        assert_eq!(quotas.get(Quota::BytesPerSecond), None);
        for (text, expected) in [
            ("services-per-tunnel", "NAME=VALUE"),
            (
                "services=1",
                "there are services-per-tunnel, tags-per-tunnel, open-tunnels",
            ),
            (
                "services-per-tunnel=0",
                "services-per-tunnel must be a number from 1 to 128",
            ),
            ("services-per-tunnel=129", "from 1 to 128"),
            ("open-tunnels=-1", "from 1 to"),
            ("api-calls-per-second=x", "0 for no limit"),
        ] {
            let error = quotas.set(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
