//! One HTTPS request on a connection of its own.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use adit_engine::link::{DialError, LinkError, dial_tcp, dial_through};
use adit_proto::escape::Escaped;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoint::Endpoint;
use super::fault::Failure;
use crate::settings::web_proxies::WebProxies;

/// How an endpoint is reached.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    /// Whom to trust, of the endpoint and of a web proxy spoken to in TLS.
    pub(super) tls: &'a Arc<ClientConfig>,
    pub(super) web_proxies: &'a WebProxies,
}

/// Sends `request` to an endpoint and returns the whole answer.
pub(super) async fn exchange(
    endpoint: &Endpoint,
    by: Way<'_>,
    operation: &'static str,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, Failure> {
    let failure = |reason: String, hint: String| Failure {
        operation,
        endpoint: endpoint.to_string(),
        reason,
        hint,
        was_sent: false,
        // Nobody is there: that takes a person, and waiting would only look like hanging.
        is_passing: false,
    };
    let sent = |fault: String| Failure {
        was_sent: true,
        is_passing: true,
        ..failure(fault, String::new())
    };
    // What is not TLS stays on this machine, where no web proxy is.
    let proxy = by.web_proxies.to(&endpoint.host, endpoint.port);
    let proxy = proxy.filter(|_| endpoint.is_tls);
    let Some(proxy) = proxy else {
        let socket = dial_tcp(&endpoint.host, endpoint.port, CONNECT_DEADLINE).await;
        let socket = socket.map_err(|fault| {
            let hint = dial_hint(&fault, endpoint);
            failure(fault.to_string(), hint)
        })?;
        let _ = socket.set_nodelay(true);
        if !endpoint.is_tls {
            return converse(socket, request).await.map_err(sent);
        }
        let stream = secured(endpoint, by.tls, socket, failure).await?;
        return converse(stream, request).await.map_err(sent);
    };
    let way = dial_through(
        proxy,
        by.tls,
        &endpoint.host,
        endpoint.port,
        CONNECT_DEADLINE,
    )
    .await;
    let way = way.map_err(|fault| {
        let hint = proxy_hint(&fault, by.web_proxies.variable());
        failure(fault.to_string(), hint)
    })?;
    let stream = secured(endpoint, by.tls, way, failure).await?;
    converse(stream, request).await.map_err(sent)
}

/// TLS with an endpoint.
async fn secured<S: AsyncRead + AsyncWrite + Unpin>(
    endpoint: &Endpoint,
    tls: &Arc<ClientConfig>,
    socket: S,
    failure: impl Fn(String, String) -> Failure,
) -> Result<TlsStream<S>, Failure> {
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| {
        let reason = "the host is no name that a certificate can have";
        failure(reason.to_owned(), String::new())
    })?;
    let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, socket);
    match timeout(CONNECT_DEADLINE, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(fault)) => {
            let hint = tls_hint(&fault).to_owned();
            Err(failure(format!("no TLS connection: {fault}"), hint))
        }
        Err(_) => Err(Failure {
            is_passing: true,
            ..failure(
                format!("no TLS connection within {CONNECT_DEADLINE:?}"),
                String::new(),
            )
        }),
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, String> {
    let conversed = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; what it says then is said by the answer, too.
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok((head, Limited::new(body, ANSWER_SIZE_MAX).collect().await))
    };
    let (head, body) = match timeout(ANSWER_DEADLINE, conversed).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(fault)) => return Err(described(&fault)),
        Err(_) => return Err(format!("no whole answer within {ANSWER_DEADLINE:?}")),
    };
    let body = body.map_err(|fault| fault.to_string())?.to_bytes();
    Ok(Response::from_parts(head, body))
}

/// hyper says what it did, the cause behind it says why.
fn described(fault: &hyper::Error) -> String {
    let source = fault.source();
    let io = source.and_then(|source| source.downcast_ref::<io::Error>());
    // TLS without its own end: the library's text is a link to its manual.
    if io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof) {
        return format!(
            "{fault}: the service was stopped, or something on the way cut the connection"
        );
    }
    match source {
        Some(source) => format!("{fault}: {source}"),
        None => fault.to_string(),
    }
}

fn dial_hint(fault: &DialError, endpoint: &Endpoint) -> String {
    match (fault, endpoint.region_at_aws()) {
        (DialError::Failed { .. }, None) => format!(
            "is `adit serve` running, and is its API at {}?",
            endpoint.authority()
        ),
        (DialError::Failed { .. }, Some(_)) => {
            "check the network; behind a web proxy, set https_proxy".to_owned()
        }
        (_, Some(region)) => format!(
            "is {} a region of AWS, and this machine online? Another service is named by --endpoint or \
             --data-dir",
            Escaped(region)
        ),
        (_, None) => "check the endpoint's name and the network".to_owned(),
    }
}

fn proxy_hint(fault: &LinkError, variable: &str) -> String {
    match fault.hint() {
        Some(hint) if !matches!(fault, LinkError::Dial { .. }) => hint.to_owned(),
        _ => format!(
            "{variable} names this web proxy; hosts that are reached without it stand in no_proxy"
        ),
    }
}

fn tls_hint(fault: &io::Error) -> &'static str {
    let inner = fault
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            rustls::CertificateError::UnknownIssuer => {
                "give the file of the authority that signed its certificate: --ca-bundle FILE, for \
                 `adit serve` the ca.pem of its data directory"
            }
            rustls::CertificateError::Expired
            | rustls::CertificateError::ExpiredContext { .. }
            | rustls::CertificateError::NotValidYet
            | rustls::CertificateError::NotValidYetContext { .. } => {
                "check this machine's clock, and the certificate of the service"
            }
            rustls::CertificateError::NotValidForName
            | rustls::CertificateError::NotValidForNameContext { .. } => {
                "use the name that stands in the certificate of the service"
            }
            _ => "the certificate of the service cannot be used",
        },
        Some(rustls::Error::InvalidMessage(_)) => {
            "the other end does not speak TLS: is the port that of the API?"
        }
        _ => "",
    }
}

/// For name, connection and TLS, each.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// From the request to the end of the answer; AWS's tools wait for 60 s.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// A page of 250 things with 50 attributes of 800 bytes is 10 MB; anything above is a mistake.
const ANSWER_SIZE_MAX: usize = 16 * 1024 * 1024;
