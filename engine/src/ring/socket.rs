//! Thin safe wrappers over the socket calls that both backends share.
//!
//! A [`RawFd`] *names* a socket that a slot of the loop owns as an `OwnedFd`; functions that
//! make or end a socket take or give the `OwnedFd` itself.

use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::mem;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// Connections that the kernel accepts on our behalf while we are busy, per listener.
///
/// The kernel cuts it to `net.core.somaxconn`, which is the same since Linux 5.4. A client whose
/// SYN finds the queue full tries again after a whole second: at 50,000 connections a second this
/// is as long as we may be busy (80 ms) before that happens.
pub const LISTEN_BACKLOG: i32 = 4_096;

/// Most parts that the kernel takes in one send (`UIO_MAXIOV`).
pub(super) const PARTS_MAX: usize = 1_024;

/// Where a stream socket listens or connects to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP over IPv4 or IPv6. `[::]` also takes IPv4 unless the system says otherwise.
    Ip(SocketAddr),
    /// A Unix stream socket in the file system.
    Unix(PathBuf),
}

impl Address {
    fn to_system(&self) -> io::Result<SockAddr> {
        match self {
            Address::Ip(address) => Ok(SockAddr::from(*address)),
            Address::Unix(path) => SockAddr::unix(path),
        }
    }

    fn from_system(address: &SockAddr) -> io::Result<Self> {
        if let Some(address) = address.as_socket() {
            return Ok(Address::Ip(address));
        }
        if address.is_unix() {
            // The connecting end of a Unix connection has no path.
            let path = address.as_pathname().unwrap_or(Path::new(""));
            return Ok(Address::Unix(path.to_owned()));
        }
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "neither an IP nor a Unix socket",
        ))
    }
}

