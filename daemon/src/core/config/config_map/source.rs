//! Where the fields of an object come from, to report its errors as mistakes in the ConfigMap.

use super::mistake::Mistake;

/// The place in the ConfigMap that an object comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The entry, such as `peers[0]`.
    pub(super) path: String,
    /// The line of the entry.
    pub(super) line: usize,
    /// The fields.
    pub(super) fields: Vec<FieldSource>,
}

/// The place in the ConfigMap that a field comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldSource {
    /// The path in the object, such as `spec.holdTime`.
    pub field: String,
    /// The path in the ConfigMap, such as `peers[0].hold-time`.
    pub path: String,
    /// The line in the ConfigMap.
    pub line: usize,
}

/// The words of the objects' errors, and what the ConfigMap calls them. Longer ones come first.
const WORDS: &[(&str, &str)] = &[
    (" (or localASN)", ""),
    (" (or dynamicASN)", ""),
    (", or dynamicASN", ""),
    (", or peerNetwork (ferrolb.io/v1alpha1)", ""),
    ("a Community object", "bgp-communities"),
    ("aggregationLengthV6", "aggregation-length-v6"),
    ("aggregationLength", "aggregation-length"),
    ("matchExpressions", "match-expressions"),
    ("detectMultiplier", "detect-multiplier"),
    ("transmitInterval", "transmit-interval"),
    ("receiveInterval", "receive-interval"),
    ("keepaliveTime", "keepalive-time"),
    ("sourceAddress", "source-address"),
    ("ebgpMultiHop", "ebgp-multihop"),
    ("nodeSelectors", "node-selectors"),
    ("echoInterval", "echo-interval"),
    ("peerAddress", "peer-address"),
    ("matchLabels", "match-labels"),
    ("bfdProfile", "bfd-profile"),
    ("minimumTtl", "minimum-ttl"),
    ("passiveMode", "passive-mode"),
    ("localPref", "localpref"),
    ("holdTime", "hold-time"),
    ("peerPort", "peer-port"),
    ("routerID", "router-id"),
    ("echoMode", "echo-mode"),
    ("peerASN", "peer-asn"),
    ("myASN", "my-asn"),
];

/// A text about a field of an object, in the words of the ConfigMap.
fn in_words_of_config_map(text: &str) -> String {
    let mut text = text.to_owned();
    for (word, other) in WORDS {
        if text.contains(word) {
            text = text.replace(word, other);
        }
    }
    text
}

impl Source {
    /// The mistake in the ConfigMap that causes an error at a path of the object.
    pub(super) fn mistake(&self, path: &str, message: &str) -> Mistake {
        let message = in_words_of_config_map(message);
        let rest = |origin: &str| {
            let rest = path.strip_prefix(origin)?;
            (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
        };
        let origins = self.fields.iter();
        let found = origins.filter_map(|origin| Some((origin, rest(&origin.field)?)));
        if let Some((origin, rest)) = found.max_by_key(|(origin, _)| origin.field.len()) {
            let path = format!("{}{}", origin.path, in_words_of_config_map(rest));
            return Mistake::new(origin.line, path, message);
        }
        let path = match path.strip_prefix("spec.") {
            Some(field) => format!("{}.{}", self.path, in_words_of_config_map(field)),
            None => self.path.clone(),
        };
        Mistake::new(self.line, path, message)
    }
}
