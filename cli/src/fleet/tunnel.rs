//! `adit tunnel`: open, list, describe, close, rotate, tag.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::escape::Escaped;
use serde_json::{Value, json};

use super::calls::{close, describe, list, now, seconds};
use super::custody::Custody;
use super::files::{make_dir, write_secret};
use super::settings::{TunnelAction, TunnelSettings, tag_list};
use super::table::{Cell, Look, Paper, Table, fields, print, print_once, span};
use super::trouble::Trouble;
use crate::aws::Client;
use crate::exit::ExitCode;
use crate::run::Stop;

/// Does it, and prints the answer.
pub(crate) async fn tunnel(settings: TunnelSettings, paper: Paper) -> Result<(), Trouble> {
    let client = Client::new(settings.api)?;
    let show = Show {
        is_json: settings.is_json,
        paper,
    };
    match settings.action {
        TunnelAction::Open { input, token_dir } => {
            open(client, input, token_dir.as_deref(), &show).await
        }
        TunnelAction::List { thing, only_open } => {
            let summaries = list(&client, thing.as_deref()).await?;
            let is_wanted = |tunnel: &Value| !only_open || tunnel["status"] == "OPEN";
            show.list(summaries.into_iter().filter(is_wanted).collect())
        }
        TunnelAction::Describe { id } => {
            let output = describe(&client, &id).await?;
            show.tunnel(&output)
        }
        TunnelAction::Close { ids, delete } => close_all(&client, &ids, delete, &show).await,
        TunnelAction::Rotate { input, token_dir } => {
            let output = client.tunneling("RotateTunnelAccessToken", &input).await?;
            let shown = show.tokens(output, "RotateTunnelAccessToken", token_dir.as_deref());
            shown.map_err(|trouble| trouble.or_hint(TOKENS_LOST_HINT))
        }
        TunnelAction::Tag { id, set, remove } => tag(&client, &id, &set, &remove, &show).await,
    }
}

/// Opens a tunnel; closes it again if its tokens reach nobody.
async fn open(
    client: Client,
    input: Value,
    token_dir: Option<&Path>,
    show: &Show,
) -> Result<(), Trouble> {
    let mut stop = Stop::of_command().map_err(Trouble::signals)?;
    let custody = Custody::new(Arc::new(client));
    let opened = stop
        .unless_requested(custody.open(input, LIFETIME_MAX))
        .await;
    let interrupted = || Err(Trouble::new("interrupted", "", ExitCode::Program(130)));
    let opened = opened.unwrap_or_else(interrupted);
    let shown = opened.and_then(|output| show.tokens(output, "OpenTunnel", token_dir));
    if shown.is_err() {
        custody.end().await;
    }
    shown
}

/// Each of them, though one fails: the last failure is the command's.
async fn close_all(
    client: &Client,
    ids: &[String],
    delete: bool,
    show: &Show,
) -> Result<(), Trouble> {
    let mut outcome: Result<(), Trouble> = Ok(());
    let mut closed = Vec::new();
    for id in ids {
        let done = match close(client, id, delete).await {
            Ok(()) if show.is_json => {
                closed.push(json!({ "tunnelId": id, "status": "CLOSED", "deleted": delete }));
                Ok(())
            }
            Ok(()) if delete => print(&format!("{} closed and deleted\n", Escaped(id))),
            Ok(()) => print(&format!("{} closed\n", Escaped(id))),
            Err(fault) => Err(fault.into()),
        };
        if let Err(trouble) = done {
            trouble.displace(&mut outcome);
        }
    }
    if show.is_json
        && let Err(trouble) = show.json(&json!({ "tunnels": closed }))
    {
        trouble.displace(&mut outcome);
    }
    outcome
}

async fn tag(
    client: &Client,
    id: &str,
    set: &[(String, String)],
    remove: &[String],
    show: &Show,
) -> Result<(), Trouble> {
    let arn = if id.starts_with("arn:") {
        id.to_owned()
    } else {
        let output = describe(client, id).await?;
        let arn = output["tunnel"]["tunnelArn"].as_str().map(str::to_owned);
        arn.ok_or_else(|| Trouble::answer("DescribeTunnel", "tunnelArn"))?
    };
    if !set.is_empty() {
        let input = json!({ "resourceArn": arn, "tags": tag_list(set) });
        client.tunneling("TagResource", &input).await?;
    }
    if !remove.is_empty() {
        let input = json!({ "resourceArn": arn, "tagKeys": remove });
        client.tunneling("UntagResource", &input).await?;
    }
    let input = json!({ "resourceArn": arn });
    let output = client.tunneling("ListTagsForResource", &input).await?;
    if show.is_json {
        show.json(&output)
    } else {
        print(&tag_lines(&output["tags"]))
    }
}

fn tag_lines(tags: &Value) -> String {
    let line = |tag: &Value| format!("{}\n", tag_text(tag));
    tags.as_array().into_iter().flatten().map(line).collect()
}

fn tag_text(tag: &Value) -> String {
    let text = |member: &str| Escaped(tag[member].as_str().unwrap_or_default()).to_string();
    format!("{}={}", text("key"), text("value"))
}

struct Show {
    is_json: bool,
    paper: Paper,
}

impl Show {
    fn json(&self, value: &Value) -> Result<(), Trouble> {
        print(&format!("{value:#}\n"))
    }

