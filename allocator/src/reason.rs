//! Results of allocation: outcomes and their reasons.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use crate::exclusion::Exclusion;
use crate::family::Family;
use crate::service::{Port, ServiceKey};

/// The result of allocation for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The service is entitled to these addresses.
    Assigned {
        /// One address, or an IPv4 and an IPv6 address: in the order of the request, otherwise IPv4
        /// first.
        addresses: Vec<IpAddr>,
        /// The pool of the addresses: one name, or the name of the pool of each address, see
        /// [`crate::pool_names`].
        pool: String,
        /// Whether the service did not have one of the addresses before.
        new: bool,
        /// Why the service lost an earlier address, or why it has no address of its second family.
        note: Option<Reason>,
    },
    /// The service keeps its addresses although they could not be allocated again, because nothing
    /// proves that an operator took them away.
    Kept {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// The pool of the addresses, if it is known, in the form of [`Outcome::Assigned`].
        pool: Option<String>,
        /// Why the addresses could not be allocated again.
        reason: Reason,
    },
    /// The service gets no address and loses those that it had.
    Refused {
        /// Why no address was allocated.
        reason: Reason,
        /// Why the service lost the addresses that it had, if that differs from `reason`.
        lost: Option<Box<Reason>>,
    },
}

impl Outcome {
    /// The service's addresses; empty if it was refused.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Assigned { addresses, .. } | Self::Kept { addresses, .. } => addresses,
            Self::Refused { .. } => &[],
        }
    }

    /// The pool of the addresses, if the service has addresses and their pool is known. Two pools
    /// are separated by a comma, see [`crate::pool_names`].
    #[must_use]
    pub fn pool(&self) -> Option<&str> {
        match self {
            Self::Assigned { pool, .. } => Some(pool),
            Self::Kept { pool, .. } => pool.as_deref(),
            Self::Refused { .. } => None,
        }
    }

    /// Why the outcome is not what the service requested; `None` if it is.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Assigned { note, .. } => note.as_ref(),
            Self::Kept { reason, .. } | Self::Refused { reason, .. } => Some(reason),
        }
    }

    /// Why a refused service lost its addresses, if that differs from [`Outcome::reason`].
    #[must_use]
    pub fn lost(&self) -> Option<&Reason> {
        match self {
            Self::Refused { lost, .. } => lost.as_deref(),
            Self::Assigned { .. } | Self::Kept { .. } => None,
        }
    }

    /// [`Outcome::reason`] and [`Outcome::lost`] as a message with the remedy.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let reason = self.reason()?;
        Some(match self.lost() {
            Some(lost) => format!("{reason} (the service lost its previous address: {lost})"),
            None => reason.to_string(),
        })
    }

    /// Why a refused service lost its addresses, to be reported until it has an address again.
    pub(crate) fn loss(&self) -> Option<&Reason> {
        match self {
            Self::Refused {
                reason: reason @ Reason::AddressConflict { .. },
                ..
            } => Some(reason),
            _ => self.lost(),
        }
    }
}

/// Why two services can't share an address. The message is the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharingConflict {
    /// Their sharing keys differ, or one of them has none.
    SharingKey,
    /// One is externalTrafficPolicy Local and the other is Cluster or selects other Pods.
    Backend,
    /// Both use this port.
    Port(Port),
}

impl fmt::Display for SharingConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharingKey => f.write_str(
                "to share it, give both services the same metallb.io/allow-shared-ip annotation",
            ),
            Self::Backend => f.write_str(
                "to share it, both need externalTrafficPolicy Cluster, or Local with the same \
                 selector in one namespace, or Local with the annotation \
                 ferrolb.io/allow-shared-local: \"true\" on both",
            ),
            Self::Port(port) => {
                write!(
                    f,
                    "both use port {port}: to share it, change the port of one of them"
                )
            }
        }
    }
}

