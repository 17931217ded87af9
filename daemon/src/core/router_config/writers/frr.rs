//! FRRouting, and the systems that have FRR inside. Tested with FRR 8.4.

use super::page::Page;
use super::prefix_lists::{address_family, filters, from_to};
use super::{CONNECT_RETRY, HOPS_MAX, PATHS_MAX, RESTART_MINUTES};
use crate::core::model::Family;
use crate::core::router_config::group::Group;
use crate::core::router_config::names::word;
use crate::core::router_config::needs::{Needs, reference};

/// What surrounds FRR's configuration.
pub(super) const FRR: &[&str] = &[
    "FRR 8.4 or newer. Load it with: vtysh -f THIS-FILE",
    "The daemons zebra, bgpd and, with BFD, bfdd must run (/etc/frr/daemons).",
];

/// SONiC.
pub(super) const SONIC: &[&str] = &[
    "SONiC runs FRR in its container bgp. ferrolb's lab loads this text into FRR 8.4; SONiC itself \
     was not run here.",
    "Set docker_routing_config_mode of DEVICE_METADATA to split, so that SONiC doesn't write \
     bgpd's configuration from CONFIG_DB. Then add this text to /etc/sonic/frr/bgpd.conf (the part \
     bfd to bfdd.conf beside it), or load it at once:",
    "docker exec -i bgp vtysh -f /dev/stdin < THIS-FILE",
];

/// VyOS.
pub(super) const VYOS: &[&str] = &[
    "VyOS writes FRR's configuration from its own. ferrolb's lab loads this text into FRR 8.4; \
     VyOS itself was not run here.",
    "Load it with vtysh -f THIS-FILE, and again at the end of \
     /config/scripts/vyos-postconfig-bootup.script. A commit that changes protocols bgp or bfd \
     replaces it: leave these to this file, or write the same as set protocols bgp.",
];

/// Cumulus Linux.
pub(super) const CUMULUS: &[&str] = &[
    "Cumulus Linux runs FRR. ferrolb's lab loads this text into FRR 8.4; Cumulus Linux itself was \
     not run here.",
    "Add it to /etc/frr/frr.conf, with bgpd and bfdd enabled in /etc/frr/daemons, then: systemctl \
     reload frr. NVUE replaces that file unless it ignores it: nv set system config apply ignore \
     /etc/frr/frr.conf",
];

pub(super) fn write(needs: &Needs, surroundings: &[&str]) -> String {
    let mut page = Page::new("!");
    page.header(needs, surroundings);
    bfd_profiles(&mut page, needs);
    filters(&mut page, needs, None, from_to);
    bgp(&mut page, needs);
    page.into_text()
}

fn bfd_profiles(page: &mut Page, needs: &Needs) {
    let groups = needs.groups.iter();
    let with_bfd: Vec<_> = groups
        .filter_map(|group| Some((group, group.bfd()?)))
        .collect();
    if with_bfd.is_empty() {
        return;
    }
    page.line("bfd");
    for (group, times) in with_bfd {
        page.line(format!(" profile {}", group.symbol));
        page.line(format!("  transmit-interval {}", times.transmit));
        page.line(format!("  receive-interval {}", times.receive));
        page.line(format!("  detect-multiplier {}", times.multiplier));
        if group.multihop() {
            page.note_at("  ", "Each hop decrements the TTL by one.");
            page.line(format!("  minimum-ttl {}", min_ttl(group)));
        }
        page.line(" exit");
    }
    page.line("exit");
    page.note("When the first session comes up, FRR 8.4 restarts BFD and ends the session once.");
    page.blank();
}

fn min_ttl(group: &Group) -> u8 {
    let bfd = group.session.bfd.as_ref();
    bfd.map_or(u8::MAX - 1, |bfd| bfd.session.min_ttl)
}

fn bgp(page: &mut Page, needs: &Needs) {
    page.line(format!("router bgp {}", needs.asn_text()));
    page.line(format!(" bgp router-id {}", needs.router_id_text()));
    page.line(" bgp log-neighbor-changes");
    page.line(" no bgp default ipv4-unicast");
    restarts(page, needs);
    if needs.several_node_asns() {
        page.note_at(
            " ",
            "The nodes have several AS numbers: without this only one of them gets flows.",
        );
        page.line(" bgp bestpath as-path multipath-relax");
    }
    for group in &needs.groups {
        neighbors(page, group);
    }
    for family in Family::ALL {
        if needs.groups.iter().any(|group| group.carries(family)) {
            family_of(page, needs, family);
        }
    }
    page.line("exit");
}

