//! Bidirectional Forwarding Detection without I/O (RFC 5880, 5881, 5883): detects a failed path
//! within milliseconds.
//!
//! [`Bfd`] contains all BFD sessions. It is a state machine next to [`fsm::Speaker`](crate::fsm)
//! with the same poll contract: [`handle`](Bfd::handle) one input, drain
//! [`poll_output`](Bfd::poll_output) and [`poll_transmit`](Bfd::poll_transmit), and call again at
//! [`poll_timeout`](Bfd::poll_timeout). The driver must feed all readable datagrams before a
//! timeout, so that its own delay is not mistaken for a failed path. The speaker runs this machine
//! on a separate thread, for peers with [`PeerConfig::bfd`](crate::config::PeerConfig::bfd).
//!
//! The socket parameters are constants: [`Hops::port`], [`SOURCE_PORTS`], [`TRANSMIT_TTL`]. The
//! machine checks the TTL of received packets. A driver must not filter received packets by source
//! port: BIRD sends from ports below the range of RFC 5881.
//!
//! # State machine
//!
//! RFC 5880 §6.2. `rx S` is a received packet with state S, `timer` an [`Input::Timeout`] after the
//! detection time has expired.
//!
//! ```text
//!                               +------+
//!              rx Down          |      |          rx Init
//!         +---------------------| Down |---------------------+
//!         |                     |      |                     |
//!         |  +----------------->+------+<-----------------+  |
//!         |  |  rx AdminDown,              rx AdminDown,  |  |
//!         |  |  timer                      rx Down, timer |  |
//!         v  |                                            |  v
//!        +------+                                        +------+
//!        |      |            rx Init, rx Up              |      |
//!        | Init |--------------------------------------->|  Up  |
//!        |      |                                        |      |
//!        +------+                                        +------+
//!
//!      any state  -- Input::AdminDown -->  AdminDown  -- Input::AdminUp -->  Down
//! ```
//!
//! Every other packet leaves the state as it is. In AdminDown, a packet never changes the state and
//! a poll gets no answer (RFC 5880 §6.8.6).
//!
//! # Scope
//!
//! * Asynchronous mode without the Echo function. If the peer uses Demand mode, we stop periodic
//!   packets while both ends are up and only send polls. We never request Demand mode.
//! * Authenticated packets are discarded: [`Discard::Authenticated`].
//! * A session that went down comes up again as soon as both ends receive packets. Flap damping is
//!   the client's task; [`SessionStatus`] counts the flaps.

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
    AuthenticationType, Diagnostic, Interval, PACKET_LENGTH, Packet, PacketError, State,
};
pub use self::timers::{INTERVAL_MAX, INTERVAL_MIN, Timers, TimersError};

use self::session::BfdSession;

/// Range of the source port (RFC 5881 §4). A session uses one port for its whole lifetime.
pub const SOURCE_PORTS: RangeInclusive<u16> = 49152..=65535;
/// TTL or hop limit of every sent packet (RFC 5881 §5).
pub const TRANSMIT_TTL: u8 = 255;

/// All BFD sessions of a speaker.
#[derive(Debug)]
pub struct Bfd {
    sessions: BTreeMap<Path, BfdSession>,
    /// Sessions by local discriminator.
    discriminators: BTreeMap<u32, Path>,
    outputs: VecDeque<Change>,
    without_session: Discarded,
    rng: fastrand::Rng,
}

impl Bfd {
    /// Creates a machine without sessions. Jitter and discriminators are derived from the seed: the
    /// same seed and inputs produce the same outputs. The seed must be unpredictable off the path.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            discriminators: BTreeMap::new(),
            outputs: VecDeque::new(),
            without_session: Discarded::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Processes one input. Drain [`poll_output`](Self::poll_output) and
    /// [`poll_transmit`](Self::poll_transmit) before the next input. `now` never decreases.
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

    /// Returns the next state change.
    pub fn poll_output(&mut self) -> Option<Change> {
        self.outputs.pop_front()
    }

    /// Returns the next packet that is due. The driver drops a packet that it cannot send.
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
        let sessions = self.sessions.values();
        sessions.filter_map(BfdSession::deadline).min()
    }

    /// Returns a snapshot of every session.
    pub fn status(&self) -> impl Iterator<Item = SessionStatus> + '_ {
        self.sessions.values().map(BfdSession::status)
    }

    /// Discarded packets that matched no session.
    #[must_use]
    pub fn without_session(&self) -> Discarded {
        self.without_session
    }

    fn set(&mut self, now: Instant, path: Path, config: SessionConfig) {
        if let Some(session) = self.sessions.get_mut(&path) {
            return session.configure(config);
        }
        let discriminator = self.free_discriminator();
        self.discriminators.insert(discriminator, path);
        let session = BfdSession::new(now, path, config, discriminator);
        self.sessions.insert(path, session);
    }

    /// Picks an unused nonzero discriminator (RFC 5880 §6.8.1), random so that an off-path attacker
    /// cannot guess it.
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
        // A malformed packet counts for the session with its address: the counter then shows the
        // operator why that session is not up.
        let path = match your {
            0 => self.by_address(arrival),
            _ => self.by_discriminator(your, arrival.hops),
        };
        let Some(session) = path.and_then(|path| self.sessions.get_mut(&path)) else {
            let reason = match decoded {
                Err(error) => error.into(),
                Ok(_) if your == 0 => Discard::UnknownAddress,
                Ok(_) => Discard::UnknownDiscriminator(your),
            };
            return self.without_session.count(reason);
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

    /// The session with this local discriminator, if it uses the port of `hops`.
    fn by_discriminator(&self, discriminator: u32, hops: Hops) -> Option<Path> {
        let path = self.discriminators.get(&discriminator).copied();
        path.filter(|path| path.hops == hops)
    }

    /// The session between these addresses (RFC 5881 §3, RFC 5883 §4.1). A session bound to a local
    /// address or an interface takes precedence over one that accepts any.
    fn by_address(&self, arrival: &Arrival<'_>) -> Option<Path> {
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

/// Compares addresses; a dual-stack socket reports IPv4 addresses as IPv4-mapped IPv6.
fn same(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical()
}

#[cfg(test)]
mod tests;
