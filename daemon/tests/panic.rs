//! A panic of the control loop: peers keep the routes, and the log names the object without its
//! password.

mod rack;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{set_hook, take_hook};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferrolb::testing::{
    Announcer, Change, ControlLoop, DaemonStatus, Discards, Event as Delivered, Gate, Kind,
    Panicked, Questions, RawObject, SessionChannels, Source, StateDir, StateWriter, api_writes,
    catch_panic, log_panic, restore, status_writes,
};
use ferrolb_bgp::fsm::{Cause, Event, ShutdownMode, SpeakerConfig, State};
use ferrolb_bgp::speaker::{self, Handle, SpeakerOptions};
use rack::{Router, TIMEOUT};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PREFIX: &str = "192.0.2.1/32";
/// Of the object whose processing panics.
const PASSWORD: &str = "walrus-and-otter";

/// Panics when a BGPPeer names the interface `poison`.
fn exists(interface: &str) -> bool {
    assert_ne!(interface, "poison", "this interface trips the loop");
    true
}

/// Captured log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Captures the log of this thread, including panics.
    fn collect() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            log_panic(panic);
            usual(panic);
        }));
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&log).into_owned()
    }
}

/// A control loop in this process with a session to a router.
struct Scene {
    router: Router,
    engine: Handle,
    events: mpsc::Sender<Delivered>,
    report: watch::Receiver<Arc<DaemonStatus>>,
    running: JoinHandle<bool>,
    _stop: oneshot::Sender<bool>,
}

impl Scene {
    fn start(router: Router, state: &Path) -> Self {
        let options = SpeakerOptions {
            speaker: SpeakerConfig {
                router_id_fallback: Ipv4Addr::new(10, 0, 0, 1),
                ..SpeakerOptions::default().speaker
            },
            listen: Vec::new(),
        };
        let (engine, _) = speaker::spawn(options).expect("an engine");
        let (report_in, report) = watch::channel(Arc::new(DaemonStatus::new()));
        let state = StateDir::new(state.to_owned());
        let control_loop = ControlLoop {
            kinds: &Kind::ALL,
            announcer: Some(Announcer::new(
                "node-a".into(),
                engine.clone(),
                Some(StateWriter::start(state.clone()).expect("a thread")),
            )),
            layer2: None,
            gate: Gate::open(),
            allocate: false,
            ignore_exclusion: false,
            lb_class: None,
            saved: state.load().expect("readable"),
            interface_exists: exists,
            host_addresses: speaker::host_addresses,
            discards: Discards::default(),
            questions: Questions::default(),
            status: report_in,
        };
        let (events, delivered) = mpsc::channel(64);
        let (status, _) = status_writes();
        let (writes, _) = api_writes();
        let (stop_in, stop) = oneshot::channel();
        let running = tokio::spawn(async move {
            let mut source = Source {
                events: delivered,
                status,
                writes,
                needs_endpoints: watch::channel(false).0,
                sessions: SessionChannels::unconnected(),
            };
            catch_panic(control_loop, &mut source, stop).await == Err(Panicked)
        });
        Self {
            router,
            engine,
            events,
            report,
            running,
            _stop: stop_in,
        }
    }

    async fn deliver(&self, change: Change) {
        let delivered = self.events.send(Delivered::Change(change)).await;
        delivered.expect("the loop listens");
    }

    /// Lists all kinds; those without an object here are empty.
    async fn list(&self, objects: &[RawObject]) {
        for kind in Kind::ALL {
            let of_kind = objects.iter().filter_map(|object| {
                let key = object.key("metallb-system")?;
                (key.kind == kind).then(|| (key, object.clone()))
            });
            self.deliver(Change::Reset(kind, of_kind.collect())).await;
        }
    }

    /// Whether the router receives the prefix before any other event of its routes or session.
    async fn is_announced(&mut self) -> bool {
        loop {
            let event = timeout(TIMEOUT, self.router.events.recv()).await;
            match event.expect("the loop is silent").expect("the router runs") {
                Event::Received { update, .. } => {
                    assert_eq!(update.withdrawn_prefixes().count(), 0);
                    if let Some(prefix) = update.announced().next() {
                        return prefix.to_string() == PREFIX;
                    }
                }
                Event::Down {
                    was_established: true,
                    cause,
                    ..
                } => panic!("{cause}"),
                _ => {}
            }
        }
    }

