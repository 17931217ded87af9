//! `ferrolb plan`: output for people and programs, and hints about incomplete input.

mod program;

use std::path::Path;

use program::{ferrolb, folder_of, stdout};
use serde_json::Value;

/// The export commands in the help texts don't include passwords.
#[test]
fn check_and_plan_need_no_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("peer.yaml");
    let peer = "{apiVersion: metallb.io/v1beta2, kind: BGPPeer, \
                metadata: {name: tor, namespace: metallb-system}, \
                spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, \
                passwordSecret: {name: tor}}}\n";
    std::fs::write(&file, peer).expect("written");
    let path = file.display().to_string();
    let checked = ferrolb(&["check", "-f", &path]);
    let text = stdout(&checked);
    assert_eq!(checked.status.code(), Some(0), "{text}");
    assert!(text.contains(
        "BGPPeer metallb-system/tor: notice: spec.passwordSecret: the Secret \
         metallb-system/tor was not read"
    ));
    let planned = ferrolb(&["plan", "-o", "json", "-f", &path]);
    let plan: Value = serde_json::from_slice(&planned.stdout).expect("JSON");
    assert_eq!(plan["errors"], serde_json::json!([]));
    assert_eq!(plan["notices"][0]["object"], "BGPPeer metallb-system/tor");
    for command in ["check", "plan"] {
        let help = stdout(&ferrolb(&[command, "--help"]));
        assert!(
            help.contains("kubectl get") && !help.contains("secrets"),
            "{help}"
        );
    }
}

/// The API server treats null as absent, and `kubectl create --dry-run=client -o yaml` prints
/// `creationTimestamp: null`.
#[test]
fn null_counts_as_absent_and_a_plan_without_nodes_has_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("all.yaml");
    let service = "{apiVersion: v1, kind: Service, metadata: {name: web, labels: , \
                   annotations: , creationTimestamp: null, namespace: null, uid: null}, \
                   spec: {type: LoadBalancer, ports: null, selector: null}, \
                   status: {loadBalancer: null}}\n---\n\
                   {apiVersion: metallb.io/v1beta1, kind: IPAddressPool, \
                   metadata: {name: pool, creationTimestamp: null}, \
                   spec: {addresses: [192.0.2.0/24], autoAssign: null, serviceAllocation: null}}";
    std::fs::write(&file, service).expect("written");
    let file = file.display().to_string();
    let checked = ferrolb(&["check", "-f", &file]);
    assert_eq!(checked.status.code(), Some(0), "{}", stdout(&checked));
    let planned = stdout(&ferrolb(&["plan", "-f", &file]));
    let hint = "neither a Node nor an EndpointSlice; add the output of kubectl get \
     nodes,endpointslices -A";
    assert_eq!(planned.matches(hint).count(), 1, "{planned}");
}

#[test]
fn plan_prints_json() {
    let output = ferrolb(&["plan", "-o", "json", "-f", "base.yaml", "families.yaml"]);
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(plan["services"][0]["addresses"][0], "192.0.2.0");
    let route = &plan["routes"][2];
    assert_eq!(route["peer"], "v4-ibgp");
    assert_eq!(route["nextHop"], "10.0.0.11");
    assert_eq!(route["localPref"], 250);
    assert_eq!(route["largeCommunities"], Value::Array(Vec::new()));
    let withheld = plan["withheld"].as_array().expect("a list");
    assert!(
        withheld.iter().any(|entry| entry["reason"] == "NoNextHop"),
        "{withheld:?}"
    );
    assert_eq!(plan["errors"], Value::Array(Vec::new()));
}

#[test]
fn plan_of_nothing_names_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = ferrolb(&["plan", "-f", &folder.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("no objects found") && text.contains("-f"),
        "{text}"
    );
}

#[test]
fn a_service_without_cluster_ips_is_planned_with_the_families_of_its_spec() {
    let service = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{type: LoadBalancer, ports: [{{port: 80}}]{more}}}\n---\n"
        )
    };
    let text = [
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: pool}\n\
         spec: {addresses: [192.0.2.0/24, '2001:db8::/64']}\n---\n\
         apiVersion: v1\nkind: Node\nmetadata: {name: node-0}\n---\n"
            .to_owned(),
        service("a", ""),
        service("b", ", ipFamilies: [IPv6]"),
        service("c", ", ipFamilyPolicy: RequireDualStack"),
    ]
    .concat();
    let folder = folder_of("all.yaml", &text);
    let path = folder.path().to_str().expect("text");
    let plan = ferrolb(&["plan", "-f", path, "-o", "json"]);
    let plan: Value = serde_json::from_slice(&plan.stdout).expect("JSON");
    let addresses: Vec<&Value> = plan["services"]
        .as_array()
        .expect("services")
        .iter()
        .map(|service| &service["addresses"])
        .collect();
    let expected = [
        serde_json::json!(["192.0.2.0"]),
        serde_json::json!(["2001:db8::"]),
        serde_json::json!(["192.0.2.1", "2001:db8::1"]),
    ];
    assert_eq!(addresses, expected.iter().collect::<Vec<_>>());
    let shown = stdout(&ferrolb(&["plan", "-f", path]));
    assert_eq!(
        shown
            .matches("these manifests contain no EndpointSlice")
            .count(),
        1,
        "{shown}"
    );
}

#[test]
fn an_excluded_node_announces_with_ignore_exclude_lb_only() {
    let base = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/base.yaml"),
    );
    let base = base.expect("a file");
    let label = "node.kubernetes.io/exclude-from-external-load-balancers";
    let mut nodes = 0;
    let text: Vec<String> = base
        .split("---\n")
        .map(|document| {
            if !document.contains("kind: Node\n") {
                return document.to_owned();
            }
            nodes += 1;
            let mut value: Value = serde_saphyr::from_str(document).expect("YAML");
            value["metadata"]["labels"][label] = Value::String("false".into());
            value.to_string() + "\n"
        })
        .collect();
    assert!(nodes > 0, "the base has Nodes");
    let folder = folder_of("all.yaml", &text.join("---\n"));
    let path = folder.path().to_str().expect("text");
    let routes = |arguments: &[&str]| {
        let output = ferrolb(arguments);
        let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        plan["routes"].as_array().expect("routes").len()
    };
    assert_eq!(
        routes(&["plan", "-o", "json", "-f", path, "families.yaml"]),
        0
    );
    assert!(
        routes(&[
            "plan",
            "-o",
            "json",
            "--ignore-exclude-lb",
            "-f",
            path,
            "families.yaml"
        ]) > 0
    );
}
