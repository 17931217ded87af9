//! The states of a peer, with their transitions.

use std::fmt;

/// The states of RFC 4271 §8.2.2, ordered from the first to the last.
///
/// # Transitions
///
/// The events of RFC 4271 §8.1 that cause them are in parentheses. A peer with two connections is
/// in the state of the more advanced one.
///
/// | from | to | when |
/// |---|---|---|
/// | Idle | Connect | the peer is configured (1, 3), or its wait is over (13) |
/// | Idle | Active | the same for a passive peer (4, 5, 13) |
/// | Connect | OpenSent | the attempt succeeded (16): sends OPEN |
/// | Connect | Active | the attempt failed (18) or timed out (9) |
/// | Active | Connect | the wait is over (9) |
/// | Active, Connect | OpenSent | a connection was accepted (17): sends OPEN |
/// | OpenSent | OpenConfirm | received an acceptable OPEN (19): sends KEEPALIVE |
/// | OpenConfirm | Established | received KEEPALIVE (26) |
/// | OpenSent, OpenConfirm | Idle | the hold timer expired (10) |
/// | Established | Active | the hold timer expired (10), or the send hold timer (RFC 9687) (29) |
/// | Established | OpenConfirm | a new connection replaces the session (RFC 4724 §4.2) |
/// | OpenSent and later | Active | received Cease (25), closed (18), or reconfigured |
/// | OpenSent and later | Idle | received another NOTIFICATION (24, 25) |
/// | OpenSent and later | Idle | malformed (21, 22, 28) or unexpected message |
/// | OpenSent and later | Idle | prefix limit exceeded, BFD down |
/// | any | Idle | shutdown, removed, or the configuration cannot be applied (2, 8) |
///
/// In BFD strict mode the KEEPALIVE of OpenConfirm is sent once BFD is up.
///
/// Two rules differ from RFC 4271. Idle refuses connections of the peer, so it is entered only
/// after an error that is likely to repeat; after all others the peer waits in Active. And a failed
/// attempt to connect leads to Active with the ConnectRetryTimer, not to Idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// Waiting after an error, or disabled. Connections of the peer are refused.
    #[default]
    Idle,
    /// Waiting for the next attempt to connect, or for the peer to connect.
    Active,
    /// Connecting.
    Connect,
    /// Waiting for the peer's OPEN.
    OpenSent,
    /// Both OPENs are received and acceptable; waiting for the first KEEPALIVE.
    OpenConfirm,
    /// The session is established.
    Established,
}

impl State {
    /// Its name in RFC 4271.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Active => "Active",
            Self::Connect => "Connect",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
