//! `ferrolb check` and `ferrolb crds`: which manifests are accepted.

mod program;

use std::path::Path;
use std::process::{Command, Stdio};

use program::{ferrolb, folder_of, stdout};
use serde_json::Value;

#[test]
fn check_accepts_valid_manifests() {
    let output = ferrolb(&["check", "-f", "base.yaml", "families.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(
        stdout(&output).starts_with("all valid: 10 objects read"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn check_fails_and_reports_place_and_remedy() {
    let output = ferrolb(&["check", "-f", "refused.yaml"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "refused.yaml:32 BGPPeer metallb-system/without-secret: notice: spec.passwordSecret: the \
         Secret metallb-system/missing was not read: its password was not checked",
        "refused.yaml:72 BGPPeer default/elsewhere: error: is in namespace default, but \
         configuration is read only from metallb-system: move it, or add --config-namespace \
         default",
        "refused.yaml:37 BGPPeer metallb-system/without-profile: error: spec.bfdProfile: there \
         is no BFDProfile metallb-system/fast: create it, or remove bfdProfile",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colours are for terminals");
}

/// kubectl and the API server would not apply it as it is, so it's an error of the manifest. A
/// daemon that reads manifests uses the object.
#[test]
fn a_misspelt_field_is_an_error_that_does_not_reject_the_object() {
    let text = "{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {name: tor}, spec: \
                {myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, holdTimer: 9s}}\n---\n\
                {apiVersion: v1, kind: Node, metadata: {name: node-a}}";
    let folder = folder_of("all.yaml", text);
    let path = folder.path().to_str().expect("text");
    let check = ferrolb(&["check", "-f", path]);
    let checked = stdout(&check);
    let problem = "spec.holdTimer: has no effect, because BGPPeer has no such field: check the \
                   spelling";
    assert!(checked.contains(&format!("error: {problem}")), "{checked}");
    assert_eq!(check.status.code(), Some(1));
    let explained = ferrolb(&["explain", "peer", "tor", "-f", path, "-o", "json"]);
    let explained: Value = serde_json::from_slice(&explained.stdout).expect("JSON");
    let mut steps = explained["steps"].as_array().expect("steps").iter();
    let step = steps.find(|step| step["text"] == problem);
    assert_eq!(step.expect("a step")["verdict"], "ok", "{explained}");
}

#[test]
fn check_reports_conflicting_advertisements_of_an_address() {
    let output = ferrolb(&["check", "-f", "base.yaml", "withheld.yaml"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = "withheld.yaml:29 BGPAdvertisement metallb-system/low: error: spec.localPref: 100 \
     conflicts with 200";
    assert!(text.contains(line), "{text}");
}

#[test]
fn check_and_plan_report_an_invalid_list_of_excluded_interfaces() {
    let config_map = |data: &str| {
        format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: web}}}}\n---\napiVersion: v1\n\
             kind: ConfigMap\nmetadata: {{name: metallb-excludel2, namespace: metallb-system}}\n\
             data:\n  {data}"
        )
    };
    let list = |list: &str| {
        config_map(&format!(
            "excludel2.yaml: |\n    announcedInterfacesToExclude: {list}\n"
        ))
    };
    let check = |text: &str| {
        let folder = folder_of("all.yaml", text);
        let path = folder.path().to_str().expect("text");
        let check = ferrolb(&["check", "-f", path]);
        let plan = ferrolb(&["plan", "-f", path]);
        let shown = [stdout(&check), stdout(&plan)];
        (check.status.code(), shown)
    };
    for (text, expected) in [
        (
            list("[\"^eth(\"]"),
            "data.excludel2.yaml: announcedInterfacesToExclude[0]: \"^eth(\" is not a regular \
             expression (unclosed group): correct or remove it",
        ),
        (
            config_map("exclude.yaml: x"),
            "data: there is no key excludel2.yaml, so MetalLB's default list applies: write the \
             list under that key",
        ),
    ] {
        let (code, [checked, planned]) = check(&text);
        assert_eq!(code, Some(1), "{checked}");
        let object = "ConfigMap metallb-system/metallb-excludel2: ";
        let line = format!("all.yaml:3 {object}error: {expected}");
        assert!(checked.contains(&line), "{line}\nis not in\n{checked}");
        let line = format!("{object}{expected}");
        assert!(planned.contains(&line), "{line}\nis not in\n{planned}");
    }
    let (code, [checked, _]) = check(&list("[\"^eth1$\"]"));
    assert_eq!(code, Some(0), "{checked}");
    assert!(
        checked.starts_with("all valid: 2 objects read, 0 of"),
        "{checked}"
    );
}

#[test]
fn check_of_nothing_fails_and_a_closed_pipe_is_not_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = ferrolb(&["check", "-f", &folder.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let script = format!(
        "set -o pipefail; {} plan -f base.yaml withheld.yaml | head -1",
        env!("CARGO_BIN_EXE_ferrolb")
    );
    let plans = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let output = Command::new("bash")
        .current_dir(plans)
        .args(["-c", &script])
        .output();
    let output = output.expect("bash");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn crds_equal_the_shipped_ones_and_check_accepts_all_their_fields() {
    let printed = stdout(&ferrolb(&["crds"]));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests/0-crds.yaml");
    assert_eq!(printed, std::fs::read_to_string(shipped).expect("shipped"));
    let definitions: Vec<Value> = printed
        .split("---\n")
        .skip(1)
        .map(|text| serde_saphyr::from_str(text).expect("YAML"))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    for (definition, expected) in definitions.iter().zip([5, 30, 7, 9, 11, 1]) {
        let version = &definition["spec"]["versions"][0];
        let fields = &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let fields: Vec<&String> = fields.as_object().expect("fields").keys().collect();
        assert!(fields.len() >= expected, "{fields:?}");
        // All fields are known, although most values are invalid.
        let spec: serde_json::Map<String, Value> = fields
            .into_iter()
            .map(|field| (field.clone(), serde_json::json!({ "no": 1 })))
            .collect();
        let kind = definition["spec"]["names"]["kind"]
            .as_str()
            .expect("a name");
        let file = folder.path().join(format!("{kind}.json"));
        let object = serde_json::json!({
            "apiVersion": "ferrolb.io/v1alpha1", "kind": kind,
            "metadata": { "name": "all" }, "spec": spec,
        });
        std::fs::write(&file, object.to_string()).expect("written");
        let checked = stdout(&ferrolb(&["check", "-f", &file.display().to_string()]));
        let error = format!("{kind}.ferrolb.io metallb-system/all: error");
        assert!(checked.contains(&error), "{checked}");
        let unknown = checked
            .lines()
            .filter(|line| line.contains("no such field"));
        // Those of the objects in the spec.
        assert_eq!(
            unknown.filter(|line| !line.contains(".no:")).count(),
            0,
            "{checked}"
        );
    }
    // BGPSessions have a status only.
    assert_eq!(definitions.len(), 7);
}

/// `kubectl get` of the configuration alone contains no Nodes: conflicts on every node are errors
/// all the same.
#[test]
fn conflicts_on_every_node_are_reported_without_nodes_too() {
    let peer = |name: &str, more: &str| {
        format!(
            "{{apiVersion: ferrolb.io/v1alpha1, kind: BGPPeer, metadata: {{name: {name}}}, \
             spec: {{myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1{more}}}}}"
        )
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("peers.yaml");
    let selected = ", nodeSelectors: [{matchLabels: {rack: a}}]";
    let peers = [peer("a", ""), peer("b", ""), peer("c", selected)];
    std::fs::write(&file, peers.join("\n---\n")).expect("written");
    let output = ferrolb(&["check", "-f", &file.display().to_string()]);
    let text = stdout(&output);
    let expected = "BGPPeer.ferrolb.io metallb-system/b: error: on every node: spec.peerAddress:";
    assert!(
        text.contains(expected) && text.contains("1 error in 3"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// A dump in kubectl's format, as large as with thousands of Services.
fn dump_of_services(count: usize) -> String {
    let mut text = "apiVersion: v1\nitems:\n".to_owned();
    for number in 0..count {
        text += &format!(
            "- apiVersion: v1\n  kind: Service\n  metadata:\n    annotations:\n      \
             kubectl.kubernetes.io/last-applied-configuration: |\n        \
             {{\"apiVersion\":\"v1\"}}\n    name: s{number}\n    namespace: default\n  \
             spec:\n    clusterIP: 10.96.0.1\n    \
             clusterIPs:\n    - 10.96.0.1\n    ports:\n    - name: http\n      port: 80\n      \
             protocol: TCP\n      targetPort: 8080\n    selector:\n      app: s{number}\n    \
             type: LoadBalancer\n  status:\n    loadBalancer: {}\n",
            "{}"
        );
    }
    text + "kind: List\nmetadata:\n  resourceVersion: \"\"\n"
}

#[test]
fn check_reads_a_large_dump_from_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ferrolb"))
        .args(["check", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let text = dump_of_services(3_000) + "---\nkind: [\n";
    let mut input = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("read by the program");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let line = text.lines().count();
    assert!(
        shown.starts_with(&format!("<stdin>:{line}: error: not valid YAML")),
        "{shown}"
    );
    assert!(shown.contains("1 error in 3000 objects"), "{shown}");
}

#[test]
fn a_kustomization_file_is_skipped() {
    for text in [
        "resources: [pool.yaml]\n",
        "kind: Kustomization\nresources: []\n",
    ] {
        let folder = folder_of("kustomization.yaml", text);
        let pool = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: pool}\n\
                    spec: {addresses: [192.0.2.0/24]}\n";
        std::fs::write(folder.path().join("pool.yaml"), pool).expect("written");
        let output = ferrolb(&["check", "-f", folder.path().to_str().expect("text")]);
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    }
}

#[test]
fn a_connect_time_with_fractions_of_a_second_is_rejected() {
    let text = "apiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: tor}\n\
                spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, connectTime: 1500ms}\n";
    let folder = folder_of("peer.yaml", text);
    let output = ferrolb(&["check", "-f", folder.path().to_str().expect("text")]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let line = "spec.connectTime: 1500ms: the API server accepts only whole seconds, such as 2s";
    assert!(shown.contains(line), "{shown}");
}

#[test]
fn an_aggregate_wider_than_the_largest_cidr_of_a_range_is_rejected() {
    let manifests = |length: u8| {
        format!(
            "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: pool}}\n\
             spec: {{addresses: [192.0.2.10-192.0.2.20]}}\n---\n\
             apiVersion: metallb.io/v1beta1\nkind: BGPAdvertisement\nmetadata: {{name: ad}}\n\
             spec: {{aggregationLength: {length}}}\n"
        )
    };
    let check = |length| {
        let folder = folder_of("all.yaml", &manifests(length));
        stdout(&ferrolb(&[
            "check",
            "-f",
            folder.path().to_str().expect("text"),
        ]))
    };
    let shown = check(29);
    let line =
        "spec.aggregationLength: 29 is shorter than /30, the largest CIDR in an entry of pool pool";
    assert!(shown.contains(line), "{shown}");
    let shown = check(30);
    assert!(shown.starts_with("all valid"), "{shown}");
}

/// Without the password a conflict can't be found.
#[test]
fn a_missing_secret_causes_no_password_conflict() {
    let peer = |name: &str, more: &str| {
        format!(
            "{{apiVersion: ferrolb.io/v1alpha1, kind: BGPPeer, metadata: {{name: {name}}}, \
             spec: {{myASN: 64512, peerASN: 64513, {more}}}}}\n---\n"
        )
    };
    let network = peer("a-network", "peerNetwork: 10.0.0.0/24, password: secret");
    let secret = "passwordSecret: {name: absent}";
    let cases = [
        // Within a peerNetwork that demands a password.
        [
            network.clone(),
            peer("b", &format!("peerAddress: 10.0.0.1, {secret}")),
        ],
        // The other way round.
        [
            peer("a-router", "peerAddress: 10.0.0.1, password: secret"),
            peer("b", &format!("peerNetwork: 10.0.0.0/24, {secret}")),
        ],
        // Two sessions with one router, which have the same password or not.
        [
            peer("a-router", "peerAddress: 10.0.0.1, password: secret"),
            peer(
                "b",
                &format!("peerAddress: 10.0.0.1, sourceAddress: 10.0.0.9, {secret}"),
            ),
        ],
    ];
    for peers in cases {
        let folder = folder_of("all.yaml", &peers.concat());
        let output = ferrolb(&["check", "-f", folder.path().to_str().expect("text")]);
        let shown = stdout(&output);
        assert!(!shown.contains("error"), "{shown}");
        assert_eq!(output.status.code(), Some(0), "{shown}");
    }
    let without = [network, peer("b", "peerAddress: 10.0.0.1")].concat();
    let folder = folder_of("all.yaml", &without);
    let shown = stdout(&ferrolb(&[
        "check",
        "-f",
        folder.path().to_str().expect("text"),
    ]));
    assert!(shown.contains("spec.password: is missing"), "{shown}");
}
