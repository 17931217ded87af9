//! Causes: why a session or an attempt ended, as text with a remedy and as a code for programs.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::config::RemoteAsn;
use crate::fsm::state::State;
use crate::fsm::tcp::{IoFailure, Md5Drops};
use crate::wire::subcode::{cease, open};
use crate::wire::{Asn, ErrorCode, Notification};

/// Why a session, or an attempt at one, ended. Its `Display` adds what to do where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The attempt to connect failed.
    ConnectFailed {
        /// The kernel's answer.
        error: IoFailure,
        /// Whether TCP MD5 is configured: then no answer may mean a wrong password.
        md5: bool,
        /// Segments that the kernel dropped for their signature during the attempt.
        drops: Md5Drops,
    },
    /// We sent this NOTIFICATION.
    Sent(Notification),
    /// The peer sent this NOTIFICATION.
    Received(Notification),
    /// One end is not in the AS that the other expects: OPEN Message Error/Bad Peer AS.
    AsnMismatch {
        /// The NOTIFICATION.
        notification: Notification,
        /// Whether we sent it; otherwise the peer did.
        sent: bool,
        /// Our AS number towards the peer.
        ours: Asn,
        /// The AS number in the peer's OPEN, if we received that.
        theirs: Option<Asn>,
        /// The AS number configured for the peer.
        expected: RemoteAsn,
    },
    /// A hold timer expired because we were stalled: the process was stopped, the machine
    /// suspended, or we got no CPU time.
    LocalStall {
        /// The NOTIFICATION.
        notification: Notification,
        /// Whether we sent it; otherwise the peer did.
        sent: bool,
        /// The least length of the stall.
        late: Duration,
    },
    /// The connection ended without a NOTIFICATION.
    Closed {
        /// Its state.
        state: State,
        /// Why it broke; `None` if the peer closed it in order.
        error: Option<IoFailure>,
    },
    /// We shut down without a NOTIFICATION, so that the peer keeps our routes (RFC 4724).
    GracefulRestart,
    /// The peer's address is our own: we connected to ourselves.
    OwnAddress,
    /// The peer opened a new connection, which replaces the session (RFC 4724 §4.2).
    Replaced,
    /// The peer did not read for the send hold time (RFC 9687).
    SendHoldTimerExpired,
    /// The configuration cannot be applied.
    Unusable {
        /// Why.
        reason: String,
    },
}

impl Cause {
    /// The kind of cause, in a word that does not change from release to release.
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
                (ErrorCode::OPEN, open::BAD_BGP_IDENTIFIER) => "bad-router-id",
                (ErrorCode::OPEN, open::UNSUPPORTED_CAPABILITY) => "no-common-family",
                (ErrorCode::HOLD_TIMER_EXPIRED, _) => "hold-timer-expired",
                (ErrorCode::CEASE, cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED) => "prefix-limit",
                (ErrorCode::CEASE, cease::BFD_DOWN) => "bfd-down",
                _ => "notification-sent",
            },
            Self::Received(notification) => received_code(notification),
            Self::Closed { error: None, .. } => "closed-without-notification",
            Self::Closed { error: Some(_), .. } => "connection-broken",
            Self::GracefulRestart => "preserved",
            Self::OwnAddress => "own-address",
            Self::Replaced => "replaced-by-peer",
            Self::SendHoldTimerExpired => "send-hold-timer-expired",
            Self::Unusable { .. } => "unusable",
        }
    }

    /// The NOTIFICATION that ended the session, and whether we sent it.
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

