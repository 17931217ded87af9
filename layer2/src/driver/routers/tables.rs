//! Links, link-local addresses and IPv6 neighbors, from the messages of rtnetlink(7).

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::super::attributes::{Message, attributes, u16_at, u32_at};
use super::super::netlink::{Step, Table};
use crate::interface::IfIndex;
use crate::mac::Mac;
use crate::routers::{Link, Neighbor, Tables};

/// The fixed parts of the messages: `ifinfomsg`, `ifaddrmsg`, `ndmsg`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const NEIGHBOR_HEADER: usize = 12;

/// `NDA_DST` of `<linux/neighbour.h>`.
const NEIGHBOR_ADDRESS: u16 = 1;
/// `NLM_F_MULTI` of `<linux/netlink.h>`: part of a dump.
const PART_OF_DUMP: u16 = 2;

/// What the kernel reported.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    links: BTreeMap<u32, KernelLink>,
    /// By interface, in the order in which the kernel prefers them.
    addresses: BTreeMap<u32, Vec<Ipv6Addr>>,
    neighbors: BTreeMap<(IfIndex, Ipv6Addr), Neighbor>,
}

#[derive(Debug)]
struct KernelLink {
    name: Box<str>,
    mac: Option<Mac>,
    up: bool,
}

impl Table for Kernel {
    const GROUPS: libc::c_int = libc::RTMGRP_LINK | libc::RTMGRP_IPV6_IFADDR | libc::RTMGRP_NEIGH;
    const STEPS: &'static [Step] = &[
        Step {
            kind: libc::RTM_GETLINK,
            family: libc::AF_UNSPEC,
            fixed: LINK_HEADER,
        },
        Step {
            kind: libc::RTM_GETADDR,
            family: libc::AF_INET6,
            fixed: ADDRESS_HEADER,
        },
        Step {
            kind: libc::RTM_GETNEIGH,
            family: libc::AF_INET6,
            fixed: NEIGHBOR_HEADER,
        },
    ];

    fn apply(&mut self, message: &Message<'_>, _excluded: &dyn Fn(&str) -> bool) -> bool {
        let payload = message.payload;
        let applied = match message.kind {
            libc::RTM_NEWLINK => self.set_link(payload),
            libc::RTM_DELLINK => self.remove_link(payload),
            libc::RTM_NEWADDR => self.change_address(message, true),
            libc::RTM_DELADDR => self.change_address(message, false),
            libc::RTM_NEWNEIGH => self.change_neighbor(payload, true),
            libc::RTM_DELNEIGH => self.change_neighbor(payload, false),
            _ => None,
        };
        applied.is_some()
    }
}

impl Kernel {
    /// The tables for the machine.
    pub(super) fn tables(&self) -> Tables {
        let links = self.links.iter().map(|(index, link)| {
            let address = self.addresses.get(index).and_then(|all| all.first());
            let link_here = Link {
                index: IfIndex(*index),
                mac: link.mac,
                up: link.up,
                address: address.copied(),
            };
            (link.name.clone(), link_here)
        });
        Tables {
            links: links.collect(),
            neighbors: self.neighbors.clone(),
        }
    }

    fn set_link(&mut self, payload: &[u8]) -> Option<()> {
        // Messages about bridge ports have the family AF_BRIDGE.
        let is_link = i32::from(*payload.first()?) == libc::AF_UNSPEC;
        let index = u32_at(payload, 4).filter(|_| is_link)?;
        let hardware = u16_at(payload, 2)?;
        let flags = u32_at(payload, 8)?;
        let (mut name, mut mac) = (None, None);
        for (kind, value) in attributes(payload.get(LINK_HEADER..)?) {
            match kind {
                libc::IFLA_IFNAME => name = text(value),
                libc::IFLA_ADDRESS if hardware == libc::ARPHRD_ETHER => {
                    mac = value.try_into().ok().map(Mac);
                }
                _ => {}
            }
        }
        let usable = (libc::IFF_UP | libc::IFF_LOWER_UP).cast_unsigned();
        let up = flags & usable == usable;
        let name = name?.into();
        self.links.insert(index, KernelLink { name, mac, up });
        Some(())
    }

