//! Everything that happens once per connection.

pub mod admission;
