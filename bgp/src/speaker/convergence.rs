//! How long a change takes to reach the routers: histograms of three stages, each counted from the
//! time when the change was seen.
//!
//! Nothing here allocates: a histogram is an array of counters, and a connection stores at most one
//! change that waits for acknowledgement. A look for an acknowledgement wakes the speaker, so that
//! it looks for that of one change a second and peer at most.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::wire::MessageType;

/// Number of bounds of [`Delays`].
const BOUNDS: usize = 10;

/// Upper bounds of the buckets. Another one has no bound.
pub const DELAY_BOUNDS: [Duration; BOUNDS] = [
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// A histogram of delays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// The number of delays in each bucket of [`DELAY_BOUNDS`], and above all of them. A delay that
    /// equals a bound is in its bucket.
    pub buckets: [u64; BOUNDS + 1],
    /// The sum of all delays.
    pub sum: Duration,
}

/// How long changes took until they were handed to the speaker, written and acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Convergence {
    /// Until [`Handle::routes_since`](super::Handle::routes_since), once for each call.
    pub decided: Delays,
    /// Until the kernel took the last UPDATE for a peer, once for each peer with an UPDATE.
    pub written: Delays,
    /// Until TCP acknowledged that UPDATE, for one change a second and peer at most. It is noticed
    /// after at most twice the time since it was written, and not before 1 ms.
    pub acknowledged: Delays,
}

/// A [`Delays`] that several threads can add to.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS + 1],
    microseconds: AtomicU64,
}

impl Histogram {
    fn add(&self, delay: Duration) {
        let bucket = DELAY_BOUNDS.partition_point(|bound| *bound < delay);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let microseconds = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    fn delays(&self) -> Delays {
        let count = |bucket: usize| self.buckets[bucket].load(Ordering::Relaxed);
        Delays {
            buckets: array::from_fn(count),
            sum: Duration::from_micros(self.microseconds.load(Ordering::Relaxed)),
        }
    }
}

/// The histograms of a speaker.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    decided: Histogram,
    written: Histogram,
    acknowledged: Histogram,
}

impl Histograms {
    /// The routes that follow from a change are known.
    pub(super) fn decided(&self, delay: Duration) {
        self.decided.add(delay);
    }

    pub(super) fn convergence(&self) -> Convergence {
        Convergence {
            decided: self.decided.delays(),
            written: self.written.delays(),
            acknowledged: self.acknowledged.delays(),
        }
    }
}

/// Octets that were written, and the change they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    /// When the change was seen.
    seen: Instant,
    /// When it was written.
    at: Instant,
    /// Number of octets on the connection up to its end.
    end: u64,
}

/// The delay between the last octets and the first look for their acknowledgement.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// The longest time between two looks.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// The shortest time between two changes whose acknowledgement is looked for.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The changes on their way to one peer.
#[derive(Debug, Default)]
pub(super) struct OnTheWay {
    /// When the first change was seen that is not written yet.
    unwritten: Option<Instant>,
    /// Whether an UPDATE was given to the socket since.
    update: bool,
    /// What waits for its acknowledgement.
    sample: Option<Written>,
    /// When the last sample was written.
    sampled: Option<Instant>,
    /// When to look for the acknowledgement of the sample.
    look: Option<Instant>,
}

impl OnTheWay {
    /// A change was seen at this time, and routes that follow from it may be sent to the peer.
    pub(super) fn changed(&mut self, seen: Instant) {
        self.unwritten.get_or_insert(seen);
    }

    /// These octets, which are whole messages of one type, go to the socket.
    pub(super) fn sends(&mut self, octets: &[u8]) {
        const TYPE: usize = 18;
        self.update |= octets.get(TYPE) == Some(&MessageType::UPDATE.0);
    }

    /// Nothing is left to be sent, and the kernel took all `octets` of the connection.
    pub(super) fn all_written(&mut self, now: Instant, octets: u64, histograms: &Histograms) {
        let update = std::mem::take(&mut self.update);
        let Some(seen) = self.unwritten.take().filter(|_| update) else {
            return;
        };
        histograms.written.add(now.saturating_duration_since(seen));
        let too_early = self.sampled.is_some_and(|at| now < at + SAMPLE_INTERVAL);
        if self.sample.is_some() || too_early {
            return;
        }
        self.sampled = Some(now);
        self.look = Some(now + FIRST_LOOK);
        self.sample = Some(Written {
            seen,
            at: now,
            end: octets,
        });
    }