    /// An answer with tokens. They are printed because that is what was asked for: the service says
    /// them only once. An error: they may have reached nobody.
    fn tokens(
        &self,
        mut output: Value,
        operation: &str,
        dir: Option<&Path>,
    ) -> Result<(), Trouble> {
        let mut lines = Vec::new();
        for (name, member) in [("id", "tunnelId"), ("arn", "tunnelArn")] {
            if let Some(text) = output[member].as_str() {
                lines.push((name, Cell::new(text)));
            }
        }
        let mut found = false;
        for (name, member) in TOKENS {
            let Some(token) = output[member].as_str() else {
                continue;
            };
            found = true;
            let Some(dir) = dir else {
                lines.push((name, Cell::new(token)));
                continue;
            };
            make_dir(dir)?;
            let file = dir.join(name);
            write_secret(&file, &format!("{token}\n"))?;
            lines.push((name, Cell::new(&file.to_string_lossy())));
            if let Some(output) = output.as_object_mut() {
                output.remove(member);
            }
        }
        if !found {
            return Err(Trouble::answer(operation, "token"));
        }
        let text = if self.is_json {
            format!("{output:#}\n")
        } else {
            fields(&lines, self.paper)
        };
        match dir {
            Some(_) => print(&text),
            None => print_once(&text),
        }
    }

    fn list(&self, tunnels: Vec<Value>) -> Result<(), Trouble> {
        if self.is_json {
            return self.json(&json!({ "tunnelSummaries": tunnels }));
        }
        let mut table = Table::new(&["ID", "STATUS", "AGE", "DESCRIPTION"]);
        let now = now();
        for tunnel in &tunnels {
            let text = |member: &str| tunnel[member].as_str().unwrap_or_default();
            let age = seconds(&tunnel["createdAt"]).map(|created| span(now - created));
            table.row(vec![
                Cell::new(text("tunnelId")),
                Cell::state(text("status")),
                Cell::new(&age.unwrap_or_default()),
                Cell::new(text("description")),
            ]);
        }
        print(&table.render(self.paper))
    }

    fn tunnel(&self, output: &Value) -> Result<(), Trouble> {
        if self.is_json {
            return self.json(output);
        }
        print(&fields(
            &tunnel_fields(&output["tunnel"], now()),
            self.paper,
        ))
    }
}

fn tunnel_fields(tunnel: &Value, now: i64) -> Vec<(&'static str, Cell)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        ("id", Cell::new(&text(&tunnel["tunnelId"]))),
        ("status", Cell::state(&text(&tunnel["status"]))),
        ("source", side(&tunnel["sourceConnectionState"], now)),
        (
            "destination",
            side(&tunnel["destinationConnectionState"], now),
        ),
    ];
    let config = &tunnel["destinationConfig"];
    if let Some(thing) = config["thingName"].as_str() {
        lines.push(("thing", Cell::new(thing)));
    }
    if let Some(services) = config["services"].as_array() {
        let services: Vec<&str> = services.iter().filter_map(Value::as_str).collect();
        lines.push(("services", Cell::new(&services.join(", "))));
    }
    if let Some(description) = tunnel["description"].as_str() {
        lines.push(("description", Cell::new(description)));
    }
    if let Some(created) = seconds(&tunnel["createdAt"]) {
        lines.push(("age", Cell::new(&span(now - created))));
        let minutes = tunnel["timeoutConfig"]["maxLifetimeTimeoutMinutes"].as_i64();
        if let (Some(minutes), "OPEN") = (minutes, text(&tunnel["status"]).as_str()) {
            let left = span(created + minutes * 60 - now);
            lines.push(("closes in", Cell::new(&left)));
        }
    }
    for tag in tunnel["tags"].as_array().into_iter().flatten() {
        lines.push(("tag", Cell::new(&tag_text(tag))));
    }
    lines.push((
        "arn",
        Cell::new(&text(&tunnel["tunnelArn"])).look(Look::Dim),
    ));
    lines
}

fn side(state: &Value, now: i64) -> Cell {
    let status = state["status"].as_str().unwrap_or_default();
    match seconds(&state["lastUpdatedAt"]) {
        Some(since) => {
            let text = format!("{} for {}", status.to_ascii_lowercase(), span(now - since));
            let is_connected = status == "CONNECTED";
            Cell::new(&text).look(if is_connected { Look::Good } else { Look::Dim })
        }
        None => Cell::state(status),
    }
}

/// File and member.
const TOKENS: [(&str, &str); 2] = [
    ("source-token", "sourceAccessToken"),
    ("destination-token", "destinationAccessToken"),
];

const TOKENS_LOST_HINT: &str =
    "the new tokens are lost, and those that they replace are void: rotate again";

/// Of any tunnel.
const LIFETIME_MAX: Duration = Duration::from_secs(12 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_shown_with_what_it_has() {
        let tunnel = json!({
            "tunnelId": "t1", "tunnelArn": "arn:x", "status": "OPEN", "createdAt": 1000.5,
            "sourceConnectionState": { "status": "DISCONNECTED" },
            "destinationConnectionState": { "status": "CONNECTED", "lastUpdatedAt": 1060 },
            "destinationConfig": { "thingName": "lamp", "services": ["SSH", "WEB"] },
            "timeoutConfig": { "maxLifetimeTimeoutMinutes": 30 },
            "tags": [{ "key": "k", "value": "v" }],
        });
        let text = fields(&tunnel_fields(&tunnel, 1120), Paper::default());
        let expected = "\
id           t1
status       open
source       disconnected
destination  connected for 1m
thing        lamp
services     SSH, WEB
age          2m
closes in    28m
tag          k=v
arn          arn:x
";
        assert_eq!(text, expected);
    }
}
