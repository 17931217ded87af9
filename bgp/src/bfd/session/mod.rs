//! State and transmission of one BFD session (RFC 5880 §6.2, §6.8).

use std::time::{Duration, Instant};

use super::events::{
    Cause, Change, Discard, Discarded, Hops, Path, Role, SessionConfig, SessionStatus,
};
use super::packet::{Diagnostic, Interval, PACKET_LENGTH, Packet, State};
use super::timers::{Intervals, Pair, SLOW, detection_time, jitter};

/// TTL of every valid packet on a single hop (RFC 5881 §5).
const TTL_SINGLE: u8 = 255;

/// Contents of the last packet of the peer.
#[derive(Debug)]
struct Remote {
    discriminator: u32,
    state: State,
    diagnostic: Diagnostic,
    detect_mult: u8,
    desired_min_tx: Interval,
    required_min_rx: Interval,
    demand: bool,
}

impl Remote {
    /// Initial values, also after the detection time expired (RFC 5880 §6.8.1).
    fn unknown() -> Self {
        Self {
            discriminator: 0,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            detect_mult: 0,
            desired_min_tx: Interval(0),
            required_min_rx: Interval(1),
            demand: false,
        }
    }

    fn of(packet: &Packet) -> Self {
        Self {
            discriminator: packet.my_discriminator,
            state: packet.state,
            diagnostic: packet.diagnostic,
            detect_mult: packet.detect_mult,
            desired_min_tx: packet.desired_min_tx,
            required_min_rx: packet.required_min_rx,
            demand: packet.demand,
        }
    }
}

/// One BFD session.
#[derive(Debug)]
pub(super) struct BfdSession {
    path: Path,
    config: SessionConfig,
    discriminator: u32,
    state: State,
    since: Instant,
    diagnostic: Diagnostic,
    remote: Remote,
    intervals: Intervals,
    /// Start of the detection time; `None` after it expired.
    last_received: Option<Instant>,
    last_sent: Instant,
    /// Fraction of the transmit interval before the next periodic packet.
    jitter: f64,
    /// A state change is sent at once, before the interval is over (RFC 5880 §6.8.7).
    early: Option<Instant>,
    /// Until this time AdminDown is sent at the interval used in Up. The peer still expects that
    /// rate, and at the slow rate one lost packet would expire its detection time.
    fast_admin_down: Option<(Instant, Duration)>,
    /// Since when a received poll waits for its answer.
    final_due: Option<Instant>,
    flaps: u64,
    last_flap: Option<Instant>,
    received: u64,
    sent: u64,
    discarded: Discarded,
}

impl BfdSession {
    pub(super) fn new(now: Instant, path: Path, config: SessionConfig, discriminator: u32) -> Self {
        Self {
            path,
            config,
            discriminator,
            state: State::Down,
            since: now,
            diagnostic: Diagnostic::NONE,
            remote: Remote::unknown(),
            intervals: Intervals::new(intervals_in(&config, State::Down)),
            last_received: None,
            last_sent: now,
            jitter: 1.0,
            early: Some(now),
            fast_admin_down: None,
            final_due: None,
            flaps: 0,
            last_flap: None,
            received: 0,
            sent: 0,
            discarded: Discarded::default(),
        }
    }

    pub(super) fn path(&self) -> Path {
        self.path
    }

    pub(super) fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// Changes the configuration. While the session is Up, new intervals need a Poll Sequence.
    /// Otherwise they apply at once.
    pub(super) fn configure(&mut self, config: SessionConfig) {
        self.config = config;
        let pair = intervals_in(&config, self.state);
        if self.state == State::Up {
            self.intervals.change(pair, config.timers.detect_mult);
        } else {
            self.intervals = Intervals::new(pair);
        }
    }

    /// RFC 5880 §6.8.16.
    pub(super) fn admin_down(&mut self, now: Instant) -> Option<Change> {
        if self.state == State::Up {
            let until = now + self.remote_detection_time();
            self.fast_admin_down = Some((until, self.transmit_interval()));
        }
        self.transition(now, State::AdminDown, Cause::Administrative)
    }

    /// RFC 5880 §6.8.16.
    pub(super) fn admin_up(&mut self, now: Instant) -> Option<Change> {
        if self.state != State::AdminDown {
            return None;
        }
        self.fast_admin_down = None;
        self.transition(now, State::Down, Cause::Administrative)
    }

    /// The checks of RFC 5880 §6.8.6 that depend on the session.
    pub(super) fn check(&self, packet: &Packet, ttl: u8) -> Result<(), Discard> {
        if let Some(authentication) = packet.authentication {
            return Err(Discard::Authenticated(authentication));
        }
        let min = match self.path.hops {
            Hops::Single => TTL_SINGLE,
            Hops::Multi => self.config.min_ttl,
        };
        if ttl < min {
            return Err(Discard::Ttl { ttl, min });
        }
        Ok(())
    }

    pub(super) fn discard(&mut self, reason: Discard) {
        self.discarded.count(reason);
    }

