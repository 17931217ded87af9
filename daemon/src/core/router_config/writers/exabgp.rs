//! ExaBGP, a route collector. Tested with ExaBGP 4.2.

use super::lower;
use super::page::Page;
use crate::core::model::Family;
use crate::core::router_config::group::{Group, Member};
use crate::core::router_config::needs::{Needs, reference};

const FIRST: &[&str] = &[
    "ExaBGP 4.2 or newer, a route collector: it forwards nothing, and passes what it receives to a \
     program, here events.sh beside this file (peering-examples/exabgp/events.sh of ferrolb). It \
     has neither an import filter nor a maximum number of prefixes: the program must expect any \
     prefix.",
];

pub(super) fn write(needs: &Needs) -> String {
    let mut page = Page::new("#");
    page.header(needs, FIRST);
    let addresses = needs.local_addresses().into_iter();
    let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
    page.note("Run it as root, with its listen addresses:");
    page.example(format!(
        "env exabgp.daemon.user=root exabgp.api.cli=false exabgp.tcp.bind='{}' \
         exabgp.tcp.port=179 exabgp THIS-FILE",
        addresses.join(" ")
    ));
    page.line("process events { run events.sh; encoder json; }");
    for group in &needs.groups {
        page.blank();
        template(&mut page, needs, group);
        for member in group.members.named() {
            neighbor(&mut page, group, member);
        }
    }
    page.into_text()
}

fn template(page: &mut Page, needs: &Needs, group: &Group) {
    page.note(group.object.to_string());
    page.line("template {");
    page.line(format!("  neighbor {} {{", group.symbol));
    page.line(format!("    router-id {};", needs.router_id_text()));
    page.line(format!("    local-as {};", needs.asn_text()));
    page.line(format!("    peer-as {};", group.node_asn()));
    page.line(format!("    hold-time {};", group.hold_time()));
    page.line("    capability { route-refresh enable; }");
    if !group.router_dials() {
        page.line("    passive true;");
    }
    page.line("    listen 179;");
    if let Some(password) = &group.password {
        page.line(format!("    md5-password '{}';", reference(password)));
    }
    if group.ttl_security().is_some() {
        page.note_at(
            "    ",
            "ExaBGP 4.2 sends with the TTL that GTSM requires, but does not check that of nodes.",
        );
        page.line("    outgoing-ttl 255;");
        page.line("    incoming-ttl 255;");
    }
    page.line("    api {");
    page.line("      processes [ events ];");
    page.line("      neighbor-changes;");
    page.line("      receive { parsed; open; update; notification; }");
    page.line("    }");
    page.line("  }");
    page.line("}");
}

fn neighbor(page: &mut Page, group: &Group, member: &Member) {
    page.note(&member.node);
    page.line(format!("neighbor {} {{", member.address));
    page.line(format!("  inherit {};", group.symbol));
    page.line_if(group.local.map(|local| format!("  local-address {local};")));
    let families = Family::ALL
        .into_iter()
        .filter(|family| group.carries(*family));
    let families: Vec<String> = families
        .map(|family| format!("{} unicast;", lower(family)))
        .collect();
    page.line(format!("  family {{ {} }}", families.join(" ")));
    page.line("}");
}
