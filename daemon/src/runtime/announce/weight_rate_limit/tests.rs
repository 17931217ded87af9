use std::sync::Arc;

use ferrolb_bgp::wire::{Community, ExtendedCommunity, LinkBandwidth};
use proptest::prelude::*;

use super::*;

const KEY: (&str, &str) = ("tor", "192.0.2.1/32");

/// A route with a weight (0: none) and a community.
fn route(weight: u16, community: u32) -> Route {
    let bandwidth = (weight > 0).then(|| {
        ExtendedCommunity::from(LinkBandwidth {
            asn: 64512,
            octets_per_second: f32::from(weight),
            transitive: true,
        })
    });
    Arc::new(RouteAttributes {
        communities: vec![Community(community)],
        extended_communities: bandwidth.into_iter().collect(),
        ..RouteAttributes::default()
    })
}

fn change(route: Option<Route>) -> RouteChange {
    RouteChange {
        peer: KEY.0.into(),
        prefix: KEY.1.parse().expect("a prefix"),
        route,
    }
}

/// The changes that are sent at this second.
fn at(
    limit: &mut WeightRateLimit,
    begin: Instant,
    second: u64,
    new: Option<Route>,
) -> Vec<RouteChange> {
    let now = begin + Duration::from_secs(second);
    let mut out = limit.due(now);
    out.extend(limit.filter(now, vec![change(new)]));
    out
}

#[test]
fn the_first_weight_change_is_sent_at_once_and_the_last_of_many_after_the_interval() {
    let (mut limit, begin) = (WeightRateLimit::default(), Instant::now());
    assert_eq!(at(&mut limit, begin, 0, Some(route(1, 0))).len(), 1);
    assert_eq!(at(&mut limit, begin, 11, Some(route(2, 0))).len(), 1);
    assert_eq!(at(&mut limit, begin, 12, Some(route(3, 0))), []);
    assert_eq!(at(&mut limit, begin, 13, Some(route(4, 0))), []);
    assert_eq!(limit.due(begin + Duration::from_secs(20)), []);
    let due = limit.due(begin + Duration::from_secs(21));
    assert_eq!(due, [change(Some(route(4, 0)))]);
    assert_eq!(limit.due(begin + Duration::from_secs(99)), []);
}

#[test]
fn a_weight_that_changes_back_within_the_interval_is_not_sent() {
    let (mut limit, begin) = (WeightRateLimit::default(), Instant::now());
    at(&mut limit, begin, 0, Some(route(1, 0)));
    assert_eq!(at(&mut limit, begin, 1, Some(route(2, 0))), []);
    assert_eq!(at(&mut limit, begin, 2, Some(route(1, 0))), []);
    assert_eq!(limit.due(begin + Duration::from_secs(99)), []);
}

#[test]
fn changes_of_other_attributes_are_sent_at_once() {
    let (mut limit, begin) = (WeightRateLimit::default(), Instant::now());
    at(&mut limit, begin, 0, Some(route(1, 0)));
    for (second, new) in [
        (1, Some(route(2, 7))),
        (2, Some(route(0, 7))),
        (3, Some(route(1, 7))),
        (4, None),
        (5, Some(route(1, 7))),
    ] {
        assert_eq!(
            at(&mut limit, begin, second, new.clone()),
            [change(new)],
            "{second}"
        );
    }
}

proptest! {
    /// The last route sent equals the current one after at most one interval, and the weight alone
    /// never changes twice within one.
    #[test]
    fn sent_routes_converge_to_the_current_ones(
        steps in prop::collection::vec((0..9_u64, prop::option::of((0..4_u16, 0..2_u32))), 1..60)
    ) {
        let (mut limit, mut now) = (WeightRateLimit::default(), Instant::now());
        let (mut sent, mut wanted): (Option<Route>, Option<Route>) = (None, None);
        let mut weight_sent: Option<Instant> = None;
        for (seconds, new) in steps {
            now += Duration::from_secs(seconds);
            let new = new.map(|(weight, community)| route(weight, community));
            let mut out = limit.due(now);
            if new != wanted {
                out.extend(limit.filter(now, vec![change(new.clone())]));
                wanted = new;
            }
            for change in out {
                let both = sent.as_ref().zip(change.route.as_ref());
                let both = both.filter(|(a, b)| has_weight(a) && has_weight(b));
                if both.is_some_and(|(a, b)| without_weight(a) == without_weight(b)) {
                    prop_assert!(weight_sent.is_none_or(|before| now - before >= WEIGHT_INTERVAL));
                }
                if change.route.as_ref().is_some_and(|route| has_weight(route)) {
                    weight_sent = Some(now);
                }
                sent = change.route;
            }
            if let (Some(sent), Some(wanted)) = (&sent, &wanted) {
                prop_assert_eq!(without_weight(sent), without_weight(wanted));
            } else {
                prop_assert_eq!(&sent, &wanted);
            }
        }
        for change in limit.due(now + WEIGHT_INTERVAL) {
            sent = change.route;
        }
        prop_assert_eq!(sent, wanted);
    }
}
