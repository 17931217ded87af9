use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_bgp::config::{PeerConfig, Remote};
use ferrolb_bgp::fsm::{Input, Speaker, SpeakerConfig};
use ferrolb_bgp::wire::Asn;

use super::*;
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::decide::Reason;
use crate::core::decide::node_routes::NodeRoutes;
use crate::core::index::Index;
use crate::core::index::change::Change;
use crate::runtime::status::{Layer2Services, Withheld};

/// Status of peers without a session.
fn statuses(peers: impl IntoIterator<Item = PeerConfig>) -> Vec<PeerStatus> {
    let now = Instant::now();
    let mut speaker = Speaker::new(SpeakerConfig {
        router_id_fallback: Ipv4Addr::LOCALHOST,
        seed: 0,
        host_uptime: None,
    });
    for peer in peers {
        speaker.handle(now, Input::SetPeer(peer));
    }
    speaker.status(now)
}

fn peer(name: &str, address: &str) -> PeerConfig {
    let address = address.parse().expect("an address");
    PeerConfig::new(name, address, Asn(64512), Asn(64513))
}

/// Three changes, of which the router acknowledged one.
fn convergence() -> Convergence {
    let mut convergence = Convergence::default();
    convergence.decided.buckets[2] = 3;
    convergence.decided.sum = Duration::from_millis(25);
    convergence.acknowledged.buckets[10] = 1;
    convergence.acknowledged.sum = Duration::from_secs(31);
    convergence
}

fn rendered(status: &DaemonStatus, peers: &[PeerStatus]) -> String {
    let bgp = BgpEngine {
        bfd_packets_without_session: 5,
        convergence: convergence(),
    };
    let text = render(status, "node-a", peers, Some(&bgp), None).expect("metrics");
    String::from_utf8(text).expect("text")
}

/// The lines of one metric.
fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let named = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    text.lines().filter(named).collect()
}

#[test]
fn peers_at_one_address_have_different_labels() {
    let mut second = peer("tor-b", "10.0.0.1:179");
    second.transport.source_address = "10.0.0.12".parse().ok();
    let mut peers = statuses([
        peer("tor-a", "10.0.0.1:179"),
        second,
        peer("tor-c", "10.0.0.1:1790"),
    ]);
    for (peer, count) in peers.iter_mut().zip([1, 2, 4]) {
        peer.sent.update = count;
    }
    assert_eq!(
        lines(
            &rendered(&DaemonStatus::default(), &peers),
            "metallb_bgp_updates_total"
        ),
        [
            "metallb_bgp_updates_total{peer=\"10.0.0.1:1790\"} 4",
            "metallb_bgp_updates_total{peer=\"10.0.0.1:179@tor-a\"} 1",
            "metallb_bgp_updates_total{peer=\"10.0.0.1:179@tor-b\"} 2",
        ]
    );
}

/// The address of its router changes, a series must not.
#[test]
fn an_unnumbered_peer_has_its_interface_as_label() {
    let mut fabric = peer("fabric", "10.0.0.1:179");
    fabric.remote = Remote::unknown_on_link(179);
    fabric.transport.source_interface = Some("eth1".into());
    let text = rendered(&DaemonStatus::default(), &statuses([fabric]));
    let up = lines(&text, "metallb_bgp_session_up");
    assert_eq!(up, ["metallb_bgp_session_up{peer=\"eth1\"} 0"]);
}

/// A `peerNetwork` never has a session: a value of 0 would be a false alarm.
#[test]
fn dynamic_neighbors_have_metrics_and_their_peer_network_has_none() {
    let mut template = peer("rack", "10.0.0.1:179");
    template.remote = Remote::Network("10.0.0.0/24".parse().expect("a network"));
    let mut peers = statuses([template, peer("rack@10.0.0.7", "10.0.0.7:179")]);
    peers[1].template = Some("rack".into());
    peers[1].prefixes_advertised = 1;
    let mut status = DaemonStatus::default();
    status.routes.insert("rack".into(), 3);
    let text = rendered(&status, &peers);
    assert_eq!(
        lines(&text, "metallb_bgp_session_up"),
        ["metallb_bgp_session_up{peer=\"10.0.0.7:179\"} 0"]
    );
    assert_eq!(
        lines(&text, "metallb_bgp_pending_prefixes_total"),
        ["metallb_bgp_pending_prefixes_total{peer=\"10.0.0.7:179\"} 2"]
    );
}