    /// Waits for the panic, and checks that nothing is withdrawn within a second.
    async fn panics(&mut self) {
        let running = timeout(TIMEOUT, &mut self.running).await;
        assert!(running.expect("it panics").expect("the panic is caught"));
        let report = self.report.borrow().clone();
        assert!(report.panicked && !report.ready() && report.live());
    }

    /// Checks that the routes don't change and the session is up.
    async fn is_kept(&mut self) {
        let changed = timeout(Duration::from_secs(1), self.is_announced()).await;
        assert!(changed.is_err(), "{changed:?}");
        let peers = self.engine.snapshot().await;
        assert!(peers.iter().any(|peer| peer.state == State::Established));
    }

    /// Ends the process with a graceful restart.
    async fn ends(mut self) -> Router {
        let end = self.engine.shutdown("", ShutdownMode::GracefulRestart);
        timeout(TIMEOUT, end).await.expect("the engine ends");
        loop {
            let event = timeout(TIMEOUT, self.router.events.recv()).await;
            match event.expect("closed").expect("the router runs") {
                Event::Received { update, .. } => {
                    assert_eq!(update.withdrawn_prefixes().count(), 0);
                }
                Event::Down { cause, .. } => {
                    assert!(
                        matches!(cause, Cause::Closed { error: None, .. }),
                        "{cause}"
                    );
                    return self.router;
                }
                _ => {}
            }
        }
    }
}

fn object(kind: Kind, name: &str, mut body: Value) -> RawObject {
    body["kind"] = json!(kind.name());
    body["apiVersion"] = json!(kind.api_version());
    body["metadata"]["name"] = json!(name);
    serde_json::from_value(body).expect("an object")
}

fn objects(node: Ipv4Addr, router: SocketAddr) -> Vec<RawObject> {
    let peer = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": router.ip(), "peerPort": router.port(),
        "sourceAddress": node, "enableGracefulRestart": true,
    });
    let service = json!({
        "metadata": { "namespace": "default" },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
    });
    let slice = json!({
        "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["10.1.0.1"] }],
    });
    let pool = json!({ "spec": { "addresses": ["192.0.2.0/24"] } });
    vec![
        object(Kind::Node, "node-a", json!({})),
        object(Kind::IpAddressPool, "pool", pool),
        object(Kind::BgpAdvertisement, "all", json!({ "spec": {} })),
        object(Kind::BgpPeer, "tor", json!({ "spec": peer })),
        object(Kind::Service, "web", service),
        object(Kind::EndpointSlice, "web", slice),
    ]
}

fn poison() -> RawObject {
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "127.255.0.1", "sourceInterface": "poison",
        "password": PASSWORD,
    });
    object(Kind::FerrolbBgpPeer, "poisoned", json!({ "spec": spec }))
}

#[tokio::test]
async fn peers_keep_routes_when_the_loop_panics_repeatedly() {
    let (log, _guard) = Log::collect();
    let state = tempfile::tempdir().expect("a folder");
    let node = Ipv4Addr::new(127, 0, 0, 111);
    let router = Router::start(node, true);
    let mut objects = objects(node, router.address);
    let mut scene = Scene::start(router, state.path());
    scene.list(&objects).await;
    assert!(scene.is_announced().await);
    // The state is written by another thread.
    while !state.path().join("desired.json").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let poison = poison();
    let key = poison.key("metallb-system").expect("a key");
    scene.deliver(Change::Apply(key, poison.clone())).await;
    scene.panics().await;
    scene.is_kept().await;
    let text = log.text();
    for part in [
        "this interface trips the loop",
        "BGPPeer.ferrolb.io metallb-system/poisoned",
    ] {
        assert!(text.contains(part), "{part} is not in the log:\n{text}");
    }

    // The object still exists after the restart.
    let router = scene.ends().await;
    objects.push(poison);
    let mut scene = Scene::start(router, state.path());
    scene.list(&objects).await;
    scene.panics().await;
    assert!(!scene.report.borrow().initialized);
    restore(
        "node-a",
        &scene.engine,
        &StateDir::new(state.path().to_owned()),
    );
    assert!(scene.is_announced().await);
    scene.is_kept().await;
    scene.ends().await;
    assert!(!log.text().contains(PASSWORD), "{}", log.text());
}
