//! OpenBGPD. Tested with the portable version 7.7.

use super::page::Page;
use super::{CONNECT_RETRY, EXPORT, FILTER, HOPS_MAX, RESTART_MINUTES};
use crate::core::model::Family;
use crate::core::router_config::filter::Permit;
use crate::core::router_config::group::{Group, Member};
use crate::core::router_config::names::word;
use crate::core::router_config::needs::{Needs, reference};

const FIRST: &[&str] = &[
    "OpenBGPD 7.7 or newer. The file must be readable by root only (mode 0600).",
    "It uses one path of each prefix. On Linux it writes no routes to the kernel: it is a route \
     server or collector there.",
];

/// The shortest hold time that the router accepts from a node.
const HOLD_TIME_MIN: u16 = 3;

pub(super) fn write(needs: &Needs) -> String {
    let mut page = Page::new("#");
    page.header(needs, FIRST);
    page.line(format!("AS {}", needs.asn_text()));
    page.line(format!("router-id {}", needs.router_id_text()));
    if needs.groups.iter().any(Group::router_dials) {
        page.line(format!("connect-retry {CONNECT_RETRY}"));
    }
    listen(&mut page, needs);
    page.blank();
    page.note(FILTER);
    for group in &needs.groups {
        prefix_set(&mut page, group);
    }
    for group in &needs.groups {
        page.blank();
        group_of(&mut page, group);
    }
    page.blank();
    page.note(format!("The last rule that matches applies. {EXPORT}"));
    page.line("deny from any");
    page.line("deny to any");
    for group in needs.groups.iter().filter(|group| has_permits(group)) {
        let name = &group.symbol;
        page.line(format!("allow from group \"{name}\" prefix-set {name}"));
    }
    page.into_text()
}

fn listen(page: &mut Page, needs: &Needs) {
    let mut lines: Vec<String> = Vec::new();
    for group in &needs.groups {
        let Some(local) = group.local else { continue };
        let port = group.other_port().map(|port| format!(" port {port}"));
        let line = format!("listen on {local}{}", port.unwrap_or_default());
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    for line in lines {
        page.line(line);
    }
}

fn permits(group: &Group) -> impl Iterator<Item = Permit> {
    let families = Family::ALL.into_iter();
    families.flat_map(move |family| group.permits_of(family))
}

fn has_permits(group: &Group) -> bool {
    permits(group).next().is_some()
}

fn prefix_set(page: &mut Page, group: &Group) {
    if !has_permits(group) {
        return;
    }
    page.line(format!("prefix-set {} {{", group.symbol));
    for permit in permits(group) {
        let Permit { network, length } = permit;
        let lengths = if permit.is_exact() {
            String::new()
        } else {
            format!(" prefixlen = {length}")
        };
        page.line(format!("\t{network}{lengths}"));
    }
    page.line("}");
}

fn group_of(page: &mut Page, group: &Group) {
    page.note(group.object.to_string());
    page.line(format!("group \"{}\" {{", group.symbol));
    page.line(format!("\tremote-as {}", group.node_asn()));
    if !group.router_dials() {
        page.line("\tpassive");
    }
    if group.hold_time() >= HOLD_TIME_MIN {
        page.line(format!("\tholdtime {}", group.hold_time()));
        page.line(format!("\tholdtime min {HOLD_TIME_MIN}"));
    }
    for (family, name) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
        let what = if group.carries(family) {
            "unicast"
        } else {
            "none"
        };
        page.line(format!("\tannounce {name} {what}"));
    }
    if group.graceful_restart() {
        page.line("\tannounce restart yes");
    }
    let maximum: u32 = Family::ALL.map(|family| group.maximum(family)).iter().sum();
    if maximum > 0 {
        page.note_at(
            "\t",
            "Both families. It counts prefixes before the filter: load this file before you add a \
             pool.",
        );
        page.line(format!("\tmax-prefix {maximum} restart {RESTART_MINUTES}"));
    }
    if let Some(password) = &group.password {
        let password = reference(password);
        page.line(format!("\ttcp md5sig password \"{password}\""));
    }
    let hops = group.ttl_security().filter(|hops| *hops > 1);
    let hops = hops.or(group.multihop().then_some(HOPS_MAX));
    page.line_if(hops.map(|hops| format!("\tmultihop {hops}")));
    if group.ttl_security().is_some() {
        page.line("\tttl-security yes");
    }
    let neighbor = |member: &Member| {
        format!(
            "\tneighbor {} {{ descr \"{}\" }}",
            member.address,
            word(&member.node)
        )
    };
    for member in group.members.named() {
        page.line(neighbor(member));
    }
    page.line_if(
        group
            .members
            .range()
            .map(|network| format!("\tneighbor {network} {{ descr \"nodes\" }}")),
    );
    page.line("}");
}
