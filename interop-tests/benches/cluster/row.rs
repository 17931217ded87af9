//! The lines that `cargo xtask bench` reads.

use serde_json::{Value, json};

/// Prints a measurement. `serde_json` would sort an object's keys; here they stay in the order given.
pub(crate) fn print(benchmark: &str, columns: &[(&str, Value)]) {
    let columns: String = columns
        .iter()
        .map(|(key, value)| format!(",{}:{value}", json!(key)))
        .collect();
    println!("{{\"benchmark\":{}{columns}}}", json!(benchmark));
}
