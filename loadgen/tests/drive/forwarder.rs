//! A TCP forwarder that does one thing to the bytes, at one offset of one direction of each connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::Duration;

/// Every connection.
pub(crate) const ALL: Range<usize> = 0..usize::MAX;

/// What is done to the bytes from `offset` on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lie {
    /// Nothing.
    None,
    /// One bit of one byte is another.
    Flip,
    /// One byte is left out.
    Drop,
    /// One byte comes twice.
    Double,
    /// Two neighbours change places.
    Swap,
    /// The stream ends before it.
    Truncate,
    /// Two KiB are sent again.
    Replay,
    /// Some bytes more come behind the last one.
    Trail,
    /// No lie: each piece is held for so long, wherever it is.
    Hold(Duration),
    /// No lie: the connection ends after so long, whatever is under way.
    HangUp(Duration),
}

/// Which direction lies, seen from the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// Forwards to `to`, and lies on the connections whose numbers are among `liars`.
pub(crate) fn start(
    to: SocketAddr,
    lie: Lie,
    way: Way,
    offset: usize,
    liars: Range<usize>,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, near) in listener.incoming().enumerate() {
            let near = near.unwrap();
            let far = TcpStream::connect(to).unwrap();
            let lie = if liars.contains(&number) {
                lie
            } else {
                Lie::None
            };
            if let Lie::HangUp(time) = lie {
                let ends = [&near, &far].map(|stream| stream.try_clone().unwrap());
                thread::spawn(move || {
                    thread::sleep(time);
                    for end in ends {
                        let _ = end.shutdown(Shutdown::Both);
                    }
                });
            }
            for direction in [Way::Up, Way::Down] {
                let [near, far] = [&near, &far].map(|stream| stream.try_clone().unwrap());
                let (from, to) = match direction {
                    Way::Up => (near, far),
                    Way::Down => (far, near),
                };
                let lie = if direction == way { lie } else { Lie::None };
                thread::spawn(move || forward(from, to, lie, offset));
            }
        }
    });
    address
}

fn forward(mut from: TcpStream, mut to: TcpStream, lie: Lie, offset: usize) {
    let mut buffer = vec![0; 65_536];
    let mut passed = 0;
    let mut has_lied = matches!(lie, Lie::None | Lie::Trail | Lie::Hold(_) | Lie::HangUp(_));
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        if let Lie::Hold(time) = lie {
            thread::sleep(time);
        }
        let mut bytes = buffer[..size].to_vec();
        // Two neighbours, or two KiB, are needed in one piece.
        if !has_lied && passed + size > offset {
            let at = offset.saturating_sub(passed);
            has_lied = tell(lie, &mut bytes, at);
        }
        passed += size;
        if to.write_all(&bytes).is_err() {
            break;
        }
        if has_lied && matches!(lie, Lie::Truncate) {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    if matches!(lie, Lie::Trail) {
        // A reader that takes the trailer for the end of all has gone by then.
        thread::sleep(Duration::from_millis(20));
        let _ = to.write_all(b"and more");
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Whether there was anything to lie about.
fn tell(lie: Lie, bytes: &mut Vec<u8>, at: usize) -> bool {
    match lie {
        Lie::None | Lie::Trail | Lie::Hold(_) | Lie::HangUp(_) => {}
        Lie::Flip => bytes[at] ^= 0x20,
        Lie::Drop => drop(bytes.remove(at)),
        Lie::Double => bytes.insert(at, bytes[at]),
        Lie::Truncate => bytes.truncate(at),
        Lie::Swap => {
            // Equal neighbours may change places as they like.
            let pairs =
                || (at..bytes.len().saturating_sub(1)).find(|&at| bytes[at] != bytes[at + 1]);
            let Some(at) = pairs() else { return false };
            bytes.swap(at, at + 1);
        }
        Lie::Replay => {
            let end = (at + 2048).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(end..end, again);
        }
    }
    true
}
