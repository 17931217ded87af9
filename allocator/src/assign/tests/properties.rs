//! Property tests: the allocator against a naive model that compares each service with all others.

use proptest::prelude::*;

use super::*;
use crate::pool_set::pool_names;

fn pools() -> Vec<Pool> {
    let pool = |name: &str, entries: &[&str], options| {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        Pool::parse(name, &entries, options).unwrap()
    };
    let reserving = |pool: Pool, service: &str, address: &str| {
        let service = ServiceKey::new("ns", service);
        pool.reserving(service, &[address.to_owned()]).unwrap()
    };
    let options = PoolOptions::default;
    let mut pools = vec![
        pool(
            "a",
            &["10.0.0.254-10.0.1.2"],
            PoolOptions {
                avoid_buggy_ips: true,
                ..options()
            },
        ),
        pool("b", &["fc00::/127", "10.1.0.0/31"], options()),
        pool(
            "c",
            &["10.2.0.0/31"],
            PoolOptions {
                pinned: Some(1),
                ..options()
            },
        ),
        pool(
            "d",
            &["10.3.0.0/30", "fc03::/126"],
            PoolOptions {
                auto_assign: false,
                ..options()
            },
        ),
        pool(
            "e",
            &["10.4.0.0/31"],
            PoolOptions {
                frozen: true,
                ..options()
            },
        ),
    ];
    // Of a general pool, a pinned one, one without autoAssign, and a frozen one.
    pools[1] = reserving(pools[1].clone(), "s01", "10.1.0.1");
    pools[1] = reserving(pools[1].clone(), "s02", "fc00::/127");
    pools[2] = reserving(pools[2].clone(), "s03", "10.2.0.0/31");
    pools[2] = reserving(pools[2].clone(), "s04", "10.2.0.0");
    pools[3] = reserving(pools[3].clone(), "s05", "10.3.0.0-10.3.0.1");
    pools[4] = reserving(pools[4].clone(), "s06", "10.4.0.0");
    pools
}

/// Addresses of all pools, and one that is in no pool.
fn address() -> impl Strategy<Value = IpAddr> {
    let all = [
        "10.0.0.254",
        "10.0.0.255",
        "10.0.1.1",
        "10.1.0.0",
        "10.1.0.1",
        "10.2.0.0",
        "10.3.0.1",
        "10.4.0.1",
        "10.9.0.1",
        "fc00::",
        "fc03::1",
    ];
    prop::sample::select(all.map(|text| text.parse::<IpAddr>().unwrap()).to_vec())
}

fn request() -> impl Strategy<Value = AllocationRequest> {
    let identity = (0..12_u8, 0..3_i64);
    let state = (
        prop::collection::vec(address(), 0..3),
        prop::option::of("[a-f]"),
    );
    let families = prop::sample::select(vec![
        vec![Family::V4],
        vec![Family::V6],
        vec![Family::V4, Family::V6],
        vec![],
    ]);
    let policy = prop::sample::select(vec![
        FamilyPolicy::SingleStack,
        FamilyPolicy::PreferDualStack,
        FamilyPolicy::RequireDualStack,
    ]);
    let wishes = (
        prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(address(), 1..3)],
        prop_oneof![4 => Just(None), 1 => "[a-f]".prop_map(Some)],
        prop::bool::ANY,
    );
    let ports = prop::collection::vec(80..83_u16, 1..3);
    let sharing = ("[kj]?", "(local|other)?", ports, prop::bool::ANY);
    (identity, state, families, policy, wishes, sharing).prop_map(
        |((id, created), (current, current_pool), families, policy, wishes, sharing)| {
            AllocationRequest {
                created,
                uid: format!("uid-{}", id ^ 5),
                current,
                current_pool,
                cluster_families: families,
                family_policy: policy,
                requested: Ok(wishes.0),
                requested_pool: wishes.1,
                accepted_by: if wishes.2 {
                    BTreeSet::from(["c".to_owned()])
                } else {
                    BTreeSet::new()
                },
                sharing_key: sharing.0,
                backend_key: sharing.1,
                any_backend: sharing.3,
                ports: sharing
                    .2
                    .iter()
                    .map(|n| Port {
                        protocol: Protocol::Tcp,
                        number: *n,
                    })
                    .collect(),
                ..AllocationRequest::new(ServiceKey::new("ns", format!("s{id:02}")))
            }
        },
    )
}

