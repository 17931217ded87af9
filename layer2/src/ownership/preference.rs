//! Better nodes for addresses that this node owns.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::address::Phase;
use super::placement::Placement;
use super::{Context, Ownership};
use crate::config::Time;
use crate::limits::PREFERENCE_HOLD_DOWN;
use crate::membership::NodeId;
use crate::status::OwnerReason;

/// How often preferences are checked.
pub(super) const CHECK: Duration = Duration::from_secs(1);

/// Since when other nodes are preferred.
#[derive(Debug, Default)]
pub(crate) struct Preferences {
    since: BTreeMap<IpAddr, Time>,
    next: Time,
}

impl Preferences {
    /// Whether another node is preferred for long enough.
    fn is_due(&mut self, now: Time, address: IpAddr, preferred: bool) -> bool {
        if !preferred {
            self.since.remove(&address);
            return false;
        }
        let due = now >= *self.since.entry(address).or_insert(now) + PREFERENCE_HOLD_DOWN;
        if due {
            self.since.remove(&address);
        }
        due
    }

    /// This node no longer owns an address.
    pub(super) fn remove(&mut self, address: IpAddr) {
        self.since.remove(&address);
    }
}

impl Ownership {
    /// Hands addresses over to nodes that are preferred.
    pub(super) fn check_preferences(&mut self, context: &Context<'_>) {
        let now = context.now;
        let owns = self.claims.share(NodeId::US).count > 0;
        if !owns || now < self.preferences.next {
            if owns {
                self.evaluate(self.preferences.next);
            }
            return;
        }
        self.preferences.next = now + CHECK;
        self.evaluate(now + CHECK);
        let mut placement = Placement::new(context, &self.claims, &self.intents).received();
        let mut moves = Vec::new();
        for address in self.claims.of(NodeId::US) {
            let Some(known) = self.addresses.get(&address) else {
                continue;
            };
            if known.phase != Phase::Owned || self.handovers.get(address).is_some() {
                continue;
            }
            if known.spec.sticky {
                let preferred = placement.is_outweighed(address, &known.spec);
                if self.preferences.is_due(now, address, preferred) {
                    moves.push(address);
                }
            } else if let Some(to) = placement.better(address, &known.spec) {
                placement.shift(NodeId::US, to);
                moves.push(address);
            }
        }
        self.hand_over(context, &moves, OwnerReason::Preferred, false);
    }
}