fn received_code(notification: &Notification) -> &'static str {
    match meaning(notification) {
        (ErrorCode::OPEN, open::BAD_BGP_IDENTIFIER) => "bad-router-id-at-peer",
        (ErrorCode::OPEN, open::UNSUPPORTED_OPTIONAL_PARAMETER | open::UNSUPPORTED_CAPABILITY) => {
            "capability-refused"
        }
        (ErrorCode::HOLD_TIMER_EXPIRED, _) => "hold-timer-expired-at-peer",
        (ErrorCode::CEASE, cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED) => "prefix-limit-at-peer",
        (ErrorCode::CEASE, cease::ADMINISTRATIVE_SHUTDOWN) => "peer-shut-down",
        (ErrorCode::CEASE, cease::PEER_DE_CONFIGURED | cease::CONNECTION_REJECTED) => {
            "rejected-by-peer"
        }
        (ErrorCode::CEASE, cease::BFD_DOWN) => "bfd-down-at-peer",
        _ => "notification-received",
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed { error, md5, drops } => {
                let advice = connect_advice(error.kind, *md5, *drops);
                write!(f, "can't connect: {}{advice}", error.text)
            }
            Self::Sent(notification) => {
                write!(f, "sent {notification}")?;
                write_data(f, notification)?;
                f.write_str(sent_advice(notification))
            }
            Self::Received(notification) => write_received(f, notification),
            Self::LocalStall {
                notification,
                sent,
                late,
            } => write!(
                f,
                "{} {notification}; ferrolb or its host was stalled for {:.1} s or longer, and \
                 neither sent nor received in that time: look for a suspended machine, a stopped \
                 process or a lack of CPU time, or configure a longer hold time",
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
                        "sent {notification}; the peer's OPEN has AS {theirs}, but {expected} is \
                         configured for it"
                    ),
                    _ if *sent => write!(f, "sent {notification}; {expected} is configured for it"),
                    _ => write!(
                        f,
                        "received {notification}; the router expects another AS number from us \
                         than AS {ours}, which is configured here (and {expected} for the router)"
                    ),
                }
            }
            Self::Closed { state, error } => write_closed(f, *state, error.as_ref()),
            Self::GracefulRestart => f.write_str(
                "closed without a NOTIFICATION, so that the peer keeps our routes while we restart",
            ),
            Self::OwnAddress => f.write_str(
                "the peer's address is our own: we connected to ourselves; configure the router's \
                 address",
            ),
            Self::Replaced => f.write_str(
                "the peer opened a new connection, which replaces this session: the router \
                 restarted, and the end of the old connection did not reach us",
            ),
            Self::SendHoldTimerExpired => f.write_str(
                "send hold timer expired: the peer stopped reading (RFC 9687); check the router's \
                 load and its BGP process",
            ),
            Self::Unusable { reason } => write!(f, "the peer can't run: {reason}"),
        }
    }
}

fn write_data(f: &mut fmt::Formatter<'_>, notification: &Notification) -> fmt::Result {
    match notification.data_in_words() {
        Some(words) => write!(f, " ({words})"),
        None => Ok(()),
    }
}

fn write_received(f: &mut fmt::Formatter<'_>, notification: &Notification) -> fmt::Result {
    write!(f, "received {notification}")?;
    if let Some(text) = notification.shutdown_text() {
        write!(f, " \"{}\"", text.escape_debug())?;
    }
    write_data(f, notification)?;
    f.write_str(received_advice(notification))
}

fn write_closed(
    f: &mut fmt::Formatter<'_>,
    state: State,
    error: Option<&IoFailure>,
) -> fmt::Result {
    match error {
        None => f.write_str("the peer closed the connection without a NOTIFICATION")?,
        Some(error) => write!(f, "the connection broke: {}", error.text)?,
    }
    write!(f, " (state {state})")?;
    if error.is_some_and(|error| error.kind == io::ErrorKind::TimedOut) {
        f.write_str(
            "; the peer no longer acknowledges what we send: it or the path is down, it stopped \
             reading, or a TCP MD5 password was changed on one side only",
        )?;
    }
    if state == State::OpenSent {
        f.write_str(
            "; it sent no OPEN: either we are not configured as its neighbor (compare address, AS \
             numbers and password on both sides), or it rejects us for some time after an earlier \
             error (check its log)",
        )?;
    }
    Ok(())
}

/// The code and subcode that say why: those of the NOTIFICATION that a Hard Reset encloses
/// (RFC 8538 §3.1).
pub(in crate::fsm) fn meaning(notification: &Notification) -> (ErrorCode, u8) {
    let enclosed = notification.enclosed();
    let notification = enclosed.as_ref().unwrap_or(notification);
    (notification.code, notification.subcode)
}

/// The configured AS number of a peer as text; the second field is our own.
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

