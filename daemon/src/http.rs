//! Probes and metrics over HTTP: `/livez`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use ferrolb_bgp::speaker::Handle;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics;
use crate::report::Report;

/// What is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// The loop's present state.
    pub report: watch::Receiver<Arc<Report>>,
    /// For an announcer.
    pub engine: Option<Handle>,
    /// The node's name, for labels.
    pub node: String,
}

/// Binds the address.
///
/// # Errors
/// The address can't be bound; the message says what to do.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!("can't listen on {address} for metrics and probes: {error}; choose another --metrics-addr")
    })
}

/// Serves until the program ends.
pub async fn serve(listener: TcpListener, served: Served) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(served);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("metrics and probes are not served any more: {error}");
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
    match (report.config.is_some(), report.handed_over) {
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
    let (peers, bfd_strangers) = match &served.engine {
        Some(engine) => (engine.snapshot().await, engine.bfd_strangers()),
        None => (Vec::new(), 0),
    };
    let report = served.report.borrow().clone();
    match metrics::render(&report, &served.node, &peers, bfd_strangers) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
