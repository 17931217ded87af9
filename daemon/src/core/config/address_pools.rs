//! MetalLB's AddressPools, which MetalLB 0.13 read beside IPAddressPools: converts each into the
//! IPAddressPool and the advertisements that it means, which are then compiled as any other.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::config_map::{Origin, Sources};
use super::{Problem, Severity};
use crate::core::api::{FieldError, Kind, ObjectKey, ObjectName, RawObject};

/// The fields that an IPAddressPool has as well.
const POOL: [&str; 3] = ["addresses", "autoAssign", "avoidBuggyIPs"];
const PROTOCOL: &str = "protocol";
const ADVERTISEMENTS: &str = "bgpAdvertisements";
/// The fields of an entry of `bgpAdvertisements`, which a BGPAdvertisement has as well.
const ADVERTISEMENT: [&str; 4] = [
    "aggregationLength",
    "aggregationLengthV6",
    "localPref",
    "communities",
];
const EXPECTED: &str = "write layer2 or bgp";

/// An object that an AddressPool means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meant {
    /// Its kind, namespace and name. No object of the cluster has the name of an advertisement.
    pub key: ObjectKey,
    /// The object.
    pub raw: RawObject,
    /// The field of the AddressPool with the fields of its `spec`.
    field: String,
}

/// The AddressPools, by name.
#[derive(Debug, Default)]
pub(super) struct AddressPools(BTreeMap<ObjectName, AddressPool>);

#[derive(Debug, Default)]
struct AddressPool {
    /// What its last valid state means. None if there never was one.
    objects: Option<Vec<Meant>>,
    /// What is wrong with its current state.
    error: Option<String>,
    /// Fields that AddressPools don't have.
    unknown: Vec<String>,
}

/// What the AddressPools add.
#[derive(Debug, Default)]
pub(super) struct Additions {
    /// The objects that they mean, without pools that exist.
    pub objects: BTreeMap<ObjectKey, RawObject>,
    /// Errors and notices about them.
    pub problems: Vec<Problem>,
    /// Whether one never was valid: Services keep addresses outside of all pools.
    pub is_incomplete: bool,
}

impl AddressPools {
    /// Reads an AddressPool. An invalid one keeps its last valid meaning.
    pub(super) fn apply(&mut self, name: &ObjectName, raw: &RawObject) {
        let known = self.0.entry(name.clone()).or_default();
        known.unknown.clear();
        match convert(name, raw, &mut known.unknown) {
            Ok(objects) => {
                known.objects = Some(objects);
                known.error = None;
            }
            Err(error) => known.error = Some(error.to_string()),
        }
    }

    /// Forgets an AddressPool that was deleted.
    pub(super) fn delete(&mut self, name: &ObjectName) {
        self.0.remove(name);
    }

    /// What they add to the existing objects.
    pub(super) fn additions(
        &self,
        existing: &BTreeMap<ObjectKey, RawObject>,
        sources: &mut Sources,
    ) -> Additions {
        let mut additions = Additions::default();
        for (name, pool) in &self.0 {
            let origin = ObjectKey::new(Kind::AddressPool, name.clone());
            pool.report(&origin, &mut additions);
            for object in pool.objects.iter().flatten() {
                let mut groups = object.key.kind.groups();
                let exists = groups.any(|kind| {
                    existing.contains_key(&ObjectKey::new(kind, object.key.name.clone()))
                });
                if exists {
                    let notice = precedence_notice(name);
                    additions.report(&origin, Severity::Notice, notice);
                    continue;
                }
                let place = Origin::AddressPool(object.field.clone());
                sources.add(object.key.clone(), origin.clone(), place);
                let (key, raw) = (object.key.clone(), object.raw.clone());
                additions.objects.insert(key, raw);
            }
        }
        additions
    }
}

impl AddressPool {
    fn report(&self, origin: &ObjectKey, additions: &mut Additions) {
        for path in &self.unknown {
            let message = format!(
                "{path}: has no effect, because AddressPool has no such field: check the spelling"
            );
            additions.report(origin, Severity::UnknownField, message);
        }
        if let Some(error) = &self.error {
            additions.is_incomplete |= self.objects.is_none();
            let kept = match self.objects {
                Some(_) => "the last valid state stays in effect",
                None => "its services keep their addresses",
            };
            additions.report(origin, Severity::Error, format!("{error} ({kept})"));
        }
    }
}

impl Additions {
    fn report(&mut self, object: &ObjectKey, severity: Severity, message: String) {
        self.problems.push(Problem {
            object: object.clone(),
            severity,
            message,
        });
    }
}

fn precedence_notice(ObjectName { namespace, name }: &ObjectName) -> String {
    format!(
        "its addresses are ignored, because IPAddressPool {namespace}/{name} exists; its protocol \
         and bgpAdvertisements apply to that pool: create an L2Advertisement or BGPAdvertisement \
         for it, then delete the AddressPool (kubectl delete -n {namespace} \
         addresspools.metallb.io {name})"
    )
}