    /// When to call [`acknowledged`](Self::acknowledged).
    pub(super) fn look(&self) -> Option<Instant> {
        self.look
    }

    /// The peer has acknowledged this number of octets of the connection.
    pub(super) fn acknowledged(&mut self, now: Instant, octets: u64, histograms: &Histograms) {
        if let Some(sample) = self.sample.take_if(|sample| sample.end <= octets) {
            let delay = now.saturating_duration_since(sample.seen);
            histograms.acknowledged.add(delay);
        }
        self.look = self.sample.map(|sample| {
            let waited = now.saturating_duration_since(sample.at);
            now + waited.clamp(FIRST_LOOK, LOOK_MAX)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Family, end_of_rib, keepalive};

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_delay_is_in_the_first_bucket_that_is_not_shorter() {
        let histogram = Histogram::default();
        for delay in [0, 1, 2, 100, 30_000, 30_001] {
            histogram.add(milliseconds(delay));
        }
        let delays = histogram.delays();
        assert_eq!(delays.buckets, [2, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1]);
        assert_eq!(delays.sum, milliseconds(60_104));
    }

    #[test]
    fn only_a_change_that_led_to_an_update_counts() {
        let histograms = Histograms::default();
        let now = Instant::now();
        let mut changes = OnTheWay::default();
        changes.sends(&end_of_rib(Family::IPV4_UNICAST));
        changes.all_written(now, 23, &histograms);
        changes.changed(now);
        changes.sends(&keepalive());
        changes.all_written(now, 42, &histograms);
        assert_eq!(histograms.convergence(), Convergence::default());
        assert_eq!(changes.look(), None);
    }

    #[test]
    fn one_change_a_second_is_followed_until_its_acknowledgement() {
        let histograms = Histograms::default();
        let start = Instant::now();
        let at = |time| start + milliseconds(time);
        let mut changes = OnTheWay::default();
        let update = end_of_rib(Family::IPV4_UNICAST);
        let write = |changes: &mut OnTheWay, time, octets| {
            changes.changed(at(time));
            changes.sends(&update);
            changes.changed(at(time + 1));
            changes.all_written(at(time + 2), octets, &histograms);
        };
        write(&mut changes, 0, 100);
        write(&mut changes, 10, 200);
        assert_eq!(changes.look(), Some(at(3)));
        changes.acknowledged(at(22), 99, &histograms);
        assert_eq!(changes.look(), Some(at(42)), "twice the time");
        changes.acknowledged(at(42), 100, &histograms);
        assert_eq!(histograms.convergence().acknowledged.sum, milliseconds(42));
        write(&mut changes, 999, 300);
        assert_eq!(changes.look(), None, "within a second of the last one");
        write(&mut changes, 1000, 400);
        changes.acknowledged(at(1005), 400, &histograms);
        let convergence = histograms.convergence();
        assert_eq!(convergence.acknowledged.sum, milliseconds(42 + 5));
        assert_eq!(convergence.acknowledged.buckets.iter().sum::<u64>(), 2);
        assert_eq!(convergence.written.buckets[1], 4);
        assert_eq!(changes.look(), None);
    }

    #[test]
    fn a_peer_that_acknowledges_nothing_is_looked_at_once_a_second() {
        let histograms = Histograms::default();
        let start = Instant::now();
        let mut changes = OnTheWay::default();
        changes.changed(start);
        changes.sends(&end_of_rib(Family::IPV4_UNICAST));
        changes.all_written(start, 23, &histograms);
        let mut looks = 0;
        while let Some(look) = changes
            .look()
            .filter(|look| *look < start + milliseconds(60_000))
        {
            changes.acknowledged(look, 0, &histograms);
            looks += 1;
        }
        assert!((60..75).contains(&looks), "{looks}");
        assert_eq!(histograms.convergence().acknowledged, Delays::default());
    }
}
