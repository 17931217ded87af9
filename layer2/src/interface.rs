//! Network interfaces, as the driver reads them from the kernel.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::mac::Mac;

/// The kernel's number of an interface (`ifindex`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

/// An interface that frames can be sent on and received from.
///
/// The driver reports only interfaces that can be used: not enslaved to a bond, bridge or VRF, not
/// excluded by name, with broadcast and ARP, administratively up. The exception is the loopback
/// interface, on which processes of the same node exchange hellos and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: IfIndex,
    /// Its name.
    pub name: Box<str>,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Maximum size of an IP packet, in octets.
    pub mtu: u32,
    /// Whether it has a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// The kernel's addresses on it, with the prefix length of their networks. An address of a
    /// service that is in one of these networks is *on-link* here.
    pub networks: Vec<IpNet>,
    /// The default gateways behind it.
    pub gateways: Vec<IpAddr>,
}

/// A solicited-node group (RFC 4291 §2.7.1) that this node must join or leave, so that switches
/// which snoop MLD forward it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// Join it on an interface. A group that was joined before is joined once.
    Join(IfIndex, Ipv6Addr),
    /// Leave it. An interface that is gone leaves all its groups without this.
    Leave(IfIndex, Ipv6Addr),
}
