//! The directory that `adit thing create` makes: all that `adit agent` needs on the device.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use adit_proto::escape::Escaped;
use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::files::{make_dir, read, write_public, write_secret};
use super::request::Request;
use super::trouble::Trouble;
use crate::exit::ExitCode;

/// The directory, as far as it is filled.
pub(super) struct Bundle {
    dir: PathBuf,
}

/// What stands in `agent.toml`. What is `None` becomes a comment to be filled in, or is not needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Agent<'a> {
    pub(super) thing: &'a str,
    pub(super) endpoint: Option<&'a str>,
    pub(super) tunnel_endpoint: Option<&'a str>,
    /// AWS's own need not be named.
    pub(super) is_tunnel_endpoint_known: bool,
    pub(super) has_ca: bool,
    /// The key was made on the device.
    pub(super) has_own_key: bool,
    pub(super) services: &'a [(String, String)],
}

impl Bundle {
    /// Takes or makes the directory.
    pub(super) fn open(dir: &Path) -> Result<Self, Trouble> {
        make_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The id of the certificate of an earlier run: the SHA-256 of its DER form. One without the key
    /// beside it is of no use, unless the key is on the device, which has made a request with it.
    ///
    /// # Errors
    /// It is for another key. Nobody but its owner knows whether it is still in use, so it is not replaced.
    pub(super) fn certificate(&self, request: Option<&Request>) -> Result<Option<String>, Trouble> {
        let key = match request {
            None => read(&self.path(KEY))?.map(Zeroizing::new),
            Some(_) => None,
        };
        if request.is_none() && key.is_none() {
            return Ok(None);
        }
        let path = self.path(CERTIFICATE);
        let Some(pem) = read(&path)? else {
            return Ok(None);
        };
        let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
            let path = path.to_string_lossy();
            return Err(Trouble::new(
                format_args!("{} is no certificate", Escaped(&path)),
                "remove it, and the command makes another",
                ExitCode::BadConfiguration,
            ));
        };
        let is_usable = match (request, &key) {
            (Some(request), _) => request.is_for(&der)?,
            (None, Some(key)) => is_for(key, &der),
            (None, None) => false,
        };
        if !is_usable {
            return Err(self.of_another_key(request));
        }
        let hash = digest(&SHA256, &der);
        Ok(Some(
            hash.as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        ))
    }

    fn of_another_key(&self, request: Option<&Request>) -> Trouble {
        let shown = |name| Escaped(&self.path(name).to_string_lossy()).to_string();
        let key = request.map_or_else(|| shown(KEY), |request| request.name().to_owned());
        Trouble::new(
            format_args!("{} is for another key than {key}", shown(CERTIFICATE)),
            "move it away, and the command gets another; this one stays ACTIVE until `aws iot update-certificate` \
             or `adit thing delete` takes it out of use",
            ExitCode::BadConfiguration,
        )
    }

    /// A certificate request for the bundle's key, which is made if there is none yet. The key is on
    /// disk before anybody hears of it, so that nothing is lost when this run ends here.
    pub(super) fn request(&self, thing: &str) -> Result<String, Trouble> {
        let unusable = |fault: rcgen::Error| {
            let path = self.path(KEY);
            let message = format!("{}: {fault}", Escaped(&path.to_string_lossy()));
            let hint = "move it away, and the command makes another";
            Trouble::new(message, hint, ExitCode::BadConfiguration)
        };
        let key = match read(&self.path(KEY))?.map(Zeroizing::new) {
            Some(pem) => KeyPair::from_pem(&pem).map_err(unusable)?,
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|fault| {
                    Trouble::failure(format_args!("cannot make a key: {fault}"))
                })?;
                write_secret(&self.path(KEY), &Zeroizing::new(key.serialize_pem()))?;
                key
            }
        };
        let request = || {
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, thing);
            params.serialize_request(&key)?.pem()
        };
        request().map_err(|fault| {
            Trouble::failure(format_args!("cannot ask for a certificate: {fault}"))
        })
    }

    pub(super) fn keep_certificate(&self, pem: &str) -> Result<(), Trouble> {
        write_public(&self.path(CERTIFICATE), pem)
    }

    pub(super) fn keep_ca(&self, pem: &str) -> Result<(), Trouble> {
        write_public(&self.path(CA), pem)
    }

    /// Writes the configuration unless there is one: it may have been edited since. Whether it was
    /// written.
    pub(super) fn keep_agent(&self, agent: &Agent<'_>) -> Result<bool, Trouble> {
        let path = self.path(AGENT);
        if read(&path)?.is_some() {
            return Ok(false);
        }
        write_public(&path, &agent.to_toml())?;
        Ok(true)
    }
}

/// Whether a certificate is for a key, as far as both can be read: what cannot be, the agent names.
fn is_for(key_pem: &str, certificate: &CertificateDer<'static>) -> bool {
    let Ok(key) = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()) else {
        return true;
    };
    let pair = CertifiedKey::from_der(vec![certificate.clone()], key, &default_provider());
    !matches!(
        pair,
        Err(rustls::Error::InconsistentKeys(
            InconsistentKeys::KeyMismatch
        ))
    )
}

