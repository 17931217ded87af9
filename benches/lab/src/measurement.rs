//! Output format of the benchmarks: one JSON object per line, which `cargo xtask bench` reads.

use serde_json::{Value, json};

/// Prints a measurement. `serde_json` sorts the keys of an object; this keeps the given order,
/// which is the order of the columns in docs/benchmarks.md.
pub fn print(benchmark: &str, columns: &[(&str, Value)]) {
    let columns: String = columns
        .iter()
        .map(|(key, value)| format!(",{}:{value}", json!(key)))
        .collect();
    println!("{{\"benchmark\":{}{columns}}}", json!(benchmark));
}
