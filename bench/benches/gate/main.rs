//! The gate: instructions and allocations of the hot paths, for each message, against the budgets in
//! `bench/budgets.toml`. Time never decides: it differs from run to run on one machine, these do not.
//!
//! ```text
//! cargo bench -p adit-bench --bench gate               check; fails over a budget
//! cargo bench -p adit-bench --bench gate -- --write    replace all budgets by what is measured
//! ```

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod allocations;
mod instructions;

use adit_bench::gate::{Budgets, Cost, Toolchain, judge};
use adit_bench::gated;
use std::error::Error;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the gate could not measure: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every case is within its budget.
fn run() -> Result<bool, Box<dyn Error>> {
    let mut writes = false;
    for argument in std::env::args().skip(1) {
        match &*argument {
            "--write" => writes = true,
            // Cargo's own.
            "--bench" => {}
            other => return Err(format!("`{other}` is no argument of the gate; --write is").into()),
        }
    }
    let here = Toolchain::of_this_machine()?;
    let measured = measure()?;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/budgets.toml");
    if writes {
        let budgets = Budgets {
            made_with: here,
            budgets: measured.into_iter().collect(),
        };
        budgets.write(path)?;
        println!("wrote {} budgets", budgets.budgets.len());
        return Ok(true);
    }
    let verdict = judge(&Budgets::read(path)?, &here, &measured);
    println!("{verdict}");
    Ok(verdict.faults.is_empty())
}

/// The cost of each case, in their order.
fn measure() -> Result<Vec<(String, Cost)>, Box<dyn Error>> {
    let cases = gated();
    let allocations: Vec<f64> = cases.iter().map(allocations::per_message).collect();
    let instructions = instructions::of_all(cases.len())?;
    let costs = cases.iter().zip(instructions).zip(allocations);
    Ok(costs
        .map(|((case, instructions), allocations)| {
            let cost = Cost {
                instructions: instructions as f64 / case.messages as f64,
                allocations,
            };
            (case.name.clone(), cost)
        })
        .collect())
}
