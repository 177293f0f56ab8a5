//! A certificate request that was made on the device, where its key stays.

use std::path::Path;

use adit_proto::escape::Escaped;
use adit_service::certificates::has_key_of_request;

use super::files::read;
use super::trouble::Trouble;
use crate::exit::ExitCode;

/// What `--csr` names.
pub(super) struct Request {
    /// How messages call its file.
    name: String,
    pem: String,
}

impl Request {
    /// Reads the file. Whether it is a request, the service says, or [`is_for`](Self::is_for).
    pub(super) fn read(file: &Path) -> Result<Self, Trouble> {
        let name = Escaped(&file.to_string_lossy()).to_string();
        match read(file)? {
            Some(pem) => Ok(Self { name, pem }),
            None => Err(Trouble::new(
                format_args!("--csr: there is no {name}"),
                HINT,
                ExitCode::Usage,
            )),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether a certificate, in DER, is for the key of this request.
    pub(super) fn is_for(&self, certificate: &[u8]) -> Result<bool, Trouble> {
        has_key_of_request(certificate, &self.pem).map_err(|fault| {
            let message = format!("--csr: {}: {fault}", self.name);
            Trouble::new(message, HINT, ExitCode::Usage)
        })
    }
}

const HINT: &str =
    "make one on the device: openssl req -new -key device.key -subj /CN=NAME -out device.csr";
