//! The command line of the reference, as Boost.Program_options reads it.
//!
//! ```text
//! --name value   --name=value   --na value (unambiguous prefix)   -n value   -nvalue   -kn value (grouped)
//! ```
//!
//! `--` ends the options; other words are ignored, as there. Two deliberate differences: a complete
//! `--name` of a known option is never taken as the value of the option before it (Boost takes
//! `-t --mode` as the token "--mode"), and messages repeat no value, which may be a token.

use std::ffi::OsString;

use adit_engine::tunnel::endpoint::Excerpt;

use super::options::{OPTIONS, Spelling};
use super::{Origin, ProxyArgs};
use crate::fault::BadInput;

/// Reads the arguments behind the program's name.
pub fn parse(arguments: &[OsString]) -> Result<ProxyArgs, BadInput> {
    let mut parser = Parser {
        arguments,
        position: 0,
        args: ProxyArgs::default(),
        repeated: None,
    };
    while let Some(token) = parser.next()? {
        if token == "--" {
            break;
        }
        if let Some(body) = token.strip_prefix("--") {
            parser.long(body)?;
        } else if token.len() > 1 && token.starts_with('-') {
            parser.short(&token[1..])?;
        }
    }
    parser.finish()
}

struct Parser<'a> {
    arguments: &'a [OsString],
    position: usize,
    args: ProxyArgs,
    repeated: Option<&'static Spelling>,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Result<Option<&'a str>, BadInput> {
        let Some(argument) = self.arguments.get(self.position) else {
            return Ok(None);
        };
        self.position += 1;
        argument.to_str().map(Some).ok_or_else(|| {
            BadInput::usage(
                format!("argument {} is not valid UTF-8", self.position),
                "write it in UTF-8, or put the value into a --config file",
            )
        })
    }

    /// `name` or `name=value`.
    fn long(&mut self, body: &'a str) -> Result<(), BadInput> {
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        if value == Some("") {
            return Err(empty_value(name));
        }
        let row = resolve(name)?;
        let value = match (row.value, value) {
            (Some(_), Some(value)) => value,
            (Some(_), None) => self.value_of(row)?,
            (None, None) => "",
            (None, Some(_)) => {
                return Err(BadInput::usage(
                    format!("--{} takes no value", row.long),
                    format!("write --{} alone", row.long),
                )
                .reference(format!(
                    "option '--{}' does not take any arguments",
                    row.long
                )));
            }
        };
        self.store(row, value);
        Ok(())
    }

    /// Everything behind one dash: switches may be grouped, the first option with a value takes the rest.
    fn short(&mut self, group: &'a str) -> Result<(), BadInput> {
        for (offset, letter) in group.char_indices() {
            let row = OPTIONS
                .iter()
                .find(|row| row.short == Some(letter))
                .ok_or_else(|| unknown(&format!("-{letter}")))?;
            if row.value.is_none() {
                self.store(row, "");
                continue;
            }
            let rest = &group[offset + letter.len_utf8()..];
            let value = if rest.is_empty() {
                self.value_of(row)?
            } else {
                rest
            };
            self.store(row, value);
            break;
        }
        Ok(())
    }

    /// The next argument, unless it is an option itself. `-1` is not, so `-v -1` works as there.
    fn value_of(&mut self, row: &Spelling) -> Result<&'a str, BadInput> {
        match self.next()? {
            Some(value) if !is_option(value) => Ok(value),
            _ => Err(BadInput::usage(
                format!("--{} needs a value", row.long),
                format!("write --{}=VALUE if it starts with a dash", row.long),
            )
            .reference(format!(
                "the required argument for option '--{}' is missing",
                row.long
            ))),
        }
    }

    /// Boost looks for repetitions when it has read everything, so another mistake is reported first.
    fn store(&mut self, row: &'static Spelling, value: &str) {
        let is_new = self
            .args
            .insert(row.option, value.to_owned(), Origin::CommandLine);
        if !is_new {
            self.repeated.get_or_insert(row);
        }
    }

    fn finish(self) -> Result<ProxyArgs, BadInput> {
        let Some(row) = self.repeated else {
            return Ok(self.args);
        };
        Err(BadInput::usage(
            format!("--{} is given more than once", row.long),
            "keep one of them",
        )
        .reference(format!(
            "option '--{}' cannot be specified more than once",
            row.long
        )))
    }
}

/// As Boost: `-s` alone is an option, `-s5555` may be the value of the option before it.
fn is_option(token: &str) -> bool {
    if let Some(body) = token.strip_prefix("--") {
        return match body.split_once('=') {
            Some((_, "")) => true,
            Some((name, _)) => resolve(name).is_ok(),
            None => resolve(body).is_ok(),
        };
    }
    let mut letters = token.chars();
    let (dash, letter, rest) = (letters.next(), letters.next(), letters.next());
    dash == Some('-')
        && rest.is_none()
        && letter.is_some_and(|letter| OPTIONS.iter().any(|row| row.short == Some(letter)))
}

