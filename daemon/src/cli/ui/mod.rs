//! `ferrolb ui`: a page on this host that shows who announces what to whom, and what is wrong. It
//! can change nothing: neither the cluster nor files.

mod assets;
mod guard;
pub(crate) mod live;
mod requests;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use clap::Args;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use self::guard::{Guard, protect};
use self::live::{Feed, Live};
use super::block_on;
use super::signals::StopSignals;
use super::world::WorldArgs;
use crate::core::printable::printable;
use crate::runtime::source::kube::Cluster;

const EXAMPLES: &str = "\
Examples:
  ferrolb ui                            the cluster of your kubeconfig
  ferrolb ui -f manifests/              manifests; the page follows changes of the files

It serves on this host only, and can change nothing. The page needs nothing from the internet.";

/// The port, unless another one is asked for. If it is in use, any free one.
const PORT: u16 = 8420;
/// Maximum number of connections. A page has one for events, and browsers open up to six.
const CONNECTIONS_MAX: usize = 64;
/// Limit for receiving the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of the head of a request, in octets.
const HEAD_MAX: usize = 16 * 1024;
/// Delay after a failed accept, for example without free file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct UiArgs {
    #[command(flatten)]
    world: WorldArgs,
    /// The port on 127.0.0.1. [default: 8420, or if that is in use any free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

pub(super) fn run(args: &UiArgs) -> Result<ExitCode> {
    block_on(async {
        let feed = feed(&args.world)?;
        if let Feed::Cluster {
            kubeconfig,
            context,
            ..
        } = &feed
        {
            // It sends no request: whether the API server answers is shown on the page.
            Cluster::connect_to(kubeconfig.as_deref(), context.as_deref()).await?;
        }
        let ui = Ui::bind(args.port, feed).await?;
        println!("ferrolb's page: {}   (Ctrl-C ends it)", ui.url());
        let mut signals = StopSignals::listen()?;
        tokio::select! {
            () = ui.serve() => {}
            () = signals.next() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn feed(world: &WorldArgs) -> Result<Feed> {
    let config = world.config.places();
    if !world.names_manifests() {
        return Ok(Feed::Cluster {
            kubeconfig: world.kubeconfig.clone(),
            context: world.context.clone(),
            config,
        });
    }
    for path in &world.paths {
        ensure!(
            path.to_str() != Some("-"),
            "the page follows changes, but standard input can't be read again: give files or \
             folders with -f"
        );
        let found = std::fs::metadata(path);
        let shown = path.display().to_string();
        found.with_context(|| format!("can't read {}", printable(&shown)))?;
    }
    Ok(Feed::Manifests {
        paths: world.paths.clone(),
        config,
        sessions: watch::channel(Arc::default()).1,
    })
}

/// The server of the page.
pub(crate) struct Ui {
    listener: TcpListener,
    guard: Guard,
    live: Arc<Live>,
}

impl Ui {
    /// Listens on the loopback interface. Without a port: on the usual one, or if that is in use on
    /// any free one.
    ///
    /// # Errors
    /// The port is in use.
    pub(crate) async fn bind(port: Option<u16>, feed: Feed) -> Result<Self> {
        let listen = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listener = match port {
            Some(port) => listen(port).await.with_context(|| {
                format!("can't listen on 127.0.0.1:{port}: choose another --port, or none")
            })?,
            None => match listen(PORT).await {
                Ok(listener) => listener,
                Err(_) => listen(0).await.context("can't listen on 127.0.0.1")?,
            },
        };
        let guard = Guard::new(listener.local_addr()?.port());
        Ok(Self {
            listener,
            guard,
            live: Live::new(feed),
        })
    }

    /// The address for the browser.
    pub(crate) fn url(&self) -> String {
        self.guard.url()
    }

    /// What open pages see.
    pub(crate) const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self) {
        let router = requests::router(self.live.clone());
        let router = router.layer(from_fn_with_state(self.guard, guarded));
        tokio::select! {
            () = self.live.follow() => {}
            () = accept(self.listener, router) => {}
        }
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        // Without a free place the connection is closed.
        if let Ok(place) = connections.clone().try_acquire_owned() {
            let router = router.clone();
            tokio::spawn(async move {
                answer(stream, router).await;
                drop(place);
            });
        }
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!("connection of a page failed: {error}");
    }
}

/// Answers requests that the guard lets pass, and adds the headers of all answers.
async fn guarded(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let checked = guard.check(request.method(), request.uri(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let text = format!("ferrolb: {}\n", refusal.message);
            let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (refusal.status, plain, text).into_response()
        }
    };
    protect(response.headers_mut());
    response
}

#[cfg(test)]
mod tests;
