//! Tests of the relay. `lab` drives it as a driver would; each other file proves one thing.

mod any_cut;
mod credit;
mod dialects;
mod hostile;
pub(in crate::tunnel) mod lab;
mod model;
mod quotas;
mod rules;
mod sessions;
mod simulation;
mod splits;
mod states;
pub(in crate::tunnel) mod transcript;
