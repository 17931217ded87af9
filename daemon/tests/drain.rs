//! Drains of a daemon's routes: when its Node is excluded, cordoned or deleted, and at shutdown.

mod rack;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ferrolb_bgp::fsm::{Cause, Event, PeerRoutes};
use ferrolb_bgp::rib::Route;
use ferrolb_bgp::wire::{Community, ErrorCode};
use ipnet::IpNet;
use rack::{Daemon, REST, Router, TIMEOUT};
use tempfile::TempDir;
use tokio::time::timeout;

const EXCLUDED: &str = ", labels: {node.kubernetes.io/exclude-from-external-load-balancers: \"\"}";

/// Two nodes that announce a Service, and the router and the daemon of node-a.
struct Scene {
    folder: TempDir,
    router: Router,
    daemon: Daemon,
}

impl Scene {
    fn start(address: Ipv4Addr, restart: bool) -> Self {
        let router = Router::start(address, restart);
        let folder = tempfile::tempdir().expect("a folder");
        let manifests = folder.path().join("manifests");
        fs::create_dir(&manifests).expect("a folder");
        let peer = format!(
            "apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {{name: tor}}
spec:
  myASN: 64512
  peerASN: 64513
  peerAddress: {}
  peerPort: {}
  sourceAddress: {address}
  enableGracefulRestart: {restart}
  drain: {{time: 1s}}
",
            router.address.ip(),
            router.address.port(),
        );
        write(folder.path(), "peer", &peer);
        write(folder.path(), "rest", REST);
        write(folder.path(), "node-a", &node("node-a", "", ""));
        write(folder.path(), "node-b", &node("node-b", "", ""));
        let state = folder.path().join("state");
        fs::create_dir(&state).expect("a folder");
        let daemon = Daemon::start_with(
            &manifests,
            &folder.path().join("ferrolb.sock"),
            &["--state-dir".as_ref(), state.as_os_str()],
        );
        Self {
            folder,
            router,
            daemon,
        }
    }

    fn write(&self, name: &str, text: &str) {
        write(self.folder.path(), name, text);
    }

    /// Checks that nothing happens to the routes and the session for this many seconds.
    async fn is_quiet_for(&mut self, seconds: u64) {
        let silence = timeout(Duration::from_secs(seconds), self.next()).await;
        assert!(silence.is_err(), "{silence:?}");
    }

    /// The next event of a route or the end of the session.
    async fn next(&mut self) -> String {
        self.next_of(None).await
    }

    /// The next event of this prefix, or of any, or the end of the session.
    async fn next_of(&mut self, prefix: Option<IpNet>) -> String {
        let concerned = |found: IpNet| prefix.is_none_or(|prefix| prefix == found);
        loop {
            let event = timeout(TIMEOUT, self.router.events.recv()).await;
            match event
                .expect("the daemon is silent")
                .expect("the router runs")
            {
                Event::Received { update, .. } if update.announced().any(concerned) => {
                    let graceful = &Community::GRACEFUL_SHUTDOWN;
                    return if update.attributes.communities.contains(graceful) {
                        "announced with GRACEFUL_SHUTDOWN".to_owned()
                    } else {
                        "announced".to_owned()
                    };
                }
                Event::Received { update, .. } if update.withdrawn_prefixes().any(concerned) => {
                    return "withdrawn".to_owned();
                }
                Event::Down {
                    was_established: true,
                    cause,
                    ..
                } => return ended(&cause),
                _ => {}
            }
        }
    }
}

fn ended(cause: &Cause) -> String {
    match cause {
        Cause::Received(notification) => {
            assert_eq!(
                (notification.code, notification.subcode),
                (ErrorCode::CEASE, 2)
            );
            let text = notification.shutdown_text();
            format!("shut down: {}", text.expect("a shutdown message"))
        }
        Cause::Closed { error: None, .. } => "closed without NOTIFICATION".to_owned(),
        other => format!("{other}"),
    }
}

fn node(name: &str, more: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}{more}}}\nspec: {{{spec}}}\n")
}

/// [`REST`] with the drain annotation on the Service.
fn with_drain(drain: &str) -> String {
    let annotations =
        format!("namespace: default, annotations: {{ferrolb.io/drain: \"{drain}\"}}}}");
    REST.replacen("namespace: default}", &annotations, 1)
}

