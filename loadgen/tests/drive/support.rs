//! What several tests need.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use adit_loadgen::args::IoChoice;
use adit_loadgen::drive::Loop;
use adit_loadgen::report::{ErrorKind, HLOG_FILE, Summary};
use adit_loadgen::server::{ServeSettings, Server};

/// The program under test.
pub(crate) const EXECUTABLE: &str = env!("CARGO_BIN_EXE_adit-loadgen");

/// Both kernel interfaces, or the one that there is.
pub(crate) fn interfaces() -> Vec<IoChoice> {
    match Loop::build(IoChoice::Uring) {
        Ok(_) => vec![IoChoice::Uring, IoChoice::Epoll],
        Err(reason) => {
            eprintln!("tested on epoll only: {reason}");
            vec![IoChoice::Epoll]
        }
    }
}

/// A far end in this process.
pub(crate) fn far_end(io: IoChoice) -> Server {
    let settings = ServeSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        threads: 1,
        congestion: None,
        io,
    };
    Server::start(&settings).unwrap()
}

/// A far end in a process of its own, which can be stopped or be short of something.
pub(crate) struct FarEnd {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl FarEnd {
    pub(crate) fn start() -> Self {
        Self::of(Command::new(EXECUTABLE).arg("serve"))
    }

    /// On a kernel interface, and within limits that the shell sets: `-n 64`.
    pub(crate) fn limited(limits: &str, io: IoChoice) -> Self {
        let script = format!("ulimit {limits} && exec \"$0\" serve --io {}", name(io));
        Self::of(Command::new("sh").args(["-c", &script, EXECUTABLE]))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Self { child, address }
    }

    /// How many descriptors it has; none once it is gone.
    pub(crate) fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.map_or(0, Iterator::count)
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The generator, about to drive `target`.
pub(crate) fn command(arguments: &str, target: SocketAddr, io: IoChoice) -> Command {
    let mut command = Command::new(EXECUTABLE);
    command.args(arguments.split_whitespace()).args([
        "--target",
        &target.to_string(),
        "--io",
        name(io),
    ]);
    command
}

fn name(io: IoChoice) -> &'static str {
    match io {
        IoChoice::Auto => "auto",
        IoChoice::Uring => "uring",
        IoChoice::Epoll => "epoll",
    }
}

/// Starts that were made, and those that were left out.
pub(crate) fn made_or_skipped(summary: &Summary) -> u64 {
    let skipped = summary.errors.get(&ErrorKind::Skipped);
    summary.operations + skipped.copied().unwrap_or(0)
}

/// A run that tells something each second, of which the first is over.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
    directory: tempfile::TempDir,
}

impl Running {
    pub(crate) fn start(arguments: &str, target: SocketAddr, io: IoChoice) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = command(arguments, target, io)
            .args(["--lines", "--out"])
            .arg(directory.path())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        lines.read_line(&mut String::new()).unwrap();
        Self {
            child,
            lines,
            directory,
        }
    }

    pub(crate) fn interrupt(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Run {
        let mut stderr = Vec::new();
        self.lines.read_to_end(&mut stderr).unwrap();
        let mut output = self.child.wait_with_output().unwrap();
        output.stderr = stderr;
        Run::ended(&output, self.directory.path())
    }
}

/// A run that came to its end.
pub(crate) struct Run {
    pub(crate) code: i32,
    /// What it wrote, both streams.
    pub(crate) text: String,
    /// `None` where it could not run.
    pub(crate) summary: Option<Summary>,
    /// The interval log; empty where there is none.
    pub(crate) log: String,
}

impl Run {
    /// Runs the generator, with its files in a directory of their own.
    pub(crate) fn of(arguments: &str, target: SocketAddr, io: IoChoice) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let output = command(arguments, target, io)
            .args(["--quiet", "--out"])
            .arg(directory.path())
            .output()
            .unwrap();
        Self::ended(&output, directory.path())
    }

    /// One that has left its files in `directory`.
    pub(crate) fn ended(output: &Output, directory: &Path) -> Self {
        let [out, err] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        Self {
            code: output.status.code().expect("it was not killed"),
            text: format!("{out}{err}"),
            summary: Summary::load(directory).ok(),
            log: std::fs::read_to_string(directory.join(HLOG_FILE)).unwrap_or_default(),
        }
    }

    /// The summary of a run in which nothing went wrong. A machine that is too busy may have left starts out.
    pub(crate) fn passed(self) -> Summary {
        assert_eq!(self.code, 0, "{}", self.text);
        let summary = self.summary.expect("a run that passed has one");
        let told = (&summary.errors, &summary.connection_errors);
        assert!(summary.has_only_skipped(), "{told:?}: {}", self.text);
        summary
    }
}
