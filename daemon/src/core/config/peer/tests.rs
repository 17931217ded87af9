use std::time::Duration;

use ferrolb_bgp::config::{GracefulRestart, Impact};
use serde_json::{Value, json};

use super::*;
use crate::core::api::{Kind, ObjectName};

// Invalid fields are in `daemon/tests/specs/bgppeer.yaml`.

/// Reads a spec as the object of a group. The Secret "good" and the BFDProfile "fast" exist.
fn read(kind: Kind, spec: &Value) -> Result<Peer, String> {
    let object = ObjectKey::new(kind, ObjectName::new("metallb-system", "tor"));
    let base: BgpPeerSpec = serde_json::from_value(spec.clone()).map_err(|e| e.to_string())?;
    let ferrolb: FerrolbBgpPeerSpec =
        serde_json::from_value(spec.clone()).map_err(|e| e.to_string())?;
    let resource = PeerResource {
        object: &object,
        created: "",
        spec: &base,
        ferrolb: (kind == Kind::FerrolbBgpPeer).then_some(&ferrolb),
    };
    let password = |name: &str| match name {
        "good" => Ok(Some(Password::new("pw".into()))),
        _ => Err(format!("no Secret {name}")),
    };
    let profile = |name: &str| match name {
        "fast" => Ok(SessionConfig::default()),
        _ => Err(format!("no BFDProfile {name}")),
    };
    parse(resource, password, profile).map_err(|error| error.to_string())
}

/// The minimal BGPPeer plus `more`. Null removes a field.
fn with(more: Value) -> Value {
    let mut spec = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1" });
    let (Some(spec_fields), Value::Object(more)) = (spec.as_object_mut(), more) else {
        unreachable!()
    };
    for (field, value) in more {
        match value {
            Value::Null => _ = spec_fields.remove(&field),
            value => _ = spec_fields.insert(field, value),
        }
    }
    spec
}

fn ferrolb_peer(more: Value) -> Peer {
    read(Kind::FerrolbBgpPeer, &with(more)).expect("a valid peer")
}

fn metallb_peer(more: Value) -> Peer {
    read(Kind::BgpPeer, &with(more)).expect("a valid peer")
}

#[test]
fn a_metallb_peer_means_the_same_in_our_group_except_for_graceful_restart() {
    let spec = with(json!({
        "dynamicASN": "external", "peerASN": null, "localASN": 64999, "peerPort": 1790,
        "sourceAddress": "10.0.0.9", "holdTime": "9s", "keepaliveTime": "3s", "connectTime": "5s",
        "routerID": "1.2.3.4", "nodeSelectors": [{ "matchLabels": { "rack": "a" } }],
        "passwordSecret": { "name": "good" }, "bfdProfile": "fast", "ebgpMultiHop": true,
        "dualStackAddressFamily": true, "enableGracefulRestart": false,
    }));
    let theirs = read(Kind::BgpPeer, &spec).expect("a valid peer");
    let ours = read(Kind::FerrolbBgpPeer, &spec).expect("a valid peer");
    assert_eq!(theirs.session, ours.session);
    assert_eq!((&theirs.nodes, theirs.drain), (&ours.nodes, ours.drain));
    let session = theirs.session;
    assert_eq!(session.remote_asn, RemoteAsn::External);
    assert_eq!(session.local_asn, Asn(64999));
    assert_eq!(
        session.remote,
        Remote::Router("10.0.0.1:1790".parse().expect("an address"))
    );
    assert_eq!(session.timers.hold_time.as_secs(), 9);
    assert_eq!(session.timers.connect_retry, Some(Duration::from_secs(5)));
    assert!(session.transport.multihop && session.transport.password.is_some());
    assert!(session.bfd.is_some_and(|bfd| !bfd.strict));
    assert_eq!(session.families.len(), 2);
}

