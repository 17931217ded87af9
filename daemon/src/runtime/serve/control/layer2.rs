//! Requests about layer 2, and their answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_layer2::config::Command;
use ferrolb_layer2::moves::{self, CandidateStatus, MoveError, Rebalance};
use ferrolb_layer2::status::Status;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::runtime::announce::layer2::engine::{EngineState, Handle, Layer2Engine};
use crate::runtime::status::DaemonStatus;

/// Limit for the engine's answer.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(10);
/// An error about an unknown address lists at most this many addresses.
const MAX_SUGGESTIONS: usize = 8;

const NO_LAYER2: &str = "this process does not announce by layer 2 (its --role is announcer): run \
                         the command in the Pod of layer 2, kubectl exec -n metallb-system \
                         ds/ferrolb-layer2 -- /ferrolb l2";
/// What a process without an L2Advertisement reports.
pub(crate) const IDLE: &str = "layer 2 is idle: there is no L2Advertisement, or the configuration \
                               is not loaded yet (see the daemon's log)";

/// The engine's status, with what the daemon knows beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Layer2Status {
    /// The engine's status.
    #[serde(flatten)]
    pub status: Status,
    /// The services of each address, as `namespace/name`.
    pub services: BTreeMap<IpAddr, Vec<String>>,
    /// The candidates, if one address was requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<CandidateStatus>,
}

/// A move was requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MoveStarted {
    /// The owner. The requested node itself if there is nothing to do.
    pub from: Arc<str>,
}

/// A self-test was requested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TestStarted {
    /// The time by the engine's clock, in seconds. Its result is later.
    pub now: f64,
}

/// Answers requests about layer 2.
pub(super) struct Layer2Answers<'a> {
    pub(super) engine: Option<&'a Layer2Engine>,
    pub(super) status: &'a watch::Receiver<Arc<DaemonStatus>>,
}

impl Layer2Answers<'_> {
    /// The status, or that of one address. None if the engine is idle.
    pub(super) async fn status(
        &self,
        address: Option<IpAddr>,
    ) -> Result<Option<Layer2Status>, String> {
        let Some((_, mut status)) = self.snapshot().await? else {
            return Ok(None);
        };
        let mut candidates = Vec::new();
        if let Some(address) = address {
            known(&status, address)?;
            candidates = moves::candidates(&status, address);
            status.addresses.retain(|known, _| *known == address);
        }
        let by_address = self.status.borrow().layer2_services.clone();
        let services = status.addresses.keys().map(|address| {
            let services = by_address.of(*address);
            let names = services.iter().map(|service| service.name.to_string());
            (*address, names.collect())
        });
        Ok(Some(Layer2Status {
            services: services.collect(),
            status,
            candidates,
        }))
    }

    /// Requests that the owner of an address hands it over to a node.
    pub(super) async fn move_to(
        &self,
        address: IpAddr,
        node: String,
    ) -> Result<MoveStarted, String> {
        let (engine, status) = self.running().await?;
        match moves::check(&status, address, &node) {
            Ok(from) => {
                engine.send(Command::Move(address, node.into()));
                Ok(MoveStarted { from })
            }
            Err(MoveError::AlreadyOwner(node)) => Ok(MoveStarted { from: node.into() }),
            Err(MoveError::UnknownAddress(_)) => Err(unknown(&status, address)),
            Err(error) => Err(format!("{error}; see ferrolb l2 {address}")),
        }
    }

    /// Plans moves that even out the nodes.
    pub(super) async fn rebalance(&self) -> Result<Rebalance, String> {
        let (_, status) = self.running().await?;
        // On another thread, to keep this one responsive.
        let plan = tokio::task::spawn_blocking(move || moves::rebalance(&status)).await;
        plan.map_err(|error| format!("the plan failed: {error}"))
    }

    /// Requests that a peer resolves an address.
    pub(super) async fn test(&self, address: IpAddr) -> Result<TestStarted, String> {
        let (engine, status) = self.running().await?;
        can_test(&status, address)?;
        engine.send(Command::SelfTest(address));
        Ok(TestStarted {
            now: status.now.as_secs_f64(),
        })
    }

    /// The engine and its status. None if it is idle.
    async fn snapshot(&self) -> Result<Option<(Handle, Status)>, String> {
        let engine = self.engine.ok_or(NO_LAYER2)?;
        match engine.state() {
            EngineState::Idle => Ok(None),
            EngineState::Refused(why) => Err(why.to_string()),
            EngineState::Running(engine) => match timeout(ENGINE_TIMEOUT, engine.status()).await {
                Ok(status) => Ok(status.map(|status| (engine, status))),
                Err(_) => Err("the layer 2 engine does not answer: see the daemon's log".into()),
            },
        }
    }

    async fn running(&self) -> Result<(Handle, Status), String> {
        self.snapshot().await?.ok_or_else(|| IDLE.to_owned())
    }
}

