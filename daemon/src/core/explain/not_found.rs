//! A name that does not exist, with the nearest one.

use crate::core::api::ObjectName;
use crate::core::index::Index;
use crate::core::nearest::nearest;

/// What the user names does not exist.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {kind} {name}; {hint}")]
pub(crate) struct NotFound {
    kind: &'static str,
    name: String,
    hint: String,
}

/// The maximum number of edits between a name and the one that is offered instead.
const DISTANCE_MAX: usize = 3;
/// The maximum number of names that are listed.
const LISTED_MAX: usize = 8;

impl NotFound {
    /// Offers the nearest of the names that exist.
    pub(super) fn new<'a>(
        kind: &'static str,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<&str> = known.collect();
        let hint = match nearest(name, known.iter().copied(), DISTANCE_MAX) {
            Some(near) => format!("did you mean {near}?"),
            None if known.is_empty() => "there is none at all".to_owned(),
            None if known.len() <= LISTED_MAX => format!("there are: {}", known.join(", ")),
            None => format!("there are {} others", known.len()),
        };
        Self {
            kind,
            name: name.to_owned(),
            hint,
        }
    }
}

/// Offers the services of this name in other namespaces, or the nearest one.
pub(crate) fn no_service(index: &Index, name: &ObjectName) -> NotFound {
    let services = index.services();
    let elsewhere = services.filter(|service| service.name.name == name.name);
    let elsewhere: Vec<String> = elsewhere.map(|service| service.name.to_string()).collect();
    if !elsewhere.is_empty() {
        return NotFound {
            kind: "Service",
            name: name.to_string(),
            hint: format!("did you mean {}?", elsewhere.join(" or ")),
        };
    }
    let balanced = index.services().filter(|service| service.load_balancer);
    let names: Vec<String> = balanced.map(|service| service.name.to_string()).collect();
    NotFound::new(
        "Service",
        &name.to_string(),
        names.iter().map(String::as_str),
    )
}