#[test]
fn graceful_restart_is_on_by_default_in_our_group_only_and_survives_notifications_only_with_bfd() {
    let restart = |peer: Peer| peer.session.graceful_restart;
    let default = GracefulRestart::default();
    assert_eq!(restart(metallb_peer(json!({}))), None);
    assert_eq!(
        restart(metallb_peer(json!({ "enableGracefulRestart": true }))),
        Some(default)
    );
    assert_eq!(restart(ferrolb_peer(json!({}))), Some(default));
    assert_eq!(
        restart(ferrolb_peer(json!({ "enableGracefulRestart": false }))),
        None
    );
    let with_bfd = restart(ferrolb_peer(
        json!({ "restartTime": "2m", "bfdProfile": "fast" }),
    ));
    let expected = GracefulRestart {
        restart_time: 120,
        notification: true,
    };
    assert_eq!(with_bfd, Some(expected));
}

#[test]
fn fields_of_our_group_only_reach_the_session() {
    let peer = ferrolb_peer(json!({
        "passive": true, "ttlSecurity": 2, "sourceInterface": "eth1", "sendHoldTime": "10m",
        "prefixLimit": 1000, "bfdProfile": "fast", "bfdStrict": true, "shutdownText": "see you",
        "linkBandwidth": "nonTransitive",
        "drain": { "time": "5s", "onCordon": true }, "prepend": 2, "med": 0,
    }));
    let session = &peer.session;
    assert!(session.transport.passive && session.dials().is_none());
    assert_eq!(session.transport.ttl_security, Some(2));
    assert_eq!(session.transport.source_interface.as_deref(), Some("eth1"));
    assert_eq!(
        session.timers.send_hold_time,
        Some(Duration::from_secs(600))
    );
    assert_eq!(session.prefix_limit, Some(1000));
    assert!(session.bfd.is_some_and(|bfd| bfd.strict));
    assert_eq!(session.shutdown_text.as_deref(), Some("see you"));
    assert_eq!(peer.link_bandwidth, LinkBandwidth::NonTransitive);
    let drain = Drain {
        time: Duration::from_secs(5),
        on_cordon: true,
    };
    assert_eq!((peer.drain, peer.prepend, peer.med), (drain, 2, Some(0)));
    let default = ferrolb_peer(json!({}));
    assert_eq!(
        (default.drain, default.link_bandwidth),
        (Drain::default(), LinkBandwidth::Off)
    );
}

#[test]
fn a_keepalive_time_of_0_beside_a_hold_time_is_a_third_of_it() {
    for kind in [Kind::BgpPeer, Kind::FerrolbBgpPeer] {
        let session = |more: Value| read(kind, &with(more)).expect("a valid peer").session;
        let zero = session(json!({ "holdTime": "90s", "keepaliveTime": "0s" }));
        assert_eq!(zero.timers, session(json!({ "holdTime": "90s" })).timers);
        assert_eq!(zero.timers.keepalive_time, None);
        // Without a hold timer there are no KEEPALIVEs in either case (RFC 4271 §4.4).
        let off = session(json!({ "holdTime": "0s", "keepaliveTime": "0s" }));
        assert_eq!(off.timers, session(json!({ "holdTime": "0s" })).timers);
    }
}

#[test]
fn the_hold_time_and_the_keepalive_time_follow_from_each_other() {
    let times = |more: Value| {
        let timers = metallb_peer(more).session.timers;
        let keepalive = timers.keepalive_time.map(|time| time.as_secs());
        (timers.hold_time.as_secs(), keepalive)
    };
    // Without a keepalive time, a third of the negotiated hold time (RFC 4271 §4.4).
    assert_eq!(times(json!({})), (90, None));
    assert_eq!(times(json!({ "holdTime": "30s" })), (30, None));
    assert_eq!(times(json!({ "keepaliveTime": "10s" })), (30, Some(10)));
    let both = json!({ "holdTime": "30s", "keepaliveTime": "5s" });
    assert_eq!(times(both), (30, Some(5)));
    let off = json!({ "holdTime": "0s", "keepaliveTime": "0s" });
    assert_eq!(times(off), (0, None));
    assert_eq!(times(json!({ "holdTime": "0" })), (0, None));
    assert_eq!(times(json!({ "holdTime": "3900ms" })), (3, None));
}

#[test]
fn the_port_of_a_router_is_179_unless_it_is_configured() {
    let remote = |more: Value| metallb_peer(more).session.remote;
    let router = |text: &str| Remote::Router(text.parse().expect("an address"));
    assert_eq!(remote(json!({})), router("10.0.0.1:179"));
    assert_eq!(
        remote(json!({ "peerPort": 16384 })),
        router("10.0.0.1:16384")
    );
}

