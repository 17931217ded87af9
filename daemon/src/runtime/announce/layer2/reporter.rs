//! Reports the events of the layer 2 engine: one log line per change, and Kubernetes Events.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_layer2::mac::Mac;
use ferrolb_layer2::status::{Event, OwnerReason};
use tokio::sync::{mpsc, watch};

use super::engine::EngineState;
use crate::core::decide::owner_reason::{in_words, owner_text};
use crate::core::model::ServiceEvent;
use crate::runtime::source::{ApiWrite, ApiWriteSender};
use crate::runtime::status::Layer2Services;

/// The component that Events name.
const COMPONENT: &str = "ferrolb-layer2";
/// Up to this many changes of owners that arrive together are logged one by one.
const LOGGED_CHANGES: usize = 16;
/// Up to this many events are processed together.
const BATCH: usize = 4096;

/// Reports events until the engine ends. It survives a panic of the control loop.
#[derive(Debug)]
pub(super) struct Reporter {
    /// This node.
    pub(super) node: Arc<str>,
    pub(super) state: watch::Sender<EngineState>,
    pub(super) services: Layer2Services,
    pub(super) writes: ApiWriteSender,
}

impl Reporter {
    /// Runs until the engine has ended, and then sets its state.
    pub(super) async fn run(self, mut events: mpsc::UnboundedReceiver<Event>) {
        let mut batch = Vec::new();
        while events.recv_many(&mut batch, BATCH).await > 0 {
            self.report(&batch);
            batch.clear();
        }
        self.state.send_replace(EngineState::Idle);
    }

    fn report(&self, events: &[Event]) {
        let (changes, others): (Vec<&Event>, Vec<&Event>) = events
            .iter()
            .partition(|event| matches!(event, Event::Announced { .. } | Event::Withdrawn { .. }));
        self.log_changes(&changes);
        for event in others {
            self.log(event);
        }
        for event in events {
            self.write_events(event);
        }
    }

    /// Writes Kubernetes Events about the services of an address: when it is first announced, when
    /// it was moved on purpose, and for conflicts. A failover writes none, since it must not depend
    /// on the API server nor load it: the log, metrics and `ferrolb l2` show it.
    fn write_events(&self, event: &Event) {
        match event {
            Event::Announced {
                address,
                from,
                reason:
                    OwnerReason::Placed
                    | OwnerReason::HandedOver
                    | OwnerReason::Moved
                    | OwnerReason::Preferred,
            } if from.as_ref() != Some(&self.node) => {
                // The text is MetalLB's: tools search for it.
                let message = format!(
                    "announcing from node \"{}\" with protocol \"layer2\"",
                    self.node
                );
                self.write(*address, false, "nodeAssigned", &message);
            }
            Event::Conflict { address, mac, node } => {
                let who = match node {
                    Some(node) => format!("node {node} ({mac}), which does not own it,"),
                    None => format!("the host with Ethernet address {mac}"),
                };
                let message = format!("{who} answers for {address}");
                self.write(*address, true, "AddressConflict", &message);
            }
            _ => {}
        }
    }

    fn write(&self, address: IpAddr, warning: bool, reason: &'static str, message: &str) {
        for service in &*self.services.of(address) {
            self.writes.send(ApiWrite::Event(ServiceEvent {
                service: service.name.clone(),
                uid: service.uid.clone(),
                component: COMPONENT,
                warning,
                reason,
                message: message.to_owned(),
                may_be_known: false,
            }));
        }
    }

