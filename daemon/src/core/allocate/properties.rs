//! Property test: a leader against a plain model of the API server, with random services, edits,
//! pools, type changes, lost writes, restarts and changes of the leader, also to a standby.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_allocator::pool_names;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Allocation;
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::index::change::{Change, StatusWrite};
use crate::core::index::{Dirty, Index};

/// The definitions that each pool alternates between.
const POOLS: [(&str, [&str; 2], bool); 4] = [
    ("a", ["10.0.0.0/31", "10.0.0.1/32"], true),
    (
        "b",
        ["10.1.0.0/31 fc01::/127", "10.1.0.0/32 fc01::/127"],
        true,
    ),
    ("m", ["10.2.0.0/31", "10.2.0.0/31 fc02::/128"], false),
    ("v6", ["fc03::/127", "fc03::1/128"], true),
];

const REQUESTS: [&str; 5] = [
    "10.0.0.1",
    "10.2.0.0",
    "fc03::1",
    "10.0.0.0,fc03::",
    "10.9.0.1",
];

/// What a user writes into a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    load_balancer: bool,
    /// The number of cluster addresses, IPv4 first.
    families: usize,
    policy: &'static str,
    pool: Option<&'static str>,
    addresses: Option<&'static str>,
    shares: bool,
}

#[derive(Clone, Debug)]
enum Event {
    /// A user creates or edits a Service.
    Write(u8, Wish),
    Delete(u8),
    /// A user deletes a Service and creates it again.
    Recreate(u8),
    /// Another program clears the status.
    Clear(u8),
    /// The definition of a pool, or none.
    Pool(usize, Option<usize>),
    /// A status write of a leader, former or not, reaches the API server.
    Deliver,
    /// A status write is lost, and the leader with it.
    Crash,
    /// Another process leads. The writes of the former one are still in flight.
    NewLeader,
    /// The standby leads, which has seen all changes, and the leader becomes the standby. The
    /// writes are still in flight.
    Failover,
}

fn event() -> impl Strategy<Value = Event> {
    let one_of = |texts: Vec<&'static str>| {
        let some = prop::sample::select(texts).prop_map(Some);
        prop_oneof![3 => Just(None), 1 => some]
    };
    let pool = one_of(POOLS.iter().map(|(name, ..)| *name).collect());
    let addresses = one_of(REQUESTS.to_vec());
    let policies = vec!["SingleStack", "PreferDualStack", "RequireDualStack"];
    let wish = (
        prop::bool::weighted(0.9),
        1..3_usize,
        prop::sample::select(policies),
        pool,
        addresses,
        prop::bool::weighted(0.3),
    );
    let wish = wish.prop_map(
        |(load_balancer, families, policy, pool, addresses, shares)| Wish {
            load_balancer,
            families,
            policy,
            pool,
            addresses,
            shares,
        },
    );
    let id = 0..7_u8;
    prop_oneof![
        6 => (id.clone(), wish).prop_map(|(id, wish)| Event::Write(id, wish)),
        1 => id.clone().prop_map(Event::Delete),
        1 => id.clone().prop_map(Event::Recreate),
        1 => id.prop_map(Event::Clear),
        2 => (0..POOLS.len(), prop::option::of(0..2_usize))
            .prop_map(|(pool, to)| Event::Pool(pool, to)),
        3 => Just(Event::Deliver),
        1 => Just(Event::Crash),
        1 => Just(Event::NewLeader),
        1 => Just(Event::Failover),
    ]
}

/// A Service in the API server.
#[derive(Clone, Debug)]
struct Stored {
    wish: Wish,
    created: u32,
    version: u32,
    addresses: Vec<IpAddr>,
    pool: Option<String>,
}

/// The API server, and the processes that watch it.
#[derive(Default)]
struct Cluster {
    services: BTreeMap<u8, Stored>,
    pools: BTreeMap<usize, usize>,
    clock: u32,
    /// Both processes have the same.
    index: Index,
    allocation: Allocation,
    standby: Allocation,
    in_flight: Vec<Arc<StatusWrite>>,
}

