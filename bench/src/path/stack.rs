//! Source, relay and destination on three loops, without handshakes: the links are made here.

use crate::{input, records, sockets};
use adit_engine::link::{Grant, Link};
use adit_engine::ring::{
    Address, IoChoice, LoopHandle, ProxyId, ProxyOptions, TunnelEvent, listen, local_address, start,
};
use adit_engine::tls::{Records, RecordsChoice};
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::mapping::Mapping;
use adit_engine::tunnel::proxy::{Proxy, ProxySettings};
use adit_proto::ids::{Mode, ServiceId};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// One tunnel; its end ends the loops.
pub struct Stack {
    /// Where the source listens.
    port: u16,
    loops: Vec<(LoopHandle, JoinHandle<()>)>,
    /// What the proxies have to say is not read, but it has to have a place to go.
    events: Vec<UnboundedReceiver<TunnelEvent>>,
}

impl Drop for Stack {
    fn drop(&mut self) {
        for (handle, thread) in self.loops.drain(..) {
            handle.stop();
            // A loop that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Stack {
    /// A tunnel to the service on that port.
    pub fn start(choice: IoChoice, service_port: u16) -> Self {
        Self::start_with(choice, choice, service_port)
    }

    /// The same with another backend for the source.
    pub fn start_with(source: IoChoice, others: IoChoice, service_port: u16) -> Self {
        let (mut stack, link) = Self::without_source(others, service_port);
        let source = start(SOURCE.to_owned(), source).expect("a loop");
        let mut inbox = stack.add_proxy(&source.0, settings(Mode::Source), link);
        stack.port = add_listener(&source.0, &mut inbox);
        stack.events.push(inbox);
        stack.loops.push(source);
        stack
    }

    /// A relay and a destination, and the link of a source that is still to be.
    pub fn without_source(choice: IoChoice, service_port: u16) -> (Self, Link) {
        let [relay, destination] =
            ["relay", "destination"].map(|name| start(name.to_owned(), choice).expect("a loop"));
        let mut stack = Self {
            port: 0,
            loops: vec![relay],
            events: Vec::new(),
        };
        let mapping = format!("{}=127.0.0.1:{service_port}", input::SERVICE);
        let settings = ProxySettings {
            mapping: Mapping::parse(&mapping, Mode::Destination).expect("a mapping"),
            ..settings(Mode::Destination)
        };
        let link = stack.link(Mode::Destination);
        let inbox = stack.add_proxy(&destination.0, settings, link);
        stack.events.push(inbox);
        stack.loops.push(destination);
        let link = stack.link(Mode::Source);
        (stack, link)
    }

    /// Says where the source listens that was missing.
    pub fn with_source_at(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// A new stream.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("a connection");
        sockets::steady(&stream).expect("its congestion control");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// A link to the relay: its own end.
    fn link(&self, mode: Mode) -> Link {
        let (near, far) = sockets::pair().expect("a connection");
        let (near_records, far_records) = records::session(RecordsChoice::InPlace);
        let service: ServiceId = input::SERVICE.parse().expect("an id");
        let grant = Grant {
            tunnel: "bench".parse().expect("an id"),
            mode,
            services: Arc::from([service]),
            session: 1,
            bytes_per_second: None,
            connections_per_second: None,
        };
        let (news, _) = unbounded_channel();
        self.loops[0].0.attach(grant, fresh(far, far_records), news);
        fresh(near, near_records)
    }

    fn add_proxy(
        &self,
        handle: &LoopHandle,
        settings: ProxySettings,
        link: Link,
    ) -> UnboundedReceiver<TunnelEvent> {
        let (events, inbox) = unbounded_channel();
        let proxy = Proxy::new(settings, SEED);
        handle.add_proxy(ID, proxy, ProxyOptions::default(), events);
        handle.link_up(ID, link);
        inbox
    }
}

/// The thread of a source has this name, whoever runs it.
pub const SOURCE: &str = "source";

/// Of the masks of a proxy.
pub const SEED: [u8; 32] = [7; 32];

/// Each proxy is the only one on its loop.
const ID: ProxyId = ProxyId(1);

/// The defaults, and no mapping.
pub fn settings(mode: Mode) -> ProxySettings {
    ProxySettings {
        mode,
        mapping: Mapping::default(),
        dialect: None,
        limits: Limits::default(),
    }
}

fn fresh(stream: TcpStream, records: Records) -> Link {
    Link::fresh(stream, records).expect("a socket of this process")
}

/// Waits until the source knows its service, and listens for it. Returns the port.
fn add_listener(handle: &LoopHandle, inbox: &mut UnboundedReceiver<TunnelEvent>) -> u16 {
    let event = inbox.blocking_recv().expect("the loop lives");
    let TunnelEvent::Listen { service, .. } = event else {
        panic!("{event:?}")
    };
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = listen(&Address::Ip(any)).expect("a listener");
    sockets::steady(&listener).expect("its congestion control");
    let Ok(Address::Ip(address)) = local_address(&listener) else {
        panic!("it is bound to an address")
    };
    handle.add_listener(ID, service, listener);
    address.port()
}
