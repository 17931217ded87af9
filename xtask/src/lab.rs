//! `cargo xtask test lab`: runs the programs of the lab's tests, several at the same time.

use std::process::Output;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::step::{cargo, output, seconds, show_and_run};
use crate::test::lab_test;

/// The package of the lab's tests.
const PACKAGE: &str = "ferrolb-interop-tests";
/// Programs that run at the same time. Most of a test is waiting.
const LANES: usize = 2;

/// The test programs of the lab.
struct Programs {
    /// Those that may run at the same time.
    together: Vec<String>,
    /// Those that run alone, because they use all CPUs.
    alone: Vec<String>,
}

/// Runs all tests with one of these filters in their name, or all.
///
/// # Errors
/// When a test fails or can't be built, with the names of the programs that failed.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    show_and_run(lab_test("lab", &[])?.arg("--no-run"))?;
    let metadata = output(&mut cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let programs = programs(&serde_json::from_str(&metadata)?)?;
    let mut outcome = run_at_once(&programs.together, LANES, filters)?;
    outcome.add(run_at_once(&programs.alone, 1, filters)?);
    ensure!(
        outcome.failed.is_empty(),
        "failed: {}; to repeat one test: cargo xtask test lab -- PART_OF_ITS_NAME",
        outcome.failed.join(", ")
    );
    ensure!(
        outcome.tests > 0,
        "no test has one of these in its name: {filters:?}"
    );
    Ok(())
}

/// The test programs that require the feature `lab`, by the output of `cargo metadata`.
fn programs(metadata: &Value) -> Result<Programs> {
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let package = packages.find(|package| package["name"] == PACKAGE);
    let package = package.with_context(|| format!("no package {PACKAGE}"))?;
    let names = |list: &Value| -> Vec<String> {
        let names = list.as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let targets = package["targets"].as_array().into_iter().flatten();
    let lab = targets.filter(|target| names(&target["required-features"]).contains(&"lab".into()));
    let all: Vec<String> = lab
        .filter_map(|target| target["name"].as_str())
        .map(str::to_owned)
        .collect();
    let listed = names(&package["metadata"]["lab"]["alone"]);
    for name in &listed {
        ensure!(all.contains(name), "alone: no test {name}");
    }
    let (alone, together) = all.into_iter().partition(|name| listed.contains(name));
    Ok(Programs { together, alone })
}

/// What programs did.
#[derive(Debug, Default)]
struct Outcome {
    /// How many tests passed, in programs that did not fail.
    tests: usize,
    /// The programs that failed.
    failed: Vec<String>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.tests += other.tests;
        self.failed.extend(other.failed);
    }
}

/// Runs programs in this order, `lanes` at the same time.
///
/// # Errors
/// When a program can't be started.
fn run_at_once(programs: &[String], lanes: usize, filters: &[String]) -> Result<Outcome> {
    let queue = Mutex::new(programs.iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let lane = || -> Result<Outcome> {
        let mut outcome = Outcome::default();
        while let Some(program) = next() {
            outcome.add(run_program(program, filters)?);
        }
        Ok(outcome)
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        let mut outcome = Outcome::default();
        for lane in lanes {
            let result = lane.join();
            outcome.add(result.map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        }
        Ok(outcome)
    })
}

/// Runs the tests of a program one after another, and prints the result.
fn run_program(name: &str, filters: &[String]) -> Result<Outcome> {
    println!("    started {name}");
    let start = Instant::now();
    let mut command = lab_test("lab", &[name])?;
    command.args(["--", "--test-threads=1"]).args(filters);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().with_context(|| format!("run {name}"))?;
    let stdout = String::from_utf8_lossy(&stdout);
    let took = seconds(start.elapsed());
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        println!("    FAILED  {name} ({took})\n{stdout}\n{stderr}");
        let failed = vec![name.to_owned()];
        return Ok(Outcome { tests: 0, failed });
    }
    let tests = stdout.lines().filter(|line| line.ends_with(" ... ok"));
    let tests: Vec<String> = tests.map(|line| format!("\n        {line}")).collect();
    println!("    passed  {name} ({took}){}", tests.concat());
    Ok(Outcome {
        tests: tests.len(),
        failed: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_of_the_lab_are_read_from_the_manifest() {
        let target =
            |name: &str, feature: &str| json!({"name": name, "required-features": [feature]});
        let package = |alone: &[&str]| {
            json!({"packages": [
                {"name": "other", "targets": [target("x", "lab")]},
                {
                    "name": PACKAGE,
                    "metadata": {"lab": {"alone": alone}},
                    "targets": [
                        target("b", "lab"), target("a", "lab"), target("c", "lab"),
                        target("containers", "containers"), {"name": "lib"},
                    ],
                },
            ]})
        };
        let found = programs(&package(&["a"])).expect("valid");
        assert_eq!(found.together, ["b", "c"]);
        assert_eq!(found.alone, ["a"]);
        let error = programs(&package(&["missing"])).err();
        let error = error.expect("an unknown program").to_string();
        assert_eq!(error, "alone: no test missing");
    }
}
