//! `ferrolb log --cluster` with an API server that has two Pods of ferrolb and one that waits for a
//! node.

mod program;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use program::{ferrolb, folder_of, stdout};
use serde_json::json;

/// An API server. Ends with the test.
struct ApiServer {
    kubeconfig: tempfile::TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

/// A line of a daemon, with the time of the kubelet, which is a bit later.
fn line(second: u8, level: &str, message: &str, peer: Option<&str>) -> String {
    let at = format!("2026-01-02T03:04:0{second}");
    let mut event = json!({"timestamp": format!("{at}.0Z"), "level": level, "message": message});
    if let Some(peer) = peer {
        event["peer"] = peer.into();
    }
    format!("{at}.1Z {event}\n")
}

fn answer(path: &str) -> (u16, String) {
    let pod = |name: &str, node: &str| {
        let labels = json!({"app.kubernetes.io/component": "announcer"});
        json!({"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": node}})
    };
    let pods = [pod("a", "node-a"), pod("b", "node-b"), pod("c", "")];
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    match path.strip_prefix("/api/v1/namespaces/metallb-system/pods") {
        Some("") => {
            let list = json!({"kind": "PodList", "apiVersion": "v1", "items": pods});
            (200, list.to_string())
        }
        Some("/a/log") => (
            200,
            line(5, "INFO", "one", None) + &line(7, "WARN", "three", Some("tor")),
        ),
        Some("/b/log") => (200, line(6, "INFO", "two", None)),
        _ => {
            let message = format!("pods \"ferrolb\" is forbidden: {path}");
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden",
                "code": 403, "message": message,
            });
            (403, status.to_string())
        }
    }
}

impl ApiServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
                let first = lines.next().and_then(Result::ok).unwrap_or_default();
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                // The headers.
                for _ in lines
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                {}
                let (code, body) = answer(&path);
                seen.lock().expect("no panic").push(path);
                let length = body.len();
                _ = write!(
                    stream,
                    "HTTP/1.1 {code} Answer\r\nContent-Type: application/json\r\n\
                     Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
            }
        });
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        Self {
            kubeconfig: folder_of("config", &kubeconfig.to_string()),
            requests,
        }
    }

    fn log(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let kubeconfig = self.kubeconfig.path().join("config").display().to_string();
        let log = ["log", "--cluster", "--kubeconfig", &kubeconfig];
        let output = ferrolb(&[&log[..], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), stdout(&output), error)
    }
}

#[test]
fn the_logs_of_all_pods_are_merged_by_time() {
    let api = ApiServer::start();
    let (code, text, error) = api.log(&["--since", "2h", "--tail", "50"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(
        text,
        "2026-01-02T03:04:05.000Z  node-a  announcer  INFO  one\n\
         2026-01-02T03:04:06.000Z  node-b  announcer  INFO  two\n\
         2026-01-02T03:04:07.000Z  node-a  announcer  WARN  three peer=tor\n"
    );
    let requests = api.requests.lock().expect("no panic").clone();
    assert_eq!(requests.len(), 3, "{requests:?}");
    let log = requests
        .iter()
        .find(|path| path.contains("/a/log"))
        .expect("a request");
    assert!(
        log.contains("tailLines=50") && log.contains("sinceSeconds=7200"),
        "{log}"
    );
}

#[test]
fn the_filters_of_the_local_log_and_of_nodes_apply() {
    let api = ApiServer::start();
    let (_, about_peer, _) = api.log(&["--peer", "tor", "-o", "json"]);
    let line: serde_json::Value = serde_json::from_str(&about_peer).expect("one line of JSON");
    assert_eq!(
        (&line["message"], &line["node"]),
        (&json!("three"), &json!("node-a"))
    );
    let (_, of_node, _) = api.log(&["--node", "node-b"]);
    assert!(
        of_node.contains("two") && of_node.lines().count() == 1,
        "{of_node}"
    );
    let (code, _, error) = api.log(&["--node", "node-x"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("they are on node-a, node-b"), "{error}");
}

#[test]
fn an_api_server_that_refuses_is_named() {
    let api = ApiServer::start();
    let (code, _, error) = api.log(&["--namespace", "other"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("forbidden"), "{error}");
    let output = ferrolb(&["log", "--node", "node-a"]);
    assert_eq!(output.status.code(), Some(2), "--node needs --cluster");
}
