use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::core::api::RawObject;
use crate::core::api::metallb_pod::MetallbPod;
use crate::core::index::change::Change;
use crate::runtime::gate::GateOptions;
use crate::runtime::source::{
    ApiWriteReceiver, SessionChannels, StatusReceiver, api_writes, status_writes,
};
use crate::runtime::status::Probe;

/// A configuration object, or a Service in the namespace `default`.
fn object(kind: Kind, name: &str, mut body: Value) -> RawObject {
    let namespace = match kind {
        Kind::Service => "default",
        _ => "metallb-system",
    };
    body["kind"] = json!(kind.name());
    body["apiVersion"] = json!(kind.api_version());
    body["metadata"] = json!({ "name": name, "namespace": namespace });
    serde_json::from_value(body).expect("an object")
}

fn key(name: &str, data: &Value) -> RawObject {
    object(Kind::Secret, name, json!({ "data": data }))
}

/// A leader with its source, and what it writes.
struct Leader {
    control: ControlLoop,
    source: Source,
    /// The source ends without it.
    events: mpsc::Sender<Event>,
    statuses: StatusReceiver,
    writes: ApiWriteReceiver,
}

/// A leader that reads a pool, a Service and these objects.
async fn leader(objects: Vec<RawObject>) -> Leader {
    let pool = json!({ "spec": { "addresses": ["192.0.2.0/24"] } });
    let service = json!({ "spec": {
        "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }],
    } });
    let mut objects: Vec<_> = objects
        .into_iter()
        .chain([
            object(Kind::IpAddressPool, "pool", pool),
            object(Kind::Service, "web", service),
        ])
        .map(|raw| (raw.key("default").expect("a known kind"), raw))
        .collect();
    let (events_in, events) = mpsc::channel(64);
    for kind in Kind::ALL {
        let of_kind = objects.extract_if(.., |(key, _)| key.kind == kind);
        let reset = Change::Reset(kind, of_kind.collect());
        events_in.send(Event::Change(reset)).await.expect("room");
    }
    events_in.send(Event::Leading(true)).await.expect("room");
    let (status, statuses) = status_writes();
    let (writes, received_writes) = api_writes();
    let source = Source {
        events,
        status,
        writes,
        needs_endpoints: watch::channel(false).0,
        sessions: SessionChannels::unconnected(),
    };
    let control = ControlLoop {
        kinds: &Kind::ALL,
        announcer: None,
        layer2: None,
        gate: Gate::open(),
        allocate: true,
        ignore_exclusion: false,
        lb_class: None,
        saved: None,
        interface_exists: |_| true,
        host_addresses: || Ok(BTreeSet::new()),
        discards: Discards::default(),
        questions: Questions::default(),
        status: watch::channel(Arc::default()).0,
    };
    Leader {
        control,
        source,
        events: events_in,
        statuses,
        writes: received_writes,
    }
}

