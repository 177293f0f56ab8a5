//! What the registry holds: things, certificates, policies, and what is attached to what.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::token::sha256;
use crate::tunnels::ThingName;

/// Attributes of a thing, sorted by name: names of 1 to 128 of `[a-zA-Z0-9_.,@/:#-]`, values of up to
/// 800 of the same and `=[]`. The API checks them; a store takes any text.
pub type Attributes = BTreeMap<String, String>;

/// A device as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// Unique, and the MQTT client id of the device.
    pub name: ThingName,
    /// Given at creation, never used again.
    pub id: Uuid,
    /// A label; types themselves are not kept.
    pub type_name: Option<ThingName>,
    /// Its attributes.
    pub attributes: Attributes,
    /// 1 at creation, one more with every update.
    pub version: u64,
}

/// All that is needed to create a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewThing {
    /// Its name.
    pub name: ThingName,
    /// A fresh id; unused when the thing exists already.
    pub id: Uuid,
    /// Its type's label.
    pub type_name: Option<ThingName>,
    /// Its attributes.
    pub attributes: Attributes,
}

/// A change of a thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThingUpdate {
    /// What becomes of the attributes; `None` leaves them.
    pub attributes: Option<AttributeChange>,
    /// What becomes of the type.
    pub type_name: TypeChange,
    /// Only when the thing still has this version.
    pub expected_version: Option<u64>,
}

/// What becomes of a thing's attributes. An empty value removes the attribute, either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeChange {
    /// These and no others.
    Replace(Attributes),
    /// These besides the others.
    Merge(Attributes),
}

/// What becomes of a thing's type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TypeChange {
    /// Nothing.
    #[default]
    Keep,
    /// It is this one now.
    Set(ThingName),
    /// None any more.
    Remove,
}

/// Identity of a certificate: SHA-256 of its DER. Shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateId([u8; 32]);

impl CertificateId {
    /// The id of the certificate with this DER.
    pub fn of(der: &[u8]) -> Self {
        Self(sha256(&[der]))
    }

    /// From 64 hexadecimal digits of either case.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |index: usize| char::from(pair[index]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(Self(bytes))
    }

    /// From its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Whether a device may connect with a certificate.
///
/// Any status may follow any other, as in AWS's API. Only `Active` lets a device in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateStatus {
    /// The device may connect.
    Active,
    /// It may not, for now.
    Inactive,
    /// It may not, as the operator's last word.
    Revoked,
}

impl CertificateStatus {
    /// All of them, under the names that the API and the store use.
    pub const ALL: [(&'static str, Self); 3] = [
        ("ACTIVE", Self::Active),
        ("INACTIVE", Self::Inactive),
        ("REVOKED", Self::Revoked),
    ];

    /// The name that the API and the store use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Revoked => "REVOKED",
        }
    }

    /// From the name; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, status)| *status)
    }
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateOrigin {
    /// The built-in authority signed it.
    Issued,
    /// It was registered without its authority, and counts by its fingerprint alone.
    Registered,
}

impl CertificateOrigin {
    /// A name for the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Registered => "registered",
        }
    }

    /// From the name for the store.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Issued, Self::Registered]
            .into_iter()
            .find(|origin| origin.as_str() == name)
    }
}

/// A certificate in the registry. The key to it is never kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of its DER.
    pub id: CertificateId,
    /// One certificate in PEM, at most [`CERTIFICATE_PEM_SIZE_MAX`] bytes.
    pub pem: Arc<str>,
    /// Whether a device may connect with it.
    pub status: CertificateStatus,
    /// Where it comes from.
    pub origin: CertificateOrigin,
    /// When it came into the registry. The order of lists, with the id between equal ones.
    pub created: Timestamp,
    /// When its status last changed.
    pub updated: Timestamp,
    /// Not valid before.
    pub not_before: Timestamp,
    /// Not valid after.
    pub not_after: Timestamp,
}

/// The largest certificate that is kept, in bytes of PEM. One of RSA 4096 with a long name has 3 KiB.
pub const CERTIFICATE_PEM_SIZE_MAX: usize = 16 * 1024;

/// Name of a policy: 1 to 128 of `[\w+=,.@-]`, in ASCII.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(Arc<str>);

impl PolicyName {
    /// `None` when the text is no policy name.
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.into()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A named document that says what devices may do. It never changes: a new text is a new policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Unique.
    pub name: PolicyName,
    /// JSON as it was given, at most [`POLICY_DOCUMENT_SIZE_MAX`] bytes. The API checks its grammar.
    pub document: Arc<str>,
    /// Always 1: the version that AWS's clients are shown.
    pub version: u64,
    /// When it was created. The order of lists, with the name between equal ones.
    pub created: Timestamp,
}

