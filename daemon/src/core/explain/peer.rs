//! What a BGPPeer gets from which nodes, and what it does not get.

use std::collections::BTreeSet;

use super::groups::{Concerned, Groups, Listed};
use super::not_found::NotFound;
use super::{Explainer, Explanation, Stage, Step, count};
use crate::core::api::Kind;
use crate::core::config::Severity;
use crate::core::config::peer::Peer;
use crate::core::decide::Reason;
use crate::core::decide::node_routes::NodeRoutes;

impl Explainer {
    pub(super) fn peer(&self, name: &str) -> Result<Explanation, NotFound> {
        let peers = &self.index.config().peers;
        let mut steps = self.problems_of(&[Kind::BgpPeer, Kind::FerrolbBgpPeer], name);
        let Some(peer) = peers.get(name) else {
            if steps.is_empty() {
                let names = peers.keys().map(String::as_str);
                return Err(NotFound::new("BGPPeer", name, names));
            }
            return Ok(Explanation {
                subject: format!("BGPPeer {name}"),
                announced: false,
                summary: "it is invalid, and no valid version of it is known".to_owned(),
                steps,
            });
        };
        steps.extend(self.nodes_of_peer(peer));
        let mut nodes = BTreeSet::new();
        let mut prefixes = BTreeSet::new();
        let mut groups = Groups::default();
        for node in self.index.nodes().keys() {
            let routes = NodeRoutes::of(&self.index, node.clone());
            let to_peer = routes.routes().keys().filter(|(to, _)| **to == *name);
            let to_peer = to_peer.filter(|_| self.reaches(node, name));
            let to_peer: Vec<_> = to_peer.map(|(_, prefix)| *prefix).collect();
            if !to_peer.is_empty() {
                nodes.insert(node.clone());
            }
            prefixes.extend(to_peer);
            self.withheld_from(name, &routes, &mut groups);
        }
        let (routes, from) = (count(prefixes.len(), "prefix"), count(nodes.len(), "node"));
        if !nodes.is_empty() {
            let step = Step::ok(Stage::Bgp, routes.clone());
            steps.push(Step { nodes, ..step });
        }
        steps.extend(groups.into_steps());
        Ok(Explanation {
            subject: peer.object.to_string(),
            announced: !prefixes.is_empty(),
            summary: format!("gets {routes} from {from}"),
            steps,
        })
    }

    /// Errors and notices about an object.
    pub(super) fn problems_of(&self, kinds: &[Kind], name: &str) -> Vec<Step> {
        let stage = match kinds {
            [Kind::BgpPeer, ..] => Stage::Peer,
            _ => Stage::Pool,
        };
        let problems = self.index.problems().into_iter();
        let of_object = problems.filter(|problem| {
            kinds.contains(&problem.object.kind) && problem.object.name.name == name
        });
        of_object
            .map(|problem| {
                let step = match problem.severity {
                    Severity::Error => Step::withheld(stage, problem.message),
                    Severity::UnknownField | Severity::Notice => Step::ok(stage, problem.message),
                };
                step.with_command(self.edit(&problem.object))
            })
            .collect()
    }

    /// The nodes that have the session, and those that can't have it.
    fn nodes_of_peer(&self, peer: &Peer) -> Vec<Step> {
        let nodes = self.index.nodes().iter();
        let selected = nodes.filter(|(_, node)| peer.nodes.matches(&node.labels));
        let mut running = BTreeSet::new();
        let mut steps = Vec::new();
        for (name, _) in selected {
            let conflicts = self.index.conflicting_peers(name);
            match conflicts.and_then(|conflicts| conflicts.get(&*peer.name)) {
                None => drop(running.insert(name.clone())),
                Some(conflict) => steps.push(Step {
                    nodes: BTreeSet::from([name.clone()]),
                    ..Step::withheld(Stage::Peer, conflict.message.clone())
                        .because(Reason::PeerRefused.code())
                        .with_command(self.edit(&conflict.object))
                }),
            }
        }
        if running.is_empty() && steps.is_empty() {
            let text = "its nodeSelectors select no node";
            steps.push(Step::withheld(Stage::Peer, text).with_command(self.edit(&peer.object)));
        } else if self.observed.has_sessions() {
            let sessions = running.iter().map(|node| (node.as_str(), &*peer.name));
            steps.splice(0..0, self.session_steps(sessions));
        } else if !running.is_empty() {
            let step = Step::ok(Stage::Peer, "these nodes have a session with it");
            steps.insert(
                0,
                Step {
                    nodes: running,
                    ..step
                },
            );
        }
        steps
    }

    /// Why a node does not announce services to this BGPPeer.
    fn withheld_from(&self, peer: &str, routes: &NodeRoutes, groups: &mut Groups) {
        for (service, decision) in routes.decisions() {
            let Some(service) = self.index.service(service) else {
                continue;
            };
            let verdicts = super::announcements::withheld(decision);
            let concerned = Concerned {
                service,
                node: Some(routes.node()),
                listed: Listed::NodesAndServices,
            };
            for verdict in verdicts.filter(|verdict| verdict.peer.as_deref() == Some(peer)) {
                groups.add(&self.index, Stage::Bgp, concerned, verdict);
            }
        }
    }
}
