//! Tests of the server through its port.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use super::assets::ASSETS;
use super::live::{Feed, Live};
use super::{Ui, requests};
use crate::core::config::{CONFIG_NAMESPACE, ConfigPlaces};

const PASSWORD: &str = "correct-horse-battery";
const TIMEOUT: Duration = Duration::from_secs(20);
/// The page's limit for its files.
const ASSETS_MAX: usize = 300_000;

/// A server and the folder that it shows.
struct Server {
    port: u16,
    folder: TempDir,
}

impl Server {
    /// Shows these cases of `ferrolb plan`.
    fn start(cases: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for case in cases {
            let name = format!("{case}.yaml");
            let plans = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
            std::fs::copy(plans.join(&name), folder.path().join(&name)).expect("a case");
        }
        let port = serve(vec![folder.path().to_owned()]);
        Self { port, folder }
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("written");
    }

    fn request(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = self.connect(head, body);
        let mut text = Vec::new();
        stream.read_to_end(&mut text).expect("an answer");
        let text = String::from_utf8_lossy(&text).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (status.expect("a status"), text)
    }

    fn connect(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.host()).expect("connected");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        let length = body.len();
        let request = format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        // The server may refuse before it has read everything.
        _ = stream.write_all(request.as_bytes());
        stream
    }

    fn get(&self, path: &str) -> (u16, String) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", self.host());
        self.request(&head, "")
    }

    fn post(&self, body: &str) -> (u16, String) {
        let host = self.host();
        let head = format!(
            "POST /what-if HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n\
             Content-Type: application/json\r\n"
        );
        self.request(&head, body)
    }

    fn if_happens(&self, assumption: &Value) -> (u16, Value) {
        let (status, text) = self.post(&assumption.to_string());
        (status, json_of(&text))
    }

    fn events(&self) -> Events {
        let head = format!("GET /events HTTP/1.1\r\nHost: {}\r\n", self.host());
        Events(BufReader::new(self.connect(&head, "")))
    }
}

/// Serves on a separate thread, until the process ends.
fn serve(paths: Vec<PathBuf>) -> u16 {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let feed = Feed::Manifests {
                paths,
                config: ConfigPlaces::of(&[CONFIG_NAMESPACE.to_owned()]),
                sessions: watch::channel(Arc::default()).1,
            };
            let ui = Ui::bind(Some(0), feed).await.expect("bound");
            let port = ui
                .url()
                .trim_end_matches('/')
                .rsplit(':')
                .next()
                .map(str::parse);
            send.send(port.expect("a port").expect("a port"))
                .expect("received");
            ui.serve().await;
        });
    });
    receive.recv().expect("a port")
}

fn json_of(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

/// The events of a connection.
struct Events(BufReader<TcpStream>);

impl Events {
    /// The next picture. None if there is none in time.
    fn next(&mut self, limit: Duration) -> Option<Value> {
        self.0
            .get_ref()
            .set_read_timeout(Some(limit))
            .expect("a timeout");
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).ok();
            }
        }
    }
}

fn service<'a>(event: &'a Value, name: &str) -> Option<&'a Value> {
    let services = event["picture"]["services"].as_array()?;
    services.iter().find(|service| service["name"] == name)
}

#[test]
fn the_files_of_the_page_are_small_and_refer_to_no_other_host() {
    let all: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
    assert!(all < ASSETS_MAX, "{all} octets");
    for asset in ASSETS {
        let text = asset.text.replace("http://www.w3.org/2000/svg", "");
        for forbidden in [
            "http:",
            "https:",
            "//cdn",
            "innerHTML",
            "eval(",
            "style=",
            "url(",
        ] {
            assert!(!text.contains(forbidden), "{}: {forbidden}", asset.path);
        }
    }
    // Each file that the page or a module loads is served.
    let served: BTreeSet<&str> = ASSETS.iter().map(|asset| asset.path).collect();
    for asset in ASSETS {
        let loaded = asset.text.split("from \"./").skip(1);
        for name in loaded.filter_map(|rest| rest.split('"').next()) {
            assert!(
                served.contains(&*format!("/{name}")),
                "{} of {}",
                name,
                asset.path
            );
        }
    }
}

