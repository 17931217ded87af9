//! The first routes of many Services: a peer receives no route without the contributions of later
//! Services.

mod rack;

use std::net::Ipv4Addr;
use std::time::Instant;

use ferrolb::testing::{Announcer, Change, Dirty, Index, Kind, RawObject};
use ferrolb_bgp::fsm::{Event, SpeakerConfig};
use ferrolb_bgp::speaker::{self, SpeakerOptions};
use ferrolb_bgp::wire::{ExtendedCommunity, LinkBandwidth};
use rack::{Router, TIMEOUT};
use serde_json::{Value, json};
use tokio::time::timeout;

/// More Services than the announcer handles in one batch.
const SERVICES: usize = 1001;
/// Link bandwidth of one endpoint, in octets per second.
const PER_ENDPOINT: f32 = 125_000_000.0;

fn apply(index: &mut Index, kind: Kind, name: &str, mut body: Value) -> Dirty {
    body["kind"] = json!(kind.name());
    body["apiVersion"] = json!(kind.api_version());
    body["metadata"]["name"] = json!(name);
    if matches!(kind, Kind::Service | Kind::EndpointSlice) {
        body["metadata"]["namespace"] = json!("default");
    }
    let raw: RawObject = serde_json::from_value(body).expect("an object");
    let key = raw.key("metallb-system").expect("a known kind");
    index.apply(Change::Apply(key, raw))
}

/// A Service with this address, or without one.
fn service(address: Option<&str>) -> Value {
    let mut service = json!({ "spec": {
        "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }],
        "externalTrafficPolicy": "Local",
    } });
    if let Some(address) = address {
        service["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": address }] } });
    }
    service
}

/// The first and the last Service have an endpoint on the node and an address each, in one
/// aggregate. Those between have neither.
fn index(node: Ipv4Addr, router: &Router) -> Index {
    let mut index = Index::default();
    let address = router.address;
    let peer = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": address.ip(), "peerPort": address.port(),
        "sourceAddress": node, "linkBandwidth": "transitive",
    });
    let pool = json!({ "spec": { "addresses": ["192.0.2.0/24"] } });
    let advertisement = json!({ "spec": { "aggregationLength": 24 } });
    apply(&mut index, Kind::Node, "node-a", json!({}));
    apply(&mut index, Kind::IpAddressPool, "pool", pool);
    apply(&mut index, Kind::BgpAdvertisement, "all", advertisement);
    apply(
        &mut index,
        Kind::FerrolbBgpPeer,
        "tor",
        json!({ "spec": peer }),
    );
    for number in 0..SERVICES {
        let name = format!("service-{number:04}");
        let address = match number {
            0 => Some("192.0.2.1"),
            last if last == SERVICES - 1 => Some("192.0.2.2"),
            _ => None,
        };
        if address.is_some() {
            let slice = json!({
                "metadata": { "labels": { "kubernetes.io/service-name": name } },
                "addressType": "IPv4",
                "endpoints": [{ "addresses": ["10.1.0.1"], "nodeName": "node-a" }],
            });
            apply(&mut index, Kind::EndpointSlice, &name, slice);
        }
        apply(&mut index, Kind::Service, &name, service(address));
    }
    index
}

/// An announcer on an address of its own, and the events of its engine.
fn announcer(node: Ipv4Addr) -> (Announcer, impl Sized) {
    let options = SpeakerOptions {
        speaker: SpeakerConfig {
            router_id_fallback: node,
            ..SpeakerOptions::default().speaker
        },
        listen: Vec::new(),
    };
    let (engine, events) = speaker::spawn(options).expect("an engine");
    (Announcer::new("node-a".into(), engine, None), events)
}

#[tokio::test]
async fn the_first_route_of_a_prefix_has_the_weight_of_all_services() {
    let node = Ipv4Addr::new(127, 0, 0, 125);
    let mut router = Router::start(node, false);
    let (mut announcer, _events) = announcer(node);
    let index = index(node, &router);
    announcer.update(Instant::now(), &index, &Dirty::default(), None);
    let update = loop {
        let event = timeout(TIMEOUT, router.events.recv()).await;
        let event = event.expect("no route").expect("the router runs");
        if let Event::Received { update, .. } = event
            && update.announced().next().is_some()
        {
            break update;
        }
    };
    let prefixes: Vec<String> = update
        .announced()
        .map(|prefix| prefix.to_string())
        .collect();
    assert_eq!(prefixes, ["192.0.2.0/24"]);
    let weight = ExtendedCommunity::from(LinkBandwidth {
        asn: 64512,
        octets_per_second: 2.0 * PER_ENDPOINT,
        transitive: true,
    });
    assert_eq!(update.attributes.extended_communities, [weight]);
}

#[tokio::test]
async fn a_service_without_address_changes_no_route() {
    let node = Ipv4Addr::new(127, 0, 0, 126);
    let router = Router::start(node, false);
    let (mut announcer, _events) = announcer(node);
    let mut index = index(node, &router);
    assert!(announcer.update(Instant::now(), &index, &Dirty::default(), None));
    let dirty = apply(&mut index, Kind::Service, "new", service(None));
    assert!(!announcer.update(Instant::now(), &index, &dirty, None));

    let last = format!("service-{:04}", SERVICES - 1);
    let mut dirty = apply(&mut index, Kind::Service, "service-0000", service(None));
    dirty.merge(apply(&mut index, Kind::Service, &last, service(None)));
    assert!(announcer.update(Instant::now(), &index, &dirty, None));
}
