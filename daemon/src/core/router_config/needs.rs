//! What a router needs for its sessions with the nodes, in no syntax.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ferrolb_bgp::config::{Remote, RemoteAsn};
use ferrolb_bgp::wire::Asn;

use super::filter::{PREFIXES_MAX, permits};
use super::group::{Group, Link, Member, Members};
use super::names::{interface, symbols, variable};
use super::router::{Router, RouterError};
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::config::peer::{PasswordPlace, Peer, lowest_in};
use crate::core::config::{Config, Severity};
use crate::core::index::Index;
use crate::core::model::{Family, Node};

/// What a router needs for its sessions with the nodes.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    /// The router's names.
    pub routers: BTreeSet<Router>,
    /// Its AS number, if the objects contain it.
    pub asn: Option<Asn>,
    /// Its router ID: its IPv4 address, if the objects contain it.
    pub router_id: Option<Ipv4Addr>,
    /// The sessions, by BGPPeer.
    pub groups: Vec<Group>,
    /// What the operator must write into the configuration.
    pub variables: Vec<Variable>,
    /// What is not configured, and why.
    pub left_out: Vec<String>,
    /// What the operator should know.
    pub remarks: Vec<String>,
}

/// A text that the objects don't contain, or that must not be in a configuration: a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its name.
    pub name: String,
    /// What it stands for.
    pub meaning: String,
    /// A command that prints the value.
    pub command: Option<String>,
}

const ROUTER_ASN: &str = "ROUTER_ASN";
const ROUTER_ID: &str = "ROUTER_ID";

impl Needs {
    /// What this router needs.
    ///
    /// # Errors
    /// Its BGPPeers expect different AS numbers.
    pub(crate) fn of(index: &Index, routers: BTreeSet<Router>) -> Result<Self, RouterError> {
        let config = index.config();
        let peers: Vec<&Peer> = config
            .peers
            .values()
            .filter(|peer| routers.iter().any(|router| router.is_of(peer)))
            .collect();
        let mut needs = Self {
            asn: common_asn(&peers)?,
            router_id: routers.iter().find_map(|router| match router {
                Router::Address(IpAddr::V4(address)) => Some(*address),
                _ => None,
            }),
            routers,
            groups: Vec::new(),
            variables: Vec::new(),
            left_out: invalid_objects(index),
            remarks: Vec::new(),
        };
        needs.add_router_variables();
        let peer_symbols = symbols(peers.iter().map(|peer| &*peer.name));
        let node_symbols = symbols(index.nodes().keys().map(String::as_str));
        let mut taken = BTreeMap::new();
        for peer in peers {
            let symbol = format!("ferrolb_{}", peer_symbols[&*peer.name]);
            match needs.group(index, peer, symbol, &node_symbols) {
                Ok(mut group) => {
                    let removed = remove_taken(&mut group, &mut taken);
                    needs.left_out.extend(removed);
                    if !group.members.is_empty() {
                        needs.groups.push(group);
                    }
                }
                Err(reason) => needs.left_out.push(format!("{}: {reason}", peer.object)),
            }
        }
        needs.add_remarks();
        Ok(needs)
    }

    /// The router's AS number, or the variable that stands for it.
    pub(crate) fn asn_text(&self) -> String {
        self.asn
            .map_or_else(|| reference(ROUTER_ASN), |asn| asn.to_string())
    }

    /// The router's ID, or the variable that stands for it.
    pub(crate) fn router_id_text(&self) -> String {
        self.router_id
            .map_or_else(|| reference(ROUTER_ID), |id| id.to_string())
    }

    /// The router's addresses in the sessions.
    pub(crate) fn local_addresses(&self) -> BTreeSet<IpAddr> {
        self.groups.iter().filter_map(|group| group.local).collect()
    }

    /// Whether the nodes have several AS numbers, so that paths to one prefix differ in AS_PATH.
    pub(crate) fn several_node_asns(&self) -> bool {
        let asns: BTreeSet<Asn> = self.groups.iter().map(Group::node_asn).collect();
        asns.len() > 1
    }

    /// Whether the router can wait for all nodes when its BGP restarts: it knows them by name, and
    /// all of them keep its routes in the meantime.
    pub(crate) fn can_await_all_nodes(&self) -> bool {
        let by_name = |group: &Group| group.members.range().is_none();
        let mut groups = self.groups.iter();
        !self.groups.is_empty() && groups.all(|group| by_name(group) && group.graceful_restart())
    }

    fn add_router_variables(&mut self) {
        if self.asn.is_none() {
            self.variables.push(Variable {
                name: ROUTER_ASN.to_owned(),
                meaning: "the router's AS number: the BGPPeers have dynamicASN".to_owned(),
                command: None,
            });
        }
        if self.router_id.is_none() {
            self.variables.push(Variable {
                name: ROUTER_ID.to_owned(),
                meaning: "an IPv4 address of the router: the BGPPeers don't contain any".to_owned(),
                command: None,
            });
        }
    }

