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

/// The commands in the manifest's comment, filled in as they say.
#[test]
fn the_manifest_for_krew_is_complete_once_its_placeholders_are_replaced() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/krew/ferrolb.yaml");
    let mut text = fs::read_to_string(path).expect("shipped");
    let [amd64, arm64] = ["a", "b"].map(|digit| digit.repeat(64));
    for (placeholder, value) in [
        ("@VERSION@", &*format!("v{}", env!("CARGO_PKG_VERSION"))),
        ("@URL@", "https://example.com/v1"),
        ("@SHA256_AMD64@", &amd64),
        ("@SHA256_ARM64@", &arm64),
    ] {
        // In the comment, and in the manifest.
        assert!(text.matches(placeholder).count() > 1, "{placeholder}");
        text = text.replace(placeholder, value);
    }
    let plugin: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(plugin["metadata"]["name"], "ferrolb");
    let platforms = plugin["spec"]["platforms"].as_array().expect("platforms");
    for (platform, (arch, sum)) in platforms.iter().zip([("amd64", amd64), ("arm64", arm64)]) {
        assert_eq!(platform["selector"]["matchLabels"]["arch"], arch);
        assert_eq!(platform["sha256"], sum);
        let archive = format!("https://example.com/v1/ferrolb-linux-{arch}.tar.gz");
        assert_eq!(platform["uri"], archive);
    }
    let left = plugin.to_string();
    assert!(!left.contains('@'), "{left}");
}
