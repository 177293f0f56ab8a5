//! What was measured against what is allowed.

use super::{Budgets, Cost, Toolchain};
use std::fmt;

/// Parts of a hundred by which instructions may rise; more fails. As much less is worth a lower
/// budget, so that it is not lost unnoticed.
pub const TOLERANCE_PERCENT: f64 = 2.0;

/// Budgets have two decimals of an allocation.
const ALLOCATIONS_EXACT_TO: f64 = 0.005;

/// Prints as a table, and behind it whatever there is to do.
#[derive(Debug)]
pub struct Verdict {
    rows: Vec<(String, Cost, Option<Cost>)>,
    /// Why instructions were not held to their budgets; empty when they were.
    pub differences: Vec<String>,
    /// What is over its budget, or has none. Nothing may be.
    pub faults: Vec<String>,
    /// What became cheaper by more than [`TOLERANCE_PERCENT`].
    pub gains: Vec<String>,
}

/// Compares. Allocations are always held to their budgets; instructions only where the toolchain is
/// the one that the budgets were made with.
pub fn judge(budgets: &Budgets, here: &Toolchain, measured: &[(String, Cost)]) -> Verdict {
    let differences = budgets.made_with.differences(here);
    let holds_instructions = differences.is_empty();
    let (mut rows, mut faults, mut gains) = (Vec::new(), Vec::new(), Vec::new());
    for (name, cost) in measured {
        let budget = budgets.budgets.get(name).copied();
        rows.push((name.clone(), *cost, budget));
        let Some(budget) = budget else {
            faults.push(format!("{name} has no budget"));
            continue;
        };
        if cost.allocations > budget.allocations + ALLOCATIONS_EXACT_TO {
            faults.push(format!(
                "{name} allocates {:.2} times a message; its budget is {:.2}",
                cost.allocations, budget.allocations
            ));
        }
        let change = change_percent(*cost, budget);
        if holds_instructions && change > TOLERANCE_PERCENT {
            faults.push(format!(
                "{name} takes {:.1} instructions a message, {change:+.1} % of its budget of {:.1}",
                cost.instructions, budget.instructions
            ));
        }
        if holds_instructions && change < -TOLERANCE_PERCENT {
            gains.push(format!("{name} ({change:+.1} %)"));
        }
    }
    for name in budgets.budgets.keys() {
        if !measured.iter().any(|(measured, _)| measured == name) {
            faults.push(format!("{name} has a budget, but there is no such case"));
        }
    }
    Verdict {
        rows,
        differences,
        faults,
        gains,
    }
}

fn change_percent(cost: Cost, budget: Cost) -> f64 {
    // As exact as budgets are, so that the last decimal alone changes nothing.
    let measured = (10.0 * cost.instructions).round() / 10.0;
    100.0 * (measured - budget.instructions) / budget.instructions
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<46} {:>12} {:>10} {:>8} {:>8} {:>8}",
            "per message", "instructions", "budget", "change", "allocs", "budget"
        )?;
        for (name, cost, budget) in &self.rows {
            write!(f, "{name:<46} {:>12.1}", cost.instructions)?;
            match budget {
                Some(budget) => writeln!(
                    f,
                    " {:>10.1} {:>+6.1} % {:>8.2} {:>8.2}",
                    budget.instructions,
                    change_percent(*cost, *budget),
                    cost.allocations,
                    budget.allocations
                )?,
                None => writeln!(
                    f,
                    " {:>10} {:>8} {:>8.2} {:>8}",
                    "-", "-", cost.allocations, "-"
                )?,
            }
        }
        if !self.differences.is_empty() {
            writeln!(
                f,
                "\nwarning: instructions were not held to their budgets, which were counted elsewhere \
                 ({}).\nRewrite them for here with --write, in a commit of its own.",
                self.differences.join("; ")
            )?;
        }
        section(
            f,
            "cheaper than its budget; lower it with --write:",
            &self.gains,
        )?;
        section(f, "over budget:", &self.faults)?;
        if !self.faults.is_empty() {
            writeln!(
                f,
                "Find the cause, or raise the budget with --write and say why in the commit."
            )?;
        }
        Ok(())
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGETS: &str = r#"
        made_with = { rustc = "1.95.0", cc = "12.2.0", libc = "2.36", valgrind = "3.19.0",
            avx2 = true, architecture = "x86_64" }
        budgets = { relay = { instructions = 100.0, allocations = 0.5 } }
    "#;

    fn verdict(rustc: &str, name: &str, instructions: f64, allocations: f64) -> Verdict {
        let budgets: Budgets = toml::from_str(BUDGETS).expect("budgets");
        let here = BUDGETS.replace("1.95.0", rustc);
        let here: Budgets = toml::from_str(&here).expect("budgets");
        let cost = Cost {
            instructions,
            allocations,
        };
        judge(&budgets, &here.made_with, &[(name.to_owned(), cost)])
    }

    #[test]
    fn up_to_two_percent_more_passes_and_beyond_fails_by_name() {
        for instructions in [98.0, 100.0, 102.0] {
            let verdict = verdict("1.95.0", "relay", instructions, 0.5);
            assert!(
                verdict.faults.is_empty() && verdict.gains.is_empty(),
                "{verdict}"
            );
        }
        let verdict = verdict("1.95.0", "relay", 102.1, 0.5);
        assert_eq!(
            verdict.faults,
            ["relay takes 102.1 instructions a message, +2.1 % of its budget of 100.0"]
        );
    }

    #[test]
    fn more_than_two_percent_less_is_worth_a_lower_budget() {
        let verdict = verdict("1.95.0", "relay", 97.9, 0.5);
        assert_eq!(verdict.gains, ["relay (-2.1 %)"]);
        assert!(verdict.faults.is_empty());
    }

    #[test]
    fn with_another_compiler_only_allocations_are_held() {
        let other = verdict("1.96.0", "relay", 200.0, 0.5);
        assert!(other.faults.is_empty());
        assert!(
            other.to_string().contains("rustc: 1.95.0, here 1.96.0"),
            "{other}"
        );
        let verdict = verdict("1.96.0", "relay", 100.0, 0.51);
        assert_eq!(
            verdict.faults,
            ["relay allocates 0.51 times a message; its budget is 0.50"]
        );
    }

    #[test]
    fn a_case_without_budget_and_a_budget_without_case_fail() {
        let verdict = verdict("1.95.0", "proxy", 1.0, 0.0);
        assert_eq!(
            verdict.faults,
            [
                "proxy has no budget",
                "relay has a budget, but there is no such case"
            ]
        );
    }
}
