//! Trusted authorities: the system's, and those that the user adds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::{ConfigError, pem};

/// The system's authorities and, in addition, those in `ca_path`: a file, or a directory of
/// which every file is read, whatever its name (so `openssl rehash` is not needed). The latter
/// are also returned as they are, DER.
///
/// A certificate that the library cannot use as an authority is left out with a warning.
pub(super) fn load(
    ca_path: Option<&Path>,
) -> Result<(RootCertStore, BTreeSet<Vec<u8>>), ConfigError> {
    let mut store = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(system.certs);
    let given = match ca_path {
        Some(path) => read_given(path)?,
        None => BTreeSet::new(),
    };
    for certificate in &given {
        if let Err(error) = store.add(CertificateDer::from(certificate.clone())) {
            tracing::warn!(%error, "a given certificate cannot be used as an authority");
        }
    }
    if store.is_empty() {
        let errors: Vec<String> = system.errors.iter().map(ToString::to_string).collect();
        return Err(ConfigError::NoAuthorities {
            system: match errors.is_empty() {
                true => "no certificate store was found".to_owned(),
                false => errors.join("; "),
            },
        });
    }
    Ok((store, given))
}

/// The certificates in `path`, each once: in a hashed directory each is there twice, by name and
/// by hash.
pub(super) fn read_given(path: &Path) -> Result<BTreeSet<Vec<u8>>, ConfigError> {
    let mut unique = BTreeSet::new();
    for file in files(path)? {
        unique.extend(pem::certificates(&file)?.iter().map(|it| it.to_vec()));
    }
    match unique.is_empty() {
        true => Err(ConfigError::Missing {
            path: path.to_owned(),
            what: "certificate",
            label: "CERTIFICATE",
        }),
        false => Ok(unique),
    }
}

/// The file itself, or the files of the directory in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        // Follows links, as those of a hashed directory; a dangling one is no reason to fail.
        if fs::metadata(&file).is_ok_and(|it| it.is_file()) {
            files.push(file);
        }
        if files.len() > FILES_MAX {
            return Err(failed(io::Error::other(format!(
                "more than {FILES_MAX} files; this is not a directory of certificates"
            ))));
        }
    }
    files.sort();
    Ok(files)
}

/// All public authorities, twice, are about 300 files.
const FILES_MAX: usize = 10_000;
