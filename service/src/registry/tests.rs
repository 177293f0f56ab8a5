//! The suite on the registry in memory.

use super::conformance::{limits, registry_conformance};
use super::*;

async fn empty() -> Box<MemoryRegistry> {
    Box::new(MemoryRegistry::new(limits()))
}

registry_conformance!(empty);
