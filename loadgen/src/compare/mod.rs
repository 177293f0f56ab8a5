//! Earlier runs against each other.
