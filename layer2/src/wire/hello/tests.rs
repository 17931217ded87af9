use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

const CLUSTER: u64 = 7;

fn key() -> Key {
    Key::new(b"0123456789abcdef0123456789abcdef")
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let claim = (address(), any::<u64>());
    let claim = claim.prop_map(|(address, epoch)| Claim { address, epoch });
    prop::collection::vec(claim, 1..40)
}

fn node() -> impl Strategy<Value = Arc<str>> {
    "[a-z][a-z0-9.-]{0,40}".prop_map(Arc::from)
}

fn section() -> impl Strategy<Value = Section> {
    let addresses = || prop::collection::vec(address(), 1..20);
    let macs = prop::collection::vec(any::<[u8; 6]>().prop_map(Mac), 0..4);
    let answers = prop::collection::vec((address(), macs), 1..10);
    prop_oneof![
        claims().prop_map(Section::Claims),
        claims().prop_map(Section::Intents),
        claims().prop_map(Section::Released),
        (node(), claims()).prop_map(|(node, claims)| Section::Successors { node, claims }),
        (node(), claims()).prop_map(|(node, claims)| Section::Remembered { node, claims }),
        node().prop_map(|node| Section::RequestClaims { node }),
        (node(), addresses()).prop_map(|(node, addresses)| Section::Move { node, addresses }),
        (node(), addresses())
            .prop_map(|(node, addresses)| Section::TestRequest { node, addresses }),
        (node(), answers).prop_map(|(node, answers)| Section::TestResult { node, answers }),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    let states = prop::sample::select(vec![
        NodeState::Settling,
        NodeState::Ready,
        NodeState::Restarting,
        NodeState::Leaving,
    ]);
    let numbers = (
        any::<u64>(),
        0..u64::MAX / 2,
        any::<u64>(),
        any::<u32>(),
        any::<u64>(),
    );
    let network = (any::<[u8; 4]>(), 0..=32u8)
        .prop_map(|(address, length)| IpNet::new(IpAddr::from(address), length).unwrap());
    let networks = prop::collection::vec(network, 0..=MAX_NETWORKS);
    let sections = prop::collection::vec(section(), 0..6);
    let parts = (node(), numbers, states, any::<u16>(), networks, sections);
    parts.prop_map(|(node, numbers, state, interval, networks, sections)| {
        let (instance, sequence, sent, owned, digest) = numbers;
        Hello {
            cluster: CLUSTER,
            node,
            instance,
            sequence,
            sent,
            state,
            interval: Duration::from_millis(interval.into()),
            multiplier: 3,
            owned,
            digest,
            mac: Mac([2, 0, 0x5e, 0, 0x53, 1]),
            networks,
            sections,
        }
    })
}

fn example() -> Hello {
    Hello {
        cluster: CLUSTER,
        node: "node1".into(),
        instance: 1,
        sequence: 2,
        sent: 3,
        state: NodeState::Ready,
        interval: Duration::from_millis(100),
        multiplier: 3,
        owned: 1,
        digest: 4,
        mac: Mac([2, 0, 0x5e, 0, 0x53, 1]),
        networks: vec!["192.0.2.11/24".parse().unwrap()],
        sections: vec![Section::Claims(vec![Claim {
            address: IpAddr::from([192, 0, 2, 10]),
            epoch: 5,
        }])],
    }
}

/// Every entry with its kind and node, in order.
fn entries(hellos: &[Hello]) -> Vec<Section> {
    let sections = hellos.iter().flat_map(|hello| hello.sections.clone());
    let whole = Hello {
        sections: sections.collect(),
        ..example()
    };
    // One entry per hello: each is too large for the first octet of room.
    let split = whole.split(0);
    split.into_iter().flat_map(|hello| hello.sections).collect()
}

proptest! {
    #[test]
    fn decoding_reverses_encoding(hello in hello()) {
        let octets = hello.encode(&key());
        prop_assert_eq!(Hello::decode(&octets, CLUSTER, &[key()]), Ok(hello));
    }

    #[test]
    fn a_split_hello_has_the_same_entries_and_each_part_fits(
        hello in hello(),
        max in 700..1452usize,
    ) {
        let parts = hello.clone().split(max);
        for (part, offset) in parts.iter().zip(0..) {
            prop_assert!(part.encode(&key()).len() <= max);
            prop_assert_eq!(part.sequence, hello.sequence + offset);
            prop_assert_eq!(part.owned, hello.owned);
        }
        prop_assert_eq!(entries(&parts), entries(&[hello]));
    }

    #[test]
    fn arbitrary_octets_do_not_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Hello::decode(&octets, CLUSTER, &[key()]).is_err());
    }
}

