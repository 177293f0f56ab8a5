//! clap's complaints in our form: one sentence, one hint, no value that could be a token.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use adit_proto::escape::Escaped;

use super::{OPTIONS, Request};
use crate::fault::BadInput;

/// Help and version are answers, everything else is a bad input.
pub(super) fn translate(error: &Error) -> Result<Request, BadInput> {
    let option = text(error, ContextKind::InvalidArg);
    let option = bare(&option);
    let value = shortened(&text(error, ContextKind::InvalidValue));
    Err(match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return Ok(Request::Show(error.render()));
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Ok(Request::Lost(error.render()));
        }
        ErrorKind::UnknownArgument => unknown(&option, error),
        ErrorKind::InvalidSubcommand => BadInput::usage(
            format!(
                "there is no command `{}`",
                shortened(&text(error, ContextKind::InvalidSubcommand))
            ),
            commands(error),
        ),
        ErrorKind::ArgumentConflict => conflict(&option, &text(error, ContextKind::PriorArg)),
        ErrorKind::MissingRequiredArgument => BadInput::usage(
            format!("{option} is missing"),
            format!("add {}", text(error, ContextKind::InvalidArg)),
        ),
        ErrorKind::InvalidValue if value.is_empty() => BadInput::usage(
            format!("{option} needs a value"),
            format!("write {option}=VALUE if it starts with a dash"),
        ),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => BadInput::usage(
            format!("{option}: `{value}` cannot be used{}", cause(error)),
            allowed(&option),
        ),
        ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues | ErrorKind::NoEquals => {
            BadInput::usage(
                format!("{option} takes no value"),
                format!("write {option} alone"),
            )
        }
        ErrorKind::InvalidUtf8 => BadInput::usage(
            "an argument is not valid UTF-8",
            "write it in UTF-8, or put the value into a --config file",
        ),
        kind => BadInput::usage(kind.to_string(), "see `adit --help`"),
    })
}

/// clap says both with the same word: an option that is there twice, and two that exclude each other.
fn conflict(option: &str, prior: &str) -> BadInput {
    let prior = bare(prior);
    let message = if prior.is_empty() || prior == option {
        format!("{option} is given more than once")
    } else {
        format!("{option} and {prior} exclude each other")
    };
    BadInput::usage(message, "keep one of them")
}

fn unknown(option: &str, error: &Error) -> BadInput {
    if option.starts_with('-') {
        let program = program(error);
        let names = several(option).filter(|_| program == "adit proxy");
        let hint = match (names, error.get(ContextKind::SuggestedArg)) {
            (Some(names), _) => format!("it may mean {names}; write the name out"),
            (None, Some(ContextValue::String(known))) => format!("did you mean {known}?"),
            (None, _) => format!("`{program} --help` lists the options"),
        };
        return BadInput::usage(format!("there is no option {option}"), hint);
    }
    BadInput::usage(
        format!("`{}` belongs to no option", shortened(option)),
        "every value follows its option, for example `-s 5555`; quote values with spaces",
    )
}

/// What could have been meant by a command that does not exist.
fn commands(error: &Error) -> String {
    match (error.get(ContextKind::SuggestedSubcommand), program(error)) {
        (Some(ContextValue::Strings(known)), _) if !known.is_empty() => {
            format!("did you mean {}?", known.join(" or "))
        }
        (_, program) => format!("`{program} --help` lists the commands"),
    }
}

/// The words of the command that the complaint is about: its usage up to the first argument.
fn program(error: &Error) -> String {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let words = usage.split_whitespace().skip_while(|word| *word != "adit");
    let is_name = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    let words: Vec<&str> = words.take_while(is_name).collect();
    if words.is_empty() {
        "adit".to_owned()
    } else {
        words.join(" ")
    }
}

/// The options of `adit proxy` that start like this, when there are several.
fn several(option: &str) -> Option<String> {
    let prefix = option.strip_prefix("--")?;
    let names: Vec<String> = OPTIONS
        .iter()
        .filter(|row| row.long.starts_with(prefix))
        .map(|row| row.option.flag())
        .collect();
    (names.len() > 1).then(|| names.join(" or "))
}

fn cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!(": {source}"),
        None => String::new(),
    }
}

fn allowed(option: &str) -> &'static str {
    match option {
        "--io" => "allowed are auto, uring and epoll",
        "--log-format" => "allowed are text and json",
        "--verbose" => "allowed are 0 (off) to 6 (trace)",
        "--side" => "allowed are source, destination and all",
        "--loops" => "allowed are 1 to 1024",
        "--api-listen" | "--tunnel-listen" | "--mqtt-listen" => {
            "write an address and a port, for example 127.0.0.1:7443 or [::]:7443"
        }
        _ => "see `adit --help`",
    }
}

/// The text of one piece of context, empty when it is not there.
fn text(error: &Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    }
}

/// `--name` out of `--name <VALUE>`.
fn bare(argument: &str) -> String {
    let name = argument.split([' ', '=']).next().unwrap_or_default();
    if name.starts_with('-') {
        Escaped(name).to_string()
    } else {
        argument.to_owned()
    }
}

/// A long word in the wrong place is likely a token: it is not repeated.
fn shortened(word: &str) -> String {
    let count = word.chars().count();
    if count <= SHOWN_MAX {
        return Escaped(word).to_string();
    }
    let start: String = word.chars().take(4).collect();
    format!("{}… ({count} characters)", Escaped(&start))
}

/// Longest word that is repeated whole, in characters; client tokens start at 32.
const SHOWN_MAX: usize = 31;
