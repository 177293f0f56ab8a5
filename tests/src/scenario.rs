//! One test's surroundings: its loop, its directory, its deadline, and the evidence that
//! is printed when it fails.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::binary::Binary;
use crate::output::{Channel, Output};
use crate::pki::Pki;
use crate::secrets::Secrets;

/// The longest that an ordinary scenario may take.
pub const SCENARIO_LIMIT: Duration = Duration::from_secs(60);

/// The event loop that the proxies and relays of a scenario run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Whatever the program chooses by itself: no `--io` on its command line.
    Auto,
    /// `--io epoll`.
    Epoll,
    /// `--io uring`.
    Uring,
}

impl Io {
    /// The value of `--io`, or `None` where the option is left out.
    #[must_use]
    pub fn argument(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Epoll => Some("epoll"),
            Self::Uring => Some("uring"),
        }
    }
}

/// What a scenario is given: a handle that is cheap to clone.
#[derive(Clone)]
pub struct Scenario {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    io: Io,
    directory: tempfile::TempDir,
    binary: Binary,
    pki: Arc<Pki>,
    evidence: Mutex<Vec<(String, Arc<Output>)>>,
    secrets: Secrets,
}

impl Scenario {
    /// Prepares a directory with the binary under both its names, and `ca.pem`.
    ///
    /// # Errors
    /// The directory or the binary cannot be set up.
    pub fn new(name: &str, io: Io) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("adit-test-")
            .tempdir()
            .context("no temporary directory")?;
        let binary = Binary::install(directory.path())?;
        let pki = Pki::shared();
        std::fs::write(directory.path().join("ca.pem"), pki.ca_pem())?;
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                io,
                directory,
                binary,
                pki,
                evidence: Mutex::new(Vec::new()),
                secrets: Secrets::default(),
            }),
        })
    }

    /// The loop under test.
    #[must_use]
    pub fn io(&self) -> Io {
        self.inner.io
    }

    /// The scenario's own directory; it goes when the scenario ends.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.inner.directory.path()
    }

    /// A path inside [`Self::directory`].
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// Writes a file into [`Self::directory`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// The program under test.
    #[must_use]
    pub fn binary(&self) -> &Binary {
        &self.inner.binary
    }

    /// The certificates of scripted services.
    #[must_use]
    pub fn pki(&self) -> &Arc<Pki> {
        &self.inner.pki
    }

    /// The file with the authority that signs [`Self::pki`]'s certificates.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Keeps a process's output to be shown if the scenario fails.
    pub fn keep_evidence(&self, name: &str, output: &Arc<Output>) {
        self.evidence().push((name.to_owned(), Arc::clone(output)));
    }

    /// What no process of the scenario may say, to its end.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.inner.secrets
    }

    /// Looks for secrets in what every process has said, and in logs and audits below the scenario's directory.
    ///
    /// # Errors
    /// One is there.
    pub fn tells_no_secret(&self) -> Result<()> {
        let find = |text: &str| self.secrets().find(text);
        for (name, output) in self.evidence().iter() {
            for channel in [Channel::Stdout, Channel::Stderr] {
                let found = find(&output.text(channel));
                ensure!(found.is_none(), "{name} says the secret {found:?}");
            }
        }
        let mut directories = vec![self.directory().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory)?.flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                let name = name.to_string_lossy();
                if entry.file_type()?.is_dir() {
                    directories.push(path);
                } else if name.contains("audit") || name.ends_with(".log") {
                    let text = std::fs::read(&path)?;
                    let found = find(&String::from_utf8_lossy(&text));
                    ensure!(found.is_none(), "{} has {found:?}", path.display());
                }
            }
        }
        Ok(())
    }

    /// Says why a scenario cannot be played on this machine.
    pub fn skip(&self, reason: &str) {
        eprintln!("skipped: {}: {reason}", self.inner.name);
    }

    fn show_evidence(&self) {
        for (name, output) in self.evidence().iter() {
            eprintln!(
                "---- the end of what {name} wrote ----\n{}",
                output.tail(60)
            );
        }
    }

    fn evidence(&self) -> std::sync::MutexGuard<'_, Vec<(String, Arc<Output>)>> {
        self.inner
            .evidence
            .lock()
            .expect("nothing panics while it holds the evidence")
    }
}

