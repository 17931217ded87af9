//! Hosts on the LAN that are no nodes: clients, hosts with an address of a Service, attackers.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Context, Result};

use crate::netns::{Link, Namespace};
use crate::topology::{TOR_IPV4, TOR_IPV6, Topology};

/// Name of the interface on the LAN, of nodes and hosts.
pub(super) const UPLINK: &str = "uplink";

/// An Ethernet address, in lower case with colons.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(String);

impl FromStr for Mac {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let octets: Option<Vec<u8>> = text
            .split(':')
            .map(|octet| u8::from_str_radix(octet, 16).ok())
            .collect();
        let octets = octets.filter(|octets| octets.len() == 6);
        let octets = octets.with_context(|| format!("not an Ethernet address: {text:?}"))?;
        let texts: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        Ok(Self(texts.join(":")))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The Ethernet address of a node or host on the LAN.
///
/// # Errors
/// When it has no interface `uplink`.
pub fn mac(namespace: &Namespace) -> Result<Mac> {
    let links = namespace.json("ip", &["-j", "link", "show", "dev", UPLINK])?;
    let address = links[0]["address"].as_str().context("no address")?;
    address.parse()
}

/// A host on the LAN.
#[derive(Debug)]
pub struct Host {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its IPv4 address on the LAN.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address on the LAN.
    pub ipv6: Ipv6Addr,
    /// The veth pair of its interface `uplink` and the switch's port.
    pub uplink: Link,
    /// Name of the switch's port.
    pub port: String,
}

impl Host {
    /// Connects a host to the LAN of a rack, with addresses that end in `number` and the router as
    /// its default route. Nodes have the numbers from 11.
    ///
    /// # Errors
    /// When its namespace can't be created or the name is in use.
    pub fn new(rack: &Topology, name: &str, number: u8) -> Result<Self> {
        let namespace = Namespace::new(name)?;
        let uplink = Link::new((&namespace, UPLINK), (&rack.tor, name))?;
        rack.tor.attach(name, "rack")?;
        let ipv4 = Ipv4Addr::new(10, 99, 0, number);
        let ipv6: Ipv6Addr = format!("fd99::{number}").parse()?;
        namespace.address(UPLINK, &format!("{ipv4}/24"))?;
        namespace.address(UPLINK, &format!("{ipv6}/64"))?;
        namespace.route("default", &TOR_IPV4.to_string())?;
        namespace.route("default", &TOR_IPV6.to_string())?;
        Ok(Self {
            namespace,
            ipv4,
            ipv6,
            uplink,
            port: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notations_of_an_ethernet_address_are_equal() {
        let written: Mac = "0:50:56:AB:00:7".parse().unwrap();
        assert_eq!(written.to_string(), "00:50:56:ab:00:07");
        assert!("00:50:56:ab:00".parse::<Mac>().is_err());
    }
}