    fn remove_link(&mut self, payload: &[u8]) -> Option<()> {
        let is_link = i32::from(*payload.first()?) == libc::AF_UNSPEC;
        let index = u32_at(payload, 4).filter(|_| is_link)?;
        self.links.remove(&index)?;
        self.addresses.remove(&index);
        self.neighbors.retain(|(on, _), _| on.0 != index);
        Some(())
    }

    fn change_address(&mut self, message: &Message<'_>, added: bool) -> Option<()> {
        let payload = message.payload;
        let mut flags = u32::from(*payload.get(2)?);
        let index = u32_at(payload, 4)?;
        let mut address = None;
        for (kind, value) in attributes(payload.get(ADDRESS_HEADER..)?) {
            match kind {
                libc::IFA_ADDRESS => address = link_local(value),
                libc::IFA_FLAGS => flags = u32_at(value, 0)?,
                _ => {}
            }
        }
        let address = address?;
        let addresses = self.addresses.entry(index).or_default();
        let usable = flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) == 0;
        let known = addresses.contains(&address);
        match (added && usable, known) {
            // The kernel prefers the newest of several, and lists them in this order.
            (true, false) if message.flags & PART_OF_DUMP != 0 => addresses.push(address),
            (true, false) => addresses.insert(0, address),
            (true, true) => return None,
            (false, _) => addresses.retain(|other| *other != address),
        }
        Some(())
    }

    fn change_neighbor(&mut self, payload: &[u8], added: bool) -> Option<()> {
        let is_ipv6 = i32::from(*payload.first()?) == libc::AF_INET6;
        let index = u32_at(payload, 4).filter(|_| is_ipv6)?;
        let state = u16_at(payload, 8)?;
        let flags = *payload.get(10)?;
        let mut attributes = attributes(payload.get(NEIGHBOR_HEADER..)?);
        let (_, address) = attributes.find(|(kind, _)| *kind == NEIGHBOR_ADDRESS)?;
        let key = (IfIndex(index), link_local(address)?);
        let neighbor = Neighbor {
            router: flags & libc::NTF_ROUTER != 0,
            failed: state & libc::NUD_FAILED != 0,
        };
        let before = if added {
            self.neighbors.insert(key, neighbor)
        } else {
            self.neighbors.remove(&key)
        };
        // Most events are about reachability that changes nothing here.
        (before != added.then_some(neighbor)).then_some(())
    }
}

fn link_local(value: &[u8]) -> Option<Ipv6Addr> {
    let address = Ipv6Addr::from(*value.first_chunk::<16>()?);
    address.is_unicast_link_local().then_some(address)
}