impl Address {
    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(formatter),
            Address::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// Where a socket is bound; tells the port that a listener on port 0 was given.
pub fn local_address(fd: impl AsFd) -> io::Result<Address> {
    Address::from_system(&SockRef::from(&fd).local_addr()?)
}

/// Whom a socket is connected to. A Unix peer usually has an empty path.
pub fn peer_address(fd: impl AsFd) -> io::Result<Address> {
    Address::from_system(&SockRef::from(&fd).peer_addr()?)
}

/// Keeps the unsent queue of a tunnel's socket short, so that the schedule decides what goes next
/// and not a queue in the kernel. A socket that is not TCP has no such queue.
pub(super) fn keep_unsent_short(fd: RawFd) {
    let _ = with_socket(fd, |socket| socket.set_tcp_notsent_lowat(UNSENT_MARK));
}

/// Takes a socket that talks to `peer` (or listens there) out of the congestion control meant for
/// networks, if that is this machine: BBR paces loopback too, and everybody on the way then wakes more
/// often for less. Reno never paces, and every Linux has it and lets everybody choose it.
///
/// Called before the connection is there where that is possible (dialling, and listeners on loopback),
/// for a connection that was paced once stays so in part. A relay that listens on all addresses knows
/// its peer only once it has accepted it: those links are taken out late, which is better than never.
/// Where it fails (a socket that is not TCP) nothing is lost but time.
pub fn unpace_loopback(socket: impl AsFd, peer: IpAddr) {
    if peer.to_canonical().is_loopback() && !is_unpaced() {
        let _ = SockRef::from(&socket).set_tcp_congestion(UNPACED);
    }
}

/// Whether new sockets have [`UNPACED`] anyway, as far as can be seen; looked at once, for the dial of each connection
/// would have a call more.
fn is_unpaced() -> bool {
    static IS_UNPACED: OnceLock<bool> = OnceLock::new();
    *IS_UNPACED.get_or_init(|| {
        fs::read("/proc/sys/net/ipv4/tcp_congestion_control")
            .is_ok_and(|name| name.trim_ascii() == UNPACED)
    })
}

const UNPACED: &[u8] = b"reno";

/// The longest wait before the next retransmission on a tunnel's TCP socket.
///
/// The system doubles it up to two minutes: a link on which some packets in a row are lost is silent for as long again as
/// it was, after the way is good again too. Its retransmissions before it gives up are counted, 15 of them: with this
/// limit they last 61 s at least, longer than any outage after which a link goes on (50 s). On a slow way that is not
/// enough, see [`Way`](super::way::Way).
const RETRANSMISSION_WAIT_MAX: Duration = Duration::from_secs(5);

/// The system's own (`TCP_RTO_MAX`).
const RETRANSMISSION_WAIT_OF_SYSTEM: Duration = Duration::from_secs(120);

/// An option of Linux 6.15, which the libc crate does not know yet.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// Sets [`RETRANSMISSION_WAIT_MAX`] on a TCP socket. Linux has that since 6.15; an older one goes on as it always did.
pub fn limit_retransmission_wait(socket: impl AsFd) {
    set_retransmission_wait(socket.as_fd().as_raw_fd(), RETRANSMISSION_WAIT_MAX);
}

/// Takes [`RETRANSMISSION_WAIT_MAX`] away again.
pub(super) fn lift_retransmission_wait(fd: RawFd) {
    set_retransmission_wait(fd, RETRANSMISSION_WAIT_OF_SYSTEM);
}

fn set_retransmission_wait(fd: RawFd, wait: Duration) {
    let millis = wait.as_millis() as libc::c_int;
    // WHY: neither std nor socket2 knows this option.
    // SAFETY: the call reads one integer of the size it is told; a descriptor that is not open is refused.
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            TCP_RTO_MAX_MS,
            (&raw const millis).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

/// Opens a listener: non-blocking, address reuse on, backlog [`LISTEN_BACKLOG`]. A Unix socket file
/// that nobody listens on is replaced.
///
/// # Errors
/// What the system says: the address is in use, not ours, or not allowed.
pub fn listen(address: &Address) -> io::Result<OwnedFd> {
    let socket = new_socket(address)?;
    match address {
        Address::Ip(address) => {
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(*address))?;
        }
        Address::Unix(path) => bind_unix(&socket, path)?,
    }
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

pub(super) fn accept(listener: RawFd) -> io::Result<OwnedFd> {
    loop {
        // WHY: one call gives a non-blocking, close-on-exec socket; std and socket2 need up to
        // three. TCP_NODELAY is inherited from the listener.
        // SAFETY: both address pointers may be null when the peer's address is not wanted, and
        // then the call touches no memory of ours.
        let fd = unsafe {
            libc::accept4(
                listener,
                ptr::null_mut(),
                ptr::null_mut(),
                libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            )
        };
        if fd >= 0 {
            // WHY: from here on the descriptor closes itself.
            // SAFETY: accept4 has just made this descriptor, so nobody else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // accept(2): a connection that failed while it waited is reported here, and has left
            // the queue. The next one is what the caller asked for; the queue bounds the loop.
            Some(libc::EINTR | libc::ECONNABORTED | libc::EPROTO) => {}
            _ => return Err(error),
        }
    }
}

pub(super) fn connect(address: &Address) -> io::Result<OwnedFd> {
    let socket = new_socket(address)?;
    match socket.connect(&address.to_system()?) {
        Ok(()) => {}
        // connect(2): after a signal the attempt goes on in the background as well.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

pub(super) fn connect_result(fd: RawFd) -> io::Result<()> {
    with_borrowed(fd, |fd| {
        if let Some(error) = SockRef::from(&fd).take_error()? {
            return Err(error);
        }
        match refuse_itself(fd) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result,
        }
    })
}

/// Why a connection failed, told once; a reset where that is not known.
pub(super) fn take_error(fd: RawFd) -> io::Error {
    let taken = with_borrowed(fd, |fd| SockRef::from(&fd).take_error());
    let error = taken.unwrap_or_else(Some);
    error.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ECONNRESET))
}

/// Refuses a TCP connection whose two ends are the same socket, which then keeps its port from nobody.
///
/// A dial to a port of this machine that nobody listens on meets itself where the system gives it that very port to
/// dial from (RFC 9293 §3.5, both ends open at once): Linux goes through the ports that it gives away in order, so one
/// in some ten thousand. Whatever is sent would come back as if a service had said it.
pub(crate) fn refuse_itself(socket: impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(&socket);
    let peer = socket.peer_addr()?.as_socket();
    if peer.is_none() || peer != socket.local_addr()?.as_socket() {
        return Ok(());
    }
    // Without a state that the system would keep, as the end of both ends at once leaves one.
    let _ = socket.set_linger(Some(Duration::ZERO));
    Err(io::Error::from_raw_os_error(libc::ECONNREFUSED))
}

pub(super) fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    retry_interrupted(|| {
        // WHY: the hot read; MSG_DONTWAIT keeps the loop alive even if a socket that was handed
        // to us is in blocking mode. socket2 would want uninitialised memory to read into.
        // SAFETY: `buffer` is ours alone for the whole call, and the kernel writes at most
        // `buffer.len()` initialised bytes to it.
        let count = unsafe {
            libc::recv(
                fd,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    })
}

pub(super) fn send(fd: RawFd, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    with_socket(fd, |socket| {
        retry_interrupted(|| match parts {
            // The usual case, and cheaper for the kernel than a vector of one.
            [part] => socket.send_with_flags(part, SEND_FLAGS),
            parts => {
                let some = &parts[..parts.len().min(PARTS_MAX)];
                socket.send_vectored_with_flags(some, SEND_FLAGS)
            }
        })
    })
}

/// Whether a read may stop short of bytes that are there, without an event that tells: so it does in front of
/// descriptors that were passed along with some bytes (unix(7)). Only Unix sockets have those.
pub(super) fn may_read_short(fd: &OwnedFd) -> bool {
    let address = SockRef::from(fd).local_addr();
    address.is_ok_and(|address| address.is_unix())
}

/// Bytes that a TCP peer has not acknowledged; none of what is no socket of that kind.
pub(super) fn unacknowledged(fd: RawFd) -> u64 {
    let is_tcp = with_socket(fd, |socket| socket.local_addr()).is_ok_and(|it| !it.is_unix());
    if is_tcp {
        queued(fd, libc::TIOCOUTQ)
    } else {
        0
    }
}

/// Bytes that have come and were not read; none of what is no socket.
pub(super) fn unread(fd: RawFd) -> u64 {
    queued(fd, libc::FIONREAD)
}

/// `queue`: `FIONREAD` or `TIOCOUTQ` (tcp(7)).
fn queued(fd: RawFd, queue: libc::Ioctl) -> u64 {
    let mut count: libc::c_int = 0;
    // WHY: socket2 has no call that asks for it.
    // SAFETY: either call writes one integer, which `count` is; a descriptor that is not open is refused.
    let result = unsafe { libc::ioctl(fd, queue, &raw mut count) };
    match result {
        0 => u64::try_from(count).unwrap_or(0),
        _ => 0,
    }
}

/// So many in a row tell that a peer is gone.
pub(super) const UNANSWERED_IN_VAIN: u8 = 3;

/// What came back from a TCP peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Echo {
    /// There are bytes that it has not acknowledged, or that its window is closed to.
    pub(super) is_awaited: bool,
    /// Retransmissions in a row that it left unacknowledged.
    pub(super) retransmissions: u8,
    /// Probes in a row, of an idle connection or a closed window, that it left unanswered.
    pub(super) probes: u8,
    /// Since it sent or acknowledged anything, be it once more what it had before, as an answer to a probe does.
    pub(super) silent_for: Duration,
    /// Smoothed, with what packets wait in front of the line.
    pub(super) round_trip: Duration,
}

impl Echo {
    /// Whether nothing came from it for so long, and it left what was sent to it unacknowledged through at least three
    /// retransmissions in a row: its host, or the way to it, is gone. Three alone prove nothing, they take a second
    /// where many packets are lost. A peer that only does not read is not meant: of the probes of its closed window
    /// some are lost on a bad way, and they come ever more seldom.
    pub(super) fn is_gone(&self, silent_for: Duration) -> bool {
        self.retransmissions >= UNANSWERED_IN_VAIN && self.silent_for >= silent_for
    }

