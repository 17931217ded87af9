//! Two daemons with a session between them, configured by ferrolb's own BGPPeer: one dials, one
//! listens. Invalid BGPPeers don't affect it.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const LISTENS: &str = "127.0.0.81";
const DIALS: &str = "127.0.0.82";
const TIMEOUT: Duration = Duration::from_secs(20);

/// A daemon that ends with the test, even if the test fails.
struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    fn start(listen: Option<SocketAddr>, peer: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests).expect("a folder");
        let node = "{apiVersion: v1, kind: Node, metadata: {name: node-a}}";
        std::fs::write(manifests.join("node.yaml"), node).expect("written");
        std::fs::write(manifests.join("peer.yaml"), peer).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrolb"));
        command.args([
            "run",
            "--node-name",
            "node-a",
            "--metrics-addr",
            "127.0.0.1:0",
        ]);
        command.arg("--manifests").arg(&manifests);
        command.arg("--socket").arg(socket(folder.path()));
        if let Some(address) = listen {
            command.args(["--listen", &address.to_string()]);
        }
        command.stderr(Stdio::null());
        let child = command.spawn().expect("the daemon starts");
        Self { child, folder }
    }

    fn write(&self, file: &str, manifest: &str) {
        let path = self.folder.path().join("manifests").join(file);
        std::fs::write(path, manifest).expect("written");
    }

    /// Output of a `ferrolb` command.
    fn ask(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrolb"));
        command.args(arguments).args(["-o", "json", "--socket"]);
        let output = command.arg(socket(self.folder.path())).output();
        let output = output.expect("the program starts");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until the sessions are as expected.
    fn await_peers(&self, wished: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let peers = self.ask(&["peers"]).as_array().cloned().unwrap_or_default();
            if wished(&peers) {
                return peers;
            }
            assert!(Instant::now() < deadline, "never as wished: {peers:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("ferrolb.sock")
}

fn peer(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: ferrolb.io/v1alpha1, kind: BGPPeer, metadata: {{name: {name}}}, spec: \
         {spec}}}"
    )
}

/// A BGPPeer's port is at most 16384.
fn free_port() -> SocketAddr {
    (13_900..14_900)
        .map(|port| SocketAddr::new(LISTENS.parse().expect("an address"), port))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a free port")
}

fn is_established(peer: &Value, name: &str) -> bool {
    peer["name"] == name && peer["state"] == "Established"
}

#[test]
fn two_daemons_have_a_session_despite_invalid_peers() {
    let address = free_port();
    let both = "password: secret, ttlSecurity: 1, holdTime: 9s";
    let listening = Daemon::start(
        Some(address),
        &peer(
            "dials",
            &format!(
                "{{myASN: 64513, dynamicASN: external, peerAddress: {DIALS}, passive: true, \
                 {both}}}"
            ),
        ),
    );
    let port = address.port();
    let dialling = Daemon::start(
        None,
        &peer(
            "listens",
            &format!(
                "{{myASN: 64512, peerASN: 64513, peerAddress: {LISTENS}, peerPort: {port}, \
                 sourceAddress: {DIALS}, {both}}}"
            ),
        ),
    );
    listening.await_peers(|peers| peers.iter().any(|peer| is_established(peer, "dials")));
    let peers =
        dialling.await_peers(|peers| peers.iter().any(|peer| is_established(peer, "listens")));
    assert_eq!(peers[0]["remote_asn"]["Number"], 64513, "{peers:?}");

    // Two conflicting peers, a passive one, and an invalid edit of the valid one.
    dialling.write(
        "others.yaml",
        &[
            peer(
                "the-same",
                &format!(
                    "{{myASN: 64512, peerASN: 64513, peerAddress: {LISTENS}, peerPort: {port}, \
                     sourceAddress: {DIALS}, {both}}}"
                ),
            ),
            peer(
                "hasty",
                "{myASN: 64512, peerASN: 64513, peerAddress: 127.0.0.83, holdTime: 2s}",
            ),
            peer(
                "no-interface",
                "{myASN: 64512, peerASN: 64513, peerAddress: 127.0.0.85, sourceInterface: nosuch0}",
            ),
            peer(
                "waits",
                "{myASN: 64512, peerASN: 64513, peerAddress: 127.0.0.84, passive: true}",
            ),
        ]
        .join("\n---\n"),
    );
    let nonsense =
        format!("{{myASN: 64512, peerASN: 64513, peerAddress: {LISTENS}, bfdProfile: none}}");
    dialling.write("peer.yaml", &peer("listens", &nonsense));
    // Sessions first, then rejected BGPPeers.
    let peers = dialling.await_peers(|peers| peers.len() == 6);
    let names: Vec<&str> = peers
        .iter()
        .filter_map(|peer| peer["name"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "listens",
            "waits",
            "hasty",
            "listens",
            "no-interface",
            "the-same"
        ]
    );
    assert!(
        is_established(&peers[0], "listens") && peers[0]["last_error"].is_null(),
        "{peers:?}"
    );
    for (peer, word) in [
        (2, "spec.holdTime"),
        (3, "spec.bfdProfile"),
        (4, "interface \"nosuch0\" does not exist"),
        (5, "spec.peerAddress"),
    ] {
        let refused = peers[peer]["refused"].as_str().unwrap_or_default();
        assert!(refused.contains(word), "{word} is not in {:?}", peers[peer]);
    }
}
