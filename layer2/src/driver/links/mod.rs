//! The kernel's links, addresses and default routes, and the usable interfaces among them. Built
//! from the messages of rtnetlink(7), without sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::attributes::{Message, aligned, attributes, u16_at, u32_at};
use crate::interface::{IfIndex, Interface};
use crate::mac::Mac;

/// The interface to which kube-proxy in IPVS mode assigns the addresses of all services.
const SERVICE_PROXY: &str = "kube-ipvs0";

/// `IFLA_BOND_MODE` of `<linux/if_link.h>`, and two of its values.
const BOND_MODE: u16 = 1;
const BALANCE_TLB: u8 = 5;
const BALANCE_ALB: u8 = 6;

/// The fixed parts of the messages: `ifinfomsg`, `ifaddrmsg`, `rtmsg`, `rtnexthop`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const NEXT_HOP_HEADER: usize = 8;

/// Links, addresses and default routes.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<u32, BTreeSet<IpNet>>,
    gateways: BTreeSet<Gateway>,
}

#[derive(Debug)]
struct Link {
    name: Box<str>,
    flags: u32,
    hardware: u16,
    mac: Option<Mac>,
    mtu: u32,
    enslaved: bool,
    bond_mode: Option<u8>,
    excluded: bool,
}

/// A next hop of a default route.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Gateway {
    ipv6: bool,
    /// The metric: it distinguishes default routes.
    priority: u32,
    interface: u32,
    address: IpAddr,
}

impl Links {
    /// Applies a message of the kernel. Returns false for other messages than of links, addresses
    /// and default routes: they change nothing.
    pub(super) fn apply(&mut self, message: &Message<'_>, excluded: &dyn Fn(&str) -> bool) -> bool {
        let applied = match message.kind {
            libc::RTM_NEWLINK => self.set_link(message.payload, excluded),
            libc::RTM_DELLINK => self.remove_link(message.payload),
            libc::RTM_NEWADDR => self.change_address(message.payload, true),
            libc::RTM_DELADDR => self.change_address(message.payload, false),
            libc::RTM_NEWROUTE => self.add_route(message),
            libc::RTM_DELROUTE => self.remove_route(message.payload),
            _ => None,
        };
        applied.is_some()
    }

    fn set_link(&mut self, payload: &[u8], excluded: &dyn Fn(&str) -> bool) -> Option<()> {
        let index = link_index(payload)?;
        let mut link = Link {
            name: Box::default(),
            flags: u32_at(payload, 8)?,
            hardware: u16_at(payload, 2)?,
            mac: None,
            mtu: 0,
            enslaved: false,
            bond_mode: None,
            excluded: false,
        };
        for (kind, value) in attributes(payload.get(LINK_HEADER..)?) {
            match kind {
                libc::IFLA_IFNAME => link.name = text(value)?.into(),
                libc::IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
                libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
                libc::IFLA_MASTER => link.enslaved = u32_at(value, 0)? != 0,
                libc::IFLA_LINKINFO => link.bond_mode = bond_mode(value),
                _ => {}
            }
        }
        link.excluded = excluded(&link.name);
        // The kernel removes the IPv4 routes of a link that goes down, and reports nothing.
        if !link.has(libc::IFF_UP) {
            self.gateways
                .retain(|gateway| gateway.ipv6 || gateway.interface != index);
        }
        self.links.insert(index, link);
        Some(())
    }

    fn remove_link(&mut self, payload: &[u8]) -> Option<()> {
        let index = link_index(payload)?;
        self.links.remove(&index);
        self.addresses.remove(&index);
        self.gateways.retain(|gateway| gateway.interface != index);
        Some(())
    }

