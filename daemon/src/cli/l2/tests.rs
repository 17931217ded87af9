use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_layer2::config::Candidate;
use ferrolb_layer2::mac::Mac;
use ferrolb_layer2::moves::{self, NodeLoad, PlannedMove, Rebalance};
use ferrolb_layer2::status::{
    AddressStatus, Move, NodeState, OwnerReason, PeerStatus, SegmentStatus, SelfTest, Status,
    Traffic,
};

use super::*;

const NOW: Duration = Duration::from_secs(100_000);

fn ago(seconds: u64) -> Duration {
    NOW - Duration::from_secs(seconds)
}

fn mac(last: u8) -> Mac {
    Mac([0x02, 0, 0x5e, 0, 0x53, last])
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn owned(owner: Option<&str>, since: u64, reason: OwnerReason) -> AddressStatus {
    let candidates = ["node-a", "node-b", "node-c"].map(|node| Candidate {
        node: node.into(),
        weight: 0,
    });
    AddressStatus {
        candidates: candidates.into(),
        owner: owner.map(Arc::from),
        since: ago(since),
        epoch: 3,
        reason,
        conflict: None,
        interfaces: Vec::new(),
        moves: Vec::new(),
        self_test: None,
        traffic: Traffic::default(),
    }
}

fn moved(seconds: u64, from: Option<&str>, to: Option<&str>, reason: OwnerReason) -> Move {
    Move {
        at: ago(seconds),
        from: from.map(Arc::from),
        to: to.map(Arc::from),
        reason,
    }
}

fn peer(node: &str, last: u8, silence: Duration) -> PeerStatus {
    PeerStatus {
        node: node.into(),
        mac: mac(last),
        networks: vec!["192.0.2.2/24".parse().unwrap()],
        state: NodeState::Ready,
        alive: silence < Duration::from_secs(1),
        last_hello: NOW.checked_sub(silence).unwrap(),
        interval: Duration::from_millis(100),
        owned: 1,
        rejected: None,
    }
}

fn addresses() -> BTreeMap<IpAddr, AddressStatus> {
    let placed = AddressStatus {
        interfaces: vec!["eth0".into()],
        moves: vec![moved(90_000, None, Some("node-a"), OwnerReason::Placed)],
        self_test: Some(SelfTest {
            by: "node-b".into(),
            at: ago(720),
            answers: vec![mac(1)],
            passed: true,
        }),
        traffic: Traffic {
            requests: 120,
            responses: 118,
            gratuitous: 1506,
        },
        ..owned(Some("node-a"), 90_000, OwnerReason::Placed)
    };
    let taken = AddressStatus {
        moves: vec![
            moved(
                180,
                Some("node-c"),
                Some("node-b"),
                OwnerReason::OwnerSilent,
            ),
            moved(4000, None, Some("node-c"), OwnerReason::Placed),
        ],
        self_test: Some(SelfTest {
            by: "node-a".into(),
            at: ago(170),
            answers: vec![mac(2), mac(0x99)],
            passed: false,
        }),
        ..owned(Some("node-b"), 180, OwnerReason::OwnerSilent)
    };
    let conflict = AddressStatus {
        conflict: Some(mac(0x99)),
        ..owned(None, 30, OwnerReason::AddressConflict)
    };
    let orphan = owned(None, 12, OwnerReason::NoCandidate);
    [
        (address("203.0.113.10"), placed),
        (address("203.0.113.11"), taken),
        (address("203.0.113.12"), conflict),
        (address("2001:db8::10"), orphan),
    ]
    .into()
}

/// What `node-a` reports: it owns an address, took none over from `node-c`, which is down.
pub(super) fn example() -> Layer2Status {
    let rejected = PeerStatus {
        rejected: Some("it has another key: compare the Secret memberlist on both".into()),
        ..peer("node-d", 4, Duration::from_secs(9))
    };
    let unknown = PeerStatus {
        rejected: Some("its clock differs by more than 5 minutes: synchronize it".into()),
        last_hello: Duration::ZERO,
        ..peer("node-e", 0, Duration::from_secs(9))
    };
    let eth0 = SegmentStatus {
        interface: "eth0".into(),
        mac: mac(1),
        carrier: true,
        networks: vec![
            "192.0.2.1/24".parse().unwrap(),
            "2001:db8::1/64".parse().unwrap(),
        ],
        promiscuous: false,
        peers: vec![
            peer("node-b", 2, Duration::from_millis(62)),
            peer("node-c", 3, Duration::from_secs(181)),
            rejected,
            unknown,
        ],
        warnings: Vec::new(),
    };
    let wlan0 = SegmentStatus {
        interface: "wlan0".into(),
        mac: mac(0x11),
        carrier: false,
        networks: Vec::new(),
        promiscuous: true,
        peers: Vec::new(),
        warnings: vec!["rp_filter is 1 (strict): set it to 2".into()],
    };
    let status = Status {
        node: "node-a".into(),
        now: NOW,
        state: NodeState::Ready,
        addresses: addresses(),
        segments: vec![eth0, wlan0],
        ..Status::default()
    };
    let services = [
        (address("203.0.113.10"), vec!["default/web".to_owned()]),
        (
            address("203.0.113.11"),
            vec!["default/dns".to_owned(), "default/dns-tcp".to_owned()],
        ),
    ];
    Layer2Status {
        status,
        services: services.into(),
        candidates: Vec::new(),
    }
}

/// What the daemon answers for one address.
fn example_of(address: IpAddr) -> Layer2Status {
    let mut found = example();
    found.candidates = moves::candidates(&found.status, address);
    found.status.addresses.retain(|known, _| *known == address);
    found
}

fn plain() -> Style {
    Style::plain()
}

#[test]
fn the_overview() {
    insta::assert_snapshot!(table::text(&example(), plain()));
}

#[test]
fn a_node_without_addresses_and_neighbors() {
    let found = Layer2Status {
        status: Status {
            node: "node-a".into(),
            ..Status::default()
        },
        services: BTreeMap::new(),
        candidates: Vec::new(),
    };
    insta::assert_snapshot!(table::text(&found, plain()));
}

#[test]
fn the_details_of_an_address() {
    let announced = address("203.0.113.10");
    insta::assert_snapshot!(detail::text(&example_of(announced), announced, plain()));
}

#[test]
fn the_details_of_an_address_with_a_conflict() {
    let withheld = address("203.0.113.12");
    insta::assert_snapshot!(detail::text(&example_of(withheld), withheld, plain()));
}

#[test]
fn a_remedy_of_many_addresses_is_printed_once() {
    let mut found = example();
    let orphan = owned(None, 12, OwnerReason::NoKey);
    found.status.addresses = (0..50)
        .map(|number| (IpAddr::from([203, 0, 113, number]), orphan.clone()))
        .collect();
    let text = table::text(&found, plain());
    let mut lines = text
        .lines()
        .filter(|line| line.contains("create the Secret"));
    let line = lines.next().unwrap_or_default();
    assert!(
        line.starts_with("203.0.113.0, 203.0.113.1, 203.0.113.2 and 47 more: there is no key"),
        "{text}"
    );
    assert_eq!(lines.next(), None);
}

fn plan() -> Rebalance {
    let load = |node: &str, before, after| NodeLoad {
        node: node.into(),
        before,
        after,
    };
    Rebalance {
        moves: vec![PlannedMove {
            address: address("203.0.113.11"),
            from: "node-b".into(),
            to: "node-a".into(),
        }],
        nodes: vec![load("node-a", 0, 1), load("node-b", 2, 1)],
    }
}

#[test]
fn a_dry_run_of_a_rebalance() {
    insta::assert_snapshot!(actions::plan_text(&plan(), true, plain()));
}

#[test]
fn a_rebalance_without_moves() {
    let mut even = plan();
    even.moves.clear();
    even.nodes[1].before = 1;
    insta::assert_snapshot!(actions::plan_text(&even, false, plain()));
}

#[test]
fn a_failed_self_test_names_the_nodes_that_answered() {
    let tested = address("203.0.113.11");
    let found = example_of(tested);
    let test = found.status.addresses[&tested].self_test.clone().unwrap();
    insta::assert_snapshot!(actions::test_text(&found, tested, &test, plain()));
    let silent = SelfTest {
        answers: Vec::new(),
        ..test
    };
    insta::assert_snapshot!(actions::test_text(&found, tested, &silent, plain()));
}

/// Times are seconds, and addresses are keys, for `jq`.
#[test]
fn json_is_read_back() {
    let mut found = example_of(address("203.0.113.10"));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["now"], 100_000.0);
    let detail = &json["addresses"]["203.0.113.10"];
    assert_eq!(detail["owner"], "node-a");
    assert_eq!(detail["since"], 10_000.0);
    assert_eq!(detail["selfTest"]["answers"][0], "02:00:5e:00:53:01");
    assert_eq!(json["services"]["203.0.113.10"][0], "default/web");
    assert_eq!(json["candidates"][2]["state"], serde_json::Value::Null);
    let read: Layer2Status = serde_json::from_value(json).unwrap();
    // The candidates of the engine's status are not part of the answer.
    for detail in found.status.addresses.values_mut() {
        detail.candidates = Arc::default();
    }
    assert_eq!(read, found);
}