    fn group(
        &mut self,
        index: &Index,
        peer: &Peer,
        symbol: String,
        symbols: &BTreeMap<&str, String>,
    ) -> Result<Group, String> {
        let nodes: Vec<(&String, &Node)> = index
            .nodes()
            .iter()
            .filter(|(name, node)| {
                let mut running = index.peers_on(name, node);
                running.any(|running| running.name == peer.name)
            })
            .collect();
        let members = self.members(peer, &nodes, symbols)?;
        if members.is_empty() {
            return Err(no_nodes(index));
        }
        let mut session = peer.session.clone();
        session.transport.password = None;
        let carried = Family::ALL.into_iter();
        let unknown = Node::default();
        let mut nodes: Vec<&Node> = nodes.iter().map(|(_, node)| *node).collect();
        if nodes.is_empty() {
            // Dynamic neighbors, without Nodes in the input.
            nodes.push(&unknown);
        }
        Ok(Group {
            object: peer.object.clone(),
            symbol,
            local: self.local(peer),
            families: carried.filter(|family| peer.carries(*family)).collect(),
            members,
            password: self.password(index.config(), peer),
            permits: permits(index, peer, &nodes),
            session,
        })
    }

    /// The router's address in the sessions of a BGPPeer.
    fn local(&self, peer: &Peer) -> Option<IpAddr> {
        if let Some(router) = peer.session.remote.router() {
            return Some(router.ip());
        }
        self.routers.iter().find_map(|router| match router {
            Router::Address(address) if router.is_of(peer) => Some(*address),
            _ => None,
        })
    }

    fn members(
        &mut self,
        peer: &Peer,
        nodes: &[(&String, &Node)],
        symbols: &BTreeMap<&str, String>,
    ) -> Result<Members, String> {
        if matches!(peer.session.remote, Remote::Link(_)) {
            let links = nodes.iter().map(|(name, _)| Link {
                node: (*name).clone(),
                symbol: symbols[name.as_str()].clone(),
                interface: interface(name),
            });
            return Ok(Members::Interfaces(links.collect()));
        }
        if peer.session.is_link_local() {
            return Err(
                "its sessions have link-local addresses, which the objects don't contain: \
                 configure them by hand, or use interface (unnumbered) in the BGPPeer"
                    .to_owned(),
            );
        }
        let mut by_address: BTreeMap<IpAddr, Member> = BTreeMap::new();
        for (name, node) in nodes {
            let Some(address) = address_of(peer, node) else {
                if peer.source_network.is_none() {
                    self.left_out.push(format!(
                        "{} on node {name}: it has no InternalIP of {}, so the router can't know \
                         its address",
                        peer.object,
                        peer.family()
                    ));
                }
                continue;
            };
            let member = by_address.entry(address).or_insert_with(|| Member {
                node: String::new(),
                symbol: symbols[name.as_str()].clone(),
                address,
            });
            if !member.node.is_empty() {
                member.node.push(',');
            }
            member.node.push_str(name);
        }
        let known = by_address.into_values().collect();
        Ok(match peer.source_network {
            Some(network) => Members::Range { network, known },
            None => Members::Named(known),
        })
    }

    /// The variable for the password of a BGPPeer.
    fn password(&mut self, config: &Config, peer: &Peer) -> Option<String> {
        let place = peer.password_place.as_ref()?;
        let new = password_variable(config.sources.origin(&peer.object), place);
        let same = |other: &&Variable| other.meaning == new.meaning;
        if let Some(known) = self.variables.iter().find(same) {
            return Some(known.name.clone());
        }
        let named = |name: &str| self.variables.iter().any(|other| other.name == name);
        let mut variable = new;
        // Names that differ in punctuation only.
        while named(&variable.name) {
            variable.name.push('_');
        }
        let name = variable.name.clone();
        self.variables.push(variable);
        Some(name)
    }

    fn add_remarks(&mut self) {
        let capped = self.groups.iter().any(|group| {
            Family::ALL
                .into_iter()
                .any(|family| group.maximum(family) == PREFIXES_MAX)
        });
        if capped {
            self.remarks.push(format!(
                "a pool has more addresses than a cluster has Services: the maximum number of \
                 prefixes is {PREFIXES_MAX}"
            ));
        }
        for group in &self.groups {
            if group.permits.is_empty() {
                self.remarks.push(format!(
                    "{}: no BGPAdvertisement announces a pool to it, so everything is rejected",
                    group.object
                ));
            }
            if group.router_dials() {
                self.remarks.push(format!(
                    "{}: the router dials the nodes: start ferrolb with --listen",
                    group.object
                ));
            }
            if group.multihop() {
                self.remarks.push(format!(
                    "{}: the nodes are behind other routers, and the number of hops is not in the \
                     objects: lower it in the configuration",
                    group.object
                ));
            }
        }
    }
}

