//! What users of a Service lose while something happens to the rack: new connections that fail, long-lived ones that
//! break.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Load, Rack, Report};
use crate::eventually::eventually;
use crate::router::{Router, check_table};

/// New connections a second.
const NEW_PER_SECOND: u32 = 200;
/// Connections held open.
const LONG_LIVED: u32 = 100;
/// Traffic before anything happens.
const BEFORE: Duration = Duration::from_secs(2);
/// How long a program that was killed or stopped stays away.
const AWAY: Duration = Duration::from_secs(1);
const ROUTER_AWAY: Duration = Duration::from_secs(2);
/// Traffic after it, in which what was kept for a while would be lost.
const AFTER: Duration = Duration::from_secs(8);
/// By all examples of FRR's.
const HOLD_TIME: Duration = Duration::from_secs(9);
const SOON: Duration = Duration::from_secs(30);

/// How the rack's router and nodes know of each other's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureDetection {
    /// By the hold time alone.
    HoldTime,
    /// By the hold time, and a router that keeps the routes of who restarts.
    GracefulRestart,
    /// By BFD, 100 ms × 3.
    Bfd,
    /// By BFD, and a router that keeps the routes of who restarts on purpose.
    Both,
}

impl FailureDetection {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HoldTime, Self::GracefulRestart, Self::Bfd, Self::Both];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HoldTime => "hold time 9 s",
            Self::GracefulRestart => "graceful restart",
            Self::Bfd => "BFD 100 ms × 3",
            Self::Both => "graceful restart, BFD 100 ms × 3",
        }
    }

    /// The router's peering example.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::HoldTime => "ebgp",
            Self::Bfd => "bfd",
            // Helping those that restart is FRR's default; here it is one of them itself.
            Self::GracefulRestart | Self::Both => "router-restart",
        }
    }

    /// The cluster's side, and a Service `web` of the Pods on all nodes.
    #[must_use]
    pub fn configuration(self) -> String {
        let more = match self {
            Self::HoldTime => "",
            Self::GracefulRestart => ", enableGracefulRestart: true",
            Self::Bfd => ", bfdProfile: fast",
            Self::Both => ", enableGracefulRestart: true, bfdProfile: fast",
        };
        format!(
            "{{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {{name: tor, namespace: metallb-system}}, spec: \
             {{myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.1{more}}}}}\n{REST}"
        )
    }
}

const REST: &str = "---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: metallb-system}
spec: {receiveInterval: 100, transmitInterval: 100, detectMultiplier: 3}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";

/// What happens to the rack's first node, or to its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disruption {
    /// Nothing: what the lab itself loses.
    Nothing,
    /// The node's announcer is told to end, and started again.
    PlannedRestart,
    /// It is killed, and started again.
    Kill,
    /// The node is excluded from load balancers, as before maintenance; its Pod goes on.
    Exclude,
    /// The node's Pod becomes unready, and goes on answering.
    PodUnready,
    /// Nothing gets through the node's uplink any more, and nobody is told.
    SilentCut,
    /// The API server is away for a while.
    ApiServerDown,
    /// The router's bgpd is killed and started again. Nodes dial every second for half a minute after a session that
    /// lasted twice its hold time: what comes before this must leave the sessions alone for that long.
    RouterKilled,
}

