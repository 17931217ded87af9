//! Layer 2 in a cluster: faults of the API server, drains, Pods that become unready, and what
//! clients lose behind a real kube-proxy.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Ferrolb, Load, Metallb, Nodes, Report};
use ferrolb_interop_tests::lan::{Capture, Host, Mac, Switch, answers, mac};
use ferrolb_interop_tests::manifest::{self, service};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;
use serde_json::json;

use super::{NEIGHBORS_AND_HELLOS, claimants};

const TIMEOUT: Duration = Duration::from_secs(30);
const WARM_UP: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(4);
/// Failed of 50 requests a second while kube-proxy and ferrolb follow the same change of an
/// EndpointSlice, on a busy machine.
const MAX_FAILED_UNREADY: u64 = 50;

/// A pool on the LAN, and a Service of either policy for the Pods on all nodes.
fn configuration() -> String {
    manifest::join(&[
        &manifest::pool("10.99.0.220-10.99.0.230"),
        &manifest::ferrolb_layer2_advertisement("interfaces: [uplink], drain: {onCordon: true}"),
        &service("cluster", "", ""),
        &service("local", "", "externalTrafficPolicy: Local,"),
    ])
}

/// Nodes as objects, each with kube-proxy, a Pod and the layer 2 process.
struct Cluster<'lab> {
    rack: &'lab Topology,
    client: Host,
    macs: Vec<Mac>,
    layer2: Vec<Ferrolb<'lab>>,
    _allocator: Ferrolb<'lab>,
    data_path: DataPath,
    cp: ControlPlane<'lab>,
}

impl<'lab> Cluster<'lab> {
    fn start(scratch: &'lab Scratch, rack: &'lab Topology) -> Result<Self> {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.install_ferrolb_crds()?;
        cp.install_ferrolb_rbac()?;
        cp.apply(&configuration())?;
        let data_path = DataPath::start(&cp, &rack.nodes, "web")?;
        let mut allocator = Ferrolb::allocator(&cp, "allocator1")?;
        let nodes = || rack.nodes.iter();
        let layer2: Result<Vec<_>> = nodes().map(|node| Ferrolb::layer2(&cp, node)).collect();
        let mut layer2 = layer2?;
        for process in layer2.iter_mut().chain([&mut allocator]) {
            process.await_ready()?;
        }
        Ok(Self {
            client: Host::new(rack, "client", 100)?,
            macs: nodes()
                .map(|node| mac(&node.namespace))
                .collect::<Result<_>>()?,
            layer2,
            _allocator: allocator,
            data_path,
            cp,
            rack,
        })
    }

    fn await_address(&self, service: &str) -> Result<IpAddr> {
        eventually(format!("an address for {service}"), TIMEOUT, || {
            let addresses = self.cp.service_addresses("default", service)?;
            addresses.first().copied().context("none")
        })
    }

    /// The only node that answers the client.
    fn owner(&self, address: IpAddr) -> Result<usize> {
        let found = answers(&self.client.namespace, address)?;
        let owners = found
            .iter()
            .map(|mac| self.macs.iter().position(|own| own == mac));
        let owners: Vec<Option<usize>> = owners.collect();
        match owners[..] {
            [Some(owner)] => Ok(owner),
            _ => anyhow::bail!("{address}: answers from {found:?} (nodes {owners:?})"),
        }
    }

    fn await_owner(&self, address: IpAddr) -> Result<usize> {
        eventually(format!("an owner of {address}"), TIMEOUT, || {
            self.owner(address)
        })
    }

    fn await_owner_other_than(&self, address: IpAddr, node: usize) -> Result<usize> {
        eventually(format!("a new owner of {address}"), TIMEOUT, || {
            let owner = self.owner(address)?;
            ensure!(owner != node, "node{} still answers", node + 1);
            Ok(owner)
        })
    }

    fn check_owner_stays(&self, address: IpAddr, owner: usize) -> Result<()> {
        consistently(format!("the owner of {address}"), AFTER, || {
            let found = self.owner(address)?;
            ensure!(found == owner, "node{} answers", found + 1);
            Ok(())
        })
    }