    /// Processes a packet that passed all checks (RFC 5880 §6.8.6).
    pub(super) fn received(&mut self, now: Instant, packet: &Packet) -> Option<Change> {
        self.received += 1;
        self.remote = Remote::of(packet);
        self.last_received = Some(now);
        if packet.is_final {
            self.intervals.final_received();
        }
        if self.state == State::AdminDown {
            return None;
        }
        if packet.poll {
            self.final_due = Some(now);
        }
        let (to, cause) = match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) => (State::Down, Cause::PeerAdminDown),
            (State::Down, State::Down) => (State::Init, Cause::Handshake),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                (State::Up, Cause::Handshake)
            }
            (State::Up, State::Down) => (State::Down, Cause::PeerDown(packet.diagnostic)),
            _ => return None,
        };
        self.transition(now, to, cause)
    }

    /// Takes the session down if the detection time has expired.
    pub(super) fn timeout(&mut self, now: Instant) -> Option<Change> {
        self.detection_expires_at().filter(|at| *at <= now)?;
        self.last_received = None;
        self.remote = Remote::unknown();
        match self.state {
            State::Init | State::Up => {
                self.transition(now, State::Down, Cause::DetectionTimeExpired)
            }
            State::Down | State::AdminDown => None,
        }
    }

    /// When [`timeout`](Self::timeout) or [`transmit`](Self::transmit) is due, if ever.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.detection_expires_at(),
            self.periodic_at(),
            self.final_due,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Encodes the next packet if one is due. The answer to a poll precedes the periodic packet and
    /// does not shift its schedule.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<[u8; PACKET_LENGTH]> {
        let is_final = self.final_due.take().is_some();
        if !is_final {
            self.periodic_at().filter(|at| *at <= now)?;
            self.last_sent = now;
            self.jitter = jitter(self.config.timers.detect_mult, rng);
        }
        // The answer to a poll carries a new state too.
        self.early = None;
        self.sent += 1;
        let poll = self.intervals.polling() && !is_final;
        if poll {
            self.intervals.poll_sent();
        }
        let announced = self.intervals.announced();
        let packet = Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll,
            is_final,
            control_plane_independent: false,
            demand: false,
            detect_mult: self.config.timers.detect_mult.get(),
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: announced.tx,
            required_min_rx: announced.rx,
            required_min_echo_rx: Interval(0),
            authentication: None,
        };
        Some(packet.encode())
    }

    pub(super) fn status(&self) -> SessionStatus {
        SessionStatus {
            path: self.path,
            state: self.state,
            since: self.since,
            diagnostic: self.diagnostic,
            discriminator: self.discriminator,
            remote_discriminator: self.remote.discriminator,
            remote_state: self.remote.state,
            remote_diagnostic: self.remote.diagnostic,
            transmit_interval: self.sends_periodically().then(|| self.transmit_interval()),
            detection_time: self.last_received.map(|_| self.detection_time()),
            remote_detection_time: self.remote_detection_time(),
            flaps: self.flaps,
            last_flap: self.last_flap,
            received: self.received,
            sent: self.sent,
            discarded: self.discarded,
        }
    }

    fn transition(&mut self, now: Instant, to: State, cause: Cause) -> Option<Change> {
        let from = std::mem::replace(&mut self.state, to);
        if from == to {
            return None;
        }
        self.since = now;
        self.early = Some(now);
        self.diagnostic = match (to, cause) {
            // The reason of the last failure stays readable until the session is Up again.
            (State::Init, _) => self.diagnostic,
            (State::AdminDown, _) => Diagnostic::ADMINISTRATIVELY_DOWN,
            (_, Cause::DetectionTimeExpired) => Diagnostic::DETECTION_TIME_EXPIRED,
            (_, Cause::PeerDown(_) | Cause::PeerAdminDown) => Diagnostic::NEIGHBOR_SIGNALED_DOWN,
            (_, Cause::Handshake | Cause::Administrative) => Diagnostic::NONE,
        };
        let pair = intervals_in(&self.config, to);
        if to == State::Up {
            self.intervals.change(pair, self.config.timers.detect_mult);
        } else {
            self.intervals = Intervals::new(pair);
        }
        let change = Change {
            path: self.path,
            from,
            to,
            cause,
        };
        if change.is_failure() {
            self.flaps += 1;
            self.last_flap = Some(now);
        }
        Some(change)
    }

    /// Whether periodic packets are sent (RFC 5880 §6.8.7).
    fn sends_periodically(&self) -> bool {
        let passive = self.config.role == Role::Passive && self.remote.discriminator == 0;
        let both_up = self.state == State::Up && self.remote.state == State::Up;
        let demanded = self.remote.demand && both_up && !self.intervals.polling();
        !passive && !demanded && self.remote.required_min_rx != Interval(0)
    }

    fn transmit_interval(&self) -> Duration {
        if let Some((until, interval)) = self.fast_admin_down
            && self.last_sent < until
        {
            return interval;
        }
        let interval = self.intervals.in_force().tx;
        interval.max(self.remote.required_min_rx).duration()
    }

    fn periodic_at(&self) -> Option<Instant> {
        let regular = || self.last_sent + self.transmit_interval().mul_f64(self.jitter);
        let at = || self.early.unwrap_or_else(regular);
        self.sends_periodically().then(at)
    }

    fn detection_time(&self) -> Duration {
        let rx = self.intervals.in_force().rx;
        detection_time(self.remote.detect_mult, rx, self.remote.desired_min_tx)
    }

    fn remote_detection_time(&self) -> Duration {
        let detect_mult = self.config.timers.detect_mult.get();
        let announced = self.intervals.announced().tx;
        detection_time(detect_mult, self.remote.required_min_rx, announced)
    }

    fn detection_expires_at(&self) -> Option<Instant> {
        Some(self.last_received? + self.detection_time())
    }
}

/// The intervals to send in `state`: slow transmission until the session is Up (RFC 5880 §6.8.3).
fn intervals_in(config: &SessionConfig, state: State) -> Pair {
    let timers = &config.timers;
    let tx = match state {
        State::Up => timers.desired_min_tx,
        State::AdminDown | State::Down | State::Init => timers.desired_min_tx.max(SLOW),
    };
    Pair {
        tx,
        rx: timers.required_min_rx,
    }
}

#[cfg(test)]
mod tests;
