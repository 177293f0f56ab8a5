//! PEM files with errors that name the line.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use super::ConfigError;

/// Every certificate of the file, in order; none is not an error here.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let text = read(path)?;
    sections(&text)
        .map(|(line, section)| {
            CertificateDer::from_pem_slice(section).map_err(|error| ConfigError::Pem {
                path: path.to_owned(),
                line,
                what: explain(&error),
            })
        })
        .collect()
}

/// Reads a file that is small by nature, and no more of it than that.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(FILE_MAX + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            size: fs::metadata(path).map_or(FILE_MAX + 1, |it| it.len()),
            max: FILE_MAX,
        });
    }
    Ok(text)
}

/// Each certificate section with the line it begins at, up to the next one.
fn sections(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = text;
    let mut line = 1;
    std::iter::from_fn(move || {
        let start = find(rest, BEGIN)?;
        line += newlines(&rest[..start]);
        let begin_line = line;
        let section = &rest[start..];
        let end = find(&section[BEGIN.len()..], b"-----BEGIN ")
            .map_or(section.len(), |at| BEGIN.len() + at);
        line += newlines(&section[..end]);
        rest = &section[end..];
        Some((begin_line, &section[..end]))
    })
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn newlines(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'\n').count()
}

/// A PEM error in words.
pub(super) fn explain(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "the section has no `-----END` line".into(),
        pem::Error::Base64Decode(_) => "the section is not valid base64".into(),
        other => format!("the section is damaged ({other})"),
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// A bundle of all public authorities has about 250 KiB.
const FILE_MAX: u64 = 16 * 1024 * 1024;