/// The largest policy document, in bytes.
pub const POLICY_DOCUMENT_SIZE_MAX: usize = 20 * 1024;

/// What a connecting device is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its certificate's.
    pub status: CertificateStatus,
    /// What its certificate is attached to, by name.
    pub things: Vec<ThingName>,
    /// The documents attached to its certificate, by their names; empty when the built-in policy counts.
    pub policies: Vec<Arc<str>>,
}

/// Which things a list should hold. All conditions have to be met.
#[derive(Clone, Debug)]
pub struct ThingQuery {
    /// Only things of this type.
    pub type_name: Option<ThingName>,
    /// Only things with this attribute.
    pub attribute: Option<AttributeFilter>,
    /// Only names after this one.
    pub after: Option<ThingName>,
    /// At most so many.
    pub count: NonZeroUsize,
}

/// A condition on an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeFilter {
    /// The attribute has to be there.
    pub name: String,
    /// And have this value, if one is given.
    pub value: Option<String>,
    /// The value has to begin with the given one only.
    pub prefix: bool,
}

/// What to list, from where on, in the order of creation.
///
/// Things made or removed meanwhile do not shift a page.
#[derive(Clone, Debug)]
pub struct ByAge<K> {
    /// The oldest first; otherwise the newest.
    pub ascending: bool,
    /// Creation and key of the last entry of the page before.
    pub after: Option<(Timestamp, K)>,
    /// At most so many.
    pub count: NonZeroUsize,
}

/// What to list, from where on, in the order of the key.
#[derive(Clone, Debug)]
pub struct ByKey<K> {
    /// The last key of the page before.
    pub after: Option<K>,
    /// At most so many.
    pub count: NonZeroUsize,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order asked for.
    pub items: Vec<T>,
    /// Whether another page follows.
    pub more: bool,
}

impl<T> Page<T> {
    /// Takes up to `count` from the iterator, and looks whether there is one more.
    pub(crate) fn take(count: NonZeroUsize, mut all: impl Iterator<Item = T>) -> Self {
        let items = all.by_ref().take(count.get()).collect();
        let more = all.next().is_some();
        Self { items, more }
    }
}

/// Bounds of the registry, for the one account of an installation. Every one refuses.
///
/// With the defaults, all of it at its largest is 10 GB, most of it attributes nobody fills; a thing
/// with a certificate and two attributes takes some 2 KB, so a full registry of such has 200 MB.
#[derive(Clone, Debug)]
pub struct RegistryLimits {
    /// Things.
    pub things_max: usize,
    /// Certificates, whatever their status.
    pub certificates_max: usize,
    /// Policies.
    pub policies_max: usize,
    /// Attributes of one thing.
    pub attributes_per_thing_max: usize,
    /// Certificates attached to one thing.
    pub certificates_per_thing_max: usize,
    /// Things that one certificate is attached to.
    pub things_per_certificate_max: usize,
    /// Policies attached to one certificate; all of them are read when its device connects.
    pub policies_per_certificate_max: usize,
}

impl Default for RegistryLimits {
    fn default() -> Self {
        Self {
            things_max: 100_000,
            certificates_max: 200_000,
            policies_max: 10_000,
            attributes_per_thing_max: 50,
            certificates_per_thing_max: 100,
            things_per_certificate_max: 100,
            policies_per_certificate_max: 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_id_is_the_digest_in_lower_case() {
        let id = CertificateId::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(id.to_string(), text);
        assert_eq!(CertificateId::from_hex(text), Some(id));
        assert_eq!(CertificateId::from_hex(&text.to_uppercase()), Some(id));
        for bad in [
            "",
            &text[1..],
            &format!("{text}0"),
            &text.replace('b', "g"),
            &text.replacen("ba", "é", 1),
        ] {
            assert_eq!(CertificateId::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn policy_names_have_the_alphabet_of_the_model_in_ascii() {
        for good in ["a", "A_z+=,.@-9", &"p".repeat(128)] {
            assert_eq!(PolicyName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "a:b", "é", "a\n", &"p".repeat(129)] {
            assert_eq!(PolicyName::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn words_lead_back_to_what_they_name() {
        for (name, status) in CertificateStatus::ALL {
            assert_eq!(status.as_str(), name);
            assert_eq!(CertificateStatus::parse(name), Some(status));
        }
        assert_eq!(CertificateStatus::parse("active"), None);
        for origin in [CertificateOrigin::Issued, CertificateOrigin::Registered] {
            assert_eq!(CertificateOrigin::parse(origin.as_str()), Some(origin));
        }
    }
}
