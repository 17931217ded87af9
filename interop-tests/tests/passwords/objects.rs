//! Objects with passwords, for the API server and as files: valid ones, and mistakes at each place
//! where a password can be.

use std::fs;
use std::path::Path;

use anyhow::Result;
use ferrolb_interop_tests::manifest::{self, NAMESPACE, service};
use ferrolb_interop_tests::topology::{NODE_ASN, TOR_ASN, TOR_IPV4};
use serde_json::{Value, json};

use super::needles::padded_base64;

/// The router's, with a session. vtysh takes the rest of the line.
pub(crate) const ROUTER: &str = "thylacine7\"q'<b>&%41\\marsupials;$(x)";
/// In a Secret, with characters that control a terminal, and a newline at its end.
const CONTROLS: &str = "armadillos\u{1b}[2J\n\"chinchilla'\t\u{7f}\u{202e}ü\0x\n";
/// In MetalLB's BGPPeer.
const INLINE: &str = "wolverine22\"\n'oceloticats: {a}";
/// In MetalLB's old ConfigMap, which means a session.
const OLD: &str = "platypuses44'\"#echidnas55";
/// The key of layer 2.
const LAYER2: &str = "narwhalseal-9-porpoises66";
/// Its key before that.
const LAYER2_BEFORE: &str = "belugawhale77-and-more-octets";

/// Of objects with mistakes, each with its name.
const MISTAKEN: [(&str, &str); 16] = [
    ("opaque", "meerkatmob88"),
    ("too long", "kookaburras-"),
    ("not text", "axolotlpond99"),
    ("both", "capybaraherd1"),
    ("broken ConfigMap", "tamarinmonkey2"),
    ("unknown field of the ConfigMap", "marmosetfield3"),
    ("number", "9182736455463728"),
    ("not base64", "tasmaniandevil4"),
    ("list", "numbatburrow5"),
    ("object", "bandicoots66"),
    ("text instead of a Secret's name", "dormousenest7"),
    ("misspelt field", "wombatburrow8"),
    ("open quote", "quollmarsupial9"),
    ("field twice", "bettongfield10"),
    ("lost indentation", "potoroofield11"),
    ("bare text", "pademelongrass12"),
];

fn mistaken(name: &str) -> &'static str {
    let found = MISTAKEN.iter().find(|(known, _)| *known == name);
    found.map_or_else(|| panic!("no password {name:?}"), |(_, text)| text)
}

/// All passwords, by name.
pub(crate) fn passwords() -> Vec<(&'static str, Vec<u8>)> {
    let valid = [
        ("the router's", ROUTER),
        ("with control characters", CONTROLS),
        ("inline", INLINE),
        ("of the ConfigMap", OLD),
        ("of layer 2", LAYER2),
        ("of layer 2, previous", LAYER2_BEFORE),
    ];
    let all = valid.into_iter().chain(MISTAKEN);
    all.map(|(name, text)| (name, text.as_bytes().to_vec()))
        .collect()
}

/// A Secret of this type.
fn secret(name: &str, kind: &str, data: &[(&str, &[u8])]) -> Value {
    let data = data.iter().map(|(key, octets)| {
        let value = Value::String(padded_base64(octets));
        ((*key).to_owned(), value)
    });
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": data.collect::<serde_json::Map<_, _>>(),
    })
}

fn basic_auth(name: &str, password: &[u8]) -> Value {
    secret(name, "kubernetes.io/basic-auth", &[("password", password)])
}

/// A BGPPeer at this address of the rack, of MetalLB or ferrolb. `more` is in its spec.
fn peer(api_version: &str, name: &str, address: &str, more: Value) -> Value {
    let mut spec = json!({"myASN": NODE_ASN, "peerASN": TOR_ASN, "peerAddress": address});
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({
        "apiVersion": api_version, "kind": "BGPPeer",
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    })
}

const METALLB: &str = "metallb.io/v1beta2";
const FERROLB: &str = "ferrolb.io/v1alpha1";

fn of_secret(name: &str) -> Value {
    json!({"passwordSecret": {"name": name}})
}

