use std::net::IpAddr;

use ferrolb_layer2::status::{AddressStatus, NodeState, OwnerReason, Status, Traffic};
use serde_json::{Value, json};

use super::*;
use crate::core::api::RawObject;
use crate::core::index::change::Change;
use crate::core::model::ServiceEvent;
use crate::runtime::source::{ApiWrite, api_writes};

fn refuses(_: Options) -> io::Result<(Handle, mpsc::UnboundedReceiver<Event>)> {
    let error = "packet sockets are refused: the process needs NET_RAW";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, error))
}

fn fails(_: Options) -> io::Result<(Handle, mpsc::UnboundedReceiver<Event>)> {
    Err(io::ErrorKind::Unsupported.into())
}

fn announcer(spawn: Spawn) -> (Layer2Announcer, Layer2Engine) {
    let (writes, _) = api_writes();
    Layer2Announcer::new("a", ExcludedInterfaces::default(), writes, spawn)
}

fn apply(index: &mut Index, object: Value) {
    let raw = RawObject::from_json(object).expect("an object");
    let key = raw.key("default").expect("a known kind");
    index.apply(Change::Apply(key, raw));
}

fn with_advertisement() -> Index {
    let mut index = Index::default();
    apply(
        &mut index,
        json!({"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
            "metadata": {"name": "l2", "namespace": "metallb-system"}}),
    );
    index
}

fn all() -> Dirty {
    Dirty {
        configuration: true,
        ..Dirty::default()
    }
}

#[test]
fn without_an_l2_advertisement_the_engine_is_not_started_and_the_process_is_ready() {
    let (mut announcer, engine) = announcer(refuses);
    announcer.update(Instant::now(), &Index::default(), &all());
    assert!(announcer.is_ready());
    assert_eq!(announcer.problem(), None);
    assert!(matches!(engine.state(), EngineState::Idle));
}

#[test]
fn what_holds_back_the_first_announcements_is_shown_until_it_ends() {
    let (mut announcer, engine) = announcer(refuses);
    announcer.delay(Some("MetalLB's speaker runs".to_owned()));
    let EngineState::Refused(shown) = engine.state() else {
        panic!("{:?}", engine.state());
    };
    assert_eq!(&*shown, "MetalLB's speaker runs");
    assert!(!announcer.is_ready());
    announcer.delay(None);
    assert!(matches!(engine.state(), EngineState::Idle));
}

#[test]
fn a_refused_packet_socket_is_a_problem_with_its_remedy_until_it_is_not_needed() {
    let now = Instant::now();
    let (mut announcer, engine) = announcer(refuses);
    announcer.update(now, &with_advertisement(), &all());
    assert!(!announcer.is_ready());
    let problem = announcer.problem().expect("a problem");
    assert!(
        problem.message.contains("needs NET_RAW; retrying"),
        "{problem}"
    );
    let EngineState::Refused(shown) = engine.state() else {
        panic!("{:?}", engine.state());
    };
    assert_eq!(*shown, *problem.message);
    assert!(announcer.follow(now, &Index::default()), "the problem ends");
    assert_eq!(announcer.problem(), None);
    assert!(matches!(engine.state(), EngineState::Idle));
}

#[test]
fn a_refused_packet_socket_is_retried_after_30_s_and_reported_once() {
    let now = Instant::now();
    let (mut announcer, _engine) = announcer(refuses);
    let index = with_advertisement();
    announcer.update(now, &index, &all());
    let before = announcer.instance;
    announcer.follow(now + RETRY_INTERVAL - Duration::from_secs(1), &index);
    assert_eq!(announcer.instance, before, "not yet");
    let changed = announcer.follow(now + RETRY_INTERVAL, &index);
    assert!(announcer.instance > before, "each attempt is a new process");
    assert!(!changed, "the problem is the same");
}

#[test]
fn a_build_without_layer_2_names_the_feature() {
    let (mut announcer, _engine) = announcer(fails);
    announcer.update(Instant::now(), &with_advertisement(), &all());
    let problem = announcer.problem().expect("a problem");
    assert!(problem.message.contains("feature layer2"), "{problem}");
}

const VIP: &str = "192.0.2.100";

fn vip() -> IpAddr {
    VIP.parse().expect("an address")
}

/// One service with an address that the nodes a and b may announce on eth0.
fn with_service() -> Index {
    let mut index = Index::default();
    for object in [
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b"}}),
        json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {"name": "pool", "namespace": "metallb-system"},
            "spec": {"addresses": ["192.0.2.100-192.0.2.110"]}}),
        json!({"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
            "metadata": {"name": "l2", "namespace": "metallb-system"},
            "spec": {"interfaces": ["eth0"]}}),
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": VIP}]}}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "a"}]}),
    ] {
        apply(&mut index, object);
    }
    index
}

