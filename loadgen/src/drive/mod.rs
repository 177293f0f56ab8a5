//! What offers load over TCP: a monoio loop a thread.
//!
//! monoio's hazards (version 0.2.4), and how they are met here:
//!
//! * dropping a read loses what it read meanwhile: none is dropped. What must end early is cancelled through a
//!   handle, and the connection is closed then;
//! * a task that wakes itself starves all others: none does;
//! * a runtime that is dropped frees buffers which the kernel may still write to: all tasks have ended before;
//! * timers tick a millisecond: [`Timer`] does not use them;
//! * an io_uring loop needs blocking sockets, an epoll loop non-blocking ones: [`SocketOptions`] knows.

mod crew;
mod dice;
mod local;
mod places;
mod runtime;
mod schedule;
mod session;
mod socket;
mod stream;
mod timer;
mod trouble;
mod worker;

pub use crew::{Crew, Job, raise_descriptor_limit};
pub use dice::Dice;
pub use local::{Bell, Turn};
pub use runtime::Loop;
pub use schedule::Schedule;
pub use session::{Receiver, Sender, Session};
pub use socket::{DIAL_TIMEOUT, SocketOptions, check_congestion};
pub use stream::{INPUT_SIZE_MAX, Input, write_all};
pub use timer::Timer;
pub use trouble::Trouble;
pub use worker::{Begin, Worker};
