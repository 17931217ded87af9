//! What the shipped manifests must contain for ferrolb to work as documented.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The DaemonSet of a shipped manifest.
fn daemonset(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests");
    let text = fs::read_to_string(path.join(file)).expect("shipped");
    let objects = text
        .split("---\n")
        .map(|text| serde_saphyr::from_str::<Value>(text).expect("YAML"));
    let mut daemonsets = objects.filter(|object| object["kind"] == "DaemonSet");
    daemonsets.next().expect("a DaemonSet")
}

#[test]
fn the_helm_chart_has_the_version_of_the_program() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/ferrolb/Chart.yaml");
    let chart = fs::read_to_string(chart).expect("shipped");
    let chart: Value = serde_saphyr::from_str(&chart).expect("YAML");
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
}

#[test]
fn layer_2_requests_cpu_and_is_never_throttled() {
    let daemonset = daemonset("5-layer2.yaml");
    let containers = daemonset["spec"]["template"]["spec"]["containers"].as_array();
    for container in containers.expect("containers") {
        let resources = &container["resources"];
        let cpu = resources["requests"]["cpu"].as_str().unwrap_or_default();
        let milli: Option<u32> = cpu.strip_suffix('m').and_then(|cpu| cpu.parse().ok());
        // With less, hellos are late on a busy node.
        assert!(milli.is_some_and(|milli| milli >= 50), "{resources}");
        assert_eq!(resources.get("limits"), None, "{resources}");
    }
}
