//! Arista EOS. Not run here: written from the vendor's manual.

use super::page::Page;
use super::prefix_lists::{equal, filters};
use super::{HOPS_MAX, PATHS_MAX, lower};
use crate::core::model::Family;
use crate::core::router_config::group::Group;
use crate::core::router_config::names::word;
use crate::core::router_config::needs::{Needs, reference};

const BGP: &str = "https://www.arista.com/en/um-eos/eos-border-gateway-protocol-bgp";
const ROUTE_MAPS: &str = "https://arista.com/en/um-eos/eos-acls-and-route-maps";
const BFD: &str = "https://cloud.google.com/network-connectivity/docs/router/how-to/bfd-interop";

const FIRST: &[&str] =
    &["generated, not run here: Arista EOS with service routing protocols model multi-agent."];

pub(super) fn write(needs: &Needs) -> String {
    let mut page = Page::new("!");
    page.header(needs, FIRST);
    page.note(BGP);
    page.line("ip routing");
    page.line("ipv6 unicast-routing");
    page.blank();
    filters(&mut page, needs, Some(ROUTE_MAPS), equal);
    bgp(&mut page, needs);
    page.into_text()
}

fn bgp(page: &mut Page, needs: &Needs) {
    page.note(format!(
        "{BGP}: router bgp, neighbor, bgp listen range, maximum-paths"
    ));
    page.line(format!("router bgp {}", needs.asn_text()));
    page.line(format!("   router-id {}", needs.router_id_text()));
    page.line("   no bgp default ipv4-unicast");
    if needs.groups.iter().any(Group::graceful_restart) {
        page.note_at(
            "   ",
            "Helping nodes that restart is the default. This lets the switch itself restart.",
        );
        page.line("   graceful-restart");
    }
    page.line(format!("   maximum-paths {PATHS_MAX} ecmp {PATHS_MAX}"));
    if needs.several_node_asns() {
        page.line("   bgp bestpath as-path multipath-relax");
    }
    for group in &needs.groups {
        neighbors(page, group);
    }
    for family in Family::ALL {
        page.line(format!("   address-family {}", lower(family)));
        for group in needs.groups.iter().filter(|group| group.carries(family)) {
            page.line(format!("      neighbor {} activate", group.symbol));
        }
    }
}

fn neighbors(page: &mut Page, group: &Group) {
    let name = &group.symbol;
    page.note_at("   ", group.object.to_string());
    page.line(format!("   neighbor {name} peer group"));
    page.line(format!("   neighbor {name} remote-as {}", group.node_asn()));
    page.line(format!(
        "   neighbor {name} timers {} {}",
        group.keepalive_time(),
        group.hold_time()
    ));
    if !group.router_dials() {
        page.line(format!("   neighbor {name} passive"));
    }
    page.line_if(
        group
            .password
            .as_ref()
            .map(|password| format!("   neighbor {name} password 0 {}", reference(password))),
    );
    page.line_if(
        group
            .ttl_security()
            .map(|hops| format!("   neighbor {name} ttl maximum-hops {hops}")),
    );
    if group.multihop() {
        page.line(format!("   neighbor {name} ebgp-multihop {HOPS_MAX}"));
    }
    if let Some(times) = group.bfd() {
        page.note_at("   ", BFD);
        page.line(format!("   neighbor {name} bfd"));
        page.line(format!(
            "   neighbor {name} bfd interval {} min-rx {} multiplier {}",
            times.transmit, times.receive, times.multiplier
        ));
    }
    page.line(format!("   neighbor {name} route-map {name} in"));
    page.line(format!("   neighbor {name} route-map ferrolb_out out"));
    let counts = Family::ALL.map(|family| group.maximum(family));
    page.note_at("   ", "Both families.");
    page.line(format!(
        "   neighbor {name} maximum-routes {}",
        counts.iter().sum::<u32>().max(1)
    ));
    for member in group.members.named() {
        let address = member.address;
        page.line(format!("   neighbor {address} peer group {name}"));
        page.line(format!(
            "   neighbor {address} description {}",
            word(&member.node)
        ));
    }
    page.line_if(group.members.range().map(|network| {
        format!(
            "   bgp listen range {network} peer-group {name} remote-as {}",
            group.node_asn()
        )
    }));
}
