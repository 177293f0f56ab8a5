//! Local applications of every temper, and what tests do with local connections.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinHandle;

use crate::deadline::{STALL, pause, within};
use crate::http::Head;
use crate::verifier::{answer, is_wrong, seeded_bytes, sha256_hex};

/// What an application does with each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Temper {
    /// Sends back what it reads, and ends when its peer does.
    Echo,
    /// Reads all and says nothing.
    Sink,
    /// Reads to the end, answers with the SHA-256 in hexadecimal, and closes.
    Hash,
    /// Reads `chunk` bytes, rests, and so on; says nothing.
    SlowReader {
        /// Bytes a time.
        chunk: usize,
        /// The time between.
        rest: Duration,
    },
    /// Sends these bytes, ends its own direction, and reads on.
    HalfClose(Vec<u8>),
    /// Sends these bytes and closes at once.
    Greet(Vec<u8>),
    /// Reads one byte and resets the connection.
    Reset,
    /// An HTTP/1.1 server that keeps its connections; see [`page`].
    Http,
    /// Answers transfers of this seed; see [`crate::verifier`].
    Verify(u64),
}

/// A listening application. It ends, and its connections with it, when this value goes; where wrong bytes had come to
/// it, that panics.
pub struct App {
    address: SocketAddr,
    task: JoinHandle<()>,
    /// What was wrong of transfers that came, which no end of a connection excuses.
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
        let wrong = self.wrong.lock().map(|wrong| wrong.join("; "));
        if let Ok(wrong) = wrong
            && !wrong.is_empty()
            && !std::thread::panicking()
        {
            panic!("what came to an application was wrong: {wrong}");
        }
    }
}

impl App {
    /// Starts an application on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No socket.
    pub async fn start(temper: Temper) -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), temper).await
    }

    /// Starts an application at this address.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn start_at(address: SocketAddr, temper: Temper) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("an application at {address}"))?;
        let address = listener.local_addr()?;
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&wrong);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (temper, told) = (temper.clone(), Arc::clone(&told));
                connections.spawn(async move {
                    let served = temper.serve(stream).await;
                    if let Some(error) = served.err().filter(is_wrong) {
                        let mut told = told.lock().expect("nothing panics while it holds this");
                        told.push(format!("{error:#}"));
                    }
                });
            }
        });
        Ok(Self {
            address,
            task,
            wrong,
        })
    }

    /// Starts an application that echoes on a Unix socket.
    ///
    /// # Errors
    /// The path cannot be had.
    pub fn start_unix_echo(path: &Path) -> Result<JoinHandle<()>> {
        let listener = UnixListener::bind(path)?;
        Ok(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream));
            }
        }))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Temper {
    async fn serve(self, mut stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        match self {
            Self::Echo => echo(stream).await,
            Self::Sink => drained(&mut stream).await.map(drop),
            Self::Hash => {
                let bytes = drained(&mut stream).await?;
                stream.write_all(sha256_hex(&bytes).as_bytes()).await?;
                Ok(stream.shutdown().await?)
            }
            Self::SlowReader { chunk, rest } => {
                let mut buffer = vec![0; chunk];
                while stream.read(&mut buffer).await? > 0 {
                    pause(rest).await;
                }
                Ok(())
            }
            Self::HalfClose(bytes) => {
                stream.write_all(&bytes).await?;
                stream.shutdown().await?;
                drained(&mut stream).await.map(drop)
            }
            Self::Greet(bytes) => {
                stream.write_all(&bytes).await?;
                Ok(stream.shutdown().await?)
            }
            Self::Reset => {
                stream.read_u8().await?;
                reset(stream)
            }
            Self::Http => serve_pages(&mut stream).await,
            Self::Verify(seed) => answer(&mut stream, seed).await,
        }
    }
}

/// An application that a test drives by hand: a listener on a free port of 127.0.0.1.
///
/// # Errors
/// No socket.
pub async fn listener() -> Result<TcpListener> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?)
}

