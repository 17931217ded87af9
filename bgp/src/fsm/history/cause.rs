//! Why sessions end, in words that say what to do, and in codes for machines.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::config::RemoteAsn;
use crate::fsm::events::{IoFailure, Md5Drops, State};
use crate::wire::{Asn, ErrorCode, Notification, subcode};

/// Why a session, or an attempt at one, ended. Its `Display` says what to do where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Dialling failed.
    ConnectFailed {
        /// The kernel's answer.
        error: IoFailure,
        /// Whether TCP MD5 is on: then silence may mean a wrong password.
        md5: bool,
        /// Segments that the kernel dropped for their signature meanwhile.
        drops: Md5Drops,
    },
    /// We ended it, with this NOTIFICATION.
    Sent(Notification),
    /// The peer ended it, with this NOTIFICATION.
    Received(Notification),
    /// One end is not of the AS that the other expects: OPEN Message Error/Bad Peer AS.
    AsnMismatch {
        /// What was said.
        notification: Notification,
        /// We said it; otherwise the peer did.
        sent: bool,
        /// Our AS number towards the peer.
        ours: Asn,
        /// The AS number in the peer's OPEN, if we saw that.
        theirs: Option<Asn>,
        /// What is configured for the peer.
        expected: RemoteAsn,
    },
    /// The hold timer expired, and it was us who stood still: the process was stopped, the machine
    /// suspended, or there was no CPU left for us.
    LocalStall {
        /// What was said.
        notification: Notification,
        /// We said it; otherwise the peer did.
        sent: bool,
        /// How long, at least.
        late: Duration,
    },
    /// The connection ended without a NOTIFICATION.
    Closed {
        /// The state it was in.
        state: State,
        /// What broke it; `None`: the peer closed it in order.
        error: Option<IoFailure>,
    },
    /// We left without a NOTIFICATION, so that the peer keeps our routes (RFC 4724).
    GracefulRestart,
    /// We dialled, and it was ourselves who answered: the peer's address is our own.
    OwnAddress,
    /// The peer opened a new connection, which replaces the session (RFC 4724 §4.2).
    Replaced,
    /// The peer didn't read for too long (RFC 9687).
    SendHoldTimerExpired,
    /// The configuration can't be put into effect.
    Unusable {
        /// Why.
        reason: String,
    },
}

