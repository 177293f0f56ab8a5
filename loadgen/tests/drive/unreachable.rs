//! A target that is not there, or not what it should be.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use adit_loadgen::args::IoChoice;

use crate::support::{Run, interfaces};

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    for profile in ["latency", "bulk", "churn", "idle", "stall"] {
        for io in interfaces() {
            let run = Run::of(&format!("{profile} --duration 100ms"), target, io);
            assert_eq!(run.code, 5, "{}", run.text);
            let says_what = run.text.contains(&target.to_string()) && run.text.contains("refused");
            assert!(says_what && run.text.contains("hint: "), "{}", run.text);
        }
    }
}

#[test]
fn somebody_else_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream
                .unwrap()
                .write_all(b"220 mail.example ESMTP, and a little more than a header\r\n");
        }
    });
    let run = Run::of("latency --duration 100ms", target, IoChoice::Auto);
    assert_eq!(run.code, 1, "{}", run.text);
    assert!(run.text.contains("does not lead to"), "{}", run.text);
}
