//! The arguments of ferrolb's workloads that decisions depend on.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::core::index::Index;

/// The containers of a workload.
pub(super) fn containers(workload: &Value) -> impl Iterator<Item = &Value> {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array();
    containers.into_iter().flatten()
}

/// The arguments of a workload that ferrolb has as well, under the same names.
pub(super) fn flags(workload: &Value) -> BTreeSet<String> {
    let arguments = containers(workload)
        .filter_map(|container| container["args"].as_array())
        .flatten();
    arguments
        .filter_map(Value::as_str)
        .filter(|flag| flag.starts_with("--lb-class=") || flag.starts_with("--ignore-exclude-lb"))
        .map(|flag| flag.trim_end_matches("=true").to_owned())
        .filter(|flag| flag != "--lb-class=" && !flag.ends_with("=false"))
        .collect()
}

/// The flags that all workloads have.
pub(super) fn common_flags<'a>(workloads: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut all = workloads.into_iter().map(flags);
    let first = all.next().unwrap_or_default();
    all.fold(first, |common, flags| &common & &flags)
}

/// An empty index for predictions, as a process with these flags has it.
pub(super) fn index_with(flags: &BTreeSet<String>) -> Index {
    let mut values = flags.iter();
    let class = values.find_map(|flag| flag.strip_prefix("--lb-class="));
    Index::for_prediction()
        .ignoring_exclusion(flags.contains("--ignore-exclude-lb"))
        .in_charge_of(class)
}
