//! When this node sends its hellos.

use std::time::Duration;

use crate::config::Time;
use crate::limits::{HELLO_INTERVAL_PER_NODE, IDLE_HELLO_INTERVAL};

/// Changes within this time go in one hello.
const COALESCE: Duration = Duration::from_millis(10);

/// A longer interval is announced so often before it is used: if peers missed the only hello that
/// announces it, they would find this node silent.
pub(super) const REPEATS: u8 = 3;

/// The schedule of the hellos of this node.
#[derive(Debug)]
pub(crate) struct Sender {
    next: Option<Time>,
    /// When the last one was sent, and the shortest interval that peers may expect.
    last: Option<(Time, Duration)>,
    /// The interval that peers expect, and how many hellos in sequence announced a longer one.
    announced: (Duration, u8),
    /// As `last`, before the last hello.
    before: Option<(Time, Duration)>,
    /// The frames of the last hello that the kernel did not refuse.
    frames: usize,
    sequence: u64,
    random: fastrand::Rng,
}

impl Sender {
    /// Nothing is scheduled before [`Self::send_soon`].
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            next: None,
            last: None,
            before: None,
            frames: 0,
            announced: (Duration::MAX, 0),
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

    /// A hello that announces `interval` is sent now. The next one follows after the interval that
    /// peers expect or up to a tenth sooner.
    pub(crate) fn sent(&mut self, now: Time, interval: Duration) {
        let interval = self.expected(interval);
        let last = (now, interval);
        self.before = self.last.or(Some(last));
        self.last = Some(last);
        self.next = Some(now + interval.mul_f64(self.random.f64().mul_add(-0.1, 1.0)));
    }

    /// The last hello has this number of frames to other nodes.
    pub(crate) fn set_frames(&mut self, frames: usize) {
        self.frames = frames;
    }

    /// The kernel did not take a frame of the last hello. If it took none, the hello was not sent.
    pub(crate) fn refused(&mut self) {
        let had_frames = self.frames > 0;
        self.frames = self.frames.saturating_sub(1);
        if had_frames && self.frames == 0 {
            self.last = self.before;
        }
    }

    /// The shortest interval that peers may expect after a hello that announces `interval`.
    fn expected(&mut self, interval: Duration) -> Duration {
        let (expected, count) = self.announced;
        self.announced = if interval <= expected {
            (interval, 0)
        } else if count + 1 < REPEATS {
            (expected, count + 1)
        } else {
            (interval, 0)
        };
        self.announced.0
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

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_longer_interval_is_used_after_three_hellos_that_announce_it() {
        let mut sender = Sender::new(1);
        let mut now = Duration::ZERO;
        let mut spacing = |sender: &mut Sender, interval| {
            sender.sent(now, interval);
            let next = sender.poll_timeout().unwrap();
            let spacing = next - now;
            now = next;
            spacing
        };
        for interval in [SHORT, SHORT, LONG, LONG] {
            assert!(spacing(&mut sender, interval) <= SHORT);
        }
        assert!(spacing(&mut sender, LONG) > SHORT);
        assert!(spacing(&mut sender, LONG) > SHORT);
        assert!(spacing(&mut sender, SHORT) <= SHORT);
        assert!(spacing(&mut sender, LONG) <= SHORT);
    }

    #[test]
    fn a_hello_that_is_refused_on_all_interfaces_was_not_sent() {
        let mut sender = Sender::new(1);
        let mut send = |at, refused| {
            let now = SHORT * at;
            let gap = sender.gap(now);
            sender.sent(now, SHORT);
            sender.set_frames(2);
            (0..refused).for_each(|_| sender.refused());
            gap
        };
        assert_eq!(send(0, 2), None);
        assert_eq!(send(2, 1), None);
        assert_eq!(send(3, 2), None);
        assert_eq!(send(4, 2), None);
        assert_eq!(send(5, 0), Some(SHORT * 3));
        assert_eq!(send(6, 0), None);
    }

    #[test]
    fn a_stall_is_noticed_by_the_interval_that_peers_expect() {
        let mut sender = Sender::new(1);
        sender.sent(Duration::ZERO, SHORT);
        sender.sent(SHORT, LONG);
        assert_eq!(sender.gap(SHORT * 3), None);
        assert_eq!(sender.gap(SHORT * 4), Some(SHORT * 3));
    }
}
