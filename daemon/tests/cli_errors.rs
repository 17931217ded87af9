//! Errors in manifests, as `ferrolb check` and `plan` report them: place, cause and remedy.

mod program;

use program::{ferrolb, folder_of, stdout};
use serde_json::Value;

#[test]
fn all_errors_of_an_object_are_reported_with_one_line_number() {
    let text = "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool}
spec:
  addresses: [192.0.2.0/33, x, 198.51.100.0/24]
  serviceAllocation:
    {namespaces: [a, a], serviceSelectors: [{matchExpressions: [{key: b, operator: Like}]}]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: ad}
spec: {aggregationLength: 33, aggregationLengthV6: 129, communities: [nope, '1:2:3'], peers: [a, a]}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: fast}
spec: {receiveInterval: 1, transmitInterval: 2, detectMultiplier: 1, minimumTtl: 255}
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: names}
spec: {communities: [{name: a, value: x}, {name: b, value: z}]}
";
    let folder = folder_of("all.yaml", text);
    let shown = stdout(&ferrolb(&[
        "check",
        "-f",
        folder.path().to_str().expect("text"),
    ]));
    let fields = [
        (
            1,
            vec![
                "192.0.2.0/33",
                "\"x\"",
                "serviceAllocation.namespaces",
                "serviceAllocation.serviceSelectors",
            ],
        ),
        (
            9,
            vec![
                "spec.aggregationLength:",
                "aggregationLengthV6",
                "\"nope\"",
                "\"1:2:3\"",
                "spec.peers",
            ],
        ),
        (
            14,
            vec![
                "receiveInterval",
                "transmitInterval",
                "detectMultiplier",
                "minimumTtl",
            ],
        ),
        (19, vec!["communities[0].value", "communities[1].value"]),
    ];
    for (line, fields) in fields {
        let place = format!("all.yaml:{line} ");
        let lines: Vec<&str> = shown.lines().filter(|text| text.contains(&place)).collect();
        assert_eq!(lines.len(), 1, "{place} in {shown}");
        for field in fields {
            assert!(lines[0].contains(field), "{field} is not in {}", lines[0]);
        }
    }
}

#[test]
fn values_that_are_not_objects_are_rejected_in_plain_words() {
    for (text, line) in [
        (
            "- a\n",
            "is not an object: each document begins with fields such as apiVersion: v1",
        ),
        (
            "kind: Service\nmetadata: web\n",
            "Service: metadata: is the text \"web\", expected an object",
        ),
        (
            "kind: Service\nmetadata: {name: 5, labels: [a]}\n",
            "; metadata.name: is the number 5, expected a text",
        ),
        (
            "kind: Service\nmetadata: {name: 5, labels: [a]}\n",
            "metadata.labels: is a list [\"a\"], expected an object",
        ),
        (
            "kind: [Service]\nmetadata: {}\n",
            "kind: is a list [\"Service\"], expected a text",
        ),
        (
            "kind: IPAddressPool\napiVersion: metallb.io/v1beta1\n",
            "IPAddressPool: metadata.name is missing",
        ),
        (
            "metadata: {name: a}\n",
            "kind is missing: write kind: and apiVersion:",
        ),
    ] {
        let folder = folder_of("all.yaml", text);
        let shown = stdout(&ferrolb(&[
            "check",
            "-f",
            folder.path().to_str().expect("text"),
        ]));
        assert!(shown.contains(line), "{line}\nis not in\n{shown}");
        assert!(
            !shown.contains("invalid type") && !shown.contains("missing field"),
            "{shown}"
        );
    }
}