fn key(kind: Kind, name: &str) -> ObjectKey {
    let namespace = if kind == Kind::Service {
        "default"
    } else {
        "metallb-system"
    };
    ObjectKey::new(kind, ObjectName::new(namespace, name))
}

fn service_key(id: u8) -> ObjectKey {
    key(Kind::Service, &format!("s{id}"))
}

fn change(key: ObjectKey, mut body: Value) -> Change {
    body["kind"] = json!(key.kind.name());
    body["metadata"]["name"] = json!(key.name.name);
    let raw: RawObject = serde_json::from_value(body).expect("an object");
    Change::Apply(key, raw)
}

fn pool_change(pool: usize, definition: usize) -> Change {
    let (name, definitions, auto_assign) = POOLS[pool];
    let addresses: Vec<&str> = definitions[definition].split(' ').collect();
    let spec = json!({ "addresses": addresses, "autoAssign": auto_assign });
    change(key(Kind::IpAddressPool, name), json!({ "spec": spec }))
}

impl Stored {
    fn change(&self, id: u8) -> Change {
        let Wish {
            load_balancer,
            families,
            policy,
            pool,
            addresses,
            shares,
        } = &self.wish;
        let mut annotations = json!({});
        for (key, value) in [
            ("address-pool", *pool),
            ("loadBalancerIPs", *addresses),
            ("allow-shared-ip", shares.then_some("key")),
            ("ip-allocated-from-pool", self.pool.as_deref()),
        ] {
            if let Some(value) = value {
                annotations[format!("metallb.io/{key}")] = json!(value);
            }
        }
        let cluster_ips = &["10.96.0.1", "fd00::1"][..*families];
        let ingress: Vec<Value> = self
            .addresses
            .iter()
            .map(|ip| json!({ "ip": ip }))
            .collect();
        let created = self.created;
        change(
            service_key(id),
            json!({
                "metadata": {
                    "annotations": annotations, "resourceVersion": self.version.to_string(),
                    "uid": format!("uid-{created}"),
                    "creationTimestamp":
                        format!("2026-01-01T{:02}:{:02}:00Z", created / 60, created % 60),
                },
                "spec": {
                    "type": if *load_balancer { "LoadBalancer" } else { "ClusterIP" },
                    "clusterIPs": cluster_ips, "ipFamilyPolicy": policy,
                    // Every second Service has the same port, so that not all may share.
                    "ports": [{ "port": 80 + id % 4 }],
                },
                "status": { "loadBalancer": { "ingress": ingress } },
            }),
        )
    }
}

impl Cluster {
    fn tick(&mut self) -> u32 {
        self.clock += 1;
        self.clock
    }

    /// Both processes receive a change, and the leader decides.
    fn watch(&mut self, change: Change) {
        let mut dirty = self.index.apply(change);
        self.standby.remember(std::mem::take(&mut dirty.released));
        self.decide(&dirty);
    }

    fn decide(&mut self, dirty: &Dirty) {
        self.in_flight
            .extend(self.allocation.decide(&self.index, dirty).writes);
    }

    /// Stores a new version of a Service. The API server clears the status of one that is not of
    /// type LoadBalancer, and a watch of those of this type sees it as deleted.
    fn store(&mut self, id: u8, mut stored: Stored) {
        stored.version = self.tick();
        let is_seen = stored.wish.load_balancer;
        if !is_seen {
            stored.addresses.clear();
        }
        self.services.insert(id, stored.clone());
        self.watch(if is_seen {
            stored.change(id)
        } else {
            Change::Delete(service_key(id))
        });
    }

    fn delete(&mut self, id: u8) -> Option<Stored> {
        let stored = self.services.remove(&id)?;
        self.watch(Change::Delete(service_key(id)));
        Some(stored)
    }

    fn create(&mut self, id: u8, wish: Wish) {
        let created = self.tick();
        let (addresses, pool) = (Vec::new(), None);
        self.store(
            id,
            Stored {
                wish,
                created,
                version: 0,
                addresses,
                pool,
            },
        );
    }

