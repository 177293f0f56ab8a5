//! The `--config` file: options as `name = value` lines (wire specification, section 14.2).
//!
//! ```text
//! # everything behind a hash is a comment
//! region = eu-west-1
//! no-ssl-host-verify = true
//! ```

use adit_engine::tunnel::endpoint::Excerpt;
use adit_proto::escape::Escaped;

use super::options::{OPTIONS, Opt, Spelling};
use super::{Origin, ProxyArgs};
use crate::fault::BadInput;
use crate::personality::Personality;
use crate::world::{FILE_SIZE_MAX, World, read_text};

/// Reads the file. Long names only; `adit proxy` also takes its own additions and the aliases.
pub fn read(world: &World, path: &str, personality: Personality) -> Result<ProxyArgs, BadInput> {
    let text = read_text(&world.path(path), FILE_SIZE_MAX).map_err(|error| {
        let path = Escaped(path);
        BadInput::usage(
            format!("--config: cannot read `{path}`: {error}"),
            "give the path of a readable text file",
        )
        .reference(format!("can not read options configuration file '{path}'"))
        .in_file()
    })?;
    parse(&text, path, personality)
}

fn parse(text: &str, path: &str, personality: Personality) -> Result<ProxyArgs, BadInput> {
    let mut args = ProxyArgs::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let place = Place {
            path,
            line: index + 1,
        };
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| place.no_assignment(line))?;
        let (name, value) = (name.trim(), value.trim());
        let row = find(name, personality).ok_or_else(|| place.unknown(name))?;
        let value = match row.value {
            Some(_) => Some(value),
            None => place.switch(row, value)?.then_some(""),
        };
        let Some(value) = value else {
            continue;
        };
        if !args.insert(row.option, value.to_owned(), place.origin()) {
            return Err(place.repeated(row));
        }
    }
    Ok(args)
}

/// Reads a file of any bytes in the words of both programs: no option twice, and what is wrong with it
/// can be shown without what the line holds.
pub fn fuzz_config_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for personality in [Personality::Adit, Personality::Localproxy] {
        if let Err(fault) = parse(&text, "adit.conf", personality) {
            fault.assert_showable();
        }
    }
}

fn find(name: &str, personality: Personality) -> Option<&'static Spelling> {
    let ours = personality == Personality::Adit;
    let option = Opt::by_long(name, ours).or_else(|| {
        OPTIONS
            .iter()
            .find(|row| ours && row.alias == Some(name))
            .map(|row| row.option)
    })?;
    Some(option.spelling())
}

struct Place<'a> {
    path: &'a str,
    line: usize,
}

impl Place<'_> {
    fn origin(&self) -> Origin {
        Origin::File {
            path: self.path.to_owned(),
            line: self.line,
        }
    }

    fn fault(&self, problem: String, hint: impl Into<String>) -> BadInput {
        let message = format!("{}:{}: {problem}", Escaped(self.path), self.line);
        BadInput::usage(message, hint).in_file()
    }

    fn no_assignment(&self, line: &str) -> BadInput {
        if line.starts_with('[') {
            return self
                .fault(
                    "sections are not known here".to_owned(),
                    "write the options without any [section]",
                )
                .reference(format!("unrecognised line in '{}'", Escaped(line)));
        }
        // The line may hold a token, so it is not repeated.
        self.fault(
            "this line has no `=`".to_owned(),
            "each line is `name = value`, for example `region = eu-west-1`",
        )
        .reference(format!(
            "the options configuration file contains an invalid line (line {})",
            self.line
        ))
    }

    fn unknown(&self, name: &str) -> BadInput {
        let shown = Excerpt(name);
        let hint = match nearest(name) {
            Some(known) => format!("did you mean `{known}`?"),
            None => "the names are those of the long options, without dashes".to_owned(),
        };
        self.fault(format!("there is no option `{shown}`"), hint)
            .reference(format!("unrecognised option '{shown}'"))
    }

    fn repeated(&self, row: &Spelling) -> BadInput {
        self.fault(
            format!("{} is given more than once", row.long),
            "keep one of them",
        )
        .reference(format!(
            "option '{}' cannot be specified more than once",
            row.long
        ))
    }

    fn switch(&self, row: &Spelling, value: &str) -> Result<bool, BadInput> {
        match value.to_ascii_lowercase().as_str() {
            "" | "on" | "yes" | "1" | "true" => Ok(true),
            "off" | "no" | "0" | "false" => Ok(false),
            _ => Err(self
                .fault(
                    format!("{}: `{}` is neither true nor false", row.long, Excerpt(value)),
                    "allowed are true and false, on and off, yes and no, 1 and 0",
                )
                .reference(format!(
                    "the argument ('{}') for option '{}' is invalid. Valid choices are 'on|off', 'yes|no', '1|0' and 'true|false'",
                    Excerpt(value), row.long
                ))),
        }
    }
}

