//! Answers that refuse, of either protocol, as one thing.
//!
//! AWS JSON has the error's name in the body as `__type`, maybe with a namespace in front; REST has it in
//! the header `x-amzn-errortype`, maybe with a URL behind (control-plane specification, sections 4 and 14.4).

use adit_service::clock::Timestamp;
use bytes::Bytes;
use hyper::Response;
use serde_json::Value;

use super::fault::Refusal;

/// Reads a refusal. `asked` is this machine's time of the request.
pub(super) fn refusal(
    operation: &'static str,
    response: &Response<Bytes>,
    asked: Timestamp,
) -> Refusal {
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        Some(value.to_str().ok()?.to_owned())
    };
    let body: Option<Value> = serde_json::from_slice(response.body()).ok();
    let member = |names: &[&str]| {
        let body = body.as_ref()?;
        names
            .iter()
            .find_map(|name| Some(body[*name].as_str()?.to_owned()))
    };
    let code = member(&["__type", "code", "Code"]).or_else(|| header("x-amzn-errortype"));
    let status = response.status().as_u16();
    let ahead = header("date")
        .and_then(|date| seconds(&date))
        .map(|theirs| {
            i64::try_from(asked.millis() / 1000)
                .unwrap_or(i64::MAX)
                .saturating_sub(theirs)
        });
    Refusal {
        operation,
        status,
        code: code.map_or_else(|| format!("HTTP {status}"), |code| bare(&code).to_owned()),
        message: shortened(member(&["message", "Message"]).unwrap_or_default()),
        request_id: header("x-amzn-requestid").unwrap_or_default(),
        access_key_id: None,
        region: String::new(),
        clock_ahead: ahead,
        is_api: body.is_some_and(|body| body.is_object()),
    }
}

/// `Name` out of `namespace#Name:http://…`.
fn bare(code: &str) -> &str {
    let code = code.split(':').next().unwrap_or_default();
    code.rsplit('#').next().unwrap_or_default().trim()
}

fn shortened(mut message: String) -> String {
    if let Some((at, _)) = message.char_indices().nth(MESSAGE_CHARACTERS_MAX) {
        message.truncate(at);
        message.push('…');
    }
    message
}

/// Seconds since the epoch of `Tue, 24 Nov 2026 01:50:29 GMT`, the only form that is still sent.
fn seconds(date: &str) -> Option<i64> {
    let (_, date) = date.split_once(", ")?;
    let parts: Vec<&str> = date.split([' ', ':']).collect();
    let [day, month, year, hour, minute, second, "GMT"] = parts[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let month = time::Month::try_from(u8::try_from(month).ok()? + 1).ok()?;
    let date = time::Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    let time = time::Time::from_hms(
        hour.parse().ok()?,
        minute.parse().ok()?,
        second.parse().ok()?,
    );
    Some(time::OffsetDateTime::new_utc(date, time.ok()?).unix_timestamp())
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

const MESSAGE_CHARACTERS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)], body: &str) -> Refusal {
        let mut response = Response::builder().status(403);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(Bytes::from(body.to_owned())).unwrap();
        refusal(
            "OpenTunnel",
            &response,
            Timestamp::from_millis(1_795_485_029_000),
        )
    }

    #[test]
    fn both_protocols_become_one_thing() {
        for (headers, body, code, message) in [
            (
                &[][..],
                r#"{"__type":"XException","message":"m"}"#,
                "XException",
                "m",
            ),
            (
                &[],
                r#"{"__type":"com.amazonaws.x#XException","Message":"m"}"#,
                "XException",
                "m",
            ),
            (
                &[("x-amzn-ErrorType", "XException:http://u/")],
                r#"{"message":"m"}"#,
                "XException",
                "m",
            ),
            (&[], r#"{"code":"XException"}"#, "XException", ""),
            (&[], "{}", "HTTP 403", ""),
            (&[], "<html>", "HTTP 403", ""),
        ] {
            let refusal = read(headers, body);
            assert_eq!(
                (&*refusal.code, &*refusal.message),
                (code, message),
                "{body}"
            );
            assert_eq!(refusal.is_api, body.starts_with('{'));
        }
        assert_eq!(read(&[("x-amzn-RequestId", "r")], "{}").request_id, "r");
    }

    #[test]
    fn the_clocks_are_compared() {
        let ahead = |date: &str| read(&[("date", date)], "{}").clock_ahead;
        assert_eq!(ahead("Tue, 24 Nov 2026 01:50:29 GMT"), Some(0));
        assert_eq!(ahead("Tue, 24 Nov 2026 00:50:29 GMT"), Some(3600));
        for date in [
            "",
            "yesterday",
            "Tue, 24 Nov 2026 01:50 GMT",
            "Tue, 99 Nov 2026 01:50:29 GMT",
        ] {
            assert_eq!(ahead(date), None, "{date}");
        }
    }

    #[test]
    fn a_long_message_is_cut() {
        let body = serde_json::json!({ "message": "é".repeat(5_000) }).to_string();
        let message = read(&[], &body).message;
        assert_eq!(message.chars().count(), MESSAGE_CHARACTERS_MAX + 1);
    }
}
