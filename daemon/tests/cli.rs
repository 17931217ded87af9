//! The program as its users meet it: exit codes, places and remedies in errors, JSON for programs, the demo.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

fn ferrolb(arguments: &[&str]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrolb"));
    command
        .current_dir(folder)
        .args(arguments)
        .env_remove("POD_NAMESPACE");
    command.output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn check_passes_good_manifests() {
    let output = ferrolb(&["check", "-f", "base.yaml", "families.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(
        stdout(&output).starts_with("all valid: 10 objects read"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn check_names_place_and_remedy_and_fails() {
    let output = ferrolb(&["check", "-f", "refused.yaml"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "refused.yaml:32 BGPPeer metallb-system/without-secret: notice: spec.passwordSecret: the input does \
         not contain the Secret metallb-system/missing: its password was not checked",
        "refused.yaml:72 BGPPeer default/elsewhere: error: is in namespace default, but configuration is read only from \
         metallb-system: move it, or add --config-namespace default",
        "refused.yaml:37 BGPPeer metallb-system/without-profile: error: spec.bfdProfile: there is no BFDProfile \
         metallb-system/fast: create it, or remove bfdProfile",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colours are for terminals");
}

/// What the help texts export from a cluster contains no passwords.
#[test]
fn no_secret_is_needed_for_check_and_plan_and_no_help_asks_for_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("peer.yaml");
    let peer = "{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {name: tor, namespace: metallb-system}, \
                spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, passwordSecret: {name: tor}}}\n";
    std::fs::write(&file, peer).expect("written");
    let path = file.display().to_string();
    let checked = ferrolb(&["check", "-f", &path]);
    let text = stdout(&checked);
    assert_eq!(checked.status.code(), Some(0), "{text}");
    assert!(text.contains(
        "BGPPeer metallb-system/tor: notice: spec.passwordSecret: the input does not contain the \
         Secret metallb-system/tor"
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

#[test]
fn check_fails_on_advertisements_that_contradict_each_other_at_an_address() {
    let output = ferrolb(&["check", "-f", "base.yaml", "withheld.yaml"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = "withheld.yaml:29 BGPAdvertisement metallb-system/low: error: spec.localPref: 100 conflicts with 200";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_file_that_is_no_yaml_is_named_with_its_line() {
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

/// The API server takes null for absent, and `kubectl create --dry-run=client -o yaml` prints `creationTimestamp: null`.
#[test]
fn null_is_absent_and_a_plan_without_nodes_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("all.yaml");
    let service = "{apiVersion: v1, kind: Service, metadata: {name: web, labels: , annotations: , creationTimestamp: null, \
                   namespace: null, uid: null}, spec: {type: LoadBalancer, ports: null, selector: null}, \
                   status: {loadBalancer: null}}\n---\n\
                   {apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: pool, creationTimestamp: null}, \
                   spec: {addresses: [192.0.2.0/24], autoAssign: null, serviceAllocation: null}}";
    std::fs::write(&file, service).expect("written");
    let file = file.display().to_string();
    let checked = ferrolb(&["check", "-f", &file]);
    assert_eq!(checked.status.code(), Some(0), "{}", stdout(&checked));
    let planned = stdout(&ferrolb(&["plan", "-f", &file]));
    let hint = "neither a Node nor an EndpointSlice; add the output of kubectl get nodes,endpointslices -A";
    assert_eq!(planned.matches(hint).count(), 1, "{planned}");
}

#[test]
fn plan_speaks_json() {
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
fn check_of_nothing_fails_and_a_reader_that_has_enough_is_no_error() {
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
fn plan_of_nothing_says_what_to_do() {
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
fn run_without_a_node_name_says_how_to_give_one() {
    let output = ferrolb(&["run", "--manifests", ".", "--metrics-addr", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("--node-name") && text.contains("NODE_NAME"),
        "{text}"
    );
}

#[test]
fn run_for_a_node_that_is_not_there_says_so() {
    let folder = std::env::temp_dir().join(format!("ferrolb-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let unread = "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: a}}";
    std::fs::write(folder.join("l2.yaml"), unread).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ferrolb"))
        .arg("run")
        .arg("--manifests")
        .arg(&folder)
        .args(["--node-name", "nod1", "--metrics-addr", "127.0.0.1:0"])
        .arg("--socket")
        .arg(folder.with_extension("sock"))
        .args(["--log-format", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .try_for_each(|line| said.send(line))
    });
    let mut warnings = std::iter::from_fn(|| heard.recv_timeout(Duration::from_secs(20)).ok())
        .filter(|line| line.contains("WARN"));
    let first = warnings.next().unwrap_or_default();
    let complaint = warnings.next();
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(
        first.contains("L2Advertisement of metallb.io/v1beta1 has no effect")
            && first.contains("l2.yaml:1"),
        "{first}"
    );
    let complaint = complaint.expect("no warning");
    assert!(
        complaint.contains("no Node object of this name") && complaint.contains("\"nod1\""),
        "{complaint}"
    );
}

/// The bound: under 15 seconds, exit 0.
#[test]
fn the_demo_ends_well() {
    let begin = Instant::now();
    let output = ferrolb(&["demo"]);
    let text = stdout(&output);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(begin.elapsed() < Duration::from_secs(15));
    assert_eq!(text.matches("✓ routes received").count(), 4, "{text}");
    assert!(text.contains("NoLocalEndpoints"), "{text}");
    let first = text.split("✓").next().unwrap_or_default();
    for path in [
        "203.0.113.1/32   127.0.0.11 (node-a)",
        "127.0.0.12 (node-b)",
        "127.0.0.13 (node-c)",
    ] {
        assert!(first.contains(path), "{text}");
    }
}

#[test]
fn crds_are_what_the_manifests_ship_and_check_knows_every_field_of_them() {
    let printed = stdout(&ferrolb(&["crds"]));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests/0-crds.yaml");
    assert_eq!(printed, std::fs::read_to_string(shipped).expect("shipped"));
    let definition: Value = serde_saphyr::from_str(&printed).expect("YAML");
    let version = &definition["spec"]["versions"][0];
    let fields = &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let fields: Vec<&String> = fields.as_object().expect("fields").keys().collect();
    assert!(fields.len() > 30, "{fields:?}");
    // With every field set to nonsense none is unknown.
    let spec: serde_json::Map<String, Value> = fields
        .into_iter()
        .map(|field| (field.clone(), Value::Null))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("all.json");
    let object = serde_json::json!({
        "apiVersion": "ferrolb.io/v1alpha1", "kind": "BGPPeer", "metadata": { "name": "all" }, "spec": spec,
    });
    std::fs::write(&file, object.to_string()).expect("written");
    let checked = stdout(&ferrolb(&["check", "-f", &file.display().to_string()]));
    assert!(
        checked.contains("BGPPeer.ferrolb.io metallb-system/all: error"),
        "{checked}"
    );
    assert!(!checked.contains("unknown field"), "{checked}");
}

/// `kubectl get` of the configuration alone has no Nodes: what clashes on every node is an error all the same.
#[test]
fn what_clashes_on_every_node_is_told_without_nodes_too() {
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
    let told = "BGPPeer.ferrolb.io metallb-system/b: error: on every node: spec.peerAddress:";
    assert!(
        text.contains(told) && text.contains("1 error in 3"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn bad_peers_are_named_with_place_and_remedy_and_take_nothing_along() {
    let output = ferrolb(&["check", "-f", "base.yaml", "peers.yaml"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "peers.yaml:17 BGPPeer.ferrolb.io metallb-system/tor: error: metadata.name: is already used by \
         BGPPeer metallb-system/tor, which is older",
        "BGPPeer.ferrolb.io metallb-system/again: error: on node-a, node-b: spec.peerAddress: \
         conflicts with BGPPeer metallb-system/tor",
        "BGPPeer.ferrolb.io metallb-system/is-node-b: error: on node-b: spec.peerAddress: 10.0.0.12 is an address of this node",
        "BGPPeer metallb-system/secret-of-81-octets: error: spec.passwordSecret: the password has 81 octets",
        "BGPPeer metallb-system/secret-without-key: error: spec.passwordSecret: Secret metallb-system/without-key has no key",
        "BFDProfile metallb-system/fast: notice: spec.echoMode",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("ppp"), "a password is never printed");
}

/// A dump as kubectl prints it, as large as thousands of Services make it.
fn dump_of_services(count: usize) -> String {
    let mut text = "apiVersion: v1\nitems:\n".to_owned();
    for number in 0..count {
        text += &format!(
            "- apiVersion: v1\n  kind: Service\n  metadata:\n    annotations:\n      \
             kubectl.kubernetes.io/last-applied-configuration: |\n        {{\"apiVersion\":\"v1\"}}\n    \
             name: s{number}\n    namespace: default\n  spec:\n    clusterIP: 10.96.0.1\n    \
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

/// A folder with one file.
fn folder_of(name: &str, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(name), text).expect("written");
    folder
}

#[test]
fn kinds_that_are_not_read_are_named_with_what_to_do() {
    let object = |kind: &str, version: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n---\n")
    };
    let l2 = object("L2Advertisement", "metallb.io/v1beta1");
    let text = [
        l2.clone(),
        l2,
        object("AddressPool", "metallb.io/v1beta1"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\ndata:\n  config: |\n    \
         address-pools:\n    - name: default\n---\n"
            .to_owned(),
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
        "all.yaml:1: notice: L2Advertisement of metallb.io/v1beta1 (2 objects, this is the first) has no effect: \
         ferrolb has no layer 2 mode",
        "notice: AddressPool of metallb.io/v1beta1 has no effect: this older form is not supported",
        "notice: ConfigMap of v1 has no effect: MetalLB's ConfigMap is not supported",
        "notice: service of v1 has no effect: no such kind: write kind Service and apiVersion v1",
        "notice: IPAddressPool of metallb.com/v1 has no effect: no such kind: write kind IPAddressPool and \
         apiVersion metallb.io/v1beta1",
        "notice: CiliumLoadBalancerIPPool of cilium.io/v2alpha1 has no effect: Cilium's resources",
        "notice: IPPool of crd.projectcalico.org/v1 has no effect: Calico's resources",
        "notice: ServiceGroup of purelb.io/v1 has no effect: PureLB's resources",
        "notice: Servise of v1 has no effect: no such kind: write kind Service and apiVersion v1",
        "notice: IsovalentBGPClusterConfig of isovalent.com/v1alpha1 has no effect: Isovalent (Cilium)'s resources",
    ] {
        assert!(shown.contains(line), "{line}\nis not in\n{shown}");
    }
    assert!(!shown.contains("Deployment"), "{shown}");
    assert!(
        shown.ends_with("ferrolb reads none of these 12 objects\n"),
        "{shown}"
    );
    let plan = ferrolb(&["plan", "-f", path]);
    let shown = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert!(shown.contains("L2Advertisement"), "{shown}");
    assert!(
        shown.contains("ferrolb reads none of these objects"),
        "{shown}"
    );
}

#[test]
fn a_kustomization_in_a_folder_is_no_object_to_check() {
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
fn a_connect_time_with_a_part_of_a_second_is_refused_as_by_the_api_server() {
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
fn a_service_as_it_is_in_git_is_planned_with_the_families_of_its_spec() {
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
fn a_syntax_error_names_line_and_column_and_no_password() {
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
fn a_misspelt_annotation_gets_a_notice_with_the_nearest_key() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations:\n    \
                metallb.universe.tf/loadbalancerIP: 192.0.2.1\n    example.com/address-pool: x\nspec: \
                {type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80}]}\n";
    let folder = folder_of("all.yaml", text);
    let output = ferrolb(&["check", "-f", folder.path().to_str().expect("text")]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    let line = "notice: metadata.annotations[metallb.universe.tf/loadbalancerIP]: has no effect: did you mean \
                metallb.io/loadBalancerIPs?";
    assert!(shown.contains(line), "{shown}");
    assert!(!shown.contains("example.com"), "{shown}");
}

#[test]
fn a_misspelt_annotation_of_a_node_or_one_given_as_a_label_gets_a_notice() {
    let text = "\
{apiVersion: v1, kind: Node, metadata: {name: a, annotations: {ferrolb.io/wieght: '2'}}}
---
{apiVersion: v1, kind: Node, metadata: {name: b, labels: {ferrolb.io/weight: '2', metallb.io/rack: a}}}
---
{apiVersion: v1, kind: Node, metadata: {name: c, annotations: {metallb.io/address-pool: x}}}
---
{apiVersion: v1, kind: Node, metadata: {name: d, labels: {metallb.io/rack: a}, annotations: {ferrolb.io/weight: '2'}}}
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
        "Node a: notice: metadata.annotations[ferrolb.io/wieght]: has no effect: did you mean ferrolb.io/weight?",
        "Node b: notice: metadata.labels[ferrolb.io/weight]: has no effect as a label: did you mean the annotation \
         ferrolb.io/weight?",
        "Node c: notice: metadata.annotations[metallb.io/address-pool]: has no effect: known are ferrolb.io/weight",
        "Service default/a: notice: metadata.labels[metallb.io/address-pool]: has no effect as a label: did you mean the \
         annotation metallb.io/address-pool?",
    ] {
        assert!(shown.contains(line), "{line}\nis not in\n{shown}");
    }
    assert_eq!(shown.matches("notice").count(), 4, "{shown}");
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

#[test]
fn all_errors_of_an_object_are_reported_with_one_line_number() {
    let text = "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool}
spec:
  addresses: [192.0.2.0/33, x, 198.51.100.0/24]
  serviceAllocation: {namespaces: [a, a], serviceSelectors: [{matchExpressions: [{key: b, operator: Like}]}]}
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
            8,
            vec![
                "spec.aggregationLength:",
                "aggregationLengthV6",
                "\"nope\"",
                "\"1:2:3\"",
                "spec.peers",
            ],
        ),
        (
            13,
            vec![
                "receiveInterval",
                "transmitInterval",
                "detectMultiplier",
                "minimumTtl",
            ],
        ),
        (18, vec!["communities[0].value", "communities[1].value"]),
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
fn what_is_no_object_is_refused_in_words_for_people() {
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
fn control_characters_of_manifests_never_reach_the_terminal_and_json_has_them_exactly() {
    let name = "a\u{1b}[2J\u{9b}1m\n\u{202e}b";
    let object = |version: &str, kind: &str, spec: Value| {
        let metadata = serde_json::json!({ "name": name, "namespace": "metallb-system" });
        serde_json::json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec }).to_string()
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
fn an_aggregate_wider_than_the_largest_cidr_of_a_range_is_refused() {
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

/// The password is not known, so nothing is known to clash with it.
#[test]
fn a_secret_that_the_input_lacks_makes_no_clash_of_passwords() {
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

#[test]
fn errors_of_type_are_reported_together_with_what_is_wrong_in_the_other_fields() {
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
            "apiVersion: ferrolb.io/v1alpha1\nkind: BGPPeer\nmetadata: {{name: one}}\nspec: {{{spec}}}\n"
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
