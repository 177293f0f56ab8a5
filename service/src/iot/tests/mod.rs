//! The registry's API over a real socket with TLS, as an AWS client meets it.

mod attachments;
mod certificates;
mod policies;
mod things;
mod transport;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::service::Running;
use crate::testing::{Answered, Client, StartedRelay, settings, start};

struct Fixture {
    _running: Running<StartedRelay>,
    client: Client,
}

/// Status, code and the rest of an answer.
type Refusal = (u16, String, String);

impl Fixture {
    async fn new() -> Self {
        let running = start(settings()).await;
        let client = Client::new(&running).await;
        Self {
            _running: running,
            client,
        }
    }

    /// One request, with an ARN in `x-amzn-principal` if there is one.
    async fn send(
        &mut self,
        method: &str,
        path: &str,
        principal: Option<&str>,
        body: impl Into<Body>,
    ) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", "localhost");
        if let Some(principal) = principal {
            request = request.header("x-amzn-principal", principal);
        }
        self.client.send(request.body(body.into()).unwrap()).await
    }

    /// One request that succeeds.
    async fn ok(&mut self, method: &str, path: &str, body: Value) -> Value {
        let answered = self.send(method, path, None, text_of(&body)).await;
        assert_eq!(
            answered.head.status(),
            200,
            "{method} {path}: {}",
            answered.text
        );
        json_of(&answered)
    }

    /// One request that is refused.
    async fn refused(&mut self, method: &str, path: &str, body: Value) -> Refusal {
        refusal(&self.send(method, path, None, text_of(&body)).await)
    }

    /// A request about a principal that succeeds.
    async fn ok_with(&mut self, method: &str, path: &str, principal: &str) -> Value {
        let answered = self.send(method, path, Some(principal), "").await;
        assert_eq!(
            answered.head.status(),
            200,
            "{method} {path}: {}",
            answered.text
        );
        json_of(&answered)
    }

    async fn refused_with(&mut self, method: &str, path: &str, principal: &str) -> Refusal {
        refusal(&self.send(method, path, Some(principal), "").await)
    }

    /// A new certificate: id and ARN.
    async fn certificate(&mut self) -> (String, String) {
        let made = self.ok("POST", "/keys-and-certificate", Value::Null).await;
        (text(&made["certificateId"]), text(&made["certificateArn"]))
    }

    async fn thing(&mut self, name: &str) {
        self.ok("POST", &format!("/things/{name}"), json!({})).await;
    }

    async fn policy(&mut self, name: &str) {
        let body = json!({"policyDocument": DOCUMENT});
        self.ok("POST", &format!("/policies/{name}"), body).await;
    }
}

fn text_of(body: &Value) -> String {
    match body {
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn json_of(answered: &Answered) -> Value {
    let headers = answered.head.headers();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["cache-control"], "no-store");
    let request_id = headers["x-amzn-requestid"].to_str().unwrap();
    request_id.parse::<uuid::Uuid>().unwrap();
    serde_json::from_str(&answered.text).unwrap_or_else(|_| panic!("no JSON: {}", answered.text))
}

fn refusal(answered: &Answered) -> Refusal {
    let json = json_of(answered);
    let header = answered.head.headers()["x-amzn-errortype"].to_str();
    assert_eq!(header.unwrap(), json["__type"], "header and body agree");
    let status = answered.head.status().as_u16();
    (status, text(&json["__type"]), text(&json["message"]))
}

fn code((status, code, _): &Refusal) -> (u16, &str) {
    (*status, code.as_str())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn members(value: &Value) -> Vec<&str> {
    let members = value.as_object().unwrap();
    let mut names: Vec<_> = members.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

const INVALID: (u16, &str) = (400, "InvalidRequestException");
const NOT_FOUND: (u16, &str) = (404, "ResourceNotFoundException");
const EXISTS: (u16, &str) = (409, "ResourceAlreadyExistsException");
const DELETE_CONFLICT: (u16, &str) = (409, "DeleteConflictException");

const DOCUMENT: &str = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
    "Action": "iot:Connect", "Resource": "*"}]}"#;
