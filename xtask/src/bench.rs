//! Runs every `[[bench]]` of the workspace, and those of `benches/*` beside it, and writes what they
//! measured into docs/benchmarks.md, each into a part of its own.
//!
//! A benchmark prints one JSON object per measurement on a line of its own, with its name under
//! `benchmark` and whatever it measured under other keys:
//! `{"benchmark":"update_encode","peers":4,"prefixes_per_second":1234567}`. Each name becomes a
//! table, each key a column. A new benchmark needs nothing here.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Map, Value};

use crate::step::{cargo, command, output, root, target_directory};
use crate::{setup, test};

const PAGE: &str = "docs/benchmarks.md";
/// Packages outside the workspace, for what only a benchmark depends on.
const APART: &str = "benches";
/// The benchmark that runs a GoBGP which Debian does not have.
const GOBGP_USER: &str = "bgp";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these benchmarks; all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Handed to the benchmark; what it measures then goes to the terminal only
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// A bench target.
struct Target {
    package: String,
    name: String,
    /// Its manifest, if it is outside the workspace.
    manifest: Option<PathBuf>,
    /// It needs root, namespaces and the release binary.
    lab: bool,
}

/// One measurement: its columns in the order in which they were printed.
struct Row {
    benchmark: String,
    columns: Vec<(String, Value)>,
}

/// Runs those that were named, or all.
///
/// # Errors
/// When one fails or prints something that isn't a measurement, or the page can't be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut targets = targets()?;
    for name in &options.names {
        let known = targets.iter().any(|target| target.name == *name);
        let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        ensure!(
            known,
            "no benchmark {name}; there are: {}",
            names.join(", ")
        );
    }
    targets.retain(|target| options.names.is_empty() || options.names.contains(&target.name));
    ensure!(!targets.is_empty(), "no [[bench]] in the workspace");
    if targets.iter().any(|target| target.lab) {
        test::prepare(test::Step::Lab.needs())?;
    }
    let path = root().join(PAGE);
    for target in &targets {
        println!("\n==> {} of {}", target.name, target.package);
        let rows = measure(target, &options.arguments)?;
        ensure!(!rows.is_empty(), "{} printed no measurement", target.name);
        if !options.arguments.is_empty() {
            continue; // a part of it is no replacement for the whole
        }
        let old = fs::read_to_string(&path).unwrap_or_else(|_| "# Benchmarks\n".to_owned());
        let measured = format!("{}\n{}", machine()?, tables(&rows));
        fs::write(&path, replace(&old, &target.name, &measured))
            .with_context(|| format!("write {}", path.display()))?;
        println!("\n{} measurements written to {PAGE}", rows.len());
    }
    Ok(())
}

fn targets() -> Result<Vec<Target>> {
    let mut targets = targets_of(None)?;
    let apart = root().join(APART);
    let mut folders: Vec<PathBuf> = fs::read_dir(&apart)
        .with_context(|| format!("read {}", apart.display()))?
        .map(|entry| Ok(entry?.path().join("Cargo.toml")))
        .collect::<Result<_>>()?;
    folders.sort();
    for manifest in folders {
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

/// Runs one target, showing its output as it comes.
fn measure(target: &Target, arguments: &[String]) -> Result<Vec<Row>> {
    let mut bench = cargo(&["bench", "-p", &target.package, "--bench", &target.name]);
    if let Some(manifest) = &target.manifest {
        bench.arg("--manifest-path").arg(manifest);
        bench.env("CARGO_TARGET_DIR", target_directory()?.join("apart"));
    }
    if target.lab {
        bench.args(["--features", "lab"]);
        bench.env("FERROLB_BIN", test::binary_path()?);
        if target.name == GOBGP_USER {
            bench.env("GOBGP4_FOLDER", setup::gobgp()?);
        }
    }
    bench.arg("--").args(arguments);
    let mut child = bench.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("no stdout")?;
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
        serde_json::from_str(line).with_context(|| format!("not a measurement: {line}"))?;
    let benchmark = object.remove("benchmark");
    let benchmark = benchmark
        .as_ref()
        .and_then(Value::as_str)
        .with_context(|| format!("no name under \"benchmark\": {line}"))?
        .to_owned();
    // serde_json sorts keys by name; the one who prints them has thought about their order.
    let mut columns: Vec<(String, Value)> = object.into_iter().collect();
    columns.sort_by_key(|(key, _)| line.find(&format!("\"{key}\":")));
    Ok(Row { benchmark, columns })
}

/// One table per benchmark and set of columns, in the order in which they first came.
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

/// A value with its thousands set apart.
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

/// Numbers mean little without where they come from.
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
        .unwrap_or_else(|| "unknown processor".to_owned());
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

/// The page with a new part of one benchmark; it goes to the end of a page that has none. What stands
/// between its two comments is written anew, the rest of the page is people's.
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
    fn rows_become_tables_in_the_order_printed() {
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
    fn a_line_without_a_name_is_refused() {
        assert!(row(r#"{"peers":4}"#).is_err());
        assert!(row("{peers").is_err());
    }

    #[test]
    fn only_the_measured_part_of_the_page_changes() {
        let part = |name: &str, text: &str| {
            format!(
                "<!-- cargo xtask bench {name}: begin -->\n{text}\n<!-- cargo xtask bench {name}: end -->"
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
