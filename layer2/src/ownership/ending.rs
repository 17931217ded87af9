//! The end of this process.

use std::time::Duration;

use super::Ownership;
use super::address::Effect;
use crate::config::Time;
use crate::membership::NodeId;
use crate::status::{Event, NodeState, OwnerReason};

/// After this time the process ends also if no successor claimed its addresses.
const PATIENCE: Duration = Duration::from_secs(2);
/// The last hello is sent as often, because one may be lost.
const LAST_HELLOS: u8 = 3;
/// The time between them.
const SPACING: Duration = Duration::from_millis(12);

/// Whether this process ends, and how far it is.
#[derive(Debug, Default)]
pub(crate) enum Ending {
    /// It goes on.
    #[default]
    No,
    /// It hands its addresses over.
    HandsOver(Time),
    /// It sends its last hellos, the next at this time.
    SaysSo(NodeState, u8, Time),
    /// It ended.
    Ended(NodeState),
}

impl Ending {
    /// The state that hellos announce, if it ends.
    pub(crate) fn state(&self) -> Option<NodeState> {
        match self {
            Self::No => None,
            Self::HandsOver(_) => Some(NodeState::Leaving),
            Self::SaysSo(state, ..) | Self::Ended(state) => Some(*state),
        }
    }

    /// Whether nothing must be sent any more.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }

    /// When [`Ownership::end`] must be called.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        match self {
            Self::HandsOver(at) | Self::SaysSo(_, _, at) => Some(*at),
            Self::No | Self::Ended(_) => None,
        }
    }
}

impl Ownership {
    /// The process comes back within seconds: peers wait for it.
    pub(super) fn say_restarting(&mut self, now: Time) {
        self.ending = Ending::SaysSo(NodeState::Restarting, LAST_HELLOS, now);
    }

    /// The process hands over its addresses.
    pub(super) fn say_leaving(&mut self, now: Time) {
        self.ending = Ending::HandsOver(now + PATIENCE);
        self.outbox.hurry();
        self.end(now);
    }

    /// Goes on with the end, if the process ends.
    pub(super) fn end(&mut self, now: Time) {
        match self.ending {
            Ending::No | Ending::Ended(_) => {}
            Ending::HandsOver(deadline) => {
                if now >= deadline {
                    for address in self.our_addresses() {
                        self.withdraw(now, address, OwnerReason::HandedOver);
                    }
                }
                if self.claims.share(NodeId::US).count == 0 {
                    self.ending = Ending::SaysSo(NodeState::Leaving, LAST_HELLOS, now);
                    self.end(now);
                }
            }
            Ending::SaysSo(_, _, next) if now < next => {}
            Ending::SaysSo(state, 0, _) => {
                self.ending = Ending::Ended(state);
                self.effects.push_back(Effect::Event(Event::Left));
            }
            Ending::SaysSo(state, left, _) => {
                self.outbox.hurry();
                self.ending = Ending::SaysSo(state, left - 1, now + SPACING);
            }
        }
    }
}
