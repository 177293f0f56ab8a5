//! The application behind the tunnel: it answers as many bytes as it is asked for.

use super::SHORT;
use crate::sockets;
use std::net::TcpListener;
use std::thread::{self, JoinHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// On a thread of its own until it is dropped.
pub struct Service {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A request for an answer of `size` bytes.
pub(super) fn request(size: usize) -> [u8; SHORT] {
    let mut request = [0; SHORT];
    request[..8].copy_from_slice(&(size as u64).to_le_bytes());
    request
}

impl Service {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let listener = sockets::listener().expect("a listener");
        let port = listener.local_addr().expect("it is bound").port();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            port,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A service that has failed has said so, and its client has failed as well.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener) {
    listener.set_nonblocking(true).expect("non-blocking");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        tokio::spawn(serve(stream));
    }
}

async fn serve(mut stream: TcpStream) {
    let answer = vec![7; 64 * 1024];
    let mut request = [0; SHORT];
    // Its end is the client's.
    while stream.read_exact(&mut request).await.is_ok() {
        let size = request.first_chunk().expect("it is longer");
        let mut rest = u64::from_le_bytes(*size) as usize;
        while rest > 0 {
            let part = &answer[..rest.min(answer.len())];
            if stream.write_all(part).await.is_err() {
                return;
            }
            rest -= part.len();
        }
    }
}