    /// Sets a condition of a Node object.
    fn set_condition(&self, node: usize, kind: &str, status: &str) -> Result<()> {
        let name = &self.rack.nodes[node].name;
        let conditions = json!([{"type": kind, "status": status}]);
        let patch = json!({"status": {"conditions": conditions}}).to_string();
        let arguments = ["patch", "node", name, "--subresource=status", "-p", &patch];
        self.cp.kubectl(&arguments).map(drop)
    }

    /// What the client loses while something happens and for a while afterwards.
    fn losses(
        &mut self,
        address: IpAddr,
        happens: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Report> {
        let target = SocketAddr::new(address, 80);
        eventually(format!("answers at {address}"), TIMEOUT, || {
            let load = Load::start(&self.client.namespace, target, 50, 0)?;
            sleep(Duration::from_millis(600));
            let report = load.stop()?;
            ensure!(report.failed == 0, "{report:?}");
            Ok(())
        })?;
        let load = Load::start(&self.client.namespace, target, 50, 50)?;
        sleep(WARM_UP);
        happens(self)?;
        sleep(AFTER);
        let report = load.stop()?;
        ensure!(report.long_lived == 50, "{report:?}");
        Ok(report)
    }
}

#[test]
fn owners_follow_the_cluster_and_survive_its_api_server() {
    scenario("l2-kubernetes", |scratch| {
        let rack = Topology::new(3)?;
        let mut cluster = Cluster::start(scratch, &rack)?;
        let address = cluster.await_address("cluster")?;
        cluster.await_owner(address)?;
        a_killed_daemon_that_comes_back_loses_nothing(&mut cluster, address)?;
        for exclusion in [
            Exclusion::Label,
            Exclusion::Drain,
            Exclusion::NetworkUnavailable,
        ] {
            an_excluded_node_hands_over(&mut cluster, address, exclusion)?;
        }
        let local = cluster.await_address("local")?;
        the_owner_of_a_local_service_hands_over_when_its_pod_is_unready(
            scratch,
            &mut cluster,
            local,
        )?;
        a_node_without_api_server_keeps_its_addresses(&cluster, address)?;
        a_dead_node_is_replaced_without_api_server(&mut cluster, address)
    });
}

fn a_killed_daemon_that_comes_back_loses_nothing(
    cluster: &mut Cluster<'_>,
    address: IpAddr,
) -> Result<()> {
    let owner = cluster.await_owner(address)?;
    let report = cluster.losses(address, |cluster| {
        cluster.layer2[owner].process().kill()?;
        cluster.layer2[owner].start_again()
    })?;
    ensure!((report.failed, report.broken) == (0, 0), "{report:?}");
    cluster.check_owner_stays(address, owner)
}

/// Why a node is no candidate.
#[derive(Clone, Copy, Debug)]
enum Exclusion {
    Label,
    /// `kubectl cordon`, as the first step of `kubectl drain`.
    Drain,
    NetworkUnavailable,
}

impl Exclusion {
    fn set(self, cluster: &Cluster<'_>, node: usize, excluded: bool) -> Result<()> {
        let name = &cluster.rack.nodes[node].name;
        match (self, excluded) {
            (Self::Label, _) => cluster.cp.exclude_node(name, excluded),
            (Self::Drain, true) => cluster.cp.kubectl(&["cordon", name]).map(drop),
            (Self::Drain, false) => cluster.cp.kubectl(&["uncordon", name]).map(drop),
            (Self::NetworkUnavailable, true) => {
                cluster.set_condition(node, "NetworkUnavailable", "True")
            }
            (Self::NetworkUnavailable, false) => {
                cluster.set_condition(node, "NetworkUnavailable", "False")
            }
        }
    }
}

fn an_excluded_node_hands_over(
    cluster: &mut Cluster<'_>,
    address: IpAddr,
    exclusion: Exclusion,
) -> Result<()> {
    let owner = cluster.await_owner(address)?;
    let report = cluster.losses(address, |cluster| {
        exclusion.set(cluster, owner, true)?;
        cluster.await_owner_other_than(address, owner).map(drop)
    })?;
    ensure!(report.handed_over(), "{exclusion:?}: {report:?}");
    let new = cluster.await_owner(address)?;
    exclusion.set(cluster, owner, false)?;
    cluster.check_owner_stays(address, new)
}

fn the_owner_of_a_local_service_hands_over_when_its_pod_is_unready(
    scratch: &Scratch,
    cluster: &mut Cluster<'_>,
    address: IpAddr,
) -> Result<()> {
    let owner = cluster.await_owner(address)?;
    let pod = cluster.data_path.pods[owner].name.clone();
    let capture = Capture::start(
        scratch,
        Switch(&cluster.rack.tor),
        "unready",
        NEIGHBORS_AND_HELLOS,
    )?;
    let report = cluster.losses(address, |cluster| {
        cluster.cp.set_pod_ready("default", &pod, false)?;
        cluster.await_owner_other_than(address, owner).map(drop)
    })?;
    ensure!(report.failed <= MAX_FAILED_UNREADY, "{report:?}");
    ensure!(report.answered.len() == 2, "{report:?}");
    let new = cluster.await_owner(address)?;
    // The old owner does not claim it again.
    let claimants = claimants(&capture.stop()?, address)?;
    let claimants: Vec<&Mac> = claimants.iter().map(|(_, mac)| mac).collect();
    let turns = [&cluster.macs[owner], &cluster.macs[new]];
    let in_turn = !claimants.is_empty() && turns.ends_with(&claimants);
    ensure!(in_turn, "{claimants:?}, not {turns:?}");
    cluster.cp.set_pod_ready("default", &pod, true)?;
    cluster.check_owner_stays(address, new)
}

fn a_node_without_api_server_keeps_its_addresses(
    cluster: &Cluster<'_>,
    address: IpAddr,
) -> Result<()> {
    let owner = cluster.await_owner(address)?;
    let node = &cluster.rack.nodes[owner].namespace;
    node.ip(&["link", "set", "mgmt0", "down"])?;
    // As the node controller does. An unreachable node is no reason to move an address.
    cluster.set_condition(owner, "Ready", "Unknown")?;
    // Longer than peers wait for a process that restarts.
    consistently("the owner", Duration::from_secs(15), || {
        let found = cluster.owner(address)?;
        ensure!(found == owner, "node{} answers", found + 1);
        Ok(())
    })?;
    cluster.set_condition(owner, "Ready", "True")?;
    // Pods of other nodes are behind the same link, so only the owner's Pod answers now.
    node.ip(&["link", "set", "mgmt0", "up"])?;
    cluster.check_owner_stays(address, owner)
}

fn a_dead_node_is_replaced_without_api_server(
    cluster: &mut Cluster<'_>,
    address: IpAddr,
) -> Result<()> {
    let owner = cluster.await_owner(address)?;
    cluster.cp.stop_api_server()?;
    cluster.check_owner_stays(address, owner)?;
    let switch = Switch(&cluster.rack.tor);
    let port = &cluster.rack.nodes[owner].name;
    switch.unplug(port)?;
    let new = cluster.await_owner_other_than(address, owner)?;
    switch.plug(port)?;
    cluster.check_owner_stays(address, new)?;
    cluster.cp.start_api_server()?;
    cluster.check_owner_stays(address, new)
}

/// The API server has all processes as ready, and no node receives another one: silence does not
/// mean that the owner is dead.
#[test]
fn nodes_behind_isolated_ports_agree_on_one_owner_and_name_the_cause() {
    scenario("l2-isolated", |scratch| {
        let rack = Topology::new(3)?;
        let mut cluster = Cluster::start(scratch, &rack)?;
        let address = cluster.await_address("cluster")?;
        cluster.await_owner(address)?;
        let nodes = rack.nodes.iter();
        let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
        cluster.cp.apply(&manifest::layer2_endpoints(&names))?;
        names.iter().try_for_each(|name| rack.tor.isolate(name))?;
        cluster.cp.isolate_nodes()?;
        // Processes that start now never receive each other.
        for process in &mut cluster.layer2 {
            process.process().kill()?;
            process.start_again()?;
        }
        for process in &mut cluster.layer2 {
            process.await_ready()?;
            process.await_log(&["port isolation"], TIMEOUT)?;
        }
        let owner = cluster.await_owner(address)?;
        cluster.check_owner_stays(address, owner)
    });
}
