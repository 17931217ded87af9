//! The input of the index: changes of objects from a source, and status writes of the allocator.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};

/// A change that a source delivers.
#[derive(Debug)]
pub enum Change {
    /// An object was created or changed.
    Apply(ObjectKey, RawObject),
    /// An object was deleted.
    Delete(ObjectKey),
    /// All objects of a kind. Those that are not in the list were deleted.
    Reset(Kind, Vec<(ObjectKey, RawObject)>),
    /// The names of all objects of a kind. Since the source began to list the kind, it has
    /// delivered each of them with `Apply`. Those that are not in the list were deleted.
    Listed(Kind, BTreeSet<ObjectName>),
    /// Objects of a kind can't be read, for instance because the CRD is gone. This deletes nothing.
    Unreadable(Kind, String),
    /// The source doesn't know a kind and never did. The text says how to add it.
    Absent(Kind, String),
}

impl Change {
    /// The kind of the objects.
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Apply(key, _) | Self::Delete(key) => key.kind,
            Self::Reset(kind, _)
            | Self::Listed(kind, _)
            | Self::Unreadable(kind, _)
            | Self::Absent(kind, _) => *kind,
        }
    }
}

/// The status that the allocator sets on a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWrite {
    /// The service.
    pub service: Arc<ObjectName>,
    /// The precondition of the write. If the service changed meanwhile, it is decided again.
    pub resource_version: String,
    /// `status.loadBalancer.ingress[].ip`, in this order. Empty: the status is cleared.
    pub addresses: Vec<IpAddr>,
    /// The annotation `metallb.io/ip-allocated-from-pool`. None: it is removed.
    pub pool: Option<String>,
}

impl StatusWrite {
    /// The addresses as text: `192.0.2.1, 2001:db8::1`.
    pub fn shown_addresses(&self) -> String {
        self.addresses
            .iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }
}
