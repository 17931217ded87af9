//! Routes nobody could use, which are no errors all the same (RFC 4271 §6.3, §9.1.2).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::wire::{Asn, NextHop, Treatment, Update};

/// How many of the prefixes announced come with our own AS in the path, or with one of our own
/// addresses as next hop.
pub(super) fn looped(update: &Update, asn: Asn, own: &[IpAddr]) -> u64 {
    if update.treatment() == Some(Treatment::TreatAsWithdraw) {
        return 0;
    }
    let path = update.attributes.as_path.as_ref();
    let looped = path.is_some_and(|path| path.contains(asn));
    let to_us = ToUs::of(update, own);
    let count = |unusable: bool, prefixes: usize| if unusable { prefixes } else { 0 };
    let reach = update.mp_reach.as_ref().map_or(0, |reach| reach.nlri.len());
    let all =
        count(looped || to_us.nlri, update.nlri.len()) + count(looped || to_us.mp_reach, reach);
    u64::try_from(all).unwrap_or(u64::MAX)
}

/// Which fields of an UPDATE have one of our own addresses as next hop.
#[derive(Clone, Copy)]
pub(super) struct ToUs {
    nlri: bool,
    mp_reach: bool,
}

impl ToUs {
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
        // The NLRI field comes first.
        let nlri = update.nlri.len();
        let prefixes = update.announced().enumerate();
        prefixes.map(move |(position, prefix)| {
            let of_nlri = position < nlri;
            (prefix, if of_nlri { self.nlri } else { self.mp_reach })
        })
    }
}