    fn deliver(&mut self, write: &StatusWrite) -> Result<(), TestCaseError> {
        let found = self.services.iter().find(|(id, stored)| {
            service_key(**id).name == *write.service
                && stored.version.to_string() == write.resource_version
        });
        // The API server rejects the write if the Service changed.
        if let Some((id, stored)) = found {
            let gained = write.addresses.iter();
            let mut gained = gained.filter(|address| !stored.addresses.contains(address));
            let unasked = gained.find(|address| !stored.wish.permits(**address));
            prop_assert!(
                unasked.is_none(),
                "s{id} gets {unasked:?}: {:?}",
                stored.wish
            );
            let (addresses, pool) = (write.addresses.clone(), write.pool.clone());
            let stored = Stored {
                addresses,
                pool,
                ..stored.clone()
            };
            self.store(*id, stored);
        }
        Ok(())
    }

    /// Another process leads that has seen all changes.
    fn fail_over(&mut self) {
        std::mem::swap(&mut self.allocation, &mut self.standby);
        self.allocation.reset();
        self.standby.reset();
        self.decide(&Dirty {
            configuration: true,
            ..Dirty::default()
        });
    }

    /// A new process reads everything and leads.
    fn lead(&mut self) {
        (self.index, self.allocation) = (Index::default(), Allocation::default());
        for (pool, definition) in &self.pools {
            self.index.apply(pool_change(*pool, *definition));
        }
        let seen = self.services.iter();
        for (id, stored) in seen.filter(|(_, stored)| stored.wish.load_balancer) {
            self.index.apply(stored.change(*id));
        }
        self.decide(&Dirty {
            configuration: true,
            ..Dirty::default()
        });
    }

    fn apply(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Write(id, wish) => match self.services.get(&id).cloned() {
                Some(stored) => self.store(id, Stored { wish, ..stored }),
                None => self.create(id, wish),
            },
            Event::Delete(id) => _ = self.delete(id),
            Event::Recreate(id) => {
                if let Some(stored) = self.delete(id) {
                    self.create(id, stored.wish);
                }
            }
            Event::Clear(id) => {
                if let Some(stored) = self.services.get(&id).cloned() {
                    self.store(
                        id,
                        Stored {
                            addresses: Vec::new(),
                            ..stored
                        },
                    );
                }
            }
            Event::Pool(pool, Some(definition)) => {
                self.pools.insert(pool, definition);
                self.watch(pool_change(pool, definition));
            }
            Event::Pool(pool, None) => {
                self.pools.remove(&pool);
                self.watch(Change::Delete(key(Kind::IpAddressPool, POOLS[pool].0)));
            }
            Event::Deliver if self.in_flight.is_empty() => {}
            Event::Deliver => {
                let write = self.in_flight.remove(0);
                self.deliver(&write)?;
            }
            Event::Crash => {
                self.in_flight.clear();
                self.lead();
            }
            Event::NewLeader => self.lead(),
            Event::Failover => self.fail_over(),
        }
        Ok(())
    }

    /// Delivers all writes until none is left.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..200 {
            if self.in_flight.is_empty() {
                return Ok(());
            }
            self.apply(Event::Deliver)?;
        }
        Err(TestCaseError::fail("writes without an end"))
    }

    /// The pool that has an address, and its definition.
    fn pool_of(&self, address: IpAddr) -> Option<(usize, usize)> {
        let has = |definition: &str| {
            definition.split(' ').any(|net| {
                let net: ipnet::IpNet = net.parse().expect("a network");
                net.contains(&address)
            })
        };
        let mut pools = self
            .pools
            .iter()
            .map(|(pool, definition)| (*pool, *definition));
        pools.find(|(pool, definition)| has(POOLS[*pool].1[*definition]))
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let load_balancers = self.services.iter();
        let load_balancers = load_balancers.filter(|(_, stored)| stored.wish.load_balancer);
        for (id, stored) in load_balancers {
            let mut names = Vec::new();
            for address in &stored.addresses {
                let pool = self.pool_of(*address);
                prop_assert!(pool.is_some(), "s{id}: {address} is in no pool");
                names.extend(pool.map(|(pool, _)| POOLS[pool].0));
                for (other_id, other) in self.services.range(..id) {
                    let may_share =
                        stored.wish.shares && other.wish.shares && id % 4 != other_id % 4;
                    let both = other.addresses.contains(address);
                    prop_assert!(!both || may_share, "{address}: s{id} and s{other_id}");
                }
            }
            let families: BTreeSet<bool> = stored.addresses.iter().map(IpAddr::is_ipv4).collect();
            prop_assert_eq!(families.len(), stored.addresses.len(), "one of each family");
            prop_assert!(stored.wish.families == 2 || !families.contains(&false));
            names.dedup();
            let recorded = stored
                .pool
                .as_deref()
                .map(|text| pool_names(text).collect());
            prop_assert_eq!(
                recorded.unwrap_or_else(Vec::new),
                names,
                "the pools of s{}",
                id
            );
        }
        Ok(())
    }

    /// Each address that a Service had before it still has, unless a rule permits the loss: a pool
    /// that was deleted or edited meanwhile may have lost it, or an edit of the Service.
    fn check_kept(&self, before: &Self, changes: &Changes) -> Result<(), TestCaseError> {
        for (id, old) in &before.services {
            let may_lose = changes.may_cost(*id, old);
            let Some(new) = self.services.get(id).filter(|_| !may_lose) else {
                continue;
            };
            let is_unchanged = |address: &&IpAddr| {
                self.pool_of(**address).is_some_and(|pool| {
                    before.pool_of(**address) == Some(pool) && !changes.pools.contains(&pool.0)
                })
            };
            let all_or_nothing =
                old.wish.policy != "PreferDualStack" || old.wish.addresses.is_some();
            if all_or_nothing && !old.addresses.iter().all(|address| is_unchanged(&address)) {
                continue;
            }
            for address in old.addresses.iter().filter(is_unchanged) {
                // Of two Services that share, the one that changes loses the address. A new leader
                // doesn't know which one that was.
                let shared = before.services.iter().any(|(other, stored)| {
                    let is_touched = changes.services.contains_key(other);
                    other != id && is_touched && stored.addresses.contains(address)
                });
                let shared = shared && changes.leader;
                prop_assert!(
                    shared || new.addresses.contains(address),
                    "s{id} lost {address}: {:?}",
                    new.addresses
                );
            }
        }
        Ok(())
    }

    /// A Service that was deleted and created again has the addresses that it had, except those
    /// that another one has now.
    fn check_restored(&self, id: u8, had: &[IpAddr]) -> Result<(), TestCaseError> {
        for address in had {
            let has = |stored: &Stored| stored.addresses.contains(address);
            prop_assert!(
                self.services.values().any(has),
                "s{id} had {address}: {:?}",
                self.services.get(&id)
            );
        }
        Ok(())
    }

    fn snapshot(&self) -> Self {
        Self {
            services: self.services.clone(),
            pools: self.pools.clone(),
            ..Self::default()
        }
    }
}

