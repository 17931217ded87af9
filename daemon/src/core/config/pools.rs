//! Compiles the IPAddressPools of both API groups.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_allocator::Pool;

use super::pool::{PoolDetails, PoolResource};
use super::{CompileContext, Config, ConfigObjects, both_groups, pool};
use crate::core::api::ferrolb::FerrolbIpAddressPoolSpec;
use crate::core::api::metallb::IpAddressPoolSpec;
use crate::core::api::{FieldError, Kind, ObjectKey, ObjectName, Partial, RawObject};

/// The fields of MetalLB's IPAddressPool, and the additional ones of ferrolb's.
pub(super) type PoolSpec = (IpAddressPoolSpec, Option<FerrolbIpAddressPoolSpec>);

/// A CRD that is gone by mistake must not cost the Services their addresses.
const NO_POOL: &str = "there is none, and the API server knows the kind of one API group only: \
    Services keep the addresses that they have until there is a pool";

impl ConfigObjects {
    pub(super) fn compile_pools(&mut self, context: CompileContext<'_>, config: &mut Config) {
        let exclusions = self.exclusions(context);
        let mut good = BTreeMap::new();
        for (key, raw, parsed) in self.pools_in_order(config) {
            let name = &key.name.name;
            let labels = &raw.metadata.labels;
            let origin = config.sources.origin(key).kind;
            let refused = |kind: Kind| self.unreadable.contains_key(&kind);
            let unreadable =
                refused(key.kind) || origin == Kind::AddressPool && refused(Kind::AddressPool);
            let parse = |spec: PoolSpec, frozen: bool| {
                let resource = PoolResource {
                    object: key,
                    labels,
                    spec: &spec.0,
                    ferrolb: spec.1.as_ref(),
                };
                pool::parse(resource, frozen, context.namespaces)
                    .map(|(pool, details)| (spec, pool, details))
            };
            let mut insert = |(spec, pool, details): (PoolSpec, Pool, PoolDetails)| {
                let other = config.pool_details.get(name).map(|other| &other.object);
                both_groups::check_name(other)?;
                let pool = pool.excluding(&exclusions);
                config
                    .pools
                    .insert(pool.clone())
                    .map_err(|error| FieldError::new("spec.addresses", error.to_string()))?;
                for notice in pool::host_bits(&spec.0) {
                    config.notice(key.clone(), notice);
                }
                config.report_excluded(key, &pool, context.foreign_services);
                config.pool_details.insert(name.clone(), details);
                good.insert(key.clone(), spec);
                Ok(())
            };
            let parsed = parsed.check(|spec| parse(spec, unreadable));
            let Err(error) = parsed.and_then(&mut insert) else {
                continue;
            };
            // Use its last good value, frozen.
            let last_good = self.good_pools.get(key).cloned();
            if last_good.is_none_or(|spec| parse(spec, true).and_then(&mut insert).is_err()) {
                config.unreadable_pools.insert(name.clone(), labels.clone());
            }
            config.error(
                key.clone(),
                format!("{error} (its services keep their addresses)"),
            );
        }
        self.good_pools = good;
        let all_known = self.knows_all(Kind::IpAddressPool);
        let groups = || Kind::IpAddressPool.groups();
        let is_readable = |kind| !self.unreadable.contains_key(&kind) && !self.is_absent(kind);
        let has_none = !groups().any(|kind| self.has_any(kind)) && !self.has_any(Kind::AddressPool);
        if !all_known && has_none && groups().any(is_readable) {
            let all = ObjectKey::new(Kind::IpAddressPool, ObjectName::new("", "*"));
            config.notice(all, NO_POOL.to_owned());
        }
        config
            .pools
            .set_complete(all_known && config.unreadable_pools.is_empty());
    }

    /// The pools, older ones first. Unchanged pools come before the others, so that an edit of one
    /// pool doesn't displace another one. Pools with the name of an unchanged one do too: which of
    /// them is used depends on their age only.
    fn pools_in_order(
        &self,
        config: &mut Config,
    ) -> Vec<(&ObjectKey, &RawObject, Partial<PoolSpec>)> {
        let mut objects: Vec<_> = self
            .of_both_groups(Kind::IpAddressPool)
            .into_iter()
            .map(|(key, raw)| (key, raw, both_groups::spec(raw, key, config)))
            .collect();
        let unchanged: BTreeSet<&str> = objects
            .iter()
            .filter(|(key, _, spec)| {
                let running = self.good_pools.get(key);
                running.is_some() && running == spec.complete()
            })
            .map(|(key, ..)| key.name.name.as_str())
            .collect();
        objects.sort_by_key(|(key, ..)| !unchanged.contains(key.name.name.as_str()));
        objects
    }
}
