//! A panic of the control loop in a complete daemon process: routes stay announced, the probes
//! report it, and the process replaces itself.

mod rack;

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferrolb::cli::{self, Host};
use ferrolb_bgp::fsm::{Cause, Event, State};
use rack::{REST, Router, TIMEOUT};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Folder of the daemon; set in the process that this test starts as the daemon.
const FOLDER: &str = "FERROLB_TEST_FOLDER";
/// Address of the probes of that process.
const METRICS: &str = "FERROLB_TEST_METRICS";
const NAME: &str = "routes_stay_announced_while_the_process_restarts_after_a_panic";
/// Delay between panic and restart.
const PAUSE: Duration = Duration::from_secs(3);
const PREFIX: &str = "192.0.2.1/32";
const PANIC: &str = "this interface makes the loop panic";

const POISON: &str = "apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {name: poisoned}
spec: {myASN: 64512, peerASN: 64513, peerAddress: 127.255.0.1, sourceInterface: poison}
";

const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: node-a}}";

fn exists(interface: &str) -> bool {
    assert_ne!(interface, "poison", "{PANIC}");
    true
}

/// Runs the daemon in this process.
fn run_daemon(folder: &Path, metrics: &str) {
    let path = |name: &str| folder.join(name).display().to_string();
    let (manifests, state, socket) = (path("manifests"), path("state"), path("socket"));
    let arguments = [
        "ferrolb",
        "run",
        "--node-name=node-a",
        "--manifests",
        &manifests,
        "--state-dir",
        &state,
        "--socket",
        &socket,
        "--metrics-addr",
        metrics,
    ];
    let host = Host::new(exists, |_| PAUSE);
    let ended = cli::main_on(host, arguments.map(Into::into));
    assert_eq!(
        format!("{ended:?}"),
        format!("{:?}", std::process::ExitCode::SUCCESS)
    );
}

/// The process of the daemon, its folder and its router.
struct Scene {
    folder: TempDir,
    router: Router,
    metrics: SocketAddr,
    process: Child,
}

impl Scene {
    fn start(node: Ipv4Addr) -> Self {
        let router = Router::start(node, true);
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["manifests", "state"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let peer = format!(
            "apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: tor}}
spec:
  myASN: 64512
  peerASN: 64513
  peerAddress: {}
  peerPort: {}
  sourceAddress: {node}
  enableGracefulRestart: true
",
            router.address.ip(),
            router.address.port(),
        );
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let metrics = listener.local_addr().expect("an address");
        drop(listener);
        let log = File::create(folder.path().join("log")).expect("a file");
        fs::write(folder.path().join("manifests/peer.yaml"), peer).expect("written");
        let rest = REST.replace("192.0.2.0/24", PREFIX);
        fs::write(folder.path().join("manifests/rest.yaml"), rest).expect("written");
        fs::write(folder.path().join("manifests/node.yaml"), NODE).expect("written");
        let process = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", NAME, "--nocapture"])
            .env(FOLDER, folder.path())
            .env(METRICS, metrics.to_string())
            .env_remove("RUST_LOG")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("a process");
        Self {
            folder,
            router,
            metrics,
            process,
        }
    }

    fn poison(&self) -> PathBuf {
        self.folder.path().join("manifests/poison.yaml")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// Status and body; empty while there is no listener.
    fn get(&self, path: &str) -> String {
        let ask = || {
            let mut stream = TcpStream::connect(self.metrics)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        ask().unwrap_or_default()
    }

    async fn await_status(&self, path: &str, status: u16) {
        let begun = Instant::now();
        loop {
            let answer = self.get(path);
            if answer.starts_with(&format!("HTTP/1.0 {status}")) {
                return;
            }
            let log = self.log();
            assert!(begun.elapsed() < TIMEOUT, "{path}: {answer}\n{log}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a log line that contains this text. The log follows the status.
    async fn await_log(&self, part: &str) {
        let begun = Instant::now();
        while !self.log().contains(part) {
            let log = self.log();
            assert!(
                begun.elapsed() < TIMEOUT,
                "{part} is not in the log:\n{log}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for the announcement, and fails on a withdrawal. Returns the number of sessions that
    /// ended before it.
    async fn await_announced(&mut self) -> usize {
        let mut closed = 0;
        loop {
            let event = timeout(TIMEOUT, self.router.events.recv()).await;
            match event.expect("an event").expect("the router runs") {
                Event::Received { update, .. } => {
                    assert_eq!(update.withdrawn_prefixes().count(), 0);
                    if let Some(prefix) = update.announced().next() {
                        assert_eq!(prefix.to_string(), PREFIX);
                        return closed;
                    }
                }
                Event::Down {
                    was_established: true,
                    cause,
                    ..
                } => {
                    // RFC 4724, section 4: without a NOTIFICATION the router keeps the routes.
                    assert!(
                        matches!(cause, Cause::Closed { error: None, .. }),
                        "{cause}"
                    );
                    closed += 1;
                }
                _ => {}
            }
        }
    }

    async fn is_established(&self) -> bool {
        let peers = self.router.handle.snapshot().await;
        peers.iter().any(|peer| peer.state == State::Established)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn routes_stay_announced_while_the_process_restarts_after_a_panic() {
    if let (Some(folder), Ok(metrics)) = (env::var_os(FOLDER), env::var(METRICS)) {
        // A thread of its own: the daemon has its own runtime.
        let daemon = std::thread::spawn(move || run_daemon(Path::new(&folder), &metrics));
        daemon.join().expect("the daemon ends well");
        return;
    }
    let mut scene = Scene::start(Ipv4Addr::new(127, 0, 0, 113));
    assert_eq!(scene.await_announced().await, 0);
    scene.await_status("/readyz", 200).await;
    assert!(!scene.log().contains("panic"), "{}", scene.log());

    fs::write(scene.poison(), POISON).expect("written");
    scene.await_status("/readyz", 503).await;
    scene.await_status("/livez", 200).await;
    assert!(scene.is_established().await, "{}", scene.log());
    for part in [
        PANIC,
        "BGPPeer.ferrolb.io metallb-system/poisoned",
        "restarts in 3 s",
    ] {
        scene.await_log(part).await;
    }

    fs::remove_file(scene.poison()).expect("removed");
    assert_eq!(scene.await_announced().await, 1, "{}", scene.log());
    scene.await_status("/readyz", 200).await;
    assert!(scene.is_established().await, "{}", scene.log());
    let log = scene.log();
    assert_eq!(log.matches("\"ferrolb started\"").count(), 2, "{log}");
    let running = scene.process.try_wait().expect("a child");
    assert_eq!(running, None, "the process itself is what runs again");

    let kill = Command::new("kill")
        .arg(scene.process.id().to_string())
        .status();
    assert!(kill.expect("kill").success());
    let status = scene.process.wait().expect("a child");
    assert!(status.success(), "{status}: {}", scene.log());
}
