//! The file of access keys, and the one that clients read:
//!
//! ```json
//! [{"accessKeyId": "ADIT…", "secretAccessKey": "…", "user": "ops",
//!   "policy": {"Version": "2012-10-17", "Statement": […]},
//!   "expires": "2027-01-31T00:00:00Z", "sessionToken": "…"}]
//! ```
//!
//! The last two may be left out.

use std::collections::HashMap;
use std::sync::Arc;

use adit_proto::Secret;
use adit_proto::escape::Escaped;

use super::{AccessKey, FIRST_USER, KEYS_MAX, KeyTable};
use crate::access::Caller;
use crate::access::policy::{Json, Policy};
use crate::access::sigv4::{Credentials, Moment};

/// Reads all keys, or says what is wrong and where, without a secret.
pub(super) fn parse(text: &str) -> Result<KeyTable, String> {
    // Its messages have positions only: texts, where the secrets are, are taken as they are.
    let json: Json = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let Json::List(list) = json else {
        return Err("must be a list of access keys".to_owned());
    };
    if list.len() > KEYS_MAX {
        return Err(format!(
            "has {} access keys; the limit is {KEYS_MAX}",
            list.len()
        ));
    }
    let mut keys = HashMap::new();
    for (index, json) in list.into_iter().enumerate() {
        let key = parse_key(json).map_err(|problem| format!("[{index}]{problem}"))?;
        let id = key.credentials.access_key_id.clone();
        if keys.insert(id, key).is_some() {
            return Err(format!("[{index}].accessKeyId: is there already"));
        }
    }
    Ok(KeyTable(keys))
}

/// The message goes on where the place of the key ends.
fn parse_key(json: Json) -> Result<AccessKey, String> {
    let Json::Object(members) = json else {
        return Err(": must be an object".to_owned());
    };
    let (mut id, mut secret, mut user, mut policy) = (None, None, None, None);
    let (mut expires, mut session_token) = (None, None);
    for (name, value) in members {
        let place = match name.as_str() {
            "accessKeyId" => &mut id,
            "secretAccessKey" => &mut secret,
            "user" => &mut user,
            "expires" => &mut expires,
            "sessionToken" => &mut session_token,
            "policy" => {
                let parsed = Policy::from_json(&value);
                policy = Some(parsed.map_err(|error| format!(".policy: {error}"))?);
                continue;
            }
            _ => {
                let name: String = name.chars().take(64).collect();
                return Err(format!(
                    ".{}: is not known here; known are accessKeyId, secretAccessKey, user, policy, \
                     expires, sessionToken",
                    Escaped(&name)
                ));
            }
        };
        let Json::Text(text) = value else {
            return Err(format!(".{name}: must be a text"));
        };
        *place = Some(text);
    }
    let id = text("accessKeyId", id, 4..=128, "letters, digits and _", |b| {
        b.is_ascii_alphanumeric() || b == b'_'
    })?;
    let user = text("user", user, 1..=64, "letters, digits and +=,.@_-", |b| {
        b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b)
    })?;
    let visible = |byte: u8| byte.is_ascii_graphic();
    let secret = text(
        "secretAccessKey",
        secret,
        16..=256,
        "visible ASCII",
        visible,
    )?;
    let session_token = match session_token {
        None => None,
        some => Some(text(
            "sessionToken",
            some,
            1..=4096,
            "visible ASCII",
            visible,
        )?),
    };
    let expires = match expires.as_deref().map(parse_time) {
        None => None,
        Some(Some(moment)) => Some(moment),
        Some(None) => return Err(".expires: must be like 2027-01-31T00:00:00Z".to_owned()),
    };
    Ok(AccessKey {
        caller: Caller {
            user: user.into(),
            access_key_id: Some(id.as_str().into()),
            policy: Arc::new(policy.ok_or(".policy: is missing")?),
        },
        credentials: Credentials {
            access_key_id: id,
            secret_access_key: Secret::new(secret),
            session_token: session_token.map(Secret::new),
        },
        expires,
    })
}

fn text(
    name: &str,
    value: Option<String>,
    size: std::ops::RangeInclusive<usize>,
    alphabet: &str,
    allowed: impl Fn(u8) -> bool,
) -> Result<String, String> {
    let value = value.ok_or_else(|| format!(".{name}: is missing"))?;
    if !size.contains(&value.len()) || !value.bytes().all(allowed) {
        let (min, max) = size.into_inner();
        return Err(format!(
            ".{name}: must be {min} to {max} characters of {alphabet}"
        ));
    }
    Ok(value)
}

/// `2027-01-31T00:00:00Z`.
fn parse_time(text: &str) -> Option<Moment> {
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let bytes = text.as_bytes();
    let well_formed = marks.iter().all(|(at, mark)| bytes.get(*at) == Some(mark));
    if !well_formed || bytes.len() != 20 {
        return None;
    }
    Moment::parse(&text.replace(['-', ':'], ""))
}

/// `access-keys.json` with one key that may do everything.
pub(super) fn keys_file(first: &Credentials) -> String {
    format!(
        "[\n  {{\n    \"accessKeyId\": \"{}\",\n    \"secretAccessKey\": \"{}\",\n    \"user\": \
         \"{FIRST_USER}\",\n    \"policy\": {{\n      \"Version\": \"2012-10-17\",\n      \
         \"Statement\": [{{\"Effect\": \"Allow\", \"Action\": \"*\", \"Resource\": \"*\"}}]\n    \
         }}\n  }}\n]\n",
        first.access_key_id,
        first.secret_access_key.expose()
    )
}

/// AWS's format of credentials, with a profile of our name.
pub(super) fn credentials_file(first: &Credentials) -> String {
    format!(
        "[{FIRST_USER}]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        first.access_key_id,
        first.secret_access_key.expose()
    )
}