/// MetalLB's FRR modes announce both families over an unnumbered session, as here.
#[test]
fn an_interface_may_replace_the_address() {
    let unnumbered = |more: Value| {
        let mut spec = json!({ "peerAddress": null, "interface": "eth1" });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        spec
    };
    let peer = metallb_peer(unnumbered(
        json!({ "peerASN": null, "dynamicASN": "external" }),
    ));
    let session = &peer.session;
    assert_eq!(session.remote, Remote::unknown_on_link(179));
    let interface = session.transport.source_interface.as_deref();
    assert_eq!(interface, Some("eth1"));
    assert_eq!(session.address_text(), "eth1");
    assert!(peer.carries(Family::V4) && peer.carries(Family::V6));
    let both = [wire::Family::IPV4_UNICAST, wire::Family::IPV6_UNICAST];
    assert_eq!(session.families, both);
    let other_port = metallb_peer(unnumbered(json!({ "peerPort": 1790 })));
    assert_eq!(other_port.session.remote, Remote::unknown_on_link(1790));
    // The router is on the link.
    let multihop = metallb_peer(unnumbered(json!({ "ebgpMultiHop": true })));
    assert!(!multihop.session.transport.multihop);
    let same = unnumbered(json!({ "sourceInterface": "eth1", "ttlSecurity": 1 }));
    assert_eq!(ferrolb_peer(same).session.transport.ttl_security, Some(1));
}

#[test]
fn multihop_has_no_effect_on_ibgp() {
    let internal = json!({ "peerASN": null, "dynamicASN": "internal" });
    let mut multihop = internal.clone();
    multihop["ebgpMultiHop"] = json!(true);
    assert_eq!(
        metallb_peer(multihop).session,
        metallb_peer(internal).session
    );
}

#[test]
fn an_ipv4_mapped_address_is_an_ipv4_address() {
    let mapped = json!({ "peerAddress": "::ffff:10.0.0.1", "sourceAddress": "::ffff:10.0.0.9" });
    let plain = json!({ "sourceAddress": "10.0.0.9" });
    assert_eq!(metallb_peer(mapped).session, metallb_peer(plain).session);
    let network =
        |text: &str| ferrolb_peer(json!({ "peerAddress": null, "peerNetwork": text })).session;
    assert_eq!(network("::ffff:10.0.0.0/120"), network("10.0.0.0/24"));
}

#[test]
fn a_network_may_replace_the_address() {
    let peer = ferrolb_peer(json!({
        "peerAddress": null, "peerNetwork": "fd00:1::7/64", "dynamicASN": "auto", "peerASN": null,
    }));
    let network = Remote::Network("fd00:1::/64".parse().expect("a network"));
    assert_eq!(peer.session.remote, network);
    assert!(peer.carries(Family::V6) && !peer.carries(Family::V4));
    assert_eq!((peer.session.dials(), peer.is_ibgp()), (None, None));
}

#[test]
fn a_change_of_bfd_timers_does_not_reset_the_session() {
    let before = ferrolb_peer(json!({ "bfdProfile": "fast" })).session;
    let mut after = before.clone();
    if let Some(bfd) = &mut after.bfd {
        bfd.session.min_ttl = 1;
    }
    assert_ne!(before, after);
    assert_eq!(after.impact(&before), Impact::None);
}

#[test]
fn a_dynamic_asn_of_our_group_only_is_rejected_with_the_remedy() {
    let auto = with(json!({ "peerASN": null, "dynamicASN": "auto" }));
    let error = read(Kind::BgpPeer, &auto).expect_err("not MetalLB's");
    assert!(error.contains("change apiVersion"), "{error}");
}

/// At the lengths that a table of texts would not show.
#[test]
fn a_shutdown_text_has_at_most_255_octets() {
    let text = |length: usize| {
        let spec = with(json!({ "shutdownText": "x".repeat(length) }));
        read(Kind::FerrolbBgpPeer, &spec).map(drop)
    };
    assert_eq!(text(255), Ok(()));
    let error = text(256).expect_err("too long");
    assert!(
        error.starts_with("spec.shutdownText: has 256 octets"),
        "{error}"
    );
}

