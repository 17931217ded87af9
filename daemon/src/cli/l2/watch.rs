//! `ferrolb l2 --watch`: a line for each change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;

use ferrolb_layer2::status::{AddressStatus, PeerStatus, SegmentStatus};
use serde::Serialize;

use super::words::{peer_state, remedy, why};
use crate::cli::Output;
use crate::cli::client_args::POLL_INTERVAL;
use crate::cli::output::{json_line, or_dash, try_print};
use crate::core::printable::printable;
use crate::runtime::serve::control::Request;
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::layer2::{IDLE, Layer2Status};

/// What has a line of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Address(IpAddr),
    Interface(Box<str>),
    Peer(Box<str>, String),
}

/// The current state of it.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Address {
        address: IpAddr,
        /// Seconds by the clock of the other times.
        now: f64,
        #[serde(flatten)]
        status: AddressStatus,
    },
    Interface(SegmentStatus),
    Peer {
        interface: Box<str>,
        now: f64,
        #[serde(flatten)]
        status: PeerStatus,
    },
}

impl Line {
    /// Whether a relevant fact changed. Times and counters are not relevant.
    fn differs(&self, old: &Self) -> bool {
        match (old, self) {
            (Self::Address { status: old, .. }, Self::Address { status: new, .. }) => {
                let facts = |found: &AddressStatus| {
                    let test = found.self_test.as_ref();
                    let test = test.map(|test| (test.passed, test.answers.clone()));
                    let owner = found.owner.clone();
                    (owner, found.epoch, found.reason, found.conflict, test)
                };
                facts(old) != facts(new)
            }
            (Self::Interface(old), Self::Interface(new)) => {
                let facts = |found: &SegmentStatus| {
                    let warnings = found.warnings.clone();
                    (found.mac, found.carrier, found.promiscuous, warnings)
                };
                facts(old) != facts(new)
            }
            (Self::Peer { status: old, .. }, Self::Peer { status: new, .. }) => {
                let facts = |peer: &PeerStatus| (peer_state(peer), peer.mac, peer.rejected.clone());
                facts(old) != facts(new)
            }
            _ => true,
        }
    }

    /// The change, for people.
    fn text(&self, old: Option<&Self>) -> String {
        match self {
            Self::Address {
                address, status, ..
            } => {
                let before = match old {
                    Some(Self::Address { status, .. }) => status.owner.as_deref(),
                    _ => None,
                };
                address_text(*address, before, status)
            }
            Self::Interface(segment) => {
                let state = if segment.carrier { "up" } else { "no carrier" };
                let warnings: String = segment.warnings.iter().map(|w| format!("; {w}")).collect();
                format!("{}  {state}{warnings}", segment.interface)
            }
            Self::Peer {
                interface, status, ..
            } => {
                let why = status.rejected.as_ref();
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                format!("{interface}  {}  {}{why}", status.node, peer_state(status))
            }
        }
    }
}

fn address_text(address: IpAddr, before: Option<&str>, found: &AddressStatus) -> String {
    let after = found.owner.as_deref();
    let node = |node: Option<&str>| or_dash(node.unwrap_or_default().to_owned());
    let mut text = if before == after {
        format!("{address}  {}", node(after))
    } else {
        format!("{address}  {} → {}", node(before), node(after))
    };
    text += &format!("  {}", why(found));
    if let Some(remedy) = remedy(found, false) {
        text += &format!("; {remedy}");
    }
    if let Some(test) = found.self_test.as_ref().filter(|test| !test.passed) {
        text += &format!("; the self-test by {} failed", test.by);
    }
    text
}

type Lines = BTreeMap<Key, Line>;

fn lines(found: Option<Layer2Status>) -> Lines {
    let mut lines = Lines::new();
    let Some(Layer2Status { status, .. }) = found else {
        return lines;
    };
    let now = status.now.as_secs_f64();
    for (address, status) in status.addresses {
        let line = Line::Address {
            address,
            now,
            status,
        };
        lines.insert(Key::Address(address), line);
    }
    for mut segment in status.segments {
        let interface = segment.interface.clone();
        for status in std::mem::take(&mut segment.peers) {
            let key = Key::Peer(interface.clone(), status.node.to_string());
            let interface = interface.clone();
            let line = Line::Peer {
                interface,
                now,
                status,
            };
            lines.insert(key, line);
        }
        lines.insert(Key::Interface(interface), Line::Interface(segment));
    }
    lines
}

/// What changed, as lines for people.
fn changes(old: &Lines, new: &Lines) -> Vec<String> {
    let mut changes = Vec::new();
    for (key, line) in new {
        let before = old.get(key);
        if before.is_none_or(|old| line.differs(old)) {
            changes.push(line.text(before));
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        changes.push(match key {
            Key::Address(address) => format!("{address}  removed"),
            Key::Interface(name) => format!("{name}  not usable any more"),
            Key::Peer(name, node) => format!("{name}  {node}  removed"),
        });
    }
    changes
}

/// Prints changes until standard output is closed. `first` is printed already, except as JSON.
pub(super) fn run(
    client: &mut Client,
    address: Option<IpAddr>,
    output: Output,
    first: Option<Layer2Status>,
) -> anyhow::Result<()> {
    let mut idle = first.is_none();
    let mut known = lines(first);
    if output == Output::Json {
        for line in known.values() {
            if !json_line(line)? {
                return Ok(());
            }
        }
    }
    loop {
        thread::sleep(POLL_INTERVAL);
        // An address that is gone for a moment may come back.
        let found = match client.ask(&Request::L2 { address }) {
            Err(AskError::Rejected(_)) if address.is_some() => None,
            found => found?,
        };
        let became_idle = address.is_none() && found.is_none() && !idle;
        idle = found.is_none();
        let new = lines(found);
        let open = match output {
            Output::Json => {
                let differs = |(key, line): &(&Key, &Line)| {
                    known.get(key).is_none_or(|old| line.differs(old))
                };
                let mut open = true;
                for (_, line) in new.iter().filter(differs) {
                    open = open && json_line(line)?;
                }
                open
            }
            Output::Table => {
                let mut text: String = changes(&known, &new)
                    .iter()
                    .map(|line| format!("{}\n", printable(line)))
                    .collect();
                if became_idle {
                    text += &format!("{IDLE}\n");
                }
                try_print(&text)?
            }
        };
        if !open {
            return Ok(());
        }
        known = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::l2::tests::example;

    #[test]
    fn a_change_is_one_line() {
        let before = lines(Some(example()));
        assert_eq!(changes(&before, &before), Vec::<String>::new());
        let mut after = example();
        after.status.now += std::time::Duration::from_secs(1);
        let address: IpAddr = "203.0.113.11".parse().unwrap();
        let moved = after.status.addresses.get_mut(&address).unwrap();
        moved.owner = Some("node-a".into());
        moved.reason = ferrolb_layer2::status::OwnerReason::OwnerSilent;
        moved.moves[0].from = Some("node-b".into());
        moved.self_test = None;
        after.status.segments[0].peers[0].alive = false;
        after.status.segments[0].carrier = false;
        let gone: IpAddr = "2001:db8::10".parse().unwrap();
        after.status.addresses.remove(&gone);
        assert_eq!(
            changes(&before, &lines(Some(after))),
            [
                "203.0.113.11  node-b → node-a  node-b became silent",
                "eth0  no carrier",
                "eth0  node-b  Silent",
                "2001:db8::10  removed",
            ]
        );
    }
}