/// A Service that any pool with `autoAssign` may serve.
fn plain(families: usize, policy: &'static str) -> Wish {
    Wish {
        load_balancer: true,
        families,
        policy,
        pool: None,
        addresses: None,
        shares: false,
    }
}

impl Wish {
    /// Whether a Service may get an address unless it has it: the request permits it, and without
    /// a request its pool is assigned automatically.
    fn permits(&self, address: IpAddr) -> bool {
        let has = |definition: &str| {
            let mut nets = definition.split(' ');
            nets.any(|net| {
                let net: ipnet::IpNet = net.parse().expect("a network");
                net.contains(&address)
            })
        };
        let mut pools = POOLS.iter();
        let pool = pools.find(|(_, definitions, _)| definitions.iter().any(|of| has(of)));
        let Some((name, _, auto_assign)) = pool else {
            return false;
        };
        let requested = self.addresses.map(|text| {
            let mut addresses = text.split(',');
            addresses.any(|text| text.parse() == Ok(address))
        });
        self.load_balancer
            && self.pool.is_none_or(|pool| pool == *name)
            && requested.unwrap_or(true)
            && (*auto_assign || self.pool.is_some() || self.addresses.is_some())
    }
}

/// What happened since a state of the cluster.
struct Changes {
    /// What users wrote into a Service. None: something else happened to it.
    services: BTreeMap<u8, Option<Vec<Wish>>>,
    /// The pools that were edited.
    pools: BTreeSet<usize>,
    /// Whether the leader changed.
    leader: bool,
}

