use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Candidate;
use crate::mac::Mac;
use crate::status::{AddressStatus, OwnerReason, PeerStatus, SegmentStatus, Traffic};

/// `node-a` on one segment with the peers `node-b` and so on.
fn nodes(count: u8) -> Status {
    let peer = |index: u8| PeerStatus {
        node: name(index),
        mac: Mac([2, 0, 0, 0, 0, index]),
        networks: vec!["192.0.2.2/24".parse().unwrap()],
        state: NodeState::Ready,
        alive: true,
        last_hello: Duration::from_secs(100),
        interval: Duration::from_millis(100),
        owned: 0,
        rejected: None,
    };
    Status {
        node: name(0),
        now: Duration::from_secs(100),
        state: NodeState::Ready,
        segments: vec![SegmentStatus {
            interface: "eth0".into(),
            mac: Mac([2, 0, 0, 0, 0, 0]),
            carrier: true,
            networks: vec!["192.0.2.1/24".parse().unwrap()],
            promiscuous: false,
            peers: (1..count).map(peer).collect(),
            warnings: Vec::new(),
        }],
        ..Status::default()
    }
}

fn name(index: u8) -> Arc<str> {
    format!("node-{}", char::from(b'a' + index)).into()
}

fn candidates_of(indices: impl IntoIterator<Item = u8>) -> Arc<[Candidate]> {
    let candidate = |index| Candidate {
        node: name(index),
        weight: 0,
    };
    indices.into_iter().map(candidate).collect()
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

/// Adds an address. Later ones changed their owner later.
fn add(status: &mut Status, owner: Option<u8>, candidates: Arc<[Candidate]>) -> IpAddr {
    let number = u8::try_from(status.addresses.len()).unwrap();
    let added = AddressStatus {
        candidates,
        owner: owner.map(name),
        since: Duration::from_secs(number.into()),
        epoch: 1,
        reason: OwnerReason::Placed,
        conflict: None,
        interfaces: Vec::new(),
        moves: Vec::new(),
        self_test: None,
        traffic: Traffic::default(),
    };
    status.addresses.insert(address(number), added);
    address(number)
}

fn after(plan: &Rebalance) -> Vec<usize> {
    plan.nodes.iter().map(|node| node.after).collect()
}

#[test]
fn the_address_that_changed_its_owner_last_moves_first() {
    let mut status = nodes(2);
    for _ in 0..3 {
        add(&mut status, Some(0), candidates_of(0..2));
    }
    let plan = rebalance(&status);
    let expected = PlannedMove {
        address: address(2),
        from: name(0),
        to: name(1),
    };
    assert_eq!(plan.moves, [expected]);
    let load = |index, before, after| NodeLoad {
        node: name(index),
        before,
        after,
    };
    assert_eq!(plan.nodes, [load(0, 3, 2), load(1, 0, 1)]);
}

#[test]
fn nodes_that_differ_by_one_are_even() {
    let mut status = nodes(2);
    add(&mut status, Some(0), candidates_of(0..2));
    assert_eq!(rebalance(&status).moves, []);
}

#[test]
fn an_address_moves_to_no_silent_settling_or_less_preferred_node() {
    let mut status = nodes(5);
    let preferred: Arc<[Candidate]> = [(0, 10), (1, 10), (2, 10), (3, 5), (4, 10)]
        .map(|(index, weight)| Candidate {
            node: name(index),
            weight,
        })
        .into();
    for _ in 0..4 {
        add(&mut status, Some(0), preferred.clone());
    }
    status.segments[0].peers[0].alive = false;
    status.segments[0].peers[1].state = NodeState::Settling;
    let plan = rebalance(&status);
    let to: Vec<&str> = plan.moves.iter().map(|planned| &*planned.to).collect();
    assert_eq!(to, ["node-e", "node-e"]);
}

#[test]
fn an_address_moves_to_no_node_where_it_is_not_on_link_if_it_is_on_link_elsewhere() {
    let mut status = nodes(3);
    for _ in 0..3 {
        add(&mut status, Some(0), candidates_of(0..3));
    }
    status.segments[0].peers[0].networks.clear();
    assert_eq!(after(&rebalance(&status)), [2, 0, 1]);
    status.segments[0].networks.clear();
    status.segments[0].peers[1].networks.clear();
    assert_eq!(after(&rebalance(&status)), [1, 1, 1]);
}

#[test]
fn an_address_with_a_conflict_stays() {
    let mut status = nodes(2);
    for _ in 0..2 {
        let added = add(&mut status, Some(0), candidates_of(0..2));
        status.addresses.get_mut(&added).unwrap().conflict = Some(Mac([2, 0, 0, 0, 0, 99]));
    }
    assert_eq!(rebalance(&status).moves, []);
}

/// node-a can give nothing to node-c, but to node-b, which can.
#[test]
fn a_chain_of_moves_evens_out_nodes_without_a_common_address() {
    let mut status = nodes(3);
    for _ in 0..2 {
        add(&mut status, Some(0), candidates_of([0, 1]));
    }
    add(&mut status, Some(1), candidates_of([1, 2]));
    let plan = rebalance(&status);
    assert_eq!(after(&plan), [1, 1, 1]);
    assert_eq!(plan.moves.len(), 2);
}

#[test]
fn a_move_is_refused_with_the_reason() {
    let mut status = nodes(4);
    let moved = add(&mut status, Some(0), candidates_of([0, 1, 2]));
    let orphan = add(&mut status, None, candidates_of([0, 1]));
    status.segments[0].peers[1].alive = false;
    let refusal = |address, node| check(&status, address, node).map_err(|error| error.to_string());
    assert_eq!(refusal(moved, "node-b"), Ok(name(0)));
    for (address, node, text) in [
        (
            address(9),
            "node-b",
            "no L2Advertisement selects a service with the address 192.0.2.9",
        ),
        (
            moved,
            "node-d",
            "node-d may not announce the address: its candidates are node-a, node-b, node-c",
        ),
        (
            moved,
            "node-c",
            "no hello of node-c arrives: it is down, or its layer 2 process does not run",
        ),
        (moved, "node-a", "node-a announces the address already"),
        (
            orphan,
            "node-b",
            "no node announces 192.0.2.1, so that none can hand it over",
        ),
    ] {
        assert_eq!(refusal(address, node), Err(text.to_owned()));
    }
    status.segments[0].peers[0].state = NodeState::Restarting;
    let error = check(&status, moved, "node-b").unwrap_err().to_string();
    assert_eq!(
        error,
        "node-b takes no address now, because it restarts: try again when it is back"
    );
}

#[test]
fn candidates_have_their_state_and_load() {
    let mut status = nodes(3);
    let shared = add(&mut status, Some(1), candidates_of(0..3));
    add(&mut status, Some(1), candidates_of(0..3));
    status.segments[0].peers[1].alive = false;
    status.segments[0].peers[1].networks.clear();
    let seen: Vec<_> = candidates(&status, shared)
        .into_iter()
        .map(|seen| (seen.node, seen.state, seen.on_link, seen.owned))
        .collect();
    let ready = Some(NodeState::Ready);
    assert_eq!(
        seen,
        [
            (name(0), ready, true, 0),
            (name(1), ready, true, 2),
            (name(2), None, false, 0)
        ]
    );
}

/// The sum of the squares of the loads: minimal when no chain of moves evens them out further.
fn unevenness(loads: &[usize]) -> usize {
    loads.iter().map(|load| load * load).sum()
}

/// The minimum over all assignments, and the fewest moves that reach it.
fn best(
    owners: &[u8],
    candidates: &[Vec<u8>],
    loads: &mut [usize],
    moved: usize,
) -> (usize, usize) {
    let (Some((owner, owners)), Some((first, rest))) =
        (owners.split_first(), candidates.split_first())
    else {
        return (unevenness(loads), moved);
    };
    let options = first.iter().map(|node| {
        loads[usize::from(*node)] += 1;
        let found = best(owners, rest, loads, moved + usize::from(node != owner));
        loads[usize::from(*node)] -= 1;
        found
    });
    options.min().unwrap()
}

/// Addresses with candidates among four nodes, and an owner among them.
fn assignments() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let assignment = proptest::sample::subsequence(vec![0u8, 1, 2, 3], 1..=4)
        .prop_flat_map(|nodes| (proptest::sample::select(nodes.clone()), Just(nodes)));
    proptest::collection::vec(assignment, 0..7)
}

