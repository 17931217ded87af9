//! What the process on a node decided about a service, explained from its own decision.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::announcements::{routes_of, withheld};
use super::groups::{Concerned, Groups, Listed};
use super::service::service_step;
use super::session::OwnSession;
use super::{Explanation, Stage, Step, Verdict, count, list};
use crate::core::decide::layer2::addresses::Layer2Addresses;
use crate::core::decide::{Decision, Reason};
use crate::core::index::Index;
use crate::core::model::Service;

/// What a process knows about a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnNode<'a> {
    /// Its index.
    pub index: &'a Index,
    /// Its node.
    pub node: &'a str,
    /// The service.
    pub service: &'a Service,
    /// The decision about BGP, if it announces by BGP and anything was decided.
    pub bgp: Option<&'a Decision>,
    /// The addresses that have a route now: a drain withdraws routes that were decided.
    pub announced: &'a [IpAddr],
    /// The decisions about layer 2, if it announces by layer 2.
    pub layer2: Option<&'a Layer2Addresses>,
    /// Why the first announcements of this process wait, if they do.
    pub delayed: Option<(Reason, &'a str)>,
}

impl OnNode<'_> {
    /// Explains the service. The sessions are added later ([`Explanation::add_sessions`]).
    pub(crate) fn explain(&self) -> Explanation {
        let mut steps = vec![service_step(self.service)];
        let addresses = self.service.addresses();
        if !addresses.is_empty() {
            steps.push(Step::ok(Stage::Address, list(addresses)));
        }
        if let Some((reason, message)) = self.delayed {
            let step = Step::withheld(Stage::Node, message).because(reason.code());
            steps.push(self.here(step));
        }
        let routes = self.bgp.map(|decision| self.bgp_steps(decision));
        steps.extend(routes.into_iter().flatten());
        let owned = self.layer2_steps(&mut steps);
        let announced = !self.announced.is_empty() || owned;
        let summary = if announced {
            self.summary(owned)
        } else {
            not_announced(&steps)
        };
        Explanation {
            subject: format!("Service {} on {}", self.service.name, self.node),
            announced,
            summary,
            steps,
        }
    }

    fn summary(&self, is_candidate: bool) -> String {
        let mut parts = Vec::new();
        if !self.announced.is_empty() {
            let addresses = count(self.announced.len(), "address");
            parts.push(format!("{addresses} announced by BGP from this node"));
        }
        if is_candidate {
            parts.push("this node may announce it by layer 2".to_owned());
        }
        parts.join(", ")
    }

    /// A step about this node.
    fn here(&self, step: Step) -> Step {
        Step {
            nodes: BTreeSet::from([self.node.to_owned()]),
            ..step
        }
    }

    fn bgp_steps(&self, decision: &Decision) -> Vec<Step> {
        let routes = routes_of(decision).into_iter().map(|(text, peers)| {
            let step = if self.announced.is_empty() {
                let text = format!("{text}: decided, but withdrawn: the node or process drains");
                Step::withheld(Stage::Bgp, text).with_command("ferrolb routes".to_owned())
            } else {
                Step::ok(Stage::Bgp, text)
            };
            self.here(Step { peers, ..step })
        });
        let mut groups = Groups::default();
        for verdict in withheld(decision) {
            groups.add(self.index, Stage::Bgp, self.concerned(), verdict);
        }
        routes.chain(groups.into_steps()).collect()
    }

    fn concerned(&self) -> Concerned<'_> {
        Concerned {
            service: self.service,
            node: Some(self.node),
            listed: Listed::Nodes,
        }
    }

    /// Adds the steps about layer 2. Returns whether this node may own an address.
    fn layer2_steps(&self, steps: &mut Vec<Step>) -> bool {
        let Some(layer2) = self.layer2 else {
            return false;
        };
        let mut is_candidate = false;
        for address in self.service.addresses() {
            let services = layer2.services_of(*address);
            let spec = layer2.addresses().get(address);
            let Some(spec) = spec.filter(|_| services.contains(&self.service.name)) else {
                continue;
            };
            let candidates = spec.candidates.iter();
            let nodes: BTreeSet<String> = candidates.map(|one| one.node.to_string()).collect();
            is_candidate |= nodes.contains(self.node);
            let text = format!("{address}: one of these nodes announces it");
            let step = Step::ok(Stage::Layer2, text).with_command(format!("ferrolb l2 {address}"));
            steps.push(Step { nodes, ..step });
        }
        let withheld = layer2.withheld(&self.service.name);
        if let Some((reason, detail)) = withheld {
            let verdict = crate::core::decide::Verdict {
                peer: None,
                reason,
                detail,
            };
            let mut groups = Groups::default();
            groups.add(self.index, Stage::Layer2, self.concerned(), &verdict);
            let is_known = |step: &Step| steps.iter().any(|other| other.reason == step.reason);
            let new: Vec<Step> = groups.into_steps().filter(|step| !is_known(step)).collect();
            steps.extend(new);
        }
        is_candidate
    }
}

/// The summary by the first step that withholds something.
fn not_announced(steps: &[Step]) -> String {
    let mut withheld = steps.iter();
    let first = withheld.find(|step| step.verdict == Verdict::Withheld);
    let reason = match first {
        Some(step) => {
            let reason = step.reason.clone();
            reason.unwrap_or_else(|| format!("see {}", step.stage))
        }
        None => "this process does not announce it".to_owned(),
    };
    format!("not announced: {reason}")
}

