//! The solicited-node groups (RFC 4291 §2.7.1) that must be joined. Switches that snoop MLD forward
//! Neighbor Solicitations only to members.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use crate::interface::{GroupChange, IfIndex};
use crate::wire::ndp::solicited_node;

/// Counts who needs a group. A group that is needed again before the change was taken stays joined.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: BTreeMap<(IfIndex, Ipv6Addr), Member>,
    changed: BTreeSet<(IfIndex, Ipv6Addr)>,
}

#[derive(Debug, Default)]
struct Member {
    /// Addresses with the same last 24 bits share a group.
    users: u32,
    joined: bool,
}

impl Groups {
    /// An address is used on an interface. IPv4 addresses need no group.
    pub(super) fn add(&mut self, interface: IfIndex, address: IpAddr) {
        if let Some(key) = key(interface, address) {
            self.members.entry(key).or_default().users += 1;
            self.changed.insert(key);
        }
    }

    /// The reverse of [`Self::add`].
    pub(super) fn remove(&mut self, interface: IfIndex, address: IpAddr) {
        if let Some(key) = key(interface, address)
            && let Some(member) = self.members.get_mut(&key)
        {
            member.users = member.users.saturating_sub(1);
            self.changed.insert(key);
        }
    }

    /// The interface is gone, and with it its memberships.
    pub(super) fn remove_interface(&mut self, interface: IfIndex) {
        self.members.retain(|(of, _), _| *of != interface);
        self.changed.retain(|(of, _)| *of != interface);
    }

    pub(super) fn next_change(&mut self) -> Option<GroupChange> {
        while let Some(key) = self.changed.pop_first() {
            let Some(member) = self.members.get_mut(&key) else {
                continue;
            };
            let (interface, group) = key;
            match (member.users > 0, member.joined) {
                (true, false) => {
                    member.joined = true;
                    return Some(GroupChange::Join(interface, group));
                }
                (false, joined) => {
                    self.members.remove(&key);
                    if joined {
                        return Some(GroupChange::Leave(interface, group));
                    }
                }
                (true, true) => {}
            }
        }
        None
    }
}

fn key(interface: IfIndex, address: IpAddr) -> Option<(IfIndex, Ipv6Addr)> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some((interface, solicited_node(address))),
    }
}
