//! Links over real sockets.

mod answers;
mod dialling;
mod failure;
mod handover;
mod proxies;
mod relay;
mod shortage;
mod support;
