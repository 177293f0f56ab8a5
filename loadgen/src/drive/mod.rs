//! Workers that offer load over TCP: a monoio loop a thread.
