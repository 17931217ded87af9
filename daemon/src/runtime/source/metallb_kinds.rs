//! The kinds of MetalLB's status objects (`metallb.io/v1beta1`) that are written with
//! `--metallb-status`.

use crate::runtime::role::Role;

/// The API version of all of them.
pub(crate) const API_VERSION: &str = "metallb.io/v1beta1";
/// The label with the node of a ServiceBGPStatus or ServiceL2Status.
pub(crate) const NODE_LABEL: &str = "metallb.io/node";
/// The label with the name of the Service.
pub(crate) const NAME_LABEL: &str = "metallb.io/service-name";
/// The label with the namespace of the Service.
pub(crate) const NAMESPACE_LABEL: &str = "metallb.io/service-namespace";

/// What a process publishes, besides ServiceL2Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetallbStatus {
    /// ServiceBGPStatus: to which BGPPeers a node announces a Service.
    ServiceBgp,
    /// The ConfigurationState of the process on a node.
    Speaker,
    /// The ConfigurationState of the allocator that leads.
    Controller,
}

impl MetallbStatus {
    /// What a role publishes.
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
            Self::Speaker | Self::Controller => "ConfigurationState",
        }
    }

    /// The plural name in URLs and RBAC rules.
    pub(crate) const fn plural(self) -> &'static str {
        match self {
            Self::ServiceBgp => "servicebgpstatuses",
            Self::Speaker | Self::Controller => "configurationstates",
        }
    }
}