fn config_map(namespace: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "config", "namespace": namespace}, "data": {"config": text},
    })
}

/// The text of the old ConfigMap. `password` is the rest of the line with that key.
fn old_text(address: &str, password: &str) -> String {
    format!(
        "peers:\n- peer-address: {address}\n  peer-asn: {TOR_ASN}\n  my-asn: {NODE_ASN}\n  \
         password: {password}\naddress-pools:\n- name: old\n  protocol: bgp\n  \
         addresses: [198.51.100.0/29]\n"
    )
}

fn documents(objects: &[Value]) -> String {
    let texts: Vec<String> = objects.iter().map(|object| format!("{object}\n")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    manifest::join(&texts)
}

/// The namespace of a ConfigMap that means a session, and of one with mistakes.
pub(crate) const OLD_NAMESPACES: [&str; 2] = ["old", "older"];

/// Objects that an API server accepts, of which some are mistakes all the same. Passwords are in
/// Secrets, in a BGPPeer and in ConfigMaps.
pub(crate) fn accepted() -> String {
    let mut not_text = vec![0xff, 0xfe];
    not_text.extend(mistaken("not text").as_bytes());
    let [old, older] = OLD_NAMESPACES;
    let broken = format!(
        "[{}]\n  passphrase: {}",
        mistaken("broken ConfigMap"),
        mistaken("unknown field of the ConfigMap")
    );
    let too_long = mistaken("too long").repeat(8);
    let layer2 = [
        ("secretkey", LAYER2.as_bytes()),
        ("previous", LAYER2_BEFORE.as_bytes()),
    ];
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": old}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": older}}),
        basic_auth("router", ROUTER.as_bytes()),
        basic_auth("controls", CONTROLS.as_bytes()),
        basic_auth("not-text", &not_text),
        basic_auth("too-long", too_long.as_bytes()),
        secret(
            "opaque",
            "Opaque",
            &[("password", mistaken("opaque").as_bytes())],
        ),
        secret("memberlist", "Opaque", &layer2),
        peer(FERROLB, "tor", &TOR_IPV4.to_string(), {
            let mut more = of_secret("router");
            more["holdTime"] = json!("9s");
            more
        }),
        peer(METALLB, "controls", "10.99.0.201", of_secret("controls")),
        peer(
            METALLB,
            "inline",
            "10.99.0.202",
            json!({"password": INLINE}),
        ),
        peer(METALLB, "not-text", "10.99.0.203", of_secret("not-text")),
        peer(METALLB, "too-long", "10.99.0.204", of_secret("too-long")),
        peer(METALLB, "opaque", "10.99.0.205", of_secret("opaque")),
        peer(METALLB, "both", "10.99.0.206", {
            let mut more = of_secret("router");
            more["password"] = json!(mistaken("both"));
            more
        }),
        config_map(old, &old_text("10.99.0.207", &format!("{OLD:?}"))),
        config_map(older, &old_text("10.99.0.208", &broken)),
    ];
    manifest::join(&[
        &documents(&objects),
        &manifest::pool("192.0.2.0/28"),
        &manifest::advertisement("ipAddressPools: [pool]"),
        &manifest::pool("10.99.0.220-10.99.0.230").replace("name: pool", "name: lan"),
        &manifest::layer2_advertisement("ipAddressPools: [lan], interfaces: [uplink]"),
        &service("web", "annotations: {metallb.io/address-pool: pool},", ""),
        &service("lan", "annotations: {metallb.io/address-pool: lan},", ""),
    ])
}

/// The rules of 2-rbac.yaml that are comments there, for all processes.
pub(crate) const STATUS_ROLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: metallb-status}
rules:
  - apiGroups: [metallb.io]
    resources: [servicel2statuses, servicebgpstatuses, configurationstates]
    verbs: [list, create, patch, delete]
  - apiGroups: [metallb.io]
    resources: [servicel2statuses/status, servicebgpstatuses/status, configurationstates/status]
    verbs: [patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: metallb-status}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metallb-status}
subjects:
  - {kind: ServiceAccount, name: ferrolb-allocator, namespace: metallb-system}
  - {kind: ServiceAccount, name: ferrolb-announcer, namespace: metallb-system}
  - {kind: ServiceAccount, name: ferrolb-layer2, namespace: metallb-system}
