//! What a service asks for, as the facts that allocation depends on.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::pool::Pool;
use crate::reason::Reason;

/// Namespace and name of a service. Displays as `namespace/name`. Clones share their text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The service's namespace.
    pub namespace: Arc<str>,
    /// The service's name.
    pub name: Arc<str>,
}

impl ServiceKey {
    /// A key from its two parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An IP address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family an address belongs to.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// `spec.ipFamilyPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FamilyPolicy {
    /// One family.
    #[default]
    SingleStack,
    /// Both families where one pool has both, else one.
    PreferDualStack,
    /// Both families or nothing.
    RequireDualStack,
}

/// The protocol of a port, displayed and parsed as Kubernetes spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `SCTP`.
    Sctp,
    /// `TCP`.
    Tcp,
    /// `UDP`.
    Udp,
}

impl Protocol {
    /// `None` for a text that Kubernetes does not accept. Upper and lower case differ there.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "SCTP" => Some(Self::Sctp),
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sctp => "SCTP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A port that a service listens on. Displays as `TCP/80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// The port number.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.number)
    }
}

/// The facts about one service of type LoadBalancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which service.
    pub service: ServiceKey,
    /// Creation time; only its order counts (seconds since the epoch will do). Decides a conflict.
    pub created: i64,
    /// The object's UID. Decides a conflict between services created at the same time.
    pub uid: String,
    /// The addresses in `status.loadBalancer.ingress`, in its order.
    pub holds: Vec<IpAddr>,
    /// The pool recorded beside them (annotation `ip-allocated-from-pool`), if any.
    pub holds_from: Option<String>,
    /// Families of `spec.clusterIPs`, in its order; the first is the primary family. Empty while
    /// the service has no cluster IP.
    pub cluster_families: Vec<Family>,
    /// `spec.ipFamilyPolicy`.
    pub family_policy: FamilyPolicy,
    /// The addresses asked for, as [`parse_requested`] gives them; empty = any.
    pub requested: Result<Vec<IpAddr>, Reason>,
    /// The pool asked for (annotation `address-pool`), if any. An empty name means none.
    pub requested_pool: Option<String>,
    /// Names of the pinned pools whose `serviceAllocation` accepts this service. Pools that are
    /// not pinned need not be named, they accept everybody.
    pub accepted_by: BTreeSet<String>,
    /// Annotation `allow-shared-ip`; empty = shares with nobody.
    pub sharing_key: String,
    /// What must be equal for two services to share, unless both have [`Request::any_backend`]:
    /// empty for externalTrafficPolicy Cluster, for Local equal for services that have the same
    /// Pods.
    pub backend_key: String,
    /// Shares also with services of another backend key that have this set as well.
    pub any_backend: bool,
    /// The service's ports.
    pub ports: Vec<Port>,
}

impl Request {
    /// A request with no wishes: one IPv4 cluster IP, holds nothing, any address will do.
    #[must_use]
    pub fn new(service: ServiceKey) -> Self {
        Self {
            service,
            created: 0,
            uid: String::new(),
            holds: Vec::new(),
            holds_from: None,
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

    /// The pool asked for, if one is.
    pub(crate) fn requested_pool(&self) -> Option<&str> {
        self.requested_pool
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    /// Whether addresses are asked for by number, or something that was meant as one.
    pub(crate) fn asks_by_number(&self) -> bool {
        !matches!(&self.requested, Ok(requested) if requested.is_empty())
    }

    pub(crate) fn accepted_in(&self, pool: &Pool) -> bool {
        pool.options().pinned.is_none() || self.accepted_by.contains(pool.name())
    }
}

/// Reads the addresses a service asks for: the annotation `loadBalancerIPs` (one address, or an
/// IPv4 and an IPv6 address with a comma between) or the field `spec.loadBalancerIP`, not both.
/// Blanks around an address don't matter, and an empty text is no request.
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
