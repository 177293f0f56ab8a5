//! Amazon resource names.

use adit_proto::TunnelId;

/// The fixed part of every ARN: `arn:<partition>:iot:<region>:<account>:`.
///
/// Both are plain labels here. Device agents build a host name from the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    region: String,
    account: String,
}

impl Naming {
    /// A region of 1 to 63 lower-case letters, digits and hyphens, and an account of 12 digits.
    pub fn new(region: &str, account: &str) -> Result<Self, InvalidNaming> {
        let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=63).contains(&region.len()) || !region.bytes().all(label) {
            return Err(InvalidNaming::Region);
        }
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidNaming::Account);
        }
        Ok(Self {
            region: region.to_owned(),
            account: account.to_owned(),
        })
    }

    /// The region's label.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The account's 12 digits.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// `arn:<partition>:iot:<region>:<account>:<kind>/<name>`, like kind `thing`, `cert` or `policy`.
    pub(crate) fn arn(&self, kind: &str, name: &str) -> String {
        format!("{}{kind}/{name}", self.prefix())
    }

    /// The name in an ARN of this kind, region and account; `None` when it is another one's.
    pub(crate) fn name_in<'a>(&self, kind: &str, arn: &'a str) -> Option<&'a str> {
        let rest = arn.strip_prefix(&self.prefix())?;
        rest.strip_prefix(kind)?.strip_prefix('/')
    }

    /// What users are called in ARNs: `arn:<partition>:iam::<account>:user/<name>`.
    pub(crate) fn user_arn(&self, user: &str) -> String {
        let partition = partition(&self.region);
        format!("arn:{partition}:iam::{}:user/{user}", self.account)
    }

    pub(crate) fn tunnel_arn(&self, id: &TunnelId) -> String {
        self.arn("tunnel", id.as_str())
    }

    /// The tunnel of an ARN; `None` when it names something else.
    pub(crate) fn tunnel_of(&self, arn: &str) -> Option<TunnelId> {
        self.name_in("tunnel", arn)?.parse().ok()
    }

    fn prefix(&self) -> String {
        arn_prefix(&self.region, &self.account)
    }
}

/// What all ARNs of things, certificates, policies and tunnels begin with, here:
/// `arn:<partition>:iot:<region>:<account>:`.
pub(crate) fn arn_prefix(region: &str, account: &str) -> String {
    format!("arn:{}:iot:{region}:{account}:", partition(region))
}

/// AWS's partition of a region, which its clients and policies expect in ARNs; those of regions that AWS
/// does not have are in `aws`.
fn partition(region: &str) -> &'static str {
    PARTITIONS
        .iter()
        .find(|(prefix, _)| region.starts_with(prefix))
        .map_or("aws", |(_, partition)| partition)
}

const PARTITIONS: [(&str, &str); 7] = [
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("eu-isoe-", "aws-iso-e"),
    ("eusc-", "aws-eusc"),
];

impl Default for Naming {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
        }
    }
}

/// Why a region or an account is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNaming {
    /// The region.
    #[error("a region is 1 to 63 lower-case letters, digits and hyphens")]
    Region,
    /// The account.
    #[error("an account is 12 digits")]
    Account,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_lead_back_to_their_tunnel_only() {
        let naming = Naming::new("eu-x-1", "123456789012").unwrap();
        let id: TunnelId = "a-b:c".parse().unwrap();
        let arn = naming.tunnel_arn(&id);
        assert_eq!(arn, "arn:aws:iot:eu-x-1:123456789012:tunnel/a-b:c");
        assert_eq!(naming.tunnel_of(&arn), Some(id));
        for other in [
            "",
            "a-b:c",
            "arn:aws:iot:eu-x-1:123456789012:tunnel/",
            "arn:aws:iot:eu-x-1:123456789012:thing/a",
            "arn:aws:iot:eu-x-1:123456789013:tunnel/a",
            "arn:aws:iot:eu-x-2:123456789012:tunnel/a",
            "arn:aws:iot:eu-x-1:123456789012:tunnel/a/b",
        ] {
            assert_eq!(naming.tunnel_of(other), None, "{other}");
        }
    }

    #[test]
    fn arns_have_the_partition_of_their_region() {
        let id: TunnelId = "a".parse().unwrap();
        for (region, partition) in [
            ("eu-west-1", "aws"),
            ("home", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
        ] {
            let naming = Naming::new(region, "123456789012").unwrap();
            let tunnel = format!("arn:{partition}:iot:{region}:123456789012:tunnel/a");
            assert_eq!(naming.tunnel_arn(&id), tunnel);
            assert_eq!(naming.tunnel_of(&tunnel), Some(id.clone()));
            let user = format!("arn:{partition}:iam::123456789012:user/ada");
            assert_eq!(naming.user_arn("ada"), user);
        }
    }

    #[test]
    fn labels_are_checked() {
        let long = "a".repeat(64);
        for region in ["", "EU", "a b", "é", &long] {
            let error = Naming::new(region, "123456789012");
            assert_eq!(error, Err(InvalidNaming::Region), "{region}");
        }
        for account in ["", "12345678901", "1234567890123", "12345678901x"] {
            let error = Naming::new("a", account);
            assert_eq!(error, Err(InvalidNaming::Account), "{account}");
        }
    }
}
