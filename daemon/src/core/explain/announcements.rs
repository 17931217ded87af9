//! What differs among nodes: routes to BGPPeers, and candidates of layer 2. Nodes with the same
//! result share a step.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::{Concerned, Groups, Listed};
use super::{Explainer, Stage, Step, Verdict as StepVerdict, count, list};
use crate::core::config::CONFIG_NAMESPACE;
use crate::core::decide::layer2::excluded_nodes;
use crate::core::decide::{Decision, Offer, Reason, Verdict, decide};
use crate::core::model::Service;
use crate::core::owners::OwnerSource;

/// What is announced of a service.
#[derive(Debug, Default)]
pub(super) struct Announced {
    nodes: BTreeSet<String>,
    peers: BTreeSet<String>,
    candidates: BTreeSet<String>,
    /// The code of the first session that some route needs and that is not established.
    failed_session: Option<String>,
}

impl Announced {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.candidates.is_empty()
    }

    /// Why routers lack routes that nodes decided to announce.
    pub(super) fn failed_session(&self) -> Option<String> {
        self.failed_session.clone()
    }

    /// `announced by BGP from 2 nodes to 1 router`. None: not announced.
    pub(super) fn summary(&self) -> Option<String> {
        let mut parts = Vec::new();
        if !self.nodes.is_empty() {
            let nodes = count(self.nodes.len(), "node");
            let peers = count(self.peers.len(), "BGPPeer");
            parts.push(format!("announced by BGP from {nodes} to {peers}"));
        }
        if !self.candidates.is_empty() {
            let nodes = count(self.candidates.len(), "node");
            parts.push(format!("announced by layer 2 from one of {nodes}"));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl Explainer {
    /// The steps about BGP of one service.
    pub(super) fn bgp_steps(&self, service: &Service, announced: &mut Announced) -> Vec<Step> {
        let mut routes: BTreeMap<(BTreeSet<String>, String), BTreeSet<String>> = BTreeMap::new();
        let mut sessions: BTreeSet<(&str, String)> = BTreeSet::new();
        let mut groups = Groups::default();
        for (name, node) in self.index.nodes() {
            let decision = decide(&self.index, name, Some(node), service);
            for (text, peers) in routes_of(&decision) {
                for peer in &peers {
                    sessions.insert((name.as_str(), peer.clone()));
                    if self.reaches(name, peer) {
                        announced.nodes.insert(name.clone());
                        announced.peers.insert(peer.clone());
                    }
                }
                let nodes = routes.entry((peers, text)).or_default();
                nodes.insert(name.clone());
            }
            let concerned = Concerned {
                service,
                node: Some(name),
                listed: Listed::Nodes,
            };
            for verdict in withheld(&decision) {
                groups.add(&self.index, Stage::Bgp, concerned, verdict);
            }
        }
        let sessions = sessions.iter().map(|(node, peer)| (*node, peer.as_str()));
        let sessions = self.session_steps(sessions);
        let mut failed = sessions.iter();
        let failed = failed.find(|step| step.verdict == StepVerdict::Withheld);
        announced.failed_session = failed.and_then(|step| step.reason.clone());
        let routes = routes.into_iter().map(|((peers, text), nodes)| Step {
            nodes,
            peers,
            ..Step::ok(Stage::Bgp, text)
        });
        routes.chain(sessions).chain(groups.into_steps()).collect()
    }

    /// The steps about layer 2 of one service.
    pub(super) fn layer2_steps(&self, service: &Service, announced: &mut Announced) -> Vec<Step> {
        let mut steps = Vec::new();
        for address in service.addresses() {
            let spec = self.layer2.addresses().get(address);
            let services = self.layer2.services_of(*address);
            let Some(spec) = spec.filter(|_| services.contains(&service.name)) else {
                continue;
            };
            let candidates = spec.candidates.iter();
            let nodes: BTreeSet<String> = candidates
                .map(|candidate| candidate.node.to_string())
                .collect();
            announced.candidates.extend(nodes.iter().cloned());
            let text = format!("{address}: one of these nodes announces it");
            let step = Step::ok(Stage::Layer2, text);
            steps.push(Step { nodes, ..step });
        }
        if !steps.is_empty() {
            steps.extend(self.owner_step(service));
        }
        let mut groups = Groups::default();
        self.add_withheld_by_layer2(service, Listed::Nodes, &mut groups);
        steps.extend(groups.into_steps());
        steps
    }

    /// The node that announces a service by layer 2, as far as objects of the API say it. None if
    /// they were not looked at.
    fn owner_step(&self, service: &Service) -> Option<Step> {
        let owners = self.observed.owners(&service.name)?;
        let text = match owners.first() {
            None => "no object of the API names the owner: ferrolb l2 on a node does".to_owned(),
            Some(owner) if owner.source == OwnerSource::ServiceL2Status => {
                "announces it, says its ServiceL2Status".to_owned()
            }
            Some(owner) => format!(
                "began to announce it at {}, says its Event; a failover writes none: ferrolb l2 \
                 on a node names the owner",
                owner.at
            ),
        };
        let address = service.addresses().first();
        let command = address.map(|address| {
            format!("kubectl exec -n {CONFIG_NAMESPACE} ds/ferrolb-layer2 -- /ferrolb l2 {address}")
        });
        let nodes = owners.iter().map(|owner| owner.node.clone());
        Some(Step {
            nodes: nodes.collect(),
            ..Step::ok(Stage::Owner, text).with_command(command)
        })
    }

    /// Why nodes are no candidates for a service.
    pub(super) fn add_withheld_by_layer2(
        &self,
        service: &Service,
        listed: Listed,
        groups: &mut Groups,
    ) {
        let Some(decision) = self.layer2.decision(&service.name) else {
            return;
        };
        let everywhere = self.layer2.withheld(&service.name).into_iter();
        let everywhere = everywhere.map(|(reason, detail)| (None, reason, detail));
        let excluded = excluded_nodes(&self.index, service, decision).into_iter();
        let excluded = excluded.map(|(node, reason, detail)| (Some(node), reason, detail));
        for (node, reason, detail) in excluded.chain(everywhere) {
            let verdict = Verdict {
                peer: None,
                reason,
                detail,
            };
            let concerned = Concerned {
                service,
                node,
                listed,
            };
            groups.add(&self.index, Stage::Layer2, concerned, &verdict);
        }
    }
}

/// The verdicts that withhold something.
pub(super) fn withheld(decision: &Decision) -> impl Iterator<Item = &Verdict> {
    let verdicts = decision.verdicts.iter();
    verdicts.filter(|verdict| verdict.reason != Reason::Announced)
}

/// The routes of a decision as text, and the BGPPeers that get them.
pub(super) fn routes_of(decision: &Decision) -> BTreeMap<String, BTreeSet<String>> {
    let mut routes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for contribution in &decision.contributions {
        for (peer, offer) in contribution.offers.iter() {
            let text = format!("{}{}", contribution.prefix, attributes(offer));
            routes.entry(text).or_default().insert(peer.to_string());
        }
    }
    routes
}

fn attributes(offer: &Offer) -> String {
    let communities = offer.communities.iter().map(ToString::to_string);
    let large = offer.large_communities.iter().map(ToString::to_string);
    let communities = list(communities.chain(large));
    let mut text = String::new();
    if !communities.is_empty() {
        text += &format!(", communities {communities}");
    }
    if let Some(preference) = offer.local_pref {
        text += &format!(", LOCAL_PREF {preference}");
    }
    text
}
