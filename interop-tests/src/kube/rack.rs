//! A rack on which ferrolb runs: FRR as its router, a cluster of objects, kube-proxy and a Pod on every node.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{ControlPlane, DataPath, Ferrolb, Load, Metallb, Nodes};
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::Scratch;
use crate::router::{Frr, RouteEntry, Router, await_kernel, await_table};
use crate::topology::Topology;

/// Longer than anything should take on a loaded machine.
const SOON: Duration = Duration::from_secs(30);

/// The label `app` of every node's Pod, `web-node1` and so on.
pub const APP: &str = "web";

/// What pools hold in the lab, and the router's filter lets through.
const SERVICES: [&str; 4] = [
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8::/32",
];

/// Everything of a rack, started. Dropping it ends it, ferrolb first.
#[derive(Debug)]
pub struct Rack<'lab> {
    /// In the nodes' order.
    pub announcers: Vec<Ferrolb<'lab>>,
    /// At first one.
    pub allocators: Vec<Ferrolb<'lab>>,
    /// The top-of-rack router.
    pub router: Frr<'lab>,
    /// The nodes' places and Pods.
    pub data_path: DataPath,
    /// The API server.
    pub cp: ControlPlane<'lab>,
    /// Where all of this runs.
    pub topology: &'lab Topology,
}

impl<'lab> Rack<'lab> {
    /// Starts the router from its peering example, the cluster with MetalLB's CRDs, and `configuration`; then ferrolb,
    /// with one allocator.
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

    /// The same before CRDs, configuration and ferrolb.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn without_crds(
        scratch: &'lab Scratch,
        topology: &'lab Topology,
        example: &str,
    ) -> Result<Self> {
        let mut router = Frr::new(scratch, &topology.tor, example);
        router.start()?;
        // What kube-proxy does not rewrite yet would go back to the router and in circles, and leave behind, for two
        // minutes, an entry in conntrack by which later connections from the same port go in circles too.
        for (node, prefix) in topology
            .nodes
            .iter()
            .flat_map(|node| SERVICES.map(|to| (node, to)))
        {
            let family = if prefix.contains(':') { "-6" } else { "-4" };
            node.namespace
                .ip(&[family, "route", "add", "unreachable", prefix])?;
        }
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_rbac()?;
        Ok(Self {
            announcers: Vec::new(),
            allocators: Vec::new(),
            router,
            data_path: DataPath::start(&cp, &topology.nodes, APP)?,
            cp,
            topology,
        })
    }

    /// Starts one allocator, and an announcer on every node.
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

    /// Waits until a Service has addresses, and gives them.
    ///
    /// # Errors
    /// When it has none in time.
    pub fn await_addresses(&self, name: &str) -> Result<Vec<IpAddr>> {
        eventually(format!("an address for {name}"), SOON, || {
            let addresses = self.cp.service_addresses("default", name)?;
            ensure!(!addresses.is_empty(), "none");
            Ok(addresses)
        })
    }

    /// Waits until a Service has exactly this address.
    ///
    /// # Errors
    /// When it has another or none after that time.
    pub fn await_address(&self, name: &str, address: &str) -> Result<()> {
        let address: IpAddr = address.parse()?;
        eventually(format!("{address} for {name}"), SOON, || {
            let addresses = self.cp.service_addresses("default", name)?;
            ensure!(addresses == [address], "{addresses:?}");
            Ok(())
        })
    }

    /// Routes for a prefix to these nodes (0 is `node1`), as the router should have them.
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

    /// Waits until the router has exactly these routes, and its kernel forwards each prefix to just their next hops.
    ///
    /// # Errors
    /// When that is not so in time.
    pub fn await_routes(&self, expected: &BTreeSet<RouteEntry>) -> Result<()> {
        await_table(&self.router, expected, SOON)?;
        let prefixes: BTreeSet<_> = expected.iter().map(|route| route.prefix).collect();
        for prefix in prefixes {
            let of_prefix = expected.iter().filter(|route| route.prefix == prefix);
            let next_hops = of_prefix.map(|route| route.next_hop).collect();
            await_kernel(&self.topology.tor, &prefix.to_string(), &next_hops, SOON)?;
        }
        Ok(())
    }

    /// The host behind the router.
    ///
    /// # Errors
    /// When [`Topology::add_client`] was not called.
    pub fn client(&self) -> Result<&'lab Namespace> {
        self.topology.client.as_ref().context("no client")
    }

    /// Waits until exactly these nodes' Pods answer several new connections in a row to an address's port 80.
    ///
    /// # Errors
    /// When that is not so in time.
    pub fn await_answers(&self, address: IpAddr, nodes: &[usize]) -> Result<()> {
        let pods: Vec<String> = nodes
            .iter()
            .map(|&node| format!("{APP}-{}", self.topology.nodes[node].name))
            .collect();
        eventually(format!("{pods:?} answer at {address}"), SOON, || {
            let load = Load::start(self.client()?, SocketAddr::new(address, 80), 50, 0)?;
            std::thread::sleep(Duration::from_millis(600));
            let report = load.stop()?;
            ensure!(report.failed == 0, "{report:?}");
            ensure!(report.answered.keys().eq(&pods), "{report:?}");
            Ok(())
        })
    }
}
