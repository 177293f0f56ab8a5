//! What can only be shown in a process of its own: io_uring forbidden, and SIGPIPE deadly.

use std::io::{ErrorKind, IoSlice};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::tests::log::Log;
use super::{Backend, IoChoice, Outgoing, Settings, Token, WakeSource, open};

/// System call and errno of the child's filter, for `forbidden`.
const RULE: &str = "ADIT_TEST_DENY";

#[test]
fn a_container_that_answers_eperm() {
    run_child("forbidden", "setup EPERM");
}

#[test]
fn a_container_that_answers_enosys() {
    run_child("forbidden", "setup ENOSYS");
}

#[test]
fn a_filter_that_lets_rings_be_made_but_not_used() {
    run_child("forbidden", "enter EPERM");
}

#[test]
fn a_program_that_dies_of_sigpipe() {
    run_child("sigpipe", "");
}

fn run_child(test: &str, rule: &str) {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--nocapture", "--exact"])
        .arg(format!("ring::child_tests::{test}"))
        .env(RULE, rule)
        .output()
        .expect("the child runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(text.contains("1 passed"), "{text}");
}

/// Rust programs ignore the signal from the start, but may choose not to.
#[test]
#[ignore = "changes how its process dies; another test of this module starts it"]
fn sigpipe() {
    // WHY: a command line tool that wants to end with its pipe does just this.
    // SAFETY: no handler is installed, only the default action; no other thread sends here.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    for choice in [IoChoice::Epoll, IoChoice::Auto] {
        let mut backend = open(choice, &Settings::default()).expect("a backend");
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("a pair");
        drop(theirs);
        let parts = [IoSlice::new(b"a"), IoSlice::new(b"b")];
        for size in 1..=2 {
            for parts in [&parts[..], &parts[..1]] {
                let mut batch: Vec<_> = (0..size)
                    .map(|_| Outgoing::new(ours.as_raw_fd(), parts))
                    .collect();
                backend.send_batch(&mut batch);
                for item in batch {
                    let error = item.result.expect_err("nobody there");
                    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                }
            }
        }
    }
}

/// A process that forbids io_uring to itself, as a container would.
#[test]
#[ignore = "forbids io_uring to its process; the other tests of this module start it"]
fn forbidden() {
    let rule = std::env::var(RULE).expect("started by run_child");
    let (call, errno) = rule.split_once(' ').expect("two words");
    let (call, number) = match call {
        "setup" => ("io_uring_setup", libc::SYS_io_uring_setup),
        _ => ("io_uring_enter", libc::SYS_io_uring_enter),
    };
    forbid(
        number,
        if errno == "EPERM" {
            libc::EPERM
        } else {
            libc::ENOSYS
        },
    );

    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let error = open(IoChoice::Uring, &Settings::default()).expect_err("forbidden");
        let message = error.to_string();
        assert!(message.starts_with(call), "{message}");
        assert!(message.contains("seccomp"), "{message}");
        assert_eq!(
            log.lines(),
            Vec::<String>::new(),
            "an error is not also logged"
        );

        for _ in 0..2 {
            let mut backend = open(IoChoice::Auto, &Settings::default()).expect("epoll");
            assert_eq!(backend.name(), "epoll");
            let source = WakeSource::new().expect("an eventfd");
            backend
                .watch(source.fd(), Token::new(1, 1, 1))
                .expect("watched");
            source.waker().wake();
            let mut ready = Vec::new();
            backend
                .wait(&mut ready, Some(Duration::from_secs(10)))
                .expect("wait works");
            assert_eq!(ready.len(), 1);
        }
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "said once: {lines:?}");
        assert!(lines[0].contains("backend=\"epoll\""), "{lines:?}");
        assert!(lines[0].contains(&message), "{lines:?}");
    });
}

/// Makes one system call of this thread fail from now on.
fn forbid(call: libc::c_long, errno: i32) {
    let step = |code: u32, jump: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump,
        k: value,
    };
    let mut program = [
        // Offset 0 of what a filter sees is the number of the call.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | errno as u32,
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // WHY: a filter is taken only from who gives up gaining rights.
    // SAFETY: the call takes numbers only.
    let gives_up = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(gives_up, 0, "{}", std::io::Error::last_os_error());
    // WHY: a container's default profile, without a container.
    // SAFETY: reads `filter` and the program it points at, both alive here, and copies them. The program
    // only ever refuses or allows.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}
