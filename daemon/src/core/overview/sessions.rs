//! The sessions: those that the configuration requires on each node, with what the nodes have
//! published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_bgp::config::Remote;
use serde::Serialize;

use super::expected_routes::{OfNode, Routes};
use super::observed::{Observed, Sessions};
use super::{Code, Findings, View};
use crate::core::api::bgp_session::{BgpSessionStatus, BgpState};

/// A session of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionLine {
    /// The node.
    pub node: String,
    /// The BGPPeer.
    pub peer: String,
    /// The router's address.
    pub address: String,
    /// The VRF, if it isn't the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
    /// The state of BGP, Unknown, or Missing: the node has published none.
    pub state: String,
    /// The state of BFD, if it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bfd: Option<String>,
    /// When the session was established, was lost, or became Unknown (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The number of prefixes that the router has, as the node last published it.
    pub prefixes_sent: u64,
    /// The number of prefixes that it should have.
    pub prefixes_expected: u64,
    /// The digest of what the router has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The digest of what it should have.
    pub digest_expected: String,
    /// Why the session is not established, or why the last one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl SessionLine {
    /// Whether the session is established.
    pub(crate) fn is_established(&self) -> bool {
        self.state == "Established"
    }

    /// Whether the router has what it should have, as far as the node has published it. None
    /// without a session.
    pub(crate) fn has_expected_routes(&self) -> Option<bool> {
        self.is_established().then(|| match &self.digest {
            Some(digest) => *digest == self.digest_expected,
            None => self.prefixes_sent == self.prefixes_expected,
        })
    }
}

/// A node and a BGPPeer.
type Key = (String, Arc<str>);

/// The sessions that the configuration requires, and what was published.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    /// By node and BGPPeer: whether it has one router, so that there must be a session. A network
    /// may have any number.
    required: BTreeMap<Key, bool>,
    published: BTreeMap<Key, Vec<&'a BgpSessionStatus>>,
    /// By node.
    routes: BTreeMap<String, OfNode>,
    /// Whether the states of sessions are known.
    known: bool,
}

impl<'a> Expected<'a> {
    pub(super) fn of(view: &View<'a>) -> Self {
        let mut required = BTreeMap::new();
        for (name, node) in view.index.nodes() {
            for peer in view.index.peers_on(name, node) {
                let one_router = !matches!(peer.session.remote, Remote::Network(_));
                required.insert((name.clone(), peer.name.clone()), one_router);
            }
        }
        let sessions = view.observed.map(|observed| &observed.sessions);
        let mut published: BTreeMap<Key, Vec<&BgpSessionStatus>> = BTreeMap::new();
        if let Some(Sessions::Known(statuses)) = sessions {
            for status in statuses {
                let key: Key = (status.node.clone(), status.peer.as_str().into());
                // Those of Nodes and BGPPeers that are gone are about to be deleted.
                if required.contains_key(&key) {
                    published.entry(key).or_default().push(status);
                }
            }
        }
        Self {
            required,
            published,
            routes: BTreeMap::new(),
            known: matches!(sessions, Some(Sessions::Known(_))),
        }
    }

    /// Sets the routes of the nodes with these names.
    pub(super) fn set_routes(&mut self, names: &[String], routes: Vec<OfNode>) {
        self.routes = names.iter().cloned().zip(routes).collect();
    }

    /// The nodes that must have a session.
    pub(super) fn nodes(&self) -> BTreeSet<&str> {
        self.required
            .keys()
            .map(|(node, _)| node.as_str())
            .collect()
    }

    /// Whether a node has an established session with a router of a BGPPeer. True if that is not
    /// known.
    pub(super) fn is_established(&self, node: &str, peer: &Arc<str>) -> bool {
        let sessions = self.published.get(&(node.to_owned(), peer.clone()));
        let mut sessions = sessions.into_iter().flatten();
        !self.known || sessions.any(|status| status.bgp == BgpState::Established)
    }