fn write(folder: &Path, name: &str, text: &str) {
    let new = folder.join(name);
    fs::write(&new, text).expect("written");
    fs::rename(new, folder.join(format!("manifests/{name}.yaml"))).expect("renamed");
}

#[tokio::test]
async fn an_excluded_node_drains_and_announces_again_when_included() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 81), false);
    assert_eq!(scene.next().await, "announced");
    scene.write("node-a", &node("node-a", EXCLUDED, ""));
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    assert_eq!(scene.next().await, "withdrawn");
    scene.write("node-a", &node("node-a", "", ""));
    assert_eq!(scene.next().await, "announced");
}

#[tokio::test]
async fn the_last_path_stays_until_another_node_announces_it() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 83), false);
    assert_eq!(scene.next().await, "announced");
    scene.write("node-b", &node("node-b", EXCLUDED, ""));
    scene.write("node-a", &node("node-a", EXCLUDED, ""));
    scene.is_quiet_for(2).await;
    scene.write("node-b", &node("node-b", "", ""));
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    assert_eq!(scene.next().await, "withdrawn");
}

#[tokio::test]
async fn with_min_announcers_the_path_stays_until_that_many_nodes_announce_it() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 153), false);
    assert_eq!(scene.next().await, "announced");
    let floor = REST.replace(
        "metallb.io/v1beta1\nkind: BGPA",
        "ferrolb.io/v1alpha1\nkind: BGPA",
    );
    let floor = floor.replace("{name: all}", "{name: all}\nspec: {minAnnouncers: 2}");
    assert!(floor.contains("ferrolb.io/v1alpha1") && floor.contains("minAnnouncers"));
    scene.write("rest", &floor);
    scene.write("node-a", &node("node-a", EXCLUDED, ""));
    scene.is_quiet_for(3).await;
    scene.write("node-c", &node("node-c", "", ""));
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    assert_eq!(scene.next().await, "withdrawn");
}

#[tokio::test]
async fn a_restart_leaves_routes_with_a_graceful_restart_router() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 85), true);
    assert_eq!(scene.next().await, "announced");
    scene.daemon.terminate();
    assert_eq!(scene.next().await, "closed without NOTIFICATION");
    assert!(scene.daemon.wait().success());
}

#[tokio::test]
async fn a_router_without_graceful_restart_is_drained_before_shutdown() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 87), false);
    assert_eq!(scene.next().await, "announced");
    scene.daemon.terminate();
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    assert_eq!(scene.next().await, "withdrawn");
    assert_eq!(scene.next().await, "shut down: ferrolb is restarting");
    assert!(scene.daemon.wait().success());
}

#[tokio::test]
async fn a_second_stop_signal_withdraws_at_once() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 105), false);
    assert_eq!(scene.next().await, "announced");
    scene.write("rest", &with_drain("45s"));
    // Longer than the rest of the test.
    tokio::time::sleep(Duration::from_millis(500)).await;
    scene.daemon.terminate();
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    scene.daemon.terminate();
    assert_eq!(scene.next().await, "withdrawn");
    assert_eq!(scene.next().await, "shut down: ferrolb is shutting down");
    assert!(scene.daemon.wait().success());
}

#[tokio::test]
async fn a_cordoned_node_keeps_its_routes_until_a_stop_signal() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 89), true);
    assert_eq!(scene.next().await, "announced");
    scene.write("node-a", &node("node-a", "", "unschedulable: true"));
    scene.is_quiet_for(2).await;
    scene.daemon.terminate();
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    assert_eq!(scene.next().await, "withdrawn");
    assert_eq!(
        scene.next().await,
        "shut down: ferrolb is shutting down: the Node is cordoned"
    );
}

#[tokio::test]
async fn without_another_node_the_shutdown_does_not_wait() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 91), false);
    scene.write("node-b", "");
    assert_eq!(scene.next().await, "announced");
    scene.daemon.terminate();
    assert_eq!(scene.next().await, "withdrawn");
    assert!(scene.daemon.wait().success());
}

#[tokio::test]
async fn a_cordon_drains_services_with_the_annotation() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 93), false);
    assert_eq!(scene.next().await, "announced");
    scene.write("rest", &with_drain("2s,on-cordon"));
    scene.write("node-a", &node("node-a", "", "unschedulable: true"));
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    assert_eq!(scene.next().await, "withdrawn");
    scene.write("node-a", &node("node-a", "", ""));
    assert_eq!(scene.next().await, "announced");
}

