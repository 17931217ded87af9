//! Dialling: when a peer connects, waits to connect, or refuses connections (RFC 4271 §8.2.2,
//! states Idle, Connect and Active).

use std::time::{Duration, Instant};

use crate::config::PeerConfig;
use crate::fsm::history::cause::Cause;
use crate::fsm::peer::retry::{Backoff, refuses_inbound};
use crate::fsm::shared::Shared;
use crate::fsm::state::State;
use crate::fsm::tcp::{ConnectionId, Md5Drops};
use crate::fsm::timers::Timer;
use crate::rib::PeerIndex;

/// How long an attempt to connect may take.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(20);

/// What the peer does to get a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Dial {
    /// Nothing: there is a connection.
    Connected,
    /// Waits after an error, and refuses the peer's own connections.
    Idle { until: Instant },
    /// Waits for the peer to connect, and with `until` also for its own next attempt.
    Active { until: Option<Instant> },
    /// An attempt is in progress.
    Connect {
        connection: ConnectionId,
        deadline: Instant,
    },
    /// Nothing, until the configuration changes.
    #[default]
    Disabled,
}

/// What an expired dial timer requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// Start again.
    Start,
    /// This attempt took too long.
    TimedOut(ConnectionId),
}

/// The attempts of one peer to get a connection.
#[derive(Debug, Default)]
pub(super) struct Dialer {
    dial: Dial,
    backoff: Backoff,
    /// Segments that the kernel dropped since the latest attempt began.
    md5_drops: Md5Drops,
}

impl Dialer {
    /// Dials. A passive peer waits for the other end to connect.
    pub(super) fn start(
        &mut self,
        now: Instant,
        index: PeerIndex,
        config: &PeerConfig,
        shared: &mut Shared,
    ) {
        self.md5_drops = Md5Drops::default();
        self.dial = match config.dials() {
            None => Dial::Active { until: None },
            Some(remote) => Dial::Connect {
                connection: shared.dial(index, config, remote),
                deadline: now + CONNECT_TIME,
            },
        };
    }

    /// Waits for the peer to connect, without attempts of its own.
    pub(super) fn wait_for_peer(&mut self) {
        self.dial = Dial::Active { until: None };
    }

    /// Closes the attempt in progress. Returns whether there was one.
    pub(super) fn cancel(&mut self, shared: &mut Shared) -> bool {
        let attempt = self.attempt();
        if let Some(connection) = attempt {
            shared.close(connection);
            self.dial = Dial::Connected;
        }
        attempt.is_some()
    }

    /// Closes the attempt in progress and makes no other.
    pub(super) fn disable(&mut self, shared: &mut Shared) {
        self.cancel(shared);
        self.dial = Dial::Disabled;
    }

    /// Closes the attempt in progress and forgets past failures, for a new configuration.
    pub(super) fn reset(&mut self, shared: &mut Shared) {
        self.cancel(shared);
        self.dial = Dial::Connected;
        self.backoff.reset();
    }

    /// The attempt with this number is over. Returns `false` if it is not the present one.
    pub(super) fn finish(&mut self, id: ConnectionId) -> bool {
        let present = self.attempt() == Some(id);
        if present {
            self.dial = Dial::Connected;
        }
        present
    }

    /// A connection of the peer was accepted: there is nothing to wait for. An attempt goes on.
    pub(super) fn accepted(&mut self) {
        if let Dial::Active { .. } = self.dial {
            self.dial = Dial::Connected;
        }
    }

    /// The last connection ended with `cause`: waits for `min` at least. Returns the time until the
    /// next attempt; `None` if none follows.
    pub(super) fn retry(
        &mut self,
        now: Instant,
        cause: &Cause,
        was_established: bool,
        min: Duration,
        config: &PeerConfig,
        rng: &mut fastrand::Rng,
    ) -> Option<Duration> {
        let max = config.timers.connect_retry;
        let backoff = &mut self.backoff;
        let wait = backoff.after(now, cause, was_established, max, rng);
        let wait = wait.max(min);
        let next = config.dials().map(|_| wait);
        self.dial = if refuses_inbound(cause, was_established) {
            Dial::Idle { until: now + wait }
        } else {
            Dial::Active {
                until: next.map(|wait| now + wait),
            }
        };
        next
    }

    /// A stable session ended: the next waits are short.
    pub(super) fn stable_session_ended(&mut self, now: Instant) {
        self.backoff.stable_session_ended(now);
    }

    /// Accepts the peer's connections during the wait. Returns `false` if there is no wait in which
    /// they are refused.
    pub(super) fn accept_while_waiting(&mut self) -> bool {
        let Dial::Idle { until } = self.dial else {
            return false;
        };
        self.dial = Dial::Active { until: Some(until) };
        true
    }

    /// The path works again, and the router knows us as a neighbor: past failures don't count, and
    /// the next attempt comes sooner. A wait after a protocol error stays.
    pub(super) fn path_restored(
        &mut self,
        now: Instant,
        config: &PeerConfig,
        rng: &mut fastrand::Rng,
    ) {
        if self.refuses_inbound() {
            return;
        }
        self.backoff.reset();
        if let Dial::Active { until: Some(until) } = self.dial {
            // Not at once: FRR refuses a neighbor for some time after it was configured.
            let wait = self.backoff.next(config.timers.connect_retry, rng);
            let until = Some(until.min(now + wait));
            self.dial = Dial::Active { until };
        }
    }