/// What dropped segments show about passwords. Without numbers, so that the journal counts
/// repetitions.
fn md5_advice(md5: bool, drops: Md5Drops) -> Option<&'static str> {
    if md5 && drops.wrong > 0 {
        Some(
            "; segments with a wrong TCP MD5 signature arrived: the passwords on both sides differ",
        )
    } else if md5 && drops.missing > 0 {
        Some(
            "; segments without a TCP MD5 signature arrived: the router has no password configured \
             for us",
        )
    } else if !md5 && drops.unexpected > 0 {
        Some(
            "; segments with a TCP MD5 signature arrived: the router has a password configured for \
             us, and none is configured here",
        )
    } else {
        None
    }
}

fn connect_advice(kind: io::ErrorKind, md5: bool, drops: Md5Drops) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => {
            "; nothing listens there, or this address is not configured as a neighbor on the router"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "; check the route to the peer and its address"
        }
        io::ErrorKind::AddrNotAvailable => "; the source address is not on this host",
        io::ErrorKind::TimedOut => md5_advice(md5, drops).unwrap_or(if md5 {
            "; wrong or missing TCP MD5 password on one side, a firewall, or a wrong address"
        } else {
            "; a firewall, a wrong address, or the router requires a TCP MD5 password"
        }),
        _ => "",
    }
}

fn sent_advice(notification: &Notification) -> &'static str {
    match meaning(notification) {
        (ErrorCode::OPEN, open::BAD_BGP_IDENTIFIER) => {
            "; the peer's router ID is 0.0.0.0, or the same as ours"
        }
        (ErrorCode::OPEN, open::UNSUPPORTED_CAPABILITY) => {
            "; no address family is enabled on both sides"
        }
        (ErrorCode::HOLD_TIMER_EXPIRED, _) => {
            "; nothing was received from the peer for the hold time: it or the path is down, or a \
             TCP MD5 password was changed on one side only"
        }
        (ErrorCode::CEASE, cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED) => {
            "; the peer announces more prefixes than its limit here: let it announce fewer, or \
             raise the limit"
        }
        (ErrorCode::CEASE, cease::BFD_DOWN) => {
            "; BFD lost the path to the peer, or in strict mode was not up within the hold time"
        }
        _ => "",
    }
}

fn received_advice(notification: &Notification) -> &'static str {
    match meaning(notification) {
        (ErrorCode::OPEN, open::BAD_BGP_IDENTIFIER) => "; two routers have the same router ID",
        (ErrorCode::OPEN, open::UNSUPPORTED_OPTIONAL_PARAMETER) => {
            "; the router does not support optional parameters in an OPEN"
        }
        (ErrorCode::OPEN, open::UNSUPPORTED_CAPABILITY) => {
            "; the router rejects a capability, or requires one: often no address family is \
             enabled on both sides"
        }
        (ErrorCode::HOLD_TIMER_EXPIRED, _) => {
            "; the router received nothing from us for the hold time: packets to it are lost, or a \
             TCP MD5 password was changed on one side only"
        }
        (ErrorCode::CEASE, cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED) => {
            "; we announce more prefixes than the router allows: raise its limit, or announce fewer"
        }
        (ErrorCode::CEASE, cease::ADMINISTRATIVE_SHUTDOWN) => {
            "; the neighbor is shut down on the router: enable it there"
        }
        (ErrorCode::CEASE, cease::BFD_DOWN) => {
            "; BFD on the router lost the path to us: check the path, and whether BFD is enabled \
             on both sides"
        }
        (ErrorCode::CEASE, cease::PEER_DE_CONFIGURED | cease::CONNECTION_REJECTED) => {
            "; we are not configured as a neighbor on the router"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_reset_has_the_code_and_advice_of_the_enclosed_notification_rfc8538_3_1() {
        let subcodes = [
            cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED,
            cease::ADMINISTRATIVE_SHUTDOWN,
            cease::BFD_DOWN,
        ];
        for inner in subcodes.map(Notification::cease) {
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
    fn causes_that_an_operator_can_correct_have_a_remedy() {
        let causes = [
            Cause::Sent(Notification::hold_timer_expired()),
            Cause::Received(Notification::hold_timer_expired()),
            Cause::Received(Notification::cease(cease::ADMINISTRATIVE_SHUTDOWN)),
            Cause::Received(Notification::cease(cease::BFD_DOWN)),
            Cause::SendHoldTimerExpired,
        ];
        for cause in causes {
            let text = cause.to_string();
            assert!(text.contains("; "), "{text}");
        }
    }
}
