//! The sessions over which routes go to BGPPeers, as the BGPSessions of a cluster show them.

use std::collections::{BTreeMap, BTreeSet};

use super::observed::Session;
use super::{Explainer, Stage, Step, Verdict};
use crate::core::api::bgp_session::{BgpSessionStatus, BgpState};
use crate::core::config::CONFIG_NAMESPACE;

/// The code of a session that is not Established.
pub(super) const SESSION_DOWN: &str = "SessionDown";
/// The code of a session that no process observes.
const SESSION_UNKNOWN: &str = "SessionUnknown";
/// The code of a session without a BGPSession.
const SESSION_MISSING: &str = "SessionMissing";

/// Errors that a change of the BGPPeer or of the router's configuration mends.
const OF_CONFIGURATION: [&str; 5] = [
    "wrong-asn",
    "wrong-asn-at-peer",
    "no-common-family",
    "md5-mismatch",
    "prefix-limit",
];

/// The sessions of several nodes with one BGPPeer that have the same state.
struct Group<'a> {
    nodes: BTreeSet<String>,
    sessions: Vec<&'a BgpSessionStatus>,
}

impl Explainer {
    /// Whether a router has the routes of a node to a BGPPeer. Without a cluster, the session
    /// counts as established.
    pub(super) fn reaches(&self, node: &str, peer: &str) -> bool {
        let session = self.observed.session(node, peer);
        session.is_none_or(|session| matches!(session, Session::Established(_)))
    }

    /// The steps about the sessions of nodes with BGPPeers: nodes with the same state share a step.
    /// Empty if the state of sessions is not known.
    pub(super) fn session_steps<'a>(
        &self,
        sessions: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Vec<Step> {
        let sessions: BTreeSet<(&str, &str)> = sessions.into_iter().collect();
        let mut groups: BTreeMap<(Code, &str, String), Group<'_>> = BTreeMap::new();
        for (node, peer) in sessions {
            let Some(session) = self.observed.session(node, peer) else {
                continue;
            };
            let (code, status) = match session {
                Session::Established(status) => (Code::Established, Some(status)),
                Session::Down(status) => (Code::Down, Some(status)),
                Session::Unknown(status) => (Code::Unknown, Some(status)),
                Session::Missing => (Code::Missing, None),
            };
            let error = status.and_then(|status| status.last_error.as_ref());
            let error = error.filter(|_| code == Code::Down);
            let cause = error.map_or_else(String::new, |error| error.reason.clone());
            let group = groups.entry((code, peer, cause)).or_insert(Group {
                nodes: BTreeSet::new(),
                sessions: Vec::new(),
            });
            group.nodes.insert(node.to_owned());
            group.sessions.extend(status);
        }
        let steps = groups.into_iter();
        steps
            .map(|((code, peer, cause), group)| self.session_step(code, peer, &cause, group))
            .collect()
    }

    fn session_step(&self, code: Code, peer: &str, cause: &str, group: Group<'_>) -> Step {
        let Group { nodes, sessions } = group;
        let first = nodes.first().cloned().unwrap_or_default();
        let step = match code {
            Code::Established => Step::ok(Stage::Session, established(&sessions)),
            Code::Down => {
                let edited = OF_CONFIGURATION.contains(&cause);
                let config = self.index.config();
                let object = config.peers.get(peer).filter(|_| edited);
                let command = match object {
                    Some(peer) => self.edit(&peer.object),
                    None => in_announcer(&first, &format!("peer {peer}")),
                };
                Step::withheld(Stage::Session, down(&sessions))
                    .because(SESSION_DOWN)
                    .with_command(command)
            }
            Code::Unknown => Step::withheld(Stage::Session, unknown(&sessions))
                .because(SESSION_UNKNOWN)
                .with_command(pods_of(&first)),
            Code::Missing => Step::withheld(
                Stage::Session,
                "there is no BGPSession of the node and the BGPPeer: no announcer of ferrolb runs \
                 there, or it can't write the object",
            )
            .because(SESSION_MISSING)
            .with_command(pods_of(&first)),
        };
        Step {
            nodes,
            peers: BTreeSet::from([peer.to_owned()]),
            ..step
        }
    }
}

