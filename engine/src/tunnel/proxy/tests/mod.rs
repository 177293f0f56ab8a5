//! Tests of the source and the destination. `lab` drives one as a driver would, with sockets of
//! its own; each other file proves one thing.

mod any_cut;
mod bounds;
mod bulk;
mod credit;
mod destination;
mod hostile;
mod lab;
mod path;
mod sessions;
mod source;
mod states;
mod time;