#[test]
fn prefix_limits_and_looped_prefixes_have_metrics() {
    let mut limited = peer("tor-a", "10.0.0.1:179");
    limited.prefix_limit = Some(50);
    let mut peers = statuses([limited, peer("tor-b", "10.0.0.2:179")]);
    peers[1].update_errors.looped = 7;
    peers[1].announcements_left_out = 3;
    let text = rendered(&DaemonStatus::default(), &peers);
    let advertised = |name: &str| lines(&text, name).join(" ");
    assert_eq!(
        advertised("ferrolb_bgp_prefix_limit"),
        "ferrolb_bgp_prefix_limit{peer=\"10.0.0.1:179\"} 50"
    );
    assert_eq!(
        advertised("ferrolb_bgp_prefix_limit_used"),
        "ferrolb_bgp_prefix_limit_used{peer=\"10.0.0.1:179\"} 0"
    );
    assert!(
        advertised("ferrolb_bgp_prefixes_ineligible_total").ends_with("{peer=\"10.0.0.2:179\"} 7"),
        "{text}"
    );
    assert_eq!(
        advertised("ferrolb_bfd_packets_without_session_total"),
        "ferrolb_bfd_packets_without_session_total 5"
    );
    assert!(
        advertised("ferrolb_bgp_announcements_left_out_total")
            .ends_with("{peer=\"10.0.0.2:179\"} 3"),
        "{text}"
    );
}

#[test]
fn only_allocators_report_whether_they_lead_and_what_waits_for_an_address() {
    let names = [
        "ferrolb_allocator_leader_bool",
        "ferrolb_allocator_services_without_address",
    ];
    let announcer = rendered(&DaemonStatus::default(), &[]);
    let allocator = DaemonStatus {
        allocated: Some([].into()),
        leading: true,
        without_address: 3,
        ..DaemonStatus::default()
    };
    let allocator = rendered(&allocator, &[]);
    for (name, value) in names.into_iter().zip([" 1", " 3"]) {
        assert_eq!(lines(&announcer, name), [""; 0]);
        assert_eq!(lines(&allocator, name), [format!("{name}{value}")]);
    }
}

