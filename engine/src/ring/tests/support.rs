//! A relay's loop, and blocking peers of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use adit_proto::ids::{Mode, ServiceId, TunnelId};
use adit_proto::message::{Control, DataHeader, Kind, MessageView, encode_service_ids};
use adit_proto::websocket::{FrameHeader, Opcode, Role, mask};
use socket2::SockRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::super::backend::Backend as _;
use super::super::io::{Io, Owner};
use super::super::link_io::LinkIo;
use super::super::proxy_io::ProxyIo;
use super::super::{
    IoChoice, LinkEnd, LinkNews, LoopHandle, ProxyId, ProxyOptions, ProxyStatus, Settings,
    TunnelEvent, open, start,
};
use crate::link::{Grant, Link};
use crate::tls::{PlainRecords, Records};
use crate::tunnel::inbound::{Inbound, Item, Place};
use crate::tunnel::limits::Limits;
use crate::tunnel::mapping::Mapping;
use crate::tunnel::proxy::{Proxy, ProxySettings};

/// Longer than anything here takes, even on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// On both backends, or on the one that there is.
pub(super) fn both(test: impl Fn(IoChoice)) {
    test(IoChoice::Epoll);
    match open(IoChoice::Uring, &Settings::default()) {
        Ok(_) => test(IoChoice::Uring),
        Err(error) => eprintln!("tested on epoll only: {error}"),
    }
}

/// One tunnel at a relay, on a loop of its own.
pub(super) struct Bench {
    pub(super) event_loop: LoopHandle,
    pub(super) news: UnboundedReceiver<LinkNews>,
    pub(super) services: Arc<[ServiceId]>,
    sender: UnboundedSender<LinkNews>,
    session: u64,
    pub(super) bytes_per_second: Option<NonZeroU64>,
    tunnel: &'static str,
}

impl Bench {
    pub(super) fn new(io: IoChoice, services: &[&str]) -> Self {
        let (event_loop, _) = start("relay".to_owned(), io).expect("start a loop");
        Self::on(event_loop, "t", services)
    }

    /// Another tunnel on the same loop.
    pub(super) fn beside(&self, tunnel: &'static str, services: &[&str]) -> Self {
        Self::on(self.event_loop.clone(), tunnel, services)
    }

    fn on(event_loop: LoopHandle, tunnel: &'static str, services: &[&str]) -> Self {
        let (sender, news) = unbounded_channel();
        let services = services.iter().map(|name| name.parse().expect("valid"));
        Self {
            event_loop,
            news,
            services: services.collect(),
            sender,
            session: 0,
            bytes_per_second: None,
            tunnel,
        }
    }

    /// Attaches a side that has heard its SERVICE_IDS.
    pub(super) fn attach(&mut self, mode: Mode) -> Peer {
        let mut peer = self.attach_with(mode, None, Records::Plain(PlainRecords));
        assert_eq!(peer.hears_kind(), Kind::ServiceIds);
        peer
    }

    /// Attaches a side whose system takes little of what it does not read; it has heard its SERVICE_IDS.
    pub(super) fn attach_narrow(&mut self, mode: Mode) -> Peer {
        let mut peer = self.attach_with(mode, Some(2_048), Records::Plain(PlainRecords));
        assert_eq!(peer.hears_kind(), Kind::ServiceIds);
        peer
    }

    /// Attaches a side; `kernel`: sizes of the buffers towards it, where they matter.
    pub(super) fn attach_with(
        &mut self,
        mode: Mode,
        kernel: Option<usize>,
        records: Records,
    ) -> Peer {
        let (near, far) = socket_pair(kernel);
        self.session += 1;
        let grant = self.grant(mode);
        let link = Link::fresh(far, records).expect("a socket");
        self.event_loop.attach(grant, link, self.sender.clone());
        Peer::new(near, Role::Client)
    }

    /// A grant for the newest session.
    pub(super) fn grant(&self, mode: Mode) -> Grant {
        Grant {
            tunnel: TunnelId::try_from(self.tunnel).expect("valid"),
            mode,
            services: Arc::clone(&self.services),
            session: self.session,
            bytes_per_second: self.bytes_per_second,
            connections_per_second: None,
        }
    }

    /// See [`hold`].
    pub(super) fn hold(&self) -> mpsc::Sender<()> {
        hold(&self.event_loop)
    }

