//! Speaks the tunnel's protocol itself, as source, as destination, or as both ends.
