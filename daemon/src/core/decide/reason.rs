//! The reason codes: why a service is announced or not. `ferrolb plan` and docs/reasons.md use this
//! table.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::core::api::ObjectName;
use crate::core::model::Family;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $remedy:literal,)+) => {
        /// Why a node announces a service to a peer, or doesn't.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The meaning, for operators.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }

            /// The remedy, for operators.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

reasons! {
    /// The service is announced.
    Announced => "none needed",
    /// Another load balancer is in charge of the service's loadBalancerClass (see --lb-class), and
    /// no advertisement of its pool lists the class.
    ForeignLoadBalancerClass => "if ferrolb should serve the service, create it with the class of \
        --lb-class, or without one if that is not set; to announce the address that the other \
        load balancer assigns, add the class to loadBalancerClasses of an advertisement \
        (ferrolb.io/v1alpha1)",
    /// No address is allocated to the service.
    NoAddress => "find the allocation reason of the service in the output of ferrolb plan or in \
        the allocator's log",
    /// status.loadBalancer.ingress contains a value that is not an IP address.
    InvalidAddress => "clear the status: the allocator then sets a valid address",
    /// No pool contains the address.
    AddressNotInPool => "add an IPAddressPool with the address, with autoAssign: false if another \
        program allocates it; or wait for the allocator to allocate another one",
    /// An older service has the same address and the two can't share it.
    AddressConflict => "wait: the allocator allocates another address to this service",
    /// Neither a BGPAdvertisement nor an L2Advertisement selects the pool.
    NoAdvertisement => "create a BGPAdvertisement or an L2Advertisement for the pool, or fix the \
        invalid one that ferrolb check reports",
    /// Advertisements select the pool, but none of them selects this service; where a protocol is
    /// named, none of that protocol does.
    ServiceNotSelected => "change serviceSelectors or the service's labels",
    /// Advertisements of this protocol select the service, but none of them selects this node.
    NodeNotSelected => "change nodeSelectors or the node's labels",
    /// The aggregate would contain addresses outside of the pool's entry.
    AggregateTooWide => "use a longer aggregationLength or a wider pool entry",
    /// The pool has more aggregates than are announced without a Service
    /// (announceAggregates: always).
    TooManyAggregates => "use a shorter aggregationLength or a smaller pool",
    /// The kernel does not let the announcer discard packets to addresses of the pool that no
    /// Service has. They would return to the router, so an aggregate is not announced without a
    /// Service inside.
    CannotDiscard => "if the operation is not permitted, grant the announcer the capability \
        NET_ADMIN: with the kustomize component deploy/kustomize/net-admin or the value \
        speaker.bgp.netAdmin of the Helm chart; or remove announceAggregates: always",
    /// There is no Node object with the name of this node.
    NodeUnknown => "check --node-name, and that the Node object exists",
    /// The node's condition NetworkUnavailable is True.
    NodeNetworkUnavailable => "wait for the network plugin, or repair it",
    /// The node has the label node.kubernetes.io/exclude-from-external-load-balancers.
    NodeExcluded => "remove the label, or run ferrolb with --ignore-exclude-lb",
    /// The node is being deleted or shuts down, so it announces nothing by layer 2.
    NodeLeaving => "none needed: other nodes announce the address",
    /// The node is cordoned, and drain.onCordon of the L2Advertisements that select it, or the
    /// service's annotation ferrolb.io/drain, ends its layer 2 announcements.
    NodeCordoned => "none needed if other nodes announce the address; otherwise uncordon the node",
    /// Each node that the L2Advertisements select has a reason not to announce the service.
    NoEligibleNode => "find the reason of each node in the output of ferrolb plan",
    /// Services share the address, and no node may announce it by layer 2 for all of them.
    NoCommonNode => "run Pods of all sharers on the same nodes, or select common nodes in their \
        L2Advertisements",
    /// externalTrafficPolicy is Cluster, and no endpoint of the address's family is ready or
    /// serving.
    NoEndpoints => "check the service's selector and Pods",
    /// externalTrafficPolicy is Local, and no endpoint of the address's family on this node is
    /// ready or serving; or, for layer 2, none is ready, and another node has a ready one.
    NoLocalEndpoints => "none needed if other nodes announce the address: this node has no Pod of \
        the service",
    /// A Service that shares the address (ferrolb.io/allow-shared-local) has no ready or serving
    /// endpoint on this node.
    NoLocalEndpointsOfSharer => "none needed if other nodes announce the address; otherwise run \
        Pods of all sharers on the same nodes",
    /// The service proxy of this node has not answered yet that it delivers, so the first
    /// announcement by this node waits (--service-proxy-health).
    ServiceProxyNotReady => "check the node's service proxy (kube-proxy, Cilium) and the URL of \
        --service-proxy-health",
    /// MetalLB's speaker runs on this node, so this process announces nothing beside it.
    MetallbSpeaker => "move over with ferrolb migrate, or delete MetalLB's DaemonSet: this process \
        starts to announce when the speaker has ended",
    /// No BGPPeer selects this node.
    NoPeer => "create a BGPPeer, or change the nodeSelectors of one",
    /// The BGPPeer selects this node but can't run here.
    PeerRefused => "fix the BGPPeer, or exclude this node with its nodeSelectors",
    /// The BGPAdvertisements of the service select other peers.
    PeerNotSelected => "add the BGPPeer to spec.peers of a BGPAdvertisement",
    /// The session carries only the other address family.
    FamilyNotCarried => "set dualStackAddressFamily on the BGPPeer, or add a BGPPeer of this \
        family",
    /// No next hop of the prefix's family: the node has no global InternalIP of that family, and
    /// the session runs over the other family or between link-local addresses.
    NoNextHop => "add an InternalIP of that family to the node, or a BGPPeer with a global address \
        of that family",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A reason and its subject. There is one for each service and peer, so its text is built on
/// demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The BGPPeer. None if the reason applies to the whole node.
    pub peer: Option<Arc<str>>,
    /// The reason.
    pub reason: Reason,
    /// The subject.
    pub detail: Detail,
}

/// The subject of a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// No subject: the reason is sufficient.
    None,
    /// The verdict's peer.
    Peer,
    /// Addresses of the service.
    Addresses(Box<[IpAddr]>),
    /// The service's addresses of these families.
    Families(Box<[Family]>),
    /// Other text: names of objects, or a value in one.
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
    /// The meaning of the reason, its subject and the remedy.
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
            Detail::Families(families) => {
                let families: Vec<String> = families.iter().map(Family::to_string).collect();
                Some(format!("{service}, {}", families.join(" and ")))
            }
            Detail::Text(text) => Some(text.to_string()),
        }
    }
}
