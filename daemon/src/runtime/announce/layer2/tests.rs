use serde_json::{Value, json};

use super::*;
use crate::core::api::RawObject;
use crate::core::index::change::Change;
use crate::runtime::source::api_writes;

fn refuses(_: Options) -> io::Result<(Handle, mpsc::UnboundedReceiver<Event>)> {
    Err(io::ErrorKind::PermissionDenied.into())
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
    assert!(announcer.initialized());
    assert_eq!(announcer.problem(), None);
    assert!(matches!(engine.state(), EngineState::Idle));
}

#[test]
fn a_refused_packet_socket_is_a_problem_with_its_remedy_until_it_is_not_needed() {
    let now = Instant::now();
    let (mut announcer, engine) = announcer(refuses);
    announcer.update(now, &with_advertisement(), &all());
    let problem = announcer.problem().expect("a problem");
    assert!(problem.message.contains("NET_RAW"), "{problem}");
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
