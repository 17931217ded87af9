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

#[test]
fn announcers_have_no_capability_and_layer_2_has_net_raw_only() {
    for (file, added) in [
        ("4-announcer.yaml", Value::Null),
        ("5-layer2.yaml", serde_json::json!(["NET_RAW"])),
    ] {
        let daemonset = daemonset(file);
        let pod = &daemonset["spec"]["template"]["spec"];
        assert_eq!(pod["hostNetwork"], true, "{file}");
        for container in pod["containers"].as_array().expect("containers") {
            let context = &container["securityContext"];
            let drop = serde_json::json!(["ALL"]);
            assert_eq!(context["capabilities"]["drop"], drop, "{file}");
            assert_eq!(context["capabilities"]["add"], added, "{file}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{file}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{file}");
        }
    }
}
