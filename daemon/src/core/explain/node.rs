//! What a node announces, and what it does not.

use std::collections::BTreeSet;

use super::announcements::withheld;
use super::groups::{Concerned, Groups, Listed};
use super::not_found::NotFound;
use super::{Explainer, Explanation, Stage, Step, count, list};
use crate::core::decide::node_routes::NodeRoutes;
use crate::core::decide::{Reason, peers_of};
use crate::core::model::Node;
use crate::core::model::annotations::EXCLUDE_LABEL;

impl Explainer {
    pub(super) fn node(&self, name: &str) -> Result<Explanation, NotFound> {
        let nodes = self.index.nodes();
        let Some(node) = nodes.get(name) else {
            let names = nodes.keys().map(String::as_str);
            return Err(NotFound::new("Node", name, names));
        };
        let routes = NodeRoutes::of(&self.index, name);
        let mut steps = node_steps(name, node);
        steps.extend(self.peers_of_node(name, node));
        let counts = routes.route_counts().iter();
        steps.extend(
            counts
                .filter(|(_, routes)| **routes > 0)
                .map(|(peer, routes)| Step {
                    peers: BTreeSet::from([peer.to_string()]),
                    ..Step::ok(Stage::Bgp, count(*routes, "prefix"))
                }),
        );
        let candidate = self.candidate_for(name);
        if candidate > 0 {
            let addresses = count(candidate, "address");
            let text = format!("one of the nodes that may announce {addresses}");
            steps.push(Step::ok(Stage::Layer2, text));
        }
        steps.extend(self.withheld_on(name, &routes));
        let reached = routes.routes().keys();
        let reached = reached.filter(|(peer, _)| self.reaches(name, peer));
        let prefixes: BTreeSet<_> = reached.map(|(_, prefix)| prefix).collect();
        let summary = format!(
            "announces {} by BGP, and may announce {} by layer 2",
            count(prefixes.len(), "prefix"),
            count(candidate, "address")
        );
        Ok(Explanation {
            subject: format!("Node {name}"),
            announced: !prefixes.is_empty() || candidate > 0,
            summary,
            steps,
        })
    }

    /// The BGPPeers that select the node.
    fn peers_of_node(&self, name: &str, node: &Node) -> Vec<Step> {
        let peers: BTreeSet<String> = peers_of(&self.index, name, node)
            .map(|peer| peer.name.to_string())
            .collect();
        let conflicting = self.index.conflicting_peers(name).into_iter().flatten();
        let refused = conflicting.map(|(peer, conflict)| Step {
            peers: BTreeSet::from([peer.clone()]),
            ..Step::withheld(Stage::Peer, conflict.message.clone())
                .because(Reason::PeerRefused.code())
                .with_command(self.edit(&conflict.object))
        });
        let mut steps = Vec::new();
        if self.observed.has_sessions() {
            steps.extend(self.session_steps(peers.iter().map(|peer| (name, peer.as_str()))));
        } else if !peers.is_empty() {
            let text = format!("has a session with: {}", list(&peers));
            steps.push(Step::ok(Stage::Peer, text));
        }
        steps.extend(refused);
        if steps.is_empty() && !self.index.config().peers.is_empty() {
            let text = "no BGPPeer selects the node";
            steps.push(Step::withheld(Stage::Peer, text).because(Reason::NoPeer.code()));
        }
        steps
    }

    /// The number of addresses that a node may own by layer 2.
    fn candidate_for(&self, node: &str) -> usize {
        let addresses = self.layer2.addresses().values();
        let with_node = addresses.filter(|spec| {
            let mut candidates = spec.candidates.iter();
            candidates.any(|candidate| &*candidate.node == node)
        });
        with_node.count()
    }

    fn withheld_on(&self, name: &str, routes: &NodeRoutes) -> Vec<Step> {
        let mut groups = Groups::default();
        for (service, decision) in routes.decisions() {
            let Some(service) = self.index.service(service) else {
                continue;
            };
            let concerned = Concerned {
                service,
                node: Some(name),
                listed: Listed::Services,
            };
            for verdict in withheld(decision) {
                groups.add(&self.index, Stage::Bgp, concerned, verdict);
            }
        }
        let mut layer2 = Groups::default();
        for service in self
            .index
            .services()
            .filter(|service| service.load_balancer)
        {
            self.add_withheld_by_layer2(service, Listed::NodesAndServices, &mut layer2);
        }
        let layer2 = layer2.into_steps();
        let here = layer2
            .filter(|step| step.nodes.contains(name))
            .map(|step| Step {
                nodes: BTreeSet::new(),
                ..step
            });
        groups.into_steps().chain(here).collect()
    }
}

/// What keeps a node from announcing.
fn node_steps(name: &str, node: &Node) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut withhold = |reason: Reason, command: String| {
        let text = reason.meaning().trim();
        let step = Step::withheld(Stage::Node, text).because(reason.code());
        steps.push(step.with_command(command));
    };
    let describe = format!("kubectl describe node {name}");
    if node.excluded() {
        withhold(
            Reason::NodeExcluded,
            format!("kubectl label node {name} {EXCLUDE_LABEL}-"),
        );
    }
    if node.network_unavailable {
        withhold(Reason::NodeNetworkUnavailable, describe.clone());
    }
    if node.deleting || node.shutting_down {
        withhold(Reason::NodeLeaving, describe);
    }
    if steps.is_empty() {
        let cordoned = if node.cordoned { ", cordoned" } else { "" };
        let text = format!(
            "may announce{cordoned}; InternalIPs: {}",
            list(&node.internal_ips)
        );
        steps.push(Step::ok(Stage::Node, text));
    }
    steps
}