#[test]
fn all_errors_of_a_peer_are_reported_at_once() {
    let error = read(
        Kind::FerrolbBgpPeer,
        &with(json!({
            "myASN": 0, "peerASN": 0, "peerAddress": "tor", "sourceAddress": "x",
            "vrf": "red", "routerID": "y",
            "holdTime": "1s", "connectTime": "z", "sendHoldTime": "0s", "bfdProfile": "none",
            "prefixLimit": 0,
            "passwordSecret": { "name": "none" }, "ttlSecurity": 0, "sourceInterface": "a/b",
            "prepend": 200,
            "drain": { "time": "1h" },
            "nodeSelectors": [{ "matchExpressions": [{ "key": "a", "operator": "Like" }] }],
        })),
    );
    let error = error.expect_err("an invalid peer");
    for field in [
        "myASN",
        "peerASN",
        "peerAddress",
        "sourceAddress",
        "vrf",
        "routerID",
        "holdTime",
        "connectTime",
        "sendHoldTime",
        "bfdProfile",
        "prefixLimit",
        "passwordSecret",
        "ttlSecurity",
        "sourceInterface",
        "prepend",
        "drain.time",
        "nodeSelectors[0]",
    ] {
        let path = format!("spec.{field}");
        assert_eq!(error.matches(&path).count(), 1, "{path} in {error}");
    }
}

#[test]
fn a_source_network_is_accepted_in_our_group_only() {
    let network = |text: &str| ferrolb_peer(json!({ "sourceAddress": text })).source_network;
    assert_eq!(network("10.0.7.9/24"), "10.0.7.0/24".parse().ok());
    assert_eq!(network("::ffff:10.0.7.0/120"), "10.0.7.0/24".parse().ok());
    assert_eq!(network("10.0.0.9"), None);
    let peer = ferrolb_peer(json!({ "sourceAddress": "10.0.7.0/24" }));
    assert_eq!(
        peer.session.transport.source_address, None,
        "each node chooses"
    );

    let spec = with(json!({ "sourceAddress": "10.0.7.0/24" }));
    let error = read(Kind::BgpPeer, &spec).expect_err("an invalid peer");
    assert!(
        error.contains("spec.sourceAddress: \"10.0.7.0/24\" is not an IP address"),
        "{error}"
    );
}

#[test]
fn a_node_uses_its_lowest_address_in_the_network() {
    let network = "10.0.7.0/24".parse().expect("a network");
    let peer = ferrolb_peer(json!({ "sourceAddress": "10.0.7.0/24" }));
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let chosen = peer.with_source_in(
        network,
        &addresses(&["fd00::1", "10.0.7.100", "10.0.7.20", "10.0.6.1"]),
    );
    let chosen = chosen.map(|peer| peer.session.transport.source_address);
    assert_eq!(chosen, Ok("10.0.7.20".parse().ok()));

    let none = |texts: &[&str]| peer.with_source_in(network, &addresses(texts)).unwrap_err();
    let error = none(&["10.0.8.1", "10.0.6.1", "fd00::1"]);
    assert_eq!(
        error,
        "spec.sourceAddress: no interface of the node has an address in 10.0.7.0/24; its \
         addresses are 10.0.6.1, 10.0.8.1: correct the network, add an address to the node, or \
         exclude the node with nodeSelectors"
    );
    let error = none(&["fd00::1"]);
    assert!(
        error.contains("its addresses are none of that family:"),
        "{error}"
    );
    let many: Vec<String> = (1..=20).map(|end| format!("10.0.8.{end}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let error = none(&many);
    assert!(error.contains("10.0.8.8 and 12 more: correct"), "{error}");
}

#[test]
fn the_place_of_the_password_is_known() {
    let place = |more| metallb_peer(more).password_place;
    assert_eq!(place(json!({})), None);
    assert_eq!(
        place(json!({ "password": "pw" })),
        Some(PasswordPlace::Field)
    );
    assert_eq!(
        place(json!({ "passwordSecret": { "name": "good" } })),
        Some(PasswordPlace::Secret("good".into()))
    );
}
