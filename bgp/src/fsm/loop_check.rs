//! Looped routes: received prefixes with our own AS in the path or our own address as next hop. No
//! speaker may use them, but they are no errors (RFC 4271 §6.3, §9.1.2).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::wire::{Asn, NextHop, Treatment, Update};

/// The number of looped prefixes in an UPDATE. `own` has our addresses.
pub(super) fn count_looped(update: &Update, asn: Asn, own: &[IpAddr]) -> u64 {
    if update.treatment() == Some(Treatment::TreatAsWithdraw) {
        return 0;
    }
    let path = update.attributes.as_path.as_ref();
    let own_asn = path.is_some_and(|path| path.contains(asn));
    let own_next_hop = OwnNextHop::of(update, own);
    let count = |looped: bool, prefixes: usize| if looped { prefixes } else { 0 };
    let reach = update.mp_reach.as_ref().map_or(0, |reach| reach.nlri.len());
    let all = count(own_asn || own_next_hop.nlri, update.nlri.len())
        + count(own_asn || own_next_hop.mp_reach, reach);
    u64::try_from(all).unwrap_or(u64::MAX)
}

/// The fields of an UPDATE whose next hop is one of our own addresses.
#[derive(Clone, Copy)]
pub(super) struct OwnNextHop {
    nlri: bool,
    mp_reach: bool,
}

impl OwnNextHop {
    pub(super) fn of(update: &Update, own: &[IpAddr]) -> Self {
        let ours = |next_hop: IpAddr| own.contains(&next_hop);
        let next_hop = update.attributes.next_hop;
        let reach = update.mp_reach.as_ref().map(|reach| reach.next_hop);
        Self {
            nlri: next_hop.is_some_and(|next_hop| ours(next_hop.into())),
            mp_reach: reach.is_some_and(|next_hop| match next_hop {
                NextHop::V4(next_hop) => ours(next_hop.into()),
                NextHop::V6 { global, link_local } => {
                    ours(global.into()) || link_local.is_some_and(|address| ours(address.into()))
                }
            }),
        }
    }

    /// The prefixes that `update` announces, each with whether its next hop is ours.
    pub(super) fn announced(self, update: &Update) -> impl Iterator<Item = (IpNet, bool)> {
        // The prefixes of the NLRI field come first.
        let nlri = update.nlri.len();
        let prefixes = update.announced().enumerate();
        prefixes.map(move |(position, prefix)| {
            let in_nlri = position < nlri;
            (prefix, if in_nlri { self.nlri } else { self.mp_reach })
        })
    }
}
