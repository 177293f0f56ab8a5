//! The proxies' driver.

use super::super::proxy_io::READ_OUT;
use super::super::{DialRetries, IoChoice, LinkEnd, ProxyOptions};
use super::support::{
    Alone, PATIENCE, Peer, ProxyBench, both, control, data, data_of, hold, starts,
};
use crate::tunnel::limits::Limits;
use adit_proto::ids::Mode;
use adit_proto::message::{Kind, MessageView};
use socket2::{Domain, MsgHdr, SockAddr, SockRef, Socket, Type};
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

/// The queue of a connection that is being dialled is full, so the tunnel is not read; then the
/// dial fails at once. Nothing but the proxy itself is there to go on with what it had read.
#[test]
fn reading_goes_on_after_a_dial_that_failed_at_once() {
    both(|io| {
        let mapping = "A=/nonexistent/adit-test.sock";
        // The least: a single byte that waits pauses the tunnel.
        let limits = Limits {
            connection_buffer: 65_535,
            // It would bring a turn of its own.
            ping_interval: Duration::from_secs(3600),
            ..Limits::default()
        };
        let (bench, mut service) = ProxyBench::new(io, Mode::Destination, mapping, limits);
        let mut burst = Vec::new();
        control(Kind::StreamStart, 1, 1, &mut burst);
        burst.extend(data(b"waits for the dial"));
        control(Kind::StreamStart, 2, 1, &mut burst);
        let held = hold(&bench.event_loop);
        service.says(&burst);
        drop(held);
        for _ in 0..2 {
            assert_eq!(service.hears_kind(), Kind::StreamReset);
        }
    });
}

/// A listener that answers nobody: its queue is full of these.
fn deaf_listener() -> (Vec<Socket>, u16) {
    let new = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    let listener = new();
    let any: SockAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
    listener.bind(&any).expect("bind");
    listener.listen(0).expect("listen");
    let address = listener.local_addr().expect("address");
    let mut sockets = vec![listener];
    for _ in 0..3 {
        let socket = new();
        socket.set_nonblocking(true).expect("non-blocking");
        let _ = socket.connect(&address);
        sockets.push(socket);
    }
    thread::sleep(Duration::from_millis(50));
    let port = address.as_socket().expect("an address").port();
    (sockets, port)
}

/// Sockets of this machine that are being connected to a port of the loopback interface.
fn connecting_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    let remote = format!("0100007F:{port:04X}");
    let fields = table.lines().map(|line| line.split_whitespace());
    fields
        .filter(|fields| {
            let mut fields = fields.clone().skip(2);
            // SYN_SENT
            fields.next() == Some(&remote) && fields.next() == Some("02")
        })
        .count()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_dial_ends_with_its_connection_and_with_its_proxy() {
    both(|io| {
        let (_sockets, port) = deaf_listener();
        let before = connecting_to(port);
        let mapping = format!("A=127.0.0.1:{port}");
        let limits = Limits::default();
        let (mut bench, mut service) = ProxyBench::new(io, Mode::Destination, &mapping, limits);
        let mut starts = Vec::new();
        control(Kind::StreamStart, 1, 1, &mut starts);
        control(Kind::ConnectionStart, 1, 2, &mut starts);
        service.says(&starts);
        until("two dials", || connecting_to(port) == before + 2);
        let mut reset = Vec::new();
        control(Kind::ConnectionReset, 1, 1, &mut reset);
        service.says(&reset);
        until("one dial", || connecting_to(port) == before + 1);
        assert_eq!(bench.status().connections, 1);
        bench.event_loop.drain(ProxyBench::ID, Duration::ZERO);
        bench.is_over();
        assert_eq!(connecting_to(port), before);
    });
}

/// A destination with a connection to an application that takes little at a time.
fn with_application(io: IoChoice, limits: Limits) -> (ProxyBench, Peer, TcpListener, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    SockRef::from(&listener)
        .set_recv_buffer_size(4096)
        .expect("buffer size");
    let port = listener.local_addr().expect("address").port();
    let mapping = format!("A=127.0.0.1:{port}");
    let (bench, mut service) = ProxyBench::new(io, Mode::Destination, &mapping, limits);
    let mut start = Vec::new();
    control(Kind::StreamStart, 1, 1, &mut start);
    service.says(&start);
    let application = listener.accept().expect("accept").0;
    application
        .set_read_timeout(Some(PATIENCE))
        .expect("timeout");
    (bench, service, listener, application)
}

