//! `cargo xtask bench`: runs the benchmarks and writes their results into docs/benchmarks.md.
//!
//! Runs every `[[bench]]` of the workspace and of the packages in `benches/` outside of it. A
//! benchmark prints one JSON object per measurement on a line of its own, its name under the key
//! `benchmark` and the measured values under other keys:
//! `{"benchmark":"update_encode","peers":4,"prefixes_per_second":1234567}`. Each name becomes a
//! table, each key a column. A new benchmark needs no change here.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Map, Value};

use crate::step::{cargo, command, output, root, show_and_run, target_directory};
use crate::{setup, test};

const PAGE: &str = "docs/benchmarks.md";
/// Folder of the benchmark packages. Those outside the workspace have dependencies that nothing
/// else needs.
const PACKAGES: &str = "benches";
/// The benchmark that also measures a newer GoBGP than Debian's.
const NEEDS_GOBGP4: &str = "bgp";

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only these benchmarks (default: all)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Arguments for the benchmark; its results are then printed but not written to
    /// docs/benchmarks.md
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// A `[[bench]]` target.
struct Target {
    package: String,
    name: String,
    /// Path of its manifest if it is outside the workspace.
    manifest: Option<PathBuf>,
    /// Whether it needs root, network namespaces and the release binary.
    lab: bool,
}

/// One measurement; the columns are in the printed order.
struct Row {
    benchmark: String,
    columns: Vec<(String, Value)>,
}

/// Runs the named benchmarks, or all.
///
/// # Errors
/// When a benchmark fails or prints an invalid measurement, or the page can't be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut targets = targets()?;
    for name in &options.names {
        let known = targets.iter().any(|target| target.name == *name);
        let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        ensure!(
            known,
            "unknown benchmark {name}; known are: {}",
            names.join(", ")
        );
    }
    targets.retain(|target| options.names.is_empty() || options.names.contains(&target.name));
    ensure!(!targets.is_empty(), "there is no [[bench]] target");
    if targets.iter().any(|target| target.lab) {
        test::prepare(test::Step::Lab.needs())?;
        build_traffic_program()?;
    }
    let path = root().join(PAGE);
    for target in &targets {
        println!("\n==> {} ({})", target.name, target.package);
        let rows = measure(target, &options.arguments)?;
        ensure!(
            !rows.is_empty(),
            "benchmark {} printed no measurement",
            target.name
        );
        if !options.arguments.is_empty() {
            continue; // the results may be incomplete
        }
        let old = fs::read_to_string(&path).unwrap_or_else(|_| "# Benchmarks\n".to_owned());
        let measured = format!("{}\n{}", machine()?, tables(&rows));
        fs::write(&path, replace(&old, &target.name, &measured))
            .with_context(|| format!("write {}", path.display()))?;
        println!("\nwrote {} measurements to {PAGE}", rows.len());
    }
    Ok(())
}

fn targets() -> Result<Vec<Target>> {
    let mut targets = targets_of(None)?;
    let packages = root().join(PACKAGES);
    let mut manifests: Vec<PathBuf> = fs::read_dir(&packages)
        .with_context(|| format!("read {}", packages.display()))?
        .map(|entry| Ok(entry?.path().join("Cargo.toml")))
        .collect::<Result<_>>()?;
    manifests.sort();
    for manifest in manifests {
        targets.extend(targets_of(Some(&manifest))?);
    }
    Ok(targets)
}

fn targets_of(manifest: Option<&Path>) -> Result<Vec<Target>> {
    let mut metadata = cargo(&["metadata", "--no-deps", "--format-version=1"]);
    if let Some(manifest) = manifest {
        metadata.arg("--manifest-path").arg(manifest);
    }
    let metadata: Value = serde_json::from_str(&output(&mut metadata)?)?;
    let mut targets = Vec::new();
    if manifest.is_some() && metadata["workspace_root"].as_str().map(Path::new) == Some(root()) {
        return Ok(targets); // a member of the workspace
    }
    for package in array(&metadata["packages"]) {
        for target in array(&package["targets"]) {
            if array(&target["kind"]).iter().any(|kind| kind == "bench") {
                targets.push(Target {
                    package: package["name"].as_str().context("name")?.to_owned(),
                    name: target["name"].as_str().context("name")?.to_owned(),
                    manifest: manifest.map(Path::to_path_buf),
                    lab: array(&target["required-features"])
                        .iter()
                        .any(|feature| feature == "lab"),
                });
            }
        }
    }
    Ok(targets)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The client program that the lab's benchmarks run beside their own.
fn build_traffic_program() -> Result<()> {
    let package = ["-p", "ferrolb-interop-tests", "--bin", "lab-traffic"];
    show_and_run(cargo(&["build", "--release"]).args(package))
}

/// Runs one target, prints its output as it arrives and returns the measurements.
fn measure(target: &Target, arguments: &[String]) -> Result<Vec<Row>> {
    let mut bench = cargo(&["bench", "-p", &target.package, "--bench", &target.name]);
    if let Some(manifest) = &target.manifest {
        bench.arg("--manifest-path").arg(manifest);
        bench.env("CARGO_TARGET_DIR", target_directory()?.join("apart"));
    }
    if target.lab {
        bench.args(["--features", "lab"]);
        bench.env("FERROLB_BIN", test::binary_path()?);
        bench.env("METALLB_FOLDER", setup::metallb_folder()?);
        if target.name == NEEDS_GOBGP4 {
            bench.env("GOBGP4_FOLDER", setup::gobgp()?);
        }
    }
    bench.arg("--").args(arguments);
    let mut child = bench.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut rows = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("    {line}");
        if line.starts_with('{') {
            rows.push(row(&line)?);
        }
    }
    let status = child.wait()?;
    ensure!(
        status.success(),
        "{} of {}: {status}",
        target.name,
        target.package
    );
    Ok(rows)
}