#[test]
fn control_characters_are_escaped_in_text_and_exact_in_json() {
    let name = "a\u{1b}[2J\u{9b}1m\n\u{202e}b";
    let object = |version: &str, kind: &str, spec: Value| {
        let metadata = serde_json::json!({ "name": name, "namespace": "metallb-system" });
        let object = serde_json::json!({
            "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec,
        });
        object.to_string()
    };
    let text = [
        object(
            "v1",
            "Service",
            serde_json::json!({ "type": "LoadBalancer", "ipFamilies": ["IPv4"] }),
        ),
        object(
            "metallb.io/v1beta1",
            "IPAddressPool",
            serde_json::json!({ "addresses": [name], name: 1 }),
        ),
        object(
            "metallb.io/v1beta2",
            "BGPPeer",
            serde_json::json!({ "peerAddress": name }),
        ),
        object("v1", "Node", serde_json::json!({})),
        "{kind: \u{9b}x".to_owned(),
    ]
    .join("\n---\n");
    let folder = folder_of("a\u{1b}ll.yaml", &text);
    let path = folder.path().to_str().expect("text");
    for command in ["check", "plan"] {
        let output = ferrolb(&[command, "-f", path]);
        for printed in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(printed);
            let raw = text
                .chars()
                .find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
            assert_eq!(raw, None, "{command}: {text:?}");
        }
        assert!(
            stdout(&output).contains("a\\u{1b}[2J\\u{9b}1m\\n\\u{202e}b"),
            "{}",
            stdout(&output)
        );
    }
    let plan = ferrolb(&["plan", "-o", "json", "-f", path]);
    let plan: Value = serde_json::from_slice(&plan.stdout).expect("JSON");
    assert_eq!(plan["services"][0]["name"], name);
}

#[test]
fn type_errors_are_reported_together_with_errors_of_other_fields() {
    let text = "\
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: many}
spec: {myASN: 64512, peerASN: 64513, peerPort: abc, holdTime: 1s, peerAddress: nonsense}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: label}
spec: {holdTime: 1s, nodeSelectors: [{matchLabels: {topology.kubernetes.io/zone: 1}}]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool}
spec: {avoidBuggyIPs: 'no', addresses: [192.0.2.9-192.0.2.1]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: list}
spec: {addresses: [5, nonsense], autoAssign: 'no', serviceAllocation: {namespaces: [a, a]}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, ports: [{port: http}], externalTrafficPolicy: Near}
";
    let folder = folder_of("types.yaml", text);
    let path = folder.path().to_str().expect("text");
    let shown = stdout(&ferrolb(&["check", "-f", path]));
    let objects: [(u32, &[&str]); 5] = [
        (
            1,
            &["spec.peerPort: ", "spec.holdTime: ", "spec.peerAddress: "],
        ),
        (
            6,
            &[
                "spec.nodeSelectors[0].matchLabels[topology.kubernetes.io/zone]: ",
                "spec.holdTime: ",
                "spec.myASN: ",
                "spec.peerASN: ",
                "spec.peerAddress: ",
            ],
        ),
        (11, &["spec.avoidBuggyIPs: ", "spec.addresses: "]),
        (
            16,
            &[
                "spec.addresses[0]: ",
                "spec.autoAssign: ",
                "spec.serviceAllocation.namespaces: ",
            ],
        ),
        (
            21,
            &["spec.ports[0].port: ", "spec.externalTrafficPolicy: "],
        ),
    ];
    for (line, fields) in objects {
        let place = format!("types.yaml:{line} ");
        let reports: Vec<&str> = shown.lines().filter(|text| text.contains(&place)).collect();
        let [report] = reports.as_slice() else {
            panic!("one line about {place} in {shown}");
        };
        for field in fields {
            assert_eq!(report.matches(field).count(), 1, "{field} in {report}");
        }
        assert_eq!(report.matches("spec.").count(), fields.len(), "{report}");
    }
}