#[tokio::test]
async fn routes_drained_by_a_cordon_are_not_announced_again_by_changes() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 121), false);
    assert_eq!(scene.next().await, "announced");
    scene.write("rest", &with_drain("1s,on-cordon"));
    scene.write("node-a", &node("node-a", "", "unschedulable: true"));
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    assert_eq!(scene.next().await, "withdrawn");
    // First another node changes, then the Service.
    scene.write("node-b", &node("node-b", ", labels: {rack: b}", ""));
    scene.is_quiet_for(1).await;
    scene.write(
        "rest",
        &with_drain("1s,on-cordon").replace("port: 80", "port: 81"),
    );
    scene.is_quiet_for(1).await;
    // Then its endpoints.
    scene.write(
        "rest",
        &with_drain("1s,on-cordon").replace("10.1.0.1", "10.1.0.9"),
    );
    scene.is_quiet_for(1).await;
    // A process that starts on a cordoned node does not announce it either.
    scene.daemon.terminate();
    assert!(scene.daemon.wait().success());
    let socket = scene.folder.path().join("ferrolb.sock");
    scene.daemon = Daemon::start_with(&scene.folder.path().join("manifests"), &socket, &[]);
    let words = timeout(Duration::from_secs(3), async {
        loop {
            assert!(!scene.next().await.starts_with("announced"));
        }
    });
    assert!(words.await.is_err());
}

#[tokio::test]
async fn a_deleted_node_drains_over_its_existing_session() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 95), false);
    assert_eq!(scene.next().await, "announced");
    scene.write("node-a", "");
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    assert_eq!(scene.next().await, "withdrawn");
}

#[tokio::test]
async fn drained_routes_are_not_announced_again_at_shutdown() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 97), true);
    assert_eq!(scene.next().await, "announced");
    scene.write("node-a", &node("node-a", EXCLUDED, ""));
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    assert_eq!(scene.next().await, "withdrawn");
    // No node announces it now, and this node still does not announce it again.
    scene.write("node-b", &node("node-b", EXCLUDED, ""));
    scene.is_quiet_for(2).await;
    scene.daemon.terminate();
    assert_eq!(
        scene.next().await,
        "shut down: ferrolb is shutting down: the Node is excluded from load balancers"
    );
}

#[tokio::test]
async fn a_cordoned_node_takes_over_from_an_excluded_one() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 99), false);
    assert_eq!(scene.next().await, "announced");
    scene.write("node-b", &node("node-b", "", "unschedulable: true"));
    scene.write("node-a", &node("node-a", EXCLUDED, ""));
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    assert_eq!(scene.next().await, "withdrawn");
}

#[tokio::test]
async fn a_node_that_drains_on_cordon_does_not_take_over() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 101), false);
    scene.write("rest", &with_drain("1s,on-cordon"));
    scene.write("node-b", &node("node-b", "", "unschedulable: true"));
    assert_eq!(scene.next().await, "announced");
    scene.write("node-a", &node("node-a", EXCLUDED, ""));
    scene.is_quiet_for(2).await;
}

#[tokio::test]
async fn restored_routes_are_drained_and_stay_in_the_state_file() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 103), false);
    assert_eq!(scene.next().await, "announced");
    for _ in 0..2 {
        scene.daemon.terminate();
        assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
        assert_eq!(scene.next().await, "withdrawn");
        assert_eq!(scene.next().await, "shut down: ferrolb is restarting");
        assert!(scene.daemon.wait().success());
        scene.daemon = Daemon::start_in_outage(scene.folder.path());
        assert_eq!(scene.next().await, "announced");
    }
}

/// The only route in `ferrolb routes -o json`.
fn route_line(scene: &Scene) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_ferrolb"))
        .args(["routes", "-o", "json", "--socket"])
        .arg(scene.folder.path().join("ferrolb.sock"))
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let mut lines: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).expect("a list in JSON");
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

/// The router sends back the only prefix with a path of node-b, or withdraws it.
async fn path_of_node_b(scene: &Scene, up: bool) {
    let prefix = route_line(scene)["prefix"].clone();
    let prefix = prefix.as_str().and_then(|prefix| prefix.parse().ok());
    paths_of_node_b(scene, &[prefix.expect("a prefix")], up).await;
}

