//! Packets to an address that no Service has: whether nodes send them back to the router, which
//! sends them to a node again, until their TTL expires. A traceroute shows the two in turn.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::topology::{Node, Topology};

/// How many packets [`Bounces::count`] sends.
pub const PACKETS: u64 = 20;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What became of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounces {
    /// How often nodes forwarded one of them.
    pub by_nodes: u64,
    /// How many ICMP messages Time Exceeded the client got, at most one for each packet.
    pub time_exceeded: u64,
}

impl Bounces {
    /// No packet came back.
    pub const NONE: Self = Self {
        by_nodes: 0,
        time_exceeded: 0,
    };

    /// Sends packets from the client of a rack, whose router must have a route to the address, and
    /// waits until the router has forwarded them. Nothing else may use the nodes meanwhile.
    ///
    /// # Errors
    /// When the router does not forward them.
    pub fn count(rack: &Topology, target: IpAddr) -> Result<Self> {
        let client = rack.client()?;
        let before = Counters::read(rack, client, target)?;
        client.open()?.inside(|| send(target))?;
        eventually("the router forwards the packets", TIMEOUT, || {
            let forwarded = forwarded(&rack.tor, target)? - before.by_router;
            ensure!(forwarded >= PACKETS, "{forwarded} of {PACKETS}");
            Ok(())
        })?;
        let after = Counters::read(rack, client, target)?;
        Ok(Self {
            by_nodes: after.by_nodes - before.by_nodes,
            time_exceeded: after.time_exceeded - before.time_exceeded,
        })
    }
}

fn send(target: IpAddr) -> Result<()> {
    let any: IpAddr = match target {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    for number in 0..PACKETS {
        // Another port each time, so that the router uses all of its next hops. Each socket is new:
        // it would report the error of an earlier packet.
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        let port = 33434 + u16::try_from(number)?;
        socket.send_to(b"probe", SocketAddr::new(target, port))?;
    }
    Ok(())
}

/// The hops that `traceroute` shows from the client of a rack, eight at most. None: no answer from
/// that hop.
///
/// # Errors
/// When it prints something else.
pub fn traceroute(rack: &Topology, target: IpAddr) -> Result<Vec<Option<IpAddr>>> {
    let text = target.to_string();
    let arguments = ["-n", "-q", "1", "-w", "1", "-m", "8", &text];
    let output = rack.client()?.run("traceroute", &arguments)?;
    // The first line names the target. " 2  10.99.0.11  0.030 ms", or " 3  *".
    let hops = output.lines().skip(1).map(|line| {
        let hop = line.split_whitespace().nth(1);
        match hop.with_context(|| output.clone())? {
            "*" => Ok(None),
            address => Ok(Some(address.parse().with_context(|| output.clone())?)),
        }
    });
    hops.collect()
}

/// Sums since the namespaces exist.
struct Counters {
    by_router: u64,
    by_nodes: u64,
    time_exceeded: u64,
}

impl Counters {
    fn read(rack: &Topology, client: &Namespace, target: IpAddr) -> Result<Self> {
        let nodes = rack.nodes.iter();
        let by_nodes = nodes.map(|node: &Node| forwarded(&node.namespace, target));
        Ok(Self {
            by_router: forwarded(&rack.tor, target)?,
            by_nodes: by_nodes.sum::<Result<u64>>()?,
            time_exceeded: match target {
                IpAddr::V4(_) => snmp(client, "Icmp", "InTimeExcds")?,
                IpAddr::V6(_) => snmp6(client, "Icmp6InTimeExcds")?,
            },
        })
    }
}

/// Packets of the target's family that a host has forwarded.
fn forwarded(host: &Namespace, target: IpAddr) -> Result<u64> {
    match target {
        IpAddr::V4(_) => snmp(host, "Ip", "ForwDatagrams"),
        IpAddr::V6(_) => snmp6(host, "Ip6OutForwDatagrams"),
    }
}

/// A counter of `/proc/net/snmp`, which has a line of names and one of values for each protocol.
fn snmp(host: &Namespace, protocol: &str, name: &str) -> Result<u64> {
    let text = host.run("cat", &["/proc/net/snmp"])?;
    let prefix = format!("{protocol}: ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
    let (names, values) = (lines.next(), lines.next());
    let (names, values) = names.zip(values).context(text.clone())?;
    let mut both = names.split(' ').zip(values.split(' '));
    let found = both.find(|(found, _)| *found == name);
    Ok(found.context(text.clone())?.1.parse()?)
}

/// A counter of `/proc/net/snmp6`.
fn snmp6(host: &Namespace, name: &str) -> Result<u64> {
    let text = host.run("cat", &["/proc/net/snmp6"])?;
    let value = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next())?
    });
    Ok(value.context(text.clone())?.parse()?)
}
