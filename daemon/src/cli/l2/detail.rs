//! The details of one address.

use std::net::IpAddr;

use ferrolb_layer2::moves::CandidateStatus;
use ferrolb_layer2::status::{SelfTest, Status};

use super::table::move_row;
use super::words::{ago, node_state, remedy, why};
use crate::cli::output::{Style, age, or_dash, table};
use crate::core::printable::printable;
use crate::runtime::serve::control::layer2::Layer2Status;

pub(super) fn text(found: &Layer2Status, address: IpAddr, style: Style) -> String {
    let Layer2Status {
        status,
        services,
        candidates,
    } = found;
    let Some(detail) = status.addresses.get(&address) else {
        return format!("{address} was just removed: see ferrolb l2\n");
    };
    let since = age(status.now.saturating_sub(detail.since));
    let owner = match &detail.owner {
        Some(owner) => format!("announced by {owner} for {since}"),
        None => format!("no node announces it for {since}"),
    };
    let mut text = format!(
        "{}: {}\n\n",
        style.bold(&address.to_string()),
        printable(&owner)
    );
    let services = services.get(&address).map(|names| names.join(", "));
    let mut lines = vec![
        ("services", or_dash(services.unwrap_or_default())),
        ("why", format!("{} ({:?})", why(detail), detail.reason)),
    ];
    lines.extend(remedy(detail, false).map(|remedy| ("what to do", remedy)));
    lines.push(("claim epoch", detail.epoch.to_string()));
    if !detail.interfaces.is_empty() {
        lines.push(("announced here on", detail.interfaces.join(", ")));
        let traffic = detail.traffic;
        let counts = format!(
            "{} requests received, {} answered; {} unsolicited frames sent",
            traffic.requests, traffic.responses, traffic.gratuitous
        );
        lines.push(("frames of this node", counts));
    }
    let test = detail.self_test.as_ref();
    let never = || "never run".to_owned();
    let test = test.map_or_else(never, |test| self_test_line(status, test));
    lines.push(("self-test", test));
    for (name, value) in lines {
        text += &format!("  {name:19}  {}\n", printable(&value));
    }
    text += &format!("\n{}\n", style.bold("Candidates"));
    text += &candidates_text(candidates);
    if !detail.moves.is_empty() {
        let rows = detail.moves.iter();
        let rows = rows.map(|change| move_row(status, None, change));
        let moves = table(&["WHEN", "FROM", "TO", "WHY"], rows);
        text += &format!("\n{}\n{moves}\n", style.bold("Last moves"));
    }
    text + &format!(
        "\nmove it: ferrolb l2 move {address} NODE; test it: ferrolb l2 test {address}\n"
    )
}

fn candidates_text(candidates: &[CandidateStatus]) -> String {
    if candidates.is_empty() {
        return "none: see ferrolb plan for the reasons\n".to_owned();
    }
    let row = |candidate: &CandidateStatus| {
        let on_link = if candidate.on_link { "yes" } else { "no" };
        vec![
            candidate.node.to_string(),
            candidate.state.map_or("Silent", node_state).to_owned(),
            candidate.weight.to_string(),
            on_link.to_owned(),
            candidate.owned.to_string(),
        ]
    };
    let header = ["NODE", "STATE", "PREFERENCE", "ON-LINK", "OWNS"];
    format!("{}\n", table(&header, candidates.iter().map(row)))
}

fn self_test_line(status: &Status, test: &SelfTest) -> String {
    let result = if test.passed { "passed" } else { "FAILED" };
    let ago = ago(status.now, test.at);
    format!(
        "{result} {ago} ago: {} resolved it, {}",
        test.by,
        answers(status, test)
    )
}

/// Which Ethernet addresses answered, with the nodes that have them.
pub(super) fn answers(status: &Status, test: &SelfTest) -> String {
    let segments = || status.segments.iter();
    let name = |mac| {
        let own = segments().any(|segment| segment.mac == mac);
        let own = own.then_some(&status.node);
        let peers = segments().flat_map(|segment| &segment.peers);
        let mut peers = peers.filter(|peer| peer.mac == mac).map(|peer| &peer.node);
        own.or_else(|| peers.next())
    };
    let answer = |mac: &ferrolb_layer2::mac::Mac| match name(*mac) {
        Some(node) => format!("{mac} ({node})"),
        None => format!("{mac} (no node)"),
    };
    let answers: Vec<String> = test.answers.iter().map(answer).collect();
    if answers.is_empty() {
        "no host answered".to_owned()
    } else {
        format!("answered by {}", answers.join(" and "))
    }
}
