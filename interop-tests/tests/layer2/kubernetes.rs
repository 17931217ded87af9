//! Layer 2 in a cluster: faults of the API server, drains, Pods that become unready, and what
//! clients lose behind a real kube-proxy.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Ferrolb, Load, Metallb, Nodes, Report};
use ferrolb_interop_tests::lan::{Host, Mac, Switch, answers, mac};
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL, service};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;

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
        &manifest::layer2_advertisement("interfaces: [uplink]"),
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
        an_excluded_node_hands_over(&mut cluster, address)?;
        let local = cluster.await_address("local")?;
        the_owner_of_a_local_service_hands_over_when_its_pod_is_unready(&mut cluster, local)?;
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

fn an_excluded_node_hands_over(cluster: &mut Cluster<'_>, address: IpAddr) -> Result<()> {
    let owner = cluster.await_owner(address)?;
    let node = cluster.rack.nodes[owner].name.clone();
    let label = |cluster: &Cluster<'_>, sign: &str| {
        let label = format!("{EXCLUDE_LABEL}{sign}");
        cluster
            .cp
            .kubectl(&["label", "node", &node, &label])
            .map(drop)
    };
    let report = cluster.losses(address, |cluster| {
        label(cluster, "=")?;
        cluster.await_owner_other_than(address, owner).map(drop)
    })?;
    ensure!(report.failed == 0, "{report:?}");
    let new = cluster.await_owner(address)?;
    label(cluster, "-")?;
    cluster.check_owner_stays(address, new)
}

fn the_owner_of_a_local_service_hands_over_when_its_pod_is_unready(
    cluster: &mut Cluster<'_>,
    address: IpAddr,
) -> Result<()> {
    let owner = cluster.await_owner(address)?;
    let pod = cluster.data_path.pods[owner].name.clone();
    let report = cluster.losses(address, |cluster| {
        cluster.cp.set_pod_ready("default", &pod, false)?;
        cluster.await_owner_other_than(address, owner).map(drop)
    })?;
    ensure!(report.failed <= MAX_FAILED_UNREADY, "{report:?}");
    ensure!(report.answered.len() == 2, "{report:?}");
    let new = cluster.await_owner(address)?;
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
    cluster.check_owner_stays(address, owner)?;
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