/// A listener whose connections take in only a few KiB before their application reads.
///
/// # Errors
/// No socket.
pub fn narrow_listener() -> Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    // Inherited by what it accepts. The kernel doubles it and takes its own share.
    socket.set_recv_buffer_size(4096)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(socket.listen(64)?)
}

/// A connection that takes in only a few KiB before its application reads.
///
/// # Errors
/// Nobody listens.
pub async fn connect_narrow(port: u16) -> Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    within("connecting to the proxy", async {
        Ok(socket.connect(address).await?)
    })
    .await
}

/// Connects to a port of the loopback, as a local application does.
///
/// # Errors
/// Nobody listens.
pub async fn connect(port: u16) -> Result<TcpStream> {
    within(&format!("connecting to port {port}"), async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
    .await
}

/// Makes sure that a port takes no further connection: it refuses, resets, or ends it
/// without a byte.
///
/// # Errors
/// The connection stays open, or says something.
pub async fn is_refused(port: u16) -> Result<()> {
    match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(mut stream) => is_ended(&mut stream).await,
        Err(_) => Ok(()),
    }
}

/// Makes sure that a port soon takes no further connection. One that it still takes is given up, and another is tried:
/// what refuses them may have been told a moment ago.
///
/// # Errors
/// Connections stay open, or say something.
pub async fn is_soon_refused(port: u16) -> Result<()> {
    within("new connections to be refused", async {
        loop {
            if let Ok(refused) = tokio::time::timeout(STALL, is_refused(port)).await {
                return refused;
            }
        }
    })
    .await
}

/// Takes the next connection of a listener driven by hand.
///
/// # Errors
/// None comes.
pub async fn accept(listener: &TcpListener) -> Result<TcpStream> {
    within("waiting for the proxy to dial the application", async {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
    .await
}

/// Reads exactly these bytes.
///
/// # Errors
/// Others come, or too few.
pub async fn expect_bytes(from: &mut (impl AsyncRead + Unpin), expected: &[u8]) -> Result<()> {
    within(&format!("reading {} bytes", expected.len()), async {
        let mut bytes = vec![0; expected.len()];
        from.read_exact(&mut bytes).await?;
        ensure!(
            bytes == expected,
            "other bytes than expected: {:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(64)])
        );
        Ok(())
    })
    .await
}

/// Reads to the end of the stream, which must come in good order.
///
/// # Errors
/// It does not come, or the connection is reset.
pub async fn read_to_end(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    within("reading to the end", drained(from)).await
}

/// Makes sure that the connection has ended, in whatever way, without another byte.
///
/// # Errors
/// A byte comes, or the connection stays open.
pub async fn is_ended(from: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    within("waiting for the connection to end", async {
        match from.read(&mut [0]).await {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => bail!("a byte came instead of the end"),
        }
    })
    .await
}

/// Sends `bytes` and reads them back.
///
/// # Errors
/// They do not come back as they went.
pub async fn ping(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).await?;
    expect_bytes(stream, bytes).await
}

/// Ends a connection by a reset.
///
/// # Errors
/// The socket is gone.
pub fn reset(stream: TcpStream) -> Result<()> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}

/// What [`Temper::Http`] serves under `/NUMBER`: as many thousand bytes as the number says.
#[must_use]
pub fn page(number: u64) -> Vec<u8> {
    seeded_bytes(number, usize::try_from(number * 1000).unwrap_or(0))
}

async fn serve_pages(stream: &mut TcpStream) -> Result<()> {
    loop {
        let request = Head::read(stream).await?;
        let target = request.start_line.split(' ').nth(1).unwrap_or_default();
        let page = page(target.trim_start_matches('/').parse()?);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&page).await?;
    }
}

async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await?;
    Ok(write.shutdown().await?)
}

async fn drained(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await?;
    Ok(bytes)
}