impl Changes {
    fn of(before: &Cluster, events: &[Event]) -> Self {
        let mut changes = Self {
            services: BTreeMap::new(),
            pools: BTreeSet::new(),
            leader: false,
        };
        for event in events {
            match event {
                Event::Write(id, wish) => {
                    let writes = changes.services.entry(*id);
                    if let Some(wishes) = writes.or_insert_with(|| Some(Vec::new())) {
                        wishes.push(wish.clone());
                    }
                }
                Event::Delete(id) | Event::Recreate(id) | Event::Clear(id) => {
                    changes.services.insert(*id, None);
                }
                Event::Pool(pool, to) if before.pools.get(pool) != to.as_ref() => {
                    changes.pools.insert(*pool);
                }
                Event::Pool(..) | Event::Deliver => {}
                Event::Crash | Event::NewLeader | Event::Failover => changes.leader = true,
            }
        }
        changes
    }

    /// Whether what happened to a Service may cost it an address.
    fn may_cost(&self, id: u8, old: &Stored) -> bool {
        let Some(wishes) = self.services.get(&id) else {
            return false;
        };
        let Some(wishes) = wishes else {
            return true;
        };
        wishes.iter().any(|wish| {
            let Wish {
                load_balancer,
                families,
                policy,
                pool,
                addresses,
                shares,
            } = wish;
            let is_refused = pool.is_some_and(|_| {
                let mut had = old.addresses.iter();
                had.any(|address| !wish.permits(*address))
            });
            let others = addresses.is_some_and(|text| {
                let requested: BTreeSet<Option<IpAddr>> =
                    text.split(',').map(|text| text.parse().ok()).collect();
                requested != old.addresses.iter().copied().map(Some).collect()
            });
            !load_balancer
                || *families != old.wish.families
                || *policy != old.wish.policy
                || *shares != old.wish.shares
                || is_refused
                || others
        })
    }
}

proptest! {
    #[test]
    fn no_address_is_given_twice_or_outside_its_pool_or_taken_without_a_rule(
        groups in prop::collection::vec(prop::collection::vec(event(), 1..6), 1..8),
    ) {
        let mut cluster = Cluster::default();
        for pool in 0..POOLS.len() {
            cluster.apply(Event::Pool(pool, Some(0)))?;
        }
        for events in groups {
            let before = cluster.snapshot();
            let changes = Changes::of(&before, &events);
            for event in events {
                cluster.apply(event)?;
            }
            cluster.settle()?;
            cluster.check()?;
            cluster.check_kept(&before, &changes)?;
            // A restart writes nothing.
            cluster.lead();
            prop_assert!(cluster.in_flight.is_empty(), "{:?}", cluster.in_flight);
        }
    }

    #[test]
    fn a_service_that_is_created_again_has_its_addresses_again_under_any_leader(
        services in prop::collection::vec((1..3_usize, any::<bool>()), 1..7),
        steps in prop::collection::vec((0..7_u8, any::<[bool; 3]>()), 1..8),
    ) {
        let mut cluster = Cluster::default();
        for pool in 0..POOLS.len() {
            cluster.apply(Event::Pool(pool, Some(0)))?;
        }
        for (id, (families, prefers)) in (0..).zip(services) {
            let policy = if prefers { "PreferDualStack" } else { "SingleStack" };
            let families = if prefers { families } else { 1 };
            cluster.apply(Event::Write(id, plain(families, policy)))?;
        }
        cluster.settle()?;
        for (id, fail_over) in steps {
            let Some(stored) = cluster.services.get(&id).cloned() else {
                continue;
            };
            // Before it is deleted, while it is gone, and when it is created again.
            let [before, between, after] = fail_over;
            let leads = |cluster: &mut Cluster, is_due: bool| {
                if is_due {
                    cluster.fail_over();
                }
            };
            leads(&mut cluster, before);
            cluster.apply(Event::Delete(id))?;
            leads(&mut cluster, between);
            cluster.create(id, stored.wish);
            leads(&mut cluster, after);
            cluster.settle()?;
            cluster.check()?;
            cluster.check_restored(id, &stored.addresses)?;
        }
    }
}