impl Agent<'_> {
    /// A text of JSON is one of TOML, too, but for DEL, which stands there as it is.
    fn to_toml(&self) -> String {
        let quoted = |text: &str| {
            let text = serde_json::Value::from(text).to_string();
            text.replace('\u{7f}', "\\u007f")
        };
        let mut toml = String::from("# For the device: adit agent --config agent.toml\n");
        let mut line = |key: &str, value: Option<&str>, example: &str| {
            let _ = match value {
                Some(value) => writeln!(toml, "{key} = {}", quoted(value)),
                None => writeln!(toml, "# {key} = {}", quoted(example)),
            };
        };
        line("thing", Some(self.thing), "");
        line("endpoint", self.endpoint, "mqtt.example.org:8883");
        if self.tunnel_endpoint.is_some() || !self.is_tunnel_endpoint_known {
            line(
                "tunnel_endpoint",
                self.tunnel_endpoint,
                "tunnels.example.org:7443",
            );
        }
        line("certificate", Some(CERTIFICATE), "");
        line("key", Some(KEY), "");
        if self.has_ca {
            line("ca", Some(CA), "");
        }
        if self.has_own_key {
            toml.push_str("# The key was made on the device: put it beside this file under that name, mode 0600.\n");
        }
        toml.push_str("\n[services]\n");
        for (name, place) in self.services {
            let is_number = !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_digit());
            let place = if is_number {
                place.clone()
            } else {
                quoted(place)
            };
            let _ = writeln!(toml, "{} = {place}", quoted(name));
        }
        if self.services.is_empty() {
            toml.push_str("SSH = 22\n");
        }
        toml
    }
}

pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const KEY: &str = "private.key";
pub(super) const CA: &str = "ca.pem";
/// The configuration of the agent.
pub(crate) const AGENT: &str = "agent.toml";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_the_owners() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = Bundle::open(&directory.path().join("lamp")).unwrap();
        let request = bundle.request("lamp").unwrap();
        assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        let key = read(&bundle.path(KEY)).unwrap().unwrap();
        let mode = std::fs::metadata(bundle.path(KEY))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        bundle.request("lamp").unwrap();
        assert_eq!(read(&bundle.path(KEY)).unwrap().unwrap(), key);
        std::fs::write(bundle.path(KEY), "none").unwrap();
        assert!(
            bundle
                .request("lamp")
                .unwrap_err()
                .report()
                .contains("move it away")
        );
    }

    #[test]
    fn a_certificate_counts_only_beside_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = Bundle::open(directory.path()).unwrap();
        let made = rcgen::generate_simple_self_signed(["lamp".to_owned()]).unwrap();
        bundle.keep_certificate(&made.cert.pem()).unwrap();
        assert_eq!(bundle.certificate(None).unwrap(), None);
        let request = request(directory.path(), &made.signing_key);
        let id = bundle.certificate(Some(&request)).unwrap().unwrap();
        assert_eq!(id.len(), 64);
        let key = made.signing_key.serialize_pem();
        std::fs::write(bundle.path(KEY), key).unwrap();
        assert_eq!(bundle.certificate(None).unwrap(), Some(id));
        bundle.keep_certificate("none").unwrap();
        assert!(bundle.certificate(None).is_err());
    }

    #[test]
    fn a_certificate_beside_another_key_is_named_and_left() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = Bundle::open(directory.path()).unwrap();
        let made = rcgen::generate_simple_self_signed(["lamp".to_owned()]).unwrap();
        bundle.keep_certificate(&made.cert.pem()).unwrap();
        let other = KeyPair::generate().unwrap();
        std::fs::write(bundle.path(KEY), other.serialize_pem()).unwrap();
        let request = request(directory.path(), &other);
        for (request, key) in [(Some(&request), "lamp.csr"), (None, "private.key")] {
            let report = bundle.certificate(request).unwrap_err().report();
            for word in [
                "certificate.pem is for another key than",
                key,
                "move it away",
            ] {
                assert!(report.contains(word), "{word}: {report}");
            }
        }
        let kept = read(&bundle.path(CERTIFICATE)).unwrap().unwrap();
        assert_eq!(kept, made.cert.pem());
    }

    fn request(directory: &Path, key: &KeyPair) -> Request {
        let request = CertificateParams::default().serialize_request(key).unwrap();
        let file = directory.join("lamp.csr");
        std::fs::write(&file, request.pem().unwrap()).unwrap();
        Request::read(&file).unwrap()
    }

    #[test]
    fn the_configuration_says_what_is_known_and_leaves_the_rest_to_fill_in() {
        let services = [
            ("SSH".to_owned(), "22".to_owned()),
            ("DB".to_owned(), "db\"x:1".to_owned()),
        ];
        let agent = Agent {
            thing: "lamp",
            endpoint: Some("h:8883"),
            tunnel_endpoint: Some("h:7443"),
            has_ca: true,
            services: &services,
            ..Agent::default()
        };
        let expected = "\
# For the device: adit agent --config agent.toml
thing = \"lamp\"
endpoint = \"h:8883\"
tunnel_endpoint = \"h:7443\"
certificate = \"certificate.pem\"
key = \"private.key\"
ca = \"ca.pem\"

[services]
\"SSH\" = 22
\"DB\" = \"db\\\"x:1\"
";
        assert_eq!(agent.to_toml(), expected);
        let agent = Agent {
            thing: "lamp",
            has_own_key: true,
            ..Agent::default()
        };
        let toml = agent.to_toml();
        assert!(toml.contains("\n# endpoint = ") && toml.contains("\n# tunnel_endpoint = "));
        assert!(toml.contains("made on the device") && toml.ends_with("SSH = 22\n"));
        let aws = Agent {
            is_tunnel_endpoint_known: true,
            ..agent
        };
        assert!(!aws.to_toml().contains("tunnel_endpoint"));
    }

    #[test]
    fn an_edited_configuration_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = Bundle::open(directory.path()).unwrap();
        assert!(bundle.keep_agent(&Agent::default()).unwrap());
        std::fs::write(bundle.path(AGENT), "mine").unwrap();
        assert!(!bundle.keep_agent(&Agent::default()).unwrap());
        assert_eq!(read(&bundle.path(AGENT)).unwrap().unwrap(), "mine");
    }
}
