//! The `Authorization` header.

use std::fmt;

use super::{ALGORITHM, TERMINATOR};

/// What a signature is good for. The texts are the client's own: the key is derived from them as they
/// are, so none may be brought into another case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `YYYYMMDD`.
    pub date: String,
    /// Any label; clients may be configured with any region.
    pub region: String,
    /// The service's signing name, like `IoTSecuredTunneling`.
    pub service: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            date,
            region,
            service,
        } = self;
        write!(f, "{date}/{region}/{service}/{TERMINATOR}")
    }
}

/// The header, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Says whose secret was used.
    pub access_key_id: String,
    /// What the signature is good for.
    pub scope: Scope,
    /// Lower case, sorted, each once.
    pub signed_headers: Vec<String>,
    /// As it came: only 64 lower-case hexadecimal digits can be right.
    pub signature: String,
}

impl Authorization {
    /// Reads
    /// `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=…`.
    ///
    /// # Errors
    /// Says which part is missing or wrong, without repeating it.
    pub fn parse(header: &str) -> Result<Self, MalformedAuthorization> {
        use MalformedAuthorization::*;
        let rest = header.strip_prefix(ALGORITHM).ok_or(Algorithm)?;
        let rest = rest.strip_prefix(' ').ok_or(Algorithm)?;
        let (mut credential, mut headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim_matches(' ').split_once('=').ok_or(Part)?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut headers,
                "Signature" => &mut signature,
                _ => return Err(Part),
            };
            if place.replace(value).is_some() {
                return Err(Part);
            }
        }
        let (access_key_id, scope) = parse_credential(credential.ok_or(Credential)?)?;
        Ok(Self {
            access_key_id,
            scope,
            signed_headers: parse_signed_headers(headers.ok_or(SignedHeaders)?)?,
            signature: signature.ok_or(Signature)?.to_owned(),
        })
    }
}

/// Which part of an `Authorization` header is missing or wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedAuthorization {
    /// It begins with something else.
    #[error("the Authorization header must begin with AWS4-HMAC-SHA256 and a space")]
    Algorithm,
    /// A part that is none of the three, or is there twice.
    #[error(
        "the Authorization header must consist of Credential=, SignedHeaders= and Signature=, each once"
    )]
    Part,
    /// The first part.
    #[error(
        "the Authorization header needs a Credential of the form KEY/YYYYMMDD/REGION/SERVICE/aws4_request"
    )]
    Credential,
    /// The second part.
    #[error(
        "the Authorization header needs SignedHeaders: lower-case names, sorted, each once, with \
         semicolons between them"
    )]
    SignedHeaders,
    /// The third part.
    #[error("the Authorization header needs a Signature")]
    Signature,
}

fn parse_credential(text: &str) -> Result<(String, Scope), MalformedAuthorization> {
    let parts: Vec<&str> = text.split('/').collect();
    let [key, date, region, service, TERMINATOR] = parts[..] else {
        return Err(MalformedAuthorization::Credential);
    };
    let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    if key.is_empty() || !is_date || region.is_empty() || service.is_empty() {
        return Err(MalformedAuthorization::Credential);
    }
    let scope = Scope {
        date: date.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
    };
    Ok((key.to_owned(), scope))
}

fn parse_signed_headers(text: &str) -> Result<Vec<String>, MalformedAuthorization> {
    let names: Vec<String> = text.split(';').map(str::to_owned).collect();
    let is_name = |name: &String| {
        let allowed = |byte: u8| !byte.is_ascii_uppercase() && byte.is_ascii_graphic();
        !name.is_empty() && name.bytes().all(allowed)
    };
    if !names.iter().all(is_name) || !names.is_sorted_by(|a, b| a < b) {
        return Err(MalformedAuthorization::SignedHeaders);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "AWS4-HMAC-SHA256 Credential=AK/20261123/r/IoT/aws4_request, \
                        SignedHeaders=host;x-amz-date, Signature=0a";

    #[test]
    fn spaces_behind_commas_are_optional() {
        let parsed = Authorization::parse(GOOD).unwrap();
        assert_eq!(parsed.access_key_id, "AK");
        assert_eq!(parsed.scope.to_string(), "20261123/r/IoT/aws4_request");
        assert_eq!(parsed.signed_headers, ["host", "x-amz-date"]);
        assert_eq!(parsed.signature, "0a");
        assert_eq!(Authorization::parse(&GOOD.replace(", ", ",")), Ok(parsed));
    }

    #[test]
    fn a_refusal_names_the_part() {
        use MalformedAuthorization::*;
        for (from, to, error) in [
            ("AWS4-HMAC-SHA256", "Bearer", Algorithm),
            ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256,", Algorithm),
            ("Credential=", "credential=", Part),
            ("Signature=0a", "Signature", Part),
            ("Signature=0a", "Signature=0a, Signature=0a", Part),
            ("Signature=0a", "Signature=0a,", Part),
            (", Signature=0a", "", Signature),
            (", SignedHeaders=host;x-amz-date", "", SignedHeaders),
            ("host;x-amz-date", "x-amz-date;host", SignedHeaders),
            ("host;x-amz-date", "host;host", SignedHeaders),
            ("host;x-amz-date", "Host;x-amz-date", SignedHeaders),
            ("host;x-amz-date", "host;;x-amz-date", SignedHeaders),
            ("host;x-amz-date", "", SignedHeaders),
            ("AK/", "/", Credential),
            ("AK/", "A/K/", Credential),
            ("20261123", "2026112", Credential),
            ("20261123", "2026112x", Credential),
            ("/r/", "//", Credential),
            ("/IoT/", "//", Credential),
            ("aws4_request", "aws4_Request", Credential),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let header = GOOD.replace(from, to);
            assert_eq!(Authorization::parse(&header), Err(error), "{header}");
        }
        assert_eq!(Authorization::parse(""), Err(Algorithm));
    }
}
