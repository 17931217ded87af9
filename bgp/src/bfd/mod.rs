//! Bidirectional Forwarding Detection, without I/O (RFC 5880, 5881, 5883): notices within
//! milliseconds that a path is dead.
//!
//! [`Bfd`] holds all sessions. It is a machine of its own beside [`fsm::Speaker`](crate::fsm), and
//! is driven in the same way, only that its packets are whole datagrams which need no connection:
//! [`handle`](Bfd::handle) one input, then drain [`poll_output`](Bfd::poll_output) and
//! [`poll_transmit`](Bfd::poll_transmit), then come back at [`poll_timeout`](Bfd::poll_timeout).
//! Datagrams that can be read are fed before a timeout is. The speaker drives it on a thread of its
//! own, for peers with [`PeerConfig::bfd`](crate::config::PeerConfig::bfd).
//!
//! What a driver needs to know of sockets is data: [`Hops::port`], [`SOURCE_PORTS`],
//! [`TRANSMIT_TTL`]. The TTL a packet came with is checked here. Packets received must not be
//! filtered by their source port: BIRD's is below the range.
//!
//! * Asynchronous mode; no echo. A peer in Demand mode gets what it asks for: silence while both
//!   ends are up, except for polls. We never ask for it.
//! * Authentication is recognised and refused: [`Discard::Authenticated`].
//! * A session that went down is back as soon as the peers hear each other. Damping it is for
//!   whoever listens: [`SessionStatus`] has the flaps.

mod events;
mod packet;
mod session;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Instant;

pub use self::events::{
    Arrival, Cause, Change, Discard, Discarded, Hops, Input, Path, Role, SessionConfig,
    SessionStatus, Transmit,
};
pub use self::packet::{
    Authentication, AuthenticationType, Diagnostic, Interval, PACKET_LENGTH, Packet, PacketError,
    State,
};
pub use self::timers::{INTERVAL_MAX, INTERVAL_MIN, Timers, TimersError};

use self::session::Session;

/// The ports to send from (RFC 5881 §4): one for each session, the same as long as it lives.
pub const SOURCE_PORTS: RangeInclusive<u16> = 49152..=65535;
/// TTL or hop limit of every packet sent (RFC 5881 §5).
pub const TRANSMIT_TTL: u8 = 255;

/// All sessions.
#[derive(Debug)]
pub struct Bfd {
    sessions: BTreeMap<Path, Session>,
    discriminators: BTreeMap<u32, Path>,
    outputs: VecDeque<Change>,
    strangers: Discarded,
    rng: fastrand::Rng,
}

impl Bfd {
    /// No sessions. Jitter and discriminators come from the seed: the same seed and inputs give
    /// the same outputs, so the seed should be one nobody can guess.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            discriminators: BTreeMap::new(),
            outputs: VecDeque::new(),
            strangers: Discarded::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes one thing that happened. Drain [`poll_output`](Self::poll_output) and
    /// [`poll_transmit`](Self::poll_transmit) before the next. `now` never goes back.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Set { path, config } => self.set(now, path, config),
            Input::Remove { path } => {
                if let Some(session) = self.sessions.remove(&path) {
                    self.discriminators.remove(&session.discriminator());
                }
            }
            Input::AdminDown { path } => {
                let session = self.sessions.get_mut(&path);
                self.outputs
                    .extend(session.and_then(|session| session.admin_down(now)));
            }
            Input::AdminUp { path } => {
                let session = self.sessions.get_mut(&path);
                self.outputs
                    .extend(session.and_then(|session| session.admin_up(now)));
            }
            Input::Received(arrival) => self.received(now, &arrival),
            Input::Timeout => {
                let sessions = self.sessions.values_mut();
                self.outputs
                    .extend(sessions.filter_map(|session| session.timeout(now)));
            }
        }
    }

    /// The next change of a session's state.
    pub fn poll_output(&mut self) -> Option<Change> {
        self.outputs.pop_front()
    }

    /// The next packet that is due. One that can't be sent is lost, as others are on the way.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let rng = &mut self.rng;
        self.sessions.values_mut().find_map(|session| {
            let octets = session.transmit(now, rng)?;
            let path = session.path();
            Some(Transmit { path, octets })
        })
    }

    /// When [`Input::Timeout`] is due, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sessions.values().filter_map(Session::deadline).min()
    }

    /// A snapshot of every session.
    pub fn status(&self) -> impl Iterator<Item = SessionStatus> + '_ {
        self.sessions.values().map(Session::status)
    }

    /// Packets that belong to no session.
    #[must_use]
    pub fn strangers(&self) -> Discarded {
        self.strangers
    }

    fn set(&mut self, now: Instant, path: Path, config: SessionConfig) {
        if let Some(session) = self.sessions.get_mut(&path) {
            return session.configure(config);
        }
        let discriminator = self.free_discriminator();
        self.discriminators.insert(discriminator, path);
        let session = Session::new(now, path, config, discriminator);
        self.sessions.insert(path, session);
    }

    /// Random, so that nobody off the path can guess it; not 0 (RFC 5880 §6.8.1).
    fn free_discriminator(&mut self) -> u32 {
        loop {
            let number = self.rng.u32(1..);
            if !self.discriminators.contains_key(&number) {
                return number;
            }
        }
    }

    fn received(&mut self, now: Instant, arrival: &Arrival<'_>) {
        let decoded = Packet::decode(arrival.octets);
        let your = decoded.map_or(0, |packet| packet.your_discriminator);
        // A bad packet is counted where the address says, for who looks why a session isn't up.
        let path = match your {
            0 => self.at_address(arrival),
            _ => self.named(your, arrival.hops),
        };
        let Some(session) = path.and_then(|path| self.sessions.get_mut(&path)) else {
            let reason = match decoded {
                Err(error) => error.into(),
                Ok(_) if your == 0 => Discard::UnknownAddress,
                Ok(_) => Discard::UnknownDiscriminator(your),
            };
            return self.strangers.count(reason);
        };
        let checked = decoded.map_err(Discard::from).and_then(|packet| {
            session.check(&packet, arrival.ttl)?;
            Ok(packet)
        });
        match checked {
            Ok(packet) => self.outputs.extend(session.received(now, &packet)),
            Err(reason) => session.discard(reason),
        }
    }

    /// The session with this number of ours, if packets for it come to this port.
    fn named(&self, discriminator: u32, hops: Hops) -> Option<Path> {
        let path = self.discriminators.get(&discriminator).copied();
        path.filter(|path| path.hops == hops)
    }

    /// The session between these addresses (RFC 5881 §3, RFC 5883 §4.1). One that names our
    /// address or the interface comes before one that takes any.
    fn at_address(&self, arrival: &Arrival<'_>) -> Option<Path> {
        let fits = |path: &&Path| {
            path.hops == arrival.hops
                && same(path.remote, arrival.remote)
                && path.local.is_none_or(|local| same(local, arrival.local))
                && path
                    .interface
                    .is_none_or(|interface| interface == arrival.interface)
        };
        let exactness = |path: &&Path| (path.local.is_some(), path.interface.is_some());
        self.sessions
            .keys()
            .filter(fits)
            .max_by_key(exactness)
            .copied()
    }
}

/// A socket for both families shows IPv4 addresses as IPv6 ones.
fn same(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical()
}

#[cfg(test)]
mod tests;
