//! L2Advertisement: selects the addresses that nodes announce by layer 2, the nodes, and the
//! interfaces. ferrolb's L2Advertisement has the fields of MetalLB's and further ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_layer2::config::ConflictDetection;
use ferrolb_layer2::limits::{GRATUITOUS_RATE_RANGE, HELLO_INTERVAL_RANGE};

use super::selection::{Selection, SelectionSpec};
use super::selector::Selectors;
use crate::core::api::duration::duration;
use crate::core::api::ferrolb::{
    ConflictDetection as WrittenDetection, FerrolbL2AdvertisementSpec, INTERFACE_MAX,
    Layer2DrainSpec,
};
use crate::core::api::metallb::{L2AdvertisementSpec, NodePreference, PREFERENCE_WEIGHT_MAX};
use crate::core::api::{Errors, FieldError, ObjectKey};
use crate::core::model::{Labels, Node};

/// A checked L2Advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer2Advertisement {
    /// Name of the L2Advertisement.
    pub name: Arc<str>,
    /// The object: both API groups have L2Advertisements.
    pub object: ObjectKey,
    /// The pools, services and nodes.
    pub selection: Selection,
    /// The interfaces on which its nodes announce, by name. Empty: all.
    pub interfaces: BTreeSet<Box<str>>,
    /// Which nodes are preferred.
    pub preferences: Vec<Preference>,
    /// How the segment is searched for another host with an address before its first use.
    pub conflict_detection: ConflictDetection,
    /// Maximum number of unsolicited frames per second and interface.
    pub gratuitous_rate: Option<u32>,
    /// Whether a node keeps an address when placement would choose another node.
    pub sticky: bool,
    /// The minimum interval of hellos.
    pub hello_interval: Option<Duration>,
    /// Whether a cordoned node announces nothing.
    pub on_cordon: bool,
}

/// An entry of `preferredNodeSelectors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// 1 to [`PREFERENCE_WEIGHT_MAX`].
    pub weight: u32,
    /// The nodes: one selector.
    pub nodes: Selectors,
}

impl Layer2Advertisement {
    /// Whether a node may announce what it selects.
    pub fn selects_node(&self, node: &Node) -> bool {
        self.selection.nodes.matches(&node.labels)
    }

    /// Notices about selectors that no labels can match, and preferences that are listed twice.
    pub(super) fn contradictions(&self) -> Vec<String> {
        let contradiction = |path: &str, selectors: &Selectors| {
            let label = selectors.contradiction()?;
            Some(format!(
                "{path}: its conditions on the label {label} exclude each other, so it matches no \
                 node: remove one of them"
            ))
        };
        let mut notices = Vec::new();
        notices.extend(contradiction("spec.nodeSelectors", &self.selection.nodes));
        for (index, preference) in self.preferences.iter().enumerate() {
            let path = |index| format!("spec.preferredNodeSelectors[{index}]");
            notices.extend(contradiction(&path(index), &preference.nodes));
            let mut earlier = self.preferences.iter().take(index);
            if let Some(same) = earlier.position(|other| other.nodes == preference.nodes) {
                notices.push(format!(
                    "{}: prefers the same nodes as {}, so their weights add up: write one entry \
                     with the weight that you mean",
                    path(index),
                    path(same)
                ));
            }
        }
        notices
    }

    /// The sum of the weights of the entries that match a node.
    pub fn weight(&self, labels: &Labels) -> u32 {
        let matching = self.preferences.iter();
        let matching = matching.filter(|preference| preference.nodes.any(labels));
        let weights = matching.map(|preference| preference.weight);
        weights.fold(0, u32::saturating_add)
    }
}

