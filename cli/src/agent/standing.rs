//! What an agent is at, for a program that runs one.

/// How far the newest tunnel has come. Tunnels are numbered from 1; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The service has confirmed the subscription on the connection that there is.
    pub(crate) is_waiting: bool,
    /// The newest tunnel that was heard of and taken.
    pub(crate) begun: u64,
    /// The newest tunnel that was ever connected.
    pub(crate) connected: u64,
}

impl Standing {
    pub(super) fn on_begun(&mut self, number: u64) {
        self.begun = self.begun.max(number);
    }

    /// An older tunnel that connects once more is no news.
    pub(super) fn on_connected(&mut self, number: u64) {
        self.connected = self.connected.max(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_tunnel_does_not_take_the_place_of_a_newer_one() {
        let mut standing = Standing::default();
        for number in [1, 2] {
            standing.on_begun(number);
        }
        for number in [2, 1] {
            standing.on_connected(number);
        }
        assert_eq!((standing.begun, standing.connected), (2, 2));
    }
}