#[test]
fn networks_are_left_out_where_packets_must_be_short() {
    // An MTU of 576 without the headers of IPv6 and UDP.
    let max = 576 - 48;
    let claims = vec![Claim {
        address: IpAddr::from([0xfd; 16]),
        epoch: 5,
    }];
    let node: Arc<str> = "n".repeat(40).into();
    let networks = |count| (0..count).map(|_| "2001:db8::1/64".parse().unwrap());
    let whole = Hello {
        node: node.clone(),
        networks: networks(16).collect(),
        sections: vec![Section::Successors { node, claims }],
        ..example()
    };
    let entries = whole.sections.clone();
    let parts = whole.split(max);
    assert_eq!(parts.len(), 1);
    assert!(parts[0].encode(&key()).len() <= max);
    assert_eq!(parts[0].sections, entries);
    assert!(!parts[0].networks.is_empty());
}

#[test]
fn every_changed_octet_is_noticed() {
    let octets = example().encode(&key());
    for position in 0..octets.len() {
        let mut changed = octets.clone();
        changed[position] ^= 1;
        let decoded = Hello::decode(&changed, CLUSTER, &[key()]);
        assert!(decoded.is_err(), "octet {position}");
    }
    for length in 0..octets.len() {
        let decoded = Hello::decode(&octets[..length], CLUSTER, &[key()]);
        assert!(decoded.is_err(), "{length} octets");
    }
}

#[test]
fn errors_name_the_cause() {
    let octets = example().encode(&key());
    let other = Key::new(b"another key");
    let unknown = Hello::decode(&octets, CLUSTER, &[other]);
    assert_eq!(unknown, Err(HelloError::UnknownKey("node1".into())));
    assert_eq!(
        Hello::decode(&octets, 8, &[key()]),
        Err(HelloError::OtherCluster)
    );
    let mut newer = octets.clone();
    newer[4] = 2;
    assert_eq!(
        Hello::decode(&newer, CLUSTER, &[key()]),
        Err(HelloError::Version(2))
    );
    let mut forged = octets;
    *forged.last_mut().unwrap() ^= 1;
    let forged = Hello::decode(&forged, CLUSTER, &[key()]);
    assert_eq!(forged, Err(HelloError::Unauthenticated("node1".into())));
    assert_eq!(
        Hello::decode(b"VRRP", CLUSTER, &[key()]),
        Err(HelloError::NotHello)
    );
}

#[test]
fn both_keys_are_accepted_during_a_rotation() {
    let new = Key::new(b"fedcba9876543210fedcba9876543210");
    let keys = [new.clone(), key()];
    for sender in [key(), new] {
        let octets = example().encode(&sender);
        assert_eq!(Hello::decode(&octets, CLUSTER, &keys), Ok(example()));
    }
}

#[test]
fn a_section_of_an_unknown_kind_is_skipped() {
    let octets = example().encode(&key());
    let mut longer = octets[..octets.len() - TAG].to_vec();
    longer.extend_from_slice(&[200, 0, 3, 1, 2, 3]);
    let tag = key().authenticate(&longer);
    longer.extend_from_slice(&tag);
    assert_eq!(Hello::decode(&longer, CLUSTER, &[key()]), Ok(example()));
}

#[test]
fn a_key_is_never_shown() {
    let shown = format!("{:?}", key());
    assert!(
        shown.starts_with("Key(") && !shown.contains("0123456789abcdef"),
        "{shown}"
    );
}
