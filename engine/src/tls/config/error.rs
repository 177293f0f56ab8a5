use std::io;
use std::path::PathBuf;

/// Why TLS settings cannot be used. Each says which file, and where in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file or directory cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why it could not.
        source: io::Error,
    },
    /// A file is far larger than any certificate bundle.
    #[error("{path} has {size} bytes, more than the {max} that a certificate file may have")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A PEM section is damaged.
    #[error("{path}, line {line}: {what}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Line of the section's beginning, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Nothing of the expected kind is in the file or directory.
    #[error(
        "{path} holds no {what}; it should be in PEM form, beginning with `-----BEGIN {label}-----`"
    )]
    Missing {
        /// The file or directory.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// The PEM label it should have.
        label: &'static str,
    },
    /// Neither the system nor the settings name a trusted authority.
    #[error(
        "no trusted authorities: none on this system ({system}), and none were given with --capath"
    )]
    NoAuthorities {
        /// What looking on the system said.
        system: String,
    },
    /// A private key can be read by others.
    #[error(
        "{path} holds a private key that others can read (mode {mode:04o}); run: chmod 600 {path}"
    )]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Certificate and key do not belong together, or the library cannot use them.
    #[error("{certificate} and {key} cannot be used together: {source}")]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// The library's reason.
        source: rustls::Error,
    },
    /// The library refuses the settings.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}
