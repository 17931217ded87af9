//! Keys of annotations and labels that look like ours and are none.

use super::facts::{NEW_PREFIX, OLD_PREFIX};
use crate::api::Meta;
use crate::nearest::nearest;

/// The prefix of ferrolb's own keys.
const OWN_PREFIX: &str = "ferrolb.io/";
/// Keys up to so many edits apart are probably meant to be the same.
const NEAR: usize = 6;

/// What to report of an object for which the annotations `known` have an effect: an annotation with one of our prefixes
/// that is none of them, or a label that should be one of them. Other labels are free to be selected by.
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
        let hint = match nearest(&present, known.iter().copied(), NEAR) {
            Some(key) => format!("did you mean {key}?"),
            None => format!("known are {}", known.join(", ")),
        };
        Some(format!(
            "metadata.annotations[{key}]: has no effect: {hint}"
        ))
    });
    let labels = labels.keys().filter_map(|key| {
        let near = nearest(&ours(key)?, known.iter().copied(), NEAR)?;
        Some(format!(
            "metadata.labels[{key}]: has no effect as a label: did you mean the annotation {near}?"
        ))
    });
    annotations.chain(labels).next().map(Into::into)
}

/// The key with its present prefix, if it has one of ours.
fn ours(key: &str) -> Option<String> {
    let is_ours = [OWN_PREFIX, NEW_PREFIX, OLD_PREFIX]
        .iter()
        .any(|prefix| key.starts_with(prefix));
    is_ours.then(|| key.replace(OLD_PREFIX, NEW_PREFIX))
}
