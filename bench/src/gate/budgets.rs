//! The committed file.

use super::Toolchain;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;

/// What one message costs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Instructions in user space.
    pub instructions: f64,
    /// Allocations, growing what there is included.
    pub allocations: f64,
}

/// `budgets.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// Where the instructions were counted.
    pub made_with: Toolchain,
    /// By name of the case.
    pub budgets: BTreeMap<String, Cost>,
}

impl Budgets {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(path: &str) -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("{path}: {error}; make it with --write"))?;
        toml::from_str(&text).map_err(|error| format!("{path}: {error}").into())
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str) -> Result<(), Box<dyn Error>> {
        fs::write(path, self.text()?).map_err(|error| format!("{path}: {error}").into())
    }

    fn text(&self) -> Result<String, Box<dyn Error>> {
        #[derive(Serialize)]
        struct Head<'a> {
            made_with: &'a Toolchain,
        }
        let head = toml::to_string(&Head {
            made_with: &self.made_with,
        })?;
        // By hand: one line for each, so that a change is one line too.
        let mut text = format!("{INTRODUCTION}{head}\n[budgets]\n");
        for (name, cost) in &self.budgets {
            let Cost {
                instructions,
                allocations,
            } = cost;
            writeln!(
                text,
                "\"{name}\" = {{ instructions = {instructions:.1}, allocations = {allocations:.2} }}"
            )?;
        }
        Ok(text)
    }
}

const INTRODUCTION: &str = "\
# What one message of each case may cost. Rewritten whole by
#     cargo bench -p adit-bench --bench gate -- --write
# A commit that raises a budget says why. README.md says what the cases hold fixed.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() -> Result<(), Box<dyn Error>> {
        let text = "[made_with]\nrustc = \"1.95.0\"\ncc = \"12.2.0\"\nlibc = \"2.36\"\n\
                    valgrind = \"3.19.0\"\navx2 = true\narchitecture = \"x86_64\"\n\n\
                    [budgets]\n\
                    \"relay/data/64_B\" = { instructions = 81.5, allocations = 0.00 }\n\
                    \"sigv4/sign\" = { instructions = 9000.0, allocations = 31.25 }\n";
        let budgets: Budgets = toml::from_str(text)?;
        assert_eq!(budgets.budgets["sigv4/sign"].allocations, 31.25);
        assert_eq!(budgets.text()?, format!("{INTRODUCTION}{text}"));
        Ok(())
    }
}
