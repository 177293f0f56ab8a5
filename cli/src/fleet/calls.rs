//! The calls that several commands make, and what is read from their answers.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::trouble::Trouble;
use crate::aws::{CallFault, Client};

/// The summaries of all tunnels, newest first.
pub(super) async fn list(client: &Client, thing: Option<&str>) -> Result<Vec<Value>, Trouble> {
    let mut summaries = Vec::new();
    let mut input = json!({ "maxResults": PAGE_SIZE });
    if let Some(thing) = thing {
        input["thingName"] = json!(thing);
    }
    for _ in 0..PAGES_MAX {
        let mut page = client.tunneling("ListTunnels", &input).await?;
        match page["tunnelSummaries"].take() {
            Value::Array(more) => summaries.extend(more),
            _ => return Err(Trouble::answer("ListTunnels", "tunnelSummaries")),
        }
        match page["nextToken"].as_str() {
            Some(token) => input["nextToken"] = json!(token),
            None => return Ok(summaries),
        }
    }
    Err(Trouble::failure(format_args!(
        "ListTunnels: more than {PAGES_MAX} pages"
    )))
}

/// `{"tunnel": …}`.
pub(super) async fn describe(client: &Client, id: &str) -> Result<Value, CallFault> {
    client
        .tunneling("DescribeTunnel", &json!({ "tunnelId": id }))
        .await
}

/// Closes one tunnel.
pub(super) async fn close(client: &Client, id: &str, delete: bool) -> Result<(), CallFault> {
    let mut input = json!({ "tunnelId": id });
    if delete {
        input["delete"] = json!(true);
    }
    client.tunneling("CloseTunnel", &input).await.map(drop)
}

/// Seconds since the epoch.
pub(super) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// A time member of an answer, in seconds.
pub(super) fn seconds(value: &Value) -> Option<i64> {
    // Whole seconds are all that is shown; the cast saturates.
    value.as_f64().map(|seconds| seconds as i64)
}

const PAGE_SIZE: u32 = 100;

/// A million tunnels; a service that goes on is playing games.
const PAGES_MAX: usize = 10_000;
