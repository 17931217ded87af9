//! A real Prometheus scrapes ferrolb: every query of the dashboard and every alert works.
//! `cargo xtask test prometheus` runs it. It needs the Debian package prometheus.

mod rack;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb::testing::{DaemonStatus, Layer2Services, render_metrics};
use ferrolb_layer2::mac::Mac;
use ferrolb_layer2::status::{
    AddressStatus, Move, OwnerReason, SegmentStatus, SelfTest, Status, Traffic,
};
use rack::{Daemon, Router};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);

/// The daemon's `sourceAddress`.
const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 81);
const ROUTER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 82);

const MISSING: &str = "install the Debian package prometheus";

fn monitoring(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/monitoring")
        .join(file)
}

/// Two pools, a Service with an address and one without, a rejected object, a peer that answers,
/// and one with BFD and a prefix limit that does not.
fn manifests(port: u16) -> String {
    let rest = rack::REST;
    format!(
        "{{apiVersion: v1, kind: Node, metadata: {{name: node-a}}}}
---
{rest}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: second}}
spec: {{addresses: ['2001:db8::/120']}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: invalid}}
spec: {{addresses: [192.0.2.0/33]}}
---
apiVersion: v1
kind: Service
metadata: {{name: waits, namespace: default, annotations: {{metallb.io/address-pool: none}}}}
spec: {{type: LoadBalancer, clusterIP: 10.96.0.2, ports: [{{port: 80}}]}}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: tor}}
spec:
  {{myASN: 64512, peerASN: 64513, peerAddress: {ROUTER}, peerPort: {port}, sourceAddress: {NODE}}}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {{name: fast}}
spec: {{}}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {{name: dark}}
spec:
  myASN: 64512
  peerASN: 64514
  peerAddress: {ROUTER}
  peerPort: 1
  sourceAddress: {NODE}
  bfdProfile: fast
  prefixLimit: 50
"
    )
}

/// The metrics of a layer 2 process that owns one of two addresses. Packet sockets need a
/// privilege, so this is the status that its engine would report.
fn layer2_metrics() -> Vec<u8> {
    let address = |owner: Option<&str>| AddressStatus {
        candidates: Arc::default(),
        owner: owner.map(Arc::from),
        since: Duration::ZERO,
        epoch: 1,
        reason: OwnerReason::Placed,
        conflict: owner.is_none().then_some(Mac([2, 0, 0, 0, 0, 9])),
        interfaces: Vec::new(),
        moves: vec![Move {
            at: Duration::ZERO,
            from: None,
            to: owner.map(Arc::from),
            reason: OwnerReason::Placed,
        }],
        self_test: owner.map(|_| SelfTest {
            by: "node-b".into(),
            at: Duration::ZERO,
            answers: Vec::new(),
            passed: false,
        }),
        traffic: Traffic {
            requests: 7,
            responses: 7,
            gratuitous: 7,
        },
    };
    let addresses = [("192.0.2.1", Some("node-a")), ("192.0.2.2", None)];
    let addresses =
        addresses.map(|(ip, owner)| (ip.parse::<IpAddr>().expect("an address"), address(owner)));
    let services = addresses.each_ref().map(|(ip, _)| (*ip, &["web"][..]));
    let layer2 = Status {
        node: "node-a".into(),
        addresses: addresses.into(),
        segments: vec![SegmentStatus {
            interface: "eth0".into(),
            mac: Mac::ZERO,
            carrier: true,
            networks: Vec::new(),
            promiscuous: false,
            peers: Vec::new(),
            warnings: Vec::new(),
        }],
        ..Status::default()
    };
    let status = DaemonStatus {
        layer2_services: Layer2Services::named(&services),
        ..DaemonStatus::default()
    };
    render_metrics(&status, "node-a", &[], None, Some(&layer2)).expect("metrics")
}

/// Answers every request with this text. Returns the address.
fn serve(text: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            _ = stream.read(&mut request);
            let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n";
            _ = stream.write_all(&[head.as_bytes(), &text].concat());
        }
    });
    address
}