";

/// MetalLB's workloads, of which no Pod runs: what `ferrolb migrate` looks for.
pub(crate) const METALLB_WORKLOADS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: controller
  namespace: metallb-system
  labels: {app: metallb, component: controller}
spec:
  replicas: 0
  selector: {matchLabels: {app: metallb, component: controller}}
  template:
    metadata: {labels: {app: metallb, component: controller}}
    spec: {containers: [{name: controller, image: none}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: speaker, namespace: metallb-system, labels: {app: metallb, component: speaker}}
spec:
  selector: {matchLabels: {app: metallb, component: speaker}}
  template:
    metadata: {labels: {app: metallb, component: speaker}}
    spec: {containers: [{name: speaker, image: none}]}
";

/// The names of the files with mistakes.
pub(crate) const MISTAKES: [&str; 6] = [
    "secrets.yaml",
    "peers.yaml",
    "open-quote.yaml",
    "twice.yaml",
    "config-map.yaml",
    "bare.yaml",
];

/// Writes files with a mistake at each place where a password can be, and what else it takes to be
/// read.
pub(crate) fn write_mistakes(folder: &Path) -> Result<()> {
    let secret = |name: &str, rest: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
             type: kubernetes.io/basic-auth\n{rest}\n"
        )
    };
    let secrets = [
        secret(
            "number",
            &format!("stringData: {{password: {}}}", mistaken("number")),
        ),
        secret(
            "not-base64",
            &format!("data: {{password: '{}!'}}", mistaken("not base64")),
        ),
        secret("list", &format!("data: [{}]", mistaken("list"))),
    ];
    let mut peers = accepted();
    let secret_peers = ["number", "not-base64", "list"];
    for (place, name) in secret_peers.into_iter().enumerate() {
        let address = format!("10.99.0.{}", 210 + place);
        peers += &format!("---\n{}\n", peer(METALLB, name, &address, of_secret(name)));
    }
    for (name, more) in [
        ("peer-list", json!({"password": [mistaken("list")]})),
        (
            "peer-object",
            json!({"password": {"a": mistaken("object")}}),
        ),
        (
            "peer-name",
            json!({"passwordSecret": mistaken("text instead of a Secret's name")}),
        ),
        (
            "peer-misspelt",
            json!({"pasword": mistaken("misspelt field"), "Password": ROUTER}),
        ),
        (
            "peer-number",
            json!({"password": 9_182_736_455_463_728_u64}),
        ),
    ] {
        for api_version in [METALLB, FERROLB, "metallb.io/v1beta1"] {
            let name = format!("{name}-{}", api_version.replace(['.', '/'], "-"));
            peers += &format!(
                "---\n{}\n",
                peer(api_version, &name, "10.99.0.240", more.clone())
            );
        }
    }
    let quote = format!(
        "stringData: {{password: \"{}}}\nmore: 'x",
        mistaken("open quote")
    );
    let twice = mistaken("field twice");
    let twice = format!("stringData:\n  password: {twice}\n  password: {twice}");
    let lost = mistaken("lost indentation");
    let lost =
        format!("peers:\n- my-asn: 1\npeer-asn: 2\npeer-address: 10.0.0.1\npassword: {lost}\n");
    for (name, text) in MISTAKES.into_iter().zip([
        manifest::join(&secrets.each_ref().map(String::as_str)),
        peers,
        secret("open-quote", &quote),
        secret("twice", &twice),
        format!("{}\n", config_map(NAMESPACE, &lost)),
        format!("- {}\n", mistaken("bare text")),
    ]) {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// Writes the old configuration as a text of its own, valid and not.
pub(crate) fn write_old_texts(folder: &Path) -> Result<()> {
    let broken = format!("[{}]", mistaken("broken ConfigMap"));
    fs::write(
        folder.join("old.yaml"),
        old_text("10.0.0.1", &format!("{OLD:?}")),
    )?;
    fs::write(folder.join("broken.yaml"), old_text("10.0.0.1", &broken))?;
    Ok(())
}
