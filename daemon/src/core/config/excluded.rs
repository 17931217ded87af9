//! Addresses that are never allocated, even if a pool contains them: those of nodes, routers, Pods
//! and the cluster's own Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_allocator::{Exclusion, Family, Pool};
use ipnet::IpNet;
use serde_json::Value;

use super::{CompileContext, Config, ConfigObjects};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::model::Service;

/// Maximum number of excluded addresses of a pool that a notice lists.
const LISTED_MAX: usize = 3;

impl ConfigObjects {
    /// All excluded networks, each once, with their owners.
    pub(super) fn exclusions(&self, context: CompileContext<'_>) -> Vec<Exclusion> {
        let mut owners: BTreeMap<IpNet, String> = BTreeMap::new();
        let mut add = |network: IpNet, owner: String| _ = owners.entry(network).or_insert(owner);
        for (name, node) in context.nodes {
            for address in node.internal_ips.iter().chain(&node.other_ips) {
                add(IpNet::from(*address), format!("an address of Node {name}"));
            }
            for network in &node.pod_cidrs {
                add(*network, format!("the podCIDR of Node {name}"));
            }
        }
        for (key, raw) in self.objects() {
            for (field, address) in addresses_of_peer(key, raw) {
                add(IpNet::from(address), format!("the {field} of {key}"));
            }
        }
        for (name, networks) in context.service_cidrs {
            for network in networks {
                add(*network, format!("a range of ServiceCIDR {name}"));
            }
        }
        for (name, addresses) in context.foreign_services {
            for address in addresses {
                let owner = format!("an address of Service {name} of another loadBalancerClass");
                add(IpNet::from(*address), owner);
            }
        }
        let owners = owners.into_iter();
        owners
            .map(|(network, owner)| Exclusion::new(network, owner))
            .collect()
    }
}

/// The addresses in a BGPPeer, even if it is invalid: the router exists.
fn addresses_of_peer(
    key: &ObjectKey,
    raw: &RawObject,
) -> impl Iterator<Item = (&'static str, IpAddr)> {
    let spec = match key.kind {
        Kind::BgpPeer | Kind::FerrolbBgpPeer => raw.body.get("spec"),
        _ => None,
    };
    let fields = ["peerAddress", "sourceAddress"].into_iter();
    fields.filter_map(move |field| {
        let text = spec?.get(field).and_then(Value::as_str)?;
        let address: IpAddr = text.parse().ok()?;
        Some((field, address.to_canonical()))
    })
}

impl Config {
    /// Reports the excluded addresses of a pool. A pool without autoAssign may be there only for
    /// the announcement of Services of other load balancers: their addresses are no mistake.
    pub(super) fn report_excluded(
        &mut self,
        key: &ObjectKey,
        pool: &Pool,
        foreign: &ForeignServices,
    ) {
        let foreign = || foreign.values().flatten().copied().map(IpNet::from);
        let expected: BTreeSet<IpNet> = match pool.options().auto_assign {
            true => BTreeSet::new(),
            false => foreign().collect(),
        };
        let excluded = pool.excluded().iter();
        let excluded = excluded.filter(|exclusion| !expected.contains(&exclusion.network()));
        let excluded: Vec<&Exclusion> = excluded.collect();
        if excluded.is_empty() {
            return;
        }
        let named = excluded.iter().take(LISTED_MAX).map(|exclusion| {
            let network = exclusion.network();
            let owner = exclusion.owner();
            if network.prefix_len() == network.max_prefix_len() {
                format!("{} ({owner})", network.addr())
            } else {
                format!("{network} ({owner})")
            }
        });
        let named: Vec<String> = named.collect();
        let others = match excluded.len().saturating_sub(LISTED_MAX) {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let message = format!(
            "spec.addresses: contains addresses in use, which are never allocated: {}{others}: \
             remove them",
            named.join(", ")
        );
        self.notice(key.clone(), message);
    }

    /// The notice about a service whose address is in use elsewhere or reserved for another one, or
    /// for which another address is reserved.
    pub(crate) fn address_notice(&self, service: &Service) -> Option<String> {
        let key = &service.request.service;
        let addresses = service.addresses();
        let notice = addresses.iter().find_map(|address| {
            let pool = self.pools.containing(*address)?;
            let name = pool.name();
            if let Some(exclusion) = pool.exclusion_of(*address) {
                return Some(format!(
                    "status.loadBalancer: {address} is {exclusion}: the service keeps it until it \
                     requests another address: request one, and remove this one from pool {name}"
                ));
            }
            let reservation = pool.reserved_for_another(*address, key)?;
            Some(format!(
                "status.loadBalancer: {address} is reserved for {} in pool {name}: the service \
                 keeps it until it requests another address: request one, or change \
                 spec.reservations of the pool",
                reservation.service()
            ))
        });
        notice.or_else(|| self.unused_reservation(service))
    }

    /// The notice about a service that has another address than the one that is reserved for it: a
    /// reservation moves no address.
    fn unused_reservation(&self, service: &Service) -> Option<String> {
        let request = &service.request;
        let requests_nothing = request.requested.as_ref().is_ok_and(Vec::is_empty)
            && request.requested_pool.as_deref().is_none_or(str::is_empty);
        let pools = self.pools.iter().filter(|_| requests_nothing);
        let mut reservations = pools.flat_map(|pool| {
            let reservations = pool.reservations().iter();
            let own = reservations.filter(|kept| *kept.service() == request.service);
            own.map(move |kept| (pool.name(), kept))
        });
        reservations.find_map(|(pool, kept)| {
            let mut addresses = service.addresses().iter();
            let other =
                addresses.find(|a| kept.first(Family::of(**a)).is_some() && !kept.contains(**a))?;
            let reserved = kept.first(Family::of(*other))?;
            Some(format!(
                "status.loadBalancer: pool {pool} reserves {reserved} for this service, which \
                 keeps {other}: to move it, request {reserved} with the annotation \
                 metallb.io/loadBalancerIPs"
            ))
        })
    }
}

/// The addresses in the status of Services of other load balancers.
pub(crate) type ForeignServices = BTreeMap<ObjectName, Vec<IpAddr>>;

/// The ranges of ServiceCIDRs, by name.
pub(crate) type ServiceCidrs = BTreeMap<String, Vec<IpNet>>;
