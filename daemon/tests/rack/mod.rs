//! Scaffold for tests of a daemon with a router: `mod rack;`, then start a [`Router`] in this
//! process, write manifests such as [`REST`] to a folder, and start a [`Daemon`] on it. The
//! router's [`Router::events`] show what the daemon sends. Each test needs two loopback addresses
//! of its own: the node's, and the next one for the router.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ferrolb_bgp::config::{GracefulRestart, PeerConfig, Transport};
use ferrolb_bgp::fsm::SpeakerConfig;
use ferrolb_bgp::speaker::{self, Events, Handle, SpeakerOptions};
use ferrolb_bgp::wire::Asn;

/// Limit for any wait.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// A kubeconfig of an address without a listener.
const KUBECONFIG: &str = "apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: \"http://127.0.0.1:1\"}}]
users: [{name: u, user: {}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
";

/// A pool, an advertisement to all peers, and a Service with an endpoint; without nodes and peers.
#[allow(dead_code, reason = "not every test has manifests")]
pub(crate) const REST: &str = "apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool}
spec: {addresses: [192.0.2.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.1]}]
";

/// A passive router with a peer `node` at the address that dials. It listens on the next address.
pub(crate) struct Router {
    /// The BGP engine.
    pub(crate) handle: Handle,
    /// Received events.
    #[allow(dead_code, reason = "not every test listens")]
    pub(crate) events: Events,
    /// The address it listens on.
    pub(crate) address: SocketAddr,
}

impl Router {
    /// Starts the router, with graceful restart if `restart`.
    pub(crate) fn start(node: Ipv4Addr, restart: bool) -> Self {
        let ip = Ipv4Addr::from_bits(node.to_bits() + 1);
        let start = |port: u16| {
            let address = SocketAddr::from((ip, port));
            let options = SpeakerOptions {
                speaker: SpeakerConfig {
                    router_id_fallback: ip,
                    ..SpeakerOptions::default().speaker
                },
                listen: vec![address],
            };
            let (handle, events) = speaker::spawn(options).ok()?;
            Some(Self {
                handle,
                events,
                address,
            })
        };
        // A BGPPeer's port is at most 16384.
        let router = (12_800..13_800).find_map(start).expect("a free port");
        let peer = PeerConfig {
            transport: Transport {
                passive: true,
                ..Transport::default()
            },
            graceful_restart: restart.then(GracefulRestart::default),
            receive: true,
            ..PeerConfig::new(
                "node",
                SocketAddr::from((node, 179)),
                Asn(64513),
                Asn(64512),
            )
        };
        router.handle.set_peer(peer).expect("a good peer");
        router.handle.open_gate();
        router
    }
}

/// A `ferrolb run` process for node-a. It ends with the test, even if the test fails.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts it on a folder of manifests.
    #[allow(dead_code, reason = "not every test wants nothing more")]
    pub(crate) fn start(folder: &Path, socket: &Path) -> Self {
        Self::start_with(folder, socket, &[])
    }

    /// Starts it on a folder of manifests, with more arguments.
    pub(crate) fn start_with(folder: &Path, socket: &Path, more: &[&OsStr]) -> Self {
        let source = ["--manifests".as_ref(), folder.as_os_str()];
        Self::spawn(socket, &[&source, more].concat())
    }

    /// Starts it with an unreachable API server and the state folder in `folder`.
    #[allow(dead_code, reason = "not every test has an outage")]
    pub(crate) fn start_in_outage(folder: &Path) -> Self {
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, KUBECONFIG).expect("written");
        let state = folder.join("state");
        let arguments = ["--role", "announcer", "--kubeconfig"].map(OsStr::new);
        let more = [
            kubeconfig.as_os_str(),
            "--state-dir".as_ref(),
            state.as_os_str(),
        ];
        Self::spawn(
            &folder.join("ferrolb.sock"),
            &[&arguments[..], &more].concat(),
        )
    }

    fn spawn(socket: &Path, more: &[&OsStr]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrolb"));
        command.args(["run", "--node-name", "node-a", "--socket"]);
        command.arg(socket).args(more).stderr(Stdio::null());
        if !more.contains(&"--metrics-addr".as_ref()) {
            command.args(["--metrics-addr", "127.0.0.1:0"]);
        }
        Self(command.spawn().expect("the daemon starts"))
    }

    /// Sends SIGTERM.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn terminate(&self) {
        let kill = Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(kill.expect("kill").success());
    }

    /// Waits for its end.
    #[allow(dead_code, reason = "not every test waits")]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
