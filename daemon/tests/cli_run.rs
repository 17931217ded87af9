//! `ferrolb run` and `ferrolb demo`: exit codes and messages.

mod program;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use program::{ferrolb, stdout};

#[test]
fn run_without_a_node_name_names_the_option() {
    let output = ferrolb(&["run", "--manifests", ".", "--metrics-addr", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("--node-name") && text.contains("NODE_NAME"),
        "{text}"
    );
}

#[test]
fn run_with_status_objects_of_metallb_needs_an_api_server() {
    let arguments = [
        "run",
        "--role",
        "announcer",
        "--node-name",
        "a",
        "--manifests",
        ".",
    ];
    let output = ferrolb(&[&arguments[..], &["--metallb-status"]].concat());
    assert_ne!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("cannot be used with"), "{text}");
}

#[test]
fn run_refuses_a_health_url_that_is_none_and_in_a_role_that_announces_nothing() {
    let arguments = ["run", "--node-name", "a", "--service-proxy-health"];
    let output = ferrolb(&[&arguments[..], &["127.0.0.1:10256"]].concat());
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("expected http://HOST:PORT/PATH"), "{text}");
    let url = "http://127.0.0.1:10256/livez";
    let output = ferrolb(&[&arguments[..], &[url, "--role", "allocator"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("--service-proxy-health has no effect"),
        "{text}"
    );
}

#[test]
fn run_refuses_a_collector_without_a_port_and_in_a_role_without_sessions() {
    let output = ferrolb(&["run", "--node-name", "a", "--bmp", "collector.example.org"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("expected HOST:PORT"), "{text}");
    let arguments = ["run", "--role", "allocator", "--bmp", "127.0.0.1:5000"];
    let output = ferrolb(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("--bmp has no effect"), "{text}");
}

#[test]
fn run_with_metrics_over_https_needs_an_api_server_and_a_valid_certificate() {
    let error = |arguments: &[&str]| {
        let run = ["run", "--role=allocator", "--metrics-addr=127.0.0.1:0"];
        let output = ferrolb(&[&run[..], arguments].concat());
        assert_ne!(output.status.code(), Some(0));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let folder = error(&["--metrics-tls", "--manifests=."]);
    assert!(folder.contains("cannot be used with"), "{folder}");
    let plain = error(&["--metrics-tls-cert-dir=."]);
    assert!(plain.contains("--metrics-tls"), "{plain}");
    let missing = error(&["--metrics-tls", "--metrics-tls-cert-dir=/nonexistent"]);
    assert!(
        missing.contains("/nonexistent/tls.crt") && missing.contains("kubernetes.io/tls"),
        "{missing}"
    );
}

#[test]
fn run_for_a_missing_node_logs_a_warning() {
    let folder = std::env::temp_dir().join(format!("ferrolb-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let unread = "{apiVersion: purelb.io/v1, kind: ServiceGroup, metadata: {name: a}}";
    std::fs::write(folder.join("old.yaml"), unread).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ferrolb"))
        .arg("run")
        .arg("--manifests")
        .arg(&folder)
        .args(["--node-name", "nod1", "--metrics-addr", "127.0.0.1:0"])
        .arg("--socket")
        .arg(folder.with_extension("sock"))
        .args(["--log-format", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    let mut warnings = std::iter::from_fn(|| received.recv_timeout(Duration::from_secs(20)).ok())
        .filter(|line| line.contains("WARN"));
    let first = warnings.next().unwrap_or_default();
    let complaint = warnings.next();
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(
        first.contains("ServiceGroup of purelb.io/v1 has no effect")
            && first.contains("old.yaml:1"),
        "{first}"
    );
    let complaint = complaint.expect("no warning");
    assert!(
        complaint.contains("no Node object of this name") && complaint.contains("\"nod1\""),
        "{complaint}"
    );
}

#[test]
fn the_page_needs_files_that_can_be_read_again() {
    let error = |path: &str| {
        let output = ferrolb(&["ui", "--port", "0", "-f", path]);
        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let input = error("-");
    assert!(
        input.contains("standard input can't be read again"),
        "{input}"
    );
    let missing = error("nowhere.yaml");
    assert!(missing.contains("can't read nowhere.yaml"), "{missing}");
    let output = ferrolb(&["ui", "--kubeconfig", "/nowhere/config"]);
    assert_eq!(output.status.code(), Some(1));
    let cluster = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(cluster.contains("/nowhere/config"), "{cluster}");
}

/// Limits: under 15 seconds, exit code 0.
#[test]
fn the_demo_succeeds() {
    let begin = Instant::now();
    let output = ferrolb(&["demo"]);
    let text = stdout(&output);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(begin.elapsed() < Duration::from_secs(15));
    assert_eq!(text.matches("✓ routes received").count(), 4, "{text}");
    assert!(text.contains("NoLocalEndpoints"), "{text}");
    let first = text.split("✓").next().unwrap_or_default();
    for path in [
        "203.0.113.1/32   127.0.0.11 (node-a)",
        "127.0.0.12 (node-b)",
        "127.0.0.13 (node-c)",
    ] {
        assert!(first.contains(path), "{text}");
    }
}
