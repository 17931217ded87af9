//! Tests of the HTTP server through its port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::access::Access;
use super::certificate::self_signed;
use super::tls::Tls;
use crate::runtime::serve::http::{self, MAX_CONNECTIONS, Served};
use crate::runtime::source::kube::Reviewer;
use crate::runtime::status::DaemonStatus;

/// Serves on a separate thread, as the daemon does.
fn serve(status: DaemonStatus) -> (SocketAddr, watch::Sender<Arc<DaemonStatus>>) {
    serve_with(status, None, |_| None)
}

/// As [`serve`], with TLS and with access as decided on the thread of the server.
fn serve_with(
    status: DaemonStatus,
    tls: Option<Tls>,
    access: impl FnOnce(&Handle) -> Option<Arc<Access>>,
) -> (SocketAddr, watch::Sender<Arc<DaemonStatus>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (sender, status) = watch::channel(Arc::new(status));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = http::bind(any, false, runtime.handle()).expect("bound");
    let address = listener.local_addr().expect("an address");
    let served = Served {
        status,
        engine: None,
        layer2: None,
        node: "node-0".to_owned(),
        access: access(runtime.handle()),
    };
    std::thread::spawn(move || runtime.block_on(http::serve(listener, served, tls)));
    (address, sender)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    let limit = Some(Duration::from_secs(20));
    stream.set_read_timeout(limit).expect("a time-out");
    stream
}

/// The server's answer to these octets, until it closes the connection.
fn answer(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    // The server may close the connection before it has read everything.
    _ = stream.write_all(request.as_bytes());
    let mut text = Vec::new();
    _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn get(address: SocketAddr, path: &str) -> String {
    answer(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: node-0\r\n\r\n"),
    )
}

#[tokio::test]
async fn livez_reports_a_stalled_loop_while_it_blocks_its_thread() {
    let (address, status) = serve(DaemonStatus::new());
    // Nothing here yields the thread: the runtime is stalled like a loop that never awaits.
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
    status.send_modify(|status| {
        let status = Arc::make_mut(status);
        status.alive = tokio::time::Instant::now().checked_sub(Duration::from_secs(31));
    });
    let text = get(address, "/livez");
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    assert!(text.ends_with("the control loop is stalled\n"), "{text}");
}

#[test]
fn idle_clients_are_disconnected_and_block_probes_for_seconds_only() {
    let (address, _report) = serve(DaemonStatus::new());
    let mut silent: Vec<TcpStream> = (0..MAX_CONNECTIONS).map(|_| connect(address)).collect();
    let begun = Instant::now();
    // A further connection is closed without an answer.
    while !get(address, "/livez").is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "the seats are all taken"
        );
    }
    for stream in &mut silent {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).expect("closed by the server");
    }
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_request_that_is_too_large_is_rejected() {
    let (address, _report) = serve(DaemonStatus::new());
    let header = "x".repeat(64 * 1024);
    let text = answer(
        address,
        &format!("GET /livez HTTP/1.1\r\nX: {header}\r\n\r\n"),
    );
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 431"),
        "{text}"
    );
    assert!(
        get(address, "/metrics").contains("ferrolb_"),
        "others are served"
    );
}

#[tokio::test]
async fn two_processes_share_a_port_only_if_both_permit_it() {
    let runtime = Handle::current();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    for shared in [true, false] {
        let first = http::bind(any, shared, &runtime).expect("bound");
        let address = first.local_addr().expect("an address");
        let second = http::bind(address, true, &runtime);
        assert_eq!(second.is_ok(), shared, "{second:?}");
    }
}