/// Why a service did not get what it requested, or lost an address. The message has the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// There is no pool.
    #[error(
        "there is no valid address pool: create an IPAddressPool, or correct the rejected ones \
         (see `ferrolb check`)"
    )]
    NoPools,
    /// No pool serves this service automatically.
    #[error(
        "no pool serves this service automatically: every pool has autoAssign: false or a \
         serviceAllocation that does not accept it; request a pool with the annotation \
         metallb.io/address-pool, or add a pool"
    )]
    NoEligiblePool,
    /// No eligible pool has addresses of a required family.
    #[error(
        "no pool has {} addresses (eligible: {}): add addresses to one of these pools, or change \
        the service's ipFamilies",
        families(wanted),
        list(pools)
    )]
    NoPoolWithFamily {
        /// The eligible pools.
        pools: Vec<String>,
        /// The required families that no pool has.
        wanted: Vec<Family>,
    },
    /// All addresses of the required families are in use.
    #[error(
        "no {} address is free in {}: add addresses to the pool, or delete services that \
        use them",
        families(wanted),
        list(pools)
    )]
    PoolExhausted {
        /// The eligible pools.
        pools: Vec<String>,
        /// The required families.
        wanted: Vec<Family>,
    },
    /// The pool is invalid or unreadable, so no address is allocated from it.
    #[error(
        "pool {pool} is frozen: its definition is invalid or can't be read, so no address is \
         allocated from it; correct the IPAddressPool"
    )]
    PoolFrozen {
        /// The frozen pool.
        pool: String,
    },
    /// The requested pool does not exist, or has never been valid.
    #[error(
        "there is no valid pool {pool}: create it, correct it (see `ferrolb check`), or change the \
        annotation metallb.io/address-pool"
    )]
    UnknownPool {
        /// The requested pool.
        pool: String,
    },
    /// The address is not in the requested pool, or not in any pool.
    #[error("{address} is not in {}: add it to a pool, or request another address",
        pool.as_ref().map_or_else(|| "any pool".to_owned(), |pool| format!("pool {pool}")))]
    AddressNotInPool {
        /// The address.
        address: IpAddr,
        /// The requested pool, if any.
        pool: Option<String>,
    },
    /// An address of the service was removed from its pool.
    #[error(
        "{address}, the previous address of this service, is no longer in any pool and was \
         released: to restore it, add it to a pool and request it with the annotation \
         metallb.io/loadBalancerIPs"
    )]
    AddressRemoved {
        /// The address.
        address: IpAddr,
    },
    /// The requested address is in use by a service that can't share it.
    #[error("{address} is in use by {by}; {cause}")]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// A service that uses it.
        by: ServiceKey,
        /// Why the two services can't share it.
        cause: SharingConflict,
    },
    /// An older service has the same address and can't share it.
    #[error("{address} is also assigned to {by}, which is older and keeps it; {cause}")]
    AddressConflict {
        /// The address.
        address: IpAddr,
        /// An older service that has it.
        by: ServiceKey,
        /// Why the two services can't share it.
        cause: SharingConflict,
    },
    /// The service changed and can no longer share its address.
    #[error("this service changed and can no longer share {address} with {by}; {cause}")]
    SharingChanged {
        /// The address.
        address: IpAddr,
        /// Another service that has it.
        by: ServiceKey,
        /// Why the two services can't share it.
        cause: SharingConflict,
    },
    /// The address ends in .0 or .255, and the pool has avoidBuggyIPs.
    #[error(
        "{address} ends in .0 or .255 and pool {pool} has avoidBuggyIPs: request another \
        address, or set avoidBuggyIPs: false"
    )]
    BuggyAddress {
        /// The address.
        address: IpAddr,
        /// Its pool.
        pool: String,
    },
    /// The address belongs to a node, router, Pod, Service range or another load balancer.
    #[error("{address} is {owner} and can't be assigned to a service: request another address")]
    AddressExcluded {
        /// The address.
        address: IpAddr,
        /// The network that it belongs to.
        owner: Exclusion,
    },
    /// The requested address is reserved for another service.
    #[error(
        "{address} is reserved for {service} in pool {pool}: request another address, or change \
         spec.reservations of the pool"
    )]
    AddressReserved {
        /// The address.
        address: IpAddr,
        /// Its pool.
        pool: String,
        /// The service that it is reserved for.
        service: ServiceKey,
    },
    /// No address that a pool reserves for the service is free.
    #[error(
        "pool {pool} reserves {family} addresses for this service, but none is free: {address} is \
         {}; release it, or change spec.reservations of the pool",
        by.as_ref().map_or_else(
            || "excluded from allocation".to_owned(),
            |by| format!("in use by {by}")
        )
    )]
    ReservationUnavailable {
        /// The pool.
        pool: String,
        /// The family.
        family: Family,
        /// The first of the reserved addresses.
        address: IpAddr,
        /// A service that has it, and can't share it.
        by: Option<ServiceKey>,
    },
    /// The pool's serviceAllocation does not accept the service.
    #[error(
        "pool {pool} does not accept this service: change the pool's serviceAllocation, or \
        the service's namespace or labels"
    )]
    PoolDoesNotAcceptService {
        /// The pool.
        pool: String,
    },
    /// The requested or previous addresses don't match the families of the service.
    #[error(
        "{} does not match a service with {} cluster IPs: request one address of each family",
        list(addresses),
        families(wanted)
    )]
    FamilyMismatch {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// The families of the service's cluster IPs.
        wanted: Vec<Family>,
    },
    /// A requested address is not an IP address.
    #[error(
        "{text:?} is not an IP address: correct metallb.io/loadBalancerIPs or \
        spec.loadBalancerIP"
    )]
    RequestUnparsable {
        /// The invalid text.
        text: String,
    },
    /// Addresses are requested in two places.
    #[error(
        "addresses are requested in metallb.io/loadBalancerIPs and in spec.loadBalancerIP: \
        remove one of them"
    )]
    RequestedTwice,
    /// More than one address of a family is requested.
    #[error(
        "{} are several addresses of one family: request one IPv4 address, one IPv6 address, or \
        one of each",
        list(addresses)
    )]
    RequestFamilies {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// The service has no cluster IP.
    #[error(
        "the service has no cluster IP; a headless service can't have a load balancer address: \
        remove clusterIP: None"
    )]
    NoClusterIp,
    /// RequireDualStack requires two cluster IPs.
    #[error(
        "ipFamilyPolicy RequireDualStack requires an IPv4 and an IPv6 cluster IP: enable dual \
        stack in the cluster, or change the policy"
    )]
    NotEnoughClusterIPs,
    /// The cluster IPs are of the same family.
    #[error("the service has several cluster IPs of one family: correct spec.clusterIPs")]
    ClusterIpFamilies,
    /// The pool of the address is unknown because some pools could not be read or are refused.
    #[error(
        "{address} is of a pool that is refused or could not be read, so the service keeps it: \
        correct the pools that `ferrolb check` reports"
    )]
    PoolUnknown {
        /// The address.
        address: IpAddr,
    },
    /// A PreferDualStack service has an address of one family only.
    #[error(
        "no {family} address is free in {} for the second family: add {family} addresses to one \
        of these pools; the service keeps its other address",
        list(pools)
    )]
    SecondFamilyUnavailable {
        /// The eligible pools.
        pools: Vec<String>,
        /// The missing family.
        family: Family,
    },
}

