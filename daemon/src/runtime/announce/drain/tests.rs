use ferrolb_bgp::fsm::OtherPaths;
use ferrolb_bgp::wire::Family;
use proptest::prelude::*;

use super::*;
use crate::core::model::drain::DrainOverride;

const TIME: Duration = Duration::from_secs(10);

fn key(prefix: u8) -> RouteKey {
    let prefix = format!("192.0.2.{prefix}/32");
    ("tor".into(), prefix.parse().expect("a prefix"))
}

fn route(med: u32) -> Route {
    Arc::new(RouteAttributes {
        med: Some(med),
        local_pref: Some(250),
        ..RouteAttributes::default()
    })
}

fn routes(prefixes: &[u8]) -> BTreeMap<RouteKey, Route> {
    prefixes
        .iter()
        .map(|prefix| (key(*prefix), route(0)))
        .collect()
}

fn is_graceful(route: &RouteAttributes) -> bool {
    route.communities.contains(&Community::GRACEFUL_SHUTDOWN) && route.local_pref == Some(0)
}

fn node(change: impl FnOnce(&mut Node)) -> Node {
    let mut node = Node::default();
    change(&mut node);
    node
}

#[test]
fn why_a_node_leaves() {
    let excluded = |node: &mut Node| {
        node.labels.insert(
            crate::core::model::annotations::EXCLUDE_LABEL.into(),
            String::new(),
        );
    };
    for (node, departure) in [
        (None, Some(NodeExit::Deleted)),
        (Some(node(|_| {})), None),
        (
            Some(node(|node| node.deleting = true)),
            Some(NodeExit::Deleted),
        ),
        (
            Some(node(|node| node.shutting_down = true)),
            Some(NodeExit::ShuttingDown),
        ),
        (Some(node(excluded)), Some(NodeExit::Excluded)),
        (
            Some(node(|node| node.cordoned = true)),
            Some(NodeExit::Cordoned),
        ),
        (
            Some(node(|node| {
                node.cordoned = true;
                excluded(node);
            })),
            Some(NodeExit::Excluded),
        ),
    ] {
        assert_eq!(NodeExit::of(node.as_ref()), departure);
    }
}

#[test]
fn a_process_that_stops_drains_for_good_or_means_to_come_back() {
    let ask = |departure, daemonset_gone| {
        farewell(StopFacts {
            departure,
            daemonset_gone,
        })
    };
    assert_eq!(ask(None, false), StopMode::GracefulRestart);
    assert_eq!(
        ask(None, true),
        StopMode::Drain(Some(DrainReason::DaemonSet))
    );
    for departure in [
        NodeExit::Deleted,
        NodeExit::ShuttingDown,
        NodeExit::Excluded,
        NodeExit::Cordoned,
    ] {
        let reason = DrainReason::Node(departure);
        assert_eq!(ask(Some(departure), true), StopMode::Drain(Some(reason)));
    }
}

#[test]
fn who_leaves_and_who_is_kept() {
    let drain = |on_cordon| Drain {
        time: TIME,
        on_cordon,
    };
    let process = DrainScope::Process {
        drained: BTreeSet::from(["tor".to_owned()]),
    };
    let excluded = || DrainScope::Node(NodeExit::Excluded);
    let deleted = DrainScope::Node(NodeExit::Deleted);
    let cordoned = || DrainScope::Node(NodeExit::Cordoned);
    let process = || process.clone();
    for (going, peer, on_cordon, takeover, fate) in [
        (
            excluded(),
            "tor",
            false,
            Takeover::Ready,
            RouteAction::Leaves(TIME),
        ),
        (
            excluded(),
            "tor",
            false,
            Takeover::NotReady,
            RouteAction::Waits(TIME),
        ),
        (
            excluded(),
            "tor",
            false,
            Takeover::NoNode,
            RouteAction::Kept,
        ),
        (deleted, "tor", false, Takeover::NoNode, RouteAction::Kept),
        (
            cordoned(),
            "tor",
            false,
            Takeover::Ready,
            RouteAction::Stays,
        ),
        (
            cordoned(),
            "tor",
            false,
            Takeover::NotReady,
            RouteAction::Stays,
        ),
        (
            cordoned(),
            "tor",
            true,
            Takeover::Ready,
            RouteAction::Leaves(TIME),
        ),
        (
            cordoned(),
            "tor",
            true,
            Takeover::NotReady,
            RouteAction::Waits(TIME),
        ),
        (
            cordoned(),
            "tor",
            true,
            Takeover::NoNode,
            RouteAction::Stays,
        ),
        (
            process(),
            "tor",
            false,
            Takeover::Ready,
            RouteAction::Leaves(TIME),
        ),
        (
            process(),
            "tor",
            false,
            Takeover::NotReady,
            RouteAction::Leaves(TIME),
        ),
        (process(), "tor", false, Takeover::NoNode, RouteAction::Kept),
        (
            process(),
            "another",
            false,
            Takeover::Ready,
            RouteAction::Kept,
        ),
    ] {
        let told = going.fate(peer, drain(on_cordon), takeover);
        assert_eq!(told, fate, "{going:?} {peer} {on_cordon} {takeover:?}");
    }
}