/// An address of loopback whose port is free.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// A Prometheus with the shipped alerts. It ends with the test.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Prometheus {
    /// Starts it on the targets: the name of the Pod and the address of each.
    fn start(folder: &Path, targets: &[(&str, SocketAddr)]) -> Self {
        let targets: String = targets
            .iter()
            .map(|(pod, address)| format!("{{targets: ['{address}'], labels: {{pod: {pod}}}}}, "))
            .collect();
        let rules = monitoring("alerts.yaml");
        let rules = rules.canonicalize().expect("shipped");
        let configuration = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: ferrolb, static_configs: [{targets}]}}]\n",
            rules.display()
        );
        let file = folder.join("prometheus.yaml");
        fs::write(&file, configuration).expect("written");
        let address = free_address();
        let log = folder.join("prometheus.log");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"))
            .spawn();
        Self {
            process: process.expect(MISSING),
            address,
            log,
        }
    }

    /// `data` of an answer of the API, or the error.
    fn get(&self, path: &str) -> Result<Value, String> {
        let request = format!("GET /api/v1/{path} HTTP/1.0\r\nHost: prometheus\r\n\r\n");
        let mut text = String::new();
        TcpStream::connect(self.address)
            .and_then(|mut stream| {
                stream.write_all(request.as_bytes())?;
                stream.read_to_string(&mut text)
            })
            .map_err(|error| error.to_string())?;
        let (_, body) = text.split_once("\r\n\r\n").ok_or("no HTTP")?;
        let mut answer: Value =
            serde_json::from_str(body).map_err(|error| format!("{error}: {text}"))?;
        match &answer["error"] {
            Value::Null => Ok(answer["data"].take()),
            error => Err(error.to_string()),
        }
    }

    /// The labels of each result of an instant query.
    fn query(&self, expression: &str) -> Result<Vec<BTreeMap<String, String>>, String> {
        let encoded: String = expression
            .bytes()
            .map(|octet| format!("%{octet:02X}"))
            .collect();
        let data = self.get(&format!("query?query={encoded}"))?;
        let results = data["result"].as_array().ok_or("no results")?;
        Ok(results
            .iter()
            .map(|result| serde_json::from_value(result["metric"].clone()).expect("labels"))
            .collect())
    }

    /// Waits until the expression has results.
    fn await_results(&self, expression: &str) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let results = self.query(expression);
            if results.as_ref().is_ok_and(|results| !results.is_empty()) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{expression}: {results:?}\n{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn every_query_of_the_dashboard_has_results_and_every_alert_is_evaluated() {
    let folder = tempfile::tempdir().expect("a folder");
    let router = Router::start(NODE, false);
    let manifests_folder = folder.path().join("manifests");
    fs::create_dir(&manifests_folder).expect("a folder");
    let text = manifests(router.address.port());
    fs::write(manifests_folder.join("all.yaml"), &text).expect("written");
    let metrics = free_address();
    let _daemon = Daemon::start_with(
        &manifests_folder,
        &folder.path().join("ferrolb.sock"),
        &["--metrics-addr", &metrics.to_string()].map(OsStr::new),
    );
    let targets = [
        ("ferrolb-a", metrics),
        ("ferrolb-layer2-a", serve(layer2_metrics())),
    ];
    let prometheus = Prometheus::start(folder.path(), &targets);
    prometheus.await_results("metallb_bgp_session_up == 1");
    prometheus.await_results("ferrolb_allocator_leader_bool == 1");
    prometheus.await_results("ferrolb_allocator_services_without_address == 1");
    // `rate` needs two samples.
    prometheus.await_results("min(count_over_time(metallb_bgp_updates_total[1m])) > 2");
    prometheus.await_results("min(count_over_time(ferrolb_layer2_addresses[1m])) > 2");
    // The Service loses its only endpoint.
    let without_endpoints = text.replace("[{addresses: [10.1.0.1]}]", "[]");
    assert_ne!(without_endpoints, text);
    let replace = |text: &str| {
        let new = folder.path().join("new.yaml");
        fs::write(&new, text).expect("written");
        fs::rename(new, manifests_folder.join("all.yaml")).expect("replaced");
    };
    replace(&without_endpoints);
    prometheus.await_results("ferrolb_convergence_seconds_count{stage=\"acknowledged\"} > 0");
    // Other queries are about an announced address.
    replace(&text);
    prometheus.await_results("metallb_bgp_announced_prefixes_total == 1");

    let dashboard = fs::read_to_string(monitoring("dashboard.json")).expect("shipped");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    assert!(dashboard["schemaVersion"].is_u64());
    let variables = &dashboard["templating"]["list"];
    assert_eq!(variables[0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut evaluated = 0;
    for target in targets {
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{target}");
        let expression = target["expr"].as_str().expect("an expression");
        let expression = expression
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*");
        let results = prometheus.query(&expression);
        let results = results.unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert!(!results.is_empty(), "no result: {expression}");
        let legend = target["legendFormat"].as_str().expect("a legend");
        for label in legend
            .split("{{")
            .skip(1)
            .filter_map(|part| part.split("}}").next())
        {
            let named = results.iter().all(|labels| labels.contains_key(label));
            assert!(named, "no label {label}: {expression} {results:?}");
        }
        evaluated += 1;
    }
    assert!(evaluated > 40, "{evaluated}");
    alerts_are_evaluated(&prometheus);
}

/// No alert has an error, and those fire or wait whose condition is met.
fn alerts_are_evaluated(prometheus: &Prometheus) {
    for alert in [
        "FerrolbServiceWithoutAddress",
        "FerrolbAddressConflict",
        "FerrolbAddressWithoutOwner",
        "FerrolbSelfTestFailed",
        "MetalLBBGPSessionDown",
        "MetalLBStaleConfig",
    ] {
        prometheus.await_results(&format!("ALERTS{{alertname=\"{alert}\"}}"));
    }
    let rules = prometheus.get("rules").expect("rules");
    let groups = rules["groups"].as_array().expect("groups").iter();
    let rules: Vec<&Value> = groups
        .flat_map(|group| group["rules"].as_array().expect("rules"))
        .collect();
    assert!(rules.len() > 15, "{}", rules.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

fn promtool(arguments: &[&OsStr]) {
    let output = Command::new("promtool").args(arguments).output();
    let output = output.expect(MISSING);
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn promtool_accepts_the_alerts() {
    let rules = monitoring("alerts.yaml");
    let check = ["check", "rules", "--lint=all", "--lint-fatal"].map(OsStr::new);
    promtool(&[&check[..], &[rules.as_os_str()]].concat());
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    let tests = monitoring("alerts_test.yaml");
    promtool(&["test".as_ref(), "rules".as_ref(), tests.as_os_str()]);
}
