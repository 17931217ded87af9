//! A rack with ferrolb: FRR as the router, a cluster of objects, and kube-proxy and a Pod on every
//! node.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{ControlPlane, DataPath, Ferrolb, Load, Metallb, Nodes};
use crate::eventually::eventually;
use crate::router::{Frr, RouteEntry, Router, await_kernel_routes, await_table};
use crate::scenario::Scratch;
use crate::topology::Topology;

/// Longer than any step takes on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Label `app` of the Pods, whose names are `web-node1` and so on.
pub const APP: &str = "web";

/// Prefixes of the lab's address pools, which the router's import filter accepts.
const SERVICES: [&str; 4] = [
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8::/32",
];

/// A running rack. Dropping it kills all processes, ferrolb's first.
#[derive(Debug)]
pub struct Rack<'lab> {
    /// One per node, in the order of the nodes.
    pub announcers: Vec<Ferrolb<'lab>>,
    /// Initially one.
    pub allocators: Vec<Ferrolb<'lab>>,
    /// The top-of-rack router.
    pub router: Frr<'lab>,
    /// Pods and kube-proxy of the nodes.
    pub data_path: DataPath,
    /// The control plane.
    pub cp: ControlPlane<'lab>,
    /// The hosts.
    pub topology: &'lab Topology,
}

impl<'lab> Rack<'lab> {
    /// Starts the router with an example of `peering-examples/frr`, the cluster with MetalLB's CRDs
    /// and the manifests of `configuration`, and ferrolb with one allocator.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn start(
        scratch: &'lab Scratch,
        topology: &'lab Topology,
        example: &str,
        configuration: &str,
    ) -> Result<Self> {
        let mut rack = Self::without_crds(scratch, topology, example)?;
        rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
        rack.cp.apply(configuration)?;
        rack.start_ferrolb()?;
        for process in rack.allocators.iter_mut().chain(&mut rack.announcers) {
            process.await_ready()?;
        }
        Ok(rack)
    }

    /// Starts the router and the cluster without CRDs, configuration and ferrolb.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn without_crds(
        scratch: &'lab Scratch,
        topology: &'lab Topology,
        example: &str,
    ) -> Result<Self> {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_rbac()?;
        Self::around(cp, scratch, topology, example)
    }

    /// Starts the router, and the data path of a cluster that has ferrolb's RBAC.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn around(
        cp: ControlPlane<'lab>,
        scratch: &'lab Scratch,
        topology: &'lab Topology,
        example: &str,
    ) -> Result<Self> {
        let mut router = Frr::new(scratch, &topology.tor, example);
        router.start()?;
        // Without these routes a packet that kube-proxy does not rewrite yet loops between node and
        // router. Its conntrack entry then lets later connections from the same port loop for two
        // minutes.
        for (node, prefix) in topology
            .nodes
            .iter()
            .flat_map(|node| SERVICES.map(|to| (node, to)))
        {
            let family = if prefix.contains(':') { "-6" } else { "-4" };
            node.namespace
                .ip(&[family, "route", "add", "unreachable", prefix])?;
        }
        Ok(Self {
            announcers: Vec::new(),
            allocators: Vec::new(),
            router,
            data_path: DataPath::start(&cp, &topology.nodes, APP)?,
            cp,
            topology,
        })
    }

    /// Starts one allocator and an announcer on every node.
    ///
    /// # Errors
    /// When a process can't be started.
    pub fn start_ferrolb(&mut self) -> Result<()> {
        self.allocators
            .push(Ferrolb::allocator(&self.cp, "allocator1")?);
        for node in &self.topology.nodes {
            self.announcers.push(Ferrolb::announcer(&self.cp, node)?);
        }
        Ok(())
    }

    /// Waits until a Service has addresses, and returns them.
    ///
    /// # Errors
    /// When no address is allocated in time.
    pub fn await_addresses(&self, name: &str) -> Result<Vec<IpAddr>> {
        eventually(format!("an address for {name}"), TIMEOUT, || {
            let addresses = self.cp.service_addresses("default", name)?;
            ensure!(!addresses.is_empty(), "none");
            Ok(addresses)
        })
    }

    /// Waits until a Service has exactly this address.
    ///
    /// # Errors
    /// When it has another or no address in the end.
    pub fn await_address(&self, name: &str, address: &str) -> Result<()> {
        let address: IpAddr = address.parse()?;
        eventually(format!("{address} for {name}"), TIMEOUT, || {
            let addresses = self.cp.service_addresses("default", name)?;
            ensure!(addresses == [address], "{addresses:?}");
            Ok(())
        })
    }

    /// The expected routes for a prefix via these nodes (0 is `node1`).
    ///
    /// # Errors
    /// When the prefix is malformed.
    pub fn routes(&self, prefix: &str, nodes: &[usize]) -> Result<BTreeSet<RouteEntry>> {
        let ipv6 = prefix.contains(':');
        let routes = nodes.iter().map(|&node| {
            let node = &self.topology.nodes[node];
            let next_hop = if ipv6 {
                node.ipv6.into()
            } else {
                IpAddr::V4(node.ipv4)
            };
            RouteEntry::new(prefix, &next_hop.to_string())
        });
        routes.collect()
    }

    /// Waits until the router has exactly these routes and its kernel exactly their next hops.
    ///
    /// # Errors
    /// After a timeout, with the differences.
    pub fn await_routes(&self, expected: &BTreeSet<RouteEntry>) -> Result<()> {
        await_table(&self.router, expected, TIMEOUT)?;
        await_kernel_routes(&self.topology.tor, expected, TIMEOUT)
    }

    /// Waits until exactly the Pods of these nodes answer several new connections to port 80 of an
    /// address.
    ///
    /// # Errors
    /// After a timeout, with the last report.
    pub fn await_answers(&self, address: IpAddr, nodes: &[usize]) -> Result<()> {
        let pods: Vec<String> = nodes
            .iter()
            .map(|&node| format!("{APP}-{}", self.topology.nodes[node].name))
            .collect();
        eventually(format!("{pods:?} answer at {address}"), TIMEOUT, || {
            let load = Load::start(self.topology.client()?, SocketAddr::new(address, 80), 50, 0)?;
            std::thread::sleep(Duration::from_millis(600));
            let report = load.stop()?;
            ensure!(report.failed == 0, "{report:?}");
            ensure!(report.answered.keys().eq(&pods), "{report:?}");
            Ok(())
        })
    }
}
