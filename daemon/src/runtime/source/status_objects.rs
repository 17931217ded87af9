//! Objects that this process alone writes, as they should be: a source with an API server creates,
//! updates and deletes them accordingly.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use crate::core::hash::fnv1a;

/// Maximum length of a label's value.
const MAX_LABEL: usize = 63;

/// Complete objects, by name.
pub(crate) type Objects = BTreeMap<String, Arc<Value>>;

/// All objects of one kind that this process is in charge of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StatusObjects {
    /// The objects.
    pub(crate) objects: Objects,
    /// If it changes, all objects are written again: someone else may have changed or deleted them.
    pub(crate) revision: u64,
    /// The writer ends after these.
    pub(crate) last: bool,
}

/// The objects as they should be; none until that is known.
pub(crate) type StatusObjectsSender = watch::Sender<Option<Arc<StatusObjects>>>;
/// The other end.
pub(crate) type StatusObjectsReceiver = watch::Receiver<Option<Arc<StatusObjects>>>;

/// A value for a label that stands for the text: the text itself, or if that is too long or has
/// characters that labels can't have, a readable part and a hash.
pub(crate) fn label(text: &str) -> String {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = text.len() <= MAX_LABEL && text.chars().all(valid);
    if fits && ends(text.chars().next()) && ends(text.chars().next_back()) {
        return text.to_owned();
    }
    hashed(text, text, MAX_LABEL)
}

/// A readable form of the text with at most `max` octets that ends in a hash of the identity. It is
/// a valid name and a valid label.
pub(crate) fn hashed(text: &str, identity: &str, max: usize) -> String {
    let hash = format!("{:016x}", fnv1a(identity));
    let readable = text.chars().map(|c| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    });
    let readable: String = readable.take(max - hash.len() - 1).collect();
    match readable.trim_matches('-') {
        "" => hash,
        readable => format!("{readable}-{hash}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_the_text_or_a_valid_part_with_a_hash() {
        assert_eq!(label("node-a.example.com"), "node-a.example.com");
        let long = format!("{}.example.com", "a".repeat(62));
        let (short, other) = (label(&long), label(&format!("{long}x")));
        assert!(
            short.len() == MAX_LABEL && other.len() == MAX_LABEL,
            "{short}"
        );
        assert_ne!(short, other);
        let odd = label("rack@fd00::7");
        assert!(odd.starts_with("rack-fd00--7-"), "{odd}");
        assert_eq!(label("::").len(), 16, "nothing readable");
    }
}