fn router(peer: &str, template: Option<&str>, shown: bool, prefixes: &[u8]) -> OtherPaths {
    OtherPaths {
        peer: peer.to_owned(),
        template: template.map(str::to_owned),
        shown: Vec::from_iter(shown.then_some(Family::IPV4_UNICAST)),
        prefixes: prefixes.iter().map(|number| key(*number).1).collect(),
    }
}

#[test]
fn a_router_lacks_what_it_does_not_send_back_once_it_has_sent_back_anything() {
    let lack = |routers: Vec<OtherPaths>| RouterPaths::new(routers).lack("tor", &key(1).1);
    assert!(!lack(vec![]), "without a session");
    assert!(!lack(vec![router("tor", None, false, &[])]));
    assert!(lack(vec![router("tor", None, true, &[2])]));
    assert!(!lack(vec![router("tor", None, true, &[1, 2])]));
    assert!(!lack(vec![router("another", None, true, &[])]));
    // All neighbours of a peerNetwork get the routes of its BGPPeer.
    let neighbour = |name, prefixes| router(name, Some("tor"), true, prefixes);
    assert!(!lack(vec![
        neighbour("tor/10.0.0.1", &[1]),
        neighbour("tor/10.0.0.2", &[1])
    ]));
    assert!(lack(vec![
        neighbour("tor/10.0.0.1", &[1]),
        neighbour("tor/10.0.0.2", &[])
    ]));
}

#[test]
fn a_router_that_loses_its_session_during_a_drain_still_lacks_what_it_does_not_show() {
    let with = |shown| RouterPaths::new(vec![router("tor", None, shown, &[1])]);
    let lacks = |paths: RouterPaths| paths.lack("tor", &key(1).1);
    let gone = || RouterPaths::new(vec![]);
    assert!(lacks(gone().after(with(true))));
    assert!(lacks(gone().after(gone().after(with(true)))));
    assert!(!lacks(with(true).after(gone().after(with(true)))));
    assert!(!lacks(gone().after(with(false))));
    let neighbour = router("tor/10.0.0.1", Some("tor"), true, &[1]);
    assert!(!lacks(gone().after(RouterPaths::new(vec![neighbour]))));
}

#[test]
fn what_the_router_reaches_nowhere_else_stays_as_last_choice_until_it_does() {
    let begin = Instant::now();
    let staying = routes(&[1]);
    let mut draining = Draining::new(&staying);
    let waits = |_: &RouteKey| RouteAction::Waits(TIME);
    let first = draining.step(begin, &staying, waits);
    assert!(is_graceful(first[0].route.as_ref().expect("a route")));
    assert!(draining.waiting().is_empty(), "its time is not over");
    assert_eq!(draining.step(begin + TIME, &staying, waits), []);
    assert_eq!(draining.waiting(), BTreeSet::from([key(1)]));
    assert_eq!(draining.step(begin + TIME * 100, &staying, waits), []);
    assert!(draining.in_progress());
    let leaves = |_: &RouteKey| RouteAction::Leaves(TIME);
    let last = draining.step(begin + TIME * 101, &staying, leaves);
    assert_eq!(last, [change(&key(1), None)]);
    assert!(draining.waiting().is_empty() && !draining.in_progress());
    // It does not come back by itself.
    assert_eq!(draining.step(begin + TIME * 102, &staying, waits), []);
}

#[test]
fn what_a_service_may_ask_for() {
    let wish = |time: Option<u64>, on_cordon| {
        Ok(DrainOverride {
            time: time.map(Duration::from_secs),
            on_cordon,
        })
    };
    assert_eq!(DrainOverride::parse("30s"), wish(Some(30), false));
    assert_eq!(DrainOverride::parse("0s"), wish(Some(0), false));
    assert_eq!(DrainOverride::parse("on-cordon"), wish(None, true));
    assert_eq!(DrainOverride::parse("30s, on-cordon"), wish(Some(30), true));
    for text in ["", "yes", "46s", "-1s", "30s,cordon"] {
        let error = DrainOverride::parse(text).expect_err(text);
        assert!(
            error.contains("0s to 45s") && error.contains("on-cordon"),
            "{error}"
        );
    }
}

