//! The overview: addresses, last moves, neighbors and interfaces.

use std::cmp::Reverse;
use std::net::IpAddr;

use ferrolb_layer2::status::{AddressStatus, Move, SegmentStatus, Status};

use super::words::{ago, node_state, peer_state, remedy, self_test, span, why};
use crate::cli::output::{Style, age, or_dash, table};
use crate::core::decide::owner_reason::in_words;
use crate::core::printable::printable;
use crate::runtime::serve::control::layer2::Layer2Status;

/// The overview has at most this many moves.
const MAX_MOVES: usize = 8;
/// More addresses than this with the same remedy are printed on one line.
const MAX_LISTED: usize = 3;

pub(super) fn text(found: &Layer2Status, style: Style) -> String {
    let Layer2Status {
        status, services, ..
    } = found;
    let mut text = summary(status, style);
    let row = |(address, found): (&IpAddr, &AddressStatus)| {
        let services = services.get(address).map(|names| names.join(", "));
        vec![
            address.to_string(),
            or_dash(services.unwrap_or_default()),
            or_dash(found.owner.as_deref().unwrap_or_default().to_owned()),
            age(status.now.saturating_sub(found.since)),
            why(found),
            self_test(status.now, found.self_test.as_ref()),
        ]
    };
    if !status.addresses.is_empty() {
        let header = ["ADDRESS", "SERVICE", "OWNER", "FOR", "WHY", "SELF-TEST"];
        text += &format!("\n{}\n", table(&header, status.addresses.iter().map(row)));
    }
    text += &remedies(status, style);
    text += &last_moves(status, style);
    text += &neighbors(&status.segments, status, style);
    text += &interfaces(&status.segments, style);
    if !status.addresses.is_empty() {
        text += "\ndetails of one address: ferrolb l2 ADDRESS\n";
    }
    text
}

fn summary(status: &Status, style: Style) -> String {
    let total = status.addresses.len();
    let addresses = if total == 0 {
        "no address: no L2Advertisement selects a service with an address".to_owned()
    } else {
        format!("announces {} of {total} addresses", status.owned().count())
    };
    let state = node_state(status.state);
    format!("{} ({state}): {addresses}\n", style.bold(&status.node))
}

/// What the operator can do. What many addresses need is listed once.
fn remedies(status: &Status, style: Style) -> String {
    let mut peers = status.segments.iter().flat_map(|segment| &segment.peers);
    let rejected = peers.any(|peer| peer.rejected.is_some());
    let mut groups: Vec<(String, Vec<&IpAddr>)> = Vec::new();
    for (address, found) in &status.addresses {
        let Some(remedy) = remedy(found, rejected) else {
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == remedy) {
            Some((_, addresses)) => addresses.push(address),
            None => groups.push((remedy, vec![address])),
        }
    }
    let line = |(remedy, addresses): &(String, Vec<&IpAddr>)| {
        let named = addresses.iter().take(MAX_LISTED);
        let named: Vec<String> = named.map(|a| style.red(&a.to_string())).collect();
        let others = match addresses.len() - named.len() {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        format!("{}{others}: {}\n", named.join(", "), printable(remedy))
    };
    let lines: String = groups.iter().map(line).collect();
    if lines.is_empty() {
        lines
    } else {
        format!("\n{lines}")
    }
}

/// The last changes of owners, of all addresses.
fn last_moves(status: &Status, style: Style) -> String {
    let mut moves: Vec<(&IpAddr, &Move)> = Vec::new();
    for (address, found) in &status.addresses {
        moves.extend(found.moves.iter().map(|change| (address, change)));
    }
    moves.sort_by_key(|(address, change)| (Reverse(change.at), **address));
    moves.truncate(MAX_MOVES);
    if moves.is_empty() {
        return String::new();
    }
    let rows = moves
        .into_iter()
        .map(|(address, change)| move_row(status, Some(address), change));
    let heading = style.bold("Last moves");
    let header = ["WHEN", "ADDRESS", "FROM", "TO", "WHY"];
    format!("\n{heading}\n{}\n", table(&header, rows))
}

/// A change of the owner.
pub(super) fn move_row(status: &Status, address: Option<&IpAddr>, change: &Move) -> Vec<String> {
    let node = |node: Option<&str>| or_dash(node.unwrap_or_default().to_owned());
    let mut row = vec![format!("{} ago", ago(status.now, change.at))];
    row.extend(address.map(ToString::to_string));
    row.push(node(change.from.as_deref()));
    row.push(node(change.to.as_deref()));
    row.push(in_words(change.reason, change.from.as_deref()));
    row
}

fn neighbors(segments: &[SegmentStatus], status: &Status, style: Style) -> String {
    let rows: Vec<Vec<String>> = segments
        .iter()
        .flat_map(|segment| segment.peers.iter().map(move |peer| (segment, peer)))
        .map(|(segment, peer)| {
            let mut row = vec![
                segment.interface.to_string(),
                peer.node.to_string(),
                peer_state(peer).to_owned(),
            ];
            // No hello of it was ever accepted.
            if peer.last_hello.is_zero() {
                row.extend(["never", "-", "-", "-"].map(str::to_owned));
            } else {
                row.push(format!("{} ago", ago(status.now, peer.last_hello)));
                row.push(span(peer.interval));
                row.push(peer.owned.to_string());
                row.push(peer.mac.to_string());
            }
            row
        })
        .collect();
    let heading = style.bold("Neighbors");
    if rows.is_empty() {
        let none = "no hello of another node arrives on any interface";
        return format!("\n{heading}\n{none}\n");
    }
    let header = [
        "INTERFACE",
        "NODE",
        "STATE",
        "LAST HELLO",
        "INTERVAL",
        "OWNS",
        "ETHERNET ADDRESS",
    ];
    let mut text = format!("\n{heading}\n{}\n", table(&header, rows));
    for peer in segments.iter().flat_map(|segment| &segment.peers) {
        if let Some(why) = &peer.rejected {
            let node = style.red(&peer.node);
            text += &format!("{node}: its hellos are rejected: {}\n", printable(why));
        }
    }
    text
}

fn interfaces(segments: &[SegmentStatus], style: Style) -> String {
    let heading = style.bold("Interfaces");
    if segments.is_empty() {
        let none = "no usable interface: each one is down, enslaved, or excluded by name";
        return format!("\n{heading}\n{none}\n");
    }
    let row = |segment: &SegmentStatus| {
        let networks: Vec<String> = segment.networks.iter().map(ToString::to_string).collect();
        let alive = segment.peers.iter().filter(|peer| peer.alive).count();
        let mut state = if segment.carrier { "up" } else { "no carrier" }.to_owned();
        if segment.promiscuous {
            state += ", promiscuous";
        }
        vec![
            segment.interface.to_string(),
            segment.mac.to_string(),
            state,
            format!("{alive} of {}", segment.peers.len()),
            or_dash(networks.join(", ")),
        ]
    };
    let header = [
        "INTERFACE",
        "ETHERNET ADDRESS",
        "STATE",
        "NEIGHBORS",
        "NETWORKS",
    ];
    let rows = segments.iter().map(row);
    let mut text = format!("\n{heading}\n{}\n", table(&header, rows));
    for segment in segments {
        let name = style.yellow(&segment.interface);
        for warning in &segment.warnings {
            text += &format!("{name}: {}\n", printable(warning));
        }
    }
    text
}