#[test]
fn a_field_of_a_wrong_type_causes_no_second_error() {
    let good = "myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1";
    let cases = [
        (
            "peerASN: 64513, peerAddress: 192.0.2.1, myASN: x",
            "spec.myASN",
        ),
        (
            "myASN: 64512, peerAddress: 192.0.2.1, dynamicASN: 5",
            "spec.dynamicASN",
        ),
        (
            "myASN: 64512, peerASN: 64512, peerAddress: 192.0.2.1, prepend: 2, localASN: x",
            "spec.localASN",
        ),
        (
            "myASN: 64512, peerASN: 64513, peerNetwork: 5",
            "spec.peerNetwork",
        ),
        (
            &format!("{good}, holdTime: 90, keepaliveTime: 100s"),
            "spec.holdTime",
        ),
        (
            &format!("{good}, holdTime: 90, keepaliveTime: 20s, sendHoldTime: 50s"),
            "spec.holdTime",
        ),
        (
            &format!("{good}, keepaliveTime: 10, sendHoldTime: 50s"),
            "spec.keepaliveTime",
        ),
        (
            &format!("{good}, bfdStrict: true, bfdProfile: 5"),
            "spec.bfdProfile",
        ),
        (
            &format!("{good}, restartTime: 60s, enableGracefulRestart: x"),
            "spec.enableGracefulRestart",
        ),
        (
            &format!("{good}, nodeSelectors: [{{matchLabels: {{a: 1}}}}, {{}}]"),
            "spec.nodeSelectors[0].matchLabels.a",
        ),
    ];
    for (spec, field) in cases {
        let text = format!(
            "apiVersion: ferrolb.io/v1alpha1\nkind: BGPPeer\nmetadata: {{name: one}}\nspec: \
             {{{spec}}}\n"
        );
        let folder = folder_of("one.yaml", &text);
        let path = folder.path().to_str().expect("text");
        let shown = stdout(&ferrolb(&["check", "-f", path]));
        let report = shown.lines().find(|line| line.contains("BGPPeer"));
        let report = report.unwrap_or_else(|| panic!("{spec}: {shown}"));
        assert!(
            report.contains(&format!("{field}: is ")),
            "{spec}: {report}"
        );
        assert_eq!(report.matches("; ").count(), 0, "{spec}: {report}");
    }
}

