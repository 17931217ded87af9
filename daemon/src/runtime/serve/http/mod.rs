//! HTTP server for the probes `/livez` and `/readyz`, and for `/metrics`, plain or over TLS. The
//! port is open to the network, so connections, request size and time are limited.

pub(crate) mod access;
mod certificate;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use ferrolb_bgp::speaker::Handle;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use self::access::Access;
use self::tls::Tls;
use crate::runtime::announce::layer2::engine::Layer2Engine;
use crate::runtime::serve::metrics::{self, BgpEngine};
use crate::runtime::status::{DaemonStatus, Probe};

/// Limit for receiving a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for a connection, response included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a request line with headers, in octets.
const MAX_REQUEST: usize = 8 * 1024;
/// Maximum number of connections from other hosts, and the same number again from this host, so
/// that other hosts can't block the kubelet. Further connections are closed at once.
pub(crate) const MAX_CONNECTIONS: usize = 32;
/// Number of connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// Limit for the answer of an engine to a scrape.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay after a failed accept, for example without free file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The data sources of the server.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// Status of the control loop.
    pub status: watch::Receiver<Arc<DaemonStatus>>,
    /// The BGP engine, if this process announces over BGP.
    pub engine: Option<Handle>,
    /// The layer 2 engine, if this process announces by layer 2.
    pub layer2: Option<Layer2Engine>,
    /// Name of the node, for labels.
    pub node: String,
    /// Who may read the metrics. None: every host that reaches the port.
    pub access: Option<Arc<Access>>,
}

/// Binds the address for the runtime that serves it. `shared`: a second process of the same user
/// may bind it at the same time (SO_REUSEPORT), as during a rollout with surge; each connection
/// then reaches one of them.
///
/// # Errors
///
/// The address can't be bound; the message names the remedy.
pub(crate) fn bind(
    address: SocketAddr,
    shared: bool,
    serving: &tokio::runtime::Handle,
) -> anyhow::Result<TcpListener> {
    let bind = || {
        let _runtime = serving.enter();
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(shared)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| {
        anyhow::anyhow!(
            "can't listen on {address} for metrics and probes: {error}; choose another \
             --metrics-addr"
        )
    })
}

/// Serves until the process ends, over TLS if `tls` is given.
pub(crate) async fn serve(listener: TcpListener, served: Served, tls: Option<Tls>) {
    let tls = tls.map(Arc::new);
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(served);
    let local = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let remote = Arc::new(Semaphore::new(MAX_CONNECTIONS));
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
                sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        failing = false;
        let is_local = stream.local_addr().is_ok_and(|own| own.ip() == peer.ip());
        let connections = if is_local { &local } else { &remote };
        if let Ok(connection) = connections.clone().try_acquire_owned() {
            let (router, tls) = (router.clone(), tls.clone());
            tokio::spawn(async move {
                let answered = connected(stream, tls.as_deref(), router);
                let _result = timeout(CONNECTION_TIMEOUT, answered).await;
                drop(connection);
            });
        }
    }
}

/// Serves a connection.
async fn connected(stream: TcpStream, tls: Option<&Tls>, router: Router) {
    let Some(tls) = tls else {
        return answer(stream, router).await;
    };
    match timeout(REQUEST_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => answer(stream, router).await,
        Ok(Err(error)) => tracing::debug!("TLS handshake for metrics failed: {error}"),
        Err(_) => {}
    }
}

/// Answers one request and closes the connection, since idle connections count against the limit.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let answered = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(MAX_REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = answered {
        tracing::debug!("connection for probes or metrics failed: {error}");
    }
}

async fn livez(State(served): State<Served>) -> impl IntoResponse {
    probe(&served, Probe::Live)
}

async fn readyz(State(served): State<Served>) -> impl IntoResponse {
    probe(&served, Probe::Ready)
}

fn probe(served: &Served, probe: Probe) -> (StatusCode, String) {
    match served.status.borrow().probe(probe) {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn render(State(served): State<Served>, headers: HeaderMap) -> impl IntoResponse {
    if let Some(access) = &served.access
        && let Err(refusal) = access.check(&headers).await
    {
        return refusal;
    }
    let (peers, bgp) = match &served.engine {
        Some(engine) => match timeout(ENGINE_TIMEOUT, engine.snapshot()).await {
            Ok(peers) => (peers, Some(BgpEngine::of(engine))),
            Err(_) => {
                let text = "the BGP engine does not answer\n";
                return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
            }
        },
        None => (Vec::new(), None),
    };
    let layer2 = match &served.layer2 {
        Some(engine) => match timeout(ENGINE_TIMEOUT, engine.status()).await {
            Ok(layer2) => layer2,
            Err(_) => {
                let text = "the layer 2 engine does not answer\n";
                return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
            }
        },
        None => None,
    };
    let status = served.status.borrow().clone();
    match metrics::render(&status, &served.node, &peers, bgp.as_ref(), layer2.as_ref()) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