/// What a leader writes, besides statuses, when it allocates.
async fn write_of(objects: Vec<RawObject>) -> Option<ApiWrite> {
    let mut leader = leader(objects).await;
    let (_stop, stopped) = oneshot::channel();
    tokio::select! {
        _ = leader.control.run(&mut leader.source, stopped) => panic!("it ended"),
        // The key is requested before addresses are allocated.
        write = leader.statuses.recv() => assert!(write.is_some()),
    }
    drop(leader.source);
    loop {
        match leader.writes.recv().await {
            Some(ApiWrite::ObjectStatus(..) | ApiWrite::Event(_)) => {}
            write => return write,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_writes_the_status_of_pools() {
    let mut leader = leader(Vec::new()).await;
    let (_stop, stopped) = oneshot::channel();
    let written = async {
        loop {
            match leader.writes.recv().await {
                Some(ApiWrite::ObjectStatus(pool, status)) => return (pool, status),
                Some(ApiWrite::Event(_)) => {}
                write => panic!("{write:?}"),
            }
        }
    };
    let (pool, status) = tokio::select! {
        _ = leader.control.run(&mut leader.source, stopped) => panic!("it ended"),
        written = written => written,
    };
    assert_eq!(pool.to_string(), "IPAddressPool metallb-system/pool");
    let counts = status.counts.expect("counts");
    assert_eq!(counts.assigned_ipv4 + counts.available_ipv4, 256);
}

/// The leader of a cluster with a Service that no node announces.
async fn leader_of_withheld_service() -> Leader {
    let api = json!({
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.2", "ports": [{ "port": 80 }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.9" }] } },
    });
    let peer = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1" });
    let objects = vec![
        object(Kind::Service, "api", api),
        object(Kind::Node, "a", json!({})),
        object(Kind::BgpPeer, "tor", json!({ "spec": peer })),
    ];
    leader(objects).await
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stood_still_decides_again_before_it_writes_a_condition() {
    let mut leader = leader_of_withheld_service().await;
    let (_stop, stopped) = oneshot::channel();
    let begin = Instant::now();
    let written = async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        tokio::time::advance(Duration::from_secs(20)).await;
        loop {
            match leader.writes.recv().await {
                Some(ApiWrite::Condition(_)) => return begin.elapsed(),
                Some(_) => {}
                None => panic!("it ended"),
            }
        }
    };
    let elapsed = tokio::select! {
        _ = leader.control.run(&mut leader.source, stopped) => panic!("it ended"),
        elapsed = written => elapsed,
    };
    // Not at once after the pause, when another process may lead.
    assert!(elapsed >= Duration::from_secs(38), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_leader_writes_once_that_no_node_announces_a_service() {
    let mut leader = leader_of_withheld_service().await;
    let (_stop, stopped) = oneshot::channel();
    let written = async {
        let mut warned = None;
        loop {
            match leader.writes.recv().await {
                Some(ApiWrite::Event(event)) if event.reason == "NotAnnounced" => {
                    warned = Some(event.service);
                }
                Some(ApiWrite::Condition(write)) => return (write, warned),
                Some(ApiWrite::ObjectStatus(..) | ApiWrite::Event(_)) => {}
                write => panic!("{write:?}"),
            }
        }
    };
    let (write, warned) = tokio::select! {
        _ = leader.control.run(&mut leader.source, stopped) => panic!("it ended"),
        written = written => written,
    };
    assert_eq!(write.service.to_string(), "default/api");
    assert_eq!(warned, None, "the Event follows the condition");
    let condition = write.condition.expect("a condition");
    assert_eq!(
        (condition.announced, &*condition.reason),
        (false, "NoAdvertisement")
    );
}

/// Two nodes that announce Services to a router, and an advertisement with this floor.
fn rack(min_announcers: u32) -> Vec<RawObject> {
    let peer = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1" });
    let pool = json!({ "addresses": ["10.1.0.0/16"] });
    let floor = json!({ "minAnnouncers": min_announcers });
    vec![
        object(Kind::Node, "a", json!({})),
        object(Kind::Node, "b", json!({})),
        object(Kind::BgpPeer, "tor", json!({ "spec": peer })),
        object(Kind::IpAddressPool, "big", json!({ "spec": pool })),
        object(
            Kind::FerrolbBgpAdvertisement,
            "ad",
            json!({ "spec": floor }),
        ),
    ]
}

/// A Service with an address, and its endpoint.
fn announced(number: usize) -> [RawObject; 2] {
    let name = format!("web-{number}");
    let address = format!("10.1.{}.{}", number / 250, number % 250);
    let service = json!({
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.2", "ports": [{ "port": 80 }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": address }] } },
    });
    let slice = json!({
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["10.2.0.1"], "conditions": { "ready": true } }],
    });
    let mut slice = object(Kind::EndpointSlice, &name, slice);
    slice.metadata.namespace = Some("default".to_owned());
    let label = ("kubernetes.io/service-name".to_owned(), name.clone());
    slice.metadata.labels = [label].into();
    [object(Kind::Service, &name, service), slice]
}

#[tokio::test(start_paused = true)]
async fn each_of_a_thousand_services_that_fall_below_their_floor_has_an_event() {
    const SERVICES: usize = 1000;
    let services = (0..SERVICES).flat_map(announced);
    let mut leader = leader(rack(2).into_iter().chain(services).collect()).await;
    let mut status = leader.control.status.subscribe();
    let events = leader.events.clone();
    let written = async {
        let decided = status.wait_for(|status| status.leading && status.ready());
        assert_eq!(decided.await.expect("it runs").below_floor, 0);
        let node = object(Kind::Node, "b", json!({})).key("").expect("a kind");
        let gone = Event::Change(Change::Delete(node));
        events.send(gone).await.expect("room");
        let fallen = status.wait_for(|status| status.below_floor == SERVICES);
        fallen.await.expect("it runs");
        let mut fallen = BTreeSet::new();
        while fallen.len() < SERVICES {
            match leader.writes.recv().await {
                Some(ApiWrite::Event(event)) if event.reason == "MinAnnouncersNotMet" => {
                    assert!(!event.may_be_known && fallen.insert(event.service));
                }
                Some(_) => {}
                None => panic!("it ended"),
            }
        }
    };
    let (_stop, stopped) = oneshot::channel();
    tokio::select! {
        _ = leader.control.run(&mut leader.source, stopped) => panic!("it ended"),
        () = written => {}
    }
}

/// An announcer that reads a Node, and what it writes.
async fn delayed_announcer() -> (Leader, watch::Receiver<Arc<DaemonStatus>>) {
    let mut delayed = leader(vec![object(Kind::Node, "a", json!({}))]).await;
    let options = ferrolb_bgp::speaker::SpeakerOptions::default();
    let (engine, _) = ferrolb_bgp::speaker::spawn(options).expect("an engine");
    delayed.control.announcer = Some(Announcer::new("a".to_owned(), engine, None));
    delayed.control.allocate = false;
    delayed.control.gate = Gate::new(GateOptions {
        asks_for_speaker: true,
        proxy: None,
        announced: BTreeSet::new(),
    });
    let status = delayed.control.status.subscribe();
    (delayed, status)
}

