//! MikroTik RouterOS 7. Not run here: written from the vendor's manual.

use super::page::Page;
use super::{EXPORT, FILTER, lower};
use crate::core::model::Family;
use crate::core::router_config::filter::Permit;
use crate::core::router_config::group::Group;
use crate::core::router_config::names::word;
use crate::core::router_config::needs::{Needs, reference};

const FILTERS: &str = "https://mikrotikdocs.fyi/routing/route-selection-and-filters";
const BGP: &str =
    "https://help.mikrotik.com/docs/display/ROS/Moving+from+ROSv6+to+v7+with+examples";
const TEMPLATE: &str =
    "https://www.pulumi.com/registry/packages/routeros/api-docs/routingbgptemplate";
const BFD: &str = "https://mikrotikdocs.fyi/bfd";

const FIRST: &[&str] = &[
    "generated, not run here: MikroTik RouterOS 7. Load it with: /import file-name=THIS-FILE",
    "RouterOS 7 has no statement for the number of paths: look at /ip/route/print whether it \
     balances flows.",
];

pub(super) fn write(needs: &Needs) -> String {
    let mut page = Page::new("#");
    page.header(needs, FIRST);
    page.note(FILTER);
    page.note(FILTERS);
    page.line("/routing filter rule");
    for group in &needs.groups {
        for family in Family::ALL {
            for permit in group.permits_of(family) {
                page.line(rule(&group.symbol, &permit));
            }
        }
        page.line(format!("add chain={} rule=\"reject\"", group.symbol));
    }
    page.note(EXPORT);
    page.line("add chain=ferrolb_out rule=\"reject\"");
    page.blank();
    bfd(&mut page, needs);
    for group in &needs.groups {
        template(&mut page, needs, group);
        connections(&mut page, group);
    }
    page.into_text()
}

fn rule(chain: &str, permit: &Permit) -> String {
    let Permit { network, length } = permit;
    if permit.is_exact() {
        format!("add chain={chain} rule=\"if (dst == {network}) {{ accept }}\"")
    } else {
        format!(
            "add chain={chain} rule=\"if (dst in {network} && dst-len == {length}) \
             {{ accept }}\""
        )
    }
}

fn bfd(page: &mut Page, needs: &Needs) {
    let with_bfd = needs
        .groups
        .iter()
        .filter_map(|group| Some((group, group.bfd()?)));
    let with_bfd: Vec<_> = with_bfd.collect();
    if with_bfd.is_empty() {
        return;
    }
    page.note(BFD);
    page.line("/routing bfd configuration");
    for (group, times) in with_bfd {
        let named = group.members.named().iter();
        let mut addresses: Vec<String> = named.map(|member| member.address.to_string()).collect();
        addresses.extend(group.members.range().map(|network| network.to_string()));
        page.line(format!(
            "add addresses={} min-tx={}ms min-rx={}ms multiplier={}",
            addresses.join(","),
            times.transmit,
            times.receive,
            times.multiplier
        ));
    }
}

fn template(page: &mut Page, needs: &Needs, group: &Group) {
    page.blank();
    page.note(group.object.to_string());
    page.note(TEMPLATE);
    page.line("/routing bgp template");
    let families = Family::ALL
        .into_iter()
        .filter(|family| group.carries(*family));
    let families: Vec<&str> = families
        .map(|family| match family {
            Family::V4 => "ip",
            Family::V6 => "ipv6",
        })
        .collect();
    let limits = Family::ALL
        .into_iter()
        .filter(|family| group.carries(*family));
    let limits: String = limits
        .map(|family| {
            let maximum = group.maximum(family).max(1);
            format!(" input.limit-process-routes-{}={maximum}", lower(family))
        })
        .collect();
    let hold = match group.hold_time() {
        0 => "infinity".to_owned(),
        seconds => format!("{seconds}s keepalive-time={}s", group.keepalive_time()),
    };
    let multihop = if group.multihop() {
        " multihop=yes"
    } else {
        ""
    };
    let bfd = if group.bfd().is_some() {
        " use-bfd=yes"
    } else {
        ""
    };
    page.line(format!(
        "add name={name} as={} router-id={} address-families={} hold-time={hold} \
         input.filter={name}{limits} output.filter-chain=ferrolb_out{multihop}{bfd}",
        needs.asn_text(),
        needs.router_id_text(),
        families.join(","),
        name = group.symbol
    ));
}

fn connections(page: &mut Page, group: &Group) {
    page.note(BGP);
    page.line("/routing bgp connection");
    let (name, asn) = (&group.symbol, group.node_asn());
    let role = if group.is_internal() { "ibgp" } else { "ebgp" };
    let dials = if group.router_dials() {
        "connect=yes listen=yes"
    } else {
        "connect=no listen=yes"
    };
    let local = group.local.map(|local| format!(" local.address={local}"));
    let local = local.unwrap_or_default();
    let password = group
        .password
        .as_ref()
        .map(|password| format!(" tcp-md5-key=\"{}\"", reference(password)));
    let password = password.unwrap_or_default();
    let rest =
        format!("remote.as={asn} local.role={role}{local} {dials}{password} templates={name}");
    for member in group.members.named() {
        page.line(format!(
            "add name={name}_{} comment=\"{}\" remote.address={} {rest}",
            member.symbol,
            word(&member.node),
            member.address
        ));
    }
    page.line_if(
        group
            .members
            .range()
            .map(|network| format!("add name={name} remote.address={network} {rest}")),
    );
}
