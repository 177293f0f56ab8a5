//! What can only be shown in a process of its own, which this test starts: itself, with one of its tests that is
//! not run otherwise.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use adit_process::{Remnants, core_files};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ARGUMENT: &str = "canary-of-the-command-line";
const VARIABLE: &str = "ADIT_TEST_CANARY";
const VALUE: &str = "canary-of-the-environment";

fn in_a_process(test: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "--exact", test])
        // To the harness it is the name of another test.
        .arg(ARGUMENT)
        .env(VARIABLE, VALUE)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn what_is_overwritten_is_gone_for_others_for_itself_and_for_its_children() {
    in_a_process("overwritten");
}

#[test]
fn core_files_are_left_by_children_alone() {
    in_a_process("cores");
}

fn shown(file: &str) -> String {
    let bytes = std::fs::read(format!("/proc/self/{file}")).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The environment that a program finds.
fn inherited(command: &mut Command) -> String {
    let output = command.arg("/proc/self/environ").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "changes its process; another test of this file starts it"]
fn overwritten() {
    let inherits = || inherited(&mut Command::new("cat"));
    assert!(shown("cmdline").contains(ARGUMENT) && shown("environ").contains(VALUE));
    assert!(inherits().contains(VALUE));

    let remnants = Remnants::of_process().unwrap();
    remnants.hide_argument(ARGUMENT).unwrap();
    remnants.remove_variable(VARIABLE).unwrap();

    let mask = "*".repeat(ARGUMENT.len());
    assert!(shown("cmdline").ends_with(&format!("\0{mask}\0")));
    assert!(!shown("environ").contains("canary") && !shown("environ").contains(VARIABLE));
    assert_eq!(std::env::var_os(VARIABLE), None);
    let others = std::env::vars_os().filter(|(name, _)| name.as_bytes() != b"A");
    assert!(others.count() > 1, "the others are still there");
    // One is started with the environment as it is, the other with one that std has put together.
    for environ in [inherits(), inherited(Command::new("cat").env("A", "b"))] {
        assert!(environ.contains("PATH="), "{environ:?}");
        assert!(
            !environ.contains("canary") && !environ.contains(VARIABLE),
            "{environ:?}"
        );
    }
    // Not even as an empty one.
    let told = Command::new("sh")
        .args(["-c", &format!("echo ${{{VARIABLE}-unset}}")])
        .output()
        .unwrap();
    assert_eq!(told.stdout, b"unset\n");
}

/// The soft limit of a child that waits until `meanwhile` is done.
fn limit_of_child(meanwhile: impl FnOnce(u32)) -> String {
    let mut child = Command::new("sh")
        .args(["-c", "read line; exec cat /proc/self/limits"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    meanwhile(child.id());
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let limits = String::from_utf8(output.stdout).unwrap();
    let core = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    core.unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
#[ignore = "changes its process; another test of this file starts it"]
fn cores() {
    // Nothing was changed here, so nothing is given back.
    assert_eq!(limit_of_child(core_files::restore), limit_of_child(drop));

    let before = Rlimit {
        current: Some(4096),
        ..getrlimit(Resource::Core)
    };
    if setrlimit(Resource::Core, before).is_err() {
        return eprintln!("skipped: this machine allows no core files at all");
    }
    core_files::write_none();
    // Whoever calls it again does not change what children get back.
    core_files::write_none();
    let now = getrlimit(Resource::Core);
    assert_eq!((now.current, now.maximum), (Some(0), before.maximum));
    assert_eq!(limit_of_child(drop), "0");
    assert_eq!(limit_of_child(core_files::restore), "4096");
    assert_eq!(getrlimit(Resource::Core).current, Some(0));
}
