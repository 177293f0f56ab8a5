//! Source, relay and destination on real loops over loopback sockets.

use adit_engine::link::{Grant, Link};
use adit_engine::ring::{
    Address, IoChoice, LinkEnd, LoopHandle, ProxyId, ProxyOptions, TunnelEvent, listen,
    local_address, start,
};
use adit_engine::tls::{
    self, ClientTls, PlainRecords, Records, RecordsChoice, client_config, server_config_from,
    server_name,
};
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::mapping::Mapping;
use adit_engine::tunnel::proxy::{Proxy, ProxySettings};
use adit_proto::ids::{Mode, ServiceId, TunnelId};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The proxies, each on its own loop.
pub(crate) const DESTINATION: ProxyId = ProxyId(1);
/// See `DESTINATION`.
pub(crate) const SOURCE: ProxyId = ProxyId(2);

/// One tunnel on three loops; its end ends them.
pub(crate) struct Stack {
    /// Where the source listens, by service.
    pub(crate) ports: Vec<u16>,
    /// Of the source, the relay and the destination.
    pub(crate) handles: Vec<LoopHandle>,
    /// What the proxies say of links that are over: source, destination.
    pub(crate) ends: [Receiver<LinkEnd>; 2],
    services: Arc<[ServiceId]>,
    records: Box<dyn Fn() -> (Records, Records)>,
    has_credit: bool,
    /// The newest; the relay keeps the newest of each side.
    session: Cell<u64>,
    /// The present link of each side, once more.
    sockets: RefCell<[Option<TcpStream>; 2]>,
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.handles.iter().for_each(LoopHandle::stop);
    }
}

/// The place of the relay's loop.
const RELAY: usize = 1;

fn index_of(mode: Mode) -> usize {
    usize::from(mode == Mode::Destination)
}

/// Of each side's proxy the place of its loop, and its name there.
fn place_of(mode: Mode) -> (usize, ProxyId) {
    match mode {
        Mode::Source => (0, SOURCE),
        Mode::Destination => (2, DESTINATION),
    }
}

impl Stack {
    /// Gives one side a fresh link, be there one or not.
    pub(crate) fn link(&self, mode: Mode) {
        let (near, far) = socket_pair();
        let again = near.try_clone().expect("a descriptor");
        self.sockets.borrow_mut()[index_of(mode)] = Some(again);
        let (near_records, far_records) = (self.records)();
        self.session.set(self.session.get() + 1);
        let grant = Grant {
            tunnel: tunnel(),
            mode,
            services: self.services.clone(),
            session: self.session.get(),
            bytes_per_second: None,
            connections_per_second: None,
        };
        let (gone, _) = unbounded_channel();
        let link = Link::fresh(far, far_records).expect("set a socket");
        self.handles[RELAY].attach(grant, link, gone);
        let mut link = Link::fresh(near, near_records).expect("set a socket");
        link.carries_credit = self.has_credit;
        let (at, id) = place_of(mode);
        self.handles[at].link_up(id, link);
    }

    /// Ends the connection of one side's link, for both its ends.
    pub(crate) fn cut(&self, mode: Mode) {
        if let Some(socket) = self.sockets.borrow_mut()[index_of(mode)].take() {
            // One that is over is cut already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Closes one side's link at the relay, as where its token is rotated.
    pub(crate) fn rotate(&self, mode: Mode) {
        self.handles[RELAY].end_side(tunnel(), mode, self.session.get());
    }

    /// Closes the tunnel at the relay.
    pub(crate) fn close(&self) {
        self.handles[RELAY].end_tunnel(tunnel());
    }
}

/// The only tunnel of a stack.
fn tunnel() -> TunnelId {
    TunnelId::try_from("t").expect("valid")
}

/// Both ends of a link without TLS.
pub(crate) fn plain() -> (Records, Records) {
    (Records::Plain(PlainRecords), Records::Plain(PlainRecords))
}

/// Both ends of a TLS session.
pub(crate) fn sealed(choice: RecordsChoice) -> (Records, Records) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let server = server_config_from(chain, key).expect("a configuration");
    let client = client_config(&ClientTls {
        no_verify: true,
        ..ClientTls::default()
    })
    .expect("a configuration");
    let name = server_name("localhost").expect("a name");
    let (mut near, mut far) = tokio::io::duplex(64 * 1024);
    let (near, far) = runtime().block_on(async {
        tokio::join!(
            tls::connect(&mut near, &client, name, choice),
            tls::accept(&mut far, &server, choice)
        )
    });
    let (near, far) = (near.expect("a session"), far.expect("a session"));
    assert!(near.unread.is_empty() && far.unread.is_empty());
    (near.records, far.records)
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}

fn socket_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let near = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    (near, listener.accept().expect("accept").0)
}

