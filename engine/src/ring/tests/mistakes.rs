//! A panic in the code of one tunnel: that one ends, the others on its loop lose nothing.

use super::super::{IoChoice, LinkNews, LoopHandle, ProxyId, TunnelEvent};
use super::support::{Bench, PATIENCE, Peer, ProxyBench, both, control, data, hold};
use crate::failpoint::armed::arm;
use crate::tunnel::limits::Limits;
use adit_proto::ids::Mode;
use adit_proto::message::{Kind, MessageView};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};

/// Has the loop panic the next time that it comes to a point for a subject.
fn arm_on(event_loop: &LoopHandle, point: &'static str, subject: &'static str) {
    let (done, is_done) = mpsc::channel();
    event_loop.run(move || {
        arm(point, subject);
        let _ = done.send(());
    });
    is_done.recv_timeout(PATIENCE).expect("the loop turns");
}

/// The same, and nothing happens before what is returned is dropped.
fn hold_and_arm(event_loop: &LoopHandle, point: &'static str, subject: &'static str) -> Sender<()> {
    let held = hold(event_loop);
    event_loop.run(move || arm(point, subject));
    held
}

fn start() -> Vec<u8> {
    let mut start = Vec::new();
    control(Kind::StreamStart, 1, 1, &mut start);
    start
}

#[test]
fn a_panic_for_one_tunnel_of_a_relay_cuts_both_its_sides_and_no_other() {
    both(|io| {
        for point in ["relay-turn", "relay-forward"] {
            panic_for_one_of_two(io, point);
        }
    });
}

fn panic_for_one_of_two(io: IoChoice, point: &'static str) {
    let mut victim = Bench::new(io, &["A"]);
    let mut other = victim.beside("other", &["A"]);
    let (mut source, mut destination) = (
        victim.attach(Mode::Source),
        victim.attach(Mode::Destination),
    );
    let (mut near, mut far) = (other.attach(Mode::Source), other.attach(Mode::Destination));
    for (source, destination) in [(&mut source, &mut destination), (&mut near, &mut far)] {
        source.says(&start());
        assert_eq!(destination.hears_kind(), Kind::StreamStart);
    }
    for _ in 0..2 {
        assert!(matches!(victim.hears(), LinkNews::Attached(_)));
        assert!(matches!(other.hears(), LinkNews::Attached(_)));
    }
    for round in 0..3 {
        // In one wake-up: the events of the one that is cut, and before and behind them the other's.
        let held = hold_and_arm(&victim.event_loop, point, "t");
        near.says(&data(&[1; 10_000]));
        source.says(&data(&[2; 10_000]));
        far.says(&data(&[3; 10_000]));
        drop(held);
        hears(&mut far, &[1; 10_000]);
        hears(&mut near, &[3; 10_000]);
        source.hears_the_end();
        destination.hears_the_end();
        for _ in 0..2 {
            assert!(matches!(victim.hears(), LinkNews::Gone(_)));
        }
        assert_eq!(victim.event_loop.mistakes(), round + 1);

        // It is a tunnel like any other again, with nothing of its former life.
        source = victim.attach(Mode::Source);
        destination = victim.attach(Mode::Destination);
        source.says(&start());
        assert_eq!(destination.hears_kind(), Kind::StreamStart);
        for _ in 0..2 {
            assert!(matches!(victim.hears(), LinkNews::Attached(_)));
        }
    }
    assert!(other.news.try_recv().is_err(), "no news of the other");
}

fn hears(peer: &mut Peer, payload: &[u8]) {
    let message = peer.hears();
    let view = MessageView::parse(&message).expect("a message");
    assert!(view.kind == Kind::Data && view.payload == payload);
}

/// The other proxy of the loop, with an application whose bytes must all arrive.
struct Other {
    bench: ProxyBench,
    service: Peer,
    application: TcpStream,
}

impl Other {
    fn beside(victim: &ProxyBench) -> Self {
        let (bench, mut service) = victim.beside(ProxyId(8), Mode::Source, "A=5555");
        let application = connect(bench.listen());
        assert_eq!(service.hears_kind(), Kind::StreamStart);
        Self {
            bench,
            service,
            application,
        }
    }

    fn carries(&mut self, byte: u8) {
        let payload = [byte; 10_000];
        self.application.write_all(&payload).expect("write");
        let mut heard = Vec::new();
        while heard.len() < payload.len() {
            let message = self.service.hears();
            let view = MessageView::parse(&message).expect("a message");
            assert_eq!(view.kind, Kind::Data);
            heard.extend_from_slice(view.payload);
        }
        assert!(heard == payload);
        assert_eq!(self.bench.status().connections, 1);
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream
}

/// A cut is shown as one.
fn is_reset(application: &mut TcpStream) {
    let mut byte = [0];
    let end = application.read(&mut byte).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

fn is_told_of_its_end(victim: &mut ProxyBench, service: &mut Peer) {
    loop {
        match victim.hears() {
            TunnelEvent::Failed(mistake) => {
                assert!(mistake.contains("failpoint"), "{mistake}");
                break;
            }
            TunnelEvent::Listen { .. } => {}
            event => panic!("{event:?}"),
        }
    }
    service.hears_the_end();
}

#[test]
fn a_panic_for_one_source_resets_its_connections_and_no_others() {
    both(|io| {
        for point in ["proxy-turn", "proxy-accepted", "proxy-bulk"] {
            let limits = Limits::default();
            let (mut victim, mut service) = ProxyBench::new(io, Mode::Source, "A=5555", limits);
            let mut other = Other::beside(&victim);
            let port = victim.listen();
            let mut application = connect(port);
            assert_eq!(service.hears_kind(), Kind::StreamStart);
            other.carries(1);

            let held = hold_and_arm(&victim.event_loop, point, "0");
            let mut late = connect(port);
            application.write_all(&[7; 200_000]).expect("write");
            drop(held);
            is_told_of_its_end(&mut victim, &mut service);
            is_reset(&mut application);
            is_reset(&mut late);
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
            assert_eq!(other.bench.event_loop.mistakes(), 1);
            for byte in 2..20 {
                other.carries(byte);
            }
            // The place of the one that is gone is as good as new.
            let (next, mut service) = victim.beside(ProxyId(9), Mode::Source, "A=5555");
            let _application = connect(next.listen());
            assert_eq!(service.hears_kind(), Kind::StreamStart);
            other.carries(1);
        }
    });
}

#[test]
fn a_panic_for_one_destination_resets_its_connections_and_no_others() {
    both(|io| {
        for point in ["proxy-turn", "proxy-dialled"] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
            let port = listener.local_addr().expect("address").port();
            let mapping = format!("A=127.0.0.1:{port}");
            let limits = Limits::default();
            let (mut victim, mut service) =
                ProxyBench::new(io, Mode::Destination, &mapping, limits);
            let mut other = Other::beside(&victim);
            service.says(&start());
            let mut first = listener.accept().expect("accept").0;
            service.says(&data(b"arrives"));
            let mut heard = [0; 7];
            first.read_exact(&mut heard).expect("read");

            arm_on(&victim.event_loop, point, "0");
            let mut second = Vec::new();
            control(Kind::ConnectionStart, 1, 2, &mut second);
            service.says(&second);
            is_told_of_its_end(&mut victim, &mut service);
            first.set_read_timeout(Some(PATIENCE)).expect("timeout");
            is_reset(&mut first);
            for byte in 0..20 {
                other.carries(byte);
            }
        }
    });
}