/// A process that gets no time for a while finds what came meanwhile, and the end of the grace time.
#[test]
fn what_came_within_the_grace_time_arrives_however_late_it_is_read() {
    both(|io| {
        let grace = Duration::from_secs(1);
        let limits = Limits {
            // A destination has a quarter of it.
            half_close_grace: 4 * grace,
            ..Limits::default()
        };
        let (bench, mut service, _listener, mut application) = with_application(io, limits);
        service.says(&data(b"first"));
        application.read_exact(&mut [0; 5]).expect("read");
        application.shutdown(Shutdown::Write).expect("shut down");
        // Meanwhile the proxy sees that.
        thread::sleep(grace / 20);
        let held = hold(&bench.event_loop);
        service.says(&data(b"second"));
        thread::sleep(grace * 11 / 10);
        drop(held);
        let mut heard = [0; 6];
        application.read_exact(&mut heard).expect("all of it");
        assert_eq!(&heard, b"second");
    });
}

/// An application answers and closes while it is still being sent to, as a server that takes no upload does: its
/// system resets the connection for what was not read. The answer was there before.
#[test]
fn what_an_application_said_before_it_reset_the_connection_arrives_though_it_is_sent_to() {
    both(|io| {
        for is_queued in [false, true] {
            let (bench, mut service, _listener, mut application) =
                with_application(io, Limits::default());
            service.says(&data(b"upload"));
            while application.peek(&mut [0; 6]).expect("it comes") < 6 {}
            while is_queued && bench.status().queued_size == 0 {
                service.says(&data(&[7; 16_000]));
            }
            let held = hold(&bench.event_loop);
            let answer = vec![8; 30_000];
            application.write_all(&answer).expect("write");
            drop(application);
            service.says(&data(b"more of it"));
            drop(held);
            let mut heard = Vec::new();
            loop {
                let message = service.hears();
                let view = MessageView::parse(&message).expect("a message");
                match view.kind {
                    Kind::Data => heard.extend_from_slice(view.payload),
                    Kind::ConnectionReset => break,
                    _ => {}
                }
            }
            assert_eq!(heard.len(), answer.len(), "queued: {is_queued}");
            assert_eq!(bench.status().connections, 0);
        }
    });
}

/// The same with the end of the time that an application has to take something.
#[test]
fn an_application_that_took_all_meanwhile_holds_up_nobody() {
    both(|io| {
        let limits = Limits {
            // The least: a single byte that waits pauses the tunnel.
            connection_buffer: 65_535,
            stall_timeout: Duration::from_secs(1),
            ..Limits::default()
        };
        let (bench, mut service, listener, mut application) = with_application(io, limits);
        let mut start = Vec::new();
        control(Kind::ConnectionStart, 1, 2, &mut start);
        service.says(&start);
        let _other = listener.accept().expect("accept");
        const SIZE: usize = 16_000;
        let count = 1_000;
        let says = thread::spawn(move || {
            for _ in 0..count {
                service.says(&data(&[7; SIZE]));
            }
            service
        });
        until("bytes that wait", || bench.status().queued_size > 0);
        let held = hold(&bench.event_loop);
        let hears = thread::spawn(move || application.read_exact(&mut vec![0; count * SIZE]));
        thread::sleep(limits.stall_timeout * 11 / 10);
        drop(held);
        hears.join().expect("a thread").expect("all of it");
        says.join().expect("a thread");
        assert_eq!(bench.status().counters.stalled, 0);
    });
}

/// Nothing comes from the link that would bring a turn: its sender waits until it is read.
#[test]
fn reading_goes_on_once_a_stalled_connection_is_reset() {
    both(|io| {
        let limits = Limits {
            connection_buffer: 65_535,
            stall_timeout: Duration::from_secs(1),
            // It would bring a turn of its own.
            ping_interval: Duration::from_secs(3600),
            ..Limits::default()
        };
        let (bench, mut service, listener, _stuck) = with_application(io, limits);
        let mut start = Vec::new();
        control(Kind::ConnectionStart, 1, 2, &mut start);
        service.says(&start);
        let _other = listener.accept().expect("accept");
        let says = thread::spawn(move || {
            for _ in 0..1_000 {
                service.says(&data(&[7; 16_000]));
            }
            service
        });
        until("all of it is read", || says.is_finished());
        assert_eq!(bench.status().counters.stalled, 1);
    });
}

/// The service ends the tunnel and closes over bytes that it has not read, so its system resets the connection behind the
/// close frame; and something is sent before anybody has looked.
#[test]
fn a_close_frame_is_read_though_sending_fails_before() {
    let mut alone = Alone::new(Mode::Source, "", Limits::default());
    let mut service = alone.link_up("A");
    alone.turns();
    let (near, mut application) = UnixStream::pair().expect("a pair");
    near.set_nonblocking(true).expect("non-blocking");
    alone.proxy.add_local(&mut alone.io, 0, near.into());
    alone.turns();
    application.write_all(b"question").expect("write");
    alone.events();
    service
        .stream
        .write_all(&[0x88, 2, 0x03, 0xe8])
        .expect("write");
    drop(service);
    while alone.proxy.turn(&mut alone.io) {}
    assert_eq!(alone.link_end(), Some(LinkEnd::Closed(Some(1000))));
}

