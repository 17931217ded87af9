//! The names of objects in Kubernetes: the ConfigMap allows others.

use std::collections::BTreeMap;

use serde_json::Value;

use super::convert::Object;
use super::mistake::Mistake;
use crate::core::api::Kind;

/// Maximum length of a name that MetalLB's converter writes.
const NAME_MAX: usize = 63;

/// Objects with names that Kubernetes accepts.
#[derive(Debug)]
pub(crate) struct Named {
    /// The objects.
    pub objects: Vec<Object>,
    /// The old and the new name of each pool that has another one.
    pub renamed: Vec<(String, String)>,
}

/// Gives pools and BFD profiles names that Kubernetes accepts, by the rules of MetalLB's converter.
///
/// # Errors
/// The names that can't be converted, or that become those of others.
pub(crate) fn kubernetes_names(mut objects: Vec<Object>) -> Result<Named, Vec<Mistake>> {
    let mut names: BTreeMap<(Kind, String), String> = BTreeMap::new();
    let mut mistakes = Vec::new();
    let mut renamed = Vec::new();
    for object in &objects {
        let (kind, old) = (object.key.kind, &object.key.name.name);
        if !matches!(kind, Kind::IpAddressPool | Kind::BfdProfile) {
            continue;
        }
        let Some(new) = name(old) else {
            let message = format!(
                "{old:?} can't become the name of a Kubernetes object: rename it, with the letters \
                 a to z, digits and -"
            );
            mistakes.push(object.source.mistake("spec.name", &message));
            continue;
        };
        let mut others = names.iter();
        let same = others.find(|((of, _), name)| *of == kind && **name == new);
        if let Some(((_, other), _)) = same {
            let message = format!("{old:?} and {other:?} both become {new:?}: rename one of them");
            mistakes.push(object.source.mistake("spec.name", &message));
            continue;
        }
        if new != *old && kind == Kind::IpAddressPool {
            renamed.push((old.clone(), new.clone()));
        }
        names.insert((kind, old.clone()), new);
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let new_name = |kind: Kind, old: &str| names.get(&(kind, old.to_owned())).cloned();
    for object in &mut objects {
        if let Some(new) = new_name(object.key.kind, &object.key.name.name) {
            object.key.name.name.clone_from(&new);
            object.raw.metadata.name = new;
        }
        let Some(Value::Object(spec)) = object.raw.body.get_mut("spec") else {
            continue;
        };
        if let Some(profile) = spec.get_mut("bfdProfile") {
            rename(profile, |old| new_name(Kind::BfdProfile, old));
        }
        if let Some(Value::Array(pools)) = spec.get_mut("ipAddressPools") {
            for pool in pools {
                rename(pool, |old| new_name(Kind::IpAddressPool, old));
            }
        }
    }
    Ok(Named { objects, renamed })
}

fn rename(value: &mut Value, new_name: impl Fn(&str) -> Option<String>) {
    if let Some(new) = value.as_str().and_then(new_name) {
        *value = Value::String(new);
    }
}

/// The name of an object: unchanged if it is valid, otherwise without what is not allowed.
fn name(old: &str) -> Option<String> {
    let is_plain = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text.len() <= NAME_MAX
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if is_plain(old) {
        return Some(old.to_owned());
    }
    let cut: String = old.chars().take(NAME_MAX).collect();
    let lower = cut.to_lowercase().replace('_', "-");
    let first = lower.find(|c: char| c.is_ascii_lowercase())?;
    let new = lower.get(first..)?.to_owned();
    // A name may have several parts, separated by dots.
    let is_part = |part: &str| {
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(ends) && part.ends_with(ends) && part.chars().all(|c| ends(c) || c == '-')
    };
    new.split('.').all(is_part).then_some(new)
}
