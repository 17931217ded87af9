//! Addresses that are never allocated, even if a pool contains them: those of nodes, routers, Pods
//! and the cluster's own Services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_allocator::{Exclusion, Pool};
use ipnet::IpNet;
use serde_json::Value;

use super::{CompileContext, Config, ConfigObjects};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};

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
    /// Reports the excluded addresses of a pool.
    pub(super) fn report_excluded(&mut self, key: &ObjectKey, pool: &Pool) {
        let excluded = pool.excluded();
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

    /// The notice about a service whose address is in use elsewhere.
    pub fn excluded_address(&self, addresses: &[IpAddr]) -> Option<String> {
        addresses.iter().find_map(|address| {
            let pool = self.pools.containing(*address)?;
            let exclusion = pool.exclusion_of(*address)?;
            Some(format!(
                "status.loadBalancer: {address} is {exclusion}: the service keeps it until it \
                 requests another address: request one, and remove this one from pool {}",
                pool.name()
            ))
        })
    }
}

/// The addresses in the status of Services of other load balancers.
pub(crate) type ForeignServices = BTreeMap<ObjectName, Vec<IpAddr>>;

/// The ranges of ServiceCIDRs, by name.
pub(crate) type ServiceCidrs = BTreeMap<String, Vec<IpNet>>;