#[tokio::test]
async fn beside_metallbs_speaker_a_process_announces_nothing_and_an_event_says_so() {
    let (mut delayed, mut status) = delayed_announcer().await;
    let (_stop, stopped) = oneshot::channel();
    let events = delayed.events.clone();
    let speaker = |pod: Option<&str>| Event::MetallbSpeaker(pod.map(str::to_owned));
    let writes = &mut delayed.writes;
    let follow = async {
        events
            .send(speaker(Some("ns/speaker-x")))
            .await
            .expect("room");
        let withheld = status.wait_for(|status| !status.withheld.is_empty()).await;
        let withheld = withheld.expect("it runs").clone();
        assert_eq!(withheld.withheld[0].reason, Reason::MetallbSpeaker);
        assert!(!withheld.initialized && !withheld.ready());
        let Some(ApiWrite::NodeEvent(event)) = writes.recv().await else {
            panic!("no Event on the Node");
        };
        assert_eq!((event.reason, event.warning), ("MetalLBSpeakerRuns", true));
        events.send(speaker(None)).await.expect("room");
        status
            .wait_for(|status| status.ready())
            .await
            .expect("it runs");
        let Some(ApiWrite::NodeEvent(event)) = writes.recv().await else {
            panic!("no Event on the Node");
        };
        assert_eq!(
            (event.reason, event.warning),
            ("MetalLBSpeakerEnded", false)
        );
        events
            .send(speaker(Some("ns/speaker-y")))
            .await
            .expect("room");
        let seen = status.wait_for(|status| status.metallb_speaker.is_some());
        assert!(
            seen.await.expect("it runs").ready(),
            "what is announced stays"
        );
    };
    tokio::select! {
        _ = delayed.control.run(&mut delayed.source, stopped) => panic!("it ended"),
        () = follow => {}
    }
}

#[tokio::test(start_paused = true)]
async fn while_metallbs_controller_runs_an_allocator_is_not_ready_and_an_event_says_so() {
    let mut leader = leader(Vec::new()).await;
    let mut status = leader.control.status.subscribe();
    let pod = MetallbPod::of(&json!({
        "metadata": {
            "namespace": "lb", "name": "controller-x", "uid": "u-1",
            "labels": {"app": "metallb", "component": "controller"},
        },
    }));
    let events = leader.events.clone();
    let writes = &mut leader.writes;
    let (_stop, stopped) = oneshot::channel();
    let follow = async {
        let runs = Event::MetallbController(pod.map(Box::new));
        events.send(runs).await.expect("room");
        let event = loop {
            match writes.recv().await {
                Some(ApiWrite::ObjectEvent(event)) => break event,
                Some(_) => {}
                None => panic!("no Event about the Pod"),
            }
        };
        assert_eq!(event.object.to_string(), "lb/controller-x");
        assert_eq!(
            (event.reason, &*event.uid, event.warning),
            ("MetalLBControllerRuns", "u-1", true)
        );
        let seen = status.wait_for(|status| status.metallb_controller.is_some());
        let seen = seen.await.expect("it runs").clone();
        assert!(seen.config.is_some() && !seen.ready());
        let refusal = seen.probe(Probe::Ready).expect_err("it allocates nothing");
        assert!(refusal.contains("MetalLB's controller runs"), "{refusal}");
        let ended = Event::MetallbController(None);
        events.send(ended).await.expect("room");
        let ready = status.wait_for(|status| status.ready());
        assert_eq!(ready.await.expect("it runs").metallb_controller, None);
    };
    tokio::select! {
        _ = leader.control.run(&mut leader.source, stopped) => panic!("it ended"),
        () = follow => {}
    }
}

#[test]
fn a_shared_address_counts_once_as_in_use() {
    let mut index = Index::default();
    for (name, port) in [("web", 80), ("dns", 53)] {
        let ports = json!([{ "port": port }]);
        let body = json!({
            "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": ports },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
        });
        let raw = object(Kind::Service, name, body);
        index.apply(Change::Apply(raw.key("default").expect("a kind"), raw));
    }
    assert_eq!(in_use(&index).len(), 1);
}

fn l2_advertisement() -> RawObject {
    object(Kind::L2Advertisement, "lan", json!({ "spec": {} }))
}

#[tokio::test(start_paused = true)]
async fn the_leader_requests_a_key_of_hellos_only_if_an_l2_advertisement_needs_it() {
    assert_eq!(write_of(Vec::new()).await, None);
    let write = write_of(vec![l2_advertisement()]).await;
    assert_eq!(write, Some(ApiWrite::CreateHelloKey));
    // Another Secret.
    let write = write_of(vec![l2_advertisement(), key("tor", &json!({}))]).await;
    assert_eq!(write, Some(ApiWrite::CreateHelloKey));
}

#[tokio::test(start_paused = true)]
async fn the_leader_requests_no_key_of_hellos_where_a_secret_exists_valid_or_not() {
    let valid = json!({ "secretkey": "MDEyMzQ1Njc4OWFiY2RlZg==" });
    for secret in [
        key("memberlist", &valid),
        key("ferrolb-layer2", &valid),
        key("memberlist", &json!({})),
    ] {
        let name = secret.metadata.name.clone();
        let write = write_of(vec![l2_advertisement(), secret]).await;
        assert_eq!(write, None, "{name}");
    }
}
