//! BIRD 2. Tested with BIRD 2.0.12.

use super::page::Page;
use super::{CONNECT_RETRY, FILTER, HOPS_MAX, PATHS_MAX, digit, lower};
use crate::core::model::Family;
use crate::core::router_config::filter::Permit;
use crate::core::router_config::group::{BfdTimes, Group};
use crate::core::router_config::names::word;
use crate::core::router_config::needs::{Needs, reference};

const FIRST: &[&str] = &[
    "BIRD 2.0.12 or newer. If bird.conf has router id, protocol device, kernel or bfd already, \
     merge those by hand.",
];

pub(super) fn write(needs: &Needs) -> String {
    let mut page = Page::new("#");
    page.header(needs, FIRST);
    page.line(format!("router id {};", needs.router_id_text()));
    if needs.can_await_all_nodes() {
        page.note(
            "Start BIRD as bird -R (/etc/bird/envvars: BIRD_ARGS=\"-R\"): it changes the kernel's \
             routes when all nodes have sent theirs, or after this time.",
        );
        page.line("graceful restart wait 15;");
    }
    page.blank();
    page.note(FILTER);
    for group in &needs.groups {
        for family in Family::ALL {
            filter(&mut page, group, family);
        }
    }
    page.blank();
    surroundings(&mut page, needs);
    for group in &needs.groups {
        page.blank();
        template(&mut page, needs, group);
        protocols(&mut page, group);
    }
    page.into_text()
}

fn filter(page: &mut Page, group: &Group, family: Family) {
    if !group.carries(family) {
        return;
    }
    let permits = group.permits_of(family);
    page.line(format!("filter {}_{} {{", group.symbol, digit(family)));
    if !permits.is_empty() {
        let set: Vec<String> = permits.iter().map(pattern).collect();
        page.line(format!("  if net ~ [ {} ] then accept;", set.join(", ")));
    }
    page.line("  reject;");
    page.line("}");
}

fn pattern(permit: &Permit) -> String {
    let Permit { network, length } = permit;
    if permit.is_exact() {
        network.to_string()
    } else {
        format!("{network}{{{length},{length}}}")
    }
}

/// The protocols that BIRD needs beside BGP.
fn surroundings(page: &mut Page, needs: &Needs) {
    page.line("protocol device {}");
    if needs.groups.iter().any(Group::multihop) {
        page.note("Next hops of nodes behind other routers are resolved in BIRD's tables.");
        page.line("protocol direct { ipv4; ipv6; }");
    }
    page.note(
        "Load balancing: the kernel gets one next hop for each node that announces the address.",
    );
    let graceful = if needs.can_await_all_nodes() {
        " graceful restart;"
    } else {
        ""
    };
    for family in Family::ALL {
        page.line(format!(
            "protocol kernel {{ {} {{ import none; export where source = RTS_BGP; }}; \
             merge paths on limit {PATHS_MAX};{graceful} }}",
            lower(family)
        ));
    }
    if needs.groups.iter().any(|group| group.bfd().is_some()) {
        page.line("protocol bfd {}");
    }
    let links: Vec<String> = needs
        .groups
        .iter()
        .flat_map(|group| group.members.links())
        .map(|link| format!("\"{}\"", link.interface))
        .collect();
    if !links.is_empty() {
        page.note(
            "Name your interface to each node here and below, and remove the nodes without a link \
             to this router. The nodes learn the router's address from these advertisements; with \
             lifetime 0 they don't use it as default router.",
        );
        page.line(format!(
            "protocol radv {{ interface {} {{ min ra interval 3; max ra interval 10; default \
             lifetime 0; }}; }}",
            links.join(", ")
        ));
    }
}

