use ferrolb_bgp::fsm::OtherPaths;
use ferrolb_bgp::wire::Family;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::index::change::Change;
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

/// Two nodes that `selected` labels, and an aggregate without a service.
fn with_aggregate(selected: [&str; 2]) -> Index {
    let mut index = Index::default();
    let mut apply = |kind: Kind, name: &str, mut body: Value| {
        body["kind"] = json!(kind.name());
        body["apiVersion"] = json!(kind.api_version());
        body["metadata"]["name"] = json!(name);
        let raw: RawObject = serde_json::from_value(body).expect("an object");
        let name = ObjectName::new("metallb-system", name);
        let name = match kind {
            Kind::Node => ObjectName::new("", name.name),
            _ => name,
        };
        index.apply(Change::Apply(ObjectKey::new(kind, name), raw));
    };
    for (name, selected) in ["node-a", "node-b"].into_iter().zip(selected) {
        let address = json!({ "type": "InternalIP", "address": "10.0.0.11" });
        let metadata = json!({ "labels": { "selected": selected } });
        let status = json!({ "addresses": [address] });
        apply(
            Kind::Node,
            name,
            json!({ "metadata": metadata, "status": status }),
        );
    }
    let peer = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1" });
    apply(Kind::FerrolbBgpPeer, "tor", json!({ "spec": peer }));
    let pool = json!({ "addresses": ["192.0.2.0/24"] });
    apply(Kind::IpAddressPool, "pool", json!({ "spec": pool }));
    let selectors = json!([{ "matchLabels": { "selected": "yes" } }]);
    let advertisement = json!({
        "aggregationLength": 24, "announceAggregates": "always", "nodeSelectors": selectors,
    });
    apply(
        Kind::FerrolbBgpAdvertisement,
        "all",
        json!({ "spec": advertisement }),
    );
    index
}