    /// The next news of a link.
    pub(super) fn hears(&mut self) -> LinkNews {
        let start = Instant::now();
        loop {
            if let Ok(news) = self.news.try_recv() {
                return news;
            }
            assert!(start.elapsed() < PATIENCE, "no news of a link");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.event_loop.stop();
    }
}

/// Connected over loopback; the second has buffers of `kernel` bytes to send from, the first to
/// receive into.
pub(in crate::ring) fn socket_pair(kernel: Option<usize>) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    if let Some(size) = kernel {
        let listener = SockRef::from(&listener);
        listener.set_send_buffer_size(size).expect("buffer size");
    }
    let address = listener.local_addr().expect("address");
    let near = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let near = near.expect("socket");
    if let Some(size) = kernel {
        near.set_recv_buffer_size(size).expect("buffer size");
    }
    near.connect(&address.into()).expect("connect");
    let near = TcpStream::from(near);
    let far = listener.accept().expect("accept").0;
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("nodelay");
    }
    (near, far)
}

/// A link by itself, and its peer, neither of which waits. `kernel`: of the buffer for what it sends.
pub(in crate::ring) fn link_by_itself(
    choice: IoChoice,
    records: Records,
    kernel: Option<usize>,
) -> (Io, LinkIo, UnixStream) {
    let backend = open(choice, &Settings::default()).expect("a backend");
    let mut io = Io::new(backend, Instant::now());
    let (ours, theirs) = UnixStream::pair().expect("two sockets");
    for socket in [&ours, &theirs] {
        socket.set_nonblocking(true).expect("a socket");
    }
    if let Some(size) = kernel {
        let short = SockRef::from(&ours).set_send_buffer_size(size);
        short.expect("buffer size");
    }
    let owner = Owner::Link { tunnel: 0, side: 0 };
    let socket = io.insert(ours.into(), owner).expect("it is watched");
    let link = LinkIo::new(socket, records, &[], &[], &mut io.buffers);
    (io, link, theirs)
}

/// A proxy that nothing but the test gives turns.
pub(in crate::ring) struct Alone {
    pub(in crate::ring) io: Io,
    pub(in crate::ring) proxy: ProxyIo,
    /// What it has told.
    pub(in crate::ring) told: UnboundedReceiver<TunnelEvent>,
}

impl Alone {
    pub(in crate::ring) fn new(mode: Mode, mapping: &str, limits: Limits) -> Self {
        let backend = open(IoChoice::Epoll, &Settings::default()).expect("epoll");
        let io = Io::new(backend, Instant::now());
        let settings = ProxySettings {
            mode,
            mapping: Mapping::parse(mapping, mode).expect("a mapping"),
            dialect: None,
            limits,
        };
        let proxy = Box::new(Proxy::new(settings, [7; 32]));
        let (events, told) = unbounded_channel();
        let proxy = ProxyIo::new(0, proxy, ProxyOptions::default(), events, io.now);
        Self { io, proxy, told }
    }

    /// A link, over which SERVICE_IDS of one service is on its way.
    pub(in crate::ring) fn link_up(&mut self, service: &str) -> Peer {
        let (near, far) = socket_pair(None);
        self.proxy.link_up(&mut self.io, plain_link(near));
        let mut peer = Peer::new(far, Role::Server);
        let mut ids = Vec::new();
        let id = service.parse().expect("an id");
        encode_service_ids([&id].into_iter(), false, &mut ids);
        peer.says(&ids);
        peer
    }

    /// How the last link ended, if it has ended since this was asked.
    pub(in crate::ring) fn link_end(&mut self) -> Option<LinkEnd> {
        std::iter::from_fn(|| self.told.try_recv().ok())
            .filter_map(|event| match event {
                TunnelEvent::LinkEnded(end) => Some(end),
                _ => None,
            })
            .last()
    }

    /// Hands over what has happened.
    pub(in crate::ring) fn events(&mut self) {
        let mut ready = Vec::new();
        let waited = self.io.backend.wait(&mut ready, Some(Duration::ZERO));
        waited.expect("events");
        for event in &ready {
            match self.io.owner(event) {
                Some(Owner::Link { .. }) => self.proxy.link_ready(event),
                Some(&mut Owner::Local { key, .. }) => self.proxy.local_ready(key, event),
                Some(&mut Owner::Listener { service, .. }) => self.proxy.listener_ready(service),
                Some(Owner::Dialling { .. }) => {
                    self.proxy
                        .dial_ready(&mut self.io, event.token.index(), Some(false), false)
                }
                _ => {}
            }
        }
    }