    fn change_address(&mut self, payload: &[u8], added: bool) -> Option<()> {
        let family = *payload.first()?;
        let length = *payload.get(1)?;
        let mut flags = u32::from(*payload.get(2)?);
        let index = u32_at(payload, 4)?;
        let (mut local, mut address) = (None, None);
        for (kind, value) in attributes(payload.get(ADDRESS_HEADER..)?) {
            match kind {
                // On point-to-point links IFA_ADDRESS is the address of the other end.
                libc::IFA_LOCAL => local = ip(family, value),
                libc::IFA_ADDRESS => address = ip(family, value),
                libc::IFA_FLAGS => flags = u32_at(value, 0)?,
                _ => {}
            }
        }
        let network = IpNet::new(local.or(address)?, length).ok()?;
        let addresses = self.addresses.entry(index).or_default();
        if added && flags & libc::IFA_F_DADFAILED == 0 {
            addresses.insert(network);
        } else {
            addresses.remove(&network);
        }
        // The kernel removes the IPv4 routes together with the last address, and reports nothing.
        if !addresses.iter().any(|network| network.addr().is_ipv4()) {
            self.gateways
                .retain(|gateway| gateway.ipv6 || gateway.interface != index);
        }
        Some(())
    }

    fn add_route(&mut self, message: &Message<'_>) -> Option<()> {
        let new = default_gateways(message.payload)?;
        // `NLM_F_REPLACE`: the new route takes the place of the one with this metric.
        if i32::from(message.flags) & libc::NLM_F_REPLACE != 0 {
            self.gateways
                .retain(|gateway| (gateway.ipv6, gateway.priority) != (new.ipv6, new.priority));
        }
        self.gateways.extend(new.gateways());
        Some(())
    }

    fn remove_route(&mut self, payload: &[u8]) -> Option<()> {
        for gateway in default_gateways(payload)?.gateways() {
            self.gateways.remove(&gateway);
        }
        Some(())
    }

    /// The usable interfaces and the loopback interface.
    pub(super) fn interfaces(&self) -> BTreeMap<IfIndex, Interface> {
        let usable = self.links.iter().filter(|(_, link)| link.is_usable());
        usable
            .map(|(&index, link)| (IfIndex(index), self.interface(index, link)))
            .collect()
    }

    fn interface(&self, index: u32, link: &Link) -> Interface {
        let networks = self.addresses.get(&index).into_iter().flatten();
        let gateways = self.gateways.iter();
        Interface {
            index: IfIndex(index),
            name: link.name.clone(),
            mac: link.mac.unwrap_or_default(),
            mtu: link.mtu,
            carrier: link.has(libc::IFF_LOWER_UP),
            loopback: link.has(libc::IFF_LOOPBACK),
            networks: networks.copied().collect(),
            // Several routes may have one gateway.
            gateways: gateways
                .filter(|gateway| gateway.interface == index)
                .map(|gateway| gateway.address)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        }
    }

    /// The name of the mode of a bond that sends ARP replies of its own choice: balance-tlb or
    /// balance-alb.
    pub(super) fn rewriting_bond_mode(&self, index: IfIndex) -> Option<&'static str> {
        match self.links.get(&index.0)?.bond_mode? {
            BALANCE_TLB => Some("balance-tlb"),
            BALANCE_ALB => Some("balance-alb"),
            _ => None,
        }
    }

    /// The addresses of `kube-ipvs0`.
    pub(super) fn service_proxy_addresses(&self) -> BTreeSet<IpAddr> {
        let mut links = self.links.iter();
        let proxy = links.find(|(_, link)| &*link.name == SERVICE_PROXY);
        let addresses = proxy.and_then(|(index, _)| self.addresses.get(index));
        addresses.into_iter().flatten().map(IpNet::addr).collect()
    }
}

impl Link {
    fn has(&self, flag: libc::c_int) -> bool {
        // The flags of the kernel are an unsigned integer; libc has them as signed constants.
        self.flags & flag.cast_unsigned() != 0
    }

    fn is_usable(&self) -> bool {
        if !self.has(libc::IFF_UP) || self.enslaved {
            return false;
        }
        // Processes of one node exchange hellos there, whatever is excluded.
        if self.has(libc::IFF_LOOPBACK) {
            return true;
        }
        self.hardware == libc::ARPHRD_ETHER
            && self.mac.is_some()
            && self.has(libc::IFF_BROADCAST)
            && !self.has(libc::IFF_NOARP)
            && !self.excluded
    }
}

