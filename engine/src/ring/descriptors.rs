//! How many descriptors this process may have.

use std::mem;

/// Raises the soft limit of open descriptors to the hard one: each connection takes one, and the
/// usual soft limit of 1,024 is a leftover of `select`. A refusal changes nothing.
pub fn raise_descriptor_limit() {
    // WHY: std has no call for it.
    // SAFETY: the structure is two integers, for which zero is valid.
    let mut limit: libc::rlimit = unsafe { mem::zeroed() };
    // WHY: asks for the limits that are to be raised.
    // SAFETY: `limit` is a live, writable structure of the type that the call fills in.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0
        || limit.rlim_cur >= limit.rlim_max
    {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    // WHY: an unprivileged process may raise the soft limit up to the hard one.
    // SAFETY: `limit` was filled in by `getrlimit` and is only read.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the limit of open descriptors stays as it is");
    }
}
