//! Allocation requests: the properties of a service that allocation depends on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::family::Family;
use crate::pool::Pool;
use crate::reason::Reason;
use crate::service::{Port, ServiceKey};

/// `spec.ipFamilyPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FamilyPolicy {
    /// One family.
    #[default]
    SingleStack,
    /// Both families if both are free in pools, else one.
    PreferDualStack,
    /// Both families, or no address.
    RequireDualStack,
}

/// The properties of a service of type LoadBalancer that allocation depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocationRequest {
    /// The service.
    pub service: ServiceKey,
    /// Creation time in seconds since the epoch. In a conflict the older service keeps the address.
    pub created: i64,
    /// The object's UID. Breaks a tie between services created at the same time.
    pub uid: String,
    /// The addresses in `status.loadBalancer.ingress`, in its order.
    pub current: Vec<IpAddr>,
    /// The pool of these addresses, from the annotation `ip-allocated-from-pool`, if set: one name
    /// or two, see [`crate::pool_names`].
    pub current_pool: Option<String>,
    /// The families of `spec.clusterIPs`, in its order. The first is the primary family. Empty
    /// while the service has no cluster IP.
    pub cluster_families: Vec<Family>,
    /// `spec.ipFamilyPolicy`.
    pub family_policy: FamilyPolicy,
    /// The requested addresses, from [`parse_requested`]. Empty if any address will do.
    pub requested: Result<Vec<IpAddr>, Reason>,
    /// The requested pool, from the annotation `address-pool`. An empty name means none.
    pub requested_pool: Option<String>,
    /// The names of the pinned pools whose `serviceAllocation` accepts this service. Pools that are
    /// not pinned accept every service and need not be listed.
    pub accepted_by: BTreeSet<String>,
    /// The annotation `allow-shared-ip`. A service with an empty key does not share its addresses.
    pub sharing_key: String,
    /// Services share an address only if their backend keys are equal, unless all of them have
    /// [`AllocationRequest::any_backend`]. The key is empty for externalTrafficPolicy Cluster, and
    /// identifies the Pods for Local.
    pub backend_key: String,
    /// Whether the service also shares with services of another backend key that have this set.
    pub any_backend: bool,
    /// The service's ports.
    pub ports: Vec<Port>,
}

impl AllocationRequest {
    /// A request for any IPv4 address, of a service that has no address yet.
    #[must_use]
    pub fn new(service: ServiceKey) -> Self {
        Self {
            service,
            created: 0,
            uid: String::new(),
            current: Vec::new(),
            current_pool: None,
            cluster_families: vec![Family::V4],
            family_policy: FamilyPolicy::SingleStack,
            requested: Ok(Vec::new()),
            requested_pool: None,
            accepted_by: BTreeSet::new(),
            sharing_key: String::new(),
            backend_key: String::new(),
            any_backend: false,
            ports: Vec::new(),
        }
    }

    /// The requested pool, if any.
    pub(crate) fn requested_pool(&self) -> Option<&str> {
        self.requested_pool
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    /// Whether the service requests specific addresses, even if the request is invalid.
    pub(crate) fn requests_addresses(&self) -> bool {
        !matches!(&self.requested, Ok(requested) if requested.is_empty())
    }

    /// Whether the service may have an address of the pool: the pool accepts the service, or has
    /// reserved the address for it.
    pub(crate) fn may_have(&self, address: IpAddr, pool: &Pool) -> bool {
        self.is_accepted_by(pool) || pool.is_reserved_for(address, &self.service)
    }

    /// Whether the pool is not pinned, or its `serviceAllocation` accepts the service.
    pub(crate) fn is_accepted_by(&self, pool: &Pool) -> bool {
        pool.options().pinned.is_none() || self.accepted_by.contains(pool.name())
    }
}

/// Parses the requested addresses of a service: the annotation `loadBalancerIPs` (one address, or
/// an IPv4 and an IPv6 address separated by a comma) or the field `spec.loadBalancerIP`, not both.
/// Blanks around an address are ignored. An empty value requests no specific address.
///
/// # Errors
/// [`Reason::RequestedTwice`], [`Reason::RequestUnparsable`] or [`Reason::RequestFamilies`].
pub fn parse_requested(
    annotation: Option<&str>,
    field: Option<&str>,
) -> Result<Vec<IpAddr>, Reason> {
    let annotation = annotation.map(str::trim).filter(|text| !text.is_empty());
    let field = field.map(str::trim).filter(|text| !text.is_empty());
    let parse = |text: &str| {
        text.trim()
            .parse::<IpAddr>()
            .map(|address| address.to_canonical())
            .map_err(|_| Reason::RequestUnparsable {
                text: text.to_owned(),
            })
    };
    let addresses = match (annotation, field) {
        (Some(_), Some(_)) => return Err(Reason::RequestedTwice),
        (Some(list), None) => list.split(',').map(parse).collect::<Result<Vec<_>, _>>()?,
        (None, Some(one)) => vec![parse(one)?],
        (None, None) => Vec::new(),
    };
    match addresses.as_slice() {
        [] | [_] => Ok(addresses),
        [a, b] if Family::of(*a) != Family::of(*b) => Ok(addresses),
        _ => Err(Reason::RequestFamilies { addresses }),
    }
}
