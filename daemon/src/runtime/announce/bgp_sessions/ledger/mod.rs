//! Which states of sessions the BGPSession objects have, and when they get newer ones. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferrolb_bgp::config::Remote;
use ferrolb_bgp::fsm::{PeerStatus, State};
use jiff::Timestamp;

use super::status::{self, LastError, time, times_differ};
use crate::core::api::bgp_session::{BgpSessionStatus, BgpState, SessionNotification};

/// Minimum interval between two writes of one object. A session that is being opened is first
/// written after this time, so that its states on the way are not written.
const TRANSITION_GAP: Duration = Duration::from_millis(500);
/// Minimum interval before a write that only says that another attempt failed in another way.
const CAUSE_GAP: Duration = Duration::from_secs(5);
/// Interval of writes that only say that a counter changed.
const COUNTERS: Duration = Duration::from_mins(1);
/// Up to this much is added, so that not all nodes write at the same moment.
const COUNTERS_JITTER: Duration = Duration::from_secs(30);
/// The first counters after a transition are written after this time and up to twice of it: at the
/// start of a session the router doesn't have any prefixes yet.
const FIRST_COUNTERS: Duration = Duration::from_secs(3);

/// What the objects of this node have.
#[derive(Debug)]
pub(super) struct Ledger {
    node: String,
    random: fastrand::Rng,
    sessions: BTreeMap<String, Session>,
}

/// What [`Ledger::update`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Whether an object must be written or deleted.
    pub(super) changed: bool,
    /// When the next write is due, if nothing changes until then.
    pub(super) next: Option<Instant>,
}

#[derive(Debug)]
struct Session {
    seen: Instant,
    established: bool,
    established_count: u64,
    /// When it was established or lost.
    since: Timestamp,
    last_error: Option<LastError>,
    last_notification: Option<SessionNotification>,
    digest: Option<Digest>,
    written: Option<Written>,
}

/// A digest of the routes that the router had at some moment.
#[derive(Debug)]
struct Digest {
    moment: Moment,
    text: String,
}

/// The routes that a router has are the same as long as this is: the number of sessions, and of
/// UPDATEs.
type Moment = (u64, u64);

fn moment(peer: &PeerStatus) -> Moment {
    (peer.established_count, peer.sent.update)
}

#[derive(Debug)]
struct Written {
    status: BgpSessionStatus,
    at: Instant,
    counters_due: Instant,
}

/// What differs between two states of a session, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// BGP or BFD came up or went down.
    Transition,
    /// The last attempt failed in another way.
    Cause,
    /// Anything else.
    Counters,
}

impl Ledger {
    /// Nothing is written yet.
    pub(super) fn new(node: &str, seed: u64) -> Self {
        Self {
            node: node.to_owned(),
            random: fastrand::Rng::with_seed(seed),
            sessions: BTreeMap::new(),
        }
    }

    /// Takes the present state of all peers. `wall` is the time of `now` on the wall clock.
    pub(super) fn update(
        &mut self,
        now: Instant,
        wall: Timestamp,
        peers: &[PeerStatus],
    ) -> Outcome {
        // A network has no session of its own; the routers in it have.
        let peers = peers
            .iter()
            .filter(|peer| !matches!(peer.remote, Remote::Network(_)));
        let peers: BTreeMap<&str, &PeerStatus> =
            peers.map(|peer| (peer.name.as_str(), peer)).collect();
        let mut outcome = Outcome::default();
        self.sessions.retain(|name, session| {
            let stays = peers.contains_key(name.as_str());
            outcome.changed |= !stays && session.written.is_some();
            stays
        });
        for (name, peer) in peers {
            let session = self
                .sessions
                .entry(name.to_owned())
                .or_insert_with(|| Session::new(now, wall, peer));
            session.follow(wall, peer);
            let status = session.status(&self.node, peer);
            match session.due(&status) {
                Some(due) if due <= now => {
                    session.write(now, status, &mut self.random);
                    outcome.changed = true;
                }
                Some(due) => {
                    outcome.next = Some(outcome.next.map_or(due, |next| next.min(due)));
                }
                None => {}
            }
        }
        outcome
    }

