//! The pretend device: a web page and an echo, each on a loopback port of its own.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::page::Page;

/// Connections of one service at a time; one more waits.
const CONNECTIONS_MAX: usize = 4_096;

/// For the head of a request, and for the pause between two.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);

/// Pause after the system refused a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Read from a connection before it is written back, in bytes.
const ECHO_BUFFER_SIZE: usize = 64 * 1024;

/// The highest bit of an announcement: the device ends the connection.
pub(super) const DEVICE_ENDS: u64 = 1 << 63;

/// Who ends an echo's connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EchoEnd {
    /// Its client.
    Client,
    /// Whoever the client says: its first 8 bytes, which are echoed too, are the number of bytes that
    /// follow (big endian), with [`DEVICE_ENDS`] where the device is to end once these are echoed.
    Announced,
}

/// Both services, running. Dropping it ends them soon, with all their connections; after
/// [`stop`](Self::stop) they have ended.
pub(super) struct Device {
    pub(super) page_port: u16,
    pub(super) echo_port: u16,
    page: Arc<OnceLock<Page>>,
    services: JoinSet<()>,
}

impl Device {
    pub(super) async fn start(echo_end: EchoEnd) -> Result<Self> {
        let (page_listener, page_port) = listen().await?;
        let (echo_listener, echo_port) = listen().await?;
        let page = Arc::new(OnceLock::new());
        let mut services = JoinSet::new();
        let shown = Arc::clone(&page);
        services.spawn(serve(page_listener, move |stream| {
            answer(stream, Arc::clone(&shown))
        }));
        services.spawn(serve(echo_listener, move |stream| echo(stream, echo_end)));
        Ok(Self {
            page_port,
            echo_port,
            page,
            services,
        })
    }

    /// What the web server has to say, once it is known.
    pub(super) fn publish(&self, page: Page) {
        // Nobody publishes twice; if somebody did, the first stays.
        let _ = self.page.set(page);
    }

    /// The page, as published.
    pub(super) fn page(&self) -> Option<&Page> {
        self.page.get()
    }

    /// Ends both services; when it returns, nobody listens on their ports any more.
    pub(super) async fn stop(mut self) {
        self.services.shutdown().await;
    }
}

async fn listen() -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.context("listen on 127.0.0.1")?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

async fn serve<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    handle: impl Fn(TcpStream) -> F,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = connections.spawn(handle(stream)),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn echo(stream: TcpStream, end: EchoEnd) {
    // Small pieces should not wait for each other. What the client's end does is the client's affair.
    let _ = stream.set_nodelay(true);
    let _ = try_echo(stream, end).await;
}

async fn try_echo(mut stream: TcpStream, end: EchoEnd) -> io::Result<()> {
    let (mut from, mut to) = stream.split();
    let mut size = u64::MAX;
    if end == EchoEnd::Announced {
        let announced = from.read_u64().await?;
        to.write_u64(announced).await?;
        if announced & DEVICE_ENDS != 0 {
            size = announced ^ DEVICE_ENDS;
        }
    }
    let mut from = BufReader::with_capacity(ECHO_BUFFER_SIZE, from.take(size));
    tokio::io::copy_buf(&mut from, &mut to).await?;
    to.shutdown().await
}

async fn answer(stream: TcpStream, page: Arc<OnceLock<Page>>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, page.get());
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a request ended early");
    }
}

fn respond<B>(request: &Request<B>, page: Option<&Page>) -> Response<Full<Bytes>> {
    let Some(page) = page else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE);
    };
    if request.uri().path() != "/" {
        return refusal(StatusCode::NOT_FOUND);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED);
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(header::ALLOW, allowed);
        return response;
    }
    let mut response = if wants_html(request) {
        said("text/html; charset=utf-8", page.html.clone())
    } else {
        said("text/plain; charset=utf-8", page.text.clone())
    };
    for (name, value) in [
        (header::VARY, "Accept"),
        (header::CONTENT_SECURITY_POLICY, Page::POLICY),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

fn refusal(status: StatusCode) -> Response<Full<Bytes>> {
    let text = Bytes::from(format!("{status}\n"));
    let mut response = said("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

fn said(content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// A browser names HTML among what it takes; curl takes anything, and its user reads it as it comes.
fn wants_html<B>(request: &Request<B>) -> bool {
    request
        .headers()
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::super::page::Ports;
    use super::*;

    fn status(method: &str, path: &str) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .unwrap();
        let page = Page::new(Ports::default());
        let response = respond(&request, Some(&page));
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
        (response.status(), kind.to_owned())
    }

    #[test]
    fn only_the_page_can_be_asked_for() {
        for (method, path, expected) in [
            ("GET", "/", 200),
            ("HEAD", "/", 200),
            ("GET", "/?a=b", 200),
            ("GET", "/etc/passwd", 404),
            ("GET", "//", 404),
            ("POST", "/", 405),
        ] {
            assert_eq!(status(method, path).0, expected, "{method} {path}");
        }
        let request = Request::get("/").body(()).unwrap();
        assert_eq!(respond(&request, None).status(), 503);
    }

    #[test]
    fn browsers_get_html_and_others_text() {
        assert!(status("GET", "/").1.starts_with("text/plain"));
        let request = Request::get("/")
            .header(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8")
            .body(())
            .unwrap();
        let response = respond(&request, Some(&Page::new(Ports::default())));
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/html; charset=utf-8"
        );
    }

    #[tokio::test]
    async fn an_echo_ends_when_its_client_does_or_after_what_was_announced() {
        for (announced, end) in [(5, EchoEnd::Client), (5 | DEVICE_ENDS, EchoEnd::Announced)] {
            let device = Device::start(end).await.unwrap();
            let at = (Ipv4Addr::LOCALHOST, device.echo_port);
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_u64(announced).await.unwrap();
            stream.write_all(b"12345").await.unwrap();
            if end == EchoEnd::Client {
                stream.shutdown().await.unwrap();
            }
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, [&announced.to_be_bytes()[..], b"12345"].concat());
        }
    }

    /// A port is free when `stop` has returned, not some time later: both are asked at once, on the
    /// one thread that would have to do the rest.
    #[tokio::test]
    async fn a_stopped_device_listens_no_more() {
        for _ in 0..20 {
            let device = Device::start(EchoEnd::Client).await.unwrap();
            let ports = [device.page_port, device.echo_port];
            device.stop().await;
            for port in ports {
                let connected = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port));
                assert!(connected.is_err(), "port {port} is still listened on");
            }
        }
    }
}