#[test]
fn an_aggregate_without_a_service_is_announced_elsewhere_if_another_node_is_selected() {
    let prefix = "192.0.2.0/24".parse().expect("a prefix");
    for (other, expected) in [("yes", vec![prefix]), ("no", vec![])] {
        let index = with_aggregate(["yes", other]);
        let node_routes = NodeRoutes::of(&index, "node-a");
        assert_eq!(node_routes.routes().len(), 1);
        let found = announced_elsewhere(&index, &node_routes, &[prefix].into(), |_| true);
        assert_eq!(Vec::from_iter(found), expected);
    }
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
fn a_node_exits_if_deleted_shutting_down_excluded_or_cordoned() {
    let excluded = |node: &mut Node| {
        node.labels.insert(
            crate::core::model::annotations::EXCLUDE_LABEL.into(),
            String::new(),
        );
    };
    for (node, node_exit) in [
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
        assert_eq!(NodeExit::of(node.as_ref()), node_exit);
    }
}

#[test]
fn an_uninstall_or_node_exit_drains_and_a_rollout_uses_graceful_restart() {
    let ask = |node_exit, daemonset_gone| {
        stop_mode(StopFacts {
            node_exit,
            daemonset_gone,
        })
    };
    assert_eq!(ask(None, false), StopMode::GracefulRestart);
    assert_eq!(
        ask(None, true),
        StopMode::Drain(Some(DrainReason::DaemonSet))
    );
    for node_exit in [
        NodeExit::Deleted,
        NodeExit::ShuttingDown,
        NodeExit::Excluded,
        NodeExit::Cordoned,
    ] {
        let reason = DrainReason::Node(node_exit);
        assert_eq!(ask(Some(node_exit), true), StopMode::Drain(Some(reason)));
    }
}

#[test]
fn the_scope_and_other_nodes_decide_what_a_drain_does_to_a_route() {
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
    for (scope, peer, on_cordon, takeover, action) in [
        (
            excluded(),
            "tor",
            false,
            Takeover::Ready,
            RouteAction::Drain(TIME),
        ),
        (
            excluded(),
            "tor",
            false,
            Takeover::NotReady,
            RouteAction::AwaitPath(TIME),
        ),
        (
            excluded(),
            "tor",
            false,
            Takeover::NoNode,
            RouteAction::Keep,
        ),
        (deleted, "tor", false, Takeover::NoNode, RouteAction::Keep),
        (
            cordoned(),
            "tor",
            false,
            Takeover::Ready,
            RouteAction::Announce,
        ),
        (
            cordoned(),
            "tor",
            false,
            Takeover::NotReady,
            RouteAction::Announce,
        ),
        (
            cordoned(),
            "tor",
            true,
            Takeover::Ready,
            RouteAction::Drain(TIME),
        ),
        (
            cordoned(),
            "tor",
            true,
            Takeover::NotReady,
            RouteAction::AwaitPath(TIME),
        ),
        (
            cordoned(),
            "tor",
            true,
            Takeover::NoNode,
            RouteAction::Announce,
        ),
        (
            process(),
            "tor",
            false,
            Takeover::Ready,
            RouteAction::Drain(TIME),
        ),
        (
            process(),
            "tor",
            false,
            Takeover::NotReady,
            RouteAction::Drain(TIME),
        ),
        (process(), "tor", false, Takeover::NoNode, RouteAction::Keep),
        (
            process(),
            "another",
            false,
            Takeover::Ready,
            RouteAction::Keep,
        ),
    ] {
        let sent = scope.action(peer, drain(on_cordon), takeover);
        assert_eq!(sent, action, "{scope:?} {peer} {on_cordon} {takeover:?}");
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
fn a_router_that_sends_back_paths_lacks_the_prefixes_that_it_does_not_send() {
    let lacks_other_path = |routers: Vec<OtherPaths>| {
        RouterPaths::new(routers, Arc::default()).lacks_other_path("tor", &key(1).1)
    };
    assert!(!lacks_other_path(vec![]), "without a session");
    assert!(!lacks_other_path(vec![router("tor", None, false, &[])]));
    assert!(lacks_other_path(vec![router("tor", None, true, &[2])]));
    assert!(!lacks_other_path(vec![router("tor", None, true, &[1, 2])]));
    assert!(!lacks_other_path(vec![router("another", None, true, &[])]));
    // All neighbours of a peerNetwork get the routes of its BGPPeer.
    let neighbour = |name, prefixes| router(name, Some("tor"), true, prefixes);
    assert!(!lacks_other_path(vec![
        neighbour("tor/10.0.0.1", &[1]),
        neighbour("tor/10.0.0.2", &[1])
    ]));
    assert!(lacks_other_path(vec![
        neighbour("tor/10.0.0.1", &[1]),
        neighbour("tor/10.0.0.2", &[])
    ]));
}

#[test]
fn a_router_that_loses_its_session_during_a_drain_has_no_other_path() {
    let with = |shown| RouterPaths::new(vec![router("tor", None, shown, &[1])], Arc::default());
    let lacks = |paths: RouterPaths| paths.lacks_other_path("tor", &key(1).1);
    let gone = || RouterPaths::new(vec![], Arc::default());
    assert!(lacks(gone().with_earlier(with(true))));
    assert!(lacks(gone().with_earlier(gone().with_earlier(with(true)))));
    assert!(!lacks(
        with(true).with_earlier(gone().with_earlier(with(true)))
    ));
    assert!(!lacks(gone().with_earlier(with(false))));
    let neighbour = router("tor/10.0.0.1", Some("tor"), true, &[1]);
    assert!(!lacks(gone().with_earlier(RouterPaths::new(
        vec![neighbour],
        Arc::default()
    ))));
}

#[test]
fn a_route_without_another_path_stays_with_graceful_shutdown_rfc8326() {
    let begin = Instant::now();
    let staying = routes(&[1]);
    let mut draining = Draining::new(&staying);
    let overdue = |_: &RouteKey| RouteAction::AwaitPath(TIME);
    let first = draining.step(begin, &staying, overdue);
    assert!(is_graceful(first[0].route.as_ref().expect("a route")));
    assert!(draining.waiting().is_empty(), "its time is not over");
    assert_eq!(draining.step(begin + TIME, &staying, overdue), []);
    assert_eq!(draining.waiting(), BTreeSet::from([key(1)]));
    assert_eq!(draining.step(begin + TIME * 100, &staying, overdue), []);
    assert!(draining.in_progress());
    let covers = |_: &RouteKey| RouteAction::Drain(TIME);
    let last = draining.step(begin + TIME * 101, &staying, covers);
    assert_eq!(last, [change(&key(1), None)]);
    assert!(draining.waiting().is_empty() && !draining.in_progress());
    // It is not announced again by itself.
    assert_eq!(draining.step(begin + TIME * 102, &staying, overdue), []);
}

#[test]
fn values_of_the_drain_annotation() {
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
fn a_drained_route_is_announced_with_graceful_shutdown_then_withdrawn() {
    let begin = Instant::now();
    let staying = routes(&[1]);
    let mut draining = Draining::new(&staying);
    let covers = |_: &RouteKey| RouteAction::Drain(TIME);
    let first = draining.step(begin, &staying, covers);
    assert!(
        is_graceful(first[0].route.as_ref().expect("a route")),
        "{first:?}"
    );
    assert!(draining.in_progress());
    assert_eq!(draining.step(begin + TIME / 2, &staying, covers), []);
    let last = draining.step(begin + TIME, &staying, covers);
    assert_eq!(last, [change(&key(1), None)]);
    assert!(!draining.in_progress());
    // A withdrawn route is not announced again by itself, not even if it would be the last.
    assert_eq!(
        draining.step(begin + TIME, &staying, |_| RouteAction::Keep),
        []
    );
    let back = draining.step(begin + TIME, &staying, |_| RouteAction::Announce);
    assert_eq!(back, [change(&key(1), Some(route(0)))]);
}

#[test]
fn the_last_path_is_kept_until_another_node_announces_the_prefix() {
    let begin = Instant::now();
    let staying = routes(&[1]);
    let mut draining = Draining::new(&staying);
    assert_eq!(draining.step(begin, &staying, |_| RouteAction::Keep), []);
    assert!(!draining.in_progress());
    let late = begin + TIME * 9;
    let changes = draining.step(late, &staying, |_| RouteAction::Drain(TIME));
    assert!(is_graceful(changes[0].route.as_ref().expect("a route")));
    // The other node is gone again: the route is announced as usual, and its drain time starts
    // again.
    let changes = draining.step(late + TIME / 2, &staying, |_| RouteAction::Keep);
    assert_eq!(changes, [change(&key(1), Some(route(0)))]);
    assert_eq!(
        draining
            .step(late + TIME, &staying, |_| RouteAction::Drain(TIME))
            .len(),
        1
    );
    assert!(draining.in_progress());
}

proptest! {
    /// No route is withdrawn that stays or is kept; a drained route has GRACEFUL_SHUTDOWN for the
    /// whole drain time first; and peers have no route that the node can't deliver.
    #[test]
    fn routes_are_withdrawn_only_after_their_drain_time(
        steps in prop::collection::vec(
            (
                0..6_u64,
                prop::collection::btree_map(0..4_u8, 0..2_u32, 0..4),
                prop::array::uniform4(0..4_u8),
            ),
            1..40,
        )
    ) {
        let mut now = Instant::now();
        let mut draining = Draining::new(&routes(&[0, 1, 2, 3]));
        let mut sent: BTreeMap<RouteKey, Route> = routes(&[0, 1, 2, 3]);
        let mut graceful_since: BTreeMap<RouteKey, Instant> = BTreeMap::new();
        for (seconds, staying, actions) in steps {
            now += Duration::from_secs(seconds);
            let staying = staying.iter().map(|(n, med)| (key(*n), route(*med)));
            let staying: BTreeMap<RouteKey, Route> = staying.collect();
            let action = |route: &RouteKey| {
                let number = (0..4).find(|n| key(*n) == *route).expect("one of ours");
                match actions[usize::from(number)] {
                    0 => RouteAction::Announce,
                    1 => RouteAction::Keep,
                    2 => RouteAction::Drain(TIME),
                    _ => RouteAction::AwaitPath(TIME),
                }
            };
            for change in draining.step(now, &staying, action) {
                let key = (change.peer, change.prefix);
                match change.route {
                    Some(route) => {
                        let action = action(&key);
                        let drains =
                            matches!(action, RouteAction::Drain(_) | RouteAction::AwaitPath(_));
                        prop_assert_eq!(is_graceful(&route), drains);
                        sent.insert(key, route);
                    }
                    None => {
                        let since = graceful_since.get(&key);
                        let drained = action(&key) == RouteAction::Drain(TIME)
                            && since.is_some_and(|since| now - *since >= TIME);
                        prop_assert!(!staying.contains_key(&key) || drained);
                        sent.remove(&key);
                    }
                }
            }
            for (key, route) in &sent {
                prop_assert!(staying.contains_key(key));
                prop_assert_eq!(route.med, staying[key].med);
                if is_graceful(route) {
                    graceful_since.entry(key.clone()).or_insert(now);
                }
            }
            graceful_since.retain(|key, _| sent.get(key).is_some_and(|route| is_graceful(route)));
            prop_assert!(draining.routes().eq(&sent));
        }
    }
}
