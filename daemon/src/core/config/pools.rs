//! Compiles the IPAddressPools of both API groups.
//!
//! Of two pools that overlap or have one name, the older one is used. This is decided from what the
//! objects say now, so that every process decides the same, however long it has run. Only then, the
//! last good values of refused pools are used, frozen, in so far as they overlap no pool that is
//! used. A refused pool without such a value keeps the addresses of its services, too
//! ([`PoolSet::refuse`](ferrolb_allocator::PoolSet::refuse)).

use std::collections::BTreeMap;

use ferrolb_allocator::{Exclusion, Pool};

use super::pool::{PoolDetails, PoolResource};
use super::{CompileContext, Config, ConfigObjects, both_groups, pool};
use crate::core::api::ferrolb::FerrolbIpAddressPoolSpec;
use crate::core::api::metallb::IpAddressPoolSpec;
use crate::core::api::{Cause, FieldError, Kind, ObjectKey, ObjectName, RawObject};

/// The fields of MetalLB's IPAddressPool, and the additional ones of ferrolb's.
pub(super) type PoolSpec = (IpAddressPoolSpec, Option<FerrolbIpAddressPoolSpec>);

/// A CRD that is gone by mistake must not cost the Services their addresses.
const NO_POOL: &str = "there is none, and the API server knows the kind of one API group only: \
    Services keep the addresses that they have until there is a pool";

impl ConfigObjects {
    pub(super) fn compile_pools(&mut self, context: CompileContext<'_>, config: &mut Config) {
        let compiler = Compiler {
            exclusions: self.exclusions(context),
            context,
        };
        let mut good = BTreeMap::new();
        let mut refused = Vec::new();
        // MetalLB 0.14 ignores AddressPools: one that is left over takes nothing from a pool.
        let mut pools = self.of_both_groups(Kind::IpAddressPool);
        pools.sort_by_key(|(key, _)| config.sources.origin(key).kind == Kind::AddressPool);
        for (key, raw) in pools {
            let origin = config.sources.origin(key).kind;
            let unreadable = |kind: Kind| self.unreadable.contains_key(&kind);
            let frozen = unreadable(key.kind) || origin == Kind::AddressPool && unreadable(origin);
            let parsed = both_groups::spec(raw, key, config)
                .check(|spec| compiler.parse(key, raw, spec, frozen));
            match parsed.and_then(|parsed| compiler.insert(parsed, config)) {
                Ok(spec) => _ = good.insert(key.clone(), spec),
                Err(error) => refused.push((key, raw, error)),
            }
        }
        for (key, raw, error) in refused {
            let last_good = self.good_pools.get(key).cloned();
            let used = last_good.clone().and_then(|spec| {
                let parsed = compiler.parse(key, raw, spec, true).ok()?;
                compiler.insert(parsed, config).ok()
            });
            good.extend(last_good.map(|spec| (key.clone(), spec)));
            if used.is_none() {
                let (name, labels) = (&key.name.name, &raw.metadata.labels);
                config.unreadable_pools.insert(name.clone(), labels.clone());
                config.pools.refuse(name);
            }
            let message = format!("{error} (its services keep their addresses)");
            config.refuse_with(key, error.cause, message);
        }
        self.good_pools = good;
        self.check_all_known(config);
    }

    /// Whether the pools are all that exist.
    fn check_all_known(&self, config: &mut Config) {
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
}

/// What all pools are compiled with.
struct Compiler<'a> {
    exclusions: Vec<Exclusion>,
    context: CompileContext<'a>,
}

/// A valid pool, with what it was read from.
type Parsed = (PoolSpec, Pool, PoolDetails);

impl Compiler<'_> {
    fn parse(
        &self,
        key: &ObjectKey,
        raw: &RawObject,
        spec: PoolSpec,
        frozen: bool,
    ) -> Result<Parsed, FieldError> {
        let resource = PoolResource {
            object: key,
            labels: &raw.metadata.labels,
            spec: &spec.0,
            ferrolb: spec.1.as_ref(),
        };
        let (pool, details) = pool::parse(resource, frozen, self.context.namespaces)?;
        Ok((spec, pool, details))
    }

    /// Adds a pool that conflicts with none of those before it. Returns what it was read from.
    fn insert(&self, parsed: Parsed, config: &mut Config) -> Result<PoolSpec, FieldError> {
        let (spec, pool, details) = parsed;
        let key = details.object.clone();
        let name = &key.name.name;
        let other = config.pool_details.get(name).map(|other| &other.object);
        both_groups::check_name(other)?;
        let pool = pool.excluding(&self.exclusions);
        config.pools.insert(pool.clone()).map_err(|error| {
            FieldError::new("spec.addresses", error.to_string()).because(Cause::Overlap)
        })?;
        for notice in pool::host_bits(&spec.0) {
            config.notice(key.clone(), notice);
        }
        config.report_excluded(&key, &pool, self.context.foreign_services);
        config.pool_details.insert(name.clone(), details);
        Ok(spec)
    }
}
