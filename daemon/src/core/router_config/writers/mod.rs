//! One writer for each syntax. A writer decides nothing: it writes what a router needs and the
//! syntax can express.

mod bird;
mod eos;
mod exabgp;
mod frr;
mod gobgp;
mod junos;
mod nxos;
mod openbgpd;
mod page;
mod prefix_lists;
mod routeros;

use super::fit::Syntax;
use super::needs::Needs;
use crate::core::model::Family;

/// The most next hops of a prefix. Routers that support fewer are limited by their hardware.
const PATHS_MAX: u32 = 64;

/// The number of hops where it isn't known.
const HOPS_MAX: u8 = 255;

/// Seconds between two attempts of a router that dials.
const CONNECT_RETRY: u32 = 5;

/// Minutes until a session that exceeded its maximum number of prefixes starts again.
const RESTART_MINUTES: u32 = 5;

/// What is said about import filters.
const FILTER: &str =
    "Exactly what the nodes may announce: the pools, with the lengths of the advertisements.";

/// What is said about exports.
const EXPORT: &str = "Export nothing: the nodes use their default route.";

/// The configuration in a syntax.
pub(super) fn write(needs: &Needs, syntax: Syntax) -> String {
    match syntax {
        Syntax::Frr => frr::write(needs, frr::FRR),
        Syntax::Sonic => frr::write(needs, frr::SONIC),
        Syntax::Vyos => frr::write(needs, frr::VYOS),
        Syntax::Cumulus => frr::write(needs, frr::CUMULUS),
        Syntax::Bird => bird::write(needs),
        Syntax::Gobgp => gobgp::write(needs),
        Syntax::Openbgpd => openbgpd::write(needs),
        Syntax::Exabgp => exabgp::write(needs),
        Syntax::Eos => eos::write(needs),
        Syntax::Nxos => nxos::write(needs),
        Syntax::Junos => junos::write(needs),
        Syntax::Routeros => routeros::write(needs),
    }
}

/// `4` or `6`, at the end of names.
const fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

/// `ipv4` or `ipv6`.
const fn lower(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}