impl Cause {
    /// What kind of cause it is, in a word that stays the same from release to release.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::ConnectFailed { error, md5, drops } => match error.kind {
                io::ErrorKind::TimedOut if md5_advice(*md5, *drops).is_some() => "md5-mismatch",
                io::ErrorKind::ConnectionRefused => "connection-refused",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no-route",
                io::ErrorKind::AddrNotAvailable => "source-address-missing",
                io::ErrorKind::TimedOut => "connect-timeout",
                _ => "connect-failed",
            },
            Self::LocalStall { .. } => "stood-still",
            Self::AsnMismatch { sent: true, .. } => "wrong-asn",
            Self::AsnMismatch { sent: false, .. } => "wrong-asn-at-peer",
            Self::Sent(notification) => match meaning(notification) {
                (ErrorCode::OPEN, 3) => "bad-router-id",
                (ErrorCode::OPEN, 7) => "no-common-family",
                (ErrorCode::HOLD_TIMER_EXPIRED, _) => "hold-timer-expired",
                (ErrorCode::CEASE, 1) => "prefix-limit",
                (ErrorCode::CEASE, 10) => "bfd-down",
                _ => "notification-sent",
            },
            Self::Received(notification) => match meaning(notification) {
                (ErrorCode::OPEN, 3) => "bad-router-id-at-peer",
                (ErrorCode::OPEN, 4 | 7) => "capability-refused",
                (ErrorCode::HOLD_TIMER_EXPIRED, _) => "hold-timer-expired-at-peer",
                (ErrorCode::CEASE, 1) => "prefix-limit-at-peer",
                (ErrorCode::CEASE, 2) => "peer-shut-down",
                (ErrorCode::CEASE, 3 | 5) => "rejected-by-peer",
                (ErrorCode::CEASE, 10) => "bfd-down-at-peer",
                _ => "notification-received",
            },
            Self::Closed { error: None, .. } => "closed-without-notification",
            Self::Closed { error: Some(_), .. } => "connection-broken",
            Self::GracefulRestart => "preserved",
            Self::OwnAddress => "own-address",
            Self::Replaced => "replaced-by-peer",
            Self::SendHoldTimerExpired => "send-hold-timer-expired",
            Self::Unusable { .. } => "unusable",
        }
    }

    /// The NOTIFICATION that ended it, if one did, and whether we sent it.
    #[must_use]
    pub fn notification(&self) -> Option<(&Notification, bool)> {
        match self {
            Self::Sent(notification) => Some((notification, true)),
            Self::Received(notification) => Some((notification, false)),
            Self::AsnMismatch {
                notification, sent, ..
            }
            | Self::LocalStall {
                notification, sent, ..
            } => Some((notification, *sent)),
            _ => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed { error, md5, drops } => {
                let advice = md5_advice(*md5, *drops)
                    .filter(|_| error.kind == io::ErrorKind::TimedOut)
                    .unwrap_or_else(|| connect_advice(error.kind, *md5));
                write!(f, "can't connect: {}{advice}", error.text)
            }
            Self::Sent(notification) => {
                write!(f, "sent {notification}")?;
                if let Some(words) = notification.data_in_words() {
                    write!(f, " ({words})")?;
                }
                f.write_str(sent_advice(notification))
            }
            Self::Received(notification) => {
                write!(f, "received {notification}")?;
                if let Some(text) = notification.shutdown_text() {
                    write!(f, " \"{}\"", text.escape_debug())?;
                }
                if let Some(words) = notification.data_in_words() {
                    write!(f, " ({words})")?;
                }
                f.write_str(received_advice(notification))
            }
            Self::LocalStall {
                notification,
                sent,
                late,
            } => write!(
                f,
                "{} {notification}; this process or its host stood still for {:.1} s or longer: \
                 nothing was heard or said meanwhile. Look for a suspended machine, a stopped \
                 process or too little CPU, or take a longer hold time",
                if *sent { "sent" } else { "received" },
                late.as_secs_f64()
            ),
            Self::AsnMismatch {
                notification,
                sent,
                ours,
                theirs,
                expected,
            } => {
                let expected = Expected(*expected, *ours);
                match theirs {
                    Some(theirs) if *sent => write!(
                        f,
                        "sent {notification}; the peer's OPEN says AS {theirs}, but configured for it \
                         is {expected}"
                    ),
                    _ if *sent => write!(f, "sent {notification}; configured for it is {expected}"),
                    _ => write!(
                        f,
                        "received {notification}; the router expects another AS number from us than \
                         AS {ours}, which is configured here (and {expected} for the router)"
                    ),
                }
            }
            Self::Closed { state, error } => {
                match error {
                    None => f.write_str("the peer closed the connection without a NOTIFICATION")?,
                    Some(error) => write!(f, "the connection broke: {}", error.text)?,
                }
                write!(f, " (state {state})")?;
                if matches!(error, Some(error) if error.kind == io::ErrorKind::TimedOut) {
                    f.write_str(
                        "; the peer no longer confirms what we send: it or the path is dead, it has \
                         stopped reading, or a TCP MD5 password was changed on one side only",
                    )?;
                }
                if *state == State::OpenSent {
                    f.write_str(
                        "; before it said anything: either it doesn't know us as a neighbour (compare \
                         address, AS numbers and password on both sides), or it refuses us for a while \
                         after an earlier error, and its log tells which",
                    )?;
                }
                Ok(())
            }
            Self::GracefulRestart => f.write_str(
                "closed without a NOTIFICATION, so that the peer keeps our routes until we are back",
            ),
            Self::OwnAddress => f.write_str(
                "the peer's address is our own: we dialled ourselves; give the router's address",
            ),
            Self::Replaced => f.write_str(
                "the peer opened a new connection, which replaces this session: the router restarted, \
                 and the end of the old connection did not reach us",
            ),
            Self::SendHoldTimerExpired => f.write_str(
                "Send Hold Timer Expired: the peer stopped reading (RFC 9687); look at the router's \
                 load and at its BGP process",
            ),
            Self::Unusable { reason } => write!(f, "the peer can't run: {reason}"),
        }
    }
}

/// Code and subcode of what it is about: of what a Hard Reset encloses (RFC 8538 §3.1).
pub(in crate::fsm) fn meaning(notification: &Notification) -> (ErrorCode, u8) {
    let enclosed = notification.enclosed();
    let notification = enclosed.as_ref().unwrap_or(notification);
    (notification.code, notification.subcode)
}

/// An expectation of the configuration in words.
struct Expected(RemoteAsn, Asn);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(RemoteAsn::Number(asn), _) => write!(f, "AS {asn}"),
            Self(RemoteAsn::Internal, ours) => write!(f, "our own AS {ours}"),
            Self(RemoteAsn::External, ours) => write!(f, "any AS but our own {ours}"),
            Self(RemoteAsn::Auto, _) => f.write_str("any AS but 0"),
        }
    }
}

