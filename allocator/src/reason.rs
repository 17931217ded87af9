//! What became of a request, and why.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use crate::exclusion::Exclusion;
use crate::request::{Family, Port, ServiceKey};

/// What became of a service's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The service has these addresses by right.
    Assigned {
        /// One address, or an IPv4 and an IPv6 address. In the order IPv4, IPv6, unless the
        /// service asked for them in another order.
        addresses: Vec<IpAddr>,
        /// The pool that all of them are from.
        pool: String,
        /// Whether any of them is one that the service didn't hold before.
        new: bool,
        /// Why an earlier address was lost, or why the second family is missing.
        note: Option<Reason>,
    },
    /// The service keeps what it holds although that could not be granted anew, because nothing
    /// shows that somebody took it away on purpose.
    Kept {
        /// What it holds.
        addresses: Vec<IpAddr>,
        /// The pool they are from, where it is known.
        pool: Option<String>,
        /// Why they are not plainly assigned.
        reason: Reason,
    },
    /// The service gets nothing, and no longer holds what it may have held.
    Refused {
        /// Why it gets nothing.
        reason: Reason,
        /// Why it lost what it had, if it had something and that is not what `reason` says.
        lost: Option<Box<Reason>>,
    },
}

impl Outcome {
    /// The addresses the service has now; empty if it was refused.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Assigned { addresses, .. } | Self::Kept { addresses, .. } => addresses,
            Self::Refused { .. } => &[],
        }
    }

    /// The pool the addresses are from, where there are any and it is known.
    #[must_use]
    pub fn pool(&self) -> Option<&str> {
        match self {
            Self::Assigned { pool, .. } => Some(pool),
            Self::Kept { pool, .. } => pool.as_deref(),
            Self::Refused { .. } => None,
        }
    }

    /// What there is to say beside the addresses; none if all is as asked for.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Assigned { note, .. } => note.as_ref(),
            Self::Kept { reason, .. } | Self::Refused { reason, .. } => Some(reason),
        }
    }

    /// Why a service that has nothing lost what it had, beside [`Outcome::reason`].
    #[must_use]
    pub fn lost(&self) -> Option<&Reason> {
        match self {
            Self::Refused { lost, .. } => lost.as_deref(),
            Self::Assigned { .. } | Self::Kept { .. } => None,
        }
    }

    /// [`Outcome::reason`] and [`Outcome::lost`] in words, with what to do.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let reason = self.reason()?;
        Some(match self.lost() {
            Some(lost) => format!("{reason} (the address it had was lost: {lost})"),
            None => reason.to_string(),
        })
    }

    /// What has to be remembered of a service that has nothing: why it lost what it had.
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

/// Why two services can't have one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clash {
    /// Their sharing keys differ, or one of them has none.
    SharingKey,
    /// One is externalTrafficPolicy Local and the other is Cluster or selects other Pods.
    Backend,
    /// Both listen on this port.
    Port(Port),
}