/// A relay that is killed: what it has sent is there for an application that reads it, and one that does not keeps nobody
/// from the next link.
#[test]
fn a_link_that_has_failed_is_read_to_its_end_in_bounded_time() {
    for reads in [true, false] {
        let limits = Limits {
            connection_buffer: 65_535,
            ..Limits::default()
        };
        let mut alone = Alone::new(Mode::Source, "", limits);
        let mut service = alone.link_up("A");
        alone.turns();
        let (near, mut application) = UnixStream::pair().expect("a pair");
        near.set_nonblocking(true).expect("non-blocking");
        let small = SockRef::from(&near).set_send_buffer_size(4096);
        small.expect("buffer size");
        alone.proxy.add_local(&mut alone.io, 0, near.into());
        // As much as fits the socket of a link that is not read: what its peer still has is gone with a reset.
        let sent = 6 * 16_000;
        for _ in 0..6 {
            service.says(&data(&[7; 16_000]));
            alone.turns();
        }
        let linger = SockRef::from(&service.stream).set_linger(Some(Duration::ZERO));
        linger.expect("an abrupt end");
        drop(service);
        alone.turns();
        assert_eq!(alone.link_end(), None, "an application may read it");
        let mut heard = 0;
        if reads {
            application.set_nonblocking(true).expect("non-blocking");
            let mut part = [0; 65_536];
            while let Ok(count @ 1..) = application.read(&mut part) {
                heard += count;
                alone.turns();
            }
            assert_eq!(heard, sent);
        } else {
            alone.io.now += READ_OUT - Duration::from_millis(1);
            alone.turns();
            assert_eq!(alone.link_end(), None, "an application may read it");
            assert!(alone.proxy.next_timeout() <= Some(alone.io.now + Duration::from_millis(1)));
            alone.io.now += Duration::from_millis(1);
            alone.turns();
        }
        let reset = std::io::Error::from_raw_os_error(104);
        let fault = format!("the connection failed: {reset}");
        assert_eq!(alone.link_end(), Some(LinkEnd::Lost(fault)));
        assert_eq!(alone.proxy.status().connections, 0, "cut with its link");
    }
}

/// A service that says something and ends would take an end for the word that all has arrived.
#[test]
fn what_is_said_to_a_link_that_has_failed_is_not_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).expect("bind");
    let limits = Limits {
        connection_buffer: 65_535,
        ..Limits::default()
    };
    let mapping = format!("A={}", path.display());
    let mut alone = Alone::new(Mode::Destination, &mapping, limits);
    let mut service = alone.link_up("A");
    service.says(&starts(2));
    alone.turns();
    let (_stuck, mut other) = (listener.accept(), listener.accept().expect("accept").0);
    alone.turns();
    for _ in 0..20 {
        service.says(&data(&[7; 16_000]));
        alone.turns();
    }
    let linger = SockRef::from(&service.stream).set_linger(Some(Duration::ZERO));
    linger.expect("an abrupt end");
    drop(service);
    alone.turns();
    assert_eq!(alone.link_end(), None, "an application may read it");
    other.write_all(b"the last word").expect("write");
    other.shutdown(Shutdown::Write).expect("an end");
    alone.turns();
    alone.io.now += READ_OUT;
    alone.turns();
    assert!(matches!(alone.link_end(), Some(LinkEnd::Lost(_))));
    let heard = other.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(heard, Err(std::io::ErrorKind::ConnectionReset));
}

/// A dial that fails at once and is tried again without a pause takes no turn from others.
#[test]
fn a_loop_goes_on_beside_dials_that_fail_at_once() {
    both(|io| {
        let options = ProxyOptions {
            dial_retries: Some(DialRetries {
                count: None,
                delay: Duration::ZERO,
            }),
            ..ProxyOptions::default()
        };
        let mapping = "A=/nonexistent/adit-test.sock";
        let (bench, mut service) =
            ProxyBench::with_options(io, Mode::Destination, mapping, Limits::default(), options);
        let mut start = Vec::new();
        control(Kind::StreamStart, 1, 1, &mut start);
        service.says(&start);
        // Meanwhile the proxy takes that in.
        thread::sleep(Duration::from_millis(50));
        let asks = thread::spawn(move || assert_eq!(bench.status().connections, 1));
        until("an answer", || asks.is_finished());
        asks.join().expect("one connection");
    });
}