fn template(page: &mut Page, needs: &Needs, group: &Group) {
    page.note(group.object.to_string());
    page.line(format!("template bgp {} {{", group.symbol));
    let local = group.local.map(|local| format!(" {local}"));
    let port = group.other_port().map(|port| format!(" port {port}"));
    page.line(format!(
        "  local{}{} as {};",
        local.unwrap_or_default(),
        port.unwrap_or_default(),
        needs.asn_text()
    ));
    page.line(format!("  hold time {};", group.hold_time()));
    if group.hold_time() > 0 {
        page.line(format!("  keepalive time {};", group.keepalive_time()));
    }
    page.note_at(
        "  ",
        "After an error BIRD refuses connections of the node, by default for 60 seconds and more.",
    );
    page.line("  error wait time 1, 10;");
    if group.router_dials() {
        page.line("  connect delay time 1;");
        page.line(format!("  connect retry time {CONNECT_RETRY};"));
    } else if group.members.range().is_none() && group.members.links().is_empty() {
        page.line("  passive on;");
    }
    page.line_if(
        group
            .password
            .as_ref()
            .map(|password| format!("  password \"{}\";", reference(password))),
    );
    distance(page, group);
    if let Some(times) = group.bfd() {
        bfd(page, group, times);
    }
    if group.graceful_restart() {
        page.note_at(
            "  ",
            "BIRD keeps the routes of a node that restarts by default. This lets BIRD itself \
             restart.",
        );
        page.line("  graceful restart on;");
    }
    for family in Family::ALL {
        if group.carries(family) {
            channel(page, group, family);
        }
    }
    page.line("}");
}

/// How far away the nodes are.
fn distance(page: &mut Page, group: &Group) {
    let hops = group.ttl_security().filter(|hops| *hops > 1);
    let hops = hops.or(group.multihop().then_some(HOPS_MAX));
    if let Some(hops) = hops {
        page.line(format!("  multihop {hops};"));
    } else if group.is_internal() {
        page.note_at(
            "  ",
            "The nodes are on a network of this router: use their next hops directly.",
        );
        page.line("  direct;");
    }
    if group.ttl_security().is_some() {
        page.line("  ttl security on;");
    }
}

fn bfd(page: &mut Page, group: &Group, times: BfdTimes) {
    let graceful = if group.graceful_restart() {
        page.note_at(
            "  ",
            "graceful: a restart of ferrolb, with which its BFD ends, breaks no connection. A node \
             that is cut off receives traffic for the restart time (restartTime of the BGPPeer): \
             BIRD can't distinguish the two.",
        );
        "graceful; "
    } else {
        ""
    };
    if group.multihop() {
        page.note_at(
            "  ",
            "BIRD sends BFD packets with a TTL of 64: set minimumTtl of the BFDProfile to 64 minus \
             the number of hops.",
        );
    }
    page.line(format!(
        "  bfd {{ {graceful}min tx interval {} ms; min rx interval {} ms; multiplier {}; }};",
        times.transmit, times.receive, times.multiplier
    ));
}

fn channel(page: &mut Page, group: &Group, family: Family) {
    let extended = if family == Family::V4 && group.extended_next_hop() {
        "extended next hop on; "
    } else {
        ""
    };
    let maximum = group.maximum(family);
    let limit = if maximum > 0 {
        format!(" import limit {maximum} action block;")
    } else {
        String::new()
    };
    page.line(format!(
        "  {} {{ {extended}import keep filtered; import filter {}_{};{limit} export none; }};",
        lower(family),
        group.symbol,
        digit(family)
    ));
}

fn protocols(page: &mut Page, group: &Group) {
    let (name, asn) = (&group.symbol, group.node_asn());
    for member in group.members.named() {
        page.line(format!(
            "protocol bgp {name}_{} from {name} {{ description \"{}\"; neighbor {} as {asn}; }}",
            member.symbol,
            word(&member.node),
            member.address
        ));
    }
    if let Some(network) = group.members.range() {
        page.line(format!(
            "protocol bgp {name}_all from {name} {{ neighbor range {network} as {asn}; dynamic \
             name \"{name}_\"; }}"
        ));
    }
    for link in group.members.links() {
        page.line(format!(
            "protocol bgp {name}_{} from {name} {{ interface \"{}\"; neighbor range fe80::/10 as \
             {asn}; dynamic name \"{name}_{}_\"; }}",
            link.symbol, link.interface, link.symbol
        ));
    }
}
