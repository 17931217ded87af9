//! Generates the CRD of ferrolb's BGPPeer from the types that read it.

use ferrolb_bgp::config::{HoldTime, limits};
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::peer::BGP_PORT;
use crate::core::api::Kind;
use crate::core::api::ferrolb::FerrolbBgpPeerSpec;
use crate::core::api::metallb::BgpPeerSpec;
use crate::core::model::drain::Drain;

/// A neighbor, or all neighbors in a network, with which nodes have BGP sessions. Fields that
/// MetalLB's BGPPeer also has mean the same here.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used: objects are read part by part"
)]
struct Spec {
    #[serde(flatten)]
    shared: BgpPeerSpec,
    #[serde(flatten)]
    ferrolb: FerrolbBgpPeerSpec,
}

/// The rules between fields, as CEL expressions, each with the message for the user.
fn rules() -> Vec<Value> {
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
fn defaults() -> [(&'static str, String); 6] {
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

/// The CRD.
fn definition() -> Value {
    let kind = Kind::FerrolbBgpPeer;
    let (plural, singular) = ("bgppeers", "bgppeer");
    let version = kind.api_version().rsplit('/').next();
    let column = |name, path, r#type| json!({ "name": name, "jsonPath": path, "type": r#type });
    let mut spec = schema();
    // The types accept missing fields, because their errors explain the remedy better than the API
    // server's.
    spec.insert("required".into(), json!(["myASN"]));
    spec.insert("x-kubernetes-validations".into(), rules().into());
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
                "additionalPrinterColumns": [
                    column("Address", ".spec.peerAddress", "string"),
                    column("Network", ".spec.peerNetwork", "string"),
                    column("ASN", ".spec.peerASN", "integer"),
                    column("BFD Profile", ".spec.bfdProfile", "string"),
                ],
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": { "type": "string" },
                        "kind": { "type": "string" },
                        "metadata": { "type": "object" },
                        "spec": spec,
                    },
                } },
            }],
        },
    })
}

/// The structural schema of the spec, as Kubernetes requires it: without references.
fn schema() -> Schema {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.transforms = Vec::new();
    });
    let mut schema = settings.into_generator().into_root_schema_for::<Spec>();
    RecursiveTransform(structural).transform(&mut schema);
    for (field, default) in defaults() {
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
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let definition = serde_saphyr::to_string_with_options(&definition(), options)?;
    Ok(format!(
        "# ferrolb's BGPPeer: MetalLB's fields and further ones. Generated by: ferrolb \
         crds\n---\n{definition}"
    ))
}