#[test]
fn layer_2_has_metallb_names_and_counters_of_its_own() {
    use ferrolb_layer2::mac::Mac;
    use ferrolb_layer2::status::{
        AddressStatus, Counters, Move, OwnerReason, SegmentStatus, Traffic,
    };

    // Three within ten minutes, of which one took the address from the node and gave it to none.
    let moves = |owner: Option<&str>| {
        let change = |seconds, to: Option<&str>| Move {
            at: Duration::from_secs(seconds),
            from: Some("node-c".into()),
            to: to.map(Arc::from),
            reason: OwnerReason::OwnerSilent,
        };
        vec![
            change(1990, owner),
            change(1980, None),
            change(1400, owner),
            change(1399, owner),
        ]
    };
    let owned_by = |owner: Option<&str>, requests| AddressStatus {
        candidates: Arc::default(),
        owner: owner.map(Arc::from),
        since: Duration::ZERO,
        epoch: 1,
        reason: OwnerReason::Placed,
        conflict: owner.is_none().then_some(Mac([2, 0, 0, 0, 0, 9])),
        interfaces: Vec::new(),
        moves: moves(owner),
        self_test: None,
        traffic: Traffic {
            requests,
            responses: requests,
            gratuitous: requests,
        },
    };
    let address = |last| IpAddr::from([192, 0, 2, last]);
    let addresses = [
        (address(1), owned_by(Some("node-a"), 7)),
        (address(2), owned_by(Some("node-b"), 0)),
        (address(3), owned_by(None, 0)),
    ];
    let layer2 = Status {
        node: "node-a".into(),
        now: Duration::from_secs(2000),
        addresses: addresses.into(),
        segments: vec![SegmentStatus {
            interface: "eth0".into(),
            mac: Mac::ZERO,
            carrier: true,
            networks: Vec::new(),
            promiscuous: false,
            peers: Vec::new(),
            warnings: Vec::new(),
        }],
        counters: Counters {
            false_suspicions: 2,
            ..Counters::default()
        },
        ..Status::default()
    };
    let services: [(IpAddr, &[&str]); 2] =
        [(address(1), &["dns", "dns-tcp"]), (address(2), &["web"])];
    let status = DaemonStatus {
        layer2_services: Layer2Services::named(&services),
        ..DaemonStatus::default()
    };
    let text = render(&status, "node-a", &[], None, Some(&layer2)).expect("metrics");
    let text = String::from_utf8(text).expect("text");
    for (name, expected) in [
        (
            "metallb_speaker_announced",
            "{ip=\"192.0.2.1\",node=\"node-a\",protocol=\"layer2\",service=\"default/dns\"} 1 \
             {ip=\"192.0.2.1\",node=\"node-a\",protocol=\"layer2\",service=\"default/dns-tcp\"} 1",
        ),
        ("metallb_layer2_requests_received", "{ip=\"192.0.2.1\"} 7"),
        ("ferrolb_layer2_addresses", " 3"),
        ("ferrolb_layer2_addresses_owned", " 1"),
        ("ferrolb_layer2_addresses_without_owner", " 1"),
        ("ferrolb_layer2_peers_alive", "{interface=\"eth0\"} 0"),
        (
            "ferrolb_layer2_address_conflict_bool",
            "{ip=\"192.0.2.3\",mac=\"02:00:00:00:00:09\"} 1",
        ),
        ("ferrolb_layer2_false_suspicions_total", " 2"),
        ("ferrolb_layer2_self_test_passed_bool", ""),
        (
            "ferrolb_layer2_owner_changes_recent",
            "{ip=\"192.0.2.1\"} 2",
        ),
    ] {
        let values: Vec<&str> = lines(&text, name)
            .into_iter()
            .filter_map(|line| line.strip_prefix(name))
            .collect();
        assert_eq!(values.join(" "), expected, "{name}");
    }
}

#[test]
fn what_waits_for_its_first_announcement_is_counted_with_its_reason() {
    let delayed = |service: Option<&str>, reason| Withheld {
        service: service.map(|name| Arc::new(ObjectName::new("shop", name))),
        reason,
        message: String::new(),
    };
    let status = DaemonStatus {
        withheld: vec![
            delayed(None, Reason::MetallbSpeaker),
            delayed(Some("a"), Reason::ServiceProxyNotReady),
            delayed(Some("b"), Reason::ServiceProxyNotReady),
        ],
        metallb_speaker: Some("metallb-system/speaker-x".to_owned()),
        metallb_controller: Some("metallb/controller-x".to_owned()),
        allocated: Some(BTreeSet::new()),
        below_floor: 3,
        unannounced: [("NoEndpoints", 4)].into(),
        ..DaemonStatus::default()
    };
    let text = rendered(&status, &[]);
    for (name, expected) in [
        (
            "ferrolb_services_unannounced",
            "ferrolb_services_unannounced{reason=\"NoEndpoints\"} 4",
        ),
        (
            "ferrolb_announcements_delayed_bool",
            "ferrolb_announcements_delayed_bool{reason=\"MetallbSpeaker\"} 1",
        ),
        ("ferrolb_services_delayed", "ferrolb_services_delayed 2"),
        (
            "ferrolb_metallb_speaker_bool",
            "ferrolb_metallb_speaker_bool 1",
        ),
        (
            "ferrolb_metallb_controller_bool",
            "ferrolb_metallb_controller_bool 1",
        ),
        (
            "ferrolb_services_below_min_announcers",
            "ferrolb_services_below_min_announcers 3",
        ),
    ] {
        assert_eq!(lines(&text, name).join(" "), expected);
    }
    assert!(!status.ready());
}

fn pool(name: &str, spec: serde_json::Value) -> Change {
    let body = serde_json::json!({ "metadata": { "name": name }, "spec": spec });
    let raw = serde_json::from_value(body).expect("an object");
    let name = ObjectName::new("metallb-system", name);
    Change::Apply(ObjectKey::new(Kind::IpAddressPool, name), raw)
}

