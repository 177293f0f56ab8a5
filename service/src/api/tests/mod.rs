//! The API over a real socket with TLS, as an AWS client meets it.

mod access;
mod audit;
mod constraints;
mod errors;
mod operations;
mod paging;

use serde_json::{Value, json};

use crate::service::Running;
use crate::testing::{Client, StartedRelay, settings, start};
use crate::tunnels::Limits;

struct Fixture {
    running: Running<StartedRelay>,
    client: Client,
}

impl Fixture {
    async fn new() -> Self {
        Self::with_limits(Limits::default()).await
    }

    async fn with_limits(limits: Limits) -> Self {
        let mut settings = settings();
        settings.limits = limits;
        // These tests are about tunnels alone.
        settings.unregistered_things = true;
        let running = start(settings).await;
        let client = Client::new(&running).await;
        Self { running, client }
    }

    async fn ok(&mut self, operation: &str, body: Value) -> Value {
        self.client.ok(operation, body).await
    }

    async fn refused(&mut self, operation: &str, body: Value) -> (u16, String, String) {
        self.client.refused(operation, body).await
    }

    /// Opens a tunnel; gives its id and ARN.
    async fn open(&mut self, body: Value) -> (String, String) {
        let opened = self.ok("OpenTunnel", body).await;
        (text(&opened["tunnelId"]), text(&opened["tunnelArn"]))
    }

    async fn describe(&mut self, id: &str) -> Value {
        let described = self.ok("DescribeTunnel", json!({"tunnelId": id})).await;
        described["tunnel"].clone()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}
