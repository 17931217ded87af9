//! Converts the sections into objects of `metallb.io`, with the names that MetalLB's own converter
//! gives them.

use serde_json::{Map, Value, json};

use super::fields::{
    ADVERTISEMENT, ALIASES, BFD_PROFILE, BFD_PROFILES, EXPRESSION, Fields, PEER, PEERS, POOL,
    POOLS, Place, Reader, SECTIONS, SELECTOR,
};
use super::source::{FieldSource, Source};
use crate::core::api::duration::{duration, go};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};

/// The name of the only Community object.
const COMMUNITIES: &str = "communities";

/// The hold time of a peer that has none.
const HOLD_TIME: &str = "1m30s";

/// An object that the ConfigMap means, and where each of its fields comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    /// Its kind, and the namespace and name that it has.
    pub key: ObjectKey,
    /// The object.
    pub raw: RawObject,
    /// Where it comes from.
    pub source: Source,
}

/// Reads the document. The objects are in the order of MetalLB's converter: peers, pools, BGP
/// advertisements, L2 advertisements, BFD profiles, communities.
pub(super) fn objects(document: &Place<'_>, namespace: &str, reader: &mut Reader) -> Vec<Object> {
    let sections = reader.fields(document, SECTIONS);
    let mut objects = Vec::new();
    for (index, entry) in reader.list(sections.get(PEERS)).iter().enumerate() {
        objects.push(peer(index + 1, entry, namespace, reader));
    }
    let mut advertisements = Advertisements::default();
    for entry in reader.list(sections.get(POOLS)) {
        objects.extend(pool(&entry, namespace, reader, &mut advertisements));
    }
    objects.extend(advertisements.bgp);
    objects.extend(advertisements.layer2);
    for entry in reader.list(sections.get(BFD_PROFILES)) {
        objects.extend(bfd_profile(&entry, namespace, reader));
    }
    let aliases = sections.get(ALIASES);
    objects.extend(aliases.and_then(|aliases| communities(aliases, namespace, reader)));
    objects
}

/// An object in the making.
struct Draft {
    spec: Map<String, Value>,
    fields: Vec<FieldSource>,
}

impl Draft {
    fn new() -> Self {
        Self {
            spec: Map::new(),
            fields: Vec::new(),
        }
    }

    /// Sets a field, if it has a value.
    fn set(&mut self, field: &str, place: Option<&Place<'_>>, value: Option<impl Into<Value>>) {
        let (Some(place), Some(value)) = (place, value) else {
            return;
        };
        self.spec.insert(field.to_owned(), value.into());
        self.record(format!("spec.{field}"), place);
    }

    /// Records where a field comes from.
    fn record(&mut self, field: String, place: &Place<'_>) {
        self.fields.push(FieldSource {
            field,
            path: place.path.clone(),
            line: place.line,
        });
    }

    /// Sets a list of texts.
    fn set_texts(&mut self, field: &str, list: Option<&Place<'_>>, reader: &mut Reader) {
        let items = reader.texts(list);
        for (index, (_, place)) in items.iter().enumerate() {
            self.record(format!("spec.{field}[{index}]"), place);
        }
        let texts: Vec<String> = items.into_iter().map(|(text, _)| text).collect();
        self.set(field, list, (!texts.is_empty()).then_some(texts));
    }

    fn done(self, kind: Kind, name: String, namespace: &str, entry: &Place<'_>) -> Object {
        let metadata = json!({ "name": name, "namespace": namespace });
        let metadata = serde_json::from_value(metadata).unwrap_or_default();
        let body = Map::from_iter([("spec".to_owned(), Value::Object(self.spec))]);
        Object {
            key: ObjectKey::new(kind, ObjectName::new(namespace, name)),
            raw: RawObject {
                api_version: kind.api_version().to_owned(),
                kind: kind.name().to_owned(),
                metadata,
                body,
            },
            source: Source {
                path: entry.path.clone(),
                line: entry.line,
                fields: self.fields,
            },
        }
    }
}

