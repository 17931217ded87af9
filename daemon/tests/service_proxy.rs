//! `--service-proxy-health`: the first announcements wait for the service proxy, and later ones
//! don't.

mod rack;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ferrolb_bgp::fsm::Event;
use rack::{Daemon, REST, Router, TIMEOUT};
use tokio::time::timeout;

const UNREADY: &str = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"nodeEligible\": true}";

/// A service proxy that answers on a port: whether it is ready, and whether it was asked.
struct Proxy {
    url: String,
    ready: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (ready, asked) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let proxy = Self {
            url: format!("--service-proxy-health=http://{address}/livez"),
            ready: Arc::clone(&ready),
            asked: Arc::clone(&asked),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).expect("a request");
                let ready = ready.load(Ordering::SeqCst);
                let answer = if ready {
                    "HTTP/1.1 200 OK\r\n\r\n"
                } else {
                    UNREADY
                };
                stream.write_all(answer.as_bytes()).expect("a reader");
                asked.store(true, Ordering::SeqCst);
            }
        });
        proxy
    }
}

fn manifests(folder: &Path, node: Ipv4Addr, router: &Router) {
    fs::create_dir_all(folder).expect("a folder");
    let (ip, port) = (router.address.ip(), router.address.port());
    let text = format!(
        "apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: tor}}
spec: {{myASN: 64512, peerASN: 64513, peerAddress: {ip}, peerPort: {port}, sourceAddress: {node}}}
---
apiVersion: v1
kind: Node
metadata: {{name: node-a}}
---
{REST}"
    );
    fs::write(folder.join("all.yaml"), text).expect("written");
}

/// Waits until the router receives a route. Whether it did in this time.
async fn receives_route(router: &mut Router, limit: Duration) -> bool {
    let route = async {
        loop {
            match router.events.recv().await.expect("the router runs") {
                Event::Received { update, .. } if update.announced().next().is_some() => return,
                _ => {}
            }
        }
    };
    timeout(limit, route).await.is_ok()
}

#[tokio::test]
async fn the_first_routes_wait_for_the_proxy_and_those_after_a_restart_do_not() {
    let node = Ipv4Addr::new(127, 0, 0, 151);
    let mut router = Router::start(node, false);
    let folder = tempfile::tempdir().expect("a folder");
    let (config, state) = (folder.path().join("manifests"), folder.path().join("state"));
    manifests(&config, node, &router);
    fs::create_dir(&state).expect("a folder");
    let proxy = Proxy::start();
    let socket = folder.path().join("ferrolb.sock");
    let start = || {
        let more = [
            proxy.url.as_ref(),
            "--state-dir".as_ref(),
            state.as_os_str(),
        ];
        Daemon::start_with(&config, &socket, &more)
    };
    let daemon = start();
    assert!(!receives_route(&mut router, Duration::from_secs(4)).await);
    assert!(proxy.asked.load(Ordering::SeqCst));
    let routes = std::process::Command::new(env!("CARGO_BIN_EXE_ferrolb"))
        .args(["routes", "--socket"])
        .arg(&socket)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&routes.stderr).into_owned();
    let expected = "nothing is announced yet: ServiceProxyNotReady: ";
    assert!(
        text.starts_with(expected) && text.contains("answers 503"),
        "{text}"
    );

    proxy.ready.store(true, Ordering::SeqCst);
    assert!(receives_route(&mut router, TIMEOUT).await);
    let saved = state.join("desired.json");
    for _ in 0..100 {
        let text = fs::read_to_string(&saved).unwrap_or_default();
        if text.contains("192.0.2.") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    proxy.ready.store(false, Ordering::SeqCst);
    drop(daemon);
    let _daemon = start();
    assert!(
        receives_route(&mut router, TIMEOUT).await,
        "it had announced before"
    );
}