#[test]
fn the_metrics_of_a_pool_follow_allocations_and_end_with_the_pool() {
    let mut index = Index::default();
    index.apply(pool(
        "both",
        serde_json::json!({ "addresses": ["192.0.2.0/30", "2001:db8::/126"] }),
    ));
    let avoids = serde_json::json!({ "addresses": ["10.0.0.0/24"], "avoidBuggyIPs": true });
    index.apply(pool("avoids", avoids));
    let allocated = ["192.0.2.1", "2001:db8::1", "192.0.2.2", "10.0.0.1"];
    let mut status = DaemonStatus {
        config: Some(Arc::clone(index.config())),
        allocated: Some(
            allocated
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
        ),
        ..DaemonStatus::default()
    };
    let shown = |status: &DaemonStatus, name: &str| {
        let text = rendered(status, &[]);
        let lines = lines(&text, &format!("metallb_allocator_{name}")).join(" ");
        lines.replace(&format!("metallb_allocator_{name}"), "")
    };
    for (name, expected) in [
        ("addresses_total", "{pool=\"avoids\"} 254 {pool=\"both\"} 8"),
        (
            "ipv6_addresses_total",
            "{pool=\"avoids\"} 0 {pool=\"both\"} 4",
        ),
        (
            "addresses_in_use_total",
            "{pool=\"avoids\"} 1 {pool=\"both\"} 3",
        ),
        (
            "ipv4_addresses_in_use_total",
            "{pool=\"avoids\"} 1 {pool=\"both\"} 2",
        ),
        (
            "ipv6_addresses_in_use_total",
            "{pool=\"avoids\"} 0 {pool=\"both\"} 1",
        ),
    ] {
        assert_eq!(shown(&status, name), expected, "{name}");
    }
    let name = ObjectName::new("metallb-system", "avoids");
    index.apply(Change::Delete(ObjectKey::new(Kind::IpAddressPool, name)));
    status.config = Some(Arc::clone(index.config()));
    status.allocated = Some(["192.0.2.1".parse().expect("an address")].into());
    assert_eq!(
        shown(&status, "addresses_in_use_total"),
        "{pool=\"both\"} 1"
    );
    assert_eq!(shown(&status, "addresses_total"), "{pool=\"both\"} 8");
}

#[test]
fn the_configuration_is_stale_while_an_object_is_rejected_and_stays_loaded() {
    let mut index = Index::default();
    let mut status = DaemonStatus::default();
    let shown = |status: &DaemonStatus| {
        let text = rendered(status, &[]);
        ["loaded", "stale"].map(|which| {
            let name = format!("metallb_k8s_client_config_{which}_bool");
            lines(&text, &name)[0].to_owned().replace(&name, which)
        })
    };
    assert_eq!(shown(&status), ["loaded 0", "stale 0"]);
    let addresses = |text: &str| pool("p", serde_json::json!({ "addresses": [text] }));
    for (text, stale) in [
        ("192.0.2.0/24", "stale 0"),
        ("nonsense", "stale 1"),
        ("192.0.2.0/24", "stale 0"),
    ] {
        index.apply(addresses(text));
        status.config = Some(Arc::clone(index.config()));
        status.problems = index.problems().to_vec();
        assert_eq!(shown(&status), ["loaded 1", stale], "{text}");
    }
}

#[test]
fn the_series_of_a_session_end_with_its_peer() {
    let status = DaemonStatus::default();
    let series = |peers: &[PeerStatus]| {
        let text = rendered(&status, peers);
        let lines = text.lines().filter(|line| line.contains("peer=\"10.0.0.1"));
        lines.count()
    };
    let peers = statuses([peer("tor", "10.0.0.1:179")]);
    let text = rendered(&status, &peers);
    for name in [
        "metallb_bgp_session_up",
        "metallb_bgp_announced_prefixes_total",
        "metallb_bgp_updates_total",
    ] {
        let expected = format!("{name}{{peer=\"10.0.0.1:179\"}} 0");
        assert_eq!(lines(&text, name), [expected]);
    }
    assert!(series(&peers) > 3);
    assert_eq!(series(&[]), 0);
}