fn row(line: &str) -> Result<Row> {
    let mut object: Map<String, Value> =
        serde_json::from_str(line).with_context(|| format!("invalid measurement: {line}"))?;
    let benchmark = object.remove("benchmark");
    let benchmark = benchmark
        .as_ref()
        .and_then(Value::as_str)
        .with_context(|| format!("a measurement needs the key \"benchmark\": {line}"))?
        .to_owned();
    // serde_json sorts keys by name; restore the printed order.
    let mut columns: Vec<(String, Value)> = object.into_iter().collect();
    columns.sort_by_key(|(key, _)| line.find(&format!("\"{key}\":")));
    Ok(Row { benchmark, columns })
}

/// One table per benchmark and set of columns, in the order of their first rows.
fn tables(rows: &[Row]) -> String {
    let mut tables: Vec<(String, String)> = Vec::new();
    for row in rows {
        let keys: Vec<&str> = row.columns.iter().map(|(key, _)| key.as_str()).collect();
        let header = format!(
            "\n### {}\n\n| {} |\n|{}\n",
            row.benchmark,
            keys.join(" | ").replace('_', " "),
            "---|".repeat(keys.len())
        );
        let values: Vec<String> = row.columns.iter().map(|(_, value)| cell(value)).collect();
        let line = format!("| {} |\n", values.join(" | "));
        match tables.iter_mut().find(|(known, _)| *known == header) {
            Some((_, lines)) => lines.push_str(&line),
            None => tables.push((header, line)),
        }
    }
    tables
        .into_iter()
        .map(|(header, lines)| header + &lines)
        .collect()
}

/// A table cell; numbers get thousands separators.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::String(text) => return text.clone(),
        other => other.to_string(),
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits);
    let grouped: Vec<&str> = whole
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    grouped.join(",") + rest
}

/// Date, commit and machine of a run.
fn machine() -> Result<String> {
    let processor = fs::read_to_string("/proc/cpuinfo")?
        .lines()
        .find_map(|line| {
            Some(
                line.strip_prefix("model name")?
                    .split_once(": ")?
                    .1
                    .to_owned(),
            )
        })
        .unwrap_or_else(|| "an unknown processor".to_owned());
    let cores = std::thread::available_parallelism()?;
    let one_line = |program: &str, arguments: &[&str]| -> Result<String> {
        Ok(output(&mut command(program, arguments))?.trim().to_owned())
    };
    Ok(format!(
        "Written by `cargo xtask bench` on {}, commit {}:\n\
         {cores} cores of {processor}, Linux {}, {}.",
        one_line("date", &["-u", "+%F"])?,
        one_line("git", &["describe", "--always", "--dirty"])?,
        one_line("uname", &["-r"])?,
        one_line("rustc", &["--version"])?,
    ))
}

/// Replaces the section of one benchmark, which is delimited by two comments. A page without that
/// section gets it at the end. The rest of the page is written by hand and stays.
fn replace(page: &str, name: &str, measured: &str) -> String {
    let [begin, end] =
        ["begin", "end"].map(|what| format!("<!-- cargo xtask bench {name}: {what} -->"));
    let part = format!("{begin}\n{measured}\n{end}");
    match (page.find(&begin), page.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            format!("{}{part}{}", &page[..from], &page[to + end.len()..])
        }
        _ => format!("{}\n\n{part}\n", page.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_the_order_of_rows_and_columns() {
        let lines = [
            r#"{"benchmark":"encode","peers":100,"family":"ipv4","prefixes_per_second":1234567}"#,
            r#"{"benchmark":"memory","megabytes":1234.5}"#,
            r#"{"benchmark":"encode","peers":4,"family":"ipv6","prefixes_per_second":999}"#,
        ];
        let rows: Vec<Row> = lines.iter().map(|line| row(line).unwrap()).collect();
        assert_eq!(
            tables(&rows),
            "\n### encode\n\n| peers | family | prefixes per second |\n|---|---|---|\n\
             | 100 | ipv4 | 1,234,567 |\n| 4 | ipv6 | 999 |\n\
             \n### memory\n\n| megabytes |\n|---|\n| 1,234.5 |\n"
        );
    }

    #[test]
    fn a_measurement_without_a_name_is_an_error() {
        assert!(row(r#"{"peers":4}"#).is_err());
        assert!(row("{peers").is_err());
    }

    #[test]
    fn only_the_section_of_the_benchmark_changes() {
        let part = |name: &str, text: &str| {
            format!(
                "<!-- cargo xtask bench {name}: begin -->\n{text}\n\
                 <!-- cargo xtask bench {name}: end -->"
            )
        };
        let first = replace("# Benchmarks\n\nWhy.\n", "a", "one");
        assert_eq!(
            first,
            format!("# Benchmarks\n\nWhy.\n\n{}\n", part("a", "one"))
        );
        let second = replace(&format!("{first}\nAfterwards.\n"), "b", "two");
        let third = replace(&second, "a", "three");
        assert_eq!(
            third,
            format!(
                "# Benchmarks\n\nWhy.\n\n{}\n\nAfterwards.\n\n{}\n",
                part("a", "three"),
                part("b", "two")
            )
        );
    }
}
