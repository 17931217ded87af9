//! Detects misspelled annotations, and annotations that were given as labels.

use super::annotations::{NEW_PREFIX, OLD_PREFIX};
use crate::core::api::Meta;
use crate::core::nearest::nearest;

/// The prefix of ferrolb's own keys.
const OWN_PREFIX: &str = "ferrolb.io/";
/// A key counts as misspelled up to one edit for this many letters, rounded down. With more edits,
/// another name is meant.
const LETTERS_PER_EDIT: usize = 3;

/// Reports an annotation with one of our prefixes that is not `known`, or a label that should be
/// one of the annotations `known`. Other labels are allowed, because selectors may use them.
pub(super) fn key(metadata: &Meta, known: &[&str]) -> Option<Box<str>> {
    let Meta {
        annotations,
        labels,
        ..
    } = metadata;
    let annotations = annotations.keys().filter_map(|key| {
        let present = ours(key)?;
        if known.contains(&present.as_str()) {
            return None;
        }
        let hint = match similar(&present, known) {
            Some(key) => format!("did you mean {key}?"),
            None => format!("known are {}", known.join(", ")),
        };
        Some(format!(
            "metadata.annotations[{key}]: has no effect: {hint}"
        ))
    });
    let labels = labels.keys().filter_map(|key| {
        let near = similar(&ours(key)?, known)?;
        Some(format!(
            "metadata.labels[{key}]: has no effect as a label: did you mean the annotation {near}?"
        ))
    });
    annotations.chain(labels).next().map(Into::into)
}

/// The known key with a similar name. Prefixes are not compared, because most keys have the same.
fn similar<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = name(key);
    let most = word.chars().count() / LETTERS_PER_EDIT;
    let near = nearest(word, known.iter().map(|key| name(key)), most)?;
    known.iter().copied().find(|key| name(key) == near)
}

/// The name after the prefix.
fn name(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, name)| name)
}

/// The key with its current prefix, if it has one of our prefixes.
fn ours(key: &str) -> Option<String> {
    let is_ours = [OWN_PREFIX, NEW_PREFIX, OLD_PREFIX]
        .iter()
        .any(|prefix| key.starts_with(prefix));
    is_ours.then(|| key.replace(OLD_PREFIX, NEW_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::annotations::WEIGHT_ANNOTATION;
    use crate::core::model::annotations::{
        ALLOCATED_ANNOTATION, DRAIN_ANNOTATION, POOL_ANNOTATION,
    };

    fn of_label(label: &str, known: &[&str]) -> Option<Box<str>> {
        let mut metadata = Meta::default();
        metadata.labels.insert(label.into(), "a".into());
        key(&metadata, known)
    }

    #[test]
    fn a_label_with_an_unrelated_name_is_allowed() {
        let service = [DRAIN_ANNOTATION, POOL_ANNOTATION, ALLOCATED_ANNOTATION];
        for name in [
            "a", "rack", "zone", "tor", "tier", "room", "edge", "pool", "region", "row",
        ] {
            for prefix in [OWN_PREFIX, NEW_PREFIX, OLD_PREFIX] {
                let label = format!("{prefix}{name}");
                assert_eq!(of_label(&label, &[WEIGHT_ANNOTATION]), None, "{label}");
                assert_eq!(of_label(&label, &service), None, "{label}");
            }
        }
    }

    #[test]
    fn a_label_with_a_name_close_to_an_annotation_is_reported() {
        let known = [WEIGHT_ANNOTATION, POOL_ANNOTATION];
        for (label, meant) in [
            ("ferrolb.io/weight", WEIGHT_ANNOTATION),
            ("ferrolb.io/wieght", WEIGHT_ANNOTATION),
            ("metallb.io/weight", WEIGHT_ANNOTATION),
            ("metallb.universe.tf/adress-pools", POOL_ANNOTATION),
        ] {
            let message = of_label(label, &known).expect("a notice");
            assert!(
                message.ends_with(&format!("the annotation {meant}?")),
                "{message}"
            );
        }
    }
}
