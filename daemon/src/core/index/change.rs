//! What changes the index: objects from a source, and the allocator's own decisions.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};

/// What a source says.
#[derive(Debug)]
pub enum Change {
    /// An object is there, new or changed.
    Apply(ObjectKey, RawObject),
    /// An object was deleted.
    Delete(ObjectKey),
    /// The whole list of a kind: what is not in it was deleted.
    Reset(Kind, Vec<(ObjectKey, RawObject)>),
    /// All objects of a kind that are there were applied since the source began to list it, one by one: what is not
    /// among these was deleted.
    Listed(Kind, BTreeSet<ObjectName>),
    /// Objects of a kind can't be read, for instance because their CRD is gone. That deletes nothing.
    Unreadable(Kind, String),
    /// No such kind is known where the objects come from, none was ever seen, and one can do without it
    /// ([`Kind::is_optional`]). The text says how to make it known.
    Absent(Kind, String),
}

/// What the allocator wants to stand in a service's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWrite {
    /// The service.
    pub service: Arc<ObjectName>,
    /// Guards the write: a service that changed meanwhile is decided anew.
    pub resource_version: String,
    /// `status.loadBalancer.ingress[].ip`, in this order; none: the status is cleared.
    pub addresses: Vec<IpAddr>,
    /// The annotation `metallb.io/ip-allocated-from-pool`; none: it is removed.
    pub pool: Option<String>,
}

impl StatusWrite {
    /// The addresses for people: `192.0.2.1, 2001:db8::1`.
    pub fn shown_addresses(&self) -> String {
        self.addresses
            .iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }
}
