//! Tracks which of the prefixes that we announce a router also reaches over another speaker.
//!
//! A router sends a prefix to us by its best path. If that is ours, split horizon suppresses it, or
//! it comes back with one of our own next hops, or with the community GRACEFUL_SHUTDOWN that we
//! added (RFC 8326). A prefix that comes back in another form has another path. Our own AS in that
//! path means nothing: other nodes are in our AS.
//!
//! Prefixes that we don't announce to the router are never stored.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::loop_check::OwnNextHop;
use crate::wire::{Community, Family, Update};

/// What a router with an established session shows of paths other than ours, as far as
/// [`Input::TrackOtherPaths`](super::Input::TrackOtherPaths) has it tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherPaths {
    /// The peer's name.
    pub peer: String,
    /// The template of a dynamic neighbor.
    pub template: Option<String>,
    /// The families of which the router shows other paths: it supports route refresh (RFC 2918),
    /// and it has sent back at least one of our prefixes since the peer was configured. Routers
    /// have an export policy for each family.
    pub shown: Vec<Family>,
    /// Prefixes that we announce to the router and that it reaches over another speaker.
    pub prefixes: HashSet<IpNet>,
}

impl OtherPaths {
    /// Whether the router shows that our path to this prefix is its only one.
    #[must_use]
    pub fn has_only_ours(&self, prefix: &IpNet) -> bool {
        self.shown.contains(&Family::of(prefix)) && !self.prefixes.contains(prefix)
    }
}

/// Our prefixes at one router, by what it has sent back.
#[derive(Debug, Default)]
pub(super) struct OtherPathsTracker {
    /// Whether `elsewhere` is kept up to date.
    tracked: bool,
    /// The families of which the router has ever sent back one of our prefixes, over any path. It
    /// exports them to us, so that a prefix which it does not send has no other path.
    exported: Vec<Family>,
    /// Prefixes of ours that the router reaches over another speaker.
    elsewhere: HashSet<IpNet>,
}

impl OtherPathsTracker {
    pub(super) fn new(tracked: bool) -> Self {
        Self {
            tracked,
            ..Self::default()
        }
    }

    /// Starts with nothing known, continues, or ends.
    pub(super) fn track(&mut self, tracked: bool) {
        if self.tracked != tracked {
            self.tracked = tracked;
            self.clear();
        }
    }

    /// A session begins or ends: what the last one showed is void.
    pub(super) fn clear(&mut self) {
        self.elsewhere = HashSet::new();
    }

    /// This prefix is no longer announced.
    pub(super) fn remove(&mut self, prefix: &IpNet) {
        self.elsewhere.remove(prefix);
    }

    /// Takes an UPDATE. `own` returns whether we announce a prefix to the router; `addresses` are
    /// our next hops.
    pub(super) fn update(
        &mut self,
        update: &Update,
        addresses: &[IpAddr],
        own: impl Fn(&IpNet) -> bool,
    ) {
        if self.tracked {
            for prefix in update.withdrawn_prefixes() {
                self.elsewhere.remove(&prefix);
            }
        }
        let graceful = &Community::GRACEFUL_SHUTDOWN;
        let graceful = update.attributes.communities.contains(graceful);
        for (prefix, own_next_hop) in OwnNextHop::of(update, addresses).announced(update) {
            let family = Family::of(&prefix);
            let known = self.exported.contains(&family);
            if (known && !self.tracked) || !own(&prefix) {
                continue;
            }
            if !known {
                self.exported.push(family);
            }
            if !self.tracked {
                continue;
            }
            if own_next_hop || graceful {
                self.elsewhere.remove(&prefix);
            } else {
                self.elsewhere.insert(prefix);
            }
        }
    }

    /// The families of which the router exports our prefixes to us.
    pub(super) fn exported(&self) -> &[Family] {
        &self.exported
    }

    /// The prefixes that the router reaches over another speaker.
    pub(super) fn elsewhere(&self) -> &HashSet<IpNet> {
        &self.elsewhere
    }
}
