//! Which service of a tunnel is carried to which place on this device.

use std::collections::BTreeMap;

use adit_engine::tunnel::endpoint::Endpoint;
use adit_proto::ServiceId;

/// The operator's map. The peer of a tunnel can name a service, never a place (threat T-11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceMap {
    named: BTreeMap<ServiceId, Endpoint>,
    /// The entry `"*"`: for every name that has none of its own.
    wildcard: Option<Endpoint>,
    /// Nobody has said what there is.
    is_default: bool,
}

/// What a map has for the services of one tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Services with a place, in the order of the tunnel.
    pub known: Vec<(ServiceId, Endpoint)>,
    /// Services without.
    pub unknown: Vec<ServiceId>,
}

impl ServiceMap {
    /// A map with these entries, at most [`SERVICES_MAX`].
    pub fn new(named: BTreeMap<ServiceId, Endpoint>, wildcard: Option<Endpoint>) -> Self {
        Self {
            named,
            wildcard,
            is_default: false,
        }
    }

    /// Whether nobody has said what there is: these are the services of every agent.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// Looks services up.
    pub fn choose(&self, services: &[ServiceId]) -> Chosen {
        let mut chosen = Chosen::default();
        for service in services {
            match self.named.get(service).or(self.wildcard.as_ref()) {
                Some(endpoint) => chosen.known.push((service.clone(), endpoint.clone())),
                None => chosen.unknown.push(service.clone()),
            }
        }
        chosen
    }

    /// The names, for a message; never empty.
    pub fn names(&self) -> String {
        let names = self.named.keys().map(ServiceId::as_str);
        let wildcard = self.wildcard.as_ref().map(|_| "*");
        names.chain(wildcard).collect::<Vec<_>>().join(", ")
    }

    /// Every entry with its place, for people.
    pub fn lines(&self) -> Vec<String> {
        let named = self
            .named
            .iter()
            .map(|(name, place)| format!("{name} -> {place}"));
        let wildcard = self.wildcard.iter().map(|place| format!("* -> {place}"));
        named.chain(wildcard).collect()
    }
}

impl Default for ServiceMap {
    /// What every agent of AWS knows (control-plane specification, section 13.1).
    fn default() -> Self {
        let local = |port| Endpoint::Tcp { host: None, port };
        let named = [("SSH", 22), ("VNC", 5900)].map(|(name, port)| {
            let name: ServiceId = name.parse().expect("letters are a service id");
            (name, local(port))
        });
        Self {
            is_default: true,
            ..Self::new(named.into(), None)
        }
    }
}

/// Most entries of a map. A tunnel has at most 128 services; an installation may name more.
pub const SERVICES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use adit_proto::Mode;

    use super::*;

    fn ids(names: &[&str]) -> Vec<ServiceId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn place(text: &str) -> Endpoint {
        Endpoint::parse(text, Mode::Destination).unwrap()
    }

    #[test]
    fn without_a_map_ssh_and_vnc_are_known_and_nothing_else() {
        let map = ServiceMap::default();
        assert_eq!(map.names(), "SSH, VNC");
        let chosen = map.choose(&ids(&["VNC", "HTTP", "SSH", "ssh"]));
        let known: Vec<String> = chosen
            .known
            .iter()
            .map(|(id, at)| format!("{id}={at}"))
            .collect();
        assert_eq!(known, ["VNC=5900", "SSH=22"]);
        assert_eq!(chosen.unknown, ids(&["HTTP", "ssh"]));
    }

    #[test]
    fn the_wildcard_is_for_names_without_an_entry() {
        let named = [("SSH".parse().unwrap(), place("2222"))].into();
        let map = ServiceMap::new(named, Some(place("gate.lan:1")));
        let chosen = map.choose(&ids(&["SSH", "X"]));
        assert_eq!(chosen.unknown, []);
        assert_eq!(chosen.known[0].1, place("2222"));
        assert_eq!(chosen.known[1].1, place("gate.lan:1"));
        assert_eq!(map.names(), "SSH, *");
        assert_eq!(map.lines(), ["SSH -> 2222", "* -> gate.lan:1"]);
    }
}