#[test]
fn every_answer_has_a_strict_policy() {
    let server = Server::start(&["base"]);
    for asset in ASSETS {
        let (status, text) = server.get(asset.path);
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let head = head.to_lowercase();
        assert_eq!(status, 200, "{}", asset.path);
        assert!(head.contains(asset.kind), "{head}");
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(head.contains(header), "{}: {header}: {head}", asset.path);
        }
        assert!(!head.contains("access-control"), "{head}");
    }
    let (status, text) = server.get("/missing");
    assert!(
        status == 404 && text.contains("content-security-policy"),
        "{text}"
    );
}

#[test]
fn other_hosts_origins_and_methods_are_refused_and_change_nothing() {
    let server = Server::start(&["base"]);
    let own = server.host();
    let request = |line: &str, headers: &str| {
        let (status, text) = server.request(&format!("{line} HTTP/1.1\r\n{headers}"), "{}");
        assert!(text.contains("content-security-policy"), "{text}");
        status
    };
    let rebound = format!("Host: rebound.example.com:{}\r\n", server.port);
    for path in ["/", "/events", "/explain/node/node-a"] {
        assert_eq!(request(&format!("GET {path}"), &rebound), 421);
        let foreign = format!("Host: {own}\r\nOrigin: http://example.com\r\n");
        assert_eq!(request(&format!("GET {path}"), &foreign), 403);
    }
    let headers = format!("Host: {own}\r\nOrigin: http://{own}\r\n");
    for line in [
        "PUT /",
        "DELETE /what-if",
        "PATCH /",
        "OPTIONS /what-if",
        "POST /explain/a/b",
    ] {
        assert_eq!(request(line, &headers), 405, "{line}");
    }
    assert_eq!(request("POST /what-if", &headers), 415, "no content type");
    let json = "Content-Type: application/json\r\n";
    assert_eq!(
        request("POST /what-if", &format!("Host: {own}\r\n{json}")),
        403,
        "no Origin"
    );
    assert_eq!(request("POST /what-if", &format!("{headers}{json}")), 200);
}

#[test]
fn the_picture_of_a_folder_follows_its_files_and_nothing_else() {
    let server = Server::start(&["base", "withheld"]);
    let mut events = server.events();
    let first = events.next(TIMEOUT).expect("a picture");
    assert_eq!(first["live"], false);
    insta::assert_yaml_snapshot!(first["picture"]);
    let names = first["picture"]["services"].as_array().map(Vec::len);
    assert!(service(&first, "default/later").is_none());
    // A change of no object that is shown.
    server.write(
        "other.yaml",
        "{apiVersion: v1, kind: Pod, metadata: {name: a}}",
    );
    assert!(
        events.next(Duration::from_millis(900)).is_none(),
        "the same picture"
    );
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: later, namespace: default}\n\
                spec: {type: LoadBalancer, clusterIP: 10.96.9.9, ports: [{port: 80}]}\n";
    server.write("later.yaml", text);
    let second = events.next(TIMEOUT).expect("a picture");
    assert!(service(&second, "default/later").is_some());
    assert_eq!(
        second["picture"]["services"].as_array().map(Vec::len),
        names.map(|n| n + 1)
    );
    // Half a file.
    server.write(
        "later.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: [",
    );
    let third = events.next(TIMEOUT).expect("a picture");
    assert!(
        service(&third, "default/later").is_some(),
        "it keeps its last valid objects"
    );
    assert!(
        third["unseen"][0]
            .as_str()
            .is_some_and(|line| line.contains("later.yaml:"))
    );
    let mut others = server.events();
    assert_eq!(
        others.next(TIMEOUT),
        Some(third),
        "a new page has the present picture"
    );
}

#[test]
fn explanations_are_those_of_ferrolb_explain() {
    let server = Server::start(&["base", "withheld"]);
    let (status, text) = server.get("/explain/service/default/fine");
    assert_eq!(
        (status, &json_of(&text)["subject"]),
        (200, &json!("Service default/fine"))
    );
    for (path, subject) in [
        ("node/node-excluded", "Node node-excluded"),
        ("address/192.0.2.2", "address 192.0.2.2"),
        ("pool/quiet", "IPAddressPool metallb-system/quiet"),
        ("peer/tor", "BGPPeer metallb-system/tor"),
    ] {
        let (status, text) = server.get(&format!("/explain/{path}"));
        assert_eq!(
            (status, &json_of(&text)["subject"]),
            (200, &json!(subject)),
            "{path}"
        );
    }
    let (status, text) = server.get("/explain/service/default/fin");
    assert_eq!(status, 404);
    assert!(text.contains("did you mean default/fine?"), "{text}");
    assert_eq!(server.get("/explain/service/nothing").0, 400);
    assert_eq!(server.get("/explain/house/a").0, 400);
    assert_eq!(server.get("/explain/address/10.0.0").0, 400);
}

