//! One rack: a top-of-rack router, nodes on its LAN, and optionally a client behind the router. The
//! addresses are those of `peering-examples/`.
//!
//! ```text
//! client 192.168.50.2 ── tor 10.99.0.1, fd99::1, AS 64600
//!                         │ LAN 10.99.0.0/24, fd99::/64 (a bridge in tor)
//!          ┌──────────────┼──────────────┐
//!        node1          node2          node3          AS 64700
//!        .11, ::11      .12, ::12      .13, ::13
//! ```
//!
//! A Kubernetes control plane reaches the nodes over a separate management network:
//! `ControlPlane::join` in [`crate::kube`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use crate::netns::{Link, Namespace};

/// The router's AS in the eBGP examples; in the iBGP examples it is [`NODE_ASN`].
pub const TOR_ASN: u32 = 64600;
/// The nodes' AS.
pub const NODE_ASN: u32 = 64700;
/// The router's address on the rack's LAN, and its router ID.
pub const TOR_IPV4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The router's IPv6 address on the rack's LAN.
pub const TOR_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
/// A link-local address of the router on the rack's LAN, in addition to the kernel's.
pub const TOR_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The password in the `md5` examples.
pub const MD5_PASSWORD: &str = "rack-42-secret";
/// The client's address behind the router.
pub const CLIENT_IPV4: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 2);
/// The client's IPv6 address behind the router.
pub const CLIENT_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd50, 0, 0, 0, 0, 0, 0, 2);

/// The hosts of a rack.
#[derive(Debug)]
pub struct Topology {
    /// The router's host; [`crate::router`] has the programs that run on it.
    pub tor: Namespace,
    /// The nodes, `node1` first.
    pub nodes: Vec<Node>,
    client: Option<Namespace>,
}

/// A node of the cluster. The addresses of its uplink must be the InternalIPs of its Node object:
/// they are the next hops.
#[derive(Debug)]
pub struct Node {
    /// `node1`, `node2`, …
    pub name: String,
    /// Its host.
    pub namespace: Namespace,
    /// IPv4 address of its uplink.
    pub ipv4: Ipv4Addr,
    /// IPv6 address of its uplink.
    pub ipv6: Ipv6Addr,
    /// The veth pair of its interface `uplink` and the router's port.
    pub uplink: Link,
}

impl Topology {
    /// Creates a router and `nodes` nodes (at most 200) with a default route to it.
    ///
    /// # Errors
    /// When namespaces can't be created, most likely without root.
    pub fn new(nodes: u8) -> Result<Self> {
        let tor = Namespace::new("tor")?;
        tor.bridge("rack")?;
        tor.address("rack", &format!("{TOR_IPV4}/24"))?;
        tor.address("rack", &format!("{TOR_IPV6}/64"))?;
        tor.address("rack", &format!("{TOR_LINK_LOCAL}/64"))?;
        let nodes = (1..=nodes)
            .map(|index| Node::new(index, &tor))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            tor,
            nodes,
            client: None,
        })
    }

    /// Adds a client behind the router, with a default route to it.
    ///
    /// # Errors
    /// When its namespace can't be created.
    pub fn add_client(&mut self) -> Result<()> {
        let client = Namespace::new("client")?;
        Link::new((&client, "uplink"), (&self.tor, "behind"))?;
        self.tor.address("behind", "192.168.50.1/24")?;
        self.tor.address("behind", "fd50::1/64")?;
        client.address("uplink", &format!("{CLIENT_IPV4}/24"))?;
        client.address("uplink", &format!("{CLIENT_IPV6}/64"))?;
        client.route("default", "192.168.50.1")?;
        client.route("default", "fd50::1")?;
        self.client = Some(client);
        Ok(())
    }

    /// The client behind the router.
    ///
    /// # Errors
    /// When [`Topology::add_client`] was not called.
    pub fn client(&self) -> Result<&Namespace> {
        self.client.as_ref().context("the rack has no client")
    }

    /// The node with this IPv4 or IPv6 address on its uplink.
    #[must_use]
    pub fn node_at(&self, address: IpAddr) -> Option<&Node> {
        self.nodes
            .iter()
            .find(|node| IpAddr::V4(node.ipv4) == address || IpAddr::V6(node.ipv6) == address)
    }
}

/// The IPv4 addresses of these nodes.
#[must_use]
pub fn ipv4_addresses(nodes: &[&Node]) -> BTreeSet<IpAddr> {
    nodes.iter().map(|node| IpAddr::V4(node.ipv4)).collect()
}

impl Node {
    fn new(index: u8, tor: &Namespace) -> Result<Self> {
        let name = format!("node{index}");
        let namespace = Namespace::new(&name)?;
        let host = index + 10;
        let ipv4 = Ipv4Addr::new(10, 99, 0, host);
        // As in the diagram: host 11 has ::11, which is 0x11.
        let ipv6: Ipv6Addr = format!("fd99::{host}").parse()?;
        let uplink = Link::new((&namespace, "uplink"), (tor, &name))?;
        tor.attach(&name, "rack")?;
        namespace.address("uplink", &format!("{ipv4}/24"))?;
        namespace.address("uplink", &format!("{ipv6}/64"))?;
        namespace.route("default", &TOR_IPV4.to_string())?;
        namespace.route("default", &TOR_IPV6.to_string())?;
        Ok(Self {
            name,
            namespace,
            ipv4,
            ipv6,
            uplink,
        })
    }
}