#[test]
fn what_leaves_is_told_again_and_withdrawn_in_its_time() {
    let begin = Instant::now();
    let staying = routes(&[1]);
    let mut draining = Draining::new(&staying);
    let leaves = |_: &RouteKey| RouteAction::Leaves(TIME);
    let first = draining.step(begin, &staying, leaves);
    assert!(
        is_graceful(first[0].route.as_ref().expect("a route")),
        "{first:?}"
    );
    assert!(draining.in_progress());
    assert_eq!(draining.step(begin + TIME / 2, &staying, leaves), []);
    let last = draining.step(begin + TIME, &staying, leaves);
    assert_eq!(last, [change(&key(1), None)]);
    assert!(!draining.in_progress());
    // Once gone it does not come back by itself, also when it would be the last.
    assert_eq!(
        draining.step(begin + TIME, &staying, |_| RouteAction::Kept),
        []
    );
    let back = draining.step(begin + TIME, &staying, |_| RouteAction::Stays);
    assert_eq!(back, [change(&key(1), Some(route(0)))]);
}

#[test]
fn the_last_one_is_kept_until_somebody_else_is_there() {
    let begin = Instant::now();
    let staying = routes(&[1]);
    let mut draining = Draining::new(&staying);
    assert_eq!(draining.step(begin, &staying, |_| RouteAction::Kept), []);
    assert!(!draining.in_progress());
    let late = begin + TIME * 9;
    let changes = draining.step(late, &staying, |_| RouteAction::Leaves(TIME));
    assert!(is_graceful(changes[0].route.as_ref().expect("a route")));
    // The other one is gone again: it carries traffic as before, and its time begins anew.
    let changes = draining.step(late + TIME / 2, &staying, |_| RouteAction::Kept);
    assert_eq!(changes, [change(&key(1), Some(route(0)))]);
    assert_eq!(
        draining
            .step(late + TIME, &staying, |_| RouteAction::Leaves(TIME))
            .len(),
        1
    );
    assert!(draining.in_progress());
}

proptest! {
    /// Whatever happens: nothing is withdrawn that stays or is kept; what leaves is told so first, for its whole time; and
    /// peers hold nothing that the node can't deliver.
    #[test]
    fn nothing_goes_without_a_word(
        steps in prop::collection::vec((0..6_u64, prop::collection::btree_map(0..4_u8, 0..2_u32, 0..4), prop::array::uniform4(0..4_u8)), 1..40)
    ) {
        let mut now = Instant::now();
        let mut draining = Draining::new(&routes(&[0, 1, 2, 3]));
        let mut told: BTreeMap<RouteKey, Route> = routes(&[0, 1, 2, 3]);
        let mut graceful_since: BTreeMap<RouteKey, Instant> = BTreeMap::new();
        for (seconds, staying, fates) in steps {
            now += Duration::from_secs(seconds);
            let staying: BTreeMap<RouteKey, Route> = staying.iter().map(|(n, med)| (key(*n), route(*med))).collect();
            let fate = |asked: &RouteKey| {
                let number = (0..4).find(|n| key(*n) == *asked).expect("one of ours");
                [RouteAction::Stays, RouteAction::Kept, RouteAction::Leaves(TIME), RouteAction::Waits(TIME)][usize::from(fates[usize::from(number)])]
            };
            for change in draining.step(now, &staying, fate) {
                let key = (change.peer, change.prefix);
                match change.route {
                    Some(route) => {
                        prop_assert_eq!(is_graceful(&route), matches!(fate(&key), RouteAction::Leaves(_) | RouteAction::Waits(_)));
                        told.insert(key, route);
                    }
                    None => {
                        let in_time = graceful_since.get(&key).is_some_and(|since| now - *since >= TIME);
                        prop_assert!(!staying.contains_key(&key) || (in_time && fate(&key) == RouteAction::Leaves(TIME)));
                        told.remove(&key);
                    }
                }
            }
            for (key, route) in &told {
                prop_assert!(staying.contains_key(key));
                prop_assert_eq!(route.med, staying[key].med);
                if is_graceful(route) {
                    graceful_since.entry(key.clone()).or_insert(now);
                }
            }
            graceful_since.retain(|key, _| told.get(key).is_some_and(|route| is_graceful(route)));
            let held: BTreeMap<RouteKey, Route> = draining.routes().map(|(key, route)| (key.clone(), route.clone())).collect();
            prop_assert_eq!(&held, &told);
        }
    }
}