/// Whether an address has an owner, and another node can resolve it.
fn can_test(status: &Status, address: IpAddr) -> Result<(), String> {
    known(status, address)?;
    let owner = status.addresses.get(&address);
    let Some(owner) = owner.and_then(|found| found.owner.clone()) else {
        return Err(format!(
            "no node announces {address}, so that none answers for it: see ferrolb l2 {address}"
        ));
    };
    let peers = status.segments.iter().flat_map(|segment| &segment.peers);
    let mut alive = peers.filter(|peer| peer.alive).peekable();
    if alive.peek().is_none() {
        return Err(
            "no hello of another node arrives, which could resolve it: see the neighbors in \
             ferrolb l2"
                .to_owned(),
        );
    }
    if alive.all(|peer| peer.node == owner) {
        return Err(format!(
            "no node except the owner {owner} could resolve it: run the self-test on {owner}"
        ));
    }
    Ok(())
}

fn known(status: &Status, address: IpAddr) -> Result<(), String> {
    if status.addresses.contains_key(&address) {
        return Ok(());
    }
    Err(unknown(status, address))
}

fn unknown(status: &Status, address: IpAddr) -> String {
    let listed = status.addresses.keys().take(MAX_SUGGESTIONS);
    let listed: Vec<String> = listed.map(ToString::to_string).collect();
    let others = match status.addresses.len() - listed.len() {
        0 => String::new(),
        others => format!(" and {others} more (see ferrolb l2)"),
    };
    let error = MoveError::UnknownAddress(address);
    if listed.is_empty() {
        return format!("{error}, nor any other one: see ferrolb plan for the reasons");
    }
    format!(
        "{error} (ferrolb plan shows the reasons); known addresses: {}{others}",
        listed.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use ferrolb_layer2::status::{AddressStatus, OwnerReason, PeerStatus, SegmentStatus, Traffic};

    use super::*;

    fn owned_by(owner: Option<&str>) -> AddressStatus {
        AddressStatus {
            candidates: Arc::default(),
            owner: owner.map(Arc::from),
            since: Duration::ZERO,
            epoch: 1,
            reason: OwnerReason::Placed,
            conflict: None,
            interfaces: Vec::new(),
            moves: Vec::new(),
            self_test: None,
            traffic: Traffic::default(),
        }
    }

    fn status(addresses: u8) -> Status {
        let peer = |node: &str| PeerStatus {
            node: node.into(),
            mac: ferrolb_layer2::mac::Mac::ZERO,
            networks: Vec::new(),
            state: ferrolb_layer2::status::NodeState::Ready,
            alive: true,
            last_hello: Duration::ZERO,
            interval: Duration::ZERO,
            owned: 0,
            rejected: None,
        };
        let addresses = (1..=addresses).map(|number| {
            let address = IpAddr::from([192, 0, 2, number]);
            (address, owned_by(Some("node-b")))
        });
        Status {
            node: "node-a".into(),
            addresses: addresses.collect(),
            segments: vec![SegmentStatus {
                interface: "eth0".into(),
                mac: ferrolb_layer2::mac::Mac::ZERO,
                carrier: true,
                networks: Vec::new(),
                promiscuous: false,
                peers: vec![peer("node-b"), peer("node-c")],
                warnings: Vec::new(),
            }],
            ..Status::default()
        }
    }

    #[test]
    fn an_error_about_an_unknown_address_lists_known_ones() {
        let unknown = IpAddr::from([192, 0, 2, 99]);
        let error = |addresses| known(&status(addresses), unknown).unwrap_err();
        assert_eq!(
            error(0),
            "no L2Advertisement selects a service with the address 192.0.2.99, nor any other one: \
             see ferrolb plan for the reasons"
        );
        assert_eq!(
            error(1),
            "no L2Advertisement selects a service with the address 192.0.2.99 (ferrolb plan shows \
             the reasons); known addresses: 192.0.2.1"
        );
        assert!(error(10).ends_with("192.0.2.8 and 2 more (see ferrolb l2)"));
    }

    #[test]
    fn a_self_test_needs_an_owner_and_a_third_node() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut found = status(1);
        assert_eq!(can_test(&found, address), Ok(()));
        found.segments[0].peers[1].alive = false;
        let error = can_test(&found, address).unwrap_err();
        assert!(error.ends_with("run the self-test on node-b"), "{error}");
        found.segments[0].peers[0].alive = false;
        let error = can_test(&found, address).unwrap_err();
        assert!(error.starts_with("no hello of another node"), "{error}");
        found.addresses.insert(address, owned_by(None));
        let error = can_test(&found, address).unwrap_err();
        assert!(error.starts_with("no node announces 192.0.2.1"), "{error}");
    }
}
