//! The drivers on a real loop, with peers that say whatever a test wants.

mod support;

mod relay;
