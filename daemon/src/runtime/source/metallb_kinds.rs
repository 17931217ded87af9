//! The kinds of MetalLB's status objects (`metallb.io/v1beta1`) that are written with
//! `--metallb-status`.

use std::time::Duration;

use serde_json::{Value, json};

use super::status_objects::{label, node_owner};
use crate::core::api::ObjectName;
use crate::runtime::role::Role;

/// The API version of all of them.
pub(crate) const API_VERSION: &str = "metallb.io/v1beta1";
/// The label with the node of a ServiceBGPStatus or ServiceL2Status.
pub(crate) const NODE_LABEL: &str = "metallb.io/node";
/// The label with the name of the Service.
pub(crate) const NAME_LABEL: &str = "metallb.io/service-name";
/// The label with the namespace of the Service.
pub(crate) const NAMESPACE_LABEL: &str = "metallb.io/service-namespace";

/// A ConfigurationState is written again after this time, since someone may have deleted it. There
/// is one for each process.
const REFRESH_STATE: Duration = Duration::from_mins(1);
/// The same for the objects about services, of which there are many.
const REFRESH_SERVICES: Duration = Duration::from_mins(30);

/// What a process publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetallbStatus {
    /// ServiceBGPStatus: to which BGPPeers a node announces a Service.
    ServiceBgp,
    /// ServiceL2Status: on which interfaces a node announces a Service by layer 2.
    ServiceL2,
    /// The ConfigurationState of the process on a node.
    Speaker,
    /// The ConfigurationState of the allocator that leads.
    Controller,
}

impl MetallbStatus {
    /// What a role publishes. A process with an engine of layer 2 publishes ServiceL2Status too.
    pub(crate) const fn of(role: Role) -> &'static [Self] {
        match role {
            Role::Allocator => &[Self::Controller],
            Role::Announcer => &[Self::Speaker, Self::ServiceBgp],
            Role::Layer2 => &[Self::Speaker],
            Role::All => &[Self::Controller, Self::Speaker, Self::ServiceBgp],
        }
    }

    /// The value of `kind:`.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::ServiceBgp => "ServiceBGPStatus",
            Self::ServiceL2 => "ServiceL2Status",
            Self::Speaker | Self::Controller => "ConfigurationState",
        }
    }

    /// The plural name in URLs and RBAC rules.
    pub(crate) const fn plural(self) -> &'static str {
        match self {
            Self::ServiceBgp => "servicebgpstatuses",
            Self::ServiceL2 => "servicel2statuses",
            Self::Speaker | Self::Controller => "configurationstates",
        }
    }

    /// All objects are written again after this time.
    pub(crate) const fn refreshed_after(self) -> Duration {
        match self {
            Self::ServiceBgp | Self::ServiceL2 => REFRESH_SERVICES,
            Self::Speaker | Self::Controller => REFRESH_STATE,
        }
    }
}

/// A node as the writer of objects about services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfNode<'a> {
    /// MetalLB's namespace.
    pub namespace: &'a str,
    /// The name of the node.
    pub node: &'a str,
    /// Its UID: it owns the objects.
    pub uid: &'a str,
}

impl OfNode<'_> {
    /// A ServiceBGPStatus or ServiceL2Status, with what both say about a service.
    pub(crate) fn service_object(
        self,
        kind: MetallbStatus,
        name: &str,
        service: &ObjectName,
    ) -> Value {
        let Self {
            namespace,
            node,
            uid,
        } = self;
        json!({
            "apiVersion": API_VERSION,
            "kind": kind.kind(),
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {
                    NODE_LABEL: label(node),
                    NAME_LABEL: label(&service.name),
                    NAMESPACE_LABEL: label(&service.namespace),
                },
                "ownerReferences": [node_owner(node, uid)],
            },
            "status": {
                "node": node,
                "serviceName": service.name,
                "serviceNamespace": service.namespace,
            },
        })
    }
}