/// Checks an L2Advertisement. `ferrolb` has the further fields of ferrolb's kind.
///
/// # Errors
/// Every invalid field, and what to write instead.
pub(crate) fn parse(
    object: &ObjectKey,
    spec: &L2AdvertisementSpec,
    ferrolb: Option<&FerrolbL2AdvertisementSpec>,
) -> Result<Layer2Advertisement, FieldError> {
    let L2AdvertisementSpec {
        ip_address_pools,
        ip_address_pool_selectors,
        node_selectors,
        interfaces,
        service_selectors,
        preferred_node_selectors,
    } = spec;
    let default = FerrolbL2AdvertisementSpec::default();
    let FerrolbL2AdvertisementSpec {
        conflict_detection,
        gratuitous_rate,
        sticky,
        hello_interval,
        drain: Layer2DrainSpec { on_cordon },
        load_balancer_classes,
    } = ferrolb.unwrap_or(&default);
    let mut errors = Errors::default();
    let selection = errors.record(Selection::parse(&SelectionSpec {
        ip_address_pools,
        ip_address_pool_selectors,
        node_selectors,
        service_selectors,
        load_balancer_classes,
    }));
    let interfaces = errors.record(parse_interfaces(interfaces));
    let preferences = errors.record(parse_preferences(preferred_node_selectors));
    let gratuitous_rate = errors.record(check_rate(*gratuitous_rate));
    let interval = hello_interval.as_deref().map(parse_hello_interval);
    let hello_interval = errors.record(interval.transpose());
    let advertisement = || {
        Some(Layer2Advertisement {
            name: object.name.name.as_str().into(),
            object: object.clone(),
            selection: selection?,
            interfaces: interfaces?,
            preferences: preferences?,
            conflict_detection: match conflict_detection {
                WrittenDetection::Fast => ConflictDetection::Fast,
                WrittenDetection::Rfc5227 => ConflictDetection::Rfc5227,
                WrittenDetection::Off => ConflictDetection::Off,
            },
            gratuitous_rate: gratuitous_rate?,
            sticky: sticky.unwrap_or(true),
            hello_interval: hello_interval?,
            on_cordon: *on_cordon,
        })
    };
    errors.into_result(advertisement())
}

/// As in MetalLB, a name may be listed twice.
fn parse_interfaces(names: &[String]) -> Result<BTreeSet<Box<str>>, FieldError> {
    let mut errors = Errors::default();
    for (index, name) in names.iter().enumerate() {
        let problem = if name.is_empty() {
            "is empty: name an interface (see ip link), or remove the entry".to_owned()
        } else if name.len() > INTERFACE_MAX {
            format!(
                "{name:?} has {} octets, but interface names have at most {INTERFACE_MAX}: \
                 correct the name (see ip link)",
                name.len()
            )
        } else if name.contains(|c: char| c == '/' || c.is_whitespace()) {
            format!(
                "{name:?} is not the name of an interface: write one name per entry, without \
                 spaces and slashes (see ip link)"
            )
        } else {
            continue;
        };
        errors.add(FieldError::new(
            format!("spec.interfaces[{index}]"),
            problem,
        ));
    }
    let names = names.iter().map(|name| name.as_str().into()).collect();
    errors.into_result(Some(names))
}

fn parse_preferences(entries: &[NodePreference]) -> Result<Vec<Preference>, FieldError> {
    let mut errors = Errors::default();
    let mut preferences = Vec::new();
    for (index, NodePreference { weight, preference }) in entries.iter().enumerate() {
        let path = format!("spec.preferredNodeSelectors[{index}]");
        if !(1..=u32::from(PREFERENCE_WEIGHT_MAX)).contains(weight) {
            let message = format!("{weight}: use 1 to {PREFERENCE_WEIGHT_MAX}");
            errors.add(FieldError::new(format!("{path}.weight"), message));
        }
        let path = format!("{path}.preference");
        let Some(selector) = preference else {
            let message = "is missing: select nodes with matchLabels or matchExpressions";
            errors.add(FieldError::new(path, message));
            continue;
        };
        let nodes = errors.record(Selectors::parse_one(&path, selector));
        preferences.extend(nodes.map(|nodes| Preference {
            weight: *weight,
            nodes,
        }));
    }
    errors.into_result(Some(preferences))
}

fn check_rate(rate: Option<u32>) -> Result<Option<u32>, FieldError> {
    let (min, max) = GRATUITOUS_RATE_RANGE;
    match rate {
        Some(rate) if !(min..=max).contains(&rate) => {
            let message = format!("{rate}: use {min} to {max} frames per second");
            Err(FieldError::new("spec.gratuitousRate", message))
        }
        rate => Ok(rate),
    }
}

fn parse_hello_interval(text: &str) -> Result<Duration, FieldError> {
    const FIELD: &str = "spec.helloInterval";
    let interval = duration(FIELD, text)?;
    let (min, max) = HELLO_INTERVAL_RANGE;
    if (min..=max).contains(&interval) {
        return Ok(interval);
    }
    let message = format!("{text}: use {}ms to {}s", min.as_millis(), max.as_secs());
    Err(FieldError::new(FIELD, message))
}

#[cfg(test)]
mod tests;