    /// The same, and then turns for as long as it wants to.
    pub(in crate::ring) fn turns(&mut self) {
        self.events();
        while self.proxy.turn(&mut self.io) {}
    }
}

/// A proxy on a loop of its own, whose service is the test.
pub(super) struct ProxyBench {
    pub(super) event_loop: LoopHandle,
    id: ProxyId,
    events: UnboundedReceiver<TunnelEvent>,
}

impl ProxyBench {
    pub(super) const ID: ProxyId = ProxyId(7);

    /// With a link that has brought SERVICE_IDS of `A`.
    pub(super) fn new(io: IoChoice, mode: Mode, mapping: &str, limits: Limits) -> (Self, Peer) {
        Self::with_options(io, mode, mapping, limits, ProxyOptions::default())
    }

    /// As [`Self::new`], with what the loop is to know of the proxy.
    pub(super) fn with_options(
        io: IoChoice,
        mode: Mode,
        mapping: &str,
        limits: Limits,
        options: ProxyOptions,
    ) -> (Self, Peer) {
        let (event_loop, _) = start("proxy".to_owned(), io).expect("start a loop");
        Self::on(event_loop, Self::ID, mode, mapping, limits, options)
    }

    /// Another proxy on the same loop.
    pub(super) fn beside(&self, id: ProxyId, mode: Mode, mapping: &str) -> (Self, Peer) {
        let event_loop = self.event_loop.clone();
        let (limits, options) = (Limits::default(), ProxyOptions::default());
        Self::on(event_loop, id, mode, mapping, limits, options)
    }

    fn on(
        event_loop: LoopHandle,
        id: ProxyId,
        mode: Mode,
        mapping: &str,
        limits: Limits,
        options: ProxyOptions,
    ) -> (Self, Peer) {
        let settings = ProxySettings {
            mode,
            mapping: Mapping::parse(mapping, mode).expect("a mapping"),
            dialect: None,
            limits,
        };
        let (sender, events) = unbounded_channel();
        let proxy = Proxy::new(settings, [7; 32]);
        event_loop.add_proxy(id, proxy, options, sender);
        let mut bench = Self {
            event_loop,
            id,
            events,
        };
        let service = bench.connect();
        (bench, service)
    }

    /// A fresh link.
    pub(super) fn connect(&mut self) -> Peer {
        let (near, far) = socket_pair(None);
        self.event_loop.link_up(self.id, plain_link(near));
        let mut service = Peer::new(far, Role::Server);
        let mut ids = Vec::new();
        encode_service_ids([&"A".parse().expect("an id")].into_iter(), false, &mut ids);
        service.says(&ids);
        let start = Instant::now();
        while !self.status().is_running {
            assert!(start.elapsed() < PATIENCE, "the proxy does not run");
            std::thread::sleep(Duration::from_millis(2));
        }
        service
    }