    /// The sessions whose counters may be written now, and whose routes have changed since their
    /// last digest.
    pub(super) fn undigested<'a>(
        &self,
        now: Instant,
        peers: &'a [PeerStatus],
    ) -> Vec<&'a PeerStatus> {
        let needed = |peer: &&PeerStatus| {
            let session = self.sessions.get(&peer.name);
            session.is_some_and(|session| session.needs_digest(now, peer))
        };
        peers.iter().filter(needed).collect()
    }

    /// Sets the digest of the routes that the router has. The state of the peer is one from before
    /// they were read.
    pub(super) fn set_digest(&mut self, peer: &PeerStatus, digest: String) {
        if let Some(session) = self.sessions.get_mut(&peer.name) {
            session.digest = Some(Digest {
                moment: moment(peer),
                text: digest,
            });
        }
    }

    /// Whether every session was written once.
    pub(super) fn is_complete(&self) -> bool {
        let mut sessions = self.sessions.values();
        sessions.all(|session| session.written.is_some())
    }

    /// What the objects should say, by the name of the session.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (&str, &BgpSessionStatus)> {
        self.sessions.iter().filter_map(|(name, session)| {
            let written = session.written.as_ref()?;
            Some((name.as_str(), &written.status))
        })
    }
}

impl Session {
    fn new(now: Instant, wall: Timestamp, peer: &PeerStatus) -> Self {
        Self {
            seen: now,
            established: peer.state == State::Established,
            established_count: peer.established_count,
            since: time(wall, peer.since),
            last_error: None,
            last_notification: None,
            digest: None,
            written: None,
        }
    }

    /// Remembers what later states of the peer don't contain.
    fn follow(&mut self, wall: Timestamp, peer: &PeerStatus) {
        let established = peer.state == State::Established;
        let again = established && self.established_count != peer.established_count;
        if established != self.established || again {
            self.since = time(wall, peer.since);
        }
        self.established = established;
        self.established_count = peer.established_count;
        let Some(error) = &peer.last_error else {
            return;
        };
        let new = LastError::new(wall, error);
        // The same moment is computed with other fractions of a second each time.
        let known = self
            .last_error
            .as_ref()
            .is_some_and(|old| old.cause == new.cause && !times_differ(old.at, new.at));
        if !known {
            if let Some(notification) = new.notification() {
                self.last_notification = Some(notification);
            }
            self.last_error = Some(new);
        }
    }

    fn status(&self, node: &str, peer: &PeerStatus) -> BgpSessionStatus {
        BgpSessionStatus {
            node: node.to_owned(),
            since: self.since.to_string(),
            last_error: self.last_error.as_ref().map(LastError::shown),
            last_notification: self.last_notification.clone(),
            digest: self.digest_of(peer),
            ..status::of(peer)
        }
    }

    /// The digest of the routes that the router has now; none while it isn't known.
    fn digest_of(&self, peer: &PeerStatus) -> Option<String> {
        let digest = self.digest.as_ref();
        let current = digest.filter(|digest| digest.moment == moment(peer))?;
        (peer.state == State::Established).then(|| current.text.clone())
    }

    fn needs_digest(&self, now: Instant, peer: &PeerStatus) -> bool {
        let due = self.written.as_ref().is_some_and(|w| w.counters_due <= now);
        due && peer.state == State::Established && self.digest_of(peer).is_none()
    }

    /// When this state is to be written; none if it is written already.
    fn due(&self, status: &BgpSessionStatus) -> Option<Instant> {
        let Some(written) = &self.written else {
            return Some(match self.established {
                true => self.seen,
                false => self.seen + TRANSITION_GAP,
            });
        };
        Some(match Difference::between(&written.status, status)? {
            Difference::Transition => written.at + TRANSITION_GAP,
            Difference::Cause => written.at + CAUSE_GAP,
            Difference::Counters => written.counters_due,
        })
    }

    fn write(&mut self, now: Instant, status: BgpSessionStatus, random: &mut fastrand::Rng) {
        let before = self.written.take();
        let only_counters = before.as_ref().is_some_and(|written| {
            Difference::between(&written.status, &status) == Some(Difference::Counters)
        });
        let counters_due = match before {
            _ if only_counters => now + COUNTERS + COUNTERS_JITTER.mul_f64(random.f64()),
            // A session that comes and goes has its counters written no more often.
            Some(written) if written.counters_due > now => written.counters_due,
            _ => now + FIRST_COUNTERS + FIRST_COUNTERS.mul_f64(random.f64()),
        };
        self.written = Some(Written {
            status,
            at: now,
            counters_due,
        });
    }
}

impl Difference {
    fn between(old: &BgpSessionStatus, new: &BgpSessionStatus) -> Option<Self> {
        if old == new {
            return None;
        }
        let transition = |status: &BgpSessionStatus| {
            let established = status.bgp == BgpState::Established;
            let since = established.then(|| status.since.clone());
            let bfd = status.bfd.as_deref().map(|bfd| bfd == "Up");
            (established, since, bfd, status.address.clone())
        };
        let cause = |status: &BgpSessionStatus| {
            let error = status.last_error.clone();
            error.map(|error| (error.reason, error.message))
        };
        Some(if transition(old) != transition(new) {
            Self::Transition
        } else if cause(old) != cause(new) {
            Self::Cause
        } else {
            Self::Counters
        })
    }
}

#[cfg(test)]
mod tests;
