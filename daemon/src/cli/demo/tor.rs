//! The demo's top-of-rack router: a passive speaker with a table of received routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::config::{PeerConfig, Transport};
use ferrolb_bgp::fsm::{Event, ShutdownMode, SpeakerConfig};
use ferrolb_bgp::speaker::{self, Events, Handle, SpeakerOptions};
use ferrolb_bgp::wire::{Asn, Update};
use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::core::api::bgp_session::{AllSessions, BgpSessionStatus, BgpState, SessionError};

/// AS of the router, as in the manifests.
const TOR_ASN: Asn = Asn(64513);
/// AS of the nodes.
const NODE_ASN: Asn = Asn(64512);
/// A BGPPeer's port is at most 16384.
const PORTS: std::ops::Range<u16> = 11790..12790;

/// A router with one passive session per node.
#[derive(Debug)]
pub(super) struct Tor {
    handle: Handle,
    events: Events,
    /// The received routes.
    pub(super) table: Table,
    /// The port it listens on.
    pub(super) port: u16,
    /// The states of its sessions, as nodes publish them in a cluster.
    sessions: watch::Sender<Arc<AllSessions>>,
}

/// Paths by prefix and node.
pub(super) type Table = BTreeMap<IpNet, BTreeMap<String, Path>>;

/// One path of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) next_hop: Option<IpAddr>,
    pub(super) communities: Vec<String>,
}

impl Tor {
    /// Starts the router; every node may connect from its own address.
    pub(super) fn start(nodes: &[(&str, Ipv4Addr)]) -> anyhow::Result<Self> {
        let mut last = None;
        for port in PORTS {
            let options = SpeakerOptions {
                speaker: SpeakerConfig {
                    router_id_fallback: Ipv4Addr::LOCALHOST,
                    seed: u64::from(port),
                    host_uptime: None,
                },
                listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))],
            };
            let (handle, events) = match speaker::spawn(options) {
                Ok(started) => started,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            for (node, address) in nodes {
                let peer = PeerConfig {
                    transport: Transport {
                        passive: true,
                        ..Transport::default()
                    },
                    receive: true,
                    ..PeerConfig::new(*node, SocketAddr::from((*address, 179)), TOR_ASN, NODE_ASN)
                };
                handle.set_peer(peer)?;
            }
            handle.open_gate();
            return Ok(Self {
                handle,
                events,
                table: Table::new(),
                port,
                sessions: watch::Sender::default(),
            });
        }
        anyhow::bail!("no free port in {PORTS:?} on 127.0.0.1 for the demo's router: {last:?}")
    }

    /// Processes events until `deadline`, and returns at the first change of the table.
    pub(super) async fn changed(&mut self, deadline: Instant) -> bool {
        while let Ok(Some(event)) = timeout_at(deadline, self.events.recv()).await {
            let before = self.table.clone();
            match event {
                Event::Received { peer, update } => {
                    self.receive(&peer, &update);
                    self.publish(&peer, |_| {});
                }
                Event::Established { peer, .. } => {
                    self.publish(&peer, |status| status.bgp = BgpState::Established);
                }
                Event::Down {
                    peer,
                    was_established: true,
                    cause,
                    ..
                } => {
                    self.remove_node(&peer);
                    self.publish(&peer, |status| {
                        status.bgp = BgpState::Active;
                        status.last_error = Some(SessionError {
                            message: cause.to_string(),
                            ..SessionError::default()
                        });
                    });
                }
                _ => {}
            }
            if self.table != before {
                return true;
            }
        }
        false
    }

    /// The states of the sessions, and their changes.
    pub(super) fn sessions(&self) -> watch::Receiver<Arc<AllSessions>> {
        self.sessions.subscribe()
    }

    /// Changes the state of the session with a node.
    fn publish(&self, node: &str, change: impl FnOnce(&mut BgpSessionStatus)) {
        let sent = self.table.values().filter(|paths| paths.contains_key(node));
        let sent = i64::try_from(sent.count()).unwrap_or(i64::MAX);
        self.sessions.send_modify(|sessions| {
            let status = Arc::make_mut(sessions).entry(node.to_owned());
            let status = status.or_insert_with(|| BgpSessionStatus {
                node: node.to_owned(),
                peer: format!("tor-{node}"),
                ..BgpSessionStatus::default()
            });
            change(status);
            status.prefixes_sent = sent;
        });
    }

    fn receive(&mut self, node: &str, update: &Update) {
        for prefix in update.withdrawn_prefixes() {
            if let Some(paths) = self.table.get_mut(&prefix) {
                paths.remove(node);
            }
        }
        for prefix in update.announced() {
            let path = Path {
                next_hop: update.attributes.next_hop.map(IpAddr::V4),
                communities: update
                    .attributes
                    .communities
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            };
            self.table
                .entry(prefix)
                .or_default()
                .insert(node.to_owned(), path);
        }
        self.table.retain(|_, paths| !paths.is_empty());
    }

    fn remove_node(&mut self, node: &str) {
        for paths in self.table.values_mut() {
            paths.remove(node);
        }
        self.table.retain(|_, paths| !paths.is_empty());
    }

    /// Nodes by announced prefix.
    pub(super) fn nodes(&self) -> BTreeMap<IpNet, BTreeSet<String>> {
        self.table
            .iter()
            .map(|(prefix, paths)| (*prefix, paths.keys().cloned().collect()))
            .collect()
    }

    /// Ends all sessions.
    pub(super) async fn stop(self) {
        // Shutdown errors don't matter at the end of the demo.
        drop(
            tokio::time::timeout(
                Duration::from_secs(1),
                self.handle
                    .shutdown("the demo is over", ShutdownMode::Withdraw),
            )
            .await,
        );
    }
}
