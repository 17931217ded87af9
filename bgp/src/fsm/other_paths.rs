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

use crate::fsm::loop_check::ToUs;
use crate::wire::{Community, Family, Update};

/// What a router with an Established session shows of paths other than ours, while
/// [`Input::TrackOtherPaths`](super::Input::TrackOtherPaths) asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherPaths {
    /// The peer's name.
    pub peer: String,
    /// The configured peer that a dynamic neighbour belongs to.
    pub template: Option<String>,
    /// The families of which the router shows them at all: it can be asked for its routes again
    /// (RFC 2918), and it has sent back at least one prefix of ours since the peer was configured.
    /// Routers have export policies for each family.
    pub shown: Vec<Family>,
    /// Prefixes that we announce to the router and that it reaches over another speaker.
    pub prefixes: HashSet<IpNet>,
}

impl OtherPaths {
    /// Whether the router shows that it has no path to this prefix but ours.
    #[must_use]
    pub fn has_only_ours(&self, prefix: &IpNet) -> bool {
        self.shown.contains(&Family::of(prefix)) && !self.prefixes.contains(prefix)
    }
}

/// Our prefixes at one router, by what it has sent back.
#[derive(Debug, Default)]
pub(super) struct Returned {
    /// Whether `elsewhere` is kept up to date.
    watched: bool,
    /// The families of which the router has ever sent back one of our prefixes, by whatever path:
    /// then it exports them to us, and that it does not send one is a fact about its paths.
    ever: Vec<Family>,
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

    /// Begins, with nothing known; goes on, with what is known; or ends.
    pub(super) fn watch(&mut self, watched: bool) {
        if self.watched != watched {
            self.watched = watched;
            self.elsewhere = HashSet::new();
        }
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
        if self.watched {
            for prefix in update.withdrawn_prefixes() {
                self.elsewhere.remove(&prefix);
            }
        }
        let graceful = &Community::GRACEFUL_SHUTDOWN;
        let graceful = update.attributes.communities.contains(graceful);
        for (prefix, to_us) in ToUs::of(update, addresses).announced(update) {
            let family = Family::of(&prefix);
            let known = self.ever.contains(&family);
            if (known && !self.watched) || !own(&prefix) {
                continue;
            }
            if !known {
                self.ever.push(family);
            }
            if !self.watched {
                continue;
            }
            if to_us || graceful {
                self.elsewhere.remove(&prefix);
            } else {
                self.elsewhere.insert(prefix);
            }
        }
    }

    /// The families of which the router exports our prefixes to us.
    pub(super) fn ever(&self) -> &[Family] {
        &self.ever
    }

    /// What the router reaches over another speaker.
    pub(super) fn elsewhere(&self) -> &HashSet<IpNet> {
        &self.elsewhere
    }
}
