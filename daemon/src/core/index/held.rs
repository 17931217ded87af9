//! The services whose first announcement by this node waits for the node's service proxy. Only the
//! process on the node knows them; other processes and `plan` hold none.

use std::collections::BTreeSet;

use super::{Dirty, Index};
use crate::core::api::ObjectName;

impl Index {
    /// Holds services back on the node of this process. Returns what must be decided again.
    pub fn hold(&mut self, node: &str, services: impl IntoIterator<Item = ObjectName>) -> Dirty {
        if self.held.0 != node {
            self.held = (node.to_owned(), BTreeSet::new());
        }
        let mut dirty = Dirty::default();
        for name in services {
            if self.held.1.insert(name.clone()) {
                dirty.services.insert(name);
            }
        }
        dirty
    }

    /// Holds services no longer. Returns what must be decided again.
    pub fn release<'a>(&mut self, services: impl IntoIterator<Item = &'a ObjectName>) -> Dirty {
        let held = services
            .into_iter()
            .filter_map(|name| self.held.1.take(name));
        Dirty {
            services: held.collect(),
            ..Dirty::default()
        }
    }

    /// Whether the first announcement of a service by a node has to wait.
    pub fn is_held(&self, node: &str, service: &ObjectName) -> bool {
        self.held.0 == node && self.held.1.contains(service)
    }
}
