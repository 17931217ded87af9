//! Runs each fuzz target for seven seconds: with libFuzzer if a nightly toolchain is installed,
//! else as property tests.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::step::{cargo, command, root, show_and_run, succeeds, target_directory};

/// Seconds per target.
const SECONDS: u32 = 7;

/// Seed of the inputs. If it is set, every run tries the same inputs in the same order.
const SEED: &str = "PROPTEST_RNG_SEED";

/// Flags of cargo-fuzz: coverage for libFuzzer, AddressSanitizer, and the checks of a debug build.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "--cfg=fuzzing",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "-Zsanitizer=address",
];

/// Runs all targets.
///
/// # Errors
/// When a target fails. libFuzzer prints the path of the input.
pub(crate) fn run() -> Result<()> {
    let available = |program: &str, arguments: &[&str]| succeeds(&mut command(program, arguments));
    if let Some(missing) = missing(available) {
        println!("    {missing}: running the targets as property tests instead");
        return property_tests(None);
    }
    let corpus = root().join("fuzz/corpus");
    property_tests(Some(&corpus.to_string_lossy()))?;
    let folder = target_directory()?.join("fuzz");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    show_and_run(
        command("rustup", &["run", "nightly", "cargo", "build", "--release"])
            .args(["--manifest-path=fuzz/Cargo.toml", "--bins"])
            .args(["--target", &triple])
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTFLAGS", FLAGS.join(" ")),
    )?;
    for target in targets()? {
        let program = folder.join(&triple).join("release").join(&target);
        search(&target, &program, &corpus.join(&target))?;
    }
    Ok(())
}

/// Runs one target with its output in a log file.
fn search(target: &str, program: &Path, corpus: &Path) -> Result<()> {
    let artifacts = root().join("fuzz/artifacts").join(target);
    fs::create_dir_all(&artifacts)?;
    let log = artifacts.join("log");
    let mut search = command(&program.to_string_lossy(), &[]);
    search
        .arg(format!("-max_total_time={SECONDS}"))
        .args(["-print_funcs=0", "-timeout=10", "-malloc_limit_mb=64"])
        .arg(format!("-artifact_prefix={}/", artifacts.display()));
    if let Ok(seed) = std::env::var(SEED) {
        search.arg(format!("-seed={seed}"));
    }
    let outcome = show_and_run(search.arg(corpus).stderr(File::create(&log)?));
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    if outcome.is_err() {
        let tail = &lines[lines.len().saturating_sub(50)..];
        println!("{}\n    full log: {}", tail.join("\n"), log.display());
    } else if let Some(done) = lines.iter().find(|line| line.contains("\tDONE")) {
        println!("    {done}");
    }
    outcome.with_context(|| {
        format!("fuzz target {target}; fuzz/README.md explains how to reproduce the failure")
    })
}

/// The missing requirement of libFuzzer, if any.
fn missing(available: impl Fn(&str, &[&str]) -> bool) -> Option<&'static str> {
    if !available("rustup", &["run", "nightly", "rustc", "-V"]) {
        Some("no nightly toolchain (rustup toolchain install nightly)")
    } else if !available("c++", &["--version"]) {
        Some("no C++ compiler (apt-get install g++)")
    } else {
        None
    }
}

/// Runs the targets as property tests on their seeds; writes the seeds to a folder if one is given.
fn property_tests(seeds_to: Option<&str>) -> Result<()> {
    let packages = ["-p", "ferrolb-bgp", "-p", "ferrolb-layer2"];
    let mut test = cargo(&["test", "-q", "--test", "fuzz_targets"]);
    test.args(packages);
    if let Some(folder) = seeds_to {
        test.env("FERROLB_SEEDS_TO", folder);
    }
    show_and_run(&mut test)
}

/// Names of the targets: the names of their files.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets")).context("fuzz/fuzz_targets")? {
        let path = entry?.path();
        names.extend(
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
        );
    }
    ensure!(!names.is_empty(), "no target in fuzz/fuzz_targets");
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_nightly_or_a_compiler_the_targets_run_as_property_tests() {
        let without = |gone: &str| missing(|program, _| program != gone).unwrap_or_default();
        assert!(without("rustup").contains("rustup toolchain install nightly"));
        assert!(without("c++").contains("apt-get install g++"));
        assert_eq!(missing(|_, _| true), None);
        // The check is for the nightly toolchain, not for rustup.
        assert!(missing(|_, arguments| !arguments.contains(&"nightly")).is_some());
    }

    #[test]
    fn every_target_is_also_a_property_test() {
        let bodies = [
            "bgp/tests/fuzz_targets/bodies/mod.rs",
            "layer2/tests/fuzz_targets/bodies/mod.rs",
        ];
        let tests = bodies.map(|path| fs::read_to_string(root().join(path)));
        let tests = tests.map(|text| text.expect("the property tests")).concat();
        for target in targets().expect("targets") {
            assert!(
                tests.contains(&format!("\"{target}\"")),
                "{target} is no property test"
            );
        }
    }
}
