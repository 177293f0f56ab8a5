//! The application in front of the tunnel.

use super::service::{self, Service};
use super::{SHORT, Stack};
use std::io::{Read, Write};
use std::net::TcpStream;

/// A client with its streams, and everything behind them.
pub struct Client {
    streams: Vec<TcpStream>,
    buffer: Vec<u8>,
    // Dropped in this order: the streams end first.
    stack: Stack,
    _service: Service,
}

impl Client {
    /// Opens `streams` streams through the stack made for the service on that port.
    pub fn new(stack: impl FnOnce(u16) -> Stack, streams: usize) -> Self {
        let service = Service::start();
        let stack = stack(service.port());
        let mut client = Self {
            streams: Vec::new(),
            buffer: vec![0; 64 * 1024],
            stack,
            _service: service,
        };
        for _ in 0..streams {
            let stream = client.stack.connect();
            client.streams.push(stream);
            // One after the other, so that no queue of a listener is ever full.
            client.ask_last(SHORT);
        }
        client
    }

    /// Asks for an answer of `size` bytes on every stream, and reads them all.
    pub fn ask(&mut self, size: usize) {
        let request = service::request(size);
        for stream in &mut self.streams {
            stream.write_all(&request).expect("sent");
        }
        for stream in &mut self.streams {
            read(stream, size, &mut self.buffer);
        }
    }

    fn ask_last(&mut self, size: usize) {
        let stream = self.streams.last_mut().expect("it was added");
        stream.write_all(&service::request(size)).expect("sent");
        read(stream, size, &mut self.buffer);
    }
}

fn read(stream: &mut TcpStream, mut size: usize, buffer: &mut [u8]) {
    while size > 0 {
        let part = size.min(buffer.len());
        let count = stream.read(&mut buffer[..part]).expect("an answer");
        assert_ne!(count, 0, "the stream ended");
        size -= count;
    }
}
