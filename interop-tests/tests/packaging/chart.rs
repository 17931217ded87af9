//! Helm, the chart, and folders of values for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use ferrolb_interop_tests::kube::{ControlPlane, VERSION, deploy, packaged};
use ferrolb_interop_tests::manifest::NAMESPACE;
use ferrolb_interop_tests::process::run;
use ferrolb_interop_tests::scenario::Scratch;
use serde_json::Value;

/// The name of the release.
pub(crate) const RELEASE: &str = "ferrolb";

/// Path of the chart.
pub(crate) fn chart() -> PathBuf {
    deploy().join("helm/ferrolb")
}

/// `helm template` with these values, in addition to the default ones.
///
/// # Errors
/// When Helm fails, with its message.
pub(crate) fn render(scratch: &Scratch, values: &Value) -> Result<String> {
    let file = scratch.file("values.json");
    fs::write(&file, values.to_string())?;
    let mut helm = Command::new(packaged("helm")?);
    helm.args(["template", RELEASE]).arg(chart());
    helm.args(["--namespace", NAMESPACE, "--kube-version", VERSION]);
    run(helm.arg("--values").arg(file))
}

/// Runs Helm on a cluster, as an administrator with a home folder of its own.
///
/// # Errors
/// When Helm fails, with its message.
pub(crate) fn helm(cp: &ControlPlane<'_>, home: &Scratch, arguments: &[&str]) -> Result<String> {
    let mut helm = cp.command("timeout");
    helm.arg("120").arg(packaged("helm")?);
    helm.env("HOME", home.file(""));
    helm.env("KUBECONFIG", cp.admin_kubeconfig());
    helm.args(["--namespace", NAMESPACE]);
    run(helm.args(arguments))
}

/// A file in YAML.
///
/// # Errors
/// When it can't be read.
pub(crate) fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

/// The sets of values in `values`, by name. Each of them is a way to use the chart.
///
/// # Errors
/// When a file can't be read.
pub(crate) fn value_sets() -> Result<BTreeMap<String, Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packaging/values");
    let mut sets = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default();
        sets.insert(name.to_string_lossy().into_owned(), read(&path)?);
    }
    Ok(sets)
}

/// JSON pointers to all values: scalars, lists, and maps without content.
pub(crate) fn leaves(values: &Value) -> Vec<String> {
    match values.as_object() {
        Some(map) if !map.is_empty() => map
            .iter()
            .flat_map(|(key, value)| {
                let key = key.replace('~', "~0").replace('/', "~1");
                leaves(value)
                    .into_iter()
                    .map(move |rest| format!("/{key}{rest}"))
            })
            .collect(),
        _ => vec![String::new()],
    }
}

/// The values without that of a pointer from [`leaves`].
pub(crate) fn without(values: &Value, pointer: &str) -> Value {
    let mut rest = values.clone();
    if let Some((parent, key)) = pointer.rsplit_once('/') {
        let key = key.replace("~1", "/").replace("~0", "~");
        if let Some(map) = rest.pointer_mut(parent).and_then(Value::as_object_mut) {
            map.remove(&key);
        }
    }
    rest
}
