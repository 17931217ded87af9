//! Kinds that both API groups have: ferrolb's has MetalLB's fields and further ones.

use serde::Deserialize;

use super::{Config, ConfigObjects, report_unknown_field};
use crate::core::api::{Cause, FieldError, Kind, ObjectKey, Partial, RawObject};

impl ConfigObjects {
    /// The objects of a kind in both groups, older ones first, then by namespace and name, then
    /// MetalLB's: every process gives precedence to the same one.
    pub(super) fn of_both_groups(&self, kind: Kind) -> Vec<(&ObjectKey, &RawObject)> {
        let mut objects = self.of_kind(kind);
        objects.extend(
            kind.other_group()
                .into_iter()
                .flat_map(|other| self.of_kind(other)),
        );
        objects.sort_by_key(|(key, raw)| (&raw.metadata.creation_timestamp, &key.name, key.kind));
        objects
    }
}

/// Reads the fields of MetalLB's kind and, if the object is ferrolb's, the further ones. Reports
/// unknown fields.
pub(super) fn spec<M, F>(
    raw: &RawObject,
    key: &ObjectKey,
    config: &mut Config,
) -> Partial<(M, Option<F>)>
where
    M: for<'de> Deserialize<'de> + Default,
    F: for<'de> Deserialize<'de> + Default,
{
    let mut unknown = Vec::new();
    let mut unknown_to_ferrolb = Vec::new();
    let metallb: Partial<M> = raw.partial("spec", &mut unknown);
    let ferrolb: Partial<F> = raw.partial("spec", &mut unknown_to_ferrolb);
    if key.kind.is_own() {
        for path in unknown_to_both(&unknown, &unknown_to_ferrolb) {
            report_unknown_field(config, key, path);
        }
        return metallb.zip(ferrolb.map(Some));
    }
    for path in &unknown {
        if unknown_to_ferrolb.contains(path) {
            report_unknown_field(config, key, path);
        } else {
            let message = format!(
                "{path}: has no effect, because only ferrolb's {} has this field: change \
                 apiVersion to {}",
                key.kind.name(),
                Kind::OWN_API_VERSION
            );
            config.unknown_field(key.clone(), message);
        }
    }
    metallb.map(|spec| (spec, None))
}

/// Rejects the later one of two objects with one name. `other` is the earlier one in the order of
/// [`ConfigObjects::of_both_groups`].
pub(super) fn check_name(other: Option<&ObjectKey>) -> Result<(), FieldError> {
    let Some(other) = other else {
        return Ok(());
    };
    let message = format!(
        "is already used by {other}, which is older (or, of the same age, first by namespace and \
         group): rename or delete one of them"
    );
    Err(FieldError::new("metadata.name", message).because(Cause::NameInUse))
}

/// The paths that are unknown to both types that read a value. If a type knows a field, the other
/// type reports the whole field as unknown.
fn unknown_to_both<'a>(one: &'a [String], other: &'a [String]) -> Vec<&'a String> {
    let within = |path: &str, whole: &String| {
        path.strip_prefix(whole.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let both = one
        .iter()
        .filter(|path| other.iter().any(|whole| within(path, whole)));
    let nested = other.iter().filter(|path| {
        one.iter()
            .any(|whole| within(path, whole) && path != &whole)
    });
    both.chain(nested).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_field_that_neither_type_has_is_unknown() {
        let paths = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        // nodeSelectors is a field of one type, drain of the other. Each contains a typo, and one
        // typo is beside them.
        let one: Vec<String> =
            paths(&["spec.drain", "spec.nodeSelectors.0.matchLabel", "spec.med1"]);
        let other: Vec<String> = paths(&["spec.nodeSelectors", "spec.drain.onCordn", "spec.med1"]);
        assert_eq!(
            unknown_to_both(&one, &other),
            [
                "spec.nodeSelectors.0.matchLabel",
                "spec.med1",
                "spec.drain.onCordn"
            ]
        );
    }
}
