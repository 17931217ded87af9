//! Juniper Junos. Not run here: written from the vendor's manuals.

use std::collections::BTreeSet;

use super::page::Page;
use super::{EXPORT, FILTER, HOPS_MAX, RESTART_MINUTES, digit};
use crate::core::model::Family;
use crate::core::router_config::filter::Permit;
use crate::core::router_config::group::Group;
use crate::core::router_config::names::word;
use crate::core::router_config::needs::{Needs, reference};

const FAMILY: &str = "https://juniper.net/documentation/en_US/junos12.3/topics/reference/configuration-statement/family-edit-protocols-bgp.html";
const ROUTE_FILTERS: &str = "https://juniper.net/documentation/en_US/junos12.3/topics/usage-guidelines/policy-configuring-route-lists-for-use-in-routing-policy-match-conditions.html";
const BALANCING: &str = "https://juniper.net/documentation/us/en/software/junos/sampling-forwarding-monitoring/topics/concept/policy-configuring-per-flow-load-balancing.html";
const MULTIPATH: &str = "https://www.juniper.net/documentation/es/junos/topics/topic-map/load-balancing-bgp-session.html";
const RESTART: &str = "https://juniper.net/documentation/us/en/software/junos/high-availability/topics/task/graceful-restart-for-routing-protocols-configuring.html";
const BFD: &str = "https://juniper.net/documentation/en_US/junos13.1/topics/reference/configuration-statement/bfd-liveness-detection-edit-protocols-bgp.html";

const FIRST: &[&str] =
    &["generated, not run here: Juniper Junos. Load it with: load merge THIS-FILE"];

pub(super) fn write(needs: &Needs) -> String {
    let mut page = Page::new("#");
    page.header(needs, FIRST);
    policies(&mut page, needs);
    options(&mut page, needs);
    page.line("protocols {");
    page.line("    bgp {");
    for group in &needs.groups {
        group_of(&mut page, group);
    }
    page.line("    }");
    page.line("}");
    page.into_text()
}

fn policies(page: &mut Page, needs: &Needs) {
    page.line("policy-options {");
    page.note_at("    ", FILTER);
    page.note_at("    ", ROUTE_FILTERS);
    for group in &needs.groups {
        page.line(format!("    policy-statement {} {{", group.symbol));
        terms(page, group);
        page.line("        then reject;");
        page.line("    }");
    }
    page.note_at("    ", EXPORT);
    page.line("    policy-statement ferrolb_out { then reject; }");
    page.note_at("    ", format!("per-packet balances flows: {BALANCING}"));
    page.line("    policy-statement ferrolb_balance { then { load-balance per-packet; } }");
    page.line("}");
}

/// A term for each length: of several route filters in a term only the one with the longest network
/// counts.
fn terms(page: &mut Page, group: &Group) {
    for family in Family::ALL {
        let permits = group.permits_of(family);
        let lengths: BTreeSet<u8> = permits.iter().map(|permit| permit.length).collect();
        for length in lengths {
            let term = format!("{}_{}_{length}", group.symbol, digit(family));
            page.line(format!("        term {term} {{"));
            page.line("            from {");
            for permit in permits.iter().filter(|permit| permit.length == length) {
                page.line(format!("                {}", route_filter(permit)));
            }
            page.line("            }");
            page.line("            then accept;");
            page.line("        }");
        }
    }
}

fn route_filter(permit: &Permit) -> String {
    let Permit { network, length } = permit;
    if permit.is_exact() {
        format!("route-filter {network} exact;")
    } else {
        format!("route-filter {network} prefix-length-range /{length}-/{length};")
    }
}

fn options(page: &mut Page, needs: &Needs) {
    page.line("routing-options {");
    page.line(format!("    router-id {};", needs.router_id_text()));
    page.line(format!("    autonomous-system {};", needs.asn_text()));
    page.line("    forwarding-table { export ferrolb_balance; }");
    if needs.groups.iter().any(Group::graceful_restart) {
        page.note_at(
            "    ",
            format!(
                "Helping nodes that restart is the default, also with BFD, which ends with \
                 ferrolb. This lets the router itself restart: {RESTART}"
            ),
        );
        page.line("    graceful-restart;");
    }
    page.line("}");
}

fn group_of(page: &mut Page, group: &Group) {
    page.note_at("        ", group.object.to_string());
    page.line(format!("        group {} {{", group.symbol));
    let kind = if group.is_internal() {
        "internal"
    } else {
        "external"
    };
    page.line(format!("            type {kind};"));
    if !group.is_internal() {
        page.line(format!("            peer-as {};", group.node_asn()));
    }
    if !group.router_dials() {
        page.line("            passive;");
    }
    if group.hold_time() > 0 {
        page.line(format!("            hold-time {};", group.hold_time()));
    }
    page.line_if(group.password.as_ref().map(|password| {
        format!(
            "            authentication-key \"{}\";",
            reference(password)
        )
    }));
    if group.multihop() {
        page.line(format!("            multihop {{ ttl {HOPS_MAX}; }}"));
        page.line_if(
            group
                .local
                .map(|local| format!("            local-address {local};")),
        );
    }
    bfd(page, group);
    page.line(format!("            import {};", group.symbol));
    page.line("            export ferrolb_out;");
    page.note_at("            ", FAMILY);
    for (family, name) in [(Family::V4, "inet"), (Family::V6, "inet6")] {
        if group.carries(family) {
            let maximum = group.maximum(family).max(1);
            page.line(format!(
                "            family {name} {{ unicast {{ accepted-prefix-limit {{ \
                 maximum {maximum}; teardown idle-timeout {RESTART_MINUTES}; }} }} }}"
            ));
        }
    }
    page.note_at("            ", MULTIPATH);
    page.line("            multipath { multiple-as; }");
    for member in group.members.named() {
        page.line(format!(
            "            neighbor {} {{ description \"{}\"; }}",
            member.address,
            word(&member.node)
        ));
    }
    page.line_if(
        group
            .members
            .range()
            .map(|network| format!("            allow {network};")),
    );
    page.line("        }");
}

fn bfd(page: &mut Page, group: &Group) {
    let Some(times) = group.bfd() else { return };
    page.note_at("            ", BFD);
    page.line("            bfd-liveness-detection {");
    page.line(format!(
        "                minimum-receive-interval {};",
        times.receive
    ));
    page.line(format!(
        "                transmit-interval {{ minimum-interval {}; }}",
        times.transmit
    ));
    page.line(format!("                multiplier {};", times.multiplier));
    page.line("            }");
}