/// An API server that knows the tokens `reader` and `stranger`, and counts the reviews of tokens.
fn api_server(reviews: Arc<AtomicUsize>) -> Router {
    let review_token = move |body: String| async move {
        reviews.fetch_add(1, Ordering::Relaxed);
        let mut review: Value = serde_json::from_str(&body).expect("JSON");
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        let known = matches!(token, "reader" | "stranger");
        let user = known.then(|| json!({ "username": token, "groups": ["people"] }));
        review["status"] = json!({ "authenticated": known, "user": user });
        review.to_string()
    };
    let review_access = |body: String| async move {
        let mut review: Value = serde_json::from_str(&body).expect("JSON");
        let expected = json!({
            "user": "reader",
            "groups": ["people"],
            "nonResourceAttributes": { "path": "/metrics", "verb": "get" },
        });
        review["status"] = json!({ "allowed": review["spec"] == expected });
        review.to_string()
    };
    Router::new()
        .route(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            post(review_token),
        )
        .route(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            post(review_access),
        )
}

/// Access as this API server decides.
fn access(api_server: Router) -> impl FnOnce(&Handle) -> Option<Arc<Access>> {
    move |runtime| {
        let _runtime = runtime.enter();
        let client = kube::Client::new(api_server, "default");
        Some(Arc::new(Access::new(Reviewer::new(client))))
    }
}

fn get_with_token(address: SocketAddr, token: &str) -> String {
    answer(
        address,
        &format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"),
    )
}

#[test]
fn metrics_with_access_control_need_the_token_of_a_user_that_may_read_them() {
    let reviews = Arc::new(AtomicUsize::new(0));
    let server = access(api_server(reviews.clone()));
    let (address, _status) = serve_with(DaemonStatus::new(), None, server);
    let text = get(address, "/metrics");
    assert!(text.starts_with("HTTP/1.1 401"), "{text}");
    assert!(text.to_lowercase().contains("www-authenticate: bearer"));
    assert_eq!(reviews.load(Ordering::Relaxed), 0);
    for (token, status, part) in [
        ("reader", 200, "ferrolb_source_errors 0"),
        ("stranger", 403, "stranger may not get /metrics"),
        ("forged", 401, "needs a bearer token"),
        ("reader", 200, "ferrolb_source_errors 0"),
        ("stranger", 403, "ferrolb-metrics-reader"),
        ("forged", 401, "needs a bearer token"),
    ] {
        let text = get_with_token(address, token);
        let expected = format!("HTTP/1.1 {status}");
        assert!(text.starts_with(&expected) && text.contains(part), "{text}");
    }
    assert_eq!(reviews.load(Ordering::Relaxed), 3, "answers are remembered");
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
}

#[test]
fn without_an_answer_of_the_api_server_metrics_are_refused() {
    let (address, _status) = serve_with(DaemonStatus::new(), None, access(Router::new()));
    let text = get_with_token(address, "reader");
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    assert!(text.contains("did not check the token"), "{text}");
}

/// The self-signed certificate is a valid one: a client that trusts it verifies name, time and
/// signature.
#[tokio::test]
async fn probes_answer_over_tls_with_a_certificate_of_a_folder() {
    let (chain, key) = self_signed().expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let pem = |label: &str, der: &[u8]| {
        let path = folder.path().join("der");
        std::fs::write(&path, der).expect("written");
        let base64 = std::process::Command::new("base64").arg(&path).output();
        let base64 = String::from_utf8(base64.expect("base64").stdout).expect("text");
        format!("-----BEGIN {label}-----\n{base64}-----END {label}-----\n")
    };
    let certificate = pem("CERTIFICATE", &chain[0]);
    let key = pem("PRIVATE KEY", key.secret_der());
    std::fs::write(folder.path().join("tls.crt"), certificate).expect("written");
    std::fs::write(folder.path().join("tls.key"), key).expect("written");
    let tls = Tls::new(Some(folder.path().to_owned())).expect("a valid certificate");
    let (address, _status) = serve_with(DaemonStatus::new(), Some(tls), |_| None);

    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).expect("a trust anchor");
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await;
    let name = "ferrolb".try_into().expect("a name");
    let connected = TlsConnector::from(Arc::new(client)).connect(name, stream.expect("connected"));
    let mut stream = connected.await.expect("a verified certificate");
    let request = b"GET /livez HTTP/1.1\r\nHost: ferrolb\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut text = Vec::new();
    _ = stream.read_to_end(&mut text).await;
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    // A client without TLS gets no answer.
    assert!(!get(address, "/livez").starts_with("HTTP/1.1"));
}
