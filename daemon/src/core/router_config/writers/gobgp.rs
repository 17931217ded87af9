//! GoBGP, in TOML. Tested with GoBGP 3.10.

use super::page::Page;
use super::{CONNECT_RETRY, EXPORT, FILTER, HOPS_MAX, digit, lower};
use crate::core::model::Family;
use crate::core::router_config::group::{Group, Member};
use crate::core::router_config::names::word;
use crate::core::router_config::needs::{Needs, reference};

const FIRST: &[&str] = &[
    "GoBGP 3.10 or newer. Run: gobgpd -t toml -f THIS-FILE",
    "It writes no routes to the kernel: for that it needs FRR's zebra, with the section [zebra].",
];

pub(super) fn write(needs: &Needs) -> String {
    let mut page = Page::new("#");
    page.header(needs, FIRST);
    global(&mut page, needs);
    for group in &needs.groups {
        sets(&mut page, group);
    }
    policy(&mut page, needs);
    for group in &needs.groups {
        page.blank();
        peer_group(&mut page, group);
        neighbors(&mut page, group);
    }
    page.into_text()
}

fn global(page: &mut Page, needs: &Needs) {
    page.line("[global.config]");
    page.line(format!("  as = {}", needs.asn_text()));
    page.line(format!("  router-id = \"{}\"", needs.router_id_text()));
    let addresses = needs.local_addresses().into_iter();
    let addresses: Vec<String> = addresses.map(|address| format!("\"{address}\"")).collect();
    if !addresses.is_empty() {
        page.line(format!("  local-address-list = [{}]", addresses.join(", ")));
    }
    page.note("Paths of several nodes, for zebra.");
    page.line("[global.use-multiple-paths.config]");
    page.line("  enabled = true");
    page.line("[global.apply-policy.config]");
    page.line("  import-policy-list = [\"ferrolb_in\"]");
    page.line("  default-import-policy = \"reject-route\"");
    page.note_at("  ", EXPORT);
    page.line("  default-export-policy = \"reject-route\"");
    page.blank();
}

/// The prefixes and the neighbors of a group. A prefix set contains one family.
fn sets(page: &mut Page, group: &Group) {
    for family in Family::ALL {
        let permits = group.permits_of(family);
        if permits.is_empty() {
            continue;
        }
        page.line("[[defined-sets.prefix-sets]]");
        let name = format!("{}_{}", group.symbol, digit(family));
        page.line(format!("  prefix-set-name = \"{name}\""));
        for permit in permits {
            let length = permit.length;
            page.line("  [[defined-sets.prefix-sets.prefix-list]]");
            page.line(format!("    ip-prefix = \"{}\"", permit.network));
            page.line(format!("    masklength-range = \"{length}..{length}\""));
        }
    }
    let of_member = |member: &Member| {
        let bits = if member.address.is_ipv4() { 32 } else { 128 };
        format!("\"{}/{bits}\"", member.address)
    };
    let mut neighbors: Vec<String> = group.members.named().iter().map(of_member).collect();
    neighbors.extend(
        group
            .members
            .range()
            .map(|network| format!("\"{network}\"")),
    );
    page.line("[[defined-sets.neighbor-sets]]");
    page.line(format!("  neighbor-set-name = \"{}\"", group.symbol));
    page.line(format!("  neighbor-info-list = [{}]", neighbors.join(", ")));
}

fn policy(page: &mut Page, needs: &Needs) {
    page.blank();
    page.note(FILTER);
    page.line("[[policy-definitions]]");
    page.line("  name = \"ferrolb_in\"");
    for group in &needs.groups {
        for family in Family::ALL {
            if group.permits_of(family).is_empty() {
                continue;
            }
            let name = format!("{}_{}", group.symbol, digit(family));
            page.line("  [[policy-definitions.statements]]");
            page.line(format!("    name = \"{name}\""));
            page.line("    [policy-definitions.statements.conditions.match-prefix-set]");
            page.line(format!("      prefix-set = \"{name}\""));
            page.line("    [policy-definitions.statements.conditions.match-neighbor-set]");
            page.line(format!("      neighbor-set = \"{}\"", group.symbol));
            page.line("    [policy-definitions.statements.actions]");
            page.line("      route-disposition = \"accept-route\"");
        }
    }
}

fn peer_group(page: &mut Page, group: &Group) {
    page.note(group.object.to_string());
    page.line("[[peer-groups]]");
    page.line("  [peer-groups.config]");
    page.line(format!("    peer-group-name = \"{}\"", group.symbol));
    page.line(format!("    peer-as = {}", group.node_asn()));
    if !group.router_dials() {
        page.line("  [peer-groups.transport.config]");
        page.line("    passive-mode = true");
    }
    page.line("  [peer-groups.timers.config]");
    page.line(format!("    hold-time = {}", group.hold_time()));
    page.line(format!(
        "    keepalive-interval = {}",
        group.keepalive_time()
    ));
    if group.router_dials() {
        page.line(format!("    connect-retry = {CONNECT_RETRY}"));
    }
    if group.multihop() {
        page.line("  [peer-groups.ebgp-multihop.config]");
        page.line("    enabled = true");
        page.line(format!("    multihop-ttl = {HOPS_MAX}"));
    }
    if let Some(hops) = group.ttl_security() {
        page.line("  [peer-groups.ttl-security.config]");
        page.line("    enabled = true");
        page.line(format!("    ttl-min = {}", 256 - u16::from(hops)));
    }
    graceful_restart(page, group);
    for family in Family::ALL {
        if group.carries(family) {
            afi_safi(page, group, family);
        }
    }
}

fn graceful_restart(page: &mut Page, group: &Group) {
    let Some(restart) = &group.session.graceful_restart else {
        return;
    };
    page.note_at(
        "  ",
        "GoBGP keeps the routes of a node that restarts, and those of a silent node too: it \
         receives traffic for the hold time and the restart time together.",
    );
    page.line("  [peer-groups.graceful-restart.config]");
    page.line("    enabled = true");
    page.line(format!("    restart-time = {}", restart.restart_time));
    if restart.notification {
        page.line("    notification-enabled = true");
    }
}

fn afi_safi(page: &mut Page, group: &Group, family: Family) {
    page.line("  [[peer-groups.afi-safis]]");
    page.line("    [peer-groups.afi-safis.config]");
    page.line(format!(
        "      afi-safi-name = \"{}-unicast\"",
        lower(family)
    ));
    let maximum = group.maximum(family);
    if maximum > 0 {
        page.line("    [peer-groups.afi-safis.prefix-limit.config]");
        page.line(format!("      max-prefixes = {maximum}"));
    }
    if group.graceful_restart() {
        page.line("    [peer-groups.afi-safis.mp-graceful-restart.config]");
        page.line("      enabled = true");
    }
}

fn neighbors(page: &mut Page, group: &Group) {
    for member in group.members.named() {
        page.line("[[neighbors]]");
        page.line("  [neighbors.config]");
        page.line(format!("    neighbor-address = \"{}\"", member.address));
        page.line(format!("    peer-group = \"{}\"", group.symbol));
        page.line(format!("    description = \"{}\"", word(&member.node)));
        page.line_if(
            group
                .password
                .as_ref()
                .map(|password| format!("    auth-password = \"{}\"", reference(password))),
        );
    }
    if let Some(network) = group.members.range() {
        page.line("[[dynamic-neighbors]]");
        page.line("  [dynamic-neighbors.config]");
        page.line(format!("    prefix = \"{network}\""));
        page.line(format!("    peer-group = \"{}\"", group.symbol));
    }
}
