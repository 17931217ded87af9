//! The rules of IPAddressPools: the form of their entries.

use ferrolb_allocator::{canonical, reserved_networks};

use super::Rule;

/// The ends of an entry that is a range.
const FIRST: &str = "self.split('-')[0].trim()";
const LAST: &str = "self.split('-')[1].trim()";

/// An expression: the entry is a range, perhaps of two families.
fn is_range() -> String {
    format!("(size(self.split('-')) == 2 && isIP({FIRST}) && isIP({LAST}))")
}

/// An expression: the value of an IPv4 address.
fn number(address: &str) -> String {
    let octet = |index: usize| format!("int({address}.split('.')[{index}])");
    format!(
        "({} * 16777216 + {} * 65536 + {} * 256 + {})",
        octet(0),
        octet(1),
        octet(2),
        octet(3)
    )
}

/// The rules of IPAddressPools.
pub(in super::super) fn pool_rules() -> Vec<Rule> {
    let mut rules = vec![networks_rule()];
    rules.extend(entry_rules("addresses/items"));
    rules.extend(entry_rules(RESERVATION));
    rules
}

/// The entries of a reservation, which may be single addresses.
const RESERVATION: &str = "reservations/items/properties/addresses/items";

/// The form of an entry, and the order of the ends of a range.
fn entry_rules(pointer: &str) -> [Rule; 3] {
    let range = is_range();
    let (address, message) = if pointer == RESERVATION {
        (
            "isIP(self.trim()) || ",
            "is neither an address, nor a CIDR (192.0.2.0/30), nor a range \
             (192.0.2.10-192.0.2.20)",
        )
    } else {
        (
            "",
            "is neither a CIDR (192.0.2.0/24) nor a range (192.0.2.10-192.0.2.20); for one address \
             write it with /32 or /128",
        )
    };
    let (first, last) = (number(FIRST), number(LAST));
    [
        Rule::text(
            pointer,
            format!("{address}isCIDR(self.trim()) || {range}"),
            message,
        ),
        Rule::text(
            pointer,
            format!("!{range} || ip({FIRST}).family() == ip({LAST}).family()"),
            "mixes IPv4 and IPv6: write one range for each family",
        ),
        Rule::text(
            pointer,
            // CEL can't order IPv6 addresses.
            format!("!{range} || self.contains(':') || {first} <= {last}"),
            "starts above its end: swap the two addresses",
        ),
    ]
}

/// No entry is in a network of which no Service can have an address, or contains one.
fn networks_rule() -> Rule {
    let entry = "self.trim()";
    // In Kubernetes 1.31, containsCIDR is false for a network that is in a shorter one.
    let none_of = |is_ipv4: bool, is_free: &str| {
        // CEL reads no IPv4-mapped addresses.
        let networks = reserved_networks().filter(|network| canonical(*network) == *network);
        let networks = networks.filter(|network| network.addr().is_ipv4() == is_ipv4);
        let networks: Vec<String> = networks.map(|network| format!("'{network}'")).collect();
        format!("[{}].all(n, {is_free})", networks.join(", "))
    };
    let by_family = |is_free: &str| {
        let (v4, v6) = (none_of(true, is_free), none_of(false, is_free));
        format!("(self.contains(':') ? {v6} : {v4})")
    };
    let cidr = by_family(&format!(
        "!cidr(n).containsCIDR({entry}) && !cidr({entry}).containsIP(cidr(n).ip())"
    ));
    let ends = by_family(&format!(
        "!cidr(n).containsIP({FIRST}) && !cidr(n).containsIP({LAST})"
    ));
    Rule::text(
        "addresses/items",
        format!("isCIDR({entry}) ? {cidr} : (!{} || {ends})", is_range()),
        "contains addresses that no service can have (unspecified, loopback, link-local, multicast \
         or broadcast): exclude them from the entry",
    )
}
