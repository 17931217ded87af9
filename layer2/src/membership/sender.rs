//! When this node sends its hellos.

use std::time::Duration;

use crate::config::Time;
use crate::limits::{HELLO_INTERVAL_PER_NODE, IDLE_HELLO_INTERVAL};

/// Changes within this time go in one hello.
const COALESCE: Duration = Duration::from_millis(10);

/// The schedule of the hellos of this node.
#[derive(Debug)]
pub(crate) struct Sender {
    next: Option<Time>,
    /// When the last one was sent, and the interval that it announced.
    last: Option<(Time, Duration)>,
    sequence: u64,
    random: fastrand::Rng,
}

impl Sender {
    /// Nothing is scheduled before [`Self::send_soon`].
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            next: None,
            last: None,
            sequence: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Something changed: the next hello is sent at once, but not sooner than 10 ms after the last.
    pub(crate) fn send_soon(&mut self, now: Time) {
        let earliest = self.last.map_or(now, |(last, _)| now.max(last + COALESCE));
        self.send_by(earliest);
    }

    /// The next hello is sent within `spread`, so that nodes which answer to the same event don't
    /// send at the same moment.
    pub(crate) fn send_within(&mut self, now: Time, spread: Duration) {
        let part = self.random.f64();
        let earliest = self.last.map_or(now, |(last, _)| now.max(last + COALESCE));
        self.send_by(earliest + spread.mul_f64(part));
    }

    fn send_by(&mut self, at: Time) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// When the next hello must be sent.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.next
    }

    /// A hello that announces `interval` is sent now. The next one follows after the interval or
    /// up to a tenth sooner.
    pub(crate) fn sent(&mut self, now: Time, interval: Duration) {
        self.last = Some((now, interval));
        self.next = Some(now + interval.mul_f64(self.random.f64().mul_add(-0.1, 1.0)));
    }

    /// Nothing is sent any more.
    pub(crate) fn stop(&mut self) {
        self.next = None;
        self.last = None;
    }

    /// The sequence number of the next hello.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence + 1
    }

    /// A hello with this number was sent.
    pub(crate) fn used_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// The time since the last hello, if it is more than two intervals: peers may soon take over.
    pub(crate) fn gap(&self, now: Time) -> Option<Duration> {
        let (last, interval) = self.last?;
        let gap = now.saturating_sub(last);
        (gap > interval * 2).then_some(gap)
    }
}

/// The interval of a node. `busy`: it owns addresses or may have to claim one soon.
pub(crate) fn interval(minimum: Duration, nodes: usize, busy: bool) -> Duration {
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    let interval = minimum.max(HELLO_INTERVAL_PER_NODE.saturating_mul(nodes));
    if busy {
        interval
    } else {
        interval.max(IDLE_HELLO_INTERVAL)
    }
}