/// What bgpd does when it restarts itself.
fn restarts(page: &mut Page, needs: &Needs) {
    page.note_at(" ", "When bgpd ends, zebra keeps the routes.");
    page.line(" bgp graceful-restart");
    if needs.can_await_all_nodes() {
        page.note_at(
            " ",
            "When bgpd starts again, it selects paths when all nodes have sent their routes, or 8 \
             s after the first one: otherwise zebra would send all flows to the first node that is \
             back.",
        );
        page.line(" bgp graceful-restart select-defer-time 0");
        page.line(" update-delay 15 8");
    } else {
        page.note_at(
            " ",
            "No update-delay: it needs all nodes by name, and enableGracefulRestart in all \
             BGPPeers.",
        );
    }
}

fn neighbors(page: &mut Page, group: &Group) {
    let name = &group.symbol;
    page.note_at(" ", group.object.to_string());
    page.line(format!(" neighbor {name} peer-group"));
    page.line(format!(" neighbor {name} remote-as {}", group.node_asn()));
    page.line(format!(
        " neighbor {name} timers {} {}",
        group.keepalive_time(),
        group.hold_time()
    ));
    if group.router_dials() {
        page.line(format!(" neighbor {name} timers connect {CONNECT_RETRY}"));
    } else if group.members.range().is_none() && group.members.links().is_empty() {
        page.line(format!(" neighbor {name} passive"));
    }
    if let Some(port) = group.other_port() {
        page.note_at(
            " ",
            format!("The nodes dial port {port}: start bgpd with -p {port}."),
        );
    }
    page.line_if(
        group
            .password
            .as_ref()
            .map(|password| format!(" neighbor {name} password {}", reference(password))),
    );
    page.line_if(
        group
            .ttl_security()
            .map(|hops| format!(" neighbor {name} ttl-security hops {hops}")),
    );
    if group.multihop() {
        page.line(format!(" neighbor {name} ebgp-multihop {HOPS_MAX}"));
        page.line_if(
            group
                .local
                .map(|local| format!(" neighbor {name} update-source {local}")),
        );
    }
    if group.bfd().is_some() {
        page.line(format!(" neighbor {name} bfd"));
        page.line(format!(" neighbor {name} bfd profile {name}"));
    }
    members(page, group);
}

fn members(page: &mut Page, group: &Group) {
    let name = &group.symbol;
    for member in group.members.named() {
        let address = member.address;
        page.line(format!(" neighbor {address} peer-group {name}"));
        page.line(format!(
            " neighbor {address} description {}",
            word(&member.node)
        ));
    }
    if let Some(network) = group.members.range() {
        page.line(format!(" bgp listen range {network} peer-group {name}"));
        page.line(" bgp listen limit 5000");
    }
    if !group.members.links().is_empty() {
        page.note_at(
            " ",
            "Name your interface to each node here, and remove the nodes without a link to this \
             router:",
        );
    }
    for link in group.members.links() {
        let interface = &link.interface;
        page.note_at(" ", format!("to {}", link.node));
        page.line(format!(" neighbor {interface} interface peer-group {name}"));
    }
}

fn family_of(page: &mut Page, needs: &Needs, family: Family) {
    page.line(format!(" {}", address_family(family)));
    for group in needs.groups.iter().filter(|group| group.carries(family)) {
        let name = &group.symbol;
        page.line(format!("  neighbor {name} activate"));
        page.line(format!("  neighbor {name} route-map {name} in"));
        page.line(format!("  neighbor {name} route-map ferrolb_out out"));
        page.note_at(
            "  ",
            "What the filter rejects: show bgp neighbors ADDRESS filtered-routes",
        );
        page.line(format!("  neighbor {name} soft-reconfiguration inbound"));
        let maximum = group.maximum(family);
        if maximum > 0 {
            page.line(format!(
                "  neighbor {name} maximum-prefix {maximum} restart {RESTART_MINUTES}"
            ));
        }
    }
    page.line(format!("  maximum-paths {PATHS_MAX}"));
    if needs.groups.iter().any(Group::may_be_internal) {
        page.line(format!("  maximum-paths ibgp {PATHS_MAX}"));
    }
    page.line(" exit-address-family");
}