fn requests() -> impl Strategy<Value = Vec<AllocationRequest>> {
    prop::collection::vec(request(), 0..16).prop_map(|requests| {
        let by_key: BTreeMap<_, _> = requests
            .into_iter()
            .map(|r| (r.service.clone(), r))
            .collect();
        by_key.into_values().collect()
    })
}

/// An independent implementation of the rule of sharing.
fn may_share(a: &AllocationRequest, b: &AllocationRequest) -> bool {
    !a.sharing_key.is_empty()
        && a.sharing_key == b.sharing_key
        && (a.backend_key == b.backend_key || (a.any_backend && b.any_backend))
        && a.ports.iter().all(|port| !b.ports.contains(port))
}

fn assert_sound(
    pools: &PoolSet,
    state: &[(&AllocationRequest, Outcome)],
) -> Result<(), TestCaseError> {
    for (i, (request, outcome)) in state.iter().enumerate() {
        for (other, others) in &state[..i] {
            for address in outcome.addresses() {
                prop_assert!(
                    !others.addresses().contains(address) || may_share(request, other),
                    "{address} for {} and {}",
                    request.service,
                    other.service
                );
            }
        }
        let families: Vec<_> = outcome.addresses().iter().map(|a| Family::of(*a)).collect();
        prop_assert!(
            families
                .iter()
                .all(|f| request.cluster_families.contains(f))
        );
        prop_assert!(families.len() < 2 || families[0] != families[1]);
        if let Outcome::Assigned {
            addresses, pool, ..
        } = outcome
        {
            prop_assert!(!addresses.is_empty());
            let names: Vec<&str> = pool_names(pool).collect();
            prop_assert!(names.len() == 1 || (names.len() == 2 && names[0] != names[1]));
            for (place, address) in addresses.iter().enumerate() {
                let name = if names.len() == 1 {
                    names[0]
                } else {
                    names[place]
                };
                let pool = pools.get(name).unwrap();
                let old = request.current.contains(address);
                let reserved = pool.reserved_for_another(*address, &request.service);
                prop_assert!(
                    reserved.is_none() || old,
                    "{address} for {}",
                    request.service
                );
                prop_assert!(pool.contains(*address) && !pool.avoids(*address));
                prop_assert!(
                    !pool.options().frozen || old,
                    "new address from a frozen pool"
                );
                prop_assert!(pool.options().frozen || request.may_have(*address, pool));
                let wanted = request.requested_pool();
                prop_assert!(wanted.is_none_or(|wanted| wanted == name));
            }
        }
    }
    Ok(())
}

fn with_addresses(request: &AllocationRequest, outcome: &Outcome) -> AllocationRequest {
    AllocationRequest {
        current: outcome.addresses().to_vec(),
        current_pool: outcome
            .pool()
            .map(str::to_owned)
            .or_else(|| request.current_pool.clone()),
        ..request.clone()
    }
}

/// An independent [`Allocator::allocate_all`] without any index: decides for every service in the
/// order of the ranks, then repeatedly for those that wait or must release an address, until
/// nothing changes.
fn naive_allocate_all(allocator: &mut Allocator, requests: &[AllocationRequest]) {
    let known: Vec<_> = allocator.services.keys().cloned().collect();
    for key in known {
        if requests.iter().all(|request| request.service != key) {
            allocator.withdraw(&key);
        }
    }
    let mut order: Vec<&AllocationRequest> = requests.iter().collect();
    order.sort_by_key(|r| {
        (
            r.current.is_empty(),
            !r.requests_addresses(),
            r.created,
            &r.uid,
        )
    });
    for request in &order {
        if allocator.addresses(&request.service) != request.current {
            allocator.adopt_one(request);
        }
    }
    for request in &order {
        allocator.step(request);
    }
    let mut again = true;
    while again {
        again = false;
        for request in &order {
            let claimant = Claimant::of(&Arc::new((*request).clone()));
            let current = allocator.addresses(&request.service).to_vec();
            let must_release = current
                .iter()
                .any(|a| allocator.ledger.conflict(*a, &claimant).is_some());
            if must_release || allocator.waiting.contains(&request.service) {
                allocator.step(request);
                again |= allocator.addresses(&request.service) != current;
            }
        }
    }
}