/// In the order of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Code {
    Established,
    Down,
    Unknown,
    Missing,
}

/// The state of sessions that the daemons themselves report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnSession {
    /// The BGPPeer.
    pub peer: String,
    /// Whether it is established.
    pub established: bool,
    /// Its state, since when, and the last error, in words.
    pub text: String,
}

impl OwnSession {
    /// The step about the session of this node.
    pub(super) fn step(&self, node: &str) -> Step {
        let verdict = if self.established {
            Verdict::Ok
        } else {
            Verdict::Withheld
        };
        let mut step = Step::new(Stage::Session, verdict, self.text.clone());
        if !self.established {
            step = step
                .because(SESSION_DOWN)
                .with_command(format!("ferrolb peer {}", self.peer));
        }
        Step {
            nodes: BTreeSet::from([node.to_owned()]),
            peers: BTreeSet::from([self.peer.clone()]),
            ..step
        }
    }
}

fn established(sessions: &[&BgpSessionStatus]) -> String {
    let counts = || sessions.iter().map(|status| status.prefixes_sent);
    let (least, most) = (counts().min(), counts().max());
    let sent = match (least.unwrap_or_default(), most.unwrap_or_default()) {
        (1, 1) => "1 prefix".to_owned(),
        (least, most) if least == most => format!("{least} prefixes"),
        (least, most) => format!("{least} to {most} prefixes"),
    };
    format!("Established {}; {sent} sent", since(sessions))
}

fn down(sessions: &[&BgpSessionStatus]) -> String {
    let states = sessions.iter().map(|status| state(status.bgp));
    let states: BTreeSet<&str> = states.collect();
    let states: Vec<&str> = states.into_iter().collect();
    let mut text = format!("{} {}", states.join(", "), since(sessions));
    let errors = sessions
        .iter()
        .filter_map(|status| status.last_error.as_ref());
    match errors.max_by(|one, other| one.time.cmp(&other.time)) {
        Some(error) => {
            text += &format!("; {} at {}: {}", error.reason, error.time, error.message);
        }
        None => text += "; no attempt has failed yet",
    }
    text
}

fn unknown(sessions: &[&BgpSessionStatus]) -> String {
    format!(
        "Unknown {}: the node is not Ready, or its announcer has ended. The router may keep the \
         routes for a while",
        since(sessions)
    )
}

/// The moments are those at which nodes wrote: for several the last one.
fn since(sessions: &[&BgpSessionStatus]) -> String {
    let last = sessions.iter().map(|status| status.since.as_str()).max();
    let last = last.unwrap_or_default();
    match sessions.len() {
        0 | 1 => format!("since {last}"),
        _ => format!("(the last one since {last})"),
    }
}

const fn state(state: BgpState) -> &'static str {
    match state {
        BgpState::Idle => "Idle",
        BgpState::Active => "Active",
        BgpState::Connect => "Connect",
        BgpState::OpenSent => "OpenSent",
        BgpState::OpenConfirm => "OpenConfirm",
        BgpState::Established => "Established",
        BgpState::Unknown => "Unknown",
    }
}

/// A command of ferrolb in the announcer's Pod on a node.
fn in_announcer(node: &str, command: &str) -> String {
    format!(
        "kubectl exec -n {CONFIG_NAMESPACE} $(kubectl get pods -n {CONFIG_NAMESPACE} -o name \
         -l app.kubernetes.io/component=announcer --field-selector spec.nodeName={node}) -- \
         /ferrolb {command}"
    )
}

fn pods_of(node: &str) -> String {
    format!(
        "kubectl get pods -A -o wide -l app.kubernetes.io/name=ferrolb --field-selector \
         spec.nodeName={node}"
    )
}
