//! Which segments need frequent hellos: those on which an address of a service may be announced.
//! The others, such as the interfaces of Pods, get one hello per second, so that the nodes behind
//! them are known when an address needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::Time;
use crate::interface::IfIndex;
use crate::limits::IDLE_HELLO_INTERVAL;

use super::sender::REPEATS;

/// The use of the segments.
#[derive(Debug, Default)]
pub(crate) struct SegmentUse {
    in_use: BTreeSet<IfIndex>,
    /// When the last hello was sent on a segment that is not in use, and how many were sent since
    /// it isn't.
    sent: BTreeMap<IfIndex, (Time, u8)>,
}

impl SegmentUse {
    /// Replaces the segments that are in use.
    pub(crate) fn set(&mut self, in_use: BTreeSet<IfIndex>) {
        self.in_use = in_use;
    }

    /// The interval that a hello on a segment announces, or none if none is due there. `interval`:
    /// of the segments in use. `urgent`: the hello must be sent on all segments.
    pub(crate) fn interval(
        &mut self,
        now: Time,
        segment: IfIndex,
        interval: Duration,
        urgent: bool,
    ) -> Option<Duration> {
        if self.in_use.contains(&segment) {
            self.sent.remove(&segment);
            return Some(interval);
        }
        let idle = interval.max(IDLE_HELLO_INTERVAL);
        let (last, count) = self.sent.get(&segment).copied().unwrap_or_default();
        // Or the next opportunity would come too late.
        let due = urgent || count < REPEATS || now + interval > last + idle;
        due.then(|| {
            self.sent.insert(segment, (now, count.saturating_add(1)));
            idle
        })
    }

    /// An interface is gone.
    pub(crate) fn forget(&mut self, segment: IfIndex) {
        self.in_use.remove(&segment);
        self.sent.remove(&segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: IfIndex = IfIndex(2);
    const INTERVAL: Duration = Duration::from_millis(100);

    #[test]
    fn a_segment_in_use_gets_every_hello() {
        let mut segments = SegmentUse::default();
        segments.set([SEGMENT].into());
        for step in 0..20 {
            let now = INTERVAL * step;
            assert_eq!(
                segments.interval(now, SEGMENT, INTERVAL, false),
                Some(INTERVAL)
            );
        }
    }

    #[test]
    fn an_unused_segment_gets_a_hello_within_each_second_that_it_announces() {
        let mut segments = SegmentUse::default();
        let sent: Vec<Time> = (0..50)
            .map(|step| INTERVAL * step)
            .filter(|now| segments.interval(*now, SEGMENT, INTERVAL, false).is_some())
            .collect();
        // Three to announce the interval, so that two of them may be lost.
        assert_eq!(sent[..3], [Duration::ZERO, INTERVAL, INTERVAL * 2]);
        assert_eq!(sent.len(), 7);
        for pair in sent.windows(2) {
            assert!(pair[1] - pair[0] <= IDLE_HELLO_INTERVAL, "{sent:?}");
        }
    }

    #[test]
    fn peers_learn_at_once_that_a_segment_is_used_no_longer() {
        let mut segments = SegmentUse::default();
        segments.set([SEGMENT].into());
        segments.interval(Duration::ZERO, SEGMENT, INTERVAL, false);
        segments.set(BTreeSet::new());
        let idle = segments.interval(INTERVAL, SEGMENT, INTERVAL, false);
        assert_eq!(idle, Some(IDLE_HELLO_INTERVAL));
    }
}
