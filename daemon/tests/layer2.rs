//! `ferrolb run --role=layer2` without the right to open packet sockets: it says so, and everything
//! else goes on. The lab tests it with that right.

mod program;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use program::{ferrolb, stdout};

const WAIT: Duration = Duration::from_secs(20);

const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: a}}";
const ADVERTISEMENT: &str = "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: \
                             {name: l2}}";
/// A peer whose Secret is missing: an error in roles that announce over BGP.
const PEER: &str = "{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {name: tor}, spec: \
                    {myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1, passwordSecret: {name: \
                    missing}}}";

/// The program without the capability NET_RAW, also if the test runs as root.
fn unprivileged() -> Command {
    let program = env!("CARGO_BIN_EXE_ferrolb");
    let root = fs::metadata("/proc/self").is_ok_and(|this| {
        use std::os::unix::fs::MetadataExt;
        this.uid() == 0
    });
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw", program]);
    command
}

/// A running process and its log lines.
struct Daemon {
    process: Child,
    lines: Receiver<String>,
}

impl Daemon {
    fn start(folder: &Path, socket: &Path) -> Self {
        let mut process = unprivileged()
            .args(["run", "--role", "layer2", "--node-name", "a", "--manifests"])
            .arg(folder)
            .args([
                "--metrics-addr",
                "127.0.0.1:0",
                "--log-format",
                "json",
                "--socket",
            ])
            .arg(socket)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts; as root the test needs setpriv (util-linux)");
        let (sender, lines) = channel();
        let output = BufReader::new(process.stderr.take().expect("a pipe"));
        std::thread::spawn(move || {
            let mut lines = output.lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    /// The next log line with this text, and the lines before it.
    fn wait_for(&self, text: &str) -> (String, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let line = self.lines.recv_timeout(WAIT);
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?}: {before:#?}"));
            if line.contains(text) {
                return (line, before);
            }
            before.push(line);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.process.kill());
    }
}

fn probe(socket: &Path) -> (Option<i32>, String) {
    let socket = socket.to_str().expect("text");
    let output = ferrolb(&["probe", "ready", "--socket", socket]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), stdout(&output) + &error)
}

#[test]
fn without_net_raw_the_process_names_the_remedy_and_is_ready_once_layer_2_is_not_needed() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().with_extension("sock");
    let advertisement = folder.path().join("l2.yaml");
    fs::write(folder.path().join("peer.yaml"), PEER).expect("written");
    fs::write(folder.path().join("node.yaml"), NODE).expect("written");
    fs::write(&advertisement, ADVERTISEMENT).expect("written");
    let mut daemon = Daemon::start(folder.path(), &socket);

    let (refused, before) = daemon.wait_for("can't start layer 2");
    assert!(
        refused.contains("NET_RAW") && refused.contains("ERROR"),
        "{refused}"
    );
    assert!(
        before.iter().all(|line| !line.contains("BGPPeer")),
        "{before:#?}"
    );
    let (code, text) = probe(&socket);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("layer 2 does not run"), "{text}");
    let output = ferrolb(&["peers", "--socket", socket.to_str().expect("text")]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("no BGP sessions"), "{error}");

    fs::remove_file(&advertisement).expect("removed");
    daemon.wait_for("resolved: can't start layer 2");
    let (code, text) = probe(&socket);
    assert_eq!(code, Some(0), "{text}");

    let pid = daemon.process.id().to_string();
    let kill = Command::new("kill").arg(pid).status();
    assert!(kill.expect("kill").success());
    daemon.wait_for("ferrolb stopped");
    let status = daemon.process.wait().expect("an exit code");
    assert_eq!(status.code(), Some(0));
}
