//! Probes and metrics as a client of the port meets them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::runtime::serve::http::{self, CONNECTIONS_MAX, Served};
use crate::runtime::status::DaemonStatus;
use tokio::sync::watch;

/// Serves on a thread of its own, as the daemon does.
fn serve(report: DaemonStatus) -> (SocketAddr, watch::Sender<Arc<DaemonStatus>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (sender, report) = watch::channel(Arc::new(report));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = http::bind(any, runtime.handle()).expect("bound");
    let address = listener.local_addr().expect("an address");
    let served = Served {
        report,
        engine: None,
        node: "node-0".to_owned(),
    };
    std::thread::spawn(move || runtime.block_on(http::serve(listener, served)));
    (address, sender)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a time-out");
    stream
}

/// What the server answers to these octets, until it closes the connection.
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
async fn livez_says_that_the_loop_is_stuck_while_it_blocks_its_thread() {
    let (address, report) = serve(DaemonStatus::new());
    // None of these lets go of the thread: this runtime is as stuck as a loop that never awaits.
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
    report.send_modify(|report| {
        let report = Arc::make_mut(report);
        report.alive = tokio::time::Instant::now().checked_sub(Duration::from_secs(31));
    });
    let text = get(address, "/livez");
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    assert!(text.ends_with("the main loop is stuck\n"), "{text}");
}

#[test]
fn clients_that_send_nothing_are_closed_and_keep_probes_out_for_seconds_only() {
    let (address, _report) = serve(DaemonStatus::new());
    let mut silent: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| connect(address)).collect();
    let begun = Instant::now();
    // One more is closed unanswered.
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
fn a_request_that_is_too_large_is_refused() {
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
