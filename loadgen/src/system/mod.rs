//! A whole system under test on loopback (`--self`).