    /// Waits until the proxy is gone from the loop.
    pub(super) fn is_over(&mut self) {
        let start = Instant::now();
        while !matches!(self.events.try_recv(), Ok(TunnelEvent::Over(_))) {
            assert!(start.elapsed() < PATIENCE, "the proxy is not over");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The next event.
    pub(super) fn hears(&mut self) -> TunnelEvent {
        let start = Instant::now();
        loop {
            if let Ok(event) = self.events.try_recv() {
                return event;
            }
            assert!(start.elapsed() < PATIENCE, "no event of a proxy");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Has the proxy listen for its service `A`, on a port that is given back.
    pub(super) fn listen(&self) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("address").port();
        self.event_loop.add_listener(self.id, 0, listener.into());
        port
    }

    pub(super) fn status(&self) -> ProxyStatus {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let status = self.event_loop.status(self.id);
        let status = runtime.expect("a runtime").block_on(status);
        status.expect("a proxy")
    }
}

impl Drop for ProxyBench {
    fn drop(&mut self) {
        self.event_loop.stop();
    }
}

fn plain_link(stream: TcpStream) -> Link {
    Link::fresh(stream, Records::Plain(PlainRecords)).expect("a socket")
}

/// Stops a loop between two turns until the result is dropped.
pub(super) fn hold(event_loop: &LoopHandle) -> mpsc::Sender<()> {
    let (entered, is_held) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    event_loop.run(move || {
        let _ = entered.send(());
        let _ = released.recv();
    });
    is_held.recv_timeout(PATIENCE).expect("the loop turns");
    release
}

/// The other end of a link.
pub(in crate::ring) struct Peer {
    pub(super) stream: TcpStream,
    role: Role,
    inbound: Inbound,
    buffer: Vec<u8>,
    position: usize,
    /// Of the close frame that has come.
    close_code: Option<u16>,
}

impl Peer {
    fn new(stream: TcpStream, role: Role) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
        Self {
            stream,
            role,
            inbound: Inbound::new(role),
            buffer: Vec::new(),
            position: 0,
            close_code: None,
        }
    }

    /// Sends `content` in frames.
    pub(in crate::ring) fn says(&mut self, content: &[u8]) {
        let bytes = frames(content, self.role == Role::Client);
        self.stream.write_all(&bytes).expect("write");
    }

    /// The next message.
    pub(super) fn hears(&mut self) -> Vec<u8> {
        match self.next() {
            Some(message) => message,
            None => panic!("the link ended"),
        }
    }

    pub(super) fn hears_kind(&mut self) -> Kind {
        let message = self.hears();
        MessageView::parse(&message).expect("a message").kind
    }

    /// Reads on until the link is over.
    pub(super) fn hears_the_end(&mut self) {
        while self.next().is_some() {}
    }

    /// All messages until the link is over, and the code of its close frame, if there is one.
    pub(super) fn hears_all(&mut self) -> (Vec<Vec<u8>>, Option<u16>) {
        let messages = std::iter::from_fn(|| self.next()).collect();
        (messages, self.close_code)
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let item = self.inbound.next(&mut self.buffer, &mut self.position);
            match item.expect("the relay speaks properly") {
                Some(Item::Message(Place::Buffer(range))) => {
                    return Some(self.buffer[range].to_vec());
                }
                Some(Item::Message(Place::Assembled)) => {
                    return Some(self.inbound.assembled().to_vec());
                }
                Some(Item::Close(code, _)) => {
                    self.close_code = code;
                    return None;
                }
                Some(Item::Ping(_) | Item::Pong(_)) => {}
                None => {
                    self.buffer.resize(65_536, 0);
                    let count = match self.stream.read(&mut self.buffer) {
                        Ok(0) => return None,
                        Ok(count) => count,
                        Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                        Err(error) => panic!("nothing to read: {error}"),
                    };
                    self.buffer.truncate(count);
                    self.position = 0;
                }
            }
        }
    }
}

/// `content` in frames of at most a record, as a client sends it, or a server.
pub(super) fn frames(content: &[u8], is_masked: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for content in content.chunks(16_000) {
        let key = [1, 2, 3, 4];
        let header = FrameHeader {
            fin: true,
            opcode: Opcode::Binary,
            mask: is_masked.then_some(key),
            payload_size: content.len() as u64,
        };
        let start = bytes.len();
        bytes.resize(start + header.size(), 0);
        header.write(&mut bytes[start..]);
        let at = bytes.len();
        bytes.extend_from_slice(content);
        if is_masked {
            mask(key, 0, &mut bytes[at..]);
        }
    }
    bytes
}

/// A stream with one connection.
pub(super) fn open_stream(source: &mut Peer, destination: &mut Peer) {
    source.says(&starts(1));
    assert_eq!(destination.hears_kind(), Kind::StreamStart);
}

/// What a source says to open this many connections of one stream.
pub(in crate::ring) fn starts(count: u32) -> Vec<u8> {
    let mut starts = Vec::new();
    control(Kind::StreamStart, 1, 1, &mut starts);
    for id in 2..=count {
        control(Kind::ConnectionStart, 1, id, &mut starts);
    }
    starts
}

/// A control message of a service called `A`.
pub(in crate::ring) fn control(kind: Kind, stream_id: i32, connection_id: u32, out: &mut Vec<u8>) {
    Control {
        kind,
        stream_id,
        service_id: "A",
        connection_id,
    }
    .encode(out);
}

/// DATA for connection 1 of stream 1 of a service called `A`.
pub(super) fn data(payload: &[u8]) -> Vec<u8> {
    data_of(1, payload)
}

/// The same for another stream.
pub(super) fn data_of(stream_id: i32, payload: &[u8]) -> Vec<u8> {
    let header = DataHeader {
        stream_id,
        service_id: "A",
        connection_id: 1,
    };
    let mut bytes = vec![0; header.size(payload.len())];
    header.write(payload.len(), &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}
