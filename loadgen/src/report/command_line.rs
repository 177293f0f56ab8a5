//! The command line as reports tell it.

use std::ffi::OsString;

/// Options whose values are secrets: they do not go into files that are shown around.
const SECRETS: [&str; 2] = ["--source-token", "--destination-token"];

/// What stands in the place of a secret.
const HIDDEN: &str = "(hidden)";

/// The arguments, without tokens. What is no UTF-8 is shown as well as can be.
pub(crate) fn command_line(arguments: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut is_next_secret = false;
    let show = |argument: OsString| {
        if std::mem::take(&mut is_next_secret) {
            return HIDDEN.to_owned();
        }
        let text = argument.to_string_lossy().into_owned();
        is_next_secret = SECRETS.contains(&&*text);
        match text.split_once('=') {
            Some((option, _)) if SECRETS.contains(&option) => format!("{option}={HIDDEN}"),
            _ => text,
        }
    };
    arguments.map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_hidden_however_they_are_given() {
        let line =
            "adit-loadgen latency --source-token canary-a --destination-token=canary-b --seed 7";
        let told = command_line(line.split(' ').map(OsString::from));
        assert_eq!(
            told.join(" "),
            "adit-loadgen latency --source-token (hidden) --destination-token=(hidden) --seed 7"
        );
        let line = ["--source-token", "--source-token", "--seed", "7"];
        let told = command_line(line.into_iter().map(OsString::from));
        assert_eq!(told, ["--source-token", "(hidden)", "--seed", "7"]);
    }
}