proptest! {
    #[test]
    fn a_plan_is_as_even_as_the_candidates_permit(assigned in assignments()) {
        let mut status = nodes(4);
        for (owner, candidates) in &assigned {
            add(&mut status, Some(*owner), candidates_of(candidates.iter().copied()));
        }
        let plan = rebalance(&status);
        for planned in &plan.moves {
            prop_assert_eq!(check(&status, planned.address, &planned.to), Ok(planned.from.clone()));
        }
        let (owners, candidates): (Vec<_>, Vec<_>) = assigned.into_iter().unzip();
        let (evenness, _) = best(&owners, &candidates, &mut [0; 4], 0);
        prop_assert_eq!(unevenness(&after(&plan)), evenness);
    }

    #[test]
    fn addresses_with_the_same_candidates_need_the_fewest_moves(
        owners in proptest::collection::vec(0u8..4, 0..7),
    ) {
        let mut status = nodes(4);
        for owner in &owners {
            add(&mut status, Some(*owner), candidates_of(0..4));
        }
        let plan = rebalance(&status);
        let candidates = vec![vec![0, 1, 2, 3]; owners.len()];
        let (_, moves) = best(&owners, &candidates, &mut [0; 4], 0);
        prop_assert_eq!(plan.moves.len(), moves);
        let loads = after(&plan);
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
    }
}