/// The reference to a variable, as `envsubst` replaces it.
pub(crate) fn reference(variable: &str) -> String {
    format!("${{{variable}}}")
}

/// The AS number that all BGPPeers expect of the router, if one of them expects any.
fn common_asn(peers: &[&Peer]) -> Result<Option<Asn>, RouterError> {
    let expected = peers.iter().filter_map(|peer| {
        let asn = match peer.session.remote_asn {
            RemoteAsn::Number(asn) => asn,
            RemoteAsn::Internal => peer.session.local_asn,
            RemoteAsn::External | RemoteAsn::Auto => return None,
        };
        Some((peer, asn))
    });
    let mut common: Option<(&&Peer, Asn)> = None;
    for (peer, asn) in expected {
        match common {
            Some((first, other)) if other != asn => {
                return Err(RouterError::DifferentAsns {
                    one: first.name.to_string(),
                    one_asn: other.0,
                    other: peer.name.to_string(),
                    other_asn: asn.0,
                });
            }
            Some(_) => {}
            None => common = Some((peer, asn)),
        }
    }
    Ok(common.map(|(_, asn)| asn))
}

/// The address from which a node dials: as in [`crate::core::decide::peer_config::next_hop`].
fn address_of(peer: &Peer, node: &Node) -> Option<IpAddr> {
    let source = peer.session.transport.source_address;
    source.or_else(|| match peer.source_network {
        Some(network) => lowest_in(network, &node.internal_ips),
        None => node.internal_ip(peer.family()),
    })
}

fn no_nodes(index: &Index) -> String {
    let reason = if index.nodes().is_empty() {
        "the input has no Nodes, whose addresses are the router's neighbors: add the output of \
         kubectl get nodes -o yaml"
    } else {
        "no Node has a session with it: see ferrolb explain peer"
    };
    reason.to_owned()
}

/// Removes neighbors that another BGPPeer has too: a router distinguishes neighbors by address.
/// Returns why each of them was removed.
fn remove_taken(group: &mut Group, taken: &mut BTreeMap<IpAddr, ObjectKey>) -> Vec<String> {
    let Members::Named(members) = &mut group.members else {
        return Vec::new();
    };
    let mut removed = Vec::new();
    members.retain(|member| {
        let address = member.address;
        let Some(other) = taken.get(&address) else {
            taken.insert(address, group.object.clone());
            return true;
        };
        removed.push(format!(
            "{}: {address} is a neighbor by {other} already, and a router has one session with \
             each neighbor: choose one address of the router with --router, or set sourceAddress",
            group.object
        ));
        false
    });
    removed
}

/// The variable for a password that this object refers to.
fn password_variable(object: &ObjectKey, place: &PasswordPlace) -> Variable {
    let ObjectName { namespace, name } = &object.name;
    match place {
        PasswordPlace::Secret(secret) => Variable {
            name: variable(&["PASSWORD", namespace, secret]),
            meaning: format!("the key password of the Secret {namespace}/{secret}"),
            command: Some(format!(
                "kubectl get secret -n {} {} -o jsonpath='{{.data.password}}' | base64 -d",
                quoted(namespace),
                quoted(secret)
            )),
        },
        PasswordPlace::Field if object.kind == Kind::ConfigMap => Variable {
            name: variable(&["PASSWORD", namespace, name]),
            meaning: format!("the password of the peer in {object}"),
            command: None,
        },
        PasswordPlace::Field => Variable {
            name: variable(&["PASSWORD", "BGPPEER", namespace, name]),
            meaning: format!("the field password of {object}"),
            command: Some(format!(
                "kubectl get bgppeer.{} -n {} {} -o jsonpath='{{.spec.password}}'",
                object.kind.group(),
                quoted(namespace),
                quoted(name)
            )),
        },
    }
}

/// A word of a shell command. Names from a cluster need no quotes, those from manifests may.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The errors of objects that would be part of a configuration.
fn invalid_objects(index: &Index) -> Vec<String> {
    let matters = |kind: Kind| {
        kind.groups().any(|kind| {
            matches!(
                kind,
                Kind::BgpPeer
                    | Kind::BfdProfile
                    | Kind::AddressPool
                    | Kind::IpAddressPool
                    | Kind::BgpAdvertisement
                    | Kind::Node
                    | Kind::ConfigMap
            )
        })
    };
    let problems = index.problems().into_iter();
    problems
        .filter(|problem| problem.severity == Severity::Error && matters(problem.object.kind))
        .map(|problem| problem.to_string())
        .collect()
}
