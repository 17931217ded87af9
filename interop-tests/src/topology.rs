//! One rack: a top-of-rack router and its nodes on a LAN, if wanted a client behind the router. The
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
//! A real control plane joins each node by a network of its own: `ControlPlane::join` in
//! [`crate::kube`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::netns::{Link, Namespace};

/// The router's AS in the eBGP examples; in the iBGP examples it is [`NODE_ASN`].
pub const TOR_ASN: u32 = 64600;
/// The nodes' AS.
pub const NODE_ASN: u32 = 64700;
/// The router's address on the rack's LAN, and its router ID.
pub const TOR_IPV4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The router's IPv6 address on the rack's LAN.
pub const TOR_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
/// A link-local address of the router on the rack's LAN, beside the one that the kernel gives it.
pub const TOR_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The password in the `md5` examples.
pub const MD5_PASSWORD: &str = "rack-42-secret";
/// The client's address behind the router.
pub const CLIENT_IPV4: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 2);
/// The client's IPv6 address behind the router.
pub const CLIENT_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd50, 0, 0, 0, 0, 0, 0, 2);

/// The rack.
#[derive(Debug)]
pub struct Topology {
    /// The router's host. Its routers are in [`crate::router`].
    pub tor: Namespace,
    /// The nodes, `node1` first.
    pub nodes: Vec<Node>,
    /// A host behind the router, if [`Topology::add_client`] was called.
    pub client: Option<Namespace>,
}

/// A node of the cluster. Its uplink's addresses are to be its Node object's InternalIPs, so that
/// they are the next hops.
#[derive(Debug)]
pub struct Node {
    /// `node1`, `node2`, …
    pub name: String,
    /// Its host.
    pub namespace: Namespace,
    /// Its uplink's address.
    pub ipv4: Ipv4Addr,
    /// Its uplink's IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Between its `uplink` and the router's port.
    pub uplink: Link,
}

impl Topology {
    /// A router and `nodes` nodes (at most 200) with a default route to it.
    ///
    /// # Errors
    /// When namespaces can't be made, most likely for want of root.
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

    /// Adds a host behind the router, with a default route to it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn add_client(&mut self) -> Result<&Namespace> {
        let client = Namespace::new("client")?;
        Link::new((&client, "uplink"), (&self.tor, "client"))?;
        self.tor.address("client", "192.168.50.1/24")?;
        self.tor.address("client", "fd50::1/64")?;
        client.address("uplink", &format!("{CLIENT_IPV4}/24"))?;
        client.address("uplink", &format!("{CLIENT_IPV6}/64"))?;
        client.route("default", "192.168.50.1")?;
        client.route("default", "fd50::1")?;
        Ok(self.client.insert(client))
    }

    /// The node that has this address, IPv4 or IPv6, on its uplink.
    #[must_use]
    pub fn node_at(&self, address: IpAddr) -> Option<&Node> {
        self.nodes
            .iter()
            .find(|node| IpAddr::V4(node.ipv4) == address || IpAddr::V6(node.ipv6) == address)
    }
}

impl Node {
    fn new(index: u8, tor: &Namespace) -> Result<Self> {
        let name = format!("node{index}");
        let namespace = Namespace::new(&name)?;
        let host = index + 10;
        let ipv4 = Ipv4Addr::new(10, 99, 0, host);
        // Written as in the picture: 11 there is 0x11 here.
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