#[test]
fn the_services_of_an_address_follow_changes_of_services() {
    let (mut announcer, _engine) = announcer(refuses);
    let mut index = with_service();
    announcer.update(Instant::now(), &index, &all());
    let shown = |announcer: &Layer2Announcer| {
        let services = announcer.services().of(vip());
        let shown = services
            .iter()
            .map(|service| format!("{} {}", service.name, service.uid));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(shown(&announcer), ["shop/web u-1"]);
    let name = ObjectName::new("shop", "web");
    // An address that is announced again in time keeps its services.
    let pool = ObjectKey::new(
        Kind::IpAddressPool,
        ObjectName::new("metallb-system", "pool"),
    );
    let now = Instant::now();
    let dirty = index.apply(Change::Delete(pool));
    announcer.update(now, &index, &dirty);
    index = with_service();
    announcer.update(now, &index, &all());
    announcer.follow(now + WITHDRAWAL_TIME, &index);
    assert_eq!(shown(&announcer), ["shop/web u-1"]);
    let dirty = index.apply(Change::Delete(ObjectKey::new(Kind::Service, name)));
    let now = Instant::now();
    announcer.update(now, &index, &dirty);
    announcer.follow(now + Duration::from_secs(1), &index);
    assert_eq!(
        shown(&announcer),
        ["shop/web u-1"],
        "the engine reports the withdrawal with them"
    );
    announcer.follow(now + WITHDRAWAL_TIME, &index);
    assert_eq!(shown(&announcer), [""; 0]);
}

/// The Events that are written for an event of the engine.
async fn written(event: Event) -> Vec<ServiceEvent> {
    let (writes, mut received) = api_writes();
    let (mut announcer, _engine) = announcer(refuses);
    announcer.update(Instant::now(), &with_service(), &all());
    let reporter = Reporter {
        node: "a".into(),
        state: announcer.state.clone(),
        services: announcer.services().clone(),
        writes,
    };
    let (events, reported) = mpsc::unbounded_channel();
    events.send(event).expect("received");
    drop(events);
    reporter.run(reported).await;
    let mut written = Vec::new();
    while let Some(ApiWrite::Event(event)) = received.recv().await {
        written.push(event);
    }
    written
}

fn announced(from: Option<&str>, reason: OwnerReason) -> Event {
    Event::Announced {
        address: vip(),
        from: from.map(Arc::from),
        reason,
    }
}

#[tokio::test]
async fn the_first_announcement_and_a_planned_move_are_metallbs_event() {
    for (from, reason) in [
        (None, OwnerReason::Placed),
        (Some("b"), OwnerReason::HandedOver),
        (Some("b"), OwnerReason::Moved),
        (Some("b"), OwnerReason::Preferred),
    ] {
        let events = written(announced(from, reason)).await;
        let [event] = &events[..] else {
            panic!("{events:?}");
        };
        let text = "announcing from node \"a\" with protocol \"layer2\"";
        assert_eq!(
            (event.reason, event.message.as_str()),
            ("nodeAssigned", text)
        );
        assert_eq!((&*event.service.name, &*event.uid), ("web", "u-1"));
        assert!(!event.warning);
    }
}

#[tokio::test]
async fn a_failover_and_a_hand_over_within_the_node_write_no_event() {
    for event in [
        announced(Some("b"), OwnerReason::OwnerSilent),
        announced(Some("a"), OwnerReason::HandedOver),
        announced(Some("a"), OwnerReason::Resumed),
        announced(Some("b"), OwnerReason::ConflictWon),
        Event::Withdrawn {
            address: vip(),
            to: None,
            reason: OwnerReason::HandedOver,
        },
    ] {
        assert_eq!(written(event).await, []);
    }
}

#[tokio::test]
async fn a_conflict_is_a_warning_that_names_the_other_host() {
    let event = Event::Conflict {
        address: vip(),
        mac: "02:00:5e:00:53:01".parse().expect("a MAC"),
        node: None,
    };
    let events = written(event).await;
    let [event] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(event.warning);
    assert_eq!(event.reason, "AddressConflict");
    assert!(
        event.message.contains("02:00:5e:00:53:01"),
        "{}",
        event.message
    );
}

#[test]
fn a_service_status_has_the_named_interfaces_of_the_addresses_that_this_node_owns() {
    let (mut announcer, _engine) = announcer(refuses);
    announcer.update(Instant::now(), &with_service(), &all());
    let of = |owner: &str| {
        let entry = AddressStatus {
            candidates: Arc::default(),
            owner: Some(owner.into()),
            since: Duration::ZERO,
            epoch: 1,
            reason: OwnerReason::Placed,
            conflict: None,
            interfaces: vec!["eth0".into()],
            moves: Vec::new(),
            self_test: None,
            traffic: Traffic::default(),
        };
        let status = Status {
            node: "a".into(),
            state: NodeState::Ready,
            addresses: [(vip(), entry)].into(),
            ..Status::default()
        };
        service_status::statuses_of(&status, announcer.services())
    };
    let web = Arc::new(ObjectName::new("shop", "web"));
    let own = of("a");
    assert_eq!(own.own, [(web.clone(), ["eth0".into()].into())].into());
    assert_eq!(own.owners, [(web.clone(), ["a".into()].into())].into());
    let other = of("b");
    assert_eq!(other.own, [].into());
    assert_eq!(other.owners, [(web, ["b".into()].into())].into());
}