fn peer(number: usize, entry: &Place<'_>, namespace: &str, reader: &mut Reader) -> Object {
    let fields = reader.fields(entry, PEER);
    let mut draft = Draft::new();
    for (field, name) in [("myASN", "my-asn"), ("peerASN", "peer-asn")] {
        let number = reader.number(fields.get(name), u32::MAX);
        draft.set(field, fields.get(name), number);
    }
    // 0 stands for the default.
    let port = reader.number(fields.get("peer-port"), u16::MAX.into());
    let port = port.filter(|port| *port != 0);
    draft.set("peerPort", fields.get("peer-port"), port);
    for (field, name) in [
        ("peerAddress", "peer-address"),
        ("sourceAddress", "source-address"),
        ("routerID", "router-id"),
        ("password", "password"),
        ("bfdProfile", "bfd-profile"),
        ("keepaliveTime", "keepalive-time"),
        ("holdTime", "hold-time"),
    ] {
        let text = reader
            .text(fields.get(name))
            .filter(|text| !text.is_empty());
        let text = match name {
            "keepalive-time" | "hold-time" => text.map(canonical),
            _ => text,
        };
        draft.set(field, fields.get(name), text);
    }
    let hold_time = draft.spec.entry("holdTime");
    hold_time.or_insert_with(|| HOLD_TIME.into());
    let multihop = reader.boolean(fields.get("ebgp-multihop"));
    let multihop = multihop.filter(|multihop| *multihop);
    draft.set("ebgpMultiHop", fields.get("ebgp-multihop"), multihop);
    node_selectors(fields.get("node-selectors"), reader, &mut draft);
    draft.done(Kind::BgpPeer, format!("peer{number}"), namespace, entry)
}

/// A duration as Go prints it. A text that is no duration stays, and is rejected later.
fn canonical(text: String) -> String {
    duration("", &text).map_or(text, go)
}

fn node_selectors(list: Option<&Place<'_>>, reader: &mut Reader, draft: &mut Draft) {
    let mut selectors: Vec<Value> = Vec::new();
    for entry in reader.list(list) {
        let selector = node_selector(&entry, reader);
        // MetalLB's objects must not repeat a selector, the ConfigMap may.
        if !selectors.contains(&selector) {
            draft.record(format!("spec.nodeSelectors[{}]", selectors.len()), &entry);
            selectors.push(selector);
        }
    }
    draft.set(
        "nodeSelectors",
        list,
        (!selectors.is_empty()).then_some(selectors),
    );
}

fn node_selector(entry: &Place<'_>, reader: &mut Reader) -> Value {
    let fields = reader.fields(entry, SELECTOR);
    let mut selector = Map::new();
    if let Some(labels) = fields.get("match-labels") {
        let labels = reader.all(labels);
        let labels = labels.iter().filter_map(|(name, place)| {
            let value = reader.text(Some(place))?;
            Some(((*name).to_owned(), Value::String(value)))
        });
        selector.insert("matchLabels".to_owned(), Value::Object(labels.collect()));
    }
    let mut expressions = Vec::new();
    for entry in reader.list(fields.get("match-expressions")) {
        let fields = reader.fields(&entry, EXPRESSION);
        let values = reader.texts(fields.get("values")).into_iter();
        let values: Vec<String> = values.map(|(value, _)| value).collect();
        let mut expression = Map::new();
        for name in ["key", "operator"] {
            let text = reader.text(fields.get(name)).unwrap_or_default();
            expression.insert(name.to_owned(), text.into());
        }
        if !values.is_empty() {
            expression.insert("values".to_owned(), values.into());
        }
        expressions.push(Value::Object(expression));
    }
    if !expressions.is_empty() {
        selector.insert("matchExpressions".to_owned(), expressions.into());
    }
    Value::Object(selector)
}

/// The advertisements of all pools, which are numbered together.
#[derive(Default)]
struct Advertisements {
    bgp: Vec<Object>,
    layer2: Vec<Object>,
}

/// How addresses of a pool are announced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Bgp,
    Layer2,
}

fn pool(
    entry: &Place<'_>,
    namespace: &str,
    reader: &mut Reader,
    advertisements: &mut Advertisements,
) -> Option<Object> {
    let fields = reader.fields(entry, POOL);
    let protocol = protocol(entry, &fields, reader);
    let name = required_name(entry, &fields, reader)?;
    let mut draft = Draft::new();
    let (addresses, cidr) = (fields.get("addresses"), fields.get("cidr"));
    if let (Some(_), Some(cidr)) = (addresses, cidr) {
        let message = "is the older name of addresses, which is given too: move its entries there";
        reader.reject(cidr, message);
    }
    draft.set_texts("addresses", addresses.or(cidr), reader);
    for (field, name) in [
        ("autoAssign", "auto-assign"),
        ("avoidBuggyIPs", "avoid-buggy-ips"),
    ] {
        let value = reader.boolean(fields.get(name));
        draft.set(field, fields.get(name), value);
    }
    let written = fields.get("bgp-advertisements");
    match (protocol, written) {
        (Some(Protocol::Layer2), Some(written)) => {
            let message = "has no effect in a pool with protocol: layer2: remove it, or write \
                protocol: bgp";
            reader.reject(written, message);
        }
        (Some(Protocol::Layer2), None) => {
            let number = advertisements.layer2.len() + 1;
            let ad = of_pool(&name).done(
                Kind::L2Advertisement,
                format!("l2advertisement{number}"),
                namespace,
                entry,
            );
            advertisements.layer2.push(ad);
        }
        (Some(Protocol::Bgp) | None, written) => {
            let entries = reader.list(written);
            let (entries, are_written) = match entries.as_slice() {
                [] => (vec![entry.clone()], false),
                _ => (entries, true),
            };
            for entry in entries {
                let number = advertisements.bgp.len() + 1;
                let mut draft = of_pool(&name);
                if are_written {
                    advertisement(&entry, reader, &mut draft);
                }
                let ad = format!("bgpadvertisement{number}");
                let ad = draft.done(Kind::BgpAdvertisement, ad, namespace, &entry);
                advertisements.bgp.push(ad);
            }
        }
    }
    Some(draft.done(Kind::IpAddressPool, name, namespace, entry))
}

