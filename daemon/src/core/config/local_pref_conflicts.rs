//! BGPAdvertisements that want different LOCAL_PREF for one prefix towards one peer.
//!
//! The older one, then the first by name, stays in force for that prefix and peer ([`crate::core::decide`]); the younger one is
//! reported. Over eBGP nothing clashes: LOCAL_PREF isn't sent there (RFC 4271 §5.1.5).

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_allocator::Family;

use super::advertisement::Advertisement;
use super::peer::Peer;
use super::selector::Selectors;
use super::{Config, Problem, Severity};
use crate::core::api::{ObjectKey, ObjectName};
use crate::core::model::{Node, Service};

/// All pairs that clash, kept up to date change by change.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalPrefConflicts {
    pairs: Vec<Pair>,
}

/// Two that clash wherever both select a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    younger: ObjectKey,
    /// Names within [`Config::advertisements`].
    names: [String; 2],
    pools: BTreeSet<String>,
    message: String,
    /// Services that both select; none where neither has serviceSelectors: then no service is needed.
    services: Option<BTreeSet<ObjectName>>,
}

impl LocalPrefConflicts {
    /// Looks for all pairs, after a change of the configuration or of nodes. Returns whether what there is to report
    /// changed.
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

    /// Looks at a service that changed or is gone. Returns whether what there is to report changed.
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
            let meets = service.is_some_and(|service| {
                pair.names.iter().all(|name| {
                    let advertisement = config.advertisements.get(name);
                    advertisement.is_some_and(|ad| ad.services.matches(&service.labels))
                }) && pools_of(config, service).any(|pool| pair.pools.contains(pool))
            });
            if meets {
                services.insert(name.clone());
            } else {
                services.remove(name);
            }
            changed |= services.first() != first.as_ref();
        }
        changed
    }

    /// What there is to report, once for each younger advertisement.
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
    "give both the same localPref, or select different peers, nodes, pools or services";

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
        .filter(|peer| meet(nodes, [&peer.nodes, &younger.nodes, &older.nodes]));
    let peers: Vec<&Peer> = common.collect();
    let mut pools = BTreeSet::new();
    let mut towards = None;
    for pool in config.pools.iter() {
        let labels = config.pool_details.get(pool.name()).map(|d| &d.labels);
        if !younger.selects_pool(pool.name(), labels) || !older.selects_pool(pool.name(), labels) {
            continue;
        }
        let same_prefix = |ipv6: bool| {
            let family = if ipv6 { Family::V6 } else { Family::V4 };
            pool.capacity(family) > 0 && younger.length(ipv6) == older.length(ipv6)
        };
        let carries = |peer: &&&Peer| {
            [false, true]
                .iter()
                .any(|ipv6| peer.carries(*ipv6) && same_prefix(*ipv6))
        };
        if let Some(peer) = peers.iter().find(carries) {
            pools.insert(pool.name().to_owned());
            towards = towards.or(Some((pool.name(), peer.object.clone())));
        }
    }
    let (pool, peer) = towards?;
    let selective = !younger.services.is_empty() || !older.services.is_empty();
    Some(Pair {
        younger: younger.object.clone(),
        names: [younger.name.clone(), older.name.clone()],
        message: format!(
            "spec.localPref: {} contradicts {} of {}, which is older, or first by name, and stays in force, for addresses of pool {pool} \
             towards {peer}",
            younger.effective_local_pref(),
            older.effective_local_pref(),
            older.object
        ),
        pools,
        services: selective.then(BTreeSet::new),
    })
}

/// Whether there is a node that all select. Where no node is known: whether that is sure, whatever its labels are, as far
/// as one set of labels satisfies them all.
fn meet(nodes: &BTreeMap<String, Node>, selectors: [&Selectors; 3]) -> bool {
    if nodes.is_empty() {
        let mut given = selectors.iter().filter(|selectors| !selectors.is_empty());
        let first = given.next();
        return given.all(|other| Some(other) == first);
    }
    let selected = |node: &Node| selectors.iter().all(|all| all.matches(&node.labels));
    nodes.values().any(selected)
}