    /// All sessions. What is wrong with them becomes findings.
    pub(super) fn lines(&self, view: &View<'_>, findings: &mut Findings) -> Vec<SessionLine> {
        if view.observed.is_some_and(Observed::lacks_sessions) && !self.required.is_empty() {
            let text = "install the CRDs: ferrolb crds | kubectl apply -f -";
            findings.add(Code::SessionsUnknown, "BGPSession", text, None);
        }
        let mut lines = Vec::new();
        for ((node, peer), one_router) in &self.required {
            let key = (node.clone(), peer.clone());
            let published = self.published.get(&key).into_iter().flatten();
            let before = lines.len();
            lines.extend(published.map(|status| self.line(&key, Some(*status))));
            if lines.len() == before && *one_router {
                let configured = view.index.config().peers.get(&**peer);
                let remote = configured.and_then(|peer| peer.session.remote.router());
                lines.push(SessionLine {
                    address: remote.map(|at| at.ip().to_string()).unwrap_or_default(),
                    ..self.line(&key, None)
                });
            }
        }
        if self.known {
            for line in &lines {
                add_findings(view, line, findings);
            }
        }
        lines
    }

    fn line(&self, key: &Key, status: Option<&BgpSessionStatus>) -> SessionLine {
        let negotiated = status.and_then(|status| status.negotiated.as_ref());
        let carries = |family: &str| {
            // Before that the configuration decides.
            negotiated.is_none_or(|agreed| agreed.families.iter().any(|name| name == family))
        };
        let of_node = self.routes.get(&key.0);
        let of_peer = of_node.and_then(|of_node| of_node.get(&key.1));
        let [ipv4, ipv6] = of_peer.copied().unwrap_or_default();
        let mut expected = Routes::default();
        for (routes, family) in [(ipv4, "ipv4-unicast"), (ipv6, "ipv6-unicast")] {
            if carries(family) {
                expected = expected.and(routes);
            }
        }
        let line = SessionLine {
            node: key.0.clone(),
            peer: key.1.to_string(),
            prefixes_expected: expected.count,
            digest_expected: expected.digest.to_string(),
            state: if self.known { "Missing" } else { "Unknown" }.to_owned(),
            ..SessionLine::default()
        };
        let Some(status) = status else {
            return line;
        };
        let error = status.last_error.as_ref();
        SessionLine {
            address: status.address.clone(),
            vrf: status.vrf.clone(),
            state: format!("{:?}", status.bgp),
            bfd: status.bfd.clone(),
            since: Some(status.since.clone()).filter(|since| !since.is_empty()),
            prefixes_sent: u64::try_from(status.prefixes_sent).unwrap_or_default(),
            digest: status.digest.clone(),
            error: error.map(|error| error.message.clone()),
            ..line
        }
    }
}

impl Observed {
    fn lacks_sessions(&self) -> bool {
        matches!(self.sessions, Sessions::NoKind)
    }
}

fn add_findings(view: &View<'_>, line: &SessionLine, findings: &mut Findings) {
    let object = format!("{} → {}", line.node, line.peer);
    let node = view.index.nodes().get(&line.node);
    if node.is_some_and(|node| !node.ready) {
        // Reported once for the node.
        return;
    }
    let command = || Some(format!("ferrolb explain peer {}", line.peer));
    match line.state.as_str() {
        "Established" => {
            if line.has_expected_routes() == Some(false) {
                let text = "a node publishes its routes within a minute and a half; if the \
                            difference stays, the node drains, has not seen a change, or its \
                            announcer waits: compare with its log";
                let routes = format!("kubectl ferrolb routes --peer {}", line.peer);
                findings.add(Code::RoutesDiffer, object, text, Some(routes));
            }
        }
        "Missing" => {
            let text = "the announcer on the node has published no session: it does not run, or \
                        its ClusterRole does not permit it to write BGPSessions";
            findings.add(Code::SessionMissing, object, text, command());
        }
        "Unknown" => {
            let text = "its announcer has ended, or the node was not Ready";
            findings.add(Code::SessionDown, object, text, command());
        }
        state => {
            let error = line.error.as_deref();
            let text = match error.filter(|error| !error.is_empty()) {
                Some(error) => error.to_owned(),
                None => format!("{state}: no attempt has succeeded or failed yet"),
            };
            findings.add(Code::SessionDown, object, text, command());
        }
    }
}