#[test]
fn what_if_plans_events_and_manifests_and_names_what_is_wrong_with_them() {
    let server = Server::start(&["base", "endpoints"]);
    let (status, answer) = server.if_happens(&json!({ "events": [{ "loseNode": "node-a" }] }));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["withdraws"], true);
    assert!(
        answer["services"]
            .as_array()
            .is_some_and(|list| !list.is_empty()),
        "{answer}"
    );
    let (status, answer) = server.if_happens(&json!({ "events": [] }));
    assert_eq!((status, &answer["services"]), (200, &json!([])));
    let (status, answer) = server.if_happens(&json!({ "events": [{ "drain": "node-x" }] }));
    assert_eq!(status, 422);
    assert!(
        answer["message"]
            .as_str()
            .is_some_and(|text| text.contains("node-a")),
        "{answer}"
    );
    let (status, answer) = server.if_happens(&json!({ "manifests": "a: [" }));
    assert_eq!(status, 422);
    assert!(
        answer["message"]
            .as_str()
            .is_some_and(|text| text.contains("line:1")),
        "{answer}"
    );
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}}";
    assert_eq!(server.if_happens(&json!({ "manifests": pod })).0, 422);
    assert_eq!(server.if_happens(&json!({ "event": [] })).0, 400);
    assert_eq!(server.post("no JSON").0, 400);
}

#[tokio::test]
async fn too_much_text_is_refused() {
    let feed = Feed::Cluster {
        kubeconfig: None,
        context: None,
        config: ConfigPlaces::of(&[]),
    };
    let router = TowerToHyperService::new(requests::router(Live::new(feed)));
    let request = Request::post("/what-if").body(Body::from(vec![b' '; 5 << 20]));
    let answer = router
        .call(request.expect("a request"))
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 413);
}

#[test]
fn no_answer_contains_a_password() {
    let server = Server::start(&["base"]);
    let peer = format!(
        "apiVersion: metallb.io/v1beta2\nkind: BGPPeer\n\
         metadata: {{name: tor, namespace: metallb-system}}\n\
         spec: {{myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, password: {PASSWORD}}}\n"
    );
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: metallb-system}}\n\
         type: kubernetes.io/basic-auth\nstringData: {{password: {PASSWORD}}}\n"
    );
    server.write("peer.yaml", &(peer.clone() + &secret));
    let event = server
        .events()
        .next(TIMEOUT)
        .expect("a picture")
        .to_string();
    assert!(event.contains("10.0.0.1"), "{event}");
    let broken = peer.replace("myASN", "myASM");
    let assumed = [
        json!({ "manifests": peer.replace("64513", "64514") }),
        json!({ "manifests": broken }),
        json!({ "manifests": format!("{broken}  {PASSWORD}: [") }),
        json!({ "events": [{ "losePeer": "tor" }] }),
        json!({ "password": PASSWORD }),
    ];
    let mut answers: Vec<String> = assumed
        .iter()
        .map(|assumption| server.post(&assumption.to_string()).1)
        .collect();
    answers.push(event);
    answers.extend(["peer/tor", "node/node-a", "pool/blue"].map(|path| {
        let (_, text) = server.get(&format!("/explain/{path}"));
        text
    }));
    for answer in answers {
        assert!(!answer.contains(PASSWORD), "{answer}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error_if_it_was_asked_for() {
    let feed = || Feed::Cluster {
        kubeconfig: None,
        context: None,
        config: ConfigPlaces::of(&[]),
    };
    let first = Ui::bind(Some(0), feed()).await.expect("any port");
    let address = first.url();
    let port = address
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok());
    let refused = Ui::bind(port, feed()).await.err().expect("in use");
    assert!(
        format!("{refused:#}").contains("choose another --port"),
        "{refused:#}"
    );
}
