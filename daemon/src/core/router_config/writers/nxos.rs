//! Cisco NX-OS. Not run here: written from the vendor's manuals.

use super::page::Page;
use super::prefix_lists::{address_family, equal, filters};
use super::{HOPS_MAX, PATHS_MAX, RESTART_MINUTES};
use crate::core::model::Family;
use crate::core::router_config::group::{BfdTimes, Group};
use crate::core::router_config::names::word;
use crate::core::router_config::needs::{Needs, reference};

const BGP: &str = "https://www.cisco.com/c/en/us/td/docs/switches/datacenter/nexus9000/sw/92x/unicast/configuration/guide/b-cisco-nexus-9000-series-nx-os-unicast-routing-configuration-guide-92x/b-cisco-nexus-9000-series-nx-os-unicast-routing-configuration-guide-92x_chapter_01011.html";
const PREFIX_LISTS: &str =
    "https://manualshive.com/en/manual/cisco/nexus-3548-series/2609162?page=214";
const BFD: &str = "https://cisco.com/c/en/us/support/docs/switches/nexus-9000-series-switches/221944-configure-and-verify-bfd-on-nexus-9000-s.html";

const FIRST: &[&str] = &["generated, not run here: Cisco NX-OS 9.2 or newer."];

pub(super) fn write(needs: &Needs) -> String {
    let mut page = Page::new("!");
    page.header(needs, FIRST);
    page.note(BGP);
    page.line("feature bgp");
    bfd(&mut page, needs);
    page.blank();
    filters(&mut page, needs, Some(PREFIX_LISTS), equal);
    bgp(&mut page, needs);
    page.into_text()
}

/// NX-OS has one set of BFD times for all sessions, or one for each interface.
fn bfd(page: &mut Page, needs: &Needs) {
    let all = needs.groups.iter().filter_map(Group::bfd);
    let slowest = all.reduce(|one, other| BfdTimes {
        transmit: one.transmit.max(other.transmit),
        receive: one.receive.max(other.receive),
        multiplier: one.multiplier.max(other.multiplier),
    });
    let Some(times) = slowest else { return };
    page.note(BFD);
    page.line("feature bfd");
    page.note("For all sessions: the longest times of all BFDProfiles.");
    page.line(format!(
        "bfd interval {} min_rx {} multiplier {}",
        times.transmit, times.receive, times.multiplier
    ));
}

fn bgp(page: &mut Page, needs: &Needs) {
    page.note(format!(
        "{BGP}: templates, prefix peering, passwords, maximum prefixes, load sharing, graceful \
         restart, BFD"
    ));
    page.line(format!("router bgp {}", needs.asn_text()));
    page.line(format!("  router-id {}", needs.router_id_text()));
    page.line("  log-neighbor-changes");
    if needs.groups.iter().any(Group::graceful_restart) {
        page.line("  graceful-restart");
    }
    if needs.several_node_asns() {
        page.line("  bestpath as-path multipath-relax");
    }
    for family in Family::ALL {
        page.line(format!("  {}", address_family(family)));
        page.line(format!("    maximum-paths {PATHS_MAX}"));
        if needs.groups.iter().any(Group::may_be_internal) {
            page.line(format!("    maximum-paths ibgp {PATHS_MAX}"));
        }
    }
    for group in &needs.groups {
        template(page, group);
        members(page, group);
    }
}

fn template(page: &mut Page, group: &Group) {
    let name = &group.symbol;
    page.note_at("  ", group.object.to_string());
    page.line(format!("  template peer {name}"));
    page.line(format!("    remote-as {}", group.node_asn()));
    page.line(format!(
        "    timers {} {}",
        group.keepalive_time(),
        group.hold_time()
    ));
    if !group.router_dials() {
        page.line("    transport connection-mode passive");
    }
    page.line_if(
        group
            .password
            .as_ref()
            .map(|password| format!("    password 0 {}", reference(password))),
    );
    page.line_if(
        group
            .ttl_security()
            .map(|hops| format!("    ttl-security hops {hops}")),
    );
    if group.multihop() {
        page.line(format!("    ebgp-multihop {HOPS_MAX}"));
    }
    if group.bfd().is_some() {
        page.line("    bfd");
    }
    for family in Family::ALL {
        if !group.carries(family) {
            continue;
        }
        page.line(format!("    {}", address_family(family)));
        page.line(format!("      route-map {name} in"));
        page.line("      route-map ferrolb_out out");
        let maximum = group.maximum(family).max(1);
        page.line(format!(
            "      maximum-prefix {maximum} restart {RESTART_MINUTES}"
        ));
    }
}

fn members(page: &mut Page, group: &Group) {
    for member in group.members.named() {
        page.line(format!("  neighbor {}", member.address));
        page.line(format!("    inherit peer {}", group.symbol));
        page.line(format!("    description {}", word(&member.node)));
    }
    if let Some(network) = group.members.range() {
        page.line(format!(
            "  neighbor {network} remote-as {}",
            group.node_asn()
        ));
        page.line(format!("    inherit peer {}", group.symbol));
    }
}
