//! Addresses that pools may contain and no service may have: those of nodes, routers, Pods and the cluster's own Services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_allocator::{Exclusion, Pool};
use ipnet::IpNet;
use serde_json::Value;

use super::{CompileContext, Config, ConfigObjects};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};

/// Up to this many are named where a pool has several.
const NAMED: usize = 3;

impl ConfigObjects {
    /// All of them, each network once.
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
        for (key, raw) in &self.raw {
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

/// Also of a BGPPeer that is refused: the router is there.
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
    /// Says what a pool has that no service gets.
    pub(super) fn note_excluded(&mut self, key: &ObjectKey, pool: &Pool) {
        let excluded = pool.excluded();
        if excluded.is_empty() {
            return;
        }
        let named = excluded.iter().take(NAMED).map(|exclusion| {
            let network = exclusion.network();
            let owner = exclusion.owner();
            if network.prefix_len() == network.max_prefix_len() {
                format!("{} ({owner})", network.addr())
            } else {
                format!("{network} ({owner})")
            }
        });
        let named: Vec<String> = named.collect();
        let others = match excluded.len().saturating_sub(NAMED) {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let message = format!(
            "spec.addresses: contains {}{others}: no service gets these; leave them out",
            named.join(", ")
        );
        self.notice(key.clone(), message);
    }

    /// An address of a service that belongs to something else: what there is to say about it.
    pub fn excluded_address(&self, addresses: &[IpAddr]) -> Option<String> {
        addresses.iter().find_map(|address| {
            let pool = self.pools.containing(*address)?;
            let exclusion = pool.exclusion_of(*address)?;
            Some(format!(
                "status.loadBalancer: {address} is {exclusion}: the service keeps it until it asks for another address; \
                 request one, and leave this one out of pool {}",
                pool.name()
            ))
        })
    }
}

/// Addresses in the status of Services that another load balancer serves.
pub(crate) type ForeignServices = BTreeMap<ObjectName, Vec<IpAddr>>;

/// Facts about ServiceCIDRs, by name.
pub(crate) type ServiceCidrs = BTreeMap<String, Vec<IpNet>>;
