//! Measures what clients of a Service lose during a disruption: new connections that fail and
//! long-lived ones that break.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Load, Rack, Report};
use crate::eventually::eventually;
use crate::manifest::{self, EXCLUDE_LABEL};
use crate::router::{Router, check_table};

/// New connections a second.
const NEW_PER_SECOND: u32 = 200;
/// Number of open long-lived connections.
const LONG_LIVED: u32 = 100;
/// Time of traffic before the disruption.
const WARM_UP: Duration = Duration::from_secs(2);
/// Downtime of an announcer that was killed or stopped.
const DOWNTIME: Duration = Duration::from_secs(1);
const ROUTER_DOWNTIME: Duration = Duration::from_secs(2);
/// Time of traffic after the disruption; long enough for routes that are kept only temporarily to
/// go.
const OBSERVATION: Duration = Duration::from_secs(8);
/// Hold time of all examples for FRR.
const HOLD_TIME: Duration = Duration::from_secs(9);
const TIMEOUT: Duration = Duration::from_secs(30);

/// How the router and the nodes detect each other's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureDetection {
    /// The hold timer alone.
    HoldTime,
    /// The hold timer, with graceful restart.
    GracefulRestart,
    /// BFD, 100 ms × 3.
    Bfd,
    /// BFD and graceful restart.
    Both,
}

impl FailureDetection {
    /// All variants.
    pub const ALL: [Self; 4] = [Self::HoldTime, Self::GracefulRestart, Self::Bfd, Self::Both];

    /// Description for a report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HoldTime => "hold time 9 s",
            Self::GracefulRestart => "graceful restart",
            Self::Bfd => "BFD 100 ms × 3",
            Self::Both => "graceful restart, BFD 100 ms × 3",
        }
    }

    /// The router's example in `peering-examples/frr`.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::HoldTime => "ebgp",
            Self::Bfd => "bfd",
            // FRR helps restarting nodes by default; in this example it also restarts gracefully.
            Self::GracefulRestart | Self::Both => "router-restart",
        }
    }

    /// Manifests: peer, pool, advertisement, and a Service `web` for the Pods on all nodes.
    #[must_use]
    pub fn configuration(self) -> String {
        let peer = match self {
            Self::HoldTime => "",
            Self::GracefulRestart => ", enableGracefulRestart: true",
            Self::Bfd => ", bfdProfile: fast",
            Self::Both => ", enableGracefulRestart: true, bfdProfile: fast",
        };
        manifest::join(&[
            &manifest::metallb_peer(peer),
            &manifest::bfd_profile(),
            &manifest::pool("192.0.2.0/28"),
            &manifest::advertisement(""),
            &manifest::service("web", "", "externalTrafficPolicy: Local,"),
        ])
    }
}

/// A disruption of the first node, of the router or of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disruption {
    /// None: the losses of the lab itself.
    Nothing,
    /// The node's announcer is stopped with SIGTERM and started again.
    PlannedRestart,
    /// The node's announcer is killed and started again.
    Kill,
    /// The node is excluded from load balancers, as before maintenance; its Pod keeps running.
    Exclude,
    /// The node's Pod becomes unready and keeps answering.
    PodUnready,
    /// The node's uplink drops every frame; its carrier stays up.
    SilentCut,
    /// The API server is down for 12 s.
    ApiServerDown,
    /// The router's bgpd is killed and started again. Nodes retry every second for half a minute
    /// after a session that lasted twice its hold time, so sessions must be that old before this
    /// disruption.
    RouterKilled,
}

impl Disruption {
    /// All variants, in an order in which each starts with an intact rack.
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

    /// Description for a report.
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

    fn inject(self, rack: &mut Rack<'_>) -> Result<()> {
        match self {
            Self::Nothing => {}
            Self::PlannedRestart => {
                rack.announcers[0].process().terminate(TIMEOUT)?;
                sleep(DOWNTIME);
                rack.announcers[0].start_again()?;
            }
            Self::Kill => {
                rack.announcers[0].process().kill()?;
                sleep(DOWNTIME);
                rack.announcers[0].start_again()?;
            }
            Self::Exclude => {
                let label = format!("{EXCLUDE_LABEL}=");
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
                sleep(ROUTER_DOWNTIME);
                rack.router.start_bgpd()?;
                let nodes = rack.topology.nodes.len();
                eventually("paths selected again", TIMEOUT, || {
                    let sessions = rack.router.sessions()?;
                    ensure!(sessions.len() == nodes, "{sessions:?}");
                    rack.router.ensure_selecting()
                })?;
            }
        }
        Ok(())
    }

    /// Time of traffic after the disruption begins: until its effects are over.
    fn duration(self) -> Duration {
        match self {
            Self::SilentCut => HOLD_TIME + OBSERVATION / 2,
            _ => OBSERVATION,
        }
    }

    /// Whether the router must have no route to the first node in the end; else nothing was
    /// measured.
    fn removes_a_node(self) -> bool {
        matches!(self, Self::Exclude | Self::PodUnready | Self::SilentCut)
    }

    /// Restores the state before the disruption.
    fn revert(self, rack: &mut Rack<'_>) -> Result<()> {
        match self {
            // After the outage the controllers would retry, and update EndpointSlices, only after
            // half a minute.
            Self::ApiServerDown => rack.cp.restart_controllers(),
            Self::Exclude => {
                let label = format!("{EXCLUDE_LABEL}-");
                let node = &rack.topology.nodes[0].name;
                rack.cp.kubectl(&["label", "node", node, &label]).map(drop)
            }
            Self::PodUnready => {
                let name = &rack.data_path.pods[0].name;
                rack.cp.set_pod_ready("default", name, true)
            }
            Self::SilentCut => rack.topology.nodes[0].uplink.restore(),
            _ => Ok(()),
        }
    }
}

/// Sends traffic to a Service address of all nodes before, during and after a disruption, then
/// reverts the disruption.
///
/// # Errors
/// When the rack does not reach its intact state before, or the expected state after the
/// disruption.
pub fn measure_disruption(
    rack: &mut Rack<'_>,
    address: IpAddr,
    disruption: Disruption,
) -> Result<Report> {
    let nodes: Vec<usize> = (0..rack.topology.nodes.len()).collect();
    let prefix = format!("{address}/32");
    rack.await_routes(&rack.routes(&prefix, &nodes)?)?;
    rack.await_answers(address, &nodes)?;
    let target = SocketAddr::new(address, 80);
    let load = Load::start(rack.topology.client()?, target, NEW_PER_SECOND, LONG_LIVED)?;
    sleep(WARM_UP);
    let begin = Instant::now();
    disruption.inject(rack)?;
    let rest = disruption.duration().saturating_sub(begin.elapsed());
    sleep(rest.max(OBSERVATION / 2));
    let report = load.stop()?;
    if disruption.removes_a_node() {
        let left = rack.routes(&prefix, &nodes[1..])?;
        check_table(&rack.router, &left).with_context(|| disruption.name())?;
    }
    disruption.revert(rack)?;
    ensure!(
        report.long_lived == u64::from(LONG_LIVED),
        "only {} of {LONG_LIVED} long-lived connections were opened",
        report.long_lived
    );
    Ok(report)
}
