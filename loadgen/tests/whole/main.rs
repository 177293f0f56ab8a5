//! The generator and whole systems that it starts, with every byte verified.

mod support;
mod system;
