//! Reading certificates that were stored: are they ours, and are they still good?

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, IpAddr, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::CertificateError;
use crate::data_dir::DataDirError;

/// What is wrong with stored material, before the file is named.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it is not a PEM certificate ({0}); restore it, or move it away to have it made again")]
    Certificate(String),
    #[error("it is not a PEM private key ({0}); restore it from a backup")]
    Key(String),
    #[error("it does not belong to the key beside it ({0}); restore the two files together")]
    Pair(String),
    #[error("it was not issued by ca.pem ({0}); move server.pem away to have it issued again")]
    Chain(String),
}

impl Fault {
    pub(super) fn of(&self, path: std::path::PathBuf) -> CertificateError {
        DataDirError::damaged(&path, self.to_string()).into()
    }

    /// The file of a pair that has the fault.
    pub(super) fn file(&self, certificate: &'static str, key: &'static str) -> &'static str {
        match self {
            Self::Key(_) => key,
            Self::Certificate(_) | Self::Pair(_) | Self::Chain(_) => certificate,
        }
    }
}

/// Why a stored server certificate is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It ends (or ended) at this moment.
    Ends(OffsetDateTime),
    /// It begins only then: the clock was set back.
    Begins(OffsetDateTime),
    /// The settings ask for a name that it lacks.
    Names,
}

impl Renewal {
    /// A moment near `now` at which the old certificate was valid, to check its signature at.
    pub(super) fn valid_at(self, now: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Ends(at) => now.min(at - Duration::seconds(1)),
            Self::Begins(at) => at + Duration::seconds(1),
            Self::Names => now,
        }
    }
}

pub(super) fn parse_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| Fault::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(Fault::Certificate("no certificate in it".to_owned()));
    }
    Ok(chain)
}

pub(super) fn verify(
    ca_pem: &str,
    server: &CertifiedKey,
    now: OffsetDateTime,
) -> Result<(), Fault> {
    let chain_fault = |error: rustls::Error| Fault::Chain(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in parse_chain(ca_pem)? {
        roots.add(certificate).map_err(chain_fault)?;
    }
    let leaf = &server.cert[0];
    let parsed = ParsedCertificate::try_from(leaf).map_err(chain_fault)?;
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &roots,
        &server.cert[1..],
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
        provider().signature_verification_algorithms.all,
    )
    .map_err(chain_fault)
}

pub(super) fn renewal_reason(
    pem: &str,
    names: &[ServerName<'static>],
    now: OffsetDateTime,
) -> Result<Option<Renewal>, Fault> {
    let chain = parse_chain(pem)?;
    let (begins, ends) = validity(&chain[0])?;
    if ends - now < RENEW_BEFORE {
        return Ok(Some(Renewal::Ends(ends)));
    }
    if begins > now {
        return Ok(Some(Renewal::Begins(begins)));
    }
    let present = alternative_names(&chain[0])?;
    let complete = names.iter().all(|name| present.contains(name));
    Ok((!complete).then_some(Renewal::Names))
}

pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Fault> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|error| Fault::Certificate(error.to_string()))
}

pub(super) fn validity(
    certificate: &CertificateDer<'_>,
) -> Result<(OffsetDateTime, OffsetDateTime), Fault> {
    let parsed = parse(certificate)?;
    let validity = parsed.validity();
    Ok((
        validity.not_before.to_datetime(),
        validity.not_after.to_datetime(),
    ))
}

pub(super) fn alternative_names(
    certificate: &CertificateDer<'_>,
) -> Result<Vec<ServerName<'static>>, Fault> {
    let parsed = parse(certificate)?;
    let extension = parsed
        .subject_alternative_name()
        .map_err(|error| Fault::Certificate(error.to_string()))?;
    let names = extension.map_or(&[][..], |extension| &extension.value.general_names);
    Ok(names.iter().filter_map(server_name).collect())
}

fn server_name(name: &GeneralName<'_>) -> Option<ServerName<'static>> {
    match name {
        GeneralName::DNSName(name) => ServerName::try_from((*name).to_owned()).ok(),
        GeneralName::IPAddress(bytes) => ip_address(bytes).map(ServerName::IpAddress),
        _ => None,
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::IpAddr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::IpAddr::from(v6).into())
}

pub(super) fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

const RENEW_BEFORE: Duration = Duration::days(30);
