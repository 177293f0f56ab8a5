//! A source as tasks, for any runtime that has owned-buffer reads and writes.

use super::core::{Core, Signals};
use super::signal::Signal;
use adit_bench::path::SOURCE;
use adit_bench::sockets;
use adit_engine::link::Link;
use socket2::SockRef;
use std::cell::RefCell;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

/// What is asked of a runtime.
pub(crate) trait Runtime: 'static {
    /// The two directions of a connection.
    type Reader: 'static;
    /// See `Reader`.
    type Writer: 'static;
    type Listener: 'static;

    /// Whether sockets must be non-blocking when they are handed over.
    const NONBLOCKING: bool;

    /// Starts a runtime on this thread, and ends it with the future.
    fn run(future: impl Future<Output = ()> + 'static);
    fn spawn(task: impl Future<Output = ()> + 'static);
    fn listener(listener: TcpListener) -> io::Result<Self::Listener>;
    fn split(stream: TcpStream) -> io::Result<(Self::Reader, Self::Writer)>;
    async fn accept(listener: &mut Self::Listener) -> io::Result<(Self::Reader, Self::Writer)>;
    /// Reads once, to `buffer[from..]`.
    async fn read(
        reader: &mut Self::Reader,
        buffer: Vec<u8>,
        from: usize,
    ) -> (io::Result<usize>, Vec<u8>);
    /// Writes `buffer[..size]`.
    async fn write_all(
        writer: &mut Self::Writer,
        buffer: Vec<u8>,
        size: usize,
    ) -> (io::Result<()>, Vec<u8>);
}

/// A source on a thread of its own, until its link ends.
pub(crate) struct Source {
    port: u16,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    pub(crate) fn start<R: Runtime>(link: Link) -> Self {
        let (announce, announced) = channel();
        let thread = thread::Builder::new()
            .name(SOURCE.to_owned())
            .spawn(move || R::run(drive::<R>(link, announce)))
            .expect("a thread");
        Self {
            port: announced.recv().expect("the source has begun"),
            thread: Some(thread),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A source that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// What the tasks share.
struct Shared {
    core: RefCell<Core>,
    /// There may be something for the link.
    has_output: Signal,
    /// Local sockets have taken something.
    has_written: Signal,
}

/// Bytes read from a local socket, and from the link, at once.
const LOCAL_READ: usize = 16 * 1024;
const LINK_READ: usize = 256 * 1024;

/// Bytes that wait for local sockets before the link is not read.
const UNWRITTEN_MAX: usize = 1024 * 1024;

async fn drive<R: Runtime>(link: Link, announce: Sender<u16>) {
    let stream = TcpStream::from(link.socket);
    stream
        .set_nonblocking(R::NONBLOCKING)
        .expect("a mode of the socket");
    let (mut reader, writer) = R::split(stream).expect("a stream");
    let shared = Rc::new(Shared {
        core: RefCell::new(Core::new(link.records)),
        has_output: Signal::default(),
        has_written: Signal::default(),
    });
    shared.has_output.set();
    R::spawn(write_link::<R>(Rc::clone(&shared), writer));
    let mut announce = Some(announce);
    let (mut buffer, mut filled) = (vec![0; LINK_READ], 0);
    loop {
        let result;
        (result, buffer) = R::read(&mut reader, buffer, filled).await;
        match result {
            Ok(0) | Err(_) => return,
            Ok(size) => filled += size,
        }
        let used = shared.core.borrow_mut().link_read(&mut buffer[..filled]);
        buffer.copy_within(used..filled, 0);
        filled -= used;
        shared.has_output.set();
        if shared.core.borrow().is_running()
            && let Some(announce) = announce.take()
        {
            listen::<R>(&shared, &announce);
        }
        while shared.core.borrow().unwritten_size() > UNWRITTEN_MAX {
            shared.has_written.wait().await;
        }
    }
}

async fn write_link<R: Runtime>(shared: Rc<Shared>, mut writer: R::Writer) {
    let mut buffer = Vec::new();
    loop {
        shared.has_output.wait().await;
        loop {
            let taken = shared.core.borrow_mut().take_output(&mut buffer);
            let Some(size) = taken else {
                break;
            };
            let result;
            (result, buffer) = R::write_all(&mut writer, buffer, size).await;
            if result.is_err() {
                return;
            }
        }
    }
}

fn listen<R: Runtime>(shared: &Rc<Shared>, announce: &Sender<u16>) {
    let listener = sockets::listener().expect("a listener");
    listener
        .set_nonblocking(R::NONBLOCKING)
        .expect("a mode of the socket");
    // What it accepts has it too.
    SockRef::from(&listener)
        .set_tcp_nodelay(true)
        .expect("no delay");
    let port = listener.local_addr().expect("it is bound").port();
    let listener = R::listener(listener).expect("a listener");
    R::spawn(accept::<R>(Rc::clone(shared), listener));
    announce.send(port).expect("somebody waits for it");
}

async fn accept<R: Runtime>(shared: Rc<Shared>, mut listener: R::Listener) {
    loop {
        let (reader, writer) = R::accept(&mut listener).await.expect("a connection");
        let (io, signals) = shared.core.borrow_mut().accept();
        shared.has_output.set();
        R::spawn(read_local::<R>(
            Rc::clone(&shared),
            io,
            Rc::clone(&signals),
            reader,
        ));
        R::spawn(write_local::<R>(Rc::clone(&shared), io, signals, writer));
    }
}

async fn read_local<R: Runtime>(
    shared: Rc<Shared>,
    io: u32,
    signals: Rc<Signals>,
    mut reader: R::Reader,
) {
    let mut buffer = vec![0; LOCAL_READ];
    loop {
        let result;
        (result, buffer) = R::read(&mut reader, buffer, 0).await;
        let Ok(size @ 1..) = result else {
            return;
        };
        shared.core.borrow_mut().local_read(io, &buffer[..size]);
        shared.has_output.set();
        // Not more than one read ahead of the link.
        signals.is_composed.wait().await;
    }
}

async fn write_local<R: Runtime>(
    shared: Rc<Shared>,
    io: u32,
    signals: Rc<Signals>,
    mut writer: R::Writer,
) {
    let mut buffer = Vec::new();
    loop {
        signals.has_unwritten.wait().await;
        while shared.core.borrow_mut().take_unwritten(io, &mut buffer) {
            let result;
            let size = buffer.len();
            (result, buffer) = R::write_all(&mut writer, buffer, size).await;
            if result.is_err() {
                return;
            }
            shared.has_written.set();
        }
    }
}
