//! Between the suite and our code: the heads of the upgrade, and text as binary.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::Carried;
use crate::frames::{Headers, Step};

/// What our code takes for an access token here.
pub(crate) const TOKEN: &str = "suite";

const PROTOCOL: &str = "aws.iot.securetunneling-3.0";

/// Carries one connection between the suite and our code.
pub(crate) struct Disguise {
    /// What the client asks the suite's server for; `None` where the suite is the client.
    path: Option<String>,
    is_plain: bool,
}

impl Disguise {
    /// The suite is the client.
    pub(crate) fn server(is_plain: bool) -> Self {
        Self {
            path: None,
            is_plain,
        }
    }

    /// The suite is the server, and is to be asked for `path`.
    pub(crate) fn client(path: String, is_plain: bool) -> Self {
        Self {
            path: Some(path),
            is_plain,
        }
    }

    /// Carries both directions until both are over.
    pub(crate) async fn carry(self, suite: TcpStream, ours: TcpStream) -> Carried {
        suite.set_nodelay(true)?;
        ours.set_nodelay(true)?;
        let (suite_in, suite_out) = suite.into_split();
        let (ours_in, ours_out) = ours.into_split();
        let texts = Arc::new(Mutex::new(VecDeque::new()));
        let (mut from_suite, mut from_ours) = (Way::default(), Way::default());
        if !self.is_plain {
            from_suite.to_binary = Some(Arc::clone(&texts));
            from_ours.to_text = Some(texts);
        }
        let (to_ours, to_suite) = match &self.path {
            None => (Head::Request(as_tunnel), Head::Answer(without_protocol)),
            Some(_) => (Head::Answer(with_protocol), Head::Request(as_it_is)),
        };
        let path = self.path.unwrap_or_default();
        let (one, other) = tokio::join!(
            from_suite.carry(suite_in, ours_out, to_ours, &path),
            from_ours.carry(ours_in, suite_out, to_suite, &path),
        );
        one.and(other)
    }
}

/// How a head is changed; what is given besides is the path.
#[derive(Clone, Copy)]
enum Head {
    Request(fn(&str, &str) -> String),
    Answer(fn(&str, &str) -> String),
}

/// What the suite's client asks for becomes a request for a tunnel.
fn as_tunnel(head: &str, _: &str) -> String {
    let (_, fields) = head.split_once("\r\n").unwrap_or_default();
    format!(
        "GET /tunnel?local-proxy-mode=source HTTP/1.1\r\naccess-token: {TOKEN}\r\n\
         Sec-WebSocket-Protocol: {PROTOCOL}\r\n{fields}"
    )
}

/// Our client's request, for the path that the suite knows.
fn as_it_is(head: &str, path: &str) -> String {
    let (_, fields) = head.split_once("\r\n").unwrap_or_default();
    let fields = without(fields, &["sec-websocket-protocol", "access-token"]);
    format!("GET {path} HTTP/1.1\r\n{fields}")
}

fn with_protocol(head: &str, _: &str) -> String {
    let (status, fields) = head.split_once("\r\n").unwrap_or_default();
    format!("{status}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n{fields}")
}

fn without_protocol(head: &str, _: &str) -> String {
    without(head, &["sec-websocket-protocol"])
}

fn without(fields: &str, names: &[&str]) -> String {
    let is_kept = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        !names.iter().any(|other| name.eq_ignore_ascii_case(other))
    };
    fields.split_inclusive("\r\n").filter(is_kept).collect()
}

/// One direction.
#[derive(Default)]
struct Way {
    headers: Headers,
    /// Frames of text become binary, and each message is noted.
    to_binary: Option<Texts>,
    /// Messages are text again if they were.
    to_text: Option<Texts>,
}

/// Whether each message that is to be echoed was text.
type Texts = Arc<Mutex<VecDeque<bool>>>;

impl Way {
    async fn carry(
        mut self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        head: Head,
        path: &str,
    ) -> Carried {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if from.read_buf(&mut bytes).await? == 0 {
                return to.write_all(&bytes).await;
            }
        };
        let mut rest = bytes.split_off(end);
        let text = String::from_utf8_lossy(&bytes);
        let (Head::Request(change) | Head::Answer(change)) = head;
        to.write_all(change(&text, path).as_bytes()).await?;
        loop {
            self.change(&mut rest);
            to.write_all(&rest).await?;
            rest.clear();
            match from.read_buf(&mut rest).await {
                Ok(0) => return to.shutdown().await,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return to.shutdown().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn change(&mut self, bytes: &mut [u8]) {
        let (to_binary, to_text) = (self.to_binary.as_ref(), self.to_text.as_ref());
        self.headers.walk(bytes, |bytes, step| {
            let Step::First(at) = step else {
                return;
            };
            let first = bytes[at];
            let opcode = first & 0x0f;
            if let (Some(texts), TEXT | BINARY) = (to_binary, opcode) {
                texts.lock().expect("no panic").push_back(opcode == TEXT);
                bytes[at] = first & 0xf0 | BINARY;
            }
            if let (Some(texts), BINARY) = (to_text, opcode)
                && texts.lock().expect("no panic").pop_front() == Some(true)
            {
                bytes[at] = first & 0xf0 | TEXT;
            }
        });
    }
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