/// One tunnel with `services`, the destination dialling `targets`. `records` makes both ends of
/// a link.
pub(crate) fn stack(
    io: IoChoice,
    services: &[&str],
    targets: &[u16],
    records: impl Fn() -> (Records, Records) + 'static,
) -> Stack {
    stack_with(io, services, targets, records, Limits::default(), true)
}

/// The same with other bounds of the proxies, and over a relay that passes credit on or does not, as that
/// of AWS.
pub(crate) fn stack_with(
    io: IoChoice,
    services: &[&str],
    targets: &[u16],
    records: impl Fn() -> (Records, Records) + 'static,
    limits: Limits,
    has_credit: bool,
) -> Stack {
    let (source_ends, destination_ends) = (channel(), channel());
    let mut stack = Stack {
        ports: Vec::new(),
        handles: (0..3)
            .map(|at| start(format!("loop-{at}"), io).expect("start a loop").0)
            .collect(),
        ends: [source_ends.1, destination_ends.1],
        services: services
            .iter()
            .map(|name| ServiceId::try_from(*name).expect("valid"))
            .collect(),
        records: Box::new(records),
        has_credit,
        session: Cell::new(0),
        sockets: RefCell::default(),
    };
    let mapping: Vec<String> = services
        .iter()
        .zip(targets)
        .map(|(name, port)| format!("{name}=127.0.0.1:{port}"))
        .collect();
    for (mode, ends) in [
        (Mode::Destination, destination_ends.0),
        (Mode::Source, source_ends.0),
    ] {
        let mapping = match mode {
            Mode::Source => Mapping::default(),
            Mode::Destination => Mapping::parse(&mapping.join(","), mode).expect("a mapping"),
        };
        let settings = ProxySettings {
            mode,
            mapping,
            dialect: None,
            limits,
        };
        let (events, mut inbox) = unbounded_channel();
        let (at, id) = place_of(mode);
        let handle = &stack.handles[at];
        let proxy = Proxy::new(settings, [7; 32]);
        handle.add_proxy(id, proxy, ProxyOptions::default(), events);
        stack.link(mode);
        if mode == Mode::Source {
            stack.ports = listeners(handle, id, &mut inbox, services.len());
        }
        thread::spawn(move || {
            while let Some(event) = inbox.blocking_recv() {
                if let TunnelEvent::LinkEnded(end) = event {
                    // Not every test asks.
                    let _ = ends.send(end);
                }
            }
        });
    }
    stack
}

fn listeners(
    handle: &LoopHandle,
    id: ProxyId,
    inbox: &mut UnboundedReceiver<TunnelEvent>,
    count: usize,
) -> Vec<u16> {
    let mut ports = vec![0; count];
    for _ in 0..count {
        let event = inbox.blocking_recv().expect("an event");
        let TunnelEvent::Listen { service, .. } = event else {
            panic!("{event:?}")
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = listen(&Address::Ip(any)).expect("listen");
        let Ok(Address::Ip(address)) = local_address(&listener) else {
            panic!("no address")
        };
        ports[service as usize] = address.port();
        handle.add_listener(id, service, listener);
    }
    ports
}

/// A client of a listener.
pub(crate) fn connect(port: u16) -> TcpStream {
    let stream =
        TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("connect");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// On both backends, or on the one that there is.
pub(crate) fn both(test: impl Fn(IoChoice)) {
    test(IoChoice::Epoll);
    if adit_engine::ring::open(IoChoice::Uring, &adit_engine::ring::Settings::default()).is_ok() {
        test(IoChoice::Uring);
    } else {
        eprintln!("io_uring is not available here: tested on epoll only");
    }
}
