//! Label selectors of nodes, pools, services and namespaces.

use std::collections::BTreeSet;

use crate::core::api::metallb::{LabelSelector, LabelSelectorRequirement};
use crate::core::api::{Errors, FieldError};
use crate::core::model::Labels;

/// A list of label selectors. Its entries are ORed, the conditions in an entry are ANDed. An empty
/// list selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors(Vec<Vec<Requirement>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Selectors {
    /// Checks and compiles the selectors at `path`. The same condition in two notations
    /// (`matchLabels` and `In` with one value) is allowed. A literal repetition is an error, as in
    /// MetalLB.
    ///
    /// # Errors
    /// An unknown operator, a missing key, missing or superfluous values, and repetitions.
    pub fn parse(path: &str, selectors: &[LabelSelector]) -> Result<Self, FieldError> {
        let written: Vec<LabelSelector> = selectors.iter().map(normalized).collect();
        let mut parsed: Vec<Vec<Requirement>> = Vec::new();
        let mut errors = Errors::default();
        for (index, selector) in selectors.iter().enumerate() {
            let path_of_entry = format!("{path}[{index}]");
            let requirements = errors.record(requirements(&path_of_entry, selector));
            errors.record(no_repetition(path, &written, index));
            if let Some(requirements) = requirements
                && !parsed.contains(&requirements)
            {
                parsed.push(requirements);
            }
        }
        errors.into_result(Some(Self(parsed)))
    }

    /// Checks and compiles one selector at `path`, as the only entry of the list. An empty one
    /// selects everything, also for [`Self::any`].
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_one(path: &str, selector: &LabelSelector) -> Result<Self, FieldError> {
        requirements(path, selector).map(|requirements| Self(vec![requirements]))
    }

    /// A label of which an entry requires what excludes itself, so that the entry matches nothing.
    pub fn contradiction(&self) -> Option<&str> {
        self.0.iter().find_map(|entry| {
            let mut keys = entry.iter().map(Requirement::key);
            keys.find(|key| !is_possible(entry, key))
        })
    }

    /// Whether the list is empty, which selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list is empty or one of its entries matches.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.is_empty() || self.any(labels)
    }

    /// Whether one of the entries matches. An empty list matches nothing.
    pub fn any(&self, labels: &Labels) -> bool {
        self.0.iter().any(|selector| {
            selector
                .iter()
                .all(|requirement| requirement.matches(labels))
        })
    }
}

/// Maximum lengths of the two parts of a label's key, in octets.
const PREFIX_MAX: usize = 253;
const NAME_MAX: usize = 63;

/// Whether the API server accepts the text as the key of a label: `name` or `example.com/name`.
pub(super) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let is_part = |part: &str, max: usize, others: &str| {
        let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
        part.len() <= max
            && alphanumeric(part.chars().next())
            && alphanumeric(part.chars().next_back())
            && part.chars().all(allowed)
    };
    is_part(name, NAME_MAX, "-_.") && prefix.is_none_or(|prefix| is_part(prefix, PREFIX_MAX, "-."))
}

/// Whether some value of the label, or its absence, meets all conditions of an entry.
fn is_possible(entry: &[Requirement], key: &str) -> bool {
    let conditions = || entry.iter().filter(|condition| condition.key() == key);
    let meets = |value: Option<&String>| {
        let labels: Labels = value
            .map(|value| (key.to_owned(), value.clone()))
            .into_iter()
            .collect();
        conditions().all(|condition| condition.matches(&labels))
    };
    let mut named = conditions().filter_map(|condition| match condition {
        Requirement::In(_, values) => Some(values),
        _ => None,
    });
    match named.next() {
        Some(values) => values.iter().any(|value| meets(Some(value))),
        // NotIn excludes finitely many values, so only these two exclude each other.
        None => {
            let exists = conditions().any(|c| matches!(c, Requirement::Exists(_)));
            let absent = conditions().any(|c| matches!(c, Requirement::DoesNotExist(_)));
            !(exists && absent)
        }
    }
}

impl Requirement {
    fn key(&self) -> &str {
        match self {
            Self::In(key, _)
            | Self::NotIn(key, _)
            | Self::Exists(key)
            | Self::DoesNotExist(key) => key,
        }
    }

    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            // In Kubernetes, NotIn also matches if the label is absent.
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

fn requirements(path: &str, selector: &LabelSelector) -> Result<Vec<Requirement>, FieldError> {
    let mut requirements: Vec<Requirement> = selector
        .match_labels
        .iter()
        .map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()]))
        .collect();
    let path = format!("{path}.matchExpressions");
    let mut written = selector.match_expressions.clone();
    for expression in &mut written {
        expression.values.sort();
    }
    let mut errors = Errors::default();
    for (index, expression) in selector.match_expressions.iter().enumerate() {
        requirements.extend(errors.record(requirement(&format!("{path}[{index}]"), expression)));
        errors.record(no_repetition(&path, &written, index));
    }
    requirements.sort();
    requirements.dedup();
    errors.into_result(Some(requirements))
}

/// The selector with expressions and values sorted: their order has no effect.
fn normalized(selector: &LabelSelector) -> LabelSelector {
    let mut selector = selector.clone();
    for expression in &mut selector.match_expressions {
        expression.values.sort();
    }
    selector
        .match_expressions
        .sort_by(|a, b| (&a.key, &a.operator, &a.values).cmp(&(&b.key, &b.operator, &b.values)));
    selector
}