/// The objects that an AddressPool means: the pool, then its advertisements. Adds the paths of
/// fields that it should not have to `unknown`.
///
/// # Errors
/// The field that leaves the meaning open, and the remedy.
pub(crate) fn convert(
    name: &ObjectName,
    raw: &RawObject,
    unknown: &mut Vec<String>,
) -> Result<Vec<Meant>, FieldError> {
    let none = Map::new();
    let spec = match raw.body.get("spec") {
        Some(Value::Object(spec)) => spec,
        None | Some(Value::Null) => &none,
        Some(_) => return Err(FieldError::new("spec", "is no object: write its fields")),
    };
    let known = |field: &str| POOL.contains(&field) || [PROTOCOL, ADVERTISEMENTS].contains(&field);
    let others = spec.keys().filter(|field| !known(field));
    unknown.extend(others.map(|field| format!("spec.{field}")));
    let entries = entries(spec.get(ADVERTISEMENTS))?;
    let advertisements = match spec.get(PROTOCOL) {
        Some(Value::String(protocol)) if protocol == "layer2" => {
            if !entries.is_empty() {
                let message = "have no effect with protocol: layer2: remove them, or write \
                               protocol: bgp";
                let path = format!("spec.{ADVERTISEMENTS}");
                return Err(FieldError::new(path, message));
            }
            vec![advertisement(Kind::L2Advertisement, name, "", None)]
        }
        Some(Value::String(protocol)) if protocol == "bgp" => {
            bgp_advertisements(name, &entries, unknown)
        }
        None | Some(Value::Null) => {
            let message = format!("is missing: {EXPECTED}");
            return Err(FieldError::new(format!("spec.{PROTOCOL}"), message));
        }
        Some(other) => {
            let message = format!("{other} is not known: {EXPECTED}");
            return Err(FieldError::new(format!("spec.{PROTOCOL}"), message));
        }
    };
    let pool = ObjectKey::new(Kind::IpAddressPool, name.clone());
    let mut objects = vec![meant(pool, only(spec, &POOL), "spec".to_owned())];
    objects.extend(advertisements);
    for object in &mut objects {
        let created = &raw.metadata.creation_timestamp;
        let of_object = &mut object.raw.metadata.creation_timestamp;
        of_object.clone_from(created);
    }
    Ok(objects)
}

/// The entries of `bgpAdvertisements`.
fn entries(list: Option<&Value>) -> Result<Vec<&Map<String, Value>>, FieldError> {
    let items = match list {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter(),
        Some(_) => {
            let message = "is no list: begin each entry with - and a space";
            return Err(FieldError::new(format!("spec.{ADVERTISEMENTS}"), message));
        }
    };
    let entries = items.enumerate().map(|(index, item)| {
        let path = || format!("spec.{ADVERTISEMENTS}[{index}]");
        item.as_object()
            .ok_or_else(|| FieldError::new(path(), "is no object: write its fields"))
    });
    entries.collect()
}

/// One BGPAdvertisement for each entry. Without entries, one with the defaults.
fn bgp_advertisements(
    name: &ObjectName,
    entries: &[&Map<String, Value>],
    unknown: &mut Vec<String>,
) -> Vec<Meant> {
    if entries.is_empty() {
        return vec![advertisement(Kind::BgpAdvertisement, name, "/1", None)];
    }
    let mut advertisements = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("spec.{ADVERTISEMENTS}[{index}]");
        let others = entry
            .keys()
            .filter(|field| !ADVERTISEMENT.contains(&field.as_str()));
        unknown.extend(others.map(|field| format!("{path}.{field}")));
        let fields = Some((path, only(entry, &ADVERTISEMENT)));
        let kind = Kind::BgpAdvertisement;
        let suffix = format!("/{}", index + 1);
        advertisements.push(advertisement(kind, name, &suffix, fields));
    }
    advertisements
}

/// An advertisement of the pool alone, with fields of an entry at a path.
fn advertisement(
    kind: Kind,
    pool: &ObjectName,
    suffix: &str,
    fields: Option<(String, Map<String, Value>)>,
) -> Meant {
    let (field, mut spec) = fields.unwrap_or_else(|| ("spec".to_owned(), Map::new()));
    spec.insert("ipAddressPools".to_owned(), json!([pool.name]));
    // Names of objects in the cluster have no slash.
    let name = format!("addresspool/{}{suffix}", pool.name);
    let key = ObjectKey::new(kind, ObjectName::new(&pool.namespace, name));
    meant(key, spec, field)
}

fn meant(key: ObjectKey, spec: Map<String, Value>, field: String) -> Meant {
    let metadata = json!({ "name": key.name.name, "namespace": key.name.namespace });
    let raw = RawObject {
        api_version: key.kind.api_version().to_owned(),
        kind: key.kind.name().to_owned(),
        metadata: serde_json::from_value(metadata).unwrap_or_default(),
        body: Map::from_iter([("spec".to_owned(), Value::Object(spec))]),
    };
    Meant { key, raw, field }
}

/// The fields of these names.
fn only(fields: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    let fields = fields.iter();
    let chosen = fields.filter(|(name, _)| names.contains(&name.as_str()));
    chosen
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