    /// Whether nothing came from it for [`SILENCE_MAX`], although it was asked again and again, by retransmissions or
    /// probes: it is gone.
    pub(super) fn is_silent(&self) -> bool {
        let unanswered = self.retransmissions.max(self.probes);
        unanswered >= UNANSWERED_IN_VAIN && self.silent_for >= SILENCE_MAX
    }
}

/// Time between two looks at whether a peer is silent.
pub(crate) const SILENCE_CHECK: Duration = match cfg!(test) {
    true => Duration::from_secs(1),
    false => Duration::from_secs(10),
};

/// As long as the keep-alive probes of an idle link take, so that a host which is gone has the same end whether or not
/// something is sent to it meanwhile. They begin after 30 s: so the last 20 s at least were spent asking, and no outage
/// that is shorter ends a link.
pub(super) const SILENCE_MAX: Duration = match cfg!(test) {
    true => Duration::from_secs(2),
    false => Duration::from_secs(50),
};

/// Whether the peer of a TCP connection is silent, see [`Echo::is_silent`]; not so for what is no such connection.
pub(crate) fn is_silent(socket: BorrowedFd<'_>) -> bool {
    echo(socket.as_raw_fd()).is_silent()
}

/// What came back from a TCP peer; nothing and zeros for what is not TCP.
pub(super) fn echo(fd: RawFd) -> Echo {
    // WHY: no safe wrapper reads the connection's statistics.
    // SAFETY: the structure is made of integers, for which zero is valid.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    // WHY: asks for them.
    // SAFETY: `info` is writable for `size` bytes, and the kernel fills in at most as many; for a
    // socket that is not TCP it writes nothing and says so.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut size,
        )
    };
    match result {
        0 => Echo {
            is_awaited: info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0,
            retransmissions: info.tcpi_retransmits,
            probes: info.tcpi_probes,
            silent_for: Duration::from_millis(
                info.tcpi_last_ack_recv.min(info.tcpi_last_data_recv).into(),
            ),
            round_trip: Duration::from_micros(info.tcpi_rtt.into()),
        },
        _ => Echo::default(),
    }
}

