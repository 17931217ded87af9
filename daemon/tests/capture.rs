//! `ferrolb capture` records the session of a daemon with a router. The unit tests of the formats
//! and the lab read recordings with other programs.

mod rack;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ferrolb_bgp::fsm::ShutdownMode;
use rack::{Daemon, REST, Router, TIMEOUT};

/// The daemon's `sourceAddress`; the router has the next one.
const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 131);

fn manifests(port: u16) -> String {
    let peer = |name: &str, port: u16| {
        format!(
            "---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: {name}}}
spec:
  myASN: 64512
  peerASN: 64513
  peerAddress: 127.0.0.132
  peerPort: {port}
  sourceAddress: {NODE}
"
        )
    };
    let node = "{apiVersion: v1, kind: Node, metadata: {name: node-a}}";
    format!(
        "{node}\n---\n{REST}{}{}",
        peer("tor", port),
        peer("dark", 1)
    )
}

/// A daemon with a session.
struct Rack {
    folder: tempfile::TempDir,
    router: Router,
    _daemon: Daemon,
}

impl Rack {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let router = Router::start(NODE, false);
        fs::create_dir(folder.path().join("manifests")).expect("a folder");
        let manifests_folder = folder.path().join("manifests");
        let text = manifests(router.address.port());
        fs::write(manifests_folder.join("all.yaml"), text).expect("written");
        let daemon = Daemon::start(&manifests_folder, &folder.path().join("ferrolb.sock"));
        let rack = Self {
            folder,
            router,
            _daemon: daemon,
        };
        until("a session with a route", || {
            let peers = rack.ferrolb(&["peers", "-o", "json"]).output();
            let peers = peers.expect("the program starts").stdout;
            String::from_utf8_lossy(&peers).contains("\"prefixes_advertised\": 1")
        });
        rack
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ferrolb(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrolb"));
        command.args(arguments).arg("--socket");
        command.arg(self.file("ferrolb.sock"));
        command
    }

    /// Starts a capture to a file, and waits until it runs.
    fn capture(&self, name: &str, arguments: &[&str]) -> Recorder {
        let file = self.file(name);
        let mut command = self.ferrolb(&["capture", "tor"]);
        command
            .arg("-o")
            .arg(&file)
            .args(arguments)
            .stderr(Stdio::piped());
        let recorder = Recorder(command.spawn().expect("the program starts"));
        until("the file", || file.exists());
        recorder
    }

    fn error(&self, arguments: &[&str]) -> String {
        let mut command = self.ferrolb(&[&["capture"], arguments].concat());
        let output = command.output().expect("the program starts");
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Withdraws the route of the only service.
    fn withdraw(&self) {
        let file = self.file("manifests/all.yaml");
        let text = fs::read_to_string(&file).expect("manifests");
        let new = text.replace("[{addresses: [10.1.0.1]}]", "[]");
        assert_ne!(new, text);
        fs::write(self.file("new.yaml"), new).expect("written");
        fs::rename(self.file("new.yaml"), file).expect("replaced");
    }
}

/// A capture. It ends with the test.
struct Recorder(Child);

impl Recorder {
    /// Waits for its end.
    fn output(mut self) -> Output {
        until("the end", || self.0.try_wait().expect("a child").is_some());
        let child = std::mem::replace(&mut self.0, Command::new("true").spawn().expect("true"));
        child.wait_with_output().expect("output")
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !reached() {
        assert!(Instant::now() < deadline, "{what}: never");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Subtype and message type of each record of an MRT file.
fn records(file: &Path) -> Vec<(u16, u8)> {
    let octets = fs::read(file).expect("a recording");
    let mut records = Vec::new();
    let mut rest = &octets[..];
    while let Some((header, more)) = rest.split_first_chunk::<12>() {
        assert_eq!(header[4..6], [0, 17], "BGP4MP_ET");
        let length = u32::from_be_bytes(header[8..].try_into().expect("four octets"));
        let (body, more) = more.split_at(length as usize);
        // Microseconds, two AS numbers, interface, family, two IPv4 addresses; then the message.
        let message = &body[4 + 8 + 4 + 8..];
        records.push((u16::from_be_bytes([header[6], header[7]]), message[18]));
        rest = more;
    }
    records
}

#[tokio::test]
async fn a_capture_records_updates_and_the_end_of_a_session() {
    let rack = Rack::start();
    let all = rack.capture("all.mrt", &[]);
    let one = rack.capture("one.pcap", &["--format", "pcap", "--count", "1"]);
    rack.withdraw();
    let one = one.output();
    assert!(one.status.success());
    assert_eq!(
        String::from_utf8_lossy(&one.stderr),
        "messages recorded: 1\n"
    );
    let pcap = fs::read(rack.file("one.pcap")).expect("a recording");
    let length = u32::from_be_bytes(pcap[32..36].try_into().expect("four octets"));
    assert_eq!(pcap.len(), 24 + 16 + length as usize, "one packet");
    rack.router
        .handle
        .shutdown("bye", ShutdownMode::Withdraw)
        .await;
    // A withdrawal by the daemon, a NOTIFICATION by the router.
    until("both messages", || {
        let records = records(&rack.file("all.mrt"));
        records.contains(&(7, 2)) && records.contains(&(4, 3))
    });
    drop(all);
}

#[test]
fn four_captures_run_at_once_and_one_ends_after_its_time() {
    let rack = Rack::start();
    let running = ["1", "2", "3", "4"].map(|name| rack.capture(name, &[]));
    let fifth = rack.error(&["tor"]);
    assert!(
        fifth.contains("4 captures of this daemon run already"),
        "{fifth}"
    );
    drop(running);
    // The daemon notices the end of the others within a second.
    let timed = rack.file("timed.mrt").display().to_string();
    until("another capture", || {
        let mut capture = rack.ferrolb(&["capture", "dark", "--duration", "1s", "-o", &timed]);
        let output = capture.output().expect("the program starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success() && text == "messages recorded: 0\n"
    });
}

#[test]
fn a_capture_of_nothing_says_what_is_wrong() {
    let rack = Rack::start();
    let unknown = rack.error(&["torr"]);
    assert!(
        unknown.contains("no peer torr") && unknown.contains("dark ("),
        "{unknown}"
    );
    let several = rack.error(&["127.0.0.132"]);
    assert!(
        several.contains("select one by name: dark, tor"),
        "{several}"
    );
    let folder = rack.folder.path().display().to_string();
    let unwritable = rack.error(&["tor", "-o", &folder]);
    assert!(unwritable.contains("choose another file"), "{unwritable}");
    for duration in ["0s", "5", "soon"] {
        let bad = rack.error(&["tor", "--duration", duration]);
        assert!(bad.contains("--duration") && bad.contains('s'), "{bad}");
    }
    let none = rack.error(&["tor", "--count", "0"]);
    assert!(none.contains("--count"), "{none}");
}
