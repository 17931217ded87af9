use std::sync::Arc;

use ferrolb_bgp::wire::{Community, ExtendedCommunity, LinkBandwidth};
use proptest::prelude::*;

use super::*;

const KEY: (&str, &str) = ("tor", "192.0.2.1/32");

/// With a weight (0: without) and a community.
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

/// What goes out of a change at a second.
fn at(
    damping: &mut WeightRateLimit,
    begin: Instant,
    second: u64,
    new: Option<Route>,
) -> Vec<RouteChange> {
    let now = begin + Duration::from_secs(second);
    let mut out = damping.due(now);
    out.extend(damping.pass(now, vec![change(new)]));
    out
}

#[test]
fn the_first_change_goes_at_once_and_the_last_of_many_in_its_time() {
    let (mut damping, begin) = (WeightRateLimit::default(), Instant::now());
    assert_eq!(at(&mut damping, begin, 0, Some(route(1, 0))).len(), 1);
    assert_eq!(at(&mut damping, begin, 11, Some(route(2, 0))).len(), 1);
    assert_eq!(at(&mut damping, begin, 12, Some(route(3, 0))), []);
    assert_eq!(at(&mut damping, begin, 13, Some(route(4, 0))), []);
    assert_eq!(damping.due(begin + Duration::from_secs(20)), []);
    let due = damping.due(begin + Duration::from_secs(21));
    assert_eq!(due, [change(Some(route(4, 0)))]);
    assert_eq!(damping.due(begin + Duration::from_secs(99)), []);
}

#[test]
fn a_weight_that_is_back_again_was_never_told() {
    let (mut damping, begin) = (WeightRateLimit::default(), Instant::now());
    at(&mut damping, begin, 0, Some(route(1, 0)));
    assert_eq!(at(&mut damping, begin, 1, Some(route(2, 0))), []);
    assert_eq!(at(&mut damping, begin, 2, Some(route(1, 0))), []);
    assert_eq!(damping.due(begin + Duration::from_secs(99)), []);
}

#[test]
fn all_other_news_goes_at_once() {
    let (mut damping, begin) = (WeightRateLimit::default(), Instant::now());
    at(&mut damping, begin, 0, Some(route(1, 0)));
    for (second, new) in [
        (1, Some(route(2, 7))),
        (2, Some(route(0, 7))),
        (3, Some(route(1, 7))),
        (4, None),
        (5, Some(route(1, 7))),
    ] {
        assert_eq!(
            at(&mut damping, begin, second, new.clone()),
            [change(new)],
            "{second}"
        );
    }
}

proptest! {
    /// Whatever happens: what was told is what is wanted, at the latest after one interval, and weights alone never change
    /// twice within one.
    #[test]
    fn what_is_told_follows_what_is_wanted(steps in prop::collection::vec((0..9_u64, prop::option::of((0..4_u16, 0..2_u32))), 1..60)) {
        let (mut damping, mut now) = (WeightRateLimit::default(), Instant::now());
        let (mut told, mut wanted): (Option<Route>, Option<Route>) = (None, None);
        let mut weight_told: Option<Instant> = None;
        for (seconds, new) in steps {
            now += Duration::from_secs(seconds);
            let new = new.map(|(weight, community)| route(weight, community));
            let mut out = damping.due(now);
            if new != wanted {
                out.extend(damping.pass(now, vec![change(new.clone())]));
                wanted = new;
            }
            for change in out {
                let both = told.as_ref().zip(change.route.as_ref()).filter(|(a, b)| has_weight(a) && has_weight(b));
                if both.is_some_and(|(a, b)| without_weight(a) == without_weight(b)) {
                    prop_assert!(weight_told.is_none_or(|before| now - before >= WEIGHT_INTERVAL));
                }
                if change.route.as_ref().is_some_and(|route| has_weight(route)) {
                    weight_told = Some(now);
                }
                told = change.route;
            }
            if let (Some(told), Some(wanted)) = (&told, &wanted) {
                prop_assert_eq!(without_weight(told), without_weight(wanted));
            } else {
                prop_assert_eq!(&told, &wanted);
            }
        }
        for change in damping.due(now + WEIGHT_INTERVAL) {
            told = change.route;
        }
        prop_assert_eq!(told, wanted);
    }
}
