mod advertisements;
mod aggregates;

use ferrolb_bgp::wire::{Asn, ExtendedCommunity};

use super::*;

fn offer(prefix: &str, community: u32, weight: Option<u32>) -> Offer {
    let prefix: IpNet = prefix.parse().expect("a prefix");
    Offer {
        local_pref: None,
        med: None,
        prepend: 0,
        communities: BTreeSet::from([Community(community)]),
        large_communities: BTreeSet::new(),
        bandwidth: weight.map(|count| Bandwidth {
            weight: Weight::Endpoints(count),
            asn: 64512,
            transitive: true,
        }),
        aggregator: (prefix.prefix_len() < 32).then_some(Aggregator {
            asn: Asn(64512),
            router_id: [192, 0, 2, 254].into(),
        }),
        drain: Drain::default(),
        min_announcers: 1,
    }
}

fn merged(offers: &[Offer]) -> Route {
    merge(offers).expect("a route")
}

#[test]
fn an_aggregate_of_different_services_has_atomic_aggregate_rfc4271_5_1_6() {
    let one = offer("192.0.2.0/24", 1, None);
    let other = offer("192.0.2.0/24", 2, None);
    let same = merged(&[one.clone(), one.clone()]);
    assert!(!same.atomic_aggregate && same.aggregator.is_none());
    let differ = merged(&[one.clone(), other]);
    assert!(differ.atomic_aggregate);
    assert_eq!(differ.aggregator, one.aggregator);
    assert_eq!(differ.communities, [Community(1), Community(2)]);
    // Two services with one address don't form an aggregate.
    let shared = merged(&[
        offer("192.0.2.1/32", 1, None),
        offer("192.0.2.1/32", 2, None),
    ]);
    assert!(!shared.atomic_aggregate && shared.aggregator.is_none());
}

#[test]
fn weights_add_up_and_one_missing_weight_removes_all() {
    let communities = |weights: &[Option<u32>]| -> Vec<String> {
        let prefix = "192.0.2.1/32";
        let offers: Vec<_> = weights
            .iter()
            .map(|weight| offer(prefix, 1, *weight))
            .collect();
        let route = merged(&offers);
        let texts = route.extended_communities.iter();
        texts.map(ExtendedCommunity::to_string).collect()
    };
    assert_eq!(
        communities(&[Some(1), Some(2)]),
        ["transitive-lb:64512:375000000"]
    );
    assert_eq!(communities(&[Some(1), None, Some(2)]), Vec::<String>::new());
}