fn of_pool(name: &str) -> Draft {
    let mut draft = Draft::new();
    draft
        .spec
        .insert("ipAddressPools".to_owned(), json!([name]));
    draft
}

/// The protocol. MetalLB before 0.6 had arp and ndp instead of layer2.
fn protocol(entry: &Place<'_>, fields: &Fields<'_>, reader: &mut Reader) -> Option<Protocol> {
    const EXPECTED: &str = "write protocol: layer2, or protocol: bgp";
    let Some(place) = fields.get("protocol") else {
        reader.reject(entry, format!("protocol is missing: {EXPECTED}"));
        return None;
    };
    match reader.text(Some(place))?.as_str() {
        "bgp" => Some(Protocol::Bgp),
        "layer2" | "arp" | "ndp" => Some(Protocol::Layer2),
        other => {
            reader.reject(place, format!("{other:?} is not known: {EXPECTED}"));
            None
        }
    }
}

fn required_name(entry: &Place<'_>, fields: &Fields<'_>, reader: &mut Reader) -> Option<String> {
    let name = reader
        .text(fields.get("name"))
        .filter(|name| !name.is_empty());
    if name.is_none() {
        reader.reject(entry, "name is missing: give the entry a name");
    }
    name
}

fn advertisement(entry: &Place<'_>, reader: &mut Reader, draft: &mut Draft) {
    let fields = reader.fields(entry, ADVERTISEMENT);
    for (field, name, max) in [
        ("aggregationLength", "aggregation-length", 32),
        ("aggregationLengthV6", "aggregation-length-v6", 128),
        ("localPref", "localpref", u32::MAX),
    ] {
        let number = reader.number(fields.get(name), max);
        draft.set(field, fields.get(name), number);
    }
    draft.set_texts("communities", fields.get("communities"), reader);
}

fn bfd_profile(entry: &Place<'_>, namespace: &str, reader: &mut Reader) -> Option<Object> {
    let fields = reader.fields(entry, BFD_PROFILE);
    let name = required_name(entry, &fields, reader)?;
    let mut draft = Draft::new();
    for (field, name) in [
        ("receiveInterval", "receive-interval"),
        ("transmitInterval", "transmit-interval"),
        ("detectMultiplier", "detect-multiplier"),
        ("echoInterval", "echo-interval"),
        ("minimumTtl", "minimum-ttl"),
    ] {
        let number = reader.number(fields.get(name), u32::MAX);
        draft.set(field, fields.get(name), number);
    }
    for (field, name) in [("echoMode", "echo-mode"), ("passiveMode", "passive-mode")] {
        let value = reader.boolean(fields.get(name));
        draft.set(field, fields.get(name), value);
    }
    Some(draft.done(Kind::BfdProfile, name, namespace, entry))
}

/// One object with all names, sorted.
fn communities(aliases: &Place<'_>, namespace: &str, reader: &mut Reader) -> Option<Object> {
    let mut entries = reader.all(aliases);
    entries.sort_by_key(|(name, _)| *name);
    let mut draft = Draft::new();
    let mut values = Vec::new();
    for (name, place) in entries {
        let Some(value) = reader.text(Some(&place)) else {
            continue;
        };
        draft.record(format!("spec.communities[{}].value", values.len()), &place);
        values.push(json!({ "name": name, "value": value }));
    }
    if values.is_empty() {
        return None;
    }
    draft.set("communities", Some(aliases), Some(values));
    Some(draft.done(Kind::Community, COMMUNITIES.to_owned(), namespace, aliases))
}
