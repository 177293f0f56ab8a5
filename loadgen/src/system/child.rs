//! The process of a part, seen from its parent.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::board::Board;
use super::role::{Order, Report, Role};
use crate::account::SubjectSpec;

/// The hidden command that makes this executable a part.
const PART_COMMAND: &str = "part";

/// A part that was started. Dropping it ends it.
pub(super) struct Part {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
}

impl Part {
    /// Starts it: `index` is its place on the board, where its reports are kept.
    ///
    /// # Errors
    /// The executable cannot be run, or does not take its role.
    pub(super) fn start(
        executable: &Path,
        name: &str,
        role: &Role,
        index: usize,
        board: Arc<Board>,
    ) -> std::io::Result<Self> {
        let mut child = Command::new(executable)
            .arg(PART_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C on the terminal is for the parent, which still has its report to write.
            .process_group(0)
            .spawn()?;
        let output = child.stdout.take().map(BufReader::new);
        let mut part = Self {
            name: name.to_owned(),
            stdin: child.stdin.take(),
            child,
            reader: None,
        };
        if let Some(output) = output {
            let reader = std::thread::Builder::new().name(format!("reports of {name}"));
            part.reader = Some(reader.spawn(move || {
                for line in output.lines() {
                    let Ok(line) = line else { break };
                    if let Ok(report) = serde_json::from_str::<Report>(&line) {
                        board.take(index, report);
                    }
                }
                board.over(index);
            })?);
        }
        let mut line = serde_json::to_vec(role)?;
        line.push(b'\n');
        if let Some(stdin) = &mut part.stdin {
            stdin.write_all(&line)?;
        }
        Ok(part)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn subject(&self) -> SubjectSpec {
        SubjectSpec::process(self.pid(), &self.name)
    }

    pub(super) fn order(&mut self, order: Order) {
        let Ok(mut line) = serde_json::to_vec(&order) else {
            return;
        };
        line.push(b'\n');
        if let Some(stdin) = &mut self.stdin {
            // A part that is gone is noticed by its reports.
            let _ = stdin.write_all(&line);
        }
    }

    /// Ends its standard input, and so the part, without waiting for it.
    pub(super) fn dismiss(&mut self) {
        self.stdin = None;
    }

    /// Ends the process at once, and returns once nothing of it is left.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        self.reap();
    }

    /// Waits until `end` for the process to end by itself.
    pub(super) fn end(&mut self, end: Instant) {
        while Instant::now() < end {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Ok(Some(_)) | Err(_) => return self.reap(),
            }
        }
        self.kill();
    }

    fn reap(&mut self) {
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            // Its pipe has no writer any more.
            let _ = reader.join();
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Not ended yet only where starting it failed half-way.
        if self.child.try_wait().is_ok_and(|it| it.is_none()) {
            self.kill();
        }
    }
}
