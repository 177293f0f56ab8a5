//! Instructions of every case, by the `instructions` bench under valgrind.

use serde_json::Value;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// Instructions of one run of each of the first `count` cases.
pub(crate) fn of_all(count: usize) -> Result<Vec<u64>, Box<dyn Error>> {
    // What an earlier run left must not be taken for a result of this one.
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gate");
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["bench", "--quiet", "-p", "adit-bench"])
        .args(["--bench", "instructions", "--", "--save-summary=json"])
        .env("PATH", path_with_runner()?)
        .env("GUNGRAUN_HOME", &home)
        // Its own report says the same in another way.
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("the instructions bench failed: {status}").into());
    }
    let directory = home.join("adit-bench/instructions/gated_cases");
    (0..count)
        .map(|index| instructions(&directory.join(format!("run.case_{index}/summary.json"))))
        .collect()
}

/// The search path, with the place before it where `.ci/run` installs the runner.
fn path_with_runner() -> Result<OsString, Box<dyn Error>> {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools");
    let path = env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = [tools.join("bin")]
        .into_iter()
        .chain(env::split_paths(&path))
        .collect();
    if !places
        .iter()
        .any(|place| place.join("gungraun-runner").is_file())
    {
        return Err(format!(
            "gungraun-runner is not installed; with the version that Cargo.toml has for gungraun: \
             cargo install gungraun-runner --version VERSION --locked --debug --root {}",
            tools.display()
        )
        .into());
    }
    Ok(env::join_paths(places)?)
}

/// Reads one summary.
fn instructions(path: &Path) -> Result<u64, Box<dyn Error>> {
    let broken = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let text = fs::read_to_string(path).map_err(|error| broken(&error))?;
    let summary: Value = serde_json::from_str(&text).map_err(|error| broken(&error))?;
    summary
        .pointer(COUNT)
        .and_then(Value::as_u64)
        .filter(|count| *count > 0)
        .ok_or_else(|| broken(&format!("no count of instructions at {COUNT}")).into())
}

/// Where a summary has the count.
const COUNT: &str = "/profiles/0/data/total/metrics/Ir/values/new";
