//! Generates the CRDs of ferrolb's own kinds, and of MetalLB's, from the types that read them.

mod metallb;
mod rules;

use ferrolb_bgp::bfd::{Interval, SessionConfig};
use ferrolb_bgp::config::{HoldTime, limits};
use ferrolb_layer2::limits as layer2;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::peer::BGP_PORT;
use crate::core::api::Kind;
use crate::core::api::bgp_session::{self, BgpSessionStatus};
use crate::core::api::condition::{ACCEPTED, Conditions};
use crate::core::api::ferrolb::{
    FerrolbBgpAdvertisementSpec, FerrolbBgpPeerSpec, FerrolbIpAddressPoolSpec,
    FerrolbL2AdvertisementSpec,
};
use crate::core::api::metallb::{
    BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec, IpAddressPoolSpec,
    L2AdvertisementSpec, PoolStatus,
};
use crate::core::model::drain::Drain;

/// Addresses for Services. Fields that MetalLB's IPAddressPool also has mean the same here.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used: objects are read part by part"
)]
struct PoolSpec {
    #[serde(flatten)]
    shared: IpAddressPoolSpec,
    #[serde(flatten)]
    ferrolb: FerrolbIpAddressPoolSpec,
}

/// A neighbor, or all neighbors in a network, with which nodes have BGP sessions. Fields that
/// MetalLB's BGPPeer also has mean the same here.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used: objects are read part by part"
)]
struct PeerSpec {
    #[serde(flatten)]
    shared: BgpPeerSpec,
    #[serde(flatten)]
    ferrolb: FerrolbBgpPeerSpec,
}

/// Which addresses nodes announce to which BGPPeers, and with which attributes. Fields that
/// MetalLB's BGPAdvertisement also has mean the same here.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used: objects are read part by part"
)]
struct AdvertisementSpec {
    #[serde(flatten)]
    shared: BgpAdvertisementSpec,
    #[serde(flatten)]
    ferrolb: FerrolbBgpAdvertisementSpec,
}

/// Which addresses nodes announce by layer 2 (ARP and NDP): one node for each address. Fields that
/// MetalLB's L2Advertisement also has mean the same here.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used: objects are read part by part"
)]
struct Layer2Spec {
    #[serde(flatten)]
    shared: L2AdvertisementSpec,
    #[serde(flatten)]
    ferrolb: FerrolbL2AdvertisementSpec,
}

/// What ferrolb writes about the pool.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used: objects are read part by part"
)]
struct OwnPoolStatus {
    #[serde(flatten)]
    counts: PoolStatus,
    #[serde(flatten)]
    conditions: Conditions,
}

/// A kind of ferrolb's own.
struct Definition {
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    /// For kubectl: it differs from the names of MetalLB's kind.
    short: &'static str,
    /// None: the object has a status only. It belongs to a Node and not to a namespace, and has no
    /// subresource, so that one request writes it.
    spec: Option<Schema>,
    /// Whether an object without a spec is rejected.
    spec_required: bool,
    /// What ferrolb writes.
    status: Option<Schema>,
    /// Names and paths within the spec of what `kubectl get` prints.
    columns: Vec<Value>,
}