/// A connect that waits for its turn waits for a place in the queue of a Unix socket; one that does not wait is told that
/// there is none.
#[test]
fn a_service_whose_queue_is_full_is_tried_again() {
    const COUNT: u32 = 5;
    both(|io| {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("socket");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        listener
            .bind(&SockAddr::unix(&path).expect("a path"))
            .expect("bind");
        listener.listen(0).expect("listen");
        listener.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mapping = format!("A={}", path.display());
        let (bench, mut service) =
            ProxyBench::new(io, Mode::Destination, &mapping, Limits::default());
        service.says(&starts(COUNT));
        // Meanwhile all of them were dialled.
        thread::sleep(Duration::from_millis(50));
        let accepted: Vec<_> = (0..COUNT)
            .map(|at| {
                listener
                    .accept()
                    .unwrap_or_else(|error| panic!("{at}: {error}"))
            })
            .collect();
        assert_eq!(bench.status().connections, accepted.len());
    });
}

/// The application is ended while it still sends, and reads later than the loop is told to end.
#[test]
fn a_loop_that_finishes_loses_nothing_of_what_it_has_sent() {
    const SIZE: usize = 16_000;
    both(|io| {
        let (bench, mut service) = ProxyBench::new(io, Mode::Source, "", Limits::default());
        let mut application =
            TcpStream::connect((Ipv4Addr::LOCALHOST, bench.listen())).expect("connect");
        application.write_all(b"question").expect("write");
        let start = service.hears();
        let stream_id = MessageView::parse(&start).expect("a message").stream_id;
        let mut count = 0;
        while bench.status().queued_size == 0 {
            service.says(&data_of(stream_id, &[7; SIZE]));
            count += 1;
        }
        let mut writer = application.try_clone().expect("clone");
        let writes = thread::spawn(move || while writer.write_all(&[1; 65_536]).is_ok() {});
        let mut reset = Vec::new();
        control(Kind::ConnectionReset, stream_id, 1, &mut reset);
        service.says(&reset);
        // What is queued leaves as it reads; then all is in the kernel's hands.
        let mut heard = 0;
        let mut part = vec![0; SIZE];
        while bench.status().connections > 0 {
            heard += application.read(&mut part).expect("read");
        }
        bench.event_loop.finish();
        thread::sleep(Duration::from_millis(100));
        while let Ok(taken @ 1..) = application.read(&mut part) {
            heard += taken;
        }
        assert_eq!(heard, count * SIZE);
        let _ = application.shutdown(Shutdown::Both);
        writes.join().expect("a writer");
    });
}

/// Bytes with a descriptor, and bytes behind them, before the proxy reads: a read stops between them.
#[test]
fn what_comes_behind_a_passed_descriptor_is_read() {
    both(|io| {
        let limits = Limits {
            // They would be something to hear.
            ping_interval: Duration::from_secs(3600),
            ..Limits::default()
        };
        let (bench, mut service) = ProxyBench::new(io, Mode::Source, "", limits);
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        bench
            .event_loop
            .add_listener(ProxyBench::ID, 0, listener.into());
        let mut application = UnixStream::connect(&path).expect("connect");
        assert_eq!(service.hears_kind(), Kind::StreamStart);
        application.write_all(b"hello ").expect("write");
        assert_eq!(service.hears_kind(), Kind::Data);
        let held = hold(&bench.event_loop);
        pass_along(&application, b"head");
        application.write_all(b"body").expect("write");
        drop(held);
        let mut heard = Vec::new();
        while heard.len() < 8 {
            let message = service.hears();
            heard.extend_from_slice(MessageView::parse(&message).expect("a message").payload);
        }
        assert_eq!(heard, b"headbody");
    });
}

/// Sends `bytes`, and with them the socket itself.
fn pass_along(socket: &UnixStream, bytes: &[u8]) {
    let (fd, socket) = (socket.as_raw_fd(), SockRef::from(socket));
    // A header and one descriptor (cmsg(3)), which `CMSG_SPACE` rounds up to 24 bytes.
    let length = size_of::<usize>() + 3 * size_of::<i32>();
    let mut control = length.to_ne_bytes().to_vec();
    for word in [libc::SOL_SOCKET, libc::SCM_RIGHTS, fd, 0] {
        control.extend(word.to_ne_bytes());
    }
    let parts = [IoSlice::new(bytes)];
    let message = MsgHdr::new().with_buffers(&parts).with_control(&control);
    assert_eq!(socket.sendmsg(&message, 0).expect("sent"), bytes.len());
}
