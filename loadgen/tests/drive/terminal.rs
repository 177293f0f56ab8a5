//! A terminal gets a live screen, and has itself back whatever ends the run.

use std::io::{Read as _, Write as _};
use std::process::{ChildStdin, Command, Stdio};

use adit_loadgen::args::IoChoice;

use crate::support::{EXECUTABLE, far_end};

/// What a run of `latency` writes to a terminal of its own, which `script` makes. When `cue` has come, `act` is done,
/// given what types into the terminal; it comes, or the test fails.
fn on_a_terminal(
    variables: &[(&str, &str)],
    duration: &str,
    cue: &str,
    act: fn(&mut ChildStdin),
) -> String {
    let server = far_end(IoChoice::Auto);
    let target = server.address;
    let command = format!(
        "stty cols 80 rows 24; exec {EXECUTABLE} latency --target {target} --rate 200 --duration {duration}"
    );
    let mut script = Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script, of Debian's bsdutils");
    // The terminal stays until its keyboard has gone.
    let mut keys = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    let (mut bytes, mut has_acted) = (Vec::new(), false);
    let mut buffer = [0; 4096];
    while let size @ 1.. = screen.read(&mut buffer).unwrap() {
        bytes.extend_from_slice(&buffer[..size]);
        if !has_acted && String::from_utf8_lossy(&bytes).contains(cue) {
            act(&mut keys);
            has_acted = true;
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(has_acted, "{cue:?} did not come: {text}");
    assert!(script.wait().unwrap().success(), "{text}");
    text
}

#[test]
fn the_screen_is_shown_and_the_terminal_given_back() {
    let text = on_a_terminal(&[], "3s", ENTER, |_| ());
    let (screen, after) = text.split_once(LEAVE).expect("the terminal is given back");
    assert!(screen.contains("\x1b[1m"), "{screen}");
    for part in ["offered 200/s", "achieved", "p99.9", "generator"] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    assert!(
        after.contains("Summary: latency") && !after.contains("\x1b["),
        "{after}"
    );
}

#[test]
fn an_interrupt_ends_the_run_and_leaves_a_summary() {
    let interrupt = |keys: &mut ChildStdin| keys.write_all(b"\x03").unwrap();
    let text = on_a_terminal(&[], "600s", "achieved", interrupt);
    let (_, after) = text.split_once(LEAVE).expect("the terminal is given back");
    assert!(after.contains("of 600.00 s, interrupted"), "{after}");
}

#[test]
fn no_colour_means_no_colour() {
    let text = on_a_terminal(&[("NO_COLOR", "1")], "3s", ENTER, |_| ());
    assert!(!text.contains("\x1b[1m"), "{text}");
}

#[test]
fn a_terminal_that_can_only_print_gets_lines() {
    let text = on_a_terminal(&[("TERM", "dumb")], "3s", "1s  offered 200/s", |_| ());
    assert!(!text.contains('\x1b'), "{text}");
}

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