/// Text that ends with an octet 0.
fn text(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|&octet| octet == 0);
    str::from_utf8(value.get(..end.unwrap_or(value.len()))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const OWN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    const UP: u32 = 0x1_0043;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut octets = length.to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    fn link(index: u32, name: &str, flags: u32) -> Vec<u8> {
        let mut octets = vec![0, 0];
        octets.extend(libc::ARPHRD_ETHER.to_ne_bytes());
        octets.extend(index.to_ne_bytes());
        octets.extend(flags.to_ne_bytes());
        octets.extend([0; 4]);
        octets.extend(attribute(libc::IFLA_IFNAME, format!("{name}\0").as_bytes()));
        octets.extend(attribute(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]));
        octets
    }

    fn address(index: u32, address: Ipv6Addr, flags: u32) -> Vec<u8> {
        let mut octets = vec![10, 64, 0, 253];
        octets.extend(index.to_ne_bytes());
        octets.extend(attribute(libc::IFA_ADDRESS, &address.octets()));
        octets.extend(attribute(libc::IFA_FLAGS, &flags.to_ne_bytes()));
        octets
    }

    fn neighbor(index: u32, address: Ipv6Addr, state: u16, flags: u8) -> Vec<u8> {
        let mut octets = vec![10, 0, 0, 0];
        octets.extend(index.to_ne_bytes());
        octets.extend(state.to_ne_bytes());
        octets.extend([flags, 1]);
        octets.extend(attribute(NEIGHBOR_ADDRESS, &address.octets()));
        octets
    }

    fn apply(kernel: &mut Kernel, kind: u16, flags: u16, payload: &[u8]) -> bool {
        let message = Message {
            kind,
            flags,
            sequence: 1,
            payload,
        };
        kernel.apply(&message, &|_| true)
    }

    #[test]
    fn links_have_their_preferred_address_when_it_is_no_longer_tentative() {
        let mut kernel = Kernel::default();
        assert!(apply(
            &mut kernel,
            libc::RTM_NEWLINK,
            0,
            &link(3, "eth1", UP)
        ));
        let tentative = address(3, OWN, libc::IFA_F_TENTATIVE);
        apply(&mut kernel, libc::RTM_NEWADDR, 0, &tentative);
        assert_eq!(kernel.tables().links["eth1"].address, None);
        apply(&mut kernel, libc::RTM_NEWADDR, 0, &address(3, OWN, 0));
        let link_now = kernel.tables().links["eth1"];
        assert_eq!((link_now.address, link_now.up), (Some(OWN), true));
        // The kernel prefers the newest one.
        let newest = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 10);
        apply(&mut kernel, libc::RTM_NEWADDR, 0, &address(3, newest, 0));
        assert_eq!(kernel.tables().links["eth1"].address, Some(newest));
        let oldest = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 11);
        let dumped = address(3, oldest, 0);
        apply(&mut kernel, libc::RTM_NEWADDR, PART_OF_DUMP, &dumped);
        assert_eq!(kernel.tables().links["eth1"].address, Some(newest));
        apply(&mut kernel, libc::RTM_DELADDR, 0, &address(3, newest, 0));
        assert_eq!(kernel.tables().links["eth1"].address, Some(OWN));
        let global = address(3, "2001:db8::1".parse().unwrap(), 0);
        assert!(!apply(&mut kernel, libc::RTM_NEWADDR, 0, &global));
        // Up, without a carrier.
        apply(&mut kernel, libc::RTM_NEWLINK, 0, &link(3, "eth1", 0x43));
        assert!(!kernel.tables().links["eth1"].up);
    }

    #[test]
    fn neighbors_change_with_their_flags_and_go_with_their_link() {
        let mut kernel = Kernel::default();
        apply(&mut kernel, libc::RTM_NEWLINK, 0, &link(3, "eth1", UP));
        let mut change = |state, flags| {
            let octets = neighbor(3, ROUTER, state, flags);
            let changed = apply(&mut kernel, libc::RTM_NEWNEIGH, 0, &octets);
            (changed, kernel.tables().neighbors[&(IfIndex(3), ROUTER)])
        };
        let seen = |router, failed| Neighbor { router, failed };
        assert_eq!(change(2, 0), (true, seen(false, false)));
        assert_eq!(change(4, libc::NTF_ROUTER), (true, seen(true, false)));
        assert_eq!(change(2, libc::NTF_ROUTER), (false, seen(true, false)));
        let failed = libc::NUD_FAILED;
        assert_eq!(change(failed, libc::NTF_ROUTER), (true, seen(true, true)));
        let global = neighbor(3, "2001:db8::1".parse().unwrap(), 2, libc::NTF_ROUTER);
        assert!(!apply(&mut kernel, libc::RTM_NEWNEIGH, 0, &global));
        apply(&mut kernel, libc::RTM_DELLINK, 0, &link(3, "eth1", 0));
        assert_eq!(kernel.tables(), Tables::default());
    }

    #[test]
    fn truncated_messages_change_nothing() {
        let whole = [
            (libc::RTM_NEWLINK, link(3, "eth1", UP)),
            (libc::RTM_NEWADDR, address(3, OWN, 0)),
            (libc::RTM_NEWNEIGH, neighbor(3, ROUTER, 2, libc::NTF_ROUTER)),
        ];
        for (kind, octets) in whole {
            for length in 0..20 {
                let mut kernel = Kernel::default();
                let cut = &octets[..length.min(octets.len())];
                assert!(!apply(&mut kernel, kind, 0, cut), "{kind}: {length}");
            }
        }
    }
}