    pub(super) fn md5_dropped(&mut self, id: ConnectionId, drops: Md5Drops) {
        if self.attempt() == Some(id) {
            self.md5_drops = drops;
        }
    }

    pub(super) fn md5_drops(&self) -> Md5Drops {
        self.md5_drops
    }

    /// The attempt in progress.
    pub(super) fn attempt(&self) -> Option<ConnectionId> {
        match self.dial {
            Dial::Connect { connection, .. } => Some(connection),
            _ => None,
        }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.dial != Dial::Disabled
    }

    /// Whether the peer waits for the other end to connect.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.dial, Dial::Active { .. })
    }

    /// Whether connections of the peer are refused.
    pub(super) fn refuses_inbound(&self) -> bool {
        matches!(self.dial, Dial::Idle { .. } | Dial::Disabled)
    }

    /// The state of a peer without a connection.
    pub(super) fn state(&self) -> State {
        match self.dial {
            Dial::Connect { .. } => State::Connect,
            Dial::Active { .. } => State::Active,
            Dial::Connected | Dial::Idle { .. } | Dial::Disabled => State::Idle,
        }
    }

    /// When the present wait ends.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.dial {
            Dial::Idle { until } => Some(until),
            Dial::Active { until } => until,
            _ => None,
        }
    }

    /// The running timer.
    pub(super) fn timer(&self) -> Option<(Timer, Instant)> {
        match self.dial {
            Dial::Idle { until } => Some((Timer::IdleHold, until)),
            Dial::Active { until } => Some((Timer::ConnectRetry, until?)),
            Dial::Connect { deadline, .. } => Some((Timer::ConnectRetry, deadline)),
            Dial::Connected | Dial::Disabled => None,
        }
    }

    pub(super) fn expired(&self, now: Instant) -> Option<Expiry> {
        self.timer().filter(|(_, at)| *at <= now)?;
        Some(self.attempt().map_or(Expiry::Start, Expiry::TimedOut))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::fsm::SpeakerConfig;
    use crate::wire::{Asn, Notification, subcode};

    struct Bench {
        now: Instant,
        dialer: Dialer,
        config: PeerConfig,
        shared: Shared,
    }

    impl Bench {
        fn new() -> Self {
            let remote = "10.0.0.2:179".parse().unwrap();
            Self {
                now: Instant::now(),
                dialer: Dialer::default(),
                config: PeerConfig::new("tor", remote, Asn(65001), Asn(65002)),
                shared: Shared::new(SpeakerConfig {
                    router_id_fallback: Ipv4Addr::new(10, 0, 0, 1),
                    seed: 1,
                    host_uptime: None,
                }),
            }
        }

        fn start(&mut self) {
            let (now, config) = (self.now, &self.config);
            self.dialer
                .start(now, PeerIndex(0), config, &mut self.shared);
        }

        fn retry(&mut self, cause: &Cause) -> Option<Duration> {
            let (now, config, rng) = (self.now, &self.config, &mut self.shared.rng);
            self.dialer
                .retry(now, cause, false, Duration::ZERO, config, rng)
        }
    }

    #[test]
    fn an_attempt_times_out_after_twenty_seconds() {
        let mut bench = Bench::new();
        bench.start();
        assert_eq!(bench.dialer.state(), State::Connect);
        let attempt = bench.dialer.attempt().unwrap();
        let deadline = bench.now + CONNECT_TIME;
        assert_eq!(bench.dialer.timer(), Some((Timer::ConnectRetry, deadline)));
        assert_eq!(bench.dialer.expired(bench.now), None);
        let expired = bench.dialer.expired(deadline);
        assert_eq!(expired, Some(Expiry::TimedOut(attempt)));
        assert!(bench.dialer.finish(attempt));
        assert!(!bench.dialer.finish(attempt));
    }

    #[test]
    fn a_passive_peer_waits_without_a_timer() {
        let mut bench = Bench::new();
        bench.config.transport.passive = true;
        bench.start();
        assert_eq!(bench.dialer.state(), State::Active);
        assert_eq!(bench.dialer.timer(), None);
        assert_eq!(bench.retry(&Cause::Replaced), None);
        assert_eq!(bench.dialer.state(), State::Active);
    }

    #[test]
    fn connections_are_refused_only_after_a_protocol_error() {
        let mut bench = Bench::new();
        let wait = bench.retry(&Cause::Replaced).unwrap();
        assert!(!bench.dialer.refuses_inbound());
        assert_eq!(bench.dialer.expired(bench.now + wait), Some(Expiry::Start));
        let unacceptable = subcode::open::UNACCEPTABLE_HOLD_TIME;
        let error = Notification::new(crate::wire::ErrorCode::OPEN, unacceptable);
        let wait = bench.retry(&Cause::Sent(error)).unwrap();
        assert!(bench.dialer.refuses_inbound());
        let until = bench.now + wait;
        assert_eq!(bench.dialer.timer(), Some((Timer::IdleHold, until)));
        // A working path does not shorten this wait.
        let (now, config, rng) = (bench.now, &bench.config, &mut bench.shared.rng);
        bench.dialer.path_restored(now, config, rng);
        assert_eq!(bench.dialer.retry_at(), Some(until));
        assert!(bench.dialer.accept_while_waiting());
        assert!(!bench.dialer.refuses_inbound());
        assert_eq!(bench.dialer.retry_at(), Some(until));
    }
}