/// The next hops of a message about a default route of the main table.
struct DefaultRoute {
    ipv6: bool,
    priority: u32,
    hops: Vec<(u32, IpAddr)>,
}

impl DefaultRoute {
    fn gateways(&self) -> impl Iterator<Item = Gateway> {
        self.hops.iter().map(|&(interface, address)| Gateway {
            ipv6: self.ipv6,
            priority: self.priority,
            interface,
            address,
        })
    }
}

/// None for other routes.
fn default_gateways(payload: &[u8]) -> Option<DefaultRoute> {
    let [
        family,
        destination_length,
        source_length,
        _,
        table,
        _,
        _,
        kind,
    ] = *payload.first_chunk()?;
    let is_default = destination_length == 0 && source_length == 0;
    if !is_default || table != libc::RT_TABLE_MAIN || kind != libc::RTN_UNICAST {
        return None;
    }
    let mut route = DefaultRoute {
        ipv6: i32::from(family) == libc::AF_INET6,
        priority: 0,
        hops: Vec::new(),
    };
    let octets = payload.get(ROUTE_HEADER..)?;
    route.hops.extend(next_hop(family, octets, None));
    for (kind, value) in attributes(octets) {
        match kind {
            libc::RTA_PRIORITY => route.priority = u32_at(value, 0)?,
            libc::RTA_MULTIPATH => route.hops.extend(next_hops(family, value)),
            _ => {}
        }
    }
    Some(route)
}

/// The list of `RTA_MULTIPATH`.
fn next_hops(family: u8, mut octets: &[u8]) -> impl Iterator<Item = (u32, IpAddr)> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(octets, 0)?);
        let interface = u32_at(octets, 4)?;
        let hop = next_hop(
            family,
            octets.get(NEXT_HOP_HEADER..length)?,
            Some(interface),
        );
        octets = octets.get(aligned(length)..).unwrap_or_default();
        Some(hop)
    })
    .flatten()
}

/// The next hop of attributes. None for a route without a gateway.
fn next_hop(family: u8, octets: &[u8], mut interface: Option<u32>) -> Option<(u32, IpAddr)> {
    let mut gateway = None;
    for (kind, value) in attributes(octets) {
        match kind {
            libc::RTA_OIF => interface = u32_at(value, 0),
            libc::RTA_GATEWAY => gateway = ip(family, value),
            // An IPv4 route with an IPv6 gateway: the family, then the address.
            libc::RTA_VIA => gateway = ip(u8::try_from(u16_at(value, 0)?).ok()?, value.get(2..)?),
            _ => {}
        }
    }
    Some((interface?, gateway?))
}

/// The number of the link of an `ifinfomsg`. None for messages about bridge ports: they have the
/// family AF_BRIDGE, and the removal of a port isn't the removal of the link.
fn link_index(payload: &[u8]) -> Option<u32> {
    let is_link = i32::from(*payload.first()?) == libc::AF_UNSPEC;
    is_link.then(|| u32_at(payload, 4)).flatten()
}

fn bond_mode(link_info: &[u8]) -> Option<u8> {
    let find = |octets, wanted| attributes(octets).find(|(kind, _)| *kind == wanted);
    let (_, kind) = find(link_info, libc::IFLA_INFO_KIND)?;
    if text(kind)? != "bond" {
        return None;
    }
    let (_, data) = find(link_info, libc::IFLA_INFO_DATA)?;
    let (_, mode) = find(data, BOND_MODE)?;
    mode.first().copied()
}

/// Text that ends with an octet 0.
fn text(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|&octet| octet == 0);
    str::from_utf8(value.get(..end.unwrap_or(value.len()))?).ok()
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::from(*value.first_chunk::<4>()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(*value.first_chunk::<16>()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