    fn log(&self, event: &Event) {
        match event {
            Event::Announced { .. } | Event::Withdrawn { .. } => {}
            Event::Conflict { address, mac, node } => log_conflict(*address, *mac, node.as_deref()),
            Event::SelfTestFailed {
                address,
                by,
                answers,
            } => log_failed_test(*address, by, answers),
            Event::ConflictResolved { address } => tracing::info!(
                %address, status = "resolved", "no other host answers for the address any more"
            ),
            Event::PeerUp { node, interface } => {
                tracing::info!(peer = &**node, %interface, "receiving hellos of the node");
            }
            Event::PeerDown { node, interface } => {
                tracing::warn!(peer = &**node, %interface, "the node is silent on the interface");
            }
            Event::PeerRejected {
                interface,
                node,
                why,
            } => tracing::warn!(
                peer = &**node, %interface, "hellos of the node are rejected: {why}"
            ),
            Event::Stalled { gap } => tracing::warn!(
                milliseconds = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX),
                "this process was stalled and stopped answering until it had listened again: give \
                 it a CPU request, and check the load of the node"
            ),
            Event::InterfaceWarning { interface, warning } => {
                tracing::warn!(%interface, "{warning}");
            }
            Event::Left => tracing::info!(node = &*self.node, "layer 2 ended"),
        }
    }

    /// Logs addresses that this node announces or withdraws, many of one kind in one line.
    fn log_changes(&self, changes: &[&Event]) {
        let changes = changes
            .iter()
            .filter_map(|event| Change::of(event, &self.node));
        let changes: Vec<Change<'_>> = changes.collect();
        if changes.len() <= LOGGED_CHANGES {
            for change in &changes {
                let services = self.services.of(change.address);
                let services: Vec<String> = services.iter().map(|s| s.name.to_string()).collect();
                let Change { address, .. } = change;
                tracing::info!(%address, services = services.join(", "), "{change}");
            }
            return;
        }
        let mut groups: BTreeMap<(bool, Option<&str>, OwnerReason), Vec<Change<'_>>> =
            BTreeMap::new();
        for change in changes {
            let key = (change.announced, change.other, change.reason);
            groups.entry(key).or_default().push(change);
        }
        for group in groups.values() {
            if let Some(first) = group.first() {
                tracing::info!(count = group.len(), first = %first.address, "{first}");
            }
        }
    }
}

/// `node`: the node that the Ethernet address belongs to, if it is one.
fn log_conflict(address: IpAddr, mac: Mac, node: Option<&str>) {
    match node {
        Some(node) => tracing::warn!(
            %address, %mac, node,
            "another node answers for the address though it doesn't own it: {}",
            owner_text(OwnerReason::OtherSpeaker).remedy.unwrap_or_default()
        ),
        None => tracing::warn!(
            %address, %mac,
            "another host answers for the address: {}",
            owner_text(OwnerReason::AddressConflict).remedy.unwrap_or_default()
        ),
    }
}

fn log_failed_test(address: IpAddr, by: &str, answers: &[Mac]) {
    if answers.is_empty() {
        tracing::warn!(
            %address, peer = by,
            "self-test failed: the node got no answer for the address: does the network drop ARP \
             or Neighbor Discovery (docs/layer2/networks.md)? Repeat it with: ferrolb l2 test \
             {address}"
        );
        return;
    }
    let macs: Vec<String> = answers.iter().map(ToString::to_string).collect();
    tracing::warn!(
        %address, peer = by, macs = macs.join(", "),
        "self-test failed: another host answers for the address as well: remove the address from \
         that host. Repeat the test with: ferrolb l2 test {address}"
    );
}

/// This node announces an address, or withdraws it. Prints as a sentence.
struct Change<'a> {
    address: IpAddr,
    announced: bool,
    /// The owner before or after. This node, if it is another process of it.
    other: Option<&'a str>,
    is_own: bool,
    /// The owner before, if it is known.
    before: Option<&'a str>,
    reason: OwnerReason,
}

impl<'a> Change<'a> {
    fn of(event: &'a Event, node: &'a str) -> Option<Self> {
        let (announced, address, other, reason) = match event {
            Event::Announced {
                address,
                from,
                reason,
            } => (true, address, from, reason),
            Event::Withdrawn {
                address,
                to,
                reason,
            } => (false, address, to, reason),
            _ => return None,
        };
        Some(Self {
            address: *address,
            announced,
            other: other.as_deref(),
            is_own: other.as_deref() == Some(node),
            before: if announced {
                other.as_deref()
            } else {
                Some(node)
            },
            reason: *reason,
        })
    }
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = in_words(self.reason, self.before);
        match (self.announced, self.other, self.reason) {
            (true, Some(_), _) if self.is_own => {
                f.write_str("announcing by layer 2, after another process of this node")
            }
            (false, Some(_), _) if self.is_own => {
                f.write_str("no longer announcing by layer 2: another process of this node does")
            }
            (true, Some(from), _) => write!(f, "announcing by layer 2, after node {from}: {why}"),
            (true, None, _) => write!(f, "announcing by layer 2: {why}"),
            (false, Some(to), OwnerReason::HandedOver | OwnerReason::Moved) => {
                write!(f, "no longer announcing by layer 2: node {to} took over")
            }
            (false, None, OwnerReason::HandedOver | OwnerReason::Moved) => {
                f.write_str("no longer announcing by layer 2: no other candidate is alive")
            }
            (false, Some(to), _) => {
                write!(f, "no longer announcing by layer 2, node {to} does: {why}")
            }
            (false, None, _) => write!(f, "no longer announcing by layer 2: {why}"),
        }
    }
}
