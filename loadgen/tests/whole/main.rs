//! The generator and whole systems that it starts, with every byte verified.

mod direct;
mod own;
mod scripted;
mod support;
mod system;
mod tunnels;
mod witness;
