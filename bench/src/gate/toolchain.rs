//! What counts of instructions depend on beside the code.

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::process::Command;

/// What made a program and ran it. Counts are held to budgets only where all of it is the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Toolchain {
    rustc: String,
    /// The C compiler, which builds the cryptography.
    cc: String,
    /// It has `memcpy`, and one for each kind of processor.
    libc: String,
    /// It shows programs a processor of its own, of one of three kinds.
    valgrind: String,
    /// Whether the processor has AVX2: which of valgrind's kinds it is.
    avx2: bool,
    architecture: String,
}

impl Toolchain {
    /// What there is here.
    ///
    /// # Errors
    /// When one of the programs is not installed or says no version.
    pub fn of_this_machine() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            rustc: version("rustc", "the Rust toolchain")?,
            cc: version("cc", "gcc or another C compiler")?,
            libc: version("ldd", "libc-bin")?,
            valgrind: version("valgrind", "valgrind")?,
            avx2: has_avx2(),
            architecture: std::env::consts::ARCH.to_owned(),
        })
    }

    /// What differs, as `name: theirs, here ours`.
    pub fn differences(&self, here: &Self) -> Vec<String> {
        let fields = [
            ("rustc", &self.rustc, &here.rustc),
            ("cc", &self.cc, &here.cc),
            ("libc", &self.libc, &here.libc),
            ("valgrind", &self.valgrind, &here.valgrind),
            ("architecture", &self.architecture, &here.architecture),
            ("avx2", &self.avx2.to_string(), &here.avx2.to_string()),
        ];
        fields
            .into_iter()
            .filter(|(_, theirs, ours)| theirs != ours)
            .map(|(name, theirs, ours)| format!("{name}: {theirs}, here {ours}"))
            .collect()
    }
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn version(program: &str, package: &str) -> Result<String, Box<dyn Error>> {
    let missing = |error| format!("`{program} --version` failed ({error}); install {package}");
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(missing)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    let version = version_in(line)
        .ok_or_else(|| format!("`{program} --version` names no version: {line:?}"))?;
    Ok(version.to_owned())
}

/// The first number with a dot that is not part of what stands in parentheses.
fn version_in(line: &str) -> Option<&str> {
    let mut depth = 0;
    line.split([' ', '-']).find(|word| {
        depth += word.matches('(').count();
        let is_inside = depth > 0;
        depth -= word.matches(')').count();
        !is_inside && word.contains('.') && word.bytes().any(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let theirs = Toolchain {
            rustc: "1.95.0".to_owned(),
            cc: "12.2.0".to_owned(),
            libc: "2.36".to_owned(),
            valgrind: "3.19.0".to_owned(),
            avx2: true,
            architecture: "x86_64".to_owned(),
        };
        assert!(theirs.differences(&theirs).is_empty());
        let here = Toolchain {
            rustc: "1.96.0".to_owned(),
            avx2: false,
            ..theirs.clone()
        };
        assert_eq!(
            theirs.differences(&here),
            ["rustc: 1.95.0, here 1.96.0", "avx2: true, here false"]
        );
    }

    #[test]
    fn versions_are_found_among_other_words() {
        for (line, version) in [
            ("rustc 1.95.0 (59807616e 2026-04-14)", "1.95.0"),
            ("valgrind-3.19.0", "3.19.0"),
            ("cc (Debian 12.2.0-14+deb12u1) 12.2.0", "12.2.0"),
            ("ldd (Debian GLIBC 2.36-9+deb12u13) 2.36", "2.36"),
        ] {
            assert_eq!(version_in(line), Some(version), "{line}");
        }
        assert_eq!(version_in("none to be seen"), None);
    }
}
