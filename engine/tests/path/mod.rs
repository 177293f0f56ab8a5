//! Source, relay and destination on real loops over loopback sockets.

use adit_engine::link::{Grant, Link};
use adit_engine::ring::{
    Address, IoChoice, LoopHandle, ProxyId, ProxyOptions, TunnelEvent, listen, local_address, start,
};
use adit_engine::tls::Records;
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::mapping::Mapping;
use adit_engine::tunnel::proxy::{Proxy, ProxySettings};
use adit_proto::ids::{Mode, ServiceId, TunnelId};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
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
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.handles.iter().for_each(LoopHandle::stop);
    }
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
    records: impl Fn() -> (Records, Records),
) -> Stack {
    stack_with(io, services, targets, records, Limits::default(), true)
}

/// The same with other bounds of the proxies, and over a relay that passes credit on or does not, as that
/// of AWS.
pub(crate) fn stack_with(
    io: IoChoice,
    services: &[&str],
    targets: &[u16],
    records: impl Fn() -> (Records, Records),
    limits: Limits,
    has_credit: bool,
) -> Stack {
    let handles: Vec<LoopHandle> = (0..3)
        .map(|at| start(format!("loop-{at}"), io).expect("start a loop").0)
        .collect();
    let ids: Arc<[ServiceId]> = services
        .iter()
        .map(|name| ServiceId::try_from(*name).expect("valid"))
        .collect();
    let mapping: Vec<String> = services
        .iter()
        .zip(targets)
        .map(|(name, port)| format!("{name}=127.0.0.1:{port}"))
        .collect();
    let mut ports = Vec::new();
    for (mode, handle, session) in [
        (Mode::Destination, &handles[2], DESTINATION.0),
        (Mode::Source, &handles[0], SOURCE.0),
    ] {
        let (near, far) = socket_pair();
        let (near_records, far_records) = records();
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
        let id = ProxyId(session);
        handle.add_proxy(
            id,
            Proxy::new(settings, [7; 32]),
            ProxyOptions::default(),
            events,
        );
        let mut link = Link::fresh(near, near_records).expect("set a socket");
        link.carries_credit = has_credit;
        handle.link_up(id, link);
        let grant = Grant {
            tunnel: TunnelId::try_from("t").expect("valid"),
            mode,
            services: ids.clone(),
            session,
            bytes_per_second: None,
            connections_per_second: None,
        };
        let (gone, _) = unbounded_channel();
        let link = Link::fresh(far, far_records).expect("set a socket");
        handles[1].attach(grant, link, gone);
        if mode == Mode::Source {
            ports = listeners(handle, id, &mut inbox, services.len());
        }
        // Keep the receiver alive: nobody answers further events.
        thread::spawn(move || while inbox.blocking_recv().is_some() {});
    }
    Stack { ports, handles }
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