/// A known name that differs by a prefix or by the mark between words.
fn nearest(name: &str) -> Option<&'static str> {
    let plain = |text: &str| {
        text.trim_start_matches('-')
            .replace(['_', ' '], "-")
            .to_lowercase()
    };
    let name = plain(name);
    OPTIONS
        .iter()
        .map(|row| row.long)
        .find(|long| *long == name || (name.len() > 3 && long.starts_with(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Result<ProxyArgs, BadInput> {
        parse(text, "conf", Personality::Adit)
    }

    #[test]
    fn lines_give_options_with_their_place() {
        let args = args("\n# comment\n region = eu-west-1 # why\r\nno-ssl-host-verify=TRUE\n\nsource=5555\nio = epoll").unwrap();
        let region = args.given(Opt::Region).unwrap();
        assert_eq!(region.value.as_str(), "eu-west-1");
        assert_eq!(region.origin.name(Opt::Region), "conf:3: region");
        assert!(args.has(Opt::NoSslHostVerify));
        assert_eq!(args.value(Opt::SourceListenPort), Some("5555"));
        assert_eq!(args.value(Opt::Io), Some("epoll"));
    }

    #[test]
    fn a_switch_can_be_off_and_a_value_empty() {
        let args = args("no-ssl-host-verify = off\nsource-listen-port =").unwrap();
        assert!(!args.has(Opt::NoSslHostVerify));
        assert_eq!(args.value(Opt::SourceListenPort), Some(""));
    }

    #[test]
    fn mistakes_name_file_and_line() {
        for (text, message, hint, reference) in [
            (
                "\nregin = x",
                "conf:2: there is no option `regin`",
                "long options",
                "unrecognised option 'regin'",
            ),
            (
                "proxy_endpoint = x",
                "conf:1: there is no option",
                "`proxy-endpoint`",
                "unrecognised option 'proxy_endpoint'",
            ),
            (
                "--region = x",
                "conf:1: there is no option",
                "`region`",
                "unrecognised option '--region'",
            ),
            (
                "region eu-west-1",
                "conf:1: this line has no `=`",
                "name = value",
                "line 1",
            ),
            ("[proxy]", "conf:1: sections", "without any", "[proxy]"),
            (
                "mode=src\nmode=src",
                "conf:2: mode is given more than once",
                "keep one",
                "more than once",
            ),
            (
                "no-ssl-host-verify = maybe",
                "conf:1: no-ssl-host-verify: `maybe`",
                "true",
                "'on|off'",
            ),
        ] {
            let fault = args(text).unwrap_err();
            assert!(fault.message().starts_with(message), "{text}: {fault:?}");
            assert!(fault.hint().contains(hint), "{text}: {fault:?}");
            assert!(
                fault.reference_text().contains(reference),
                "{text}: {fault:?}"
            );
            assert_eq!(fault.code(), crate::exit::ExitCode::BadConfiguration);
        }
    }

    #[test]
    fn the_reference_knows_no_additions() {
        let fault = parse("io = epoll", "conf", Personality::Localproxy).unwrap_err();
        assert_eq!(fault.reference_text(), "unrecognised option 'io'");
        assert!(parse("source = 1", "conf", Personality::Localproxy).is_err());
    }

    #[test]
    fn a_line_without_assignment_is_not_repeated() {
        let fault = args("AQGAcanary").unwrap_err();
        assert!(!format!("{fault:?}").contains("canary"));
    }
}