impl Reason {
    /// The stable, machine-readable code of the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoPools => "NoPools",
            Self::NoEligiblePool => "NoEligiblePool",
            Self::NoPoolWithFamily { .. } => "NoPoolWithFamily",
            Self::PoolExhausted { .. } => "PoolExhausted",
            Self::PoolFrozen { .. } => "PoolFrozen",
            Self::UnknownPool { .. } => "UnknownPool",
            Self::AddressNotInPool { .. } | Self::AddressRemoved { .. } => "AddressNotInPool",
            Self::AddressInUse { .. } => "AddressInUse",
            Self::AddressConflict { .. } => "AddressConflict",
            Self::SharingChanged { .. } => "SharingChanged",
            Self::BuggyAddress { .. } => "BuggyAddress",
            Self::AddressExcluded { .. } => "AddressExcluded",
            Self::AddressReserved { .. } => "AddressReserved",
            Self::ReservationUnavailable { .. } => "ReservationUnavailable",
            Self::PoolDoesNotAcceptService { .. } => "PoolDoesNotAcceptService",
            Self::FamilyMismatch { .. } => "FamilyMismatch",
            Self::RequestUnparsable { .. } => "RequestUnparsable",
            Self::RequestedTwice => "RequestedTwice",
            Self::RequestFamilies { .. } => "RequestFamilies",
            Self::NoClusterIp => "NoClusterIP",
            Self::NotEnoughClusterIPs => "NotEnoughClusterIPs",
            Self::ClusterIpFamilies => "ClusterIPFamilies",
            Self::PoolUnknown { .. } => "PoolUnknown",
            Self::SecondFamilyUnavailable { .. } => "SecondFamilyUnavailable",
        }
    }
}

fn list(items: &[impl fmt::Display]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn families(wanted: &[Family]) -> String {
    wanted
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" and ")
}
