//! Results of both systems, printed side by side.

use anyhow::{Context, Result, ensure};
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::statistics::rounded;
use serde_json::{Value, json};

/// One measured value of one system.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) measured: &'static str,
    /// The number of Services.
    pub(crate) services: usize,
    /// The unit; empty for a count.
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

impl Row {
    /// A time or another value of which less is better.
    pub(crate) const fn new(
        measured: &'static str,
        services: usize,
        unit: &'static str,
        value: f64,
    ) -> Self {
        Self {
            measured,
            services,
            unit,
            value,
        }
    }
}

/// Prints the rows of both systems, which measured the same in the same order.
pub(crate) fn print(ferrolb: &[Row], metallb: &[Row]) -> Result<()> {
    ensure!(
        ferrolb.len() == metallb.len(),
        "{} rows of ferrolb, {} of MetalLB",
        ferrolb.len(),
        metallb.len()
    );
    for ours in ferrolb {
        let same = |row: &&Row| (row.measured, row.services) == (ours.measured, ours.services);
        let theirs = metallb.iter().find(same);
        let theirs = theirs.with_context(|| format!("no {} of MetalLB", ours.measured))?;
        measurement::print(
            "beside_metallb",
            &[
                ("measured", json!(ours.measured)),
                ("Services", json!(ours.services)),
                ("unit", json!(ours.unit)),
                ("ferrolb", json!(rounded(ours.value))),
                ("MetalLB 0.14.9", json!(rounded(theirs.value))),
                ("MetalLB / ferrolb", ratio(ours.value, theirs.value)),
            ],
        );
    }
    Ok(())
}

/// How many times as much the other value is, with two decimals; empty if one is not positive.
fn ratio(ours: f64, theirs: f64) -> Value {
    if ours > 0.0 && theirs > 0.0 {
        json!((theirs / ours * 100.0).round() / 100.0)
    } else {
        json!("")
    }
}
