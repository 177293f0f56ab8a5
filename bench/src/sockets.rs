//! Loopback sockets that measure the program and not the pacing of their congestion control.

use socket2::SockRef;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;

/// The congestion control of every socket made here. Many systems have BBR for all, which paces
/// even loopback and makes figures slow and bimodal.
pub const CONGESTION_CONTROL: &str = "reno";

/// Sets [`CONGESTION_CONTROL`]; a listener hands it on to what it accepts.
///
/// # Errors
/// When the system does not have it.
pub fn steady(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_congestion(CONGESTION_CONTROL.as_bytes())
}

/// A listener on a free port of the loopback.
///
/// # Errors
/// When the system has no port left, or see [`steady`].
pub fn listener() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    steady(&listener)?;
    Ok(listener)
}

/// Both ends of a connection, without delay.
///
/// # Errors
/// As for [`listener`].
pub fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = listener()?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    for stream in [&near, &far] {
        steady(stream)?;
        stream.set_nodelay(true)?;
    }
    Ok((near, far))
}
