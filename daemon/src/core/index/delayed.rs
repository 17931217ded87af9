//! The services whose first announcement by this node waits for the node's service proxy. Only the
//! process on the node knows them; other processes and `plan` delay none.

use std::collections::BTreeSet;

use super::{Dirty, Index};
use crate::core::api::ObjectName;

impl Index {
    /// Delays services on the node of this process. Returns what must be decided again.
    pub fn delay(&mut self, node: &str, services: impl IntoIterator<Item = ObjectName>) -> Dirty {
        if self.delayed.0 != node {
            self.delayed = (node.to_owned(), BTreeSet::new());
        }
        let mut dirty = Dirty::default();
        for name in services {
            if self.delayed.1.insert(name.clone()) {
                dirty.services.insert(name);
            }
        }
        dirty
    }

    /// Ends the delay of services. Returns what must be decided again.
    pub fn release<'a>(&mut self, services: impl IntoIterator<Item = &'a ObjectName>) -> Dirty {
        let delayed = services
            .into_iter()
            .filter_map(|name| self.delayed.1.take(name));
        Dirty {
            services: delayed.collect(),
            ..Dirty::default()
        }
    }

    /// Whether something may be delayed on the node: it is that of this process.
    pub fn delays_on(&self, node: &str) -> bool {
        self.delayed.0 == node
    }

    /// Whether the first announcement of a service by a node has to wait.
    pub fn is_delayed(&self, node: &str, service: &ObjectName) -> bool {
        self.delayed.0 == node && self.delayed.1.contains(service)
    }
}