/// How often something is done: what `variable` says, or else `ordinary`.
///
/// # Errors
/// It says no number.
pub fn count(variable: &str, ordinary: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{variable} is no number: {text}")),
        Err(_) => Ok(ordinary),
    }
}

/// Whether what is measured is held to its goal: on a machine that does nothing else.
#[must_use]
pub fn judges() -> bool {
    std::env::var_os("ADIT_JUDGE").is_some()
}

/// The seed of a random test, which is printed; `ADIT_SEED` repeats one.
///
/// # Errors
/// `ADIT_SEED` is no number.
pub fn seed() -> Result<u64> {
    let seed = match std::env::var("ADIT_SEED") {
        Ok(text) => text.parse().context("ADIT_SEED is no number")?,
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            u64::from(now.subsec_nanos())
        }
    };
    eprintln!("ADIT_SEED={seed}");
    Ok(seed)
}

/// Plays a scenario on a runtime of its own, within `limit`.
///
/// # Panics
/// The scenario failed or ran out of time. What its processes wrote is printed first.
pub fn play<F>(name: &str, io: Io, limit: Duration, scene: impl FnOnce(Scenario) -> F)
where
    F: Future<Output = Result<()>>,
{
    let scenario = Scenario::new(name, io).expect("the scenario can be set up");
    if io == Io::Uring
        && let Err(reason) = crate::kernel::offers_io_uring(&scenario)
    {
        assert!(
            std::env::var_os("ADIT_REQUIRE_URING").is_none(),
            "ADIT_REQUIRE_URING is set, but {reason:#}"
        );
        return scenario.skip(&format!("{reason:#}"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime for the scenario");
    let ended = runtime.block_on(async {
        tokio::time::timeout(limit, scene(scenario.clone()))
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the scenario took more than {limit:?}")))
    });
    runtime.shutdown_background();
    if let Err(error) = ended.and_then(|()| scenario.tells_no_secret()) {
        scenario.show_evidence();
        panic!("{name} ({io:?}): {error:?}");
    }
}

/// Makes two tests of each scenario named: one on epoll and one on io_uring.
///
/// `async fn sentence(scenario: Scenario) -> Result<()>` becomes `sentence::epoll` and
/// `sentence::uring`. `within LIMIT;` in front gives them another limit than the ordinary one.
#[macro_export]
macro_rules! on_each_loop {
    (within $limit:expr; $($scene:ident),+ $(,)?) => {$(
        mod $scene {
            use $crate::scenario::{Io, play};

            #[test]
            fn epoll() {
                play(stringify!($scene), Io::Epoll, $limit, super::$scene);
            }

            #[test]
            fn uring() {
                play(stringify!($scene), Io::Uring, $limit, super::$scene);
            }
        }
    )+};
    ($($scene:ident),+ $(,)?) => {
        $crate::on_each_loop!(within $crate::scenario::SCENARIO_LIMIT; $($scene),+);
    };
}

/// Makes one test of each scenario named, with the program's own choice of loop: for what
/// does not depend on the loop, or is too dear to be done twice. `within LIMIT;` in front gives
/// them another limit than the ordinary one.
#[macro_export]
macro_rules! on_own_choice {
    (within $limit:ident; $($scene:ident),+ $(,)?) => {$(
        mod $scene {
            use $crate::scenario::{Io, play};

            #[test]
            fn auto() {
                play(stringify!($scene), Io::Auto, super::$limit, super::$scene);
            }
        }
    )+};
    ($($scene:ident),+ $(,)?) => {$(
        mod $scene {
            use $crate::scenario::{Io, SCENARIO_LIMIT, play};

            #[test]
            fn auto() {
                play(stringify!($scene), Io::Auto, SCENARIO_LIMIT, super::$scene);
            }
        }
    )+};
}
