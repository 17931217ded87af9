//! Membership in IPv6 groups, which the kernel announces by MLD (RFC 3810): switches that snoop MLD
//! forward Neighbor Solicitations to members only.

use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use crate::interface::IfIndex;
use crate::machine::GroupChange;
use crate::wire::hello_frame::GROUP_IPV6;

/// The groups that this process has joined. A socket can join only as many as
/// `net.core.optmem_max` permits (2,340 by default, 365 on older kernels): there is a set of them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    sockets: Vec<Socket>,
    /// Each with the index of its socket.
    joined: HashMap<(IfIndex, Ipv6Addr), usize>,
    /// To be tried again when the interface changes.
    failed: HashSet<(IfIndex, Ipv6Addr)>,
}

#[derive(Debug)]
struct Socket {
    socket: OwnedFd,
    /// The kernel refused a membership, and none was left since then.
    full: bool,
}

impl Groups {
    /// Joins or leaves a group.
    pub(super) fn change(&mut self, change: GroupChange) {
        match change {
            GroupChange::Join(interface, group) => self.join(interface, group),
            GroupChange::Leave(interface, group) => self.leave(interface, group),
        }
    }

    /// Joins the group of hellos on an interface, and those of which the join failed before.
    pub(super) fn set_interface(&mut self, interface: IfIndex) {
        self.join(interface, GROUP_IPV6);
        for group in self.failed_on(interface) {
            self.join(interface, group);
        }
    }

    /// Leaves all groups of an interface.
    pub(super) fn remove_interface(&mut self, interface: IfIndex) {
        let keys = self.joined.keys().filter(|(of, _)| *of == interface);
        let groups: Vec<_> = keys.map(|&(_, group)| group).collect();
        for group in groups {
            self.leave(interface, group);
        }
        self.failed.retain(|(of, _)| *of != interface);
    }

    /// The number of solicited-node groups of an interface that could not be joined.
    pub(super) fn failures(&self, interface: IfIndex) -> usize {
        let groups = self.failed_on(interface).into_iter();
        groups.filter(|group| *group != GROUP_IPV6).count()
    }

    fn failed_on(&self, interface: IfIndex) -> Vec<Ipv6Addr> {
        let keys = self.failed.iter().filter(|(of, _)| *of == interface);
        keys.map(|&(_, group)| group).collect()
    }

    fn join(&mut self, interface: IfIndex, group: Ipv6Addr) {
        let key = (interface, group);
        if self.joined.contains_key(&key) {
            return;
        }
        match self.try_join(interface, group) {
            Ok(socket) => {
                self.failed.remove(&key);
                self.joined.insert(key, socket);
            }
            Err(error) => {
                if self.failed.insert(key) {
                    tracing::debug!("cannot join {group} on interface {}: {error}", interface.0);
                }
            }
        }
    }

    /// Returns the socket that joined the group.
    fn try_join(&mut self, interface: IfIndex, group: Ipv6Addr) -> Result<usize, Errno> {
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            if socket.full {
                continue;
            }
            match sockopt::set_ipv6_add_membership(&socket.socket, &group, interface.0) {
                Err(Errno::NOMEM | Errno::NOBUFS) => socket.full = true,
                result => return result.map(|()| index),
            }
        }
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, None)?;
        sockopt::set_ipv6_add_membership(&socket, &group, interface.0)?;
        self.sockets.push(Socket {
            socket,
            full: false,
        });
        Ok(self.sockets.len() - 1)
    }

    fn leave(&mut self, interface: IfIndex, group: Ipv6Addr) {
        self.failed.remove(&(interface, group));
        let socket = self.joined.remove(&(interface, group));
        if let Some(socket) = socket.and_then(|index| self.sockets.get_mut(index)) {
            // Fails if the kernel removed the interface and its memberships.
            _ = sockopt::set_ipv6_drop_membership(&socket.socket, &group, interface.0);
            socket.full = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> IfIndex {
        let text = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        IfIndex(text.trim().parse().unwrap())
    }

    /// A group of this process: other tests may run on this host.
    fn group(number: u16) -> Ipv6Addr {
        let process = u128::from(std::process::id()) << 32;
        let base = u128::from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0xff53, number));
        Ipv6Addr::from(base | process)
    }

    /// The number of these groups that the kernel has on an interface.
    fn in_kernel() -> usize {
        let text = std::fs::read_to_string("/proc/net/igmp6").unwrap();
        let prefix = format!("ff02000000000000{:08x}ff53", std::process::id());
        let lines = text.lines();
        lines.filter(|line| line.contains(&prefix)).count()
    }

    #[test]
    fn more_groups_are_joined_than_one_socket_can_join() {
        let mut groups = Groups::default();
        let interface = loopback();
        for number in 0..3000 {
            groups.change(GroupChange::Join(interface, group(number)));
            // Again: no second membership.
            groups.change(GroupChange::Join(interface, group(number)));
        }
        assert_eq!(groups.failures(interface), 0);
        assert_eq!(in_kernel(), 3000);
        let sockets = groups.sockets.len();
        assert!(sockets > 1);

        // The room of groups that were left is used again.
        for number in 0..1500 {
            groups.change(GroupChange::Leave(interface, group(number)));
        }
        assert_eq!(in_kernel(), 1500);
        for number in 3000..4500 {
            groups.change(GroupChange::Join(interface, group(number)));
        }
        assert_eq!(in_kernel(), 3000);
        assert_eq!(groups.sockets.len(), sockets);

        groups.remove_interface(interface);
        assert_eq!(in_kernel(), 0);
    }

    #[test]
    fn a_group_that_can_not_be_joined_is_counted_until_it_is_left() {
        let mut groups = Groups::default();
        let missing = IfIndex(2_000_000_000);
        groups.set_interface(missing);
        // The group of hellos isn't counted: IPv4 may have them.
        assert_eq!(groups.failures(missing), 0);
        groups.change(GroupChange::Join(missing, group(1)));
        groups.change(GroupChange::Join(missing, group(2)));
        assert_eq!(groups.failures(missing), 2);
        groups.change(GroupChange::Leave(missing, group(1)));
        assert_eq!(groups.failures(missing), 1);
        groups.remove_interface(missing);
        assert_eq!(groups.failures(missing), 0);
    }
}
