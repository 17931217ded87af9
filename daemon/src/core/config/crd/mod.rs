//! Generates the CRDs of ferrolb's own kinds from the types that read them.

use ferrolb_bgp::config::{HoldTime, limits};
use ferrolb_layer2::limits as layer2;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::peer::BGP_PORT;
use crate::core::api::Kind;
use crate::core::api::ferrolb::{FerrolbBgpPeerSpec, FerrolbL2AdvertisementSpec};
use crate::core::api::metallb::{BgpPeerSpec, L2AdvertisementSpec};
use crate::core::model::drain::Drain;

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

/// A kind of ferrolb's own.
struct Definition {
    kind: Kind,
    plural: &'static str,
    singular: &'static str,
    spec: Schema,
    /// Whether an object without a spec is rejected.
    spec_required: bool,
    /// Names and paths within the spec of what `kubectl get` prints.
    columns: Vec<Value>,
}

/// The rules between fields, as CEL expressions, each with the message for the user.
fn peer_rules() -> Vec<Value> {
    let number = |field: &str| format!("(has(self.{field}) && self.{field} != 0)");
    let is = |field: &str| format!("(has(self.{field}) && self.{field})");
    let (address, network) = (set("peerAddress"), set("peerNetwork"));
    let rules = [
        (
            format!(
                "[{address}, {network}, {}].exists_one(given, given)",
                set("interface")
            ),
            "set exactly one of peerAddress, peerNetwork and interface",
        ),
        (
            format!("{} != {}", number("peerASN"), set("dynamicASN")),
            "set either peerASN or dynamicASN",
        ),
        (
            format!(
                "!({} && has(self.passwordSecret) && has(self.passwordSecret.name) && \
                 self.passwordSecret.name != '')",
                set("password")
            ),
            "set at most one of password and passwordSecret",
        ),
        (
            format!("!(has(self.ttlSecurity) && {})", is("ebgpMultiHop")),
            "ttlSecurity already allows several hops: remove ebgpMultiHop",
        ),
        (
            format!("!{} || {}", is("bfdStrict"), set("bfdProfile")),
            "bfdStrict requires BFD: set bfdProfile",
        ),
        (
            "!has(self.restartTime) || !has(self.enableGracefulRestart) || \
             self.enableGracefulRestart"
                .to_owned(),
            "restartTime conflicts with enableGracefulRestart: false",
        ),
    ];
    let rules = rules.map(|(rule, message)| (rule, message.to_owned()));
    let rules = rules.into_iter().chain(timer_rules());
    rules
        .map(|(rule, message)| json!({ "rule": rule, "message": message }))
        .collect()
}

/// The rules of [`super::timers`] that CEL can express.
fn timer_rules() -> [(String, String); 3] {
    let (hold, keepalive) = (set("holdTime"), set("keepaliveTime"));
    let hold_min = HoldTime::MIN.as_secs();
    let keepalive_min = limits::KEEPALIVE_TIME_MIN.as_secs();
    [
        (
            format!(
                "!{hold} || duration(self.holdTime) == duration('0s') || duration(self.holdTime) \
                 >= duration('{hold_min}s')"
            ),
            format!("holdTime is 0s, or {hold_min}s and more (RFC 4271)"),
        ),
        (
            format!(
                "!{hold} || !{keepalive} || duration(self.keepaliveTime) <= \
                 duration(self.holdTime)"
            ),
            "keepaliveTime is longer than holdTime".to_owned(),
        ),
        (
            format!(
                "!{keepalive} || duration(self.keepaliveTime) == duration('0s') || \
                 duration(self.keepaliveTime) >= duration('{keepalive_min}s')"
            ),
            format!("keepaliveTime is 0s (a third of holdTime), or {keepalive_min}s and more"),
        ),
    ]
}

/// A CEL expression: the text field is set.
fn set(field: &str) -> String {
    format!("(has(self.{field}) && self.{field} != '')")
}

/// The defaults of fields, which are appended to their descriptions.
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

/// The rules of `helloInterval`.
fn layer2_rules() -> Value {
    let (min, max) = layer2::HELLO_INTERVAL_RANGE;
    let (min, max) = (
        format!("{}ms", min.as_millis()),
        format!("{}s", max.as_secs()),
    );
    let interval = "duration(self.helloInterval)";
    json!([{
        "rule": format!(
            "!has(self.helloInterval) || ({interval} >= duration('{min}') && {interval} <= \
             duration('{max}'))"
        ),
        "message": format!("helloInterval is {min} to {max}"),
    }])
}

fn column(name: &str, path: &str, r#type: &str) -> Value {
    json!({ "name": name, "jsonPath": format!(".spec.{path}"), "type": r#type })
}

fn definitions() -> [Definition; 2] {
    // The types accept missing fields, because their errors explain the remedy better than the API
    // server's.
    let mut peer = schema::<PeerSpec>(&peer_defaults());
    peer.insert("required".into(), json!(["myASN"]));
    peer.insert("x-kubernetes-validations".into(), peer_rules().into());
    let mut layer2 = schema::<Layer2Spec>(&layer2_defaults());
    layer2.insert("x-kubernetes-validations".into(), layer2_rules());
    let preference = "/properties/preferredNodeSelectors/items";
    if let Some(Value::Object(preference)) = layer2.pointer_mut(preference) {
        preference.insert("required".into(), json!(["weight", "preference"]));
    }
    [
        Definition {
            kind: Kind::FerrolbBgpPeer,
            plural: "bgppeers",
            singular: "bgppeer",
            spec: peer,
            spec_required: true,
            columns: vec![
                column("Address", "peerAddress", "string"),
                column("Network", "peerNetwork", "string"),
                column("ASN", "peerASN", "integer"),
                column("BFD Profile", "bfdProfile", "string"),
            ],
        },
        Definition {
            kind: Kind::FerrolbL2Advertisement,
            plural: "l2advertisements",
            singular: "l2advertisement",
            spec: layer2,
            spec_required: false,
            columns: vec![
                column("IPAddressPools", "ipAddressPools", "string"),
                column(
                    "IPAddressPool Selectors",
                    "ipAddressPoolSelectors",
                    "string",
                ),
                column("Interfaces", "interfaces", "string"),
            ],
        },
    ]
}

/// The CRD.
fn crd(definition: Definition) -> Value {
    let Definition {
        kind,
        plural,
        singular,
        spec,
        spec_required,
        columns,
    } = definition;
    let version = kind.api_version().rsplit('/').next();
    let mut object = json!({
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec,
        },
    });
    if spec_required {
        object["required"] = json!(["spec"]);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{}", kind.group()) },
        "spec": {
            "group": kind.group(),
            "names": {
                "kind": kind.name(),
                "listKind": format!("{}List", kind.name()),
                "plural": plural,
                "singular": singular,
            },
            "scope": "Namespaced",
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "schema": { "openAPIV3Schema": object },
            }],
        },
    })
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

/// All CRDs as YAML, for `kubectl apply`.
///
/// # Errors
/// Serialization fails.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut text = "# ferrolb's BGPPeer and L2Advertisement: MetalLB's fields and further ones. \
                    Generated by: ferrolb crds\n"
        .to_owned();
    for definition in definitions() {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        text += "---\n";
        text += &serde_saphyr::to_string_with_options(&crd(definition), options)?;
    }
    Ok(text)
}
