//! The BGPPeers of each node: those that run there, and those that can't.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Dirty, Index};
use crate::core::api::Kind;
use crate::core::config::node_conflicts::{ConflictingPeer, conflicts_among};
use crate::core::config::peer::Peer;
use crate::core::config::{Config, Problem, Severity};
use crate::core::model::Node;

/// What the configuration doesn't say about the BGPPeers of a node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NodePeers {
    /// The BGPPeers, by name, that select the node but can't run there.
    conflicts: BTreeMap<String, ConflictingPeer>,
    /// Those that run in another form: with a source address of this node, or as they were when
    /// the node last had one.
    own: BTreeMap<String, Peer>,
    /// Those that run as they were, and why.
    kept: BTreeMap<String, ConflictingPeer>,
}

impl NodePeers {
    /// What is wrong on the node.
    pub(super) fn problems(&self) -> impl Iterator<Item = &ConflictingPeer> {
        self.conflicts.values().chain(self.kept.values())
    }
}

/// What only the process on a node knows about it, and what runs there.
#[derive(Debug, Default)]
pub(super) struct LocalPeers {
    /// The addresses of its interfaces. None: not read.
    addresses: Option<BTreeSet<IpAddr>>,
    /// The BGPPeers, by name, whose sourceAddress is a network: as they last ran.
    last_good: BTreeMap<String, Peer>,
}

impl Index {
    /// The BGPPeers, by name, that select a node but can't run there.
    pub fn conflicting_peers(&self, node: &str) -> Option<&BTreeMap<String, ConflictingPeer>> {
        let conflicts = &self.node_peers.get(node)?.conflicts;
        Some(conflicts).filter(|conflicts| !conflicts.is_empty())
    }

    /// The BGPPeers that run on a node. `node` may differ from the index.
    pub fn peers_on<'a>(
        &'a self,
        node_name: &str,
        node: &'a Node,
    ) -> impl Iterator<Item = &'a Peer> + use<'a> {
        let here = self.node_peers.get(node_name);
        let peers = self.config.peers.values();
        let selected = peers.filter(|peer| peer.nodes.matches(&node.labels));
        let running = selected
            .filter(move |peer| here.is_none_or(|here| !here.conflicts.contains_key(&*peer.name)));
        running.map(move |peer| {
            here.and_then(|here| here.own.get(&*peer.name))
                .unwrap_or(peer)
        })
    }

    /// The errors of BGPPeers that concern a node: invalid ones, and those that conflict on the
    /// node.
    pub fn rejected_peers(&self, node: &str) -> Vec<Problem> {
        let there = self.node_peers.get(node).into_iter();
        let there = there.flat_map(NodePeers::problems);
        let there = there.map(|ConflictingPeer { object, message }| Problem {
            object: object.clone(),
            severity: Severity::Error,
            message: message.clone(),
        });
        let everywhere = self.config.problems.iter().filter(|problem| {
            let kind = problem.object.kind;
            matches!(kind, Kind::BgpPeer | Kind::FerrolbBgpPeer | Kind::ConfigMap)
                && problem.severity == Severity::Error
        });
        let there = there.map(|problem| self.config.sources.resolve(problem));
        everywhere.cloned().chain(there).collect()
    }

    /// The names of the interfaces that the BGPPeers of a node require there, and that its
    /// L2Advertisements name.
    pub fn named_interfaces(&self, node: &str) -> BTreeSet<String> {
        let Some(node) = self.nodes.get(node) else {
            return BTreeSet::new();
        };
        let peers = self.config.peers.values();
        let required = peers
            .filter(|peer| peer.nodes.matches(&node.labels))
            .filter_map(|peer| peer.session.transport.source_interface.clone());
        let ads = self.config.layer2_advertisements.values();
        let named = ads
            .filter(|ad| ad.selects_node(node))
            .flat_map(|ad| ad.interfaces.iter().map(|name| name.to_string()));
        required.chain(named).collect()
    }

    /// Sets those of [`Self::named_interfaces`] that a node doesn't have. Only the process on the
    /// node knows them. Other processes ignore interfaces.
    pub fn set_missing_interfaces(&mut self, node: &str, missing: BTreeSet<String>) -> Dirty {
        let old = self
            .missing_interfaces
            .insert(node.to_owned(), missing.clone());
        if old.unwrap_or_default() == missing {
            return Dirty::default();
        }
        self.update_node_peers(node);
        // L2Advertisements name interfaces too.
        self.local_change(node)
    }

    /// Whether a BGPPeer of a node has a network as its sourceAddress.
    pub fn needs_addresses(&self, node: &str) -> bool {
        let Some(node) = self.nodes.get(node) else {
            return false;
        };
        let mut peers = self.config.peers.values();
        peers.any(|peer| peer.source_network.is_some() && peer.nodes.matches(&node.labels))
    }

    /// Sets the addresses of a node's interfaces. None: nothing needs them, or they can't be read.
    /// Only the process on the node calls this. Other processes assume that a node has an address
    /// in every network.
    pub fn set_addresses(&mut self, node: &str, addresses: Option<BTreeSet<IpAddr>>) -> Dirty {
        let local = self.local_peers.entry(node.to_owned()).or_default();
        if local.addresses == addresses {
            return Dirty::default();
        }
        local.addresses = addresses;
        if !self.update_node_peers(node) {
            return Dirty::default();
        }
        self.local_change(node)
    }

    fn local_change(&mut self, node: &str) -> Dirty {
        self.problems_changed = false;
        Dirty {
            problems: true,
            nodes: BTreeSet::from([node.to_owned()]),
            ..Dirty::default()
        }
    }

    /// Keeps the BGPPeers that run on this process's node and whose sourceAddress is a network
    /// from now on, in case the node has no address in it.
    pub(super) fn keep_running_peers(&mut self, new: &Config) {
        for (name, local) in &mut self.local_peers {
            let Some(node) = self.nodes.get(name) else {
                continue;
            };
            let here = self.node_peers.get(name);
            let runs = |peer: &&Peer| {
                peer.source_network.is_none()
                    && peer.nodes.matches(&node.labels)
                    && here.is_none_or(|here| !here.conflicts.contains_key(&*peer.name))
            };
            let named = new.peers.iter();
            let named = named.filter(|(_, peer)| peer.source_network.is_some());
            for (name, _) in named {
                if let Some(old) = self.config.peers.get(name).filter(runs) {
                    local.last_good.insert(name.clone(), old.clone());
                }
            }
        }
    }

    /// Decides again which BGPPeers run on a node, and how. Returns whether that changed.
    pub(super) fn update_node_peers(&mut self, name: &str) -> bool {
        let new = match self.nodes.get(name) {
            Some(node) => {
                let local = self.local_peers.get_mut(name);
                let none = BTreeSet::new();
                let missing = self.missing_interfaces.get(name).unwrap_or(&none);
                node_peers(&self.config, node, missing, local)
            }
            None => NodePeers::default(),
        };
        let old = if new == NodePeers::default() {
            self.node_peers.remove(name)
        } else {
            self.node_peers.insert(name.to_owned(), new)
        };
        let (old, none) = (old.unwrap_or_default(), NodePeers::default());
        let new = self.node_peers.get(name).unwrap_or(&none);
        self.problems_changed |= !old.problems().eq(new.problems());
        old != *new
    }
}

