//! What the shipped manifests must contain for ferrolb to work as documented.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// A file of the repository.
fn shipped(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

/// The DaemonSet of a shipped manifest.
fn daemonset(file: &str) -> Value {
    let text = shipped(&format!("deploy/manifests/{file}"));
    let objects = text.split("---\n").map(yaml);
    let mut daemonsets = objects.filter(|object| object["kind"] == "DaemonSet");
    daemonsets.next().expect("a DaemonSet")
}

#[test]
fn the_helm_chart_has_the_version_of_the_program() {
    let chart = yaml(&shipped("deploy/helm/ferrolb/Chart.yaml"));
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
}

/// The oldest version of Kubernetes has its home in docs/versions.md.
#[test]
fn pages_chart_and_lab_name_one_oldest_kubernetes() {
    let page = shipped("docs/versions.md");
    let (_, rest) = page
        .split_once("\nferrolb needs Kubernetes 1.")
        .expect("versions.md: ferrolb needs Kubernetes 1.MINOR.");
    let (minor, _) = rest.split_once(". ").expect("the end of the sentence");
    assert!(minor.parse::<u8>().is_ok(), "{minor}");
    for (file, words) in [
        (
            "docs/install.md",
            format!("| Kubernetes | 1.{minor} or newer;"),
        ),
        (
            "deploy/helm/ferrolb/Chart.yaml",
            format!("\nkubeVersion: \">=1.{minor}.0-0\"\n"),
        ),
        (
            "interop-tests/kube/oldest/go.mod",
            format!("\nrequire k8s.io/kubernetes v1.{minor}."),
        ),
        (
            "interop-tests/src/kube/mod.rs",
            format!("\npub const OLDEST: &str = \"v1.{minor}."),
        ),
    ] {
        assert!(shipped(file).contains(&words), "{file}: no {words:?}");
    }
}

/// What Artifact Hub shows of the chart. `cargo xtask release` replaces the image.
#[test]
fn the_annotations_for_artifact_hub_describe_the_chart() {
    let chart = yaml(&shipped("deploy/helm/ferrolb/Chart.yaml"));
    let annotation = |name: &str| -> Value {
        let text = &chart["annotations"][format!("artifacthub.io/{name}")];
        yaml(text.as_str().expect("a string"))
    };
    let crds = shipped("deploy/manifests/0-crds.yaml");
    let crds = crds.split("---\n").skip(1).map(|text| {
        let crd = yaml(text);
        let (spec, metadata) = (&crd["spec"], &crd["metadata"]);
        json!([
            metadata["name"],
            spec["names"]["kind"],
            spec["versions"][0]["name"]
        ])
    });
    let crds: Vec<Value> = crds.collect();
    assert!(crds.len() > 5, "{crds:?}");
    let listed = annotation("crds");
    let listed = listed.as_array().expect("a list").iter().map(|crd| {
        for field in ["displayName", "description"] {
            assert!(crd[field].is_string(), "{crd}: {field}");
        }
        json!([crd["name"], crd["kind"], crd["version"]])
    });
    assert_eq!(listed.collect::<Vec<_>>(), crds);
    let image = json!({
        "name": "ferrolb", "image": "ferrolb:dev", "platforms": ["linux/amd64", "linux/arm64"],
    });
    assert_eq!(annotation("images"), json!([image]));
    let is_prerelease = env!("CARGO_PKG_VERSION").contains('-');
    assert_eq!(annotation("prerelease"), is_prerelease);
    let license = &chart["annotations"]["artifacthub.io/license"];
    assert!(shipped("Cargo.toml").contains(&format!("license = {license}")));
    let kinds = [
        "added",
        "changed",
        "deprecated",
        "removed",
        "fixed",
        "security",
    ];
    let changes = annotation("changes");
    for change in changes.as_array().expect("a list") {
        let kind = change["kind"].as_str().unwrap_or_default();
        assert!(kinds.contains(&kind), "{change}");
        assert!(change["description"].is_string(), "{change}");
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
    let mut text = shipped("deploy/krew/ferrolb.yaml");
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
    let plugin = yaml(&text);
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
