//! A program that may not make every system call: in a container that forbids one, or in what a unit of
//! `deploy/systemd/` leaves it (threat T-27), which is no capability and none to be had again, no way to further
//! privileges, and only the calls that its `SystemCallFilter=` lets through. `bwrap` does here what systemd does there,
//! as no systemd runs where tests do; the names in its groups of calls are asked of systemd.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use seccompiler::{BpfProgram, TargetArch, compile_from_json};
use serde_json::{Value, json};

use crate::process::{Process, bare_words};
use crate::programs;
use crate::scenario::Scenario;

/// Lines of `/proc/PID/status`, and what they have to say of a confined program: a filter of system calls is mode 2.
const STATES: [(&str, &str); 6] = [
    ("CapInh:", "0000000000000000"),
    ("CapPrm:", "0000000000000000"),
    ("CapEff:", "0000000000000000"),
    ("CapBnd:", "0000000000000000"),
    ("NoNewPrivs:", "1"),
    ("Seccomp:", "2"),
];

/// What is left to the programs of a scenario.
pub struct Confinement {
    bwrap: PathBuf,
    /// Further options of it.
    options: Vec<OsString>,
    /// For the kernel, with the system calls.
    filter: PathBuf,
}

impl Confinement {
    /// Of `deploy/systemd/UNIT`; only the scenario's directory may be written to. `None`, with the reason printed, where
    /// the machine lacks what it takes.
    ///
    /// # Errors
    /// The unit is not as it should be, or programs are missing that `ADIT_REQUIRE_PROGRAMS=1` asks for.
    pub fn of_unit(scenario: &Scenario, unit: &str) -> Result<Option<Self>> {
        let Some([analyze]) = programs::find(scenario, ["systemd-analyze"])? else {
            return Ok(None);
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
        let text = std::fs::read_to_string(path.join(unit)).context(unit.to_owned())?;
        let calls = allowed_calls(&text, &analyze)?;
        // Groups name calls of other processors as well.
        let known: Vec<&str> = calls.iter().map(String::as_str).collect();
        let known: Vec<&str> = known.into_iter().filter(|call| is_known(call)).collect();
        ensure!(known.len() > 100, "only {known:?} are known");
        let mut options: Vec<OsString> = ["--unshare-user", "--cap-drop", "ALL"]
            .map(Into::into)
            .into();
        options.extend(["--ro-bind", "/", "/", "--dev", "/dev", "--bind"].map(Into::into));
        options.extend([scenario.directory().into(), scenario.directory().into()]);
        Self::new(scenario, options, compile(&known, eperm(), json!("allow"))?)
    }

    /// In which one call is answered with EPERM, as containers do it; all else is as outside.
    ///
    /// # Errors
    /// There is no such call, or programs are missing that `ADIT_REQUIRE_PROGRAMS=1` asks for.
    pub fn without_call(scenario: &Scenario, call: &str) -> Result<Option<Self>> {
        let options = ["--dev-bind", "/", "/"].map(Into::into).into();
        Self::new(
            scenario,
            options,
            compile(&[call], json!("allow"), eperm())?,
        )
    }

    fn new(scenario: &Scenario, options: Vec<OsString>, calls: BpfProgram) -> Result<Option<Self>> {
        let Some([bwrap]) = programs::find(scenario, ["bwrap"])? else {
            return Ok(None);
        };
        let encode = |step: seccompiler::sock_filter| {
            let (code, operand) = (step.code.to_ne_bytes(), step.k.to_ne_bytes());
            [&code[..], &[step.jt, step.jf], &operand].concat()
        };
        let calls: Vec<u8> = calls.into_iter().flat_map(encode).collect();
        // Each of a scenario has a filter of its own.
        let names = (0..).map(|number| format!("filter-{number}.bpf"));
        let name = names.into_iter().find(|name| !scenario.path(name).exists());
        let confinement = Self {
            bwrap,
            options,
            filter: scenario.write(&name.context("numbers do not end")?, calls)?,
        };
        let works = confinement.confine(&Command::new("true")).output();
        if !works.is_ok_and(|output| output.status.success()) {
            return programs::lacking(scenario, "leave to make a sandbox");
        }
        Ok(Some(confinement))
    }

    /// `command` in it. The process that is started stays outside and watches; [`Self::program_of`] is inside.
    #[must_use]
    pub fn confine(&self, command: &Command) -> Command {
        let mut shell = programs::command(Path::new("/bin/sh"));
        // The filter is taken from a descriptor, which a shell opens.
        shell.args(["-c", "exec \"$0\" --seccomp 9 \"$@\" 9<\"$FILTER\""]);
        shell.env("FILTER", &self.filter).arg(&self.bwrap);
        shell.arg("--die-with-parent").args(&self.options).arg("--");
        shell.args(bare_words(command));
        let variables = command.get_envs();
        shell.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        shell
    }

    /// The id of the program that runs confined below a process, whose state is as it should be.
    ///
    /// # Errors
    /// There is none, or it could do more than the unit leaves it.
    pub fn program_of(process: &Process) -> Result<u32> {
        let id = process.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let inside = children.trim().parse().context(children)?;
        let status = std::fs::read_to_string(format!("/proc/{inside}/status"))?;
        for (name, wanted) in STATES {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let state = line.context(name)?.trim();
            ensure!(state == wanted, "{name} {state}, not {wanted}\n{status}");
        }
        Ok(inside)
    }
}

/// The calls that the lines of a unit let through: the first allows, others allow more, and those that begin with
/// `~` take away.
fn allowed_calls(unit: &str, analyze: &Path) -> Result<BTreeSet<String>> {
    let mut calls = BTreeSet::new();
    for line in unit.lines() {
        let Some(words) = line.strip_prefix("SystemCallFilter=") else {
            continue;
        };
        let (is_denial, words) = match words.strip_prefix('~') {
            Some(words) => (true, words),
            None => (false, words),
        };
        ensure!(!is_denial || !calls.is_empty(), "it begins with a denial");
        for word in words.split_whitespace() {
            for call in members(word, analyze)? {
                if is_denial {
                    calls.remove(&call);
                } else {
                    calls.insert(call);
                }
            }
        }
    }
    ensure!(!calls.is_empty(), "the unit lets every call through");
    Ok(calls)
}

/// A call by itself, or all of a group and of the groups in it.
fn members(word: &str, analyze: &Path) -> Result<Vec<String>> {
    if !word.starts_with('@') {
        return Ok(vec![word.to_owned()]);
    }
    let output = Command::new(analyze)
        .args(["syscall-filter", word])
        .output()?;
    ensure!(output.status.success(), "systemd knows no group {word}");
    let text = String::from_utf8(output.stdout)?;
    let mut calls = Vec::new();
    // The group's own name is first; a comment says what it is for.
    for line in text.lines().skip(1).map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') {
            calls.extend(members(line, analyze)?);
        }
    }
    Ok(calls)
}

/// EPERM, as `SystemCallErrorNumber=` says.
fn eperm() -> Value {
    json!({"errno": 1})
}

fn is_known(call: &str) -> bool {
    compile(&[call], json!("allow"), eperm()).is_ok()
}

/// A filter that does one thing with all calls but these.
fn compile(calls: &[&str], others: Value, these: Value) -> Result<BpfProgram> {
    let rules: Vec<_> = calls.iter().map(|call| json!({"syscall": call})).collect();
    let filter = json!({"calls": {
        "mismatch_action": others,
        "match_action": these,
        "filter": rules,
    }});
    let processor = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut programs = compile_from_json(filter.to_string().as_bytes(), processor)?;
    programs.remove("calls").context("no filter was made")
}
