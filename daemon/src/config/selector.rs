//! Label selectors: which nodes, pools, services or namespaces a list of them means.

use crate::api::FieldError;
use crate::api::metallb::{LabelSelector, LabelSelectorRequirement};
use crate::index::facts::Labels;

/// A list of label selectors: entries are ORed, what stands inside one is ANDed. An empty list selects everything.
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
    /// Checks and compiles a list of selectors that stands at `path`.
    ///
    /// # Errors
    /// An unknown operator, a missing key, values where none belong or the other way round, and repetitions.
    pub fn parse(path: &str, selectors: &[LabelSelector]) -> Result<Self, FieldError> {
        let mut parsed: Vec<Vec<Requirement>> = Vec::new();
        for (index, selector) in selectors.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let requirements = requirements(&path, selector)?;
            if parsed.contains(&requirements) {
                return Err(FieldError::new(
                    path,
                    "the same selector stands there twice: remove one",
                ));
            }
            parsed.push(requirements);
        }
        Ok(Self(parsed))
    }

    /// Whether no selector was given (which selects everything).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list is empty or one of its entries holds.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.is_empty() || self.any(labels)
    }

    /// Whether one of the entries holds; an empty list holds for nothing.
    pub fn any(&self, labels: &Labels) -> bool {
        self.0.iter().any(|selector| {
            selector
                .iter()
                .all(|requirement| requirement.matches(labels))
        })
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            // Kubernetes: NotIn also holds where the label is absent.
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
    for (index, expression) in selector.match_expressions.iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let requirement = requirement(&path, expression)?;
        if requirements.contains(&requirement) {
            return Err(FieldError::new(
                path,
                "the same condition stands there twice: remove one",
            ));
        }
        requirements.push(requirement);
    }
    requirements.sort();
    Ok(requirements)
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
    sorted.dedup();
    if sorted.len() != values.len() {
        return error("a value stands there twice: remove one".into());
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
