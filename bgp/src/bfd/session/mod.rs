//! One session: the state machine, and when it sends what (RFC 5880 §6.2, §6.8).

use std::time::{Duration, Instant};

use super::events::{
    Cause, Change, Discard, Discarded, Hops, Path, Role, SessionConfig, SessionStatus,
};
use super::packet::{Diagnostic, Interval, PACKET_LENGTH, Packet, State};
use super::timers::{Intervals, Pair, SLOW, detection_time, jitter};

/// What every packet of a directly connected peer has (RFC 5881 §5).
const TTL_SINGLE: u8 = 255;

/// What the peer said last.
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
    /// Before the first packet, and after silence (RFC 5880 §6.8.1).
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

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    path: Path,
    config: SessionConfig,
    discriminator: u32,
    state: State,
    since: Instant,
    diagnostic: Diagnostic,
    remote: Remote,
    intervals: Intervals,
    /// Where the detection time begins; none once it is over.
    last_received: Option<Instant>,
    last_sent: Instant,
    /// Which part of the interval passes before the next packet.
    jitter: f64,
    /// Send before the interval is over, since the state changed (RFC 5880 §6.8.7).
    early: Option<Instant>,
    /// Until then AdminDown is told at the rate of before, so that one lost packet is no alarm: the
    /// peer still counts on that rate.
    parting: Option<(Instant, Duration)>,
    /// A poll is to be answered.
    final_due: Option<Instant>,
    flaps: u64,
    last_flap: Option<Instant>,
    received: u64,
    sent: u64,
    discarded: Discarded,
}

impl Session {
    pub(super) fn new(now: Instant, path: Path, config: SessionConfig, discriminator: u32) -> Self {
        Self {
            path,
            config,
            discriminator,
            state: State::Down,
            since: now,
            diagnostic: Diagnostic::NONE,
            remote: Remote::unknown(),
            intervals: Intervals::new(wished(&config, State::Down)),
            last_received: None,
            last_sent: now,
            jitter: 1.0,
            early: Some(now),
            parting: None,
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

    /// New timers, or another role. While the session is up, new intervals are polled for; before,
    /// every packet carries them and none is relied on.
    pub(super) fn configure(&mut self, config: SessionConfig) {
        self.config = config;
        let pair = wished(&config, self.state);
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
            self.parting = Some((until, self.transmit_interval()));
        }
        self.go(now, State::AdminDown, Cause::Administrative)
    }

    /// RFC 5880 §6.8.16.
    pub(super) fn admin_up(&mut self, now: Instant) -> Option<Change> {
        if self.state != State::AdminDown {
            return None;
        }
        self.parting = None;
        self.go(now, State::Down, Cause::Administrative)
    }

    /// What of RFC 5880 §6.8.6 needs the session, before its state is touched.
    pub(super) fn check(&self, packet: &Packet, ttl: u8) -> Result<(), Discard> {
        if let Some(authentication) = packet.authentication {
            return Err(Discard::Authenticated(authentication.kind));
        }
        let least = match self.path.hops {
            Hops::Single => TTL_SINGLE,
            Hops::Multi => self.config.min_ttl,
        };
        if ttl < least {
            return Err(Discard::Ttl { ttl, least });
        }
        Ok(())
    }

    pub(super) fn discard(&mut self, reason: Discard) {
        self.discarded.count(reason);
    }

    /// A packet that passed all checks (RFC 5880 §6.8.6).
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
        self.go(now, to, cause)
    }

    /// Looks at the clock. A packet that is due is asked for by [`transmit`](Self::transmit).
    pub(super) fn timeout(&mut self, now: Instant) -> Option<Change> {
        self.silent_at().filter(|at| *at <= now)?;
        self.last_received = None;
        self.remote = Remote::unknown();
        match self.state {
            State::Init | State::Up => self.go(now, State::Down, Cause::DetectionTimeExpired),
            State::Down | State::AdminDown => None,
        }
    }

    /// When to come back.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.silent_at(), self.periodic_at(), self.final_due];
        deadlines.into_iter().flatten().min()
    }

    /// A packet, if one is due.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<[u8; PACKET_LENGTH]> {
        let answers = self.final_due.take().is_some();
        if !answers {
            self.periodic_at().filter(|at| *at <= now)?;
            self.last_sent = now;
            self.jitter = jitter(self.config.timers.detect_mult, rng);
        }
        // The answer to a poll tells a new state as well as any other packet.
        self.early = None;
        self.sent += 1;
        let poll = self.intervals.polling() && !answers;
        if poll {
            self.intervals.poll_sent();
        }
        let announced = self.intervals.announced();
        let packet = Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll,
            is_final: answers,
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
            transmit_interval: self.sends().then(|| self.transmit_interval()),
            detection_time: self.last_received.map(|_| self.detection_time()),
            remote_detection_time: self.remote_detection_time(),
            flaps: self.flaps,
            last_flap: self.last_flap,
            received: self.received,
            sent: self.sent,
            discarded: self.discarded,
        }
    }

    fn go(&mut self, now: Instant, to: State, cause: Cause) -> Option<Change> {
        let from = std::mem::replace(&mut self.state, to);
        if from == to {
            return None;
        }
        self.since = now;
        self.early = Some(now);
        self.diagnostic = match (to, cause) {
            // Until the session is up again the peer may read why it went down.
            (State::Init, _) => self.diagnostic,
            (State::AdminDown, _) => Diagnostic::ADMINISTRATIVELY_DOWN,
            (_, Cause::DetectionTimeExpired) => Diagnostic::DETECTION_TIME_EXPIRED,
            (_, Cause::PeerDown(_) | Cause::PeerAdminDown) => Diagnostic::NEIGHBOR_SIGNALED_DOWN,
            (_, Cause::Handshake | Cause::Administrative) => Diagnostic::NONE,
        };
        let pair = wished(&self.config, to);
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

    /// Whether packets are to be sent periodically (RFC 5880 §6.8.7).
    fn sends(&self) -> bool {
        let passive = self.config.role == Role::Passive && self.remote.discriminator == 0;
        let both_up = self.state == State::Up && self.remote.state == State::Up;
        let demanded = self.remote.demand && both_up && !self.intervals.polling();
        !passive && !demanded && self.remote.required_min_rx != Interval(0)
    }

    fn transmit_interval(&self) -> Duration {
        if let Some((until, interval)) = self.parting
            && self.last_sent < until
        {
            return interval;
        }
        let interval = self.intervals.in_force().tx;
        interval.max(self.remote.required_min_rx).duration()
    }

    fn periodic_at(&self) -> Option<Instant> {
        let regular = || self.last_sent + self.transmit_interval().mul_f64(self.jitter);
        self.sends().then(|| self.early.unwrap_or_else(regular))
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

    fn silent_at(&self) -> Option<Instant> {
        Some(self.last_received? + self.detection_time())
    }
}

/// What is to be announced in a state: no haste before the session is up (RFC 5880 §6.8.3).
fn wished(config: &SessionConfig, state: State) -> Pair {
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
