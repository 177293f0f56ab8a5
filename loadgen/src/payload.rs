//! Bytes that prove themselves.
