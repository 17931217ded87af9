//! Tests of the HTTP server through its port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::runtime::serve::http::{self, MAX_CONNECTIONS, Served};
use crate::runtime::status::DaemonStatus;
use tokio::sync::watch;

/// Serves on a separate thread, as the daemon does.
fn serve(status: DaemonStatus) -> (SocketAddr, watch::Sender<Arc<DaemonStatus>>) {
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
    };
    std::thread::spawn(move || runtime.block_on(http::serve(listener, served)));
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
    let runtime = tokio::runtime::Handle::current();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    for shared in [true, false] {
        let first = http::bind(any, shared, &runtime).expect("bound");
        let address = first.local_addr().expect("an address");
        let second = http::bind(address, true, &runtime);
        assert_eq!(second.is_ok(), shared, "{second:?}");
    }
}
