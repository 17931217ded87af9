//! Where objects come from, and where status goes back to: the Kubernetes API, or a folder of the same YAML.
//! Nothing behind this module knows which of the two it is.

mod documents;
pub mod folder;
mod json_list;
pub mod manifests;
mod status_writes;
mod syntax;
mod unfinished;
mod unread;
mod walk;

pub use status_writes::{SourceEnded, StatusReceiver, StatusSender, status_writes};

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::api::{Kind, ObjectKey, ObjectName, RawObject};

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

/// What happens at a source, in order.
#[derive(Debug)]
pub enum Event {
    /// Objects changed.
    Change(Change),
    /// Places at the source that can't be read, all there are; what they last said, if anything, stands.
    Errors(Vec<String>),
    /// Whether this process allocates. A source says `true` only after it sent a consistent list of services and
    /// pools, read after the Lease was won: the allocator decides from that.
    Leading(bool),
}

/// Both directions of a source.
#[derive(Debug)]
pub struct Source {
    /// What happens there. Ends when the source can't go on.
    pub events: tokio::sync::mpsc::Receiver<Event>,
    /// Where status is written; each write replaces an older one for the same service.
    pub status: StatusSender,
}
