//! Detects BGPAdvertisements that set different LOCAL_PREFs for one prefix to one peer.
//!
//! The older one, or the first by name, takes precedence for that prefix and peer
//! ([`crate::core::decide`]). The younger one is reported. Over eBGP there is no conflict:
//! LOCAL_PREF isn't sent there (RFC 4271 §5.1.5).

use std::collections::{BTreeMap, BTreeSet};

use super::advertisement::Advertisement;
use super::peer::Peer;
use super::selector::Selectors;
use super::{Config, Problem, Severity};
use crate::core::api::{ObjectKey, ObjectName};
use crate::core::model::{Family, Node, Service};

/// All pairs that conflict, updated with each change.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalPrefConflicts {
    pairs: Vec<Pair>,
}

/// Two advertisements that conflict wherever both select a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    younger: ObjectKey,
    /// Names within [`Config::advertisements`].
    names: [String; 2],
    pools: BTreeSet<String>,
    message: String,
    /// Services that both select. None if neither has serviceSelectors: then they conflict without
    /// a service.
    services: Option<BTreeSet<ObjectName>>,
}

impl LocalPrefConflicts {
    /// Finds all pairs again, after a change of the configuration or of nodes. Returns whether the
    /// reported problems changed.
    pub(crate) fn rebuild<'a>(
        &mut self,
        config: &Config,
        nodes: &BTreeMap<String, Node>,
        services: impl Iterator<Item = &'a Service>,
    ) -> bool {
        let old = std::mem::replace(&mut self.pairs, pairs(config, nodes));
        if self.pairs.iter().any(|pair| pair.services.is_some()) {
            for service in services {
                self.update(config, &service.name, Some(service));
            }
        }
        old != self.pairs
    }

    /// Updates the pairs after a service changed or was deleted. Returns whether the reported
    /// problems changed.
    pub(crate) fn update(
        &mut self,
        config: &Config,
        name: &ObjectName,
        service: Option<&Service>,
    ) -> bool {
        let mut changed = false;
        for pair in &mut self.pairs {
            let Some(services) = &mut pair.services else {
                continue;
            };
            let first = services.first().cloned();
            let both_select = service.is_some_and(|service| {
                pair.names.iter().all(|name| {
                    let advertisement = config.advertisements.get(name);
                    advertisement.is_some_and(|ad| ad.selection.services.matches(&service.labels))
                }) && pools_of(config, service).any(|pool| pair.pools.contains(pool))
            });
            if both_select {
                services.insert(name.clone());
            } else {
                services.remove(name);
            }
            changed |= services.first() != first.as_ref();
        }
        changed
    }

    /// The problems, at most one for each younger advertisement.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut reported = BTreeSet::new();
        let mut problems = Vec::new();
        for pair in &self.pairs {
            let service = match &pair.services {
                None => String::new(),
                Some(services) => match services.first() {
                    Some(service) => format!(" (both select Service {service})"),
                    None => continue,
                },
            };
            if reported.insert(&pair.younger) {
                problems.push(Problem {
                    object: pair.younger.clone(),
                    severity: Severity::Error,
                    message: format!("{}{service}: {REMEDY}", pair.message),
                });
            }
        }
        problems
    }
}

const REMEDY: &str =
    "set the same localPref on both, or select different peers, nodes, pools or services";

fn pools_of<'a>(config: &'a Config, service: &'a Service) -> impl Iterator<Item = &'a str> {
    let ours = service.addresses().iter().filter(|_| service.is_ours());
    ours.filter_map(|address| Some(config.pools.containing(*address)?.name()))
}

fn pairs(config: &Config, nodes: &BTreeMap<String, Node>) -> Vec<Pair> {
    let mut by_age: Vec<&Advertisement> = config.advertisements.values().collect();
    by_age.sort_by_key(|ad| ad.age());
    let mut pairs = Vec::new();
    for (index, younger) in by_age.iter().enumerate() {
        for older in by_age.iter().take(index) {
            if !younger.agrees_with(older) {
                pairs.extend(pair(config, nodes, younger, older));
            }
        }
    }
    pairs
}

fn pair(
    config: &Config,
    nodes: &BTreeMap<String, Node>,
    younger: &Advertisement,
    older: &Advertisement,
) -> Option<Pair> {
    let common = config
        .peers
        .values()
        .filter(|peer| peer.is_ibgp() != Some(false))
        .filter(|peer| younger.selects_peer(&peer.name) && older.selects_peer(&peer.name))
        .filter(|peer| {
            have_common_node(
                nodes,
                [
                    &peer.nodes,
                    &younger.selection.nodes,
                    &older.selection.nodes,
                ],
            )
        });
    let peers: Vec<&Peer> = common.collect();
    let mut pools = BTreeSet::new();
    let mut example = None;
    for pool in config.pools.iter() {
        let labels = config.pool_details.get(pool.name()).map(|d| &d.labels);
        if !younger.selection.selects_pool(pool.name(), labels)
            || !older.selection.selects_pool(pool.name(), labels)
        {
            continue;
        }
        let same_prefix = |family: Family| {
            pool.capacity(family) > 0 && younger.length(family) == older.length(family)
        };
        let carries = |peer: &&&Peer| {
            Family::ALL
                .iter()
                .any(|family| peer.carries(*family) && same_prefix(*family))
        };
        if let Some(peer) = peers.iter().find(carries) {
            pools.insert(pool.name().to_owned());
            example = example.or(Some((pool.name(), peer.object.clone())));
        }
    }
    let (pool, peer) = example?;
    let selective = !younger.selection.services.is_empty() || !older.selection.services.is_empty();
    Some(Pair {
        younger: younger.object.clone(),
        names: [younger.name.clone(), older.name.clone()],
        message: format!(
            "spec.localPref: {} conflicts with {} of {}, which is older (or first by name) and \
             takes precedence, for addresses of pool {pool} to {peer}",
            younger.effective_local_pref(),
            older.effective_local_pref(),
            older.object
        ),
        pools,
        services: selective.then(BTreeSet::new),
    })
}

/// Whether there is a node that all select. Without nodes: whether they select the same set of
/// labels.
fn have_common_node(nodes: &BTreeMap<String, Node>, selectors: [&Selectors; 3]) -> bool {
    if nodes.is_empty() {
        let mut given = selectors.iter().filter(|selectors| !selectors.is_empty());
        let first = given.next();
        return given.all(|other| Some(other) == first);
    }
    let selected = |node: &Node| selectors.iter().all(|all| all.matches(&node.labels));
    nodes.values().any(selected)
}