#[test]
fn a_syntax_error_contains_line_and_column_but_no_password() {
    for text in [
        "kind: BGPPeer\nspec:\n  password: hunter2: x\n",
        "kind: Secret\nstringData:\n  password: 'hunter2' hunter2\n",
    ] {
        let folder = folder_of("all.yaml", text);
        let output = ferrolb(&["check", "-f", folder.path().to_str().expect("text")]);
        let shown = stdout(&output) + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{shown}");
        let place = "all.yaml:3: error: not valid YAML at column ";
        assert!(shown.contains(place), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn an_invalid_yaml_file_is_reported_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("broken.yaml");
    std::fs::write(&file, "# first\n---\nkind: Service\nmetadata: {name: [\n").expect("written");
    let output = ferrolb(&["check", "-f", &file.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("broken.yaml:4"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn invalid_peers_are_reported_and_affect_no_others() {
    let output = ferrolb(&["check", "-f", "base.yaml", "peers.yaml"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "peers.yaml:17 BGPPeer.ferrolb.io metallb-system/tor: error: metadata.name: is already \
         used by BGPPeer metallb-system/tor, which is older",
        "BGPPeer.ferrolb.io metallb-system/again: error: on node-a, node-b: spec.peerAddress: \
         conflicts with BGPPeer metallb-system/tor",
        "BGPPeer.ferrolb.io metallb-system/is-node-b: error: on node-b: spec.peerAddress: \
         10.0.0.12 is an address of this node",
        "BGPPeer metallb-system/secret-of-81-octets: error: spec.passwordSecret: the password has \
         81 octets",
        "BGPPeer metallb-system/secret-without-key: error: spec.passwordSecret: Secret \
         metallb-system/without-key has no key",
        "BFDProfile metallb-system/fast: notice: spec.echoMode",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("ppp"), "a password is never printed");
}

#[test]
fn unsupported_kinds_are_reported_with_a_remedy() {
    let object = |kind: &str, version: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n---\n")
    };
    let old = object("CiliumBGPPeeringPolicy", "cilium.io/v2alpha1");
    let text = [
        old.clone(),
        old,
        object("L2Advertisment", "ferrolb.io/v1alpha1"),
        object("service", "v1"),
        object("IPAddressPool", "metallb.com/v1"),
        object("CiliumLoadBalancerIPPool", "cilium.io/v2alpha1"),
        object("IPPool", "crd.projectcalico.org/v1"),
        object("ServiceGroup", "purelb.io/v1"),
        object("Servise", "v1"),
        object("IsovalentBGPClusterConfig", "isovalent.com/v1alpha1"),
        object("Deployment", "apps/v1"),
    ]
    .concat();
    let folder = folder_of("all.yaml", &text);
    let path = folder.path().to_str().expect("text");
    let output = ferrolb(&["check", "-f", path]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    for line in [
        "all.yaml:1: notice: CiliumBGPPeeringPolicy of cilium.io/v2alpha1 (2 objects, this is the \
         first) has no effect: Cilium's resources",
        "notice: L2Advertisment of ferrolb.io/v1alpha1 has no effect: no such kind: write kind \
         L2Advertisement and apiVersion ferrolb.io/v1alpha1",
        "notice: service of v1 has no effect: no such kind: write kind Service and apiVersion v1",
        "notice: IPAddressPool of metallb.com/v1 has no effect: no such kind: write kind \
         IPAddressPool and apiVersion metallb.io/v1beta1",
        "notice: CiliumLoadBalancerIPPool of cilium.io/v2alpha1 has no effect: Cilium's resources",
        "notice: IPPool of crd.projectcalico.org/v1 has no effect: Calico's resources",
        "notice: ServiceGroup of purelb.io/v1 has no effect: PureLB's resources",
        "notice: Servise of v1 has no effect: no such kind: write kind Service and apiVersion v1",
        "notice: IsovalentBGPClusterConfig of isovalent.com/v1alpha1 has no effect: Isovalent \
         (Cilium)'s resources",
    ] {
        assert!(shown.contains(line), "{line}\nis not in\n{shown}");
    }
    assert!(!shown.contains("Deployment"), "{shown}");
    assert!(
        shown.ends_with("ferrolb reads none of these 11 objects\n"),
        "{shown}"
    );
    let plan = ferrolb(&["plan", "-f", path]);
    let shown = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert!(shown.contains("CiliumBGPPeeringPolicy"), "{shown}");
    assert!(
        shown.contains("ferrolb reads none of these objects"),
        "{shown}"
    );
}

#[test]
fn a_misspelt_annotation_gets_a_notice_with_the_nearest_key() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations:\n    \
                metallb.universe.tf/loadbalancerIP: 192.0.2.1\n    example.com/address-pool: x\n\
                spec: {type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80}]}\n";
    let folder = folder_of("all.yaml", text);
    let output = ferrolb(&["check", "-f", folder.path().to_str().expect("text")]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    let line = "notice: metadata.annotations[metallb.universe.tf/loadbalancerIP]: has no effect: \
                did you mean metallb.io/loadBalancerIPs?";
    assert!(shown.contains(line), "{shown}");
    assert!(!shown.contains("example.com"), "{shown}");
}

#[test]
fn a_misspelt_annotation_of_a_node_or_one_given_as_a_label_gets_a_notice() {
    let text = "\
{apiVersion: v1, kind: Node, metadata: {name: a, annotations: {ferrolb.io/wieght: '2'}}}
---
{apiVersion: v1, kind: Node,
 metadata: {name: b, labels: {ferrolb.io/weight: '2', metallb.io/rack: a}}}
---
{apiVersion: v1, kind: Node, metadata: {name: c, annotations: {metallb.io/address-pool: x}}}
---
{apiVersion: v1, kind: Node,
 metadata: {name: d, labels: {metallb.io/rack: a}, annotations: {ferrolb.io/weight: '2'}}}
---
apiVersion: v1
kind: Service
metadata: {name: a, labels: {metallb.io/address-pool: x}}
spec: {type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80}]}
";
    let folder = folder_of("all.yaml", text);
    let output = ferrolb(&["check", "-f", folder.path().to_str().expect("text")]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    for line in [
        "Node a: notice: metadata.annotations[ferrolb.io/wieght]: has no effect: did you mean \
         ferrolb.io/weight?",
        "Node b: notice: metadata.labels[ferrolb.io/weight]: has no effect as a label: did you \
         mean the annotation ferrolb.io/weight?",
        "Node c: notice: metadata.annotations[metallb.io/address-pool]: has no effect: known are \
         ferrolb.io/weight",
        "Service default/a: notice: metadata.labels[metallb.io/address-pool]: has no effect as a \
         label: did you mean the annotation metallb.io/address-pool?",
    ] {
        assert!(shown.contains(line), "{line}\nis not in\n{shown}");
    }
    assert_eq!(shown.matches("notice").count(), 4, "{shown}");
}