/// Another descriptor of the same thing.
pub(super) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    with_borrowed(fd, |fd| fd.try_clone_to_owned())
}

pub(super) fn shutdown(fd: RawFd, how: Shutdown) -> io::Result<()> {
    with_socket(fd, |socket| socket.shutdown(how))
}

pub(super) fn reset(fd: OwnedFd) {
    // A failure leaves an ordinary close, which is all that can be had then.
    let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
}

/// Unsent bytes over which the kernel takes no more for a tunnel: half of what a tunnel's output
/// holds, so that the one can be refilled while the other drains.
const UNSENT_MARK: u32 = 128 * 1024;

/// Never wait for room, never raise SIGPIPE.
pub(super) const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

fn new_socket(address: &Address) -> io::Result<Socket> {
    let domain = match address {
        Address::Ip(SocketAddr::V4(_)) => Domain::IPV4,
        Address::Ip(SocketAddr::V6(_)) => Domain::IPV6,
        Address::Unix(_) => Domain::UNIX,
    };
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    if domain != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
        // A byte sent as urgent stays in its place: the tunnel has no other for it, and without
        // this it would be lost. Accepted connections inherit it.
        socket.set_out_of_band_inline(true)?;
    }
    if let Address::Ip(address) = address {
        unpace_loopback(&socket, address.ip());
    }
    Ok(socket)
}

/// Binds to `path`; a socket file left there by a process that is gone is replaced.
fn bind_unix(socket: &Socket, path: &Path) -> io::Result<()> {
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            socket.bind(&address)
        }
        result => result,
    }
}

/// Whether `path` is a socket file that nobody listens on. Only a refused connection proves it:
/// a full queue, missing rights or another socket type mean that somebody is there.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    is_socket
        && connect(&Address::Unix(path.to_owned()))
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn retry_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Lets socket2's safe calls work on a descriptor that is only named.
fn with_socket<T>(fd: RawFd, call: impl FnOnce(&SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
    with_borrowed(fd, |fd| call(&SockRef::from(&fd)))
}

/// Borrows a descriptor that is only named, for one call and no longer.
fn with_borrowed<T>(
    fd: RawFd,
    call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> io::Result<T> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // WHY: the loop's slots own the descriptors; lending `&OwnedFd` through every batch would
    // keep the slots borrowed while they are being changed.
    // SAFETY: it is not -1. The crate's callers name a descriptor that a slot of the loop owns, and
    // a loop runs on one thread, so none is closed before `call` returns, which cannot keep the
    // borrow.
    call(unsafe { BorrowedFd::borrow_raw(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a dial to a port that nobody listens on is, where the system gives it this very port to dial from.
    #[test]
    fn a_connection_to_itself_is_refused_and_gives_its_port_back() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let any: SocketAddr = any.parse().expect("an address");
            let socket = new_socket(&any.into()).expect("a socket");
            socket.bind(&any.into()).expect("bind");
            let own = socket.local_addr().expect("an address");
            let _ = socket.connect(&own);
            let error = connect_result(socket.as_raw_fd()).expect_err("it is nobody else");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            drop(socket);
            // Without address reuse, which a service may not ask for.
            let service = Socket::new(Domain::for_address(any), Type::STREAM, None);
            let service = service.expect("a socket");
            service.bind(&own).expect("the port is free");
        }
    }

    #[test]
    fn a_link_never_waits_long_before_it_retransmits() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let wait = || {
            let (mut millis, mut size) = (0, size_of::<libc::c_int>() as libc::socklen_t);
            // WHY: neither std nor socket2 knows this option.
            // SAFETY: `socket` is open, and the kernel fills in at most `size` bytes of `millis`.
            let result = unsafe {
                libc::getsockopt(
                    socket.as_raw_fd(),
                    libc::IPPROTO_TCP,
                    TCP_RTO_MAX_MS,
                    (&raw mut millis).cast::<libc::c_void>(),
                    &mut size,
                )
            };
            (result == 0).then_some(Duration::from_millis(millis as u64))
        };
        if wait().is_none() {
            eprintln!("not tested: this kernel has no limit of retransmission waits");
            return;
        }
        let of_system = wait();
        limit_retransmission_wait(&socket);
        assert_eq!(wait(), Some(RETRANSMISSION_WAIT_MAX));
        lift_retransmission_wait(socket.as_raw_fd());
        assert_eq!(wait(), of_system);
    }
}