/// Rejects the entry at `index` if it repeats an earlier one.
fn no_repetition<T: PartialEq>(path: &str, entries: &[T], index: usize) -> Result<(), FieldError> {
    let entry = entries.get(index);
    match entries.iter().position(|earlier| Some(earlier) == entry) {
        Some(earlier) if earlier < index => Err(FieldError::new(
            format!("{path}[{index}]"),
            format!("is the same as {path}[{earlier}]: remove one of them"),
        )),
        _ => Ok(()),
    }
}

fn requirement(
    path: &str,
    expression: &LabelSelectorRequirement,
) -> Result<Requirement, FieldError> {
    let LabelSelectorRequirement {
        key,
        operator,
        values,
    } = expression;
    let error = |message: String| Err(FieldError::new(path, message));
    if key.is_empty() {
        return error("key is missing: name the label".into());
    }
    let mut sorted = values.clone();
    sorted.sort();
    for pair in sorted.windows(2) {
        if let [one, other] = pair
            && one == other
        {
            return error(format!("values lists {one:?} twice: remove one"));
        }
    }
    match (operator.as_str(), sorted.is_empty()) {
        ("In", false) => Ok(Requirement::In(key.clone(), sorted)),
        ("NotIn", false) => Ok(Requirement::NotIn(key.clone(), sorted)),
        ("Exists", true) => Ok(Requirement::Exists(key.clone())),
        ("DoesNotExist", true) => Ok(Requirement::DoesNotExist(key.clone())),
        ("In" | "NotIn", true) => error(format!("operator {operator} needs values")),
        ("Exists" | "DoesNotExist", false) => error(format!("operator {operator} takes no values")),
        _ => error(format!(
            "unknown operator {operator:?}: use In, NotIn, Exists or DoesNotExist"
        )),
    }
}

/// Converts a list of names into a set.
///
/// # Errors
/// A name is listed twice.
pub(crate) fn unique(path: &str, names: &[String]) -> Result<BTreeSet<String>, FieldError> {
    let mut set = BTreeSet::new();
    for name in names {
        if !set.insert(name.clone()) {
            let message = format!("lists {name:?} twice: remove one");
            return Err(FieldError::new(path, message));
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(selectors: Value) -> Result<Selectors, String> {
        let selectors: Vec<LabelSelector> =
            serde_json::from_value(selectors).map_err(|error| error.to_string())?;
        Selectors::parse("spec.nodeSelectors", &selectors).map_err(|error| error.to_string())
    }

    #[test]
    fn the_same_condition_in_two_notations_is_allowed() {
        let plain = parse(json!([{ "matchLabels": { "rack": "a" } }]));
        assert!(plain.is_ok());
        let is_in = json!({ "key": "rack", "operator": "In", "values": ["a"] });
        let within = json!([{ "matchLabels": { "rack": "a" }, "matchExpressions": [is_in] }]);
        assert_eq!(parse(within), plain);
        let beside = json!([{ "matchLabels": { "rack": "a" } }, { "matchExpressions": [is_in] }]);
        assert_eq!(parse(beside), plain);
    }

    #[test]
    fn an_entry_that_no_labels_can_match_is_a_contradiction() {
        let of = |expressions: Value| {
            let selectors = parse(json!([{ "matchExpressions": expressions }]));
            let selectors = selectors.expect("valid");
            selectors.contradiction().map(str::to_owned)
        };
        let condition = |operator: &str, values: Value| {
            let (key, operator) = ("rack", json!(operator));
            json!({ "key": key, "operator": operator, "values": values })
        };
        let (a_or_b, a) = (
            condition("In", json!(["a", "b"])),
            condition("In", json!(["a"])),
        );
        let not_a = condition("NotIn", json!(["a"]));
        let (exists, absent) = (
            condition("Exists", json!([])),
            condition("DoesNotExist", json!([])),
        );
        for possible in [
            json!([a_or_b, not_a]),
            json!([a_or_b, a, exists]),
            json!([not_a, exists]),
            json!([not_a, absent]),
        ] {
            assert_eq!(of(possible.clone()), None, "{possible}");
        }
        for impossible in [
            json!([a, not_a]),
            json!([a, absent]),
            json!([exists, absent]),
        ] {
            assert_eq!(
                of(impossible.clone()).as_deref(),
                Some("rack"),
                "{impossible}"
            );
        }
    }

    #[test]
    fn the_error_names_a_name_that_is_listed_twice() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let error = unique("spec.peers", &names(&["a", "b", "a"])).map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("spec.peers: lists \"a\" twice: remove one".to_owned())
        );
        assert_eq!(
            unique("spec.peers", &names(&["b", "a"])).map(|set| set.len()),
            Ok(2)
        );
    }

    #[test]
    fn a_literal_repetition_is_rejected_and_the_error_names_both_places() {
        let one = json!({ "key": "rack", "operator": "In", "values": ["a", "b"] });
        let same = json!({ "key": "rack", "operator": "In", "values": ["b", "a"] });
        let cases = [
            (
                json!([{ "matchExpressions": [one] }, {}, { "matchExpressions": [same] }]),
                "spec.nodeSelectors[2]: is the same as spec.nodeSelectors[0]: remove one of them",
            ),
            (
                json!([{ "matchExpressions": [one, same] }]),
                "spec.nodeSelectors[0].matchExpressions[1]: is the same as \
                 spec.nodeSelectors[0].matchExpressions[0]: remove one of them",
            ),
            (
                json!([{ "matchExpressions": [
                    { "key": "k", "operator": "In", "values": ["x", "y", "x"] }
                ] }]),
                "spec.nodeSelectors[0].matchExpressions[0]: values lists \"x\" twice: remove one",
            ),
        ];
        for (selectors, message) in cases {
            assert_eq!(parse(selectors), Err(message.to_owned()));
        }
    }
}
