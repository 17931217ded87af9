//! Why a service is, or is not, announced: the reason codes, defined here and nowhere else.
//!
//! `plan`, logs, metrics and the documentation all read this one table.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::core::api::ObjectName;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $remedy:literal,)+) => {
        /// Why a service is, or is not, announced from a node to a peer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The stable code, for programs.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

reasons! {
    /// The service is announced.
    Announced => "nothing",
    /// spec.loadBalancerClass names another load balancer.
    ForeignLoadBalancerClass => "leave loadBalancerClass out if ferrolb shall serve it",
    /// The service has no address yet.
    NoAddress => "see the allocation's own reason",
    /// status.loadBalancer.ingress holds something that is no IP address.
    InvalidAddress => "clear the status: the allocator gives a valid address",
    /// No single pool has all of the service's addresses.
    AddressNotInPool => "add an IPAddressPool with these addresses, or let the allocator give others",
    /// An older service holds the same address and may not share it.
    AddressConflict => "wait: the allocator gives this service another address",
    /// No BGPAdvertisement selects the pool.
    NoAdvertisement => "create a BGPAdvertisement for the pool, or mend the one that is refused (ferrolb check names it)",
    /// BGPAdvertisements select the pool, but none of them this service.
    ServiceNotSelected => "change the serviceSelectors or the service's labels",
    /// BGPAdvertisements select the service, but none of them this node.
    NodeNotSelected => "change the nodeSelectors or the node's labels",
    /// The aggregation length reaches beyond the pool's entry.
    AggregateTooWide => "use a longer aggregationLength or a wider pool entry",
    /// The node is not known.
    NodeUnknown => "check the node's name (--node-name) and that the Node object exists",
    /// The node's condition NetworkUnavailable is True.
    NodeNetworkUnavailable => "wait for the network plugin, or mend it",
    /// The node carries the label node.kubernetes.io/exclude-from-external-load-balancers.
    NodeExcluded => "remove the label",
    /// externalTrafficPolicy is Cluster and no endpoint of the address's family is ready or serving anywhere.
    NoEndpoints => "check the service's Pods and its selector",
    /// externalTrafficPolicy is Local and no endpoint of the address's family is ready or serving on this node.
    NoLocalEndpoints => "nothing, if other nodes announce it: this one has no Pod for it",
    /// A Service that shares the address (ferrolb.io/allow-shared-local) has no endpoint on this
    /// node that is ready or serving.
    NoLocalEndpointsOfSharer => "nothing, if other nodes announce it; else let all sharers have Pods on the same nodes",
    /// No BGPPeer selects this node.
    NoPeer => "create a BGPPeer, or change its nodeSelectors",
    /// The BGPPeer selects this node and can't run here.
    PeerRefused => "mend the BGPPeer, or let its nodeSelectors leave this node out",
    /// The BGPAdvertisements of the service name other peers.
    PeerNotSelected => "add the BGPPeer to the advertisement's peers",
    /// The session carries the other address family only.
    FamilyNotCarried => "set dualStackAddressFamily on the BGPPeer, or add a BGPPeer of this family",
    /// The node has no global InternalIP of the prefix's family to be the next hop, and the session has none either: it
    /// runs over the other family, or between link-local addresses.
    NoNextHop => "give the node an InternalIP of that family, or add a BGPPeer with a global address of it",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A reason and what it is about here. There is one for each service and peer: the text is made when somebody reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The BGPPeer; none: the reason holds for the whole node.
    pub peer: Option<Arc<str>>,
    /// The code.
    pub reason: Reason,
    /// What it is about.
    pub detail: Detail,
}

/// What a reason is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing that the reason does not say itself.
    None,
    /// The verdict's peer.
    Peer,
    /// Addresses of the service.
    Addresses(Box<[IpAddr]>),
    /// The service's addresses of these families.
    Families {
        /// Its IPv4 address.
        ipv4: bool,
        /// Its IPv6 address.
        ipv6: bool,
    },
    /// Anything else: names of objects, or what was found in one.
    Text(Box<str>),
}

impl From<&str> for Detail {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<IpAddr> for Detail {
    fn from(address: IpAddr) -> Self {
        Self::Addresses([address].into())
    }
}

impl Verdict {
    /// The meaning of the reason, what it is about, and the remedy.
    pub fn message(&self, service: &ObjectName) -> String {
        let (meaning, remedy) = (self.reason.meaning().trim(), self.reason.remedy());
        match self.about(service) {
            Some(about) => format!("{meaning} ({about}) Remedy: {remedy}."),
            None => format!("{meaning} Remedy: {remedy}."),
        }
    }

    fn about(&self, service: &ObjectName) -> Option<String> {
        match &self.detail {
            Detail::None => None,
            Detail::Peer => self.peer.as_deref().map(str::to_owned),
            Detail::Addresses(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                Some(addresses.join(", "))
            }
            Detail::Families { ipv4, ipv6 } => {
                let families = [(*ipv4, "IPv4"), (*ipv6, "IPv6")];
                let families = families.iter().filter(|(named, _)| *named);
                let families: Vec<&str> = families.map(|(_, name)| *name).collect();
                Some(format!("{service}, {}", families.join(" and ")))
            }
            Detail::Text(text) => Some(text.to_string()),
        }
    }
}
