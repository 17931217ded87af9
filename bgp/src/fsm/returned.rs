//! Which of the prefixes that we announce a router sends back to us over another speaker's path.
//!
//! A router sends a prefix to us by its best path. As long as that is ours, split horizon keeps it
//! from us, or it comes back with one of our own next hops, or with the GRACEFUL_SHUTDOWN that we
//! put on it (RFC 8326). So what comes back otherwise has another path there. Whether our own AS is
//! in that path says nothing: other nodes are in our AS.
//!
//! Prefixes that we don't announce to the router are never kept.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::eligible::ToUs;
use crate::wire::{Community, Update};

/// What a router with an Established session shows of paths other than ours, while
/// [`Input::WatchPaths`](super::Input::WatchPaths) asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherPaths {
    /// The peer's name.
    pub peer: String,
    /// The configured peer that a dynamic neighbour belongs to.
    pub template: Option<String>,
    /// Whether the router shows them at all: it can be asked for its routes again (RFC 2918), and
    /// it has sent back at least one prefix of ours since the peer was configured.
    pub shown: bool,
    /// Prefixes that we announce to the router and that it reaches over another speaker.
    pub prefixes: HashSet<IpNet>,
}

/// Our prefixes at one router, by what it has sent back.
#[derive(Debug, Default)]
pub(super) struct Returned {
    /// Whether `elsewhere` is kept up to date.
    watched: bool,
    /// Whether the router has ever sent back one of our prefixes, by whatever path: then it exports
    /// them to us, and that it does not send one is a fact about its paths.
    ever: bool,
    /// Prefixes of ours that the router reaches over another speaker.
    elsewhere: HashSet<IpNet>,
}

impl Returned {
    pub(super) fn new(watched: bool) -> Self {
        Self {
            watched,
            ..Self::default()
        }
    }

    /// Begins, with nothing known; or ends.
    pub(super) fn watch(&mut self, watched: bool) {
        self.watched = watched;
        self.elsewhere = HashSet::new();
    }

    /// A session begins or ends: what the last one brought is gone.
    pub(super) fn session(&mut self) {
        self.elsewhere = HashSet::new();
    }

    /// We announce this prefix no longer.
    pub(super) fn forget(&mut self, prefix: &IpNet) {
        self.elsewhere.remove(prefix);
    }

    /// Takes an UPDATE. `own` says whether we announce a prefix to the router, `addresses` are our
    /// next hops.
    pub(super) fn update(
        &mut self,
        update: &Update,
        addresses: &[IpAddr],
        own: impl Fn(&IpNet) -> bool,
    ) {
        if self.ever && !self.watched {
            return;
        }
        if self.watched {
            for prefix in update.withdrawn_prefixes() {
                self.elsewhere.remove(&prefix);
            }
        }
        let graceful = &Community::GRACEFUL_SHUTDOWN;
        let graceful = update.attributes.communities.contains(graceful);
        for (prefix, to_us) in ToUs::of(update, addresses).announced(update) {
            if !own(&prefix) {
                continue;
            }
            self.ever = true;
            if !self.watched {
                return;
            }
            if to_us || graceful {
                self.elsewhere.remove(&prefix);
            } else {
                self.elsewhere.insert(prefix);
            }
        }
    }

    /// Whether the router exports our prefixes to us.
    pub(super) fn ever(&self) -> bool {
        self.ever
    }

    /// What the router reaches over another speaker.
    pub(super) fn elsewhere(&self) -> &HashSet<IpNet> {
        &self.elsewhere
    }
}
