//! What was typed, before anyone asks whether it makes sense.
//!
//! # Two parsers, one table
//!
//! The reference reads its command line with Boost.Program_options, and scripts depend on corners that no
//! other parser shares: `--acc TOKEN` is `--access-token`, `-kv5` is `-k -v 5`, `-v -1` is 65535, and
//! `--region=` ends with one particular sentence. clap has its own answer to each of these. So the
//! `localproxy` personality has a parser of its own ([`mod@reference`], some two hundred lines with no other
//! duty), while `adit` uses clap ([`command`]), whose sub-commands, help and suggestions are better than
//! anything worth writing here. Both read the same table ([`options`]) and both end in [`ProxyArgs`], as do
//! the `--config` file ([`mod@file`]) and the environment ([`environment`]); from there on there is one path.
//!
//! `adit proxy` accepts every spelling of the reference too: a prefix that is unambiguous among the
//! reference's options means that option, even where an addition of ours starts alike.

pub mod broker;
pub mod command;
pub mod environment;
pub mod file;
pub mod fleet;
pub mod log;
pub mod options;
pub mod reference;

use std::collections::BTreeMap;
use std::fmt;

use adit_proto::escape::Escaped;
use zeroize::Zeroizing;

use options::Opt;

/// The options that were given, each with where it came from.
#[derive(Debug, Default)]
pub struct ProxyArgs(BTreeMap<Opt, Given>);

/// One given value. Its `Debug` does not show the value: it may be a token.
pub struct Given {
    /// As typed; empty for a switch.
    pub value: Zeroizing<String>,
    /// Where it was typed.
    pub origin: Origin,
}

/// Where a value came from. The order of precedence is the order in which [`ProxyArgs::layer`] is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An argument of the command.
    CommandLine,
    /// A line of the `--config` file.
    File {
        /// The file as named by the user.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// A variable of that name.
    Environment(&'static str),
}

impl ProxyArgs {
    /// Notes one value; `false` when the option was there already, which changes nothing.
    pub fn insert(&mut self, option: Opt, value: String, origin: Origin) -> bool {
        let given = Given {
            value: Zeroizing::new(value),
            origin,
        };
        match self.0.entry(option) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(given);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    /// What was given for this option.
    pub fn given(&self, option: Opt) -> Option<&Given> {
        self.0.get(&option)
    }

    /// The value alone.
    pub fn value(&self, option: Opt) -> Option<&str> {
        self.given(option).map(|given| given.value.as_str())
    }

    /// True when the option was given anywhere.
    pub fn has(&self, option: Opt) -> bool {
        self.0.contains_key(&option)
    }

    /// Takes one value out, so that no copy of a secret stays behind.
    pub fn take(&mut self, option: Opt) -> Option<Given> {
        self.0.remove(&option)
    }

    /// Puts a weaker source underneath: only what is not there yet is taken from it.
    pub fn layer(&mut self, weaker: Self) {
        for (option, given) in weaker.0 {
            self.0.entry(option).or_insert(given);
        }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("size", &self.value.len())
            .field("origin", &self.origin)
            .finish()
    }
}

impl Origin {
    /// How a message names the option: as the user typed it, with the place where that was.
    pub fn name(&self, option: Opt) -> String {
        match self {
            Self::CommandLine => option.flag(),
            Self::File { path, line } => {
                format!("{}:{line}: {}", Escaped(path), option.spelling().long)
            }
            Self::Environment(variable) => (*variable).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_layer_wins() {
        let mut args = ProxyArgs::default();
        assert!(args.insert(Opt::Region, "typed".into(), Origin::CommandLine));
        assert!(!args.insert(Opt::Region, "again".into(), Origin::CommandLine));
        let mut weaker = ProxyArgs::default();
        weaker.insert(Opt::Region, "file".into(), Origin::Environment("R"));
        weaker.insert(Opt::Mode, "src".into(), Origin::Environment("M"));
        args.layer(weaker);
        assert_eq!(args.value(Opt::Region), Some("typed"));
        assert_eq!(args.value(Opt::Mode), Some("src"));
    }

    #[test]
    fn debug_shows_no_value() {
        let mut args = ProxyArgs::default();
        args.insert(Opt::AccessToken, "canary".into(), Origin::CommandLine);
        assert!(!format!("{args:?}").contains("canary"));
    }
}