async fn paths_of_node_b(scene: &Scene, prefixes: &[IpNet], up: bool) {
    let change = |prefix: &IpNet| (*prefix, up.then(Route::default));
    scene.router.handle.routes(vec![PeerRoutes {
        peer: "node".to_owned(),
        changes: prefixes.iter().map(change).collect(),
    }]);
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// The node is excluded after node-b lost its session: the router is known to send back paths, and
/// has no other one.
async fn excluded_without_another_path(scene: &mut Scene) {
    assert_eq!(scene.next().await, "announced");
    path_of_node_b(scene, true).await;
    path_of_node_b(scene, false).await;
    scene.write("node-a", &node("node-a", EXCLUDED, ""));
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    scene.is_quiet_for(3).await;
    assert_eq!(route_line(scene)["waits_for_other_path"], true);
}

#[tokio::test]
async fn a_route_stays_until_the_router_sends_back_another_path() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 107), false);
    excluded_without_another_path(&mut scene).await;
    path_of_node_b(&scene, true).await;
    assert_eq!(scene.next().await, "withdrawn");
}

/// Routes of the other Service are drained all the time, so paths are watched all the time.
#[tokio::test]
async fn paths_are_requested_again_for_a_route_that_drains_again() {
    let web: IpNet = "192.0.2.10/32".parse().expect("a prefix");
    let slow: IpNet = "192.0.2.11/32".parse().expect("a prefix");
    let (pool, service) = REST.split_at(REST.find("apiVersion: v1").expect("a Service"));
    let service = |name: &str, address: IpAddr, drain: &str| {
        let spec = format!("{{loadBalancerIP: {address}, type:");
        let metadata =
            format!("namespace: default, annotations: {{ferrolb.io/drain: \"{drain}\"}}}}\n");
        service
            .replace("web", name)
            .replace("{type:", &spec)
            .replacen("namespace: default}\n", &metadata, 1)
    };
    let with = |drain: &str| {
        let web = service("web", web.addr(), drain);
        // Longer than anything in the test may take.
        let slow = service("slow", slow.addr(), "45s,on-cordon");
        format!("{pool}{web}---\n{slow}")
    };
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 123), false);
    scene.write("rest", &with("1s,on-cordon"));
    assert_eq!(scene.next_of(Some(web)).await, "announced");
    paths_of_node_b(&scene, &[web, slow], true).await;
    scene.write("node-a", &node("node-a", "", "unschedulable: true"));
    let leaves = ["announced with GRACEFUL_SHUTDOWN", "withdrawn"];
    for expected in leaves {
        assert_eq!(scene.next_of(Some(web)).await, expected);
    }
    scene.write("rest", &with("1s"));
    assert_eq!(scene.next_of(Some(web)).await, "announced");
    scene.write("rest", &with("1s,on-cordon"));
    for expected in leaves {
        assert_eq!(scene.next_of(Some(web)).await, expected);
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_another_path() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 109), false);
    excluded_without_another_path(&mut scene).await;
    scene.daemon.terminate();
    assert_eq!(scene.next().await, "withdrawn");
    assert_eq!(
        scene.next().await,
        "shut down: ferrolb is shutting down: the Node is excluded from load balancers"
    );
}

#[tokio::test]
async fn a_drain_stops_when_the_other_node_loses_its_endpoint() {
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 113), false);
    assert_eq!(scene.next().await, "announced");
    // Longer than the rest of the test.
    let local = with_drain("45s").replace(
        "{type: LoadBalancer,",
        "{type: LoadBalancer, externalTrafficPolicy: Local,",
    );
    let on_a = "{addresses: [10.1.0.1], nodeName: node-a}";
    let on_both = format!("{on_a}, {{addresses: [10.1.0.2], nodeName: node-b}}");
    let endpoints = |endpoints: &str| local.replace("{addresses: [10.1.0.1]}", endpoints);
    scene.write("rest", &endpoints(&on_both));
    tokio::time::sleep(Duration::from_millis(500)).await;
    scene.write("node-a", &node("node-a", EXCLUDED, ""));
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
    scene.write("rest", &endpoints(on_a));
    assert_eq!(scene.next().await, "announced");
    scene.write("rest", &endpoints(&on_both));
    assert_eq!(scene.next().await, "announced with GRACEFUL_SHUTDOWN");
}
