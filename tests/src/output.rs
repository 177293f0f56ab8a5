//! What a process wrote, line by line, and waiting for a line.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

use crate::deadline::within;

/// The most lines kept of one process.
const LINES_MAX: usize = 100_000;

/// Which of its two outputs a process wrote a line to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Standard output: data.
    Stdout,
    /// Standard error: words.
    Stderr,
}

/// Everything that a process has written so far.
pub struct Output {
    lines: Mutex<Vec<(Channel, String)>>,
    /// The number of channels still open, and a change with every line.
    open: watch::Sender<usize>,
}

impl Output {
    /// Starts to collect both channels of a process.
    pub(crate) fn collect(
        stdout: impl AsyncRead + Unpin + Send + 'static,
        stderr: impl AsyncRead + Unpin + Send + 'static,
    ) -> Arc<Self> {
        let output = Arc::new(Self {
            lines: Mutex::new(Vec::new()),
            open: watch::Sender::new(2),
        });
        tokio::spawn(Arc::clone(&output).follow(Channel::Stdout, stdout));
        tokio::spawn(Arc::clone(&output).follow(Channel::Stderr, stderr));
        output
    }

    /// Waits for a line with `needle` in it, on either channel, from the start on.
    ///
    /// # Errors
    /// It did not come in time, or the process closed its outputs without it.
    pub async fn line(&self, needle: &str) -> Result<String> {
        self.line_after(0, needle).await
    }

    /// As [`Self::line`], but among the lines from number `skipped` on; see
    /// [`Self::count`].
    ///
    /// # Errors
    /// As [`Self::line`].
    pub async fn line_after(&self, skipped: usize, needle: &str) -> Result<String> {
        let mut open = self.open.subscribe();
        within(&format!("waiting for the line {needle:?}"), async {
            loop {
                let channels_open = *open.borrow_and_update();
                if let Some(line) = self.find(skipped, needle) {
                    return Ok(line);
                }
                if channels_open == 0 {
                    return Err(anyhow!("the process ended without it"));
                }
                open.changed().await.context("the collector ended")?;
            }
        })
        .await
    }

    /// Waits until both channels are closed, which a process does last.
    ///
    /// # Errors
    /// They stay open.
    pub async fn end(&self) -> Result<()> {
        let mut open = self.open.subscribe();
        within("waiting for the end of the output", async {
            open.wait_for(|count| *count == 0).await?;
            Ok(())
        })
        .await
    }

    /// The number of lines so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines().len()
    }

    /// Whether a line with `needle` was written.
    #[must_use]
    pub fn has(&self, needle: &str) -> bool {
        self.find(0, needle).is_some()
    }

    /// All of one channel, joined by newlines.
    #[must_use]
    pub fn text(&self, wanted: Channel) -> String {
        let lines = self.lines();
        let matching = lines.iter().filter(|(channel, _)| *channel == wanted);
        let texts: Vec<&str> = matching.map(|(_, line)| line.as_str()).collect();
        texts.join("\n")
    }

    /// The last `count` lines of both channels.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines();
        let from = lines.len().saturating_sub(count);
        let shown = lines[from..].iter().map(|(channel, line)| match channel {
            Channel::Stdout => format!("out| {line}"),
            Channel::Stderr => format!("err| {line}"),
        });
        shown.collect::<Vec<_>>().join("\n")
    }

    fn find(&self, skipped: usize, needle: &str) -> Option<String> {
        let lines = self.lines();
        let mut later = lines.iter().skip(skipped);
        let found = later.find(|(_, line)| line.contains(needle));
        found.map(|(_, line)| line.clone())
    }

    async fn follow(self: Arc<Self>, channel: Channel, from: impl AsyncRead + Unpin) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).await.unwrap_or(0) > 0 {
            let text = String::from_utf8_lossy(&line);
            self.push(channel, text.trim_end_matches('\n'));
            line.clear();
        }
        self.open.send_modify(|count| *count -= 1);
    }

    fn push(&self, channel: Channel, line: &str) {
        {
            let mut lines = self.lines();
            if lines.len() < LINES_MAX {
                lines.push((channel, line.to_owned()));
            }
        }
        self.open.send_modify(|_| {});
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<(Channel, String)>> {
        self.lines
            .lock()
            .expect("nothing panics while it holds the lines")
    }
}