#[test]
fn an_address_has_a_series_for_each_service_while_it_is_announced_over_bgp() {
    let object = |kind: Kind, name: &str, body: serde_json::Value| {
        let mut raw = body;
        raw["kind"] = kind.name().into();
        raw["apiVersion"] = kind.api_version().into();
        raw["metadata"]["name"] = name.into();
        let raw: RawObject = serde_json::from_value(raw).expect("an object");
        let key = raw.key("default").expect("a kind that is read");
        let namespace = if kind.is_configuration() {
            "metallb-system"
        } else {
            &key.name.namespace
        };
        let name = ObjectName::new(namespace, name);
        Change::Apply(ObjectKey::new(kind, name), raw)
    };
    let spec = serde_json::json!({ "myASN": 1, "peerASN": 2, "peerAddress": "10.0.0.1" });
    let web = serde_json::json!({
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } }
    });
    let slice = |ready: bool| {
        let labels = serde_json::json!({ "kubernetes.io/service-name": "web" });
        let conditions = serde_json::json!({ "ready": ready });
        let endpoint = serde_json::json!({ "addresses": ["10.1.0.1"], "conditions": conditions });
        let body = serde_json::json!({
            "metadata": { "labels": labels }, "addressType": "IPv4", "endpoints": [endpoint]
        });
        object(Kind::EndpointSlice, "web", body)
    };
    let mut index = Index::default();
    for change in [
        object(Kind::Node, "node-a", serde_json::json!({ "metadata": {} })),
        pool("p", serde_json::json!({ "addresses": ["192.0.2.0/24"] })),
        object(Kind::BgpPeer, "tor", serde_json::json!({ "spec": spec })),
        object(
            Kind::BgpAdvertisement,
            "ad",
            serde_json::json!({ "spec": {} }),
        ),
        object(Kind::Service, "web", web),
    ] {
        index.apply(change);
    }
    let status = DaemonStatus::default();
    let mut shown = |change: Change| {
        index.apply(change);
        let routes = NodeRoutes::of(&index, "node-a");
        status.announced.update_all(&index, &routes, |_| true);
        let text = rendered(&status, &[]);
        for (name, expected) in [
            (
                "ferrolb_services_announced{protocol=\"bgp\"}",
                status.announced.count(),
            ),
            (
                "ferrolb_services_withheld{reason=\"NoEndpoints\"}",
                1 - status.announced.count(),
            ),
        ] {
            let is_shown = text.contains(&format!("{name} {expected}\n"));
            assert!(is_shown || expected == 0, "{name}: {text}");
        }
        lines(&text, "metallb_speaker_announced").join(" ")
    };
    let series = "metallb_speaker_announced{ip=\"192.0.2.1\",node=\"node-a\",protocol=\"bgp\",\
                  service=\"default/web\"} 1";
    assert_eq!(shown(slice(true)), series);
    assert_eq!(shown(slice(false)), "");
}

#[test]
fn the_buckets_of_a_histogram_are_cumulative_and_have_no_label_of_a_peer() {
    let text = rendered(
        &DaemonStatus::default(),
        &statuses([peer("tor-a", "10.0.0.1:179")]),
    );
    let count = |stage: &str, bound: &str| {
        let line =
            format!("ferrolb_convergence_seconds_bucket{{stage=\"{stage}\",le=\"{bound}\"}} ");
        let mut counts = text.lines().filter_map(|found| found.strip_prefix(&line));
        counts
            .next()
            .unwrap_or_else(|| panic!("{line}: {text}"))
            .to_owned()
    };
    let bounds = ["0.001", "0.003", "0.01", "30", "+Inf"];
    let counts = |stage| bounds.map(|bound| count(stage, bound));
    assert_eq!(counts("decided"), ["0", "0", "3", "3", "3"]);
    assert_eq!(counts("acknowledged"), ["0", "0", "0", "0", "1"]);
    for line in [
        "# TYPE ferrolb_convergence_seconds histogram",
        "ferrolb_convergence_seconds_sum{stage=\"decided\"} 0.025",
        "ferrolb_convergence_seconds_count{stage=\"written\"} 0",
        "ferrolb_convergence_seconds_count{stage=\"acknowledged\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let all = lines(&text, "ferrolb_convergence_seconds_bucket");
    assert_eq!(all.len(), 3 * 11, "{all:?}");
}
