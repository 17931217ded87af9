//! The input of the index: changes of objects from a source, and status writes of the allocator.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};

/// A change that a source delivers.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
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

#[cfg(test)]
impl Change {
    /// An object of a kind with this name: configuration is in `metallb-system`, other objects that
    /// have a namespace are in `namespace`.
    pub(crate) fn object(
        kind: Kind,
        namespace: &str,
        name: &str,
        mut body: serde_json::Value,
    ) -> Self {
        body["apiVersion"] = kind.api_version().into();
        body["kind"] = kind.name().into();
        body["metadata"]["name"] = name.into();
        let namespace = if kind.is_configuration() {
            "metallb-system"
        } else {
            namespace
        };
        body["metadata"]["namespace"] = namespace.into();
        let raw = RawObject::from_json(body).expect("an object");
        let key = raw.key(namespace).expect("a kind that is read");
        Self::Apply(key, raw)
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
    /// Those of the addresses that the status has with an `ipMode` other than the API server's
    /// default. It stays as it is.
    pub ip_modes: Vec<(IpAddr, Box<str>)>,
    /// The annotation `metallb.io/ip-allocated-from-pool`: the pool of the addresses, or that of
    /// each, separated by a comma. None: it is removed.
    pub pool: Option<String>,
}

impl StatusWrite {
    /// The `ipMode` of an address, if it is not the API server's default.
    pub fn ip_mode(&self, address: IpAddr) -> Option<&str> {
        let mut modes = self.ip_modes.iter();
        let (_, mode) = modes.find(|(other, _)| *other == address)?;
        Some(mode)
    }

    /// The addresses as text: `192.0.2.1, 2001:db8::1`.
    pub fn shown_addresses(&self) -> String {
        self.addresses
            .iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }
}
