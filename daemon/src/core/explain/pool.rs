//! What a pool has, who uses it, and what is announced of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_allocator::Pool;

use super::announcements::{routes_of, withheld};
use super::command::get_advertisements;
use super::not_found::NotFound;
use super::{Explainer, Explanation, Stage, Step, count, list};
use crate::core::allocate::pool_status::assigned;
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::config::selection::Selection;
use crate::core::decide::Reason;
use crate::core::decide::aggregates::decide_pool;
use crate::core::model::{Family, Service};

impl Explainer {
    pub(super) fn pool(&self, name: &str) -> Result<Explanation, NotFound> {
        let config = self.index.config();
        let kinds = [Kind::IpAddressPool, Kind::FerrolbIpAddressPool];
        let mut steps = self.problems_of(&kinds, name);
        let Some(pool) = config.pools.get(name) else {
            if !config.unreadable_pools.contains_key(name) && steps.is_empty() {
                let names = config.pools.iter().map(Pool::name);
                return Err(NotFound::new("IPAddressPool", name, names));
            }
            return Ok(Explanation {
                subject: format!("IPAddressPool {name}"),
                announced: false,
                summary: "it is invalid, so no address is allocated from it".to_owned(),
                steps,
            });
        };
        let users = self.users_of(pool);
        steps.insert(0, self.pool_step(pool));
        steps.extend(self.usage_steps(pool, &users));
        steps.push(self.advertisements_of_pool(name));
        steps.extend(self.aggregate_steps(pool));
        let whole = steps
            .iter()
            .any(|step| step.stage == Stage::Bgp && step.reason.is_none());
        let (announced, withheld) = self.announced_of(&users);
        if !announced.is_empty() {
            let step = Step::ok(Stage::Service, "announced");
            steps.push(Step {
                services: announced.clone(),
                ..step
            });
        }
        if !withheld.is_empty() {
            let text = "not announced; for each: ferrolb explain svc NAMESPACE/NAME";
            let step = Step::withheld(Stage::Service, text);
            steps.push(Step {
                services: withheld,
                ..step
            });
        }
        let services = count(users.len(), "service");
        Ok(Explanation {
            subject: self.pool_object(name),
            announced: whole || !announced.is_empty(),
            summary: format!("{services}, of which {} announced", announced.len()),
            steps,
        })
    }

    /// The name of the object that means a pool.
    pub(super) fn pool_object(&self, pool: &str) -> String {
        match self.index.config().pool_details.get(pool) {
            Some(details) => details.object.to_string(),
            None => format!("IPAddressPool {pool}"),
        }
    }

    fn users_of(&self, pool: &Pool) -> Vec<&Service> {
        let uses = |address: &IpAddr| pool.contains(*address);
        let services = self.index.services();
        let users = services.filter(|service| service.addresses().iter().any(uses));
        users.filter(|service| service.load_balancer).collect()
    }

    fn pool_step(&self, pool: &Pool) -> Step {
        let options = pool.options();
        let mut text = list(pool.prefixes());
        if !options.auto_assign {
            text += "; autoAssign: false: only for services that request it";
        }
        let details = self.index.config().pool_details.get(pool.name());
        if details.is_some_and(|details| details.allocation.is_some()) {
            text += "; serviceAllocation: only for some services";
        }
        Step::ok(Stage::Pool, text)
    }

    fn usage_steps(&self, pool: &Pool, users: &[&Service]) -> Vec<Step> {
        let used = users.iter().flat_map(|service| service.addresses());
        let used: BTreeSet<IpAddr> = used.copied().collect();
        let families = Family::ALL.into_iter();
        families
            .filter(|family| pool.capacity(*family) > 0)
            .map(|family| {
                let used = assigned(pool, family, &used);
                let capacity = pool.capacity(family);
                let free = capacity.saturating_sub(u128::try_from(used).unwrap_or(u128::MAX));
                let text = format!("{family}: {used} in use, {free} of {capacity} free");
                if free == 0 {
                    Step::withheld(Stage::Address, text).because("PoolExhausted")
                } else {
                    Step::ok(Stage::Address, text)
                }
            })
            .collect()
    }

    /// The aggregates that nodes announce with or without a service inside.
    fn aggregate_steps(&self, pool: &Pool) -> Vec<Step> {
        let mut routes: BTreeMap<(BTreeSet<String>, String), BTreeSet<String>> = BTreeMap::new();
        let mut refused: BTreeMap<String, Step> = BTreeMap::new();
        let subject = ObjectName::new("", pool.name());
        for (name, node) in self.index.nodes() {
            let decision = decide_pool(&self.index, name, Some(node), pool);
            for (text, peers) in routes_of(&decision) {
                routes
                    .entry((peers, text))
                    .or_default()
                    .insert(name.clone());
            }
            for verdict in withheld(&decision) {
                let text = verdict.message(&subject);
                let step = refused.entry(text.clone()).or_insert_with(|| {
                    Step::withheld(Stage::Bgp, text).because(verdict.reason.code())
                });
                step.nodes.insert(name.clone());
                step.peers
                    .extend(verdict.peer.as_deref().map(str::to_owned));
            }
        }
        let routes = routes.into_iter().map(|((peers, text), nodes)| Step {
            nodes,
            peers,
            ..Step::ok(Stage::Bgp, text)
        });
        routes.chain(refused.into_values()).collect()
    }

    fn advertisements_of_pool(&self, name: &str) -> Step {
        let selecting = self.advertisements_selecting(name);
        let objects = list(selecting.map(|(object, _)| object));
        if objects.is_empty() {
            let text = format!("no advertisement selects {}", self.pool_object(name));
            return Step::withheld(Stage::Advertisement, text)
                .because(Reason::NoAdvertisement.code())
                .with_command(get_advertisements(&self.index));
        }
        Step::ok(Stage::Advertisement, objects)
    }

    /// The advertisements of both protocols that select a pool.
    pub(super) fn advertisements_selecting(
        &self,
        pool: &str,
    ) -> impl Iterator<Item = (&ObjectKey, &Selection)> {
        let config = self.index.config();
        let labels = config.pool_details.get(pool).map(|details| &details.labels);
        let bgp = config.advertisements.values();
        let bgp = bgp.map(|ad| (&ad.object, &ad.selection));
        let layer2 = config.layer2_advertisements.values();
        let layer2 = layer2.map(|ad| (&ad.object, &ad.selection));
        let all = bgp.chain(layer2);
        all.filter(move |(_, selection)| selection.selects_pool(pool, labels))
    }

    /// The services that are announced, and those that are not.
    fn announced_of(&self, services: &[&Service]) -> (BTreeSet<String>, BTreeSet<String>) {
        let named = services.iter().map(|service| {
            let announced = self.is_announced(service);
            (service.name.to_string(), announced)
        });
        let (announced, withheld): (Vec<_>, Vec<_>) = named.partition(|(_, announced)| *announced);
        let names = |services: Vec<(String, bool)>| services.into_iter().map(|(name, _)| name);
        (names(announced).collect(), names(withheld).collect())
    }
}