/// What dropped segments say about passwords. Without numbers: the same trouble has the same words.
fn md5_advice(md5: bool, drops: Md5Drops) -> Option<&'static str> {
    if md5 && drops.wrong > 0 {
        Some(
            "; meanwhile segments with a wrong TCP MD5 signature came in: the passwords on both \
             sides differ",
        )
    } else if md5 && drops.missing > 0 {
        Some(
            "; meanwhile segments without a TCP MD5 signature came in: the router has no password \
             for us",
        )
    } else if !md5 && drops.unexpected > 0 {
        Some(
            "; meanwhile segments with a TCP MD5 signature came in: the router has a password for \
             us, and none is configured here",
        )
    } else {
        None
    }
}

fn connect_advice(kind: io::ErrorKind, md5: bool) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => {
            "; nothing listens there, or the router doesn't know this address as a neighbour"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "; check the route to the peer and its address"
        }
        io::ErrorKind::AddrNotAvailable => "; the source address is not on this host",
        io::ErrorKind::TimedOut if md5 => {
            "; wrong or missing TCP MD5 password on one side, a firewall, or a wrong address"
        }
        io::ErrorKind::TimedOut => {
            "; a firewall, a wrong address, or the router demands a TCP MD5 password"
        }
        _ => "",
    }
}

fn sent_advice(notification: &Notification) -> &'static str {
    match meaning(notification) {
        (ErrorCode::OPEN, 3) => "; the peer's router ID is 0.0.0.0, or the same as ours",
        (ErrorCode::OPEN, 7) => "; no address family is enabled on both sides",
        (ErrorCode::HOLD_TIMER_EXPIRED, _) => {
            "; nothing was heard from the peer for the hold time: it or the path is dead, or a TCP MD5 \
             password was changed on one side only"
        }
        (ErrorCode::CEASE, 1) => {
            "; the peer announces more prefixes than it is allowed here: mend that, or raise the limit"
        }
        (ErrorCode::CEASE, subcode::cease::BFD_DOWN) => {
            "; BFD lost the path to the peer, or in strict mode did not find it within the hold time"
        }
        _ => "",
    }
}

fn received_advice(notification: &Notification) -> &'static str {
    match meaning(notification) {
        (ErrorCode::OPEN, 3) => "; two routers have the same router ID",
        (ErrorCode::OPEN, 4) => "; the router doesn't take optional parameters in an OPEN",
        (ErrorCode::OPEN, 7) => {
            "; the router and we can't agree on a capability: often no address family is enabled \
             on both sides"
        }
        (ErrorCode::HOLD_TIMER_EXPIRED, _) => {
            "; the router heard nothing from us for the hold time: packets get lost on the way to it, \
             or a TCP MD5 password was changed on one side only"
        }
        (ErrorCode::CEASE, 1) => {
            "; we announce more prefixes than the router allows: raise its limit, or announce less"
        }
        (ErrorCode::CEASE, 2) => "; the neighbour is shut down on the router: enable it there",
        (ErrorCode::CEASE, subcode::cease::BFD_DOWN) => {
            "; BFD at the router lost the path to us: check the path, and whether BFD is on at both ends"
        }
        (ErrorCode::CEASE, 3 | 5) => "; the router isn't configured to talk to us",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hard_reset_encloses_is_what_it_is_about() {
        for inner in [1, 2, 10].map(Notification::cease) {
            let outer = Notification::hard_reset(&inner);
            for cause in [Cause::Sent, Cause::Received] {
                let (inner, outer) = (cause(inner.clone()), cause(outer.clone()));
                assert_eq!(inner.code(), outer.code());
                let advice = |cause: Cause| cause.to_string().split("; ").nth(1).map(str::to_owned);
                assert_eq!(advice(inner), advice(outer));
            }
        }
    }

    #[test]
    fn what_an_operator_can_mend_comes_with_a_remedy() {
        let cease = Notification::cease;
        let causes = [
            Cause::Sent(Notification::hold_timer_expired()),
            Cause::Received(Notification::hold_timer_expired()),
            Cause::Received(cease(subcode::cease::ADMINISTRATIVE_SHUTDOWN)),
            Cause::Received(cease(subcode::cease::BFD_DOWN)),
            Cause::SendHoldTimerExpired,
        ];
        for cause in causes {
            let text = cause.to_string();
            assert!(text.contains("; "), "{text}");
        }
    }
}