fn node_peers(
    config: &Config,
    node: &Node,
    missing: &BTreeSet<String>,
    local: Option<&mut LocalPeers>,
) -> NodePeers {
    let mut new = NodePeers::default();
    let selected = config.peers.values();
    let mut selected: Vec<&Peer> = selected
        .filter(|peer| peer.nodes.matches(&node.labels))
        .collect();
    if let Some(local) = local {
        let sourced = |name: &String| {
            let peer = selected.iter().find(|peer| *peer.name == **name);
            peer.is_some_and(|peer| peer.source_network.is_some())
        };
        local.last_good.retain(|name, _| sourced(name));
        for peer in &selected {
            new.choose_source(peer, local);
        }
    }
    selected.retain(|peer| !new.conflicts.contains_key(&*peer.name));
    let own = |peer: &'_ Peer| new.own.get(&*peer.name);
    let running = selected.iter().map(|peer| own(peer).unwrap_or(peer));
    let conflicts = conflicts_among(running, node, missing);
    new.conflicts.extend(conflicts);
    new
}

impl NodePeers {
    /// Adds a BGPPeer whose sourceAddress is a network, as it runs on this process's node.
    fn choose_source(&mut self, peer: &Peer, local: &mut LocalPeers) {
        let Some(network) = peer.source_network else {
            return;
        };
        let name = peer.name.to_string();
        let chosen = match &local.addresses {
            Some(addresses) => peer.with_source_in(network, addresses),
            None => Err("spec.sourceAddress: the addresses of the node can't be read".to_owned()),
        };
        let message = match chosen {
            Ok(chosen) => {
                local.last_good.insert(name.clone(), chosen.clone());
                self.own.insert(name, chosen);
                return;
            }
            Err(message) => message,
        };
        let object = peer.object.clone();
        let Some(last_good) = local.last_good.get(&name) else {
            let refused = ConflictingPeer { object, message };
            self.conflicts.insert(name, refused);
            return;
        };
        let message = format!("{message}; the session from before stays in use");
        self.own.insert(name.clone(), last_good.clone());
        self.kept.insert(name, ConflictingPeer { object, message });
    }
}
