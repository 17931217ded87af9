//! What this node's next hellos say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::claims::Claims;
use crate::membership::NodeId;
use crate::wire::hello::{Claim, Section};

/// A change is sent with the next hello and repeated in the two after it.
const REPEATS: u8 = 3;
/// A node that missed a claim gets it within this time at the latest.
const FULL_LIST: Duration = Duration::from_secs(10);

/// Changes and messages that wait for the next hello.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    changes: BTreeMap<IpAddr, Change>,
    messages: Vec<(Section, u8)>,
    all_claims: bool,
    /// The last address of the part of all claims that was sent last.
    cursor: Option<IpAddr>,
    urgent: bool,
}

#[derive(Debug)]
struct Change {
    /// How often it is still sent.
    left: u8,
    /// The epoch of the claim that ended. The claims don't have it if the address was removed.
    released: u64,
}

impl Outbox {
    /// The claim or intent of an address changed.
    pub(crate) fn changed(&mut self, address: IpAddr) {
        self.released(Claim { address, epoch: 0 });
    }

    /// This node no longer owns an address.
    pub(crate) fn released(&mut self, claim: Claim) {
        let change = self.changes.entry(claim.address).or_insert(Change {
            left: REPEATS,
            released: 0,
        });
        change.left = REPEATS;
        change.released = change.released.max(claim.epoch);
        self.urgent = true;
    }

    /// Sends a message three times.
    pub(crate) fn repeat(&mut self, message: Section) {
        self.messages.push((message, REPEATS));
        self.urgent = true;
    }

    /// Sends a message once.
    pub(crate) fn once(&mut self, message: Section) {
        self.messages.push((message, 1));
        self.urgent = true;
    }

    /// Sends all claims.
    pub(crate) fn all_claims(&mut self) {
        self.all_claims = true;
        self.urgent = true;
    }

    /// The next hello must not wait for its time.
    pub(crate) fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Whether the next hello must not wait for its time.
    pub(crate) fn take_urgent(&mut self) -> bool {
        std::mem::take(&mut self.urgent)
    }

    /// The content of the next hello. `intents`: what this node is about to claim. `interval`: the
    /// time to the hello after it.
    pub(crate) fn sections(
        &mut self,
        claims: &Claims,
        intents: &BTreeSet<IpAddr>,
        interval: Duration,
    ) -> Vec<Section> {
        let mut ours = BTreeSet::new();
        let mut released = Vec::new();
        self.changes.retain(|address, change| {
            if claims.owner(*address) == Some(NodeId::US) {
                ours.insert(*address);
            } else if !intents.contains(address) {
                released.push(Claim {
                    address: *address,
                    epoch: claims.epoch(*address).max(change.released),
                });
            }
            change.left -= 1;
            change.left > 0
        });
        self.add_part_of_all(claims, interval, &mut ours);
        let ours: Vec<_> = ours.into_iter().map(|at| claim(claims, at, 0)).collect();
        let intents: Vec<_> = intents.iter().map(|at| claim(claims, *at, 1)).collect();
        let mut sections = vec![
            Section::Claims(ours),
            Section::Intents(intents),
            Section::Released(released),
        ];
        sections.retain(|section| {
            !matches!(section, Section::Claims(claims) | Section::Intents(claims)
                | Section::Released(claims) if claims.is_empty())
        });
        self.messages.retain_mut(|(message, left)| {
            sections.push(message.clone());
            *left -= 1;
            *left > 0
        });
        sections
    }

    /// All claims if a peer needs them, else the part whose turn it is.
    fn add_part_of_all(
        &mut self,
        claims: &Claims,
        interval: Duration,
        ours: &mut BTreeSet<IpAddr>,
    ) {
        if std::mem::take(&mut self.all_claims) {
            ours.extend(claims.of(NodeId::US));
            return;
        }
        let count = u128::from(claims.share(NodeId::US).count);
        let part = (count * interval.as_millis()).div_ceil(FULL_LIST.as_millis());
        let part = usize::try_from(part).unwrap_or(usize::MAX);
        let next: Vec<_> = claims.after(NodeId::US, self.cursor).take(part).collect();
        self.cursor = next.last().copied();
        ours.extend(next);
    }
}

fn claim(claims: &Claims, address: IpAddr, later: u64) -> Claim {
    Claim {
        address,
        epoch: claims.epoch(address).saturating_add(later),
    }
}