/// A change between two rounds.
#[derive(Debug, Clone)]
enum Event {
    /// A service is new or changes its request. Its status has the addresses that were decided.
    Request(AllocationRequest),
    /// A service is new or changes, and its status has other addresses.
    Status(AllocationRequest),
    Gone(u8),
    /// The pools change. Bit n of `present` says whether pool n is in the set.
    Pools {
        present: u8,
        complete: bool,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => request().prop_map(Event::Request),
        2 => request().prop_map(Event::Status),
        2 => (0..12_u8).prop_map(Event::Gone),
        1 => (0..32_u8, prop::bool::ANY)
            .prop_map(|(present, complete)| Event::Pools { present, complete }),
    ]
}

fn some_pools(present: u8, complete: bool) -> PoolSet {
    let pools = pools().into_iter().enumerate();
    let there = pools.filter(|(i, _)| present & (1 << i) != 0);
    PoolSet::new(there.map(|(_, pool)| pool), complete).unwrap()
}

proptest! {
    #[test]
    fn update_gives_the_same_addresses_as_allocate_all(
        rounds in prop::collection::vec(prop::collection::vec(event(), 0..5), 0..16),
    ) {
        let set = PoolSet::new(pools(), true).unwrap();
        let mut updated = Allocator::new(set.clone());
        let mut whole = Allocator::new(set.clone());
        let mut naive = Allocator::new(set);
        let mut requests: BTreeMap<ServiceKey, AllocationRequest> = BTreeMap::new();
        for events in rounds {
            let mut changed = BTreeSet::new();
            let mut new_pools = None;
            for event in events {
                match event {
                    Event::Request(request) => {
                        let current = updated.addresses(&request.service).to_vec();
                        changed.insert(request.service.clone());
                        let request = AllocationRequest { current, ..request };
                        requests.insert(request.service.clone(), request);
                    }
                    Event::Status(request) => {
                        changed.insert(request.service.clone());
                        requests.insert(request.service.clone(), request);
                    }
                    Event::Gone(id) => {
                        let key = ServiceKey::new("ns", format!("s{id:02}"));
                        requests.remove(&key);
                        changed.insert(key);
                    }
                    Event::Pools { present, complete } => {
                        new_pools = Some(some_pools(present, complete));
                    }
                }
            }
            let all: Vec<AllocationRequest> = requests.values().cloned().collect();
            if let Some(pools) = &new_pools {
                for allocator in [&mut updated, &mut whole, &mut naive] {
                    allocator.set_pools(pools.clone());
                }
            }
            let outcomes = if new_pools.is_some() {
                updated.allocate_requests(&all)
            } else {
                let (there, gone): (Vec<_>, Vec<_>) =
                    changed.into_iter().partition(|key| requests.contains_key(key));
                let there = there.iter().map(|key| Arc::new(requests[key].clone())).collect();
                updated.update(there, &gone)
            };
            for (key, outcome) in outcomes {
                prop_assert_eq!(outcome.addresses(), updated.addresses(&key));
            }
            whole.allocate_requests(&all);
            naive_allocate_all(&mut naive, &all);
            updated.ledger.assert_consistent();
            prop_assert_eq!(&updated.waiting, &whole.waiting);
            for request in requests.values_mut() {
                let current = updated.addresses(&request.service);
                prop_assert_eq!(current, whole.addresses(&request.service), "{}", request.service);
                prop_assert_eq!(current, naive.addresses(&request.service), "{}", request.service);
                let lost = |allocator: &Allocator| {
                    allocator.services[&request.service].lost.as_ref().map(|lost| lost.code())
                };
                prop_assert_eq!(lost(&updated), lost(&whole), "{}", request.service);
                request.current = current.to_vec();
            }
            let restored: Vec<AllocationRequest> = requests.values().cloned().collect();
            prop_assert!(conflicts(&shared(&restored)).is_empty());
        }
    }

    #[test]
    fn allocate_all_is_sound_and_stable_and_ignores_the_order_of_its_inputs(
        requests in requests(),
        complete in prop::bool::ANY,
        seed in 0..u64::MAX,
    ) {
        let set = PoolSet::new(pools(), complete).unwrap();
        let outcomes = allocate_all(set.clone(), &requests);
        let by_key: BTreeMap<_, _> = outcomes.iter().cloned().collect();
        prop_assert_eq!(by_key.len(), requests.len());
        let state: Vec<_> = requests.iter().map(|r| (r, by_key[&r.service].clone())).collect();
        assert_sound(&set, &state)?;

        // A new allocator that starts from the result changes nothing, and finds no conflict.
        let restored: Vec<_> = state.iter().map(|(r, o)| with_addresses(r, o)).collect();
        prop_assert!(conflicts(&shared(&restored)).is_empty());
        for (key, outcome) in allocate_all(set.clone(), &restored) {
            prop_assert_eq!(outcome.addresses(), by_key[&key].addresses(), "{}", key);
            let new = matches!(outcome, Outcome::Assigned { new: true, .. });
            prop_assert!(!new, "{}: {:?}", key, outcome);
        }

        // So does the allocator that made the result.
        let mut kept = Allocator::new(set);
        kept.allocate_requests(&requests);
        let addresses = |outcomes: Vec<(ServiceKey, Outcome)>| -> BTreeMap<_, _> {
            outcomes.into_iter().map(|(k, o)| (k, o.addresses().to_vec())).collect()
        };
        prop_assert_eq!(addresses(kept.allocate_requests(&restored)), addresses(outcomes.clone()));

        // The order of pools and services does not matter.
        let (mut turned, mut shuffled) = (pools(), requests.clone());
        turned.rotate_left(usize::try_from(seed % 5).unwrap());
        if seed % 2 == 0 { turned.reverse(); }
        shuffled.sort_by_key(|r| seed.wrapping_mul(r.service.name.bytes().map(u64::from).sum()));
        prop_assert_eq!(allocate_all(PoolSet::new(turned, complete).unwrap(), &shuffled), outcomes);
    }

    #[test]
    fn a_service_that_may_keep_its_address_keeps_it(requests in requests()) {
        let set = PoolSet::new(pools(), true).unwrap();
        let lost = conflicts(&shared(&requests));
        let outcomes = allocate_all(set.clone(), &requests);
        for (key, outcome) in &outcomes {
            let request = requests.iter().find(|r| r.service == *key).unwrap();
            let [address] = request.current.as_slice() else { continue };
            // The winner of a conflict may have released the address afterwards. Then the loser may
            // have it, and services that shared it with the winner may have lost it.
            let inherited = |(loser, outcome): &(ServiceKey, Outcome)| {
                lost.contains_key(loser) && outcome.addresses().contains(address)
            };
            if outcomes.iter().any(inherited) {
                continue;
            }
            let Some(pool) = set.containing(*address) else { continue };
            let may_keep = request.cluster_families == [Family::of(*address)]
                && request.family_policy != FamilyPolicy::RequireDualStack
                && request.requested.as_ref().is_ok_and(Vec::is_empty)
                && request.requested_pool.is_none()
                && (pool.options().frozen
                    || (request.is_accepted_by(pool) && !pool.avoids(*address)))
                && !lost.contains_key(key);
            if may_keep {
                prop_assert_eq!(outcome.addresses(), request.current.as_slice(), "{}", key);
                let plain = matches!(outcome, Outcome::Assigned { new: false, note: None, .. });
                prop_assert!(plain, "{}: {:?}", key, outcome);
            }
        }
    }

    #[test]
    fn the_allocator_is_sound_after_every_decision(
        steps in prop::collection::vec((request(), 0..4_u8), 0..40),
    ) {
        let set = PoolSet::new(pools(), true).unwrap();
        let mut allocator = Allocator::new(set.clone());
        let mut model: BTreeMap<ServiceKey, (AllocationRequest, Outcome)> = BTreeMap::new();
        for (request, dice) in steps {
            let key = request.service.clone();
            let current = allocator.addresses(&key).to_vec();
            if dice == 0 {
                prop_assert_eq!(allocator.release(&key), current);
                model.remove(&key);
            } else {
                let request = AllocationRequest { current, ..request };
                let outcome = allocator.step(&request);
                prop_assert_eq!(allocator.addresses(&key), outcome.addresses());
                let again = allocator.step(&request);
                prop_assert_eq!(again.addresses(), outcome.addresses());
                model.insert(key, (request, outcome));
            }
            let state: Vec<_> = model.values().map(|(r, o)| (r, o.clone())).collect();
            assert_sound(&set, &state)?;
            allocator.ledger.assert_consistent();
        }
    }

    #[test]
    fn a_search_finds_the_first_free_or_shareable_address(
        steps in prop::collection::vec((request(), 0..3_u8), 0..60),
    ) {
        let entries = ["10.0.0.254-10.0.1.1".to_owned(), "10.0.0.0/30".to_owned()];
        let options = PoolOptions { avoid_buggy_ips: true, ..PoolOptions::default() };
        let pool = Pool::parse("p", &entries, options).unwrap();
        let in_order: Vec<IpAddr> =
            ["10.0.0.254", "10.0.1.1", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
                .map(|text| text.parse().unwrap())
                .into();
        let mut allocator = Allocator::new(PoolSet::new([pool], true).unwrap());
        let mut model: BTreeMap<ServiceKey, (AllocationRequest, IpAddr)> = BTreeMap::new();
        for (request, dice) in steps {
            let service = request.service.clone();
            allocator.release(&service);
            model.remove(&service);
            if dice == 0 {
                continue;
            }
            let request = AllocationRequest {
                sharing_key: request.sharing_key,
                backend_key: request.backend_key,
                any_backend: request.any_backend,
                ports: request.ports,
                ..AllocationRequest::new(service.clone())
            };
            let expected = in_order.iter().copied().find(|address| {
                model.values().all(|(other, a)| a != address || may_share(&request, other))
            });
            let outcome = allocator.step(&request);
            prop_assert_eq!(outcome.addresses().first().copied(), expected);
            if let Some(address) = expected {
                model.insert(service, (request, address));
            }
        }
    }

    #[test]
    fn conflicts_match_the_naive_rule(requests in requests()) {
        let mut order: Vec<_> = requests.iter().collect();
        order.sort_by_key(|r| (r.created, &r.uid, &r.service));
        let mut rightful: Vec<(&AllocationRequest, IpAddr)> = Vec::new();
        let mut expected = BTreeSet::new();
        for request in order {
            for address in BTreeSet::from_iter(&request.current) {
                let on_it = |(other, a): &&(&AllocationRequest, IpAddr)| {
                    a == address && !may_share(request, other)
                };
                if rightful.iter().find(on_it).is_some() {
                    expected.insert((request.service.clone(), *address));
                } else {
                    rightful.push((request, *address));
                }
            }
        }
        let flat = |requests: &[AllocationRequest]| -> BTreeSet<_> {
            let found = conflicts(&shared(requests));
            let found = found.into_iter();
            found.flat_map(|(k, m)| m.into_keys().map(move |a| (k.clone(), a))).collect()
        };
        prop_assert_eq!(&flat(&requests), &expected);

        // So does the allocator's ledger, after services were added in another order and some were
        // removed.
        let mut allocator = Allocator::new(PoolSet::new(pools(), true).unwrap());
        requests.iter().rev().for_each(|request| allocator.adopt_one(request));
        let (gone, left) = requests.split_at(requests.len() / 2);
        for request in gone {
            allocator.release(&request.service);
        }
        allocator.ledger.assert_consistent();
        let conflicting: BTreeSet<_> = left
            .iter()
            .flat_map(|r| r.current.iter().map(move |a| (r, *a)))
            .filter(|(r, a)| {
                let claimant = Claimant::of(&Arc::new((*r).clone()));
                allocator.ledger.conflict(*a, &claimant).is_some()
            })
            .map(|(r, a)| (r.service.clone(), a))
            .collect();
        prop_assert_eq!(&flat(left), &conflicting);
    }
}
