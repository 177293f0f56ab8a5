//! The harness of adit's black-box tests: everything here drives the real program over
//! real sockets and looks at it only from outside. It is *not* a place for tests of the
//! product's insides, and it takes no code of the product. [`simulation`] is the exception: there
//! the product's cores run on a network that is made up.
//!
//! ```text
//! scenario    one test's surroundings: loop, directory, deadline, evidence
//! process     a child process, its output, its end       binary    the program under test
//! deadline    every wait has one                         ports     free and listening ports
//!
//! wire        the tunnel message, encoded by prost       frames    literal WebSocket frames
//! link        one side of a WebSocket, driven by hand    http      literal heads
//! scripted_service   a service for a real proxy          pki       its certificates
//! scripted_proxy     a proxy for a real service          web_proxy its CONNECT in between
//!
//! apps        local applications of every temper         verifier  transfers that prove themselves
//! proxy       the command line of a proxy under test     rig       a proxy and a scripted service
//! api         the control plane's JSON                   stack     a service and two proxies
//! programs    ssh, redis and friends                     kernel    what the machine offers
//! confinement a program in what a unit of systemd leaves it
//!
//! resting     a verified exchange that rests half-way
//! tampered    system calls of a process that fail for a while
//! small_disk  a file system that is soon full
//! namespace   tests that are run once more, where nobody else sees what they do to the machine
//! ```
//!
//! A test is an `async fn(Scenario) -> anyhow::Result<()>`, named as the sentence it
//! proves, and made a test by [`on_each_loop!`] or [`on_own_choice!`].

pub mod api;
pub mod apps;
pub mod binary;
pub mod confinement;
pub mod deadline;
pub mod frames;
pub mod http;
pub mod kernel;
pub mod link;
mod link_reader;
pub mod namespace;
pub mod output;
pub mod pki;
pub mod ports;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod resting;
pub mod rig;
pub mod scenario;
pub mod scripted_proxy;
pub mod scripted_service;
pub mod secrets;
pub mod simulation;
pub mod small_disk;
pub mod stack;
pub mod tampered;
pub mod verifier;
pub mod web_proxy;
pub mod wire;