/// The defaults of fields, which are appended to their descriptions.
fn pool_defaults() -> [(&'static str, String); 1] {
    [("autoAssign", true.to_string())]
}

fn bfd_defaults() -> [(&'static str, String); 4] {
    let default = SessionConfig::default();
    let millis = |interval: Interval| interval.duration().as_millis().to_string();
    [
        ("receiveInterval", millis(default.timers.required_min_rx)),
        ("transmitInterval", millis(default.timers.desired_min_tx)),
        ("detectMultiplier", default.timers.detect_mult.to_string()),
        ("minimumTtl", default.min_ttl.to_string()),
    ]
}

fn advertisement_defaults() -> [(&'static str, String); 2] {
    [
        ("aggregationLength", 32.to_string()),
        ("aggregationLengthV6", 128.to_string()),
    ]
}

fn peer_defaults() -> [(&'static str, String); 6] {
    let seconds = |seconds| format!("{seconds}s");
    [
        ("peerPort", BGP_PORT.to_string()),
        ("holdTime", seconds(HoldTime::DEFAULT.as_secs().into())),
        ("enableGracefulRestart", true.to_string()),
        ("restartTime", seconds(limits::RESTART_TIME_DEFAULT.into())),
        (
            "drain/properties/time",
            seconds(Drain::DEFAULT_TIME.as_secs()),
        ),
        ("linkBandwidth", "none".to_owned()),
    ]
}

fn layer2_defaults() -> [(&'static str, String); 4] {
    let interval = layer2::HELLO_INTERVAL.as_millis();
    [
        ("conflictDetection", "fast".to_owned()),
        ("gratuitousRate", layer2::GRATUITOUS_RATE.to_string()),
        ("sticky", true.to_string()),
        (
            "helloInterval",
            format!("{interval}ms, longer with more than 200 nodes"),
        ),
    ]
}

fn column(name: &str, path: &str, r#type: &str) -> Value {
    json!({ "name": name, "jsonPath": format!(".spec.{path}"), "type": r#type })
}

fn status_column(name: &str, field: &str) -> Value {
    json!({ "name": name, "jsonPath": format!(".status.{field}"), "type": "integer" })
}

/// A column that `kubectl get -o wide` alone prints.
fn wide(mut column: Value) -> Value {
    column["priority"] = 1.into();
    column
}

/// The column of the condition. It is empty for an object that was never refused.
fn accepted_column() -> Value {
    let path = format!(".status.conditions[?(@.type=='{ACCEPTED}')].status");
    json!({ "name": ACCEPTED, "jsonPath": path, "type": "string" })
}

/// The status of an own pool. One that is refused has no counts.
fn pool_status() -> Schema {
    let mut status = schema::<OwnPoolStatus>(&[]);
    status.remove("required");
    with_conditions(status)
}

/// A status with conditions, whose fields are all required.
fn with_conditions(mut status: Schema) -> Schema {
    let fields = ["type", "status", "reason", "message", "lastTransitionTime"];
    require(&mut status, "/properties/conditions/items", &fields);
    status
}

/// Makes fields required. Most types accept missing fields, because their errors explain the remedy
/// better than the API server's.
fn require(schema: &mut Schema, pointer: &str, fields: &[&str]) {
    let part = if pointer.is_empty() {
        Some(schema.ensure_object())
    } else {
        schema.pointer_mut(pointer).and_then(Value::as_object_mut)
    };
    if let Some(part) = part {
        part.insert("required".into(), json!(fields));
    }
}

fn definitions() -> [Definition; 7] {
    [
        pool(),
        peer(),
        bfd_profile(),
        advertisement(),
        layer2_advertisement(),
        community(),
        session(),
    ]
}

fn pool() -> Definition {
    let mut spec = schema::<PoolSpec>(&pool_defaults());
    require(&mut spec, "", &["addresses"]);
    let reservation = "/properties/reservations/items";
    require(&mut spec, reservation, &["namespace", "name", "addresses"]);
    rules::add(&mut spec, rules::pool_rules());
    Definition {
        kind: Kind::FerrolbIpAddressPool.name(),
        plural: "ipaddresspools",
        singular: "ipaddresspool",
        short: "lbpool",
        spec: Some(spec),
        spec_required: true,
        status: Some(pool_status()),
        columns: vec![
            column("Auto Assign", "autoAssign", "boolean"),
            column("Avoid Buggy IPs", "avoidBuggyIPs", "boolean"),
            column("Addresses", "addresses", "string"),
            status_column("Assigned IPv4", "assignedIPv4"),
            status_column("Free IPv4", "availableIPv4"),
            status_column("Assigned IPv6", "assignedIPv6"),
            status_column("Free IPv6", "availableIPv6"),
            accepted_column(),
        ],
    }
}

fn peer() -> Definition {
    let mut spec = schema::<PeerSpec>(&peer_defaults());
    require(&mut spec, "", &["myASN"]);
    rules::add(&mut spec, rules::peer_rules());
    Definition {
        kind: Kind::FerrolbBgpPeer.name(),
        plural: "bgppeers",
        singular: "bgppeer",
        short: "lbpeer",
        spec: Some(spec),
        spec_required: true,
        status: Some(with_conditions(schema::<Conditions>(&[]))),
        columns: vec![
            column("Address", "peerAddress", "string"),
            column("Network", "peerNetwork", "string"),
            column("Interface", "interface", "string"),
            column("ASN", "peerASN", "integer"),
            column("BFD Profile", "bfdProfile", "string"),
            column("Multi Hops", "ebgpMultiHop", "boolean"),
            accepted_column(),
        ],
    }
}

fn bfd_profile() -> Definition {
    Definition {
        kind: Kind::FerrolbBfdProfile.name(),
        plural: "bfdprofiles",
        singular: "bfdprofile",
        short: "lbbfd",
        spec: Some(schema::<BfdProfileSpec>(&bfd_defaults())),
        spec_required: false,
        status: Some(with_conditions(schema::<Conditions>(&[]))),
        columns: vec![
            column("Passive Mode", "passiveMode", "boolean"),
            column("Transmit Interval", "transmitInterval", "integer"),
            column("Receive Interval", "receiveInterval", "integer"),
            column("Multiplier", "detectMultiplier", "integer"),
            accepted_column(),
        ],
    }
}

fn advertisement() -> Definition {
    let mut spec = schema::<AdvertisementSpec>(&advertisement_defaults());
    rules::add(&mut spec, rules::advertisement_rules());
    Definition {
        kind: Kind::FerrolbBgpAdvertisement.name(),
        plural: "bgpadvertisements",
        singular: "bgpadvertisement",
        short: "lbbgp",
        spec: Some(spec),
        spec_required: false,
        status: Some(with_conditions(schema::<Conditions>(&[]))),
        columns: vec![
            column("IPAddressPools", "ipAddressPools", "string"),
            column(
                "IPAddressPool Selectors",
                "ipAddressPoolSelectors",
                "string",
            ),
            column("Peers", "peers", "string"),
            wide(column("Node Selectors", "nodeSelectors", "string")),
            accepted_column(),
        ],
    }
}

fn layer2_advertisement() -> Definition {
    let mut spec = schema::<Layer2Spec>(&layer2_defaults());
    rules::add(&mut spec, rules::layer2_rules());
    let preference = "/properties/preferredNodeSelectors/items";
    require(&mut spec, preference, &["weight", "preference"]);
    Definition {
        kind: Kind::FerrolbL2Advertisement.name(),
        plural: "l2advertisements",
        singular: "l2advertisement",
        short: "lbl2",
        spec: Some(spec),
        spec_required: false,
        status: Some(with_conditions(schema::<Conditions>(&[]))),
        columns: vec![
            column("IPAddressPools", "ipAddressPools", "string"),
            column(
                "IPAddressPool Selectors",
                "ipAddressPoolSelectors",
                "string",
            ),
            column("Interfaces", "interfaces", "string"),
            wide(column("Node Selectors", "nodeSelectors", "string")),
            accepted_column(),
        ],
    }
}

fn community() -> Definition {
    let mut spec = schema::<CommunitySpec>(&[]);
    require(
        &mut spec,
        "/properties/communities/items",
        &["name", "value"],
    );
    rules::add(&mut spec, rules::community_rules());
    Definition {
        kind: Kind::FerrolbCommunity.name(),
        plural: "communities",
        singular: "community",
        short: "lbcommunity",
        spec: Some(spec),
        spec_required: true,
        status: Some(with_conditions(schema::<Conditions>(&[]))),
        columns: vec![
            column("Communities", "communities", "string"),
            accepted_column(),
        ],
    }
}

fn session() -> Definition {
    let column = |name: &str, field: &str, r#type: &str, priority: u8| {
        let path = format!(".status.{field}");
        json!({ "name": name, "jsonPath": path, "type": r#type, "priority": priority })
    };
    Definition {
        kind: bgp_session::KIND,
        plural: bgp_session::PLURAL,
        singular: "bgpsession",
        short: "lbsession",
        spec: None,
        spec_required: false,
        status: Some(schema::<BgpSessionStatus>(&[])),
        columns: vec![
            column("Node", "node", "string", 0),
            column("Peer", "peer", "string", 0),
            column("VRF", "vrf", "string", 0),
            column("BGP", "bgp", "string", 0),
            column("BFD", "bfd", "string", 0),
            column("Since", "since", "date", 0),
            column("Address", "address", "string", 1),
            column("Prefixes Sent", "prefixesSent", "integer", 1),
            column("Last Error", "lastError.message", "string", 1),
        ],
    }
}

/// The CRD.
fn crd(definition: Definition) -> Value {
    let Definition {
        kind,
        plural,
        singular,
        short,
        spec,
        spec_required,
        status,
        columns,
    } = definition;
    let (group, version) = Kind::OWN_API_VERSION.split_once('/').unwrap_or_default();
    let mut object = json!({
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
        },
    });
    if spec_required {
        object["required"] = json!(["spec"]);
    }
    let has_subresource = status.is_some() && spec.is_some();
    // `kubectl get ferrolb` exports the configuration, which sessions are no part of.
    let categories: &[&str] = if spec.is_some() { &["ferrolb"] } else { &[] };
    let scope = if spec.is_some() {
        "Namespaced"
    } else {
        "Cluster"
    };
    if let Some(spec) = spec {
        object["properties"]["spec"] = spec.into();
    }
    if let Some(status) = status {
        object["properties"]["status"] = status.into();
    }
    let mut crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": {
            "group": group,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": singular,
                "shortNames": [short],
                "categories": categories,
            },
            "scope": scope,
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "schema": { "openAPIV3Schema": object },
            }],
        },
    });
    if has_subresource {
        crd["spec"]["versions"][0]["subresources"] = json!({ "status": {} });
    }
    crd
}

/// The structural schema of a spec, as Kubernetes requires it: without references.
fn schema<T: JsonSchema>(defaults: &[(&str, String)]) -> Schema {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.transforms = Vec::new();
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(structural).transform(&mut schema);
    for (field, default) in defaults {
        let description = format!("/properties/{field}/description");
        if let Some(Value::String(text)) = schema.pointer_mut(&description) {
            *text = format!("{text} Default: {default}.");
        }
    }
    schema
}

fn structural(schema: &mut Schema) {
    // Titles are names of Rust types. The daemon applies the defaults.
    schema.remove("title");
    schema.remove("default");
    if schema.remove("format") == Some("uint32".into()) && schema.get("maximum").is_none() {
        schema.insert("maximum".into(), u32::MAX.into());
    }
    // An optional field is left out, not null.
    if let Some(Value::Array(types)) = schema.get("type") {
        let not_null = types.iter().find(|name| **name != "null").cloned();
        schema.insert("type".into(), not_null.into());
    }
    // An enum whose variants have descriptions.
    if let Some(Value::Array(variants)) = schema.remove("oneOf") {
        let names: Vec<Value> = variants
            .iter()
            .map(|variant| variant["const"].clone())
            .collect();
        schema.insert("type".into(), "string".into());
        schema.insert("enum".into(), names.into());
    }
    // Doc comments are wrapped for editors.
    if let Some(Value::String(text)) = schema.get("description") {
        let text = text.replace('\n', " ");
        schema.insert("description".into(), text.into());
    }
}

/// The CRDs of ferrolb's own kinds as YAML, for `kubectl apply`.
///
/// # Errors
/// Serialization fails.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let header = "# ferrolb's own kinds: MetalLB's fields and further ones. Generated by: ferrolb \
                  crds\n";
    documents(header, definitions().map(crd))
}

/// The CRDs of MetalLB's kinds as YAML.
///
/// # Errors
/// Serialization fails.
pub fn metallb_yaml() -> Result<String, serde_saphyr::ser::Error> {
    let header = "# MetalLB's kinds, without a webhook, for a cluster that never had MetalLB. \
                  Generated by: ferrolb crds --metallb\n";
    documents(header, metallb::crds())
}

fn documents(
    header: &str,
    objects: impl IntoIterator<Item = Value>,
) -> Result<String, serde_saphyr::ser::Error> {
    let mut text = header.to_owned();
    for object in objects {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        text += "---\n";
        text += &serde_saphyr::to_string_with_options(&object, options)?;
    }
    Ok(text)
}
