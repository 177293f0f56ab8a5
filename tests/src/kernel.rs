//! What the machine offers, asked without side effects.

use anyhow::{Context, Result, bail};

use crate::programs;
use crate::scenario::Scenario;

/// Whether programs here may use io_uring.
///
/// The kernel's own switch is read; a sandbox's filter shows itself only to a program that
/// tries, which the program under test does, loudly.
///
/// # Errors
/// Why not.
pub fn offers_io_uring(_scenario: &Scenario) -> Result<()> {
    let version = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("the kernel does not tell its version")?;
    if release_of(&version) < (5, 19) {
        bail!(
            "this kernel is {}, io_uring is used from 5.19 on",
            version.trim()
        );
    }
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    match disabled.as_deref().map(str::trim) {
        Ok("1" | "2") => bail!("kernel.io_uring_disabled forbids io_uring"),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The resident memory of a process, in bytes.
///
/// # Errors
/// The process is gone.
pub fn resident_memory(process: u32) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))
        .with_context(|| format!("process {process} is gone"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS in its status")?;
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// How many threads a process has.
///
/// # Errors
/// The process is gone.
pub fn threads(process: u32) -> Result<usize> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"))
        .with_context(|| format!("process {process} is gone"))?;
    Ok(tasks.count())
}

/// The processor time that a process has used, in clock ticks (100 a second).
///
/// # Errors
/// The process is gone.
pub fn processor_ticks(process: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))
        .with_context(|| format!("process {process} is gone"))?;
    // The name in parentheses may hold spaces; fields 14 and 15 are counted from its end.
    let (_, fields) = stat.rsplit_once(") ").context("an odd stat line")?;
    let field = |index: usize| -> Result<u64> {
        Ok(fields
            .split(' ')
            .nth(index)
            .context("a short stat line")?
            .parse()?)
    };
    Ok(field(11)? + field(12)?)
}

/// Lets this process, and what it starts from now on, leave small core files, so that a test sees who forbids them
/// to itself: on most machines nobody may leave any unless told so. `false`, with the reason printed, where that
/// cannot be had.
///
/// # Errors
/// It cannot be had, and `ADIT_REQUIRE_PROGRAMS=1` says that it must.
pub fn allow_core_files(scenario: &Scenario) -> Result<bool> {
    let Some([prlimit]) = programs::find(scenario, ["prlimit"])? else {
        return Ok(false);
    };
    let status = programs::command(&prlimit)
        .args(["--pid", &std::process::id().to_string(), "--core=4096:"])
        .status()?;
    match status.success() {
        true => Ok(true),
        false => Ok(programs::lacking::<()>(scenario, "a limit of core files above 0")?.is_some()),
    }
}

/// The limit of core files that a process has: bytes, or `unlimited`.
///
/// # Errors
/// The process is gone.
pub fn core_file_limit(process: u32) -> Result<String> {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits"))
        .with_context(|| format!("process {process} is gone"))?;
    let core = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    let soft = core.and_then(|limits| limits.split_whitespace().next());
    Ok(soft.context("no core file size in its limits")?.to_owned())
}

fn release_of(version: &str) -> (u32, u32) {
    let mut numbers = version
        .split(|character: char| !character.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_its_first_two_numbers() {
        assert_eq!(release_of("6.18.44-fc\n"), (6, 18));
        assert_eq!(release_of("5.4"), (5, 4));
    }

    #[test]
    fn this_process_has_memory_and_time() {
        assert!(resident_memory(std::process::id()).unwrap() > 4096);
        processor_ticks(std::process::id()).unwrap();
    }
}
