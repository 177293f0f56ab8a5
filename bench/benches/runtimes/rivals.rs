//! The ready-made runtimes, each with the settings that serve it best.

use super::driver::Runtime;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt, Splitable};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_uring::buf::BoundedBuf;

/// Entries of the rings, for a thousand connections.
const ENTRIES: u32 = 4_096;

/// One thread, epoll.
pub(crate) struct Tokio;

impl Runtime for Tokio {
    type Reader = tokio::net::tcp::OwnedReadHalf;
    type Writer = tokio::net::tcp::OwnedWriteHalf;
    type Listener = tokio::net::TcpListener;

    const NONBLOCKING: bool = true;

    fn run(future: impl Future<Output = ()> + 'static) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, future);
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    fn listener(listener: TcpListener) -> io::Result<Self::Listener> {
        tokio::net::TcpListener::from_std(listener)
    }

    fn split(stream: TcpStream) -> io::Result<(Self::Reader, Self::Writer)> {
        Ok(tokio::net::TcpStream::from_std(stream)?.into_split())
    }

    async fn accept(listener: &mut Self::Listener) -> io::Result<(Self::Reader, Self::Writer)> {
        Ok(listener.accept().await?.0.into_split())
    }

    async fn read(
        reader: &mut Self::Reader,
        mut buffer: Vec<u8>,
        from: usize,
    ) -> (io::Result<usize>, Vec<u8>) {
        (reader.read(&mut buffer[from..]).await, buffer)
    }

    async fn write_all(
        writer: &mut Self::Writer,
        buffer: Vec<u8>,
        size: usize,
    ) -> (io::Result<()>, Vec<u8>) {
        (writer.write_all(&buffer[..size]).await, buffer)
    }
}

/// io_uring, with task work done when the thread enters the kernel anyway. `DEFER_TASKRUN` would
/// starve it: it does not always enter.
pub(crate) struct Monoio;

impl Runtime for Monoio {
    type Reader = monoio::net::tcp::TcpOwnedReadHalf;
    type Writer = monoio::net::tcp::TcpOwnedWriteHalf;
    type Listener = monoio::net::TcpListener;

    const NONBLOCKING: bool = false;

    fn run(future: impl Future<Output = ()> + 'static) {
        let mut ring = monoio_io_uring::IoUring::builder();
        ring.setup_coop_taskrun().setup_single_issuer();
        let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
            .with_entries(ENTRIES)
            .uring_builder(ring)
            .build()
            .expect("a runtime");
        runtime.block_on(future);
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        drop(monoio::spawn(task));
    }

    fn listener(listener: TcpListener) -> io::Result<Self::Listener> {
        monoio::net::TcpListener::from_std(listener)
    }

    fn split(stream: TcpStream) -> io::Result<(Self::Reader, Self::Writer)> {
        Ok(monoio::net::TcpStream::from_std(stream)?.into_split())
    }

    async fn accept(listener: &mut Self::Listener) -> io::Result<(Self::Reader, Self::Writer)> {
        Ok(listener.accept().await?.0.into_split())
    }

    async fn read(
        reader: &mut Self::Reader,
        buffer: Vec<u8>,
        from: usize,
    ) -> (io::Result<usize>, Vec<u8>) {
        let (result, slice) = reader.read(buffer.slice_mut(from..)).await;
        (result, slice.into_inner())
    }

    async fn write_all(
        writer: &mut Self::Writer,
        buffer: Vec<u8>,
        size: usize,
    ) -> (io::Result<()>, Vec<u8>) {
        let (result, slice) = writer.write_all(IoBuf::slice(buffer, ..size)).await;
        (result.map(drop), slice.into_inner())
    }
}

/// io_uring under tokio's scheduler.
pub(crate) struct TokioUring;

impl Runtime for TokioUring {
    type Reader = Rc<tokio_uring::net::TcpStream>;
    type Writer = Rc<tokio_uring::net::TcpStream>;
    type Listener = tokio_uring::net::TcpListener;

    const NONBLOCKING: bool = false;

    fn run(future: impl Future<Output = ()> + 'static) {
        let mut ring = tokio_uring::uring_builder();
        ring.setup_coop_taskrun().setup_single_issuer();
        tokio_uring::builder()
            .entries(ENTRIES)
            .uring_builder(&ring)
            .start(future);
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        tokio_uring::spawn(task);
    }

    fn listener(listener: TcpListener) -> io::Result<Self::Listener> {
        Ok(tokio_uring::net::TcpListener::from_std(listener))
    }

    fn split(stream: TcpStream) -> io::Result<(Self::Reader, Self::Writer)> {
        let stream = Rc::new(tokio_uring::net::TcpStream::from_std(stream));
        Ok((Rc::clone(&stream), stream))
    }

    async fn accept(listener: &mut Self::Listener) -> io::Result<(Self::Reader, Self::Writer)> {
        let stream = Rc::new(listener.accept().await?.0);
        Ok((Rc::clone(&stream), stream))
    }

    async fn read(
        reader: &mut Self::Reader,
        buffer: Vec<u8>,
        from: usize,
    ) -> (io::Result<usize>, Vec<u8>) {
        let (result, slice) = reader.read(BoundedBuf::slice(buffer, from..)).await;
        (result, slice.into_inner())
    }

    async fn write_all(
        writer: &mut Self::Writer,
        buffer: Vec<u8>,
        size: usize,
    ) -> (io::Result<()>, Vec<u8>) {
        let (result, slice) = writer.write_all(BoundedBuf::slice(buffer, ..size)).await;
        (result, slice.into_inner())
    }
}
