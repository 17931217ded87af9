//! Probes and metrics over HTTP: `/livez`, `/readyz`, `/metrics`. The port is open to the network:
//! what a client may take of this process is bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use ferrolb_bgp::speaker::Handle;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::runtime::serve::metrics;
use crate::runtime::status::DaemonStatus;

/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last, the response included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Octets of a request line with its headers.
const REQUEST_MAX: usize = 8 * 1024;
/// Connections at once from other hosts, and as many from this one, so that other hosts can't keep
/// the kubelet out. One more is closed at once.
pub(crate) const CONNECTIONS_MAX: usize = 32;
/// How long the engine may take to answer for its metrics.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted, as when file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is served.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// The loop's present state.
    pub report: watch::Receiver<Arc<DaemonStatus>>,
    /// For an announcer.
    pub engine: Option<Handle>,
    /// The node's name, for labels.
    pub node: String,
}

/// Binds the address, for the runtime that will serve there.
///
/// # Errors
/// The address can't be bound; the message says what to do.
pub(crate) fn bind(
    address: SocketAddr,
    serving: &tokio::runtime::Handle,
) -> anyhow::Result<TcpListener> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let _registered_there = serving.enter();
        TcpListener::from_std(listener)
    };
    bind().map_err(|error| {
        anyhow::anyhow!("can't listen on {address} for metrics and probes: {error}; choose another --metrics-addr")
    })
}

/// Serves until the program ends.
pub(crate) async fn serve(listener: TcpListener, served: Served) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(served);
    let from_here = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let from_elsewhere = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut failing = false;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !failing {
                    tracing::warn!(
                        "can't accept connections for probes and metrics, retrying: {error}"
                    );
                }
                failing = true;
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        let is_from_here = stream.local_addr().is_ok_and(|own| own.ip() == peer.ip());
        let seats = if is_from_here {
            &from_here
        } else {
            &from_elsewhere
        };
        if let Ok(seat) = seats.clone().try_acquire_owned() {
            let router = router.clone();
            tokio::spawn(async move {
                let _connection_ended = timeout(CONNECTION_TIMEOUT, answer(stream, router)).await;
                drop(seat);
            });
        }
    }
}

/// Answers one request: a client that keeps its connection open would keep a seat.
async fn answer(stream: TcpStream, router: Router) {
    let answered = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(REQUEST_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = answered {
        tracing::debug!("a connection for probes or metrics failed: {error}");
    }
}

async fn livez(State(served): State<Served>) -> impl IntoResponse {
    if served.report.borrow().live() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the main loop is stuck\n")
    }
}

async fn readyz(State(served): State<Served>) -> impl IntoResponse {
    let report = served.report.borrow();
    if report.panicked {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the main loop has panicked (see the log): what is announced stays, and the process restarts itself\n",
        );
    }
    match (report.config.is_some(), report.initialized) {
        (true, true) => (StatusCode::OK, "ok\n"),
        (true, false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing was handed over to the BGP engine yet\n",
        ),
        (false, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the configuration is not loaded yet\n",
        ),
    }
}

async fn render(State(served): State<Served>) -> impl IntoResponse {
    let (peers, bfd_packets_without_session) = match &served.engine {
        Some(engine) => match timeout(ENGINE_TIMEOUT, engine.snapshot()).await {
            Ok(peers) => (peers, engine.bfd_packets_without_session()),
            Err(_) => {
                let text = "the BGP engine does not answer\n";
                return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
            }
        },
        None => (Vec::new(), 0),
    };
    let report = served.report.borrow().clone();
    match metrics::render(&report, &served.node, &peers, bfd_packets_without_session) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
