//! Whether this node listened long enough to claim addresses.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::Time;
use crate::membership::NodeId;

/// Added to three hello intervals.
const MARGIN: Duration = Duration::from_millis(100);

/// A peer that did not receive this node yet may have claimed an address, and its hello may be on
/// its way.
const CROSSING: Duration = Duration::from_millis(30);

/// What this node waits for before it claims or answers.
#[derive(Debug, Default)]
pub(crate) struct Settle {
    has_key: bool,
    has_link: bool,
    addresses_complete: bool,
    /// Since when it listens.
    since: Option<Time>,
    /// Whether it did settle before.
    waking: bool,
    /// After a stall: the nodes that were alive, whose fresh hello is awaited. None if the time
    /// alone decides.
    awaited: Option<BTreeSet<NodeId>>,
    done: bool,
}

impl Settle {
    /// Whether the node may claim.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the node listens after a stall, and did settle before.
    pub(crate) fn is_waking(&self) -> bool {
        !self.done && self.waking
    }

    /// Whether there is a key.
    pub(crate) fn has_key(&self) -> bool {
        self.has_key
    }

    /// Whether there is a key. Without one no hello is received.
    pub(crate) fn set_key(&mut self, now: Time, has_key: bool) {
        let gained = has_key && !self.has_key;
        self.has_key = has_key;
        if gained {
            self.listen(now);
        }
        self.done &= has_key;
    }

    /// Whether there is an interface with a carrier.
    pub(crate) fn set_link(&mut self, now: Time, has_link: bool) {
        let gained = has_link && !self.has_link;
        self.has_link = has_link;
        if gained {
            self.listen(now);
        }
    }

    /// All addresses are known.
    pub(crate) fn complete(&mut self) {
        self.addresses_complete = true;
    }

    /// The node was deaf, or a link came up. `awaited`: the nodes that were alive before.
    pub(crate) fn restart(&mut self, now: Time, awaited: BTreeSet<NodeId>) {
        self.waking |= self.done;
        self.awaited = Some(awaited).filter(|awaited| self.waking && !awaited.is_empty());
        self.done = false;
        self.listen(now);
    }

    fn listen(&mut self, now: Time) {
        if self.has_key && self.has_link {
            self.since = Some(now);
        }
    }

    /// A fresh hello shows that nothing was missed from a node.
    pub(crate) fn received(&mut self, node: NodeId) {
        if let Some(awaited) = self.awaited.as_mut() {
            awaited.remove(&node);
        }
    }

    /// When it ends. `interval`: the hello interval of this node.
    pub(crate) fn poll_timeout(&self, interval: Duration) -> Option<Time> {
        let since = self.since?;
        if self.done || !self.has_key || !self.addresses_complete {
            return None;
        }
        match &self.awaited {
            Some(awaited) if awaited.is_empty() => Some(since + CROSSING),
            _ => Some(since + interval * 3 + MARGIN),
        }
    }

    /// Ends it if it is time. Returns whether it ended now.
    pub(crate) fn handle_timeout(&mut self, now: Time, interval: Duration) -> bool {
        let ended = self.poll_timeout(interval).is_some_and(|at| at <= now);
        if ended {
            self.done = true;
            self.waking = false;
            self.awaited = None;
        }
        ended
    }
}