impl fmt::Display for Clash {
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

/// Why a service did not get what it asked for, or lost what it had. The message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// There is no pool.
    #[error(
        "there is no valid address pool: create an IPAddressPool, or mend those that are refused (ferrolb check names them)"
    )]
    NoPools,
    /// No pool may be used for this service without being asked for.
    #[error(
        "no pool is open to this service: every pool has autoAssign: false or a \
         serviceAllocation that does not accept it; request a pool with the annotation \
         metallb.io/address-pool, or add a pool"
    )]
    NoEligiblePool,
    /// None of the pools that could be used has addresses of the families needed.
    #[error(
        "none of the pools {} has {} addresses for services: add some, or change the service's ipFamilies",
        list(pools),
        families(wanted)
    )]
    NoPoolWithFamily {
        /// The pools that were considered.
        pools: Vec<String>,
        /// The families needed, all from one pool.
        wanted: Vec<Family>,
    },
    /// All addresses of the families needed are in use.
    #[error(
        "no {} address is free in {}: add addresses to the pool, or delete services that \
        hold some",
        families(wanted),
        list(pools)
    )]
    PoolExhausted {
        /// The pools that were considered.
        pools: Vec<String>,
        /// The families needed, all from one pool.
        wanted: Vec<Family>,
    },
    /// The pool is invalid or unreadable, so nothing new comes from it.
    #[error(
        "pool {pool} is frozen: its present definition is invalid or can't be read, so it gives \
         out nothing new; correct the IPAddressPool"
    )]
    PoolFrozen {
        /// The frozen pool.
        pool: String,
    },
    /// The pool asked for does not exist, or was refused and never was good.
    #[error(
        "there is no good pool {pool}: create it, mend it (`ferrolb check` says what is wrong \
        with it), or correct the metallb.io/address-pool annotation"
    )]
    UnknownPool {
        /// The pool asked for.
        pool: String,
    },
    /// The address is not part of the pool asked for, or of any pool.
    #[error("{address} is not in {}: add it to a pool, or request another address",
        pool.as_ref().map_or_else(|| "any pool".to_owned(), |pool| format!("pool {pool}")))]
    AddressNotInPool {
        /// The address.
        address: IpAddr,
        /// The pool asked for, if one was.
        pool: Option<String>,
    },
    /// The address that the service had is not part of its pool, or of any pool, any more.
    #[error(
        "{address}, which this service had, is no longer in {}, so it was taken back: to have it again, add it to a pool \
         and request it with the annotation metallb.io/loadBalancerIPs",
        pool.as_ref().map_or_else(|| "any pool".to_owned(), |pool| format!("pool {pool}"))
    )]
    HeldAddressNotInPool {
        /// The address.
        address: IpAddr,
        /// The pool of the service's other address, if it has one.
        pool: Option<String>,
    },
    /// Two addresses of one service are from two pools.
    #[error(
        "{} are in different pools: both addresses of a service must be from one pool",
        list(addresses)
    )]
    AddressesInDifferentPools {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// The address asked for belongs to another service that doesn't share it.
    #[error("{address} is in use by {by}; {clash}")]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// A service that holds it.
        by: ServiceKey,
        /// Why they can't share it.
        clash: Clash,
    },
    /// An older service holds the same address and doesn't share it.
    #[error("{address} is also held by {by}, which is older and keeps it; {clash}")]
    AddressConflict {
        /// The address.
        address: IpAddr,
        /// A service that holds it and is older.
        by: ServiceKey,
        /// Why they can't share it.
        clash: Clash,
    },
    /// The service shared its address and changed so that it can't any longer.
    #[error("this service changed and can no longer share {address} with {by}; {clash}")]
    SharingChanged {
        /// The address.
        address: IpAddr,
        /// A service that holds it too.
        by: ServiceKey,
        /// Why they can't share it.
        clash: Clash,
    },
    /// The address ends in .0 or .255 and the pool avoids those.
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
    /// The address asked for belongs to something else than a service.
    #[error("{address} is {owner}, and no service may have it: request another address")]
    AddressExcluded {
        /// The address.
        address: IpAddr,
        /// What it belongs to.
        owner: Exclusion,
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
    /// The addresses asked for or held are not of the service's families.
    #[error(
        "{} does not fit a service with {} cluster IPs: give one address for each family",
        list(addresses),
        families(wanted)
    )]
    FamilyMismatch {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// The families of the service's cluster IPs.
        wanted: Vec<Family>,
    },
    /// An address asked for is not an address.
    #[error(
        "{text:?} is not an IP address: correct metallb.io/loadBalancerIPs or \
        spec.loadBalancerIP"
    )]
    RequestUnparsable {
        /// The text.
        text: String,
    },
    /// Addresses were asked for in two places.
    #[error(
        "addresses are requested in metallb.io/loadBalancerIPs and in spec.loadBalancerIP: \
        remove one of them"
    )]
    RequestedTwice,
    /// More than one address of a family was asked for.
    #[error(
        "{} are not one address per family: request one IPv4 address, one IPv6 address, or \
        one of each",
        list(addresses)
    )]
    RequestFamilies {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// The service has no cluster IP.
    #[error(
        "the service has no cluster IP, so there is nothing an address could lead to; a \
        headless service can't be a LoadBalancer"
    )]
    NoClusterIp,
    /// RequireDualStack needs two cluster IPs.
    #[error(
        "ipFamilyPolicy RequireDualStack needs an IPv4 and an IPv6 cluster IP: enable dual \
        stack in the cluster, or change the policy"
    )]
    NotEnoughClusterIPs,
    /// The cluster IPs are not one per family.
    #[error("the service's cluster IPs are not one per family: correct spec.clusterIPs")]
    ClusterIpFamilies,
    /// The pool of a held address has never been seen, and not all pools could be read.
    #[error(
        "{address} is in no pool that could be read, so it is kept: correct the pool it is \
        from, or the ones that can't be read"
    )]
    PoolUnknown {
        /// The address.
        address: IpAddr,
    },
    /// A PreferDualStack service has one address only.
    #[error(
        "pool {pool} has no free {family} address for the second family: add some; the \
        service keeps the address it has"
    )]
    SecondFamilyUnavailable {
        /// The pool of the address it has.
        pool: String,
        /// The family that is missing.
        family: Family,
    },
}

impl Reason {
    /// The reason's name, which stays the same for ever.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoPools => "NoPools",
            Self::NoEligiblePool => "NoEligiblePool",
            Self::NoPoolWithFamily { .. } => "NoPoolWithFamily",
            Self::PoolExhausted { .. } => "PoolExhausted",
            Self::PoolFrozen { .. } => "PoolFrozen",
            Self::UnknownPool { .. } => "UnknownPool",
            Self::AddressNotInPool { .. } | Self::HeldAddressNotInPool { .. } => "AddressNotInPool",
            Self::AddressesInDifferentPools { .. } => "AddressesInDifferentPools",
            Self::AddressInUse { .. } => "AddressInUse",
            Self::AddressConflict { .. } => "AddressConflict",
            Self::SharingChanged { .. } => "SharingChanged",
            Self::BuggyAddress { .. } => "BuggyAddress",
            Self::AddressExcluded { .. } => "AddressExcluded",
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
