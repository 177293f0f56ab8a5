//! Real programs through a tunnel. Each is skipped, with its reason printed, where a
//! program is missing; with `ADIT_REQUIRE_PROGRAMS=1` it fails instead.
//!
//! Debian packages: openssh-server openssh-client rsync redis-server redis-tools
//! postgresql iperf3 curl.
//!
//! ```text
//! ssh     a shell, scp of 256 MiB, rsync, ProxyCommand      sshd       the server they use
//! burst   HTTP, redis and PostgreSQL at the same time       servers    the servers it uses
//! iperf   both ways                                         untunnelled  the same without us
//! readme  the commands of README.md, in their order
//! ```

mod burst;
mod iperf;
mod readme;
mod servers;
mod ssh;
mod sshd;
mod untunnelled;