impl Explanation {
    /// The BGPPeers to which a process decided to announce.
    pub(crate) fn peers(&self) -> BTreeSet<String> {
        let announced = self.steps.iter();
        let announced = announced.filter(|step| is_route(step));
        announced
            .flat_map(|step| step.peers.iter().cloned())
            .collect()
    }

    /// Adds the sessions with the BGPPeers that get routes, after the routes. Routes without an
    /// established session are not announced.
    pub(crate) fn add_sessions(&mut self, node: &str, sessions: &[OwnSession]) {
        let place = self.steps.iter().rposition(is_route);
        let Some(place) = place.filter(|_| !sessions.is_empty()) else {
            return;
        };
        let added = sessions.iter().map(|session| session.step(node));
        self.steps.splice(place + 1..place + 1, added);
        let by_layer2 = self.steps.iter().any(|step| step.stage == Stage::Layer2);
        if !by_layer2 && !sessions.iter().any(|session| session.established) {
            self.announced = false;
            self.summary = format!("not announced: {}", super::session::SESSION_DOWN);
        }
    }
}

fn is_route(step: &Step) -> bool {
    step.stage == Stage::Bgp && step.verdict == Verdict::Ok
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::api::{Kind, ObjectName, RawObject};
    use crate::core::decide::node_routes::NodeRoutes;
    use crate::core::index::change::Change;

    fn apply(index: &mut Index, kind: Kind, name: &str, mut body: Value) {
        body["apiVersion"] = json!(kind.api_version());
        body["kind"] = json!(kind.name());
        body["metadata"] = json!({ "name": name });
        if kind == Kind::EndpointSlice {
            body["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "web" });
        }
        let raw: RawObject = serde_json::from_value(body).expect("an object");
        let key = raw.key("shop").expect("a known kind");
        index.apply(Change::Apply(key, raw));
    }

    fn endpoint(index: &mut Index, ready: bool) {
        let endpoints = json!([{
            "addresses": ["10.1.0.1"], "conditions": { "ready": ready, "serving": ready },
        }]);
        let slice = json!({ "addressType": "IPv4", "endpoints": endpoints });
        apply(index, Kind::EndpointSlice, "web", slice);
    }

    fn index() -> Index {
        let mut index = Index::default();
        let peer = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1" });
        let address = json!([{ "type": "InternalIP", "address": "10.0.0.11" }]);
        let node = json!({ "status": { "addresses": address } });
        apply(&mut index, Kind::Node, "node-a", node);
        let pool = json!({ "spec": { "addresses": ["192.0.2.0/24"] } });
        apply(&mut index, Kind::IpAddressPool, "pool", pool);
        apply(&mut index, Kind::BgpPeer, "tor", json!({ "spec": peer }));
        apply(
            &mut index,
            Kind::BgpAdvertisement,
            "all",
            json!({ "spec": {} }),
        );
        let service = json!({
            "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
        });
        apply(&mut index, Kind::Service, "web", service);
        endpoint(&mut index, true);
        index
    }

    fn explain(index: &Index, is_announced: bool) -> Explanation {
        let routes = NodeRoutes::of(index, "node-a");
        let name = ObjectName::new("shop", "web");
        let service = index.service(&name).expect("the service");
        let announced = if is_announced {
            service.addresses()
        } else {
            &[]
        };
        let on_node = OnNode {
            index,
            node: "node-a",
            service,
            bgp: routes.decisions().get(&name),
            announced,
            layer2: None,
            delayed: None,
        };
        on_node.explain()
    }

    fn session(established: bool) -> OwnSession {
        OwnSession {
            peer: "tor".to_owned(),
            established,
            text: "a state".to_owned(),
        }
    }

    #[test]
    fn an_own_decision_is_explained_with_the_session_that_its_routes_need() {
        let mut explanation = explain(&index(), true);
        assert!(explanation.announced);
        assert_eq!(explanation.peers(), BTreeSet::from(["tor".to_owned()]));
        explanation.add_sessions("node-a", &[session(true)]);
        assert_eq!(
            explanation.summary,
            "1 address announced by BGP from this node"
        );
        let stages: Vec<Stage> = explanation.steps.iter().map(|step| step.stage).collect();
        assert_eq!(
            stages,
            [Stage::Service, Stage::Address, Stage::Bgp, Stage::Session]
        );
        let mut explanation = explain(&index(), true);
        explanation.add_sessions("node-a", &[session(false)]);
        assert_eq!(
            (explanation.announced, &*explanation.summary),
            (false, "not announced: SessionDown")
        );
    }

    #[test]
    fn what_is_withheld_and_what_a_drain_withdrew_says_so() {
        let mut index = index();
        let drained = explain(&index, false);
        assert_eq!(
            (drained.announced, &*drained.summary),
            (false, "not announced: see bgp")
        );
        assert!(drained.steps[2].text.contains("drains"), "{drained:?}");
        endpoint(&mut index, false);
        let withheld = explain(&index, false);
        assert_eq!(withheld.summary, "not announced: NoEndpoints");
        let command = withheld.steps[2].command.as_deref().unwrap_or_default();
        assert!(
            command.contains("kubectl get endpointslices"),
            "{withheld:?}"
        );
    }

    #[test]
    fn an_explanation_survives_the_control_socket() {
        let explanation = explain(&index(), true);
        let text = serde_json::to_string(&explanation).expect("JSON");
        let read: Explanation = serde_json::from_str(&text).expect("an explanation");
        assert_eq!(read, explanation);
    }
}
