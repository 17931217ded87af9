//! Routes nobody could use, which are no errors all the same (RFC 4271 §6.3, §9.1.2).

use std::net::IpAddr;

use crate::wire::{Asn, NextHop, Treatment, Update};

/// How many of the prefixes announced come with our own AS in the path, or with one of our own
/// addresses as next hop.
pub(super) fn ineligible(update: &Update, asn: Asn, own: &[IpAddr]) -> u64 {
    if update.treatment() == Some(Treatment::TreatAsWithdraw) {
        return 0;
    }
    let path = update.attributes.as_path.as_ref();
    let looped = path.is_some_and(|path| path.contains(asn));
    let ours = |next_hop: IpAddr| own.contains(&next_hop);
    let count = |unusable: bool, prefixes: usize| if unusable { prefixes } else { 0 };
    let next_hop = update.attributes.next_hop;
    let plain = looped || next_hop.is_some_and(|next_hop| ours(next_hop.into()));
    let reach = update.mp_reach.as_ref().map_or(0, |reach| {
        let to_us = match reach.next_hop {
            NextHop::V4(next_hop) => ours(next_hop.into()),
            NextHop::V6 { global, link_local } => {
                ours(global.into()) || link_local.is_some_and(|address| ours(address.into()))
            }
        };
        count(looped || to_us, reach.nlri.len())
    });
    let all = count(plain, update.nlri.len()) + reach;
    u64::try_from(all).unwrap_or(u64::MAX)
}
