//! The interfaces of this node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::Interfaces;
use crate::interface::{IfIndex, Interface};

/// The interfaces that the driver reported, also those without a carrier.
#[derive(Debug, Default)]
pub(crate) struct Links(BTreeMap<IfIndex, Interface>);

impl Links {
    /// Adds or replaces an interface, and returns what it was before.
    pub(crate) fn set(&mut self, interface: Interface) -> Option<Interface> {
        self.0.insert(interface.index, interface)
    }

    /// Removes an interface.
    pub(crate) fn remove(&mut self, index: IfIndex) -> Option<Interface> {
        self.0.remove(&index)
    }

    /// An interface.
    pub(crate) fn get(&self, index: IfIndex) -> Option<&Interface> {
        self.0.get(&index)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Interface> {
        self.0.values()
    }

    /// Those that can send and receive, except the loopback interface.
    pub(crate) fn working(&self) -> impl Iterator<Item = &Interface> {
        self.all().filter(|link| link.carrier && !link.loopback)
    }

    /// The interfaces with a carrier whose segments count for an address: the selected ones on
    /// which it is on-link, or all selected ones if it is on-link on none. An interface that lost
    /// its carrier is not replaced by one on which the address is not on-link.
    pub(crate) fn relevant(&self, address: IpAddr, selection: &Interfaces) -> Vec<IfIndex> {
        let selected = self.all().filter(|link| !link.loopback);
        let selected = selected.filter(|link| selection.selects(&link.name));
        let (mut any_on_link, mut relevant) = (false, Vec::new());
        for link in selected {
            let mut networks = link.networks.iter();
            let on_link = networks.any(|network| network.contains(&address));
            if on_link && !any_on_link {
                any_on_link = true;
                relevant.clear();
            }
            if link.carrier && on_link == any_on_link {
                relevant.push(link.index);
            }
        }
        relevant
    }

    /// The name of an interface.
    pub(crate) fn name(&self, index: IfIndex) -> Box<str> {
        self.get(index)
            .map(|link| link.name.clone())
            .unwrap_or_default()
    }
}
