//! The device's certificate and key, and whom it trusts, as settings of TLS.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit_engine::link::LinkTls;
use adit_engine::tls::{ClientTls, Pins, RecordsChoice, client_config, client_config_from};
use adit_proto::escape::Escaped;
use rustls::ClientConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use zeroize::Zeroizing;

/// The files of a device's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, and what leads from it to an authority; PEM.
    pub certificate: PathBuf,
    /// Its private key; PEM, for nobody else to read.
    pub key: PathBuf,
    /// Authorities that the MQTT endpoint must be certified by; without, those of the system. For
    /// tunnels they are trusted besides the system's, as by `adit proxy --capath`.
    pub ca: Option<PathBuf>,
    /// Keys one of which the data plane must have.
    pub pins: Option<Pins>,
}

/// TLS towards both endpoints.
#[derive(Clone)]
pub struct Identity {
    /// With the device's certificate, towards MQTT.
    pub mqtt: Arc<ClientConfig>,
    /// Without it, towards the data plane, which wants tokens.
    pub tunnels: LinkTls,
}

impl Identity {
    /// Reads the files. `alpn` is what the MQTT connection is announced as, where it has to be.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] names the file at fault.
    pub fn read(files: &IdentityFiles, alpn: Option<&str>) -> Result<Self, IdentityError> {
        let pair = (files.certificate.as_path(), files.key.as_path());
        let mut mqtt = mqtt_config(files.ca.as_deref(), Some(pair))?;
        mqtt.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let trust = ClientTls {
            ca_path: files.ca.clone(),
            no_verify: false,
            pins: files.pins.clone(),
        };
        let tunnels = LinkTls::from_settings(&trust, RecordsChoice::default());
        Ok(Self {
            mqtt: Arc::new(mqtt),
            tunnels: tunnels.map_err(|error| IdentityError::Ca(error.to_string()))?,
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// TLS towards an MQTT server that these authorities have certified, without them those of the system;
/// with a certificate of our own and its key, or without.
///
/// # Errors
///
/// [`IdentityError`] names the file at fault.
pub(crate) fn mqtt_config(
    ca: Option<&Path>,
    pair: Option<(&Path, &Path)>,
) -> Result<ClientConfig, IdentityError> {
    let unusable = |source: String| IdentityError::Ca(source);
    let trusting = match ca {
        Some(path) => {
            let authorities = certificates(path).map_err(|error| unusable(error.to_string()))?;
            client_config_from(authorities).map_err(|error| unusable(error.to_string()))?
        }
        None => {
            client_config(&ClientTls::default()).map_err(|error| unusable(error.to_string()))?
        }
    };
    let mut config = ClientConfig::clone(&trusting);
    if let Some((certificate, key)) = pair {
        let chain = certificates(certificate).map_err(IdentityError::Certificate)?;
        let key = private_key(key).map_err(IdentityError::Key)?;
        let certified = CertifiedKey::from_der(chain, key, config.crypto_provider())
            .map_err(|error| IdentityError::Pair(error.to_string()))?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    }
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let (text, _) = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| FileError::pem(path, &error))?;
    if certificates.is_empty() {
        return Err(FileError::Missing {
            path: path.to_owned(),
            label: "CERTIFICATE",
        });
    }
    Ok(certificates)
}

/// Reads a key that its owner alone can read (threat T-26).
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(&private(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => FileError::Missing {
            path: path.to_owned(),
            label: "PRIVATE KEY",
        },
        error => FileError::pem(path, &error),
    })
}

/// The content of a file that its owner alone can use.
///
/// # Errors
///
/// [`FileError`] names the file.
pub(crate) fn private(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let (text, mode) = read(path)?;
    if mode & 0o077 != 0 {
        return Err(FileError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(text)
}

/// The content, and the mode of what was opened and not of what the name may stand for by now.
fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.len() > FILE_SIZE_MAX {
        let reason = format!("it is larger than {FILE_SIZE_MAX} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, reason)));
    }
    // Never grown, so that no copy of a key stays in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_SIZE_MAX as usize));
    file.take(FILE_SIZE_MAX)
        .read_to_end(&mut text)
        .map_err(failed)?;
    Ok((text, metadata.mode() & 0o7777))
}

/// Why a device has no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The authorities cannot be used.
    #[error("{0}")]
    Ca(String),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(FileError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(FileError),
    /// Both can be read, but do not belong together.
    #[error("it is not the key of the certificate: {0}")]
    Pair(String),
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The kernel refused.
    #[error("cannot read {}: {source}", shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no section of that kind.
    #[error("{} has no `-----BEGIN {label}-----`", shown(path))]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        label: &'static str,
    },
    /// A section is damaged.
    #[error("{} is damaged: {reason}", shown(path))]
    Pem {
        /// The file.
        path: PathBuf,
        /// How; without a byte of it.
        reason: &'static str,
    },
    /// Others may read or write a key.
    #[error("{} has mode {mode:04o}, so that others may use it", shown(path))]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl FileError {
    fn pem(path: &Path, error: &pem::Error) -> Self {
        let reason = match error {
            pem::Error::MissingSectionEnd { .. } => "a section has no `-----END` line",
            pem::Error::Base64Decode(_) => "a section is not valid base64",
            _ => "a section cannot be read",
        };
        Self::Pem {
            path: path.to_owned(),
            reason,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Mode { path, .. } => format!("run: chmod 600 {}", shown(path)),
            Self::Read { .. } => "the path starts at the configuration file's directory".to_owned(),
            Self::Missing { .. } | Self::Pem { .. } => {
                "give the PEM file that came with the thing".to_owned()
            }
        }
    }
}

fn shown(path: &Path) -> String {
    Escaped(&path.to_string_lossy()).to_string()
}

/// Largest file that is read, in bytes. A chain with its key has some kilobytes, a bundle of all public
/// authorities 250.
const FILE_SIZE_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_read_only_when_it_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "nothing").unwrap();
        let mut refused = 0;
        for mode in [
            0o600, 0o400, 0o700, 0o500, 0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o660, 0o606,
            0o644, 0o664, 0o666, 0o440, 0o404, 0o444, 0o750, 0o755, 0o777, 0o670, 0o607, 0o611,
        ] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = private_key(&path).unwrap_err();
            let is_refused = matches!(error, FileError::Mode { .. });
            assert_eq!(is_refused, mode & 0o077 != 0, "{mode:o}: {error}");
            if is_refused {
                refused += 1;
                assert!(error.hint().starts_with("run: chmod 600 /"), "{error}");
            }
        }
        assert_eq!(refused, 20);
    }

    #[test]
    fn a_bad_file_is_named_and_never_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        for (text, problem) in [
            ("", "has no `-----BEGIN PRIVATE KEY-----`"),
            (
                "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n",
                "has no `-----END` line",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\n!secret!\n-----END PRIVATE KEY-----\n",
                "is not valid base64",
            ),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            let error = private_key(&path).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("/key"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let error = certificates(&directory.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("/none"), "{error}");
    }
}
