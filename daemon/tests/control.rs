//! A daemon with a session to a router, and the commands that query it, each in its own process.

mod rack;

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ferrolb_bgp::fsm::ShutdownMode;
use rack::{Daemon, Router, TIMEOUT};
use serde_json::Value;

/// The daemon's `sourceAddress`.
const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 71);
const ROUTER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 72);
fn manifests(port: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Node, metadata: {{name: node-a}}}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: pool}}
spec: {{addresses: [192.0.2.0/24]}}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {{name: all}}
spec: {{communities: [\"64512:7\"]}}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {{name: tor}}
spec:
  myASN: 64512
  peerASN: 64513
  peerAddress: {ROUTER}
  peerPort: {port}
  sourceAddress: {NODE}
  linkBandwidth: transitive
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: stranger}}
spec: {{myASN: 64512, peerASN: 64514, peerAddress: {ROUTER}, peerPort: 1, sourceAddress: {NODE}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{{addresses: [10.1.0.1]}}]
"
    )
}

fn ask(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrolb"));
    command.args(arguments).arg("--socket").arg(socket);
    command.output().expect("the program starts")
}

fn output_of(socket: &Path, arguments: &[&str]) -> String {
    let output = ask(socket, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(socket: &Path, arguments: &[&str]) -> Value {
    let text = output_of(socket, &[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&text).expect("JSON")
}

/// Repeats a request until the answer is as expected.
fn until(socket: &Path, arguments: &[&str], expected: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let output = ask(socket, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && expected(&text) {
            return text;
        }
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            Instant::now() < deadline,
            "{arguments:?} never as expected: {text}{error}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A command with `--watch`. It ends with the test.
struct Watcher {
    child: Child,
    lines: Receiver<String>,
}

impl Watcher {
    fn start(socket: &Path, command: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ferrolb"))
            .args([command, "-w", "-o", "json", "--socket"])
            .arg(socket)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (said, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("its output"));
        std::thread::spawn(move || {
            let mut lines = out.lines().map_while(Result::ok);
            lines.try_for_each(|line| said.send(line))
        });
        Self { child, lines }
    }

    fn until(&mut self, expected: impl Fn(&Value) -> bool) {
        while let Ok(line) = self.lines.recv_timeout(TIMEOUT) {
            if expected(&serde_json::from_str(&line).expect("JSON")) {
                return;
            }
        }
        panic!("it never said what was expected");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn commands_show_the_sessions_of_a_running_daemon() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("ferrolb.sock");
    let router = Router::start(NODE, false);
    let port = router.address.port();
    let manifests_folder = folder.path().join("manifests");
    std::fs::create_dir(&manifests_folder).expect("a folder");
    std::fs::write(manifests_folder.join("all.yaml"), manifests(port)).expect("written");
    let _daemon = Daemon::start(&manifests_folder, &socket);

    let peers = until(&socket, &["peers"], |text| {
        let mut lines = text.lines();
        lines.any(|line| line.contains("Established") && line.contains("  1  "))
            && text.contains("can't connect")
    });
    assert!(peers.contains("stranger: can't connect"), "{peers}");
    let peers = json(&socket, &["peers"]);
    assert_eq!(peers[1]["name"], "tor");
    assert_eq!(peers[1]["prefixes_desired"], 1);
    assert_eq!(
        peers[0]["last_error"]["cause"]["code"],
        "connection-refused"
    );

    let routes = output_of(&socket, &["routes", "--peer", "tor"]);
    for word in ["192.0.2.0/32", "127.0.0.71", "64512:7"] {
        assert!(routes.contains(word), "{word} is not in {routes}");
    }
    let routes = json(&socket, &["routes"]);
    assert_eq!(routes[0]["prefix"], "192.0.2.0/32");
    assert_eq!(routes[0]["communities"][0], "64512:7");
    assert_eq!(
        routes[0]["extended_communities"][0],
        "transitive-lb:64512:125000000"
    );
    assert!(routes[0]["sent_seconds_ago"].as_u64().expect("a number") < 60);

    let explained = output_of(&socket, &["explain", "svc", "web"]);
    for word in [
        "Service default/web on node-a: 1 address announced by BGP from this node",
        "node-a → stranger, tor: 192.0.2.0/32",
        "node-a → stranger: SessionDown:",
        "$ ferrolb peer stranger",
        "node-a → tor: Established for",
    ] {
        assert!(explained.contains(word), "{word} is not in {explained}");
    }
    let unknown = ask(&socket, &["explain", "svc", "shop/web"]);
    let error = String::from_utf8_lossy(&unknown.stderr);
    assert!(error.contains("did you mean default/web?"), "{error}");

    let peer = output_of(&socket, &["peer", "tor"]);
    for word in [
        "OPEN sent",
        "OPEN received",
        "AS 64513",
        "hold time",
        "KEEPALIVE",
        "Journal",
    ] {
        assert!(peer.contains(word), "{word} is not in {peer}");
    }
    assert_eq!(
        json(&socket, &["peer", "tor"])["open_received"]["asn"],
        64513
    );

    // A client that stays connected, as with `--watch`, does not block others.
    let connected = (0..16).map(|_| UnixStream::connect(&socket).expect("connected"));
    let _connected: Vec<UnixStream> = connected.collect();
    let watching = ["peers", "log"].map(|command| Watcher::start(&socket, command));

    // The router shuts down with a message.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(
        router
            .handle
            .shutdown("maintenance", ShutdownMode::Withdraw),
    );
    let log = until(&socket, &["log", "--peer", "tor"], |text| {
        text.contains("session ended")
    });
    for word in ["Connect → OpenSent", "session up: AS 64513", "maintenance"] {
        assert!(log.contains(word), "{word} is not in {log}");
    }
    let lost = ask(&socket, &["explain", "svc", "default/web", "-o", "json"]);
    assert_eq!(lost.status.code(), Some(1));
    let lost: Value = serde_json::from_slice(&lost.stdout).expect("JSON");
    assert_eq!(lost["summary"], "not announced: SessionDown");
    // An empty result is still a JSON list.
    until(&socket, &["routes", "-o", "json"], |text| {
        serde_json::from_str::<Vec<Value>>(text).is_ok_and(|routes| routes.is_empty())
    });
    let [mut peers, mut log] = watching;
    peers.until(|line| line["name"] == "tor" && line["state"] != "Established");
    log.until(|line| line["peer"] == "tor" && line["event"]["kind"] == "ended");
    let log = json(&socket, &["log", "--peer", "tor"]);
    let ended = log
        .as_array()
        .expect("a list")
        .iter()
        .find(|line| line["event"]["kind"] == "ended");
    let ended = ended.expect("the end of the session");
    assert_eq!(ended["event"]["cause"]["code"], "peer-shut-down");
    assert_eq!(ended["event"]["cause"]["notification"]["subcode"], 2);
}

#[test]
fn without_a_daemon_the_error_names_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = ask(&folder.path().join("none.sock"), &["peers"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    for word in ["none.sock", "ferrolb run", "kubectl exec", "--socket"] {
        assert!(error.contains(word), "{word} is not in {error}");
    }
}