impl Disruption {
    /// All of them; the rack is whole again after each.
    pub const ALL: [Self; 8] = [
        Self::Nothing,
        Self::PlannedRestart,
        Self::Kill,
        Self::ApiServerDown,
        Self::RouterKilled,
        Self::PodUnready,
        Self::Exclude,
        Self::SilentCut,
    ];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::PlannedRestart => "planned restart of one node's announcer",
            Self::Kill => "SIGKILL of it, back after 1 s",
            Self::Exclude => "node excluded from load balancers",
            Self::PodUnready => "one Pod unready",
            Self::SilentCut => "node cut off silently",
            Self::ApiServerDown => "API server down 12 s",
            Self::RouterKilled => "router's bgpd killed, back after 2 s",
        }
    }

    fn happen(self, rack: &mut Rack<'_>) -> Result<()> {
        match self {
            Self::Nothing => {}
            Self::PlannedRestart => {
                rack.announcers[0].daemon().terminate(SOON)?;
                sleep(AWAY);
                rack.announcers[0].start_again()?;
            }
            Self::Kill => {
                rack.announcers[0].daemon().kill()?;
                sleep(AWAY);
                rack.announcers[0].start_again()?;
            }
            Self::Exclude => {
                let label = format!("{EXCLUDED}=");
                let node = &rack.topology.nodes[0].name;
                rack.cp.kubectl(&["label", "node", node, &label])?;
            }
            Self::PodUnready => {
                let name = rack.data_path.pods[0].name.clone();
                rack.cp.set_pod_ready("default", &name, false)?;
            }
            Self::SilentCut => rack.topology.nodes[0].uplink.cut()?,
            Self::ApiServerDown => {
                rack.cp.stop_api_server()?;
                sleep(Duration::from_secs(12));
                rack.cp.start_api_server()?;
            }
            Self::RouterKilled => {
                rack.router.kill_bgpd()?;
                sleep(ROUTER_AWAY);
                rack.router.start_bgpd()?;
                let nodes = rack.topology.nodes.len();
                eventually("paths selected again", SOON, || {
                    let sessions = rack.router.sessions()?;
                    ensure!(sessions.len() == nodes, "{sessions:?}");
                    rack.router.ensure_selecting()
                })?;
            }
        }
        Ok(())
    }

    /// How long traffic goes on: until the consequences are over.
    fn lasts(self) -> Duration {
        match self {
            Self::SilentCut => HOLD_TIME + AFTER / 2,
            _ => AFTER,
        }
    }

    /// Whether the router is to have no route to the first node in the end. If it had, the report would be about nothing.
    fn costs_a_node(self) -> bool {
        matches!(self, Self::Exclude | Self::PodUnready | Self::SilentCut)
    }

    /// As it was before.
    fn undo(self, rack: &mut Rack<'_>) -> Result<()> {
        match self {
            // They would make EndpointSlices again after half a minute only, when they dare to ask again.
            Self::ApiServerDown => rack.cp.restart_controllers(),
            Self::Exclude => {
                let label = format!("{EXCLUDED}-");
                let node = &rack.topology.nodes[0].name;
                rack.cp.kubectl(&["label", "node", node, &label]).map(drop)
            }
            Self::PodUnready => {
                let name = &rack.data_path.pods[0].name;
                rack.cp.set_pod_ready("default", name, true)
            }
            Self::SilentCut => rack.topology.nodes[0].uplink.mend(),
            _ => Ok(()),
        }
    }
}

/// Kubernetes' own label for it.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Traffic to an address that the Pods of all nodes serve, while it happens and for a while after; then everything is
/// put back as it was.
///
/// # Errors
/// When the rack was not whole before, or is not afterwards.
pub fn losses(rack: &mut Rack<'_>, address: IpAddr, disturbance: Disruption) -> Result<Report> {
    let nodes: Vec<usize> = (0..rack.topology.nodes.len()).collect();
    let prefix = format!("{address}/32");
    rack.await_routes(&rack.routes(&prefix, &nodes)?)?;
    rack.await_answers(address, &nodes)?;
    let target = SocketAddr::new(address, 80);
    let load = Load::start(rack.client()?, target, NEW_PER_SECOND, LONG_LIVED)?;
    sleep(BEFORE);
    let begin = Instant::now();
    disturbance.happen(rack)?;
    let rest = disturbance.lasts().saturating_sub(begin.elapsed());
    sleep(rest.max(AFTER / 2));
    let report = load.stop()?;
    if disturbance.costs_a_node() {
        let left = rack.routes(&prefix, &nodes[1..])?;
        check_table(&rack.router, &left).with_context(|| disturbance.name())?;
    }
    disturbance.undo(rack)?;
    ensure!(
        report.long_lived == u64::from(LONG_LIVED),
        "{} of {LONG_LIVED} connections opened",
        report.long_lived
    );
    Ok(report)
}