/// The option of that name, or of that prefix if there is only one.
fn resolve(name: &str) -> Result<&'static Spelling, BadInput> {
    match candidates(name)[..] {
        [row] => Ok(row),
        [] => Err(unknown(&format!("--{name}"))),
        ref rows => {
            let mut names: Vec<String> =
                rows.iter().map(|row| format!("'--{}'", row.long)).collect();
            names.sort();
            let last = names.pop().unwrap_or_default();
            let names = format!("{}, and {last}", names.join(", "));
            let name = Excerpt(name);
            Err(
                BadInput::usage(format!("--{name} may mean {names}"), "write the name out")
                    .reference(format!(
                        "option '--{name}' is ambiguous and matches {names}"
                    )),
            )
        }
    }
}

/// Options of the reference with that exact name, or else all that start with it.
pub fn candidates(name: &str) -> Vec<&'static Spelling> {
    let rows = || OPTIONS.iter().filter(|row| !row.own);
    if name.is_empty() {
        return Vec::new();
    }
    if let Some(row) = rows().find(|row| row.long == name) {
        return vec![row];
    }
    rows().filter(|row| row.long.starts_with(name)).collect()
}

fn unknown(name: &str) -> BadInput {
    let name = Excerpt(name);
    BadInput::usage(
        format!("there is no option {name}"),
        "the options of localproxy v3.3.1 are known; `adit proxy` has more",
    )
    .reference(format!("unrecognised option '{name}'"))
}

fn empty_value(name: &str) -> BadInput {
    let name = Excerpt(name);
    BadInput::usage(
        format!("--{name}= has nothing behind the equal sign"),
        format!("write --{name}=VALUE, or --{name} '' for an empty value"),
    )
    .reference(format!(
        "the argument for option '--{name}' should follow immediately after the equal sign"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::options::Opt;

    fn parsed(line: &str) -> Result<ProxyArgs, String> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&arguments).map_err(|fault| fault.reference_text().to_owned())
    }

    #[test]
    fn every_spelling_of_a_value_is_the_same() {
        for line in [
            "--region eu-west-1",
            "--region=eu-west-1",
            "--re eu-west-1",
            "--re=eu-west-1",
            "-r eu-west-1",
            "-reu-west-1",
            "-kreu-west-1",
            "stray -r eu-west-1 stray - ",
            "-r eu-west-1 -- -s 5555 --nonsense",
        ] {
            let args = parsed(line).unwrap();
            assert_eq!(args.value(Opt::Region), Some("eu-west-1"), "{line}");
            assert!(!args.has(Opt::SourceListenPort));
        }
    }

    #[test]
    fn corners_of_boost() {
        let value = |line: &str, option| parsed(line).unwrap().value(option).map(str::to_owned);
        assert_eq!(value("-v -1", Opt::Verbose).unwrap(), "-1");
        assert_eq!(value("-s=5555", Opt::SourceListenPort).unwrap(), "=5555");
        assert_eq!(value("-kv5", Opt::Verbose).unwrap(), "5");
        assert_eq!(value("-hV", Opt::Help).unwrap(), "");
        assert_eq!(value("-tk x", Opt::AccessToken).unwrap(), "k");
        assert_eq!(value("--config x", Opt::Config).unwrap(), "x");
        assert_eq!(value("-t --", Opt::AccessToken).unwrap(), "--");
        assert_eq!(value("-t -", Opt::AccessToken).unwrap(), "-");
        assert_eq!(value("-t -s5", Opt::AccessToken).unwrap(), "-s5");
        assert_eq!(value("-s ", Opt::SourceListenPort).unwrap(), "");
        assert_eq!(value("--source=1", Opt::SourceListenPort).unwrap(), "1");
    }

    #[test]
    fn mistakes_get_the_sentences_of_boost() {
        for (line, text) in [
            ("-Z", "unrecognised option '-Z'"),
            ("--zone", "unrecognised option '--zone'"),
            ("--io=epoll", "unrecognised option '--io'"),
            (
                "-v",
                "the required argument for option '--verbose' is missing",
            ),
            (
                "-t -s",
                "the required argument for option '--access-token' is missing",
            ),
            (
                "-t --mode",
                "the required argument for option '--access-token' is missing",
            ),
            (
                "-r a -rb",
                "option '--region' cannot be specified more than once",
            ),
            (
                "-kk",
                "option '--no-ssl-host-verify' cannot be specified more than once",
            ),
            ("--help=3", "option '--help' does not take any arguments"),
            (
                "--region=",
                "the argument for option '--region' should follow immediately after the equal sign",
            ),
            (
                "--reg=",
                "the argument for option '--reg' should follow immediately after the equal sign",
            ),
            ("-r a -r b -Z", "unrecognised option '-Z'"),
            (
                "--con x",
                "option '--con' is ambiguous and matches '--config', and '--config-dir'",
            ),
            (
                "--des=1",
                "option '--des' is ambiguous and matches '--destination-app', and '--destination-client-type'",
            ),
        ] {
            assert_eq!(parsed(line).unwrap_err(), text, "{line}");
        }
    }

    #[test]
    fn a_mistyped_option_does_not_print_its_value() {
        for line in ["--acess-token=canary", "-Tcanary", "--help=canary"] {
            let arguments: Vec<OsString> = vec![line.into()];
            let fault = parse(&arguments).unwrap_err();
            assert!(!format!("{fault:?}").contains("canary"), "{line}");
        }
    }
}
