//! ferrolb's BGPSession (`ferrolb.io/v1alpha1`): the state of a node's session with a router.
//! ferrolb writes these objects, users only read them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The statuses of all BGPSessions, by the name of the object.
pub(crate) type AllSessions = BTreeMap<String, BgpSessionStatus>;

/// The value of `kind:`.
pub(crate) const KIND: &str = "BGPSession";
/// The plural name in URLs and RBAC rules.
pub(crate) const PLURAL: &str = "bgpsessions";

/// The state of a session, as the node saw it when it last wrote the object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BgpSessionStatus {
    /// The node.
    pub node: String,
    /// The BGPPeer. All routers in the network of one with peerNetwork have its name.
    pub peer: String,
    /// The router's address.
    pub address: String,
    /// The VRF that the session is in. If absent, the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub vrf: Option<String>,
    /// The state of BGP (RFC 4271), or Unknown: the node is not Ready, or its announcer has ended.
    /// Established, and the end of it, is written at once, a change between the other states within
    /// a minute and a half.
    pub bgp: BgpState,
    /// Why the state is Unknown. Absent in the other states.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UnknownReason")]
    pub unknown_reason: Option<UnknownReason>,
    /// The state of BFD: AdminDown, Down, Init, Up, or Unknown. Absent without BFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub bfd: Option<String>,
    /// When the session was established, was lost, or became Unknown.
    pub since: String,
    /// What both ends agreed on. Absent without a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Negotiated")]
    pub negotiated: Option<Negotiated>,
    /// The number of prefixes that the router has from the node. Written within a minute and a
    /// half.
    pub prefixes_sent: i64,
    /// A digest of these prefixes and their attributes, for `ferrolb routes`. Absent while it is
    /// not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub digest: Option<String>,
    /// Why the last session, or the last attempt at one, ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SessionError")]
    pub last_error: Option<SessionError>,
    /// The last NOTIFICATION that ended a session or an attempt. Later attempts may have failed
    /// without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SessionNotification")]
    pub last_notification: Option<SessionNotification>,
}

/// The statuses of BGPSessions, and the names of those that can't be read: another version of
/// ferrolb has written them.
pub(crate) fn statuses(objects: &[Value]) -> (Vec<BgpSessionStatus>, Vec<String>) {
    let (mut statuses, mut invalid) = (Vec::new(), Vec::new());
    for object in objects {
        match BgpSessionStatus::deserialize(&object["status"]) {
            Ok(status) => statuses.push(status),
            Err(_) => {
                let name = object["metadata"]["name"].as_str();
                invalid.push(name.unwrap_or_default().to_owned());
            }
        }
    }
    (statuses, invalid)
}

/// The states of BGP, and Unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(crate) enum BgpState {
    Idle,
    Active,
    Connect,
    OpenSent,
    OpenConfirm,
    Established,
    #[default]
    Unknown,
}

/// Why the state of a session is Unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(crate) enum UnknownReason {
    /// The announcer has ended, and said so. Most likely it starts again.
    AnnouncerEnded,
    /// The Node is not Ready. The announcer may be dead.
    NodeNotReady,
}

/// What both ends of a session agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Negotiated {
    /// The router's AS number.
    #[serde(rename = "peerASN")]
    pub peer_asn: u32,
    /// The router's BGP identifier.
    #[serde(rename = "peerRouterID")]
    pub peer_router_id: String,
    /// The address families, such as ipv4-unicast.
    pub families: Vec<String>,
    /// The hold time. 0s: there is none.
    pub hold_time: String,
    /// How long the router keeps the routes while ferrolb restarts (RFC 4724). Absent: it does not
    /// keep them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub restart_time: Option<String>,
}

/// Why a session, or an attempt at one, ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SessionError {
    /// When it last happened. Repetitions are written within a minute and a half.
    pub time: String,
    /// A code for programs, such as hold-timer-expired.
    pub reason: String,
    /// The reason in words, with what to do where that is known.
    pub message: String,
}

/// A NOTIFICATION (RFC 4271 §6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SessionNotification {
    /// When it was sent or received.
    pub time: String,
    /// Whether ferrolb sent it. Otherwise the router did.
    pub sent: bool,
    /// The error code.
    pub code: u8,
    /// The error subcode.
    pub subcode: u8,
    /// Both as a name, such as Cease/Administrative Shutdown (6/2).
    pub name: String,
    /// The message of its sender's operator (RFC 9003).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub text: Option<String>,
}

impl BgpSessionStatus {
    /// Marks the state as unknown: no process observes it any more. Returns whether that, or its
    /// reason, is new.
    pub(crate) fn become_unknown(&mut self, reason: UnknownReason, now: &str) -> bool {
        let reason_is_new = self.unknown_reason.replace(reason) != Some(reason);
        if self.bgp == BgpState::Unknown {
            return reason_is_new;
        }
        self.bgp = BgpState::Unknown;
        now.clone_into(&mut self.since);
        self.negotiated = None;
        self.prefixes_sent = 0;
        self.digest = None;
        if let Some(bfd) = &mut self.bfd {
            "Unknown".clone_into(bfd);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_keeps_the_last_error_and_becomes_unknown_once() {
        let mut status = BgpSessionStatus {
            bgp: BgpState::Established,
            bfd: Some("Up".to_owned()),
            since: "2026-01-01T00:00:00Z".to_owned(),
            negotiated: Some(Negotiated::default()),
            prefixes_sent: 7,
            digest: Some("00000000000000aa".to_owned()),
            last_error: Some(SessionError::default()),
            ..BgpSessionStatus::default()
        };
        let ended = UnknownReason::AnnouncerEnded;
        assert!(status.become_unknown(ended, "2026-01-02T00:00:00Z"));
        assert_eq!(status.bgp, BgpState::Unknown);
        assert_eq!(status.unknown_reason, Some(ended));
        assert_eq!(status.bfd.as_deref(), Some("Unknown"));
        assert_eq!(status.since, "2026-01-02T00:00:00Z");
        assert!(status.negotiated.is_none() && status.prefixes_sent == 0);
        assert_eq!(status.digest, None);
        assert!(status.last_error.is_some());
        assert!(!status.become_unknown(ended, "2026-01-03T00:00:00Z"));
        let not_ready = UnknownReason::NodeNotReady;
        assert!(status.become_unknown(not_ready, "2026-01-04T00:00:00Z"));
        assert_eq!(status.unknown_reason, Some(not_ready));
        assert_eq!(status.since, "2026-01-02T00:00:00Z");
    }
}
