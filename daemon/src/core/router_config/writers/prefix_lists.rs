//! Import filters of the syntaxes that descend from Cisco's: prefix lists and route maps.

use super::page::Page;
use super::{EXPORT, FILTER, digit, lower};
use crate::core::model::Family;
use crate::core::router_config::filter::Permit;
use crate::core::router_config::group::Group;
use crate::core::router_config::needs::Needs;

/// The words `ip` or `ipv6` of prefix lists.
const fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ipv6",
    }
}

/// The lengths of a permit, if they aren't that of its network.
pub(super) type Lengths = fn(u8) -> String;

/// ` ge 32 le 32`.
pub(super) fn from_to(length: u8) -> String {
    format!(" ge {length} le {length}")
}

/// ` eq 32`.
pub(super) fn equal(length: u8) -> String {
    format!(" eq {length}")
}

/// The filters of all groups, with the document that their statements come from.
pub(super) fn filters(page: &mut Page, needs: &Needs, source: Option<&str>, lengths: Lengths) {
    page.note(FILTER);
    if let Some(source) = source {
        page.note(source);
    }
    for group in &needs.groups {
        prefix_lists(page, group, lengths);
        route_map(page, group);
    }
    page.note(EXPORT);
    page.line("route-map ferrolb_out deny 10");
    page.blank();
}

/// The prefix lists of a group, a line for each entry.
fn prefix_lists(page: &mut Page, group: &Group, lengths: Lengths) {
    for family in Family::ALL {
        let entries = group.permits_of(family).into_iter().zip(1_u32..);
        for (Permit { network, length }, number) in entries {
            let exact = length == network.prefix_len();
            let lengths = if exact {
                String::new()
            } else {
                lengths(length)
            };
            page.line(format!(
                "{} prefix-list {} seq {} permit {network}{lengths}",
                ip(family),
                list(group, family),
                number * 10
            ));
        }
    }
}

/// The name of a prefix list.
fn list(group: &Group, family: Family) -> String {
    format!("{}_{}", group.symbol, digit(family))
}

/// The route map that accepts what the prefix lists permit, and rejects everything else.
fn route_map(page: &mut Page, group: &Group) {
    let name = &group.symbol;
    let families = Family::ALL.into_iter().zip([10, 20]);
    let mut is_empty = true;
    for (family, number) in families {
        if group.permits_of(family).is_empty() {
            continue;
        }
        is_empty = false;
        page.line(format!("route-map {name} permit {number}"));
        page.line(format!(
            " match {} address prefix-list {}",
            ip(family),
            list(group, family)
        ));
    }
    if is_empty {
        page.line(format!("route-map {name} deny 10"));
    }
}

/// `address-family ipv4 unicast`.
pub(super) fn address_family(family: Family) -> String {
    format!("address-family {} unicast", lower(family))
}
