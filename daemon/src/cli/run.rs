//! `ferrolb run`: the daemon.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use ferrolb_bgp::fsm::{ShutdownMode, SpeakerConfig};
use ferrolb_bgp::speaker::{self, Handle, SpeakerOptions};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::{Host, StopSignals};
use crate::core::api::Kind;
use crate::core::config::CONFIG_NAMESPACE;
use crate::core::decide::peer_config::fallback_router_id;
use crate::core::model::Node;
use crate::runtime::announce::announcer::Announcer;
use crate::runtime::announce::drain::StopMode;
use crate::runtime::announce::state_file::{SavedState, StateDir, StateWriter};
use crate::runtime::control_loop::ControlLoop;
use crate::runtime::panicked::{self, Panicked};
use crate::runtime::serve::control::DEFAULT_SOCKET;
use crate::runtime::serve::control::server::{ControlService, Socket};
use crate::runtime::serve::http::{self, Served};
use crate::runtime::source::kube::{self, OwnDaemonSet};
use crate::runtime::source::{Source, folder};
use crate::runtime::status::DaemonStatus;
use crate::runtime::telemetry::{self, LogFormat};

const EXAMPLES: &str = "\
Examples:
  ferrolb run --manifests manifests/ --node-name node-a     announce for one node what a folder says
  ferrolb run --role announcer                              in a DaemonSet: NODE_NAME and POD_NAMESPACE are set
  ferrolb run --role allocator                              in a Deployment: candidates, one of them allocates
  ferrolb run --kubeconfig ~/.kube/config --node-name n1    from outside of the cluster";

/// How long ending may take after the drain: with its 45 seconds at most, within the 60 seconds of grace that the DaemonSet gives.
const FAREWELL: Duration = Duration::from_secs(8);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Gives out addresses, if it is elected.
    Allocator,
    /// Announces them from this node.
    Announcer,
    /// Both: for the lab, the demo and small clusters.
    All,
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// What this process does.
    #[arg(long, value_enum, default_value = "all")]
    role: Role,
    /// The node to announce from; needed by announcers.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// A folder of manifests as the source, instead of the Kubernetes API. It is watched for changes.
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig")]
    manifests: Option<PathBuf>,
    /// How to reach the API server; without it: as a Pod of the cluster does.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace that holds MetalLB's resources; may be given several times. [default: POD_NAMESPACE, else
    /// metallb-system]
    #[arg(long, value_name = "NAMESPACE")]
    config_namespace: Vec<String>,
    /// Where /metrics, /livez and /readyz are served.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7472")]
    metrics_addr: SocketAddr,
    /// Where `ferrolb peers` and its like ask this process, if it is an announcer. [default: /run/ferrolb/ferrolb.sock, if that
    /// can be made]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where BGP routers may dial in; may be given several times. Without it nothing listens, and sessions are only dialled.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Nodes with the label node.kubernetes.io/exclude-from-external-load-balancers announce all the same.
    #[arg(long)]
    ignore_exclude_lb: bool,
    /// The DaemonSet that this process belongs to, in the Pod's own namespace (POD_NAMESPACE; without that, in the first
    /// configuration namespace): if that is being deleted, the routes leave for good.
    #[arg(long, value_name = "NAME", conflicts_with = "manifests")]
    daemonset: Option<String>,
    /// What log lines look like. [default: text on a terminal, else json]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Folder for the last desired state, which is announced again if a restart finds no API server.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl RunArgs {
    fn allocates(&self) -> bool {
        self.role != Role::Announcer
    }

    fn announces(&self) -> bool {
        self.role != Role::Allocator
    }

    /// The name of the node; an allocator may have none.
    fn node(&self) -> anyhow::Result<String> {
        match &self.node_name {
            Some(node) => Ok(node.clone()),
            None if self.announces() => anyhow::bail!(
                "an announcer has to know its node: give --node-name or set NODE_NAME"
            ),
            None => Ok(String::new()),
        }
    }

    fn kinds(&self) -> &'static [Kind] {
        if self.manifests.is_some() {
            &Kind::ALL
        } else {
            kube::kinds(self.allocates(), self.announces())
        }
    }

    fn daemonset(&self) -> Option<OwnDaemonSet> {
        let name = self.daemonset.clone()?;
        Some(OwnDaemonSet {
            kubeconfig: self.kubeconfig.clone(),
            namespace: daemonset_namespace(own_namespace(), &self.config_namespace),
            name,
        })
    }
}

pub(super) fn run(args: RunArgs, host: Host) -> anyhow::Result<ExitCode> {
    telemetry::start(args.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let serving = serving_thread().context("start the thread for probes, metrics and queries")?;
    match runtime.block_on(daemon(args, host, &serving))? {
        End::Stopped => Ok(ExitCode::SUCCESS),
        End::Restart => Err(panicked::restart()).context("this process can't restart itself"),
    }
}

/// Probes, metrics and queries are answered on a thread of their own: a control loop that is stuck can't keep them
/// from saying so.
fn serving_thread() -> std::io::Result<tokio::runtime::Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("serving".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// How the process ends, but for errors.
enum End {
    Stopped,
    /// In its own place.
    Restart,
}

async fn daemon(
    args: RunArgs,
    host: Host,
    serving: &tokio::runtime::Handle,
) -> anyhow::Result<End> {
    let (mut daemon, agent) = Daemon::start(args, host, serving).await?;
    let ending = daemon.run(agent).await;
    daemon.end(ending).await
}

/// The sockets of probes, metrics and queries: bound first, served when there is something to ask.
struct Doors {
    metrics: TcpListener,
    control: Option<Socket>,
}

impl Doors {
    fn open(args: &RunArgs, serving: &tokio::runtime::Handle) -> anyhow::Result<Self> {
        let metrics = http::bind(args.metrics_addr, serving)?;
        let control = if args.announces() {
            let _registered_there = serving.enter();
            socket(args.socket.as_deref())?
        } else {
            None
        };
        Ok(Self { metrics, control })
    }

    fn serve(self, serving: &tokio::runtime::Handle, served: Served) {
        if let (Some(socket), Some(engine)) = (self.control, &served.engine) {
            serving.spawn(socket.serve(ControlService {
                engine: engine.clone(),
                report: served.report.clone(),
            }));
        }
        serving.spawn(http::serve(self.metrics, served));
    }
}

/// A daemon with all parts started, except for its loop.
struct Daemon {
    begun: Instant,
    node: String,
    host: Host,
    source: Source,
    engine: Option<Handle>,
    state: Option<StateDir>,
    daemonset: Option<OwnDaemonSet>,
    reported: watch::Receiver<Arc<DaemonStatus>>,
    signals: StopSignals,
    signals_after_panic: StopSignals,
}

impl Daemon {
    /// Starts the parts, and gives the loop that is to run.
    async fn start(
        args: RunArgs,
        host: Host,
        serving: &tokio::runtime::Handle,
    ) -> anyhow::Result<(Self, ControlLoop)> {
        let begun = Instant::now();
        let node = args.node()?;
        let doors = Doors::open(&args, serving)?;
        let source = source(&args, &node).await?;
        let signals = StopSignals::listen()?;
        let signals_after_panic = StopSignals::listen()?;
        let state = args.state_dir.clone().map(StateDir::new);
        let announcing = args
            .announces()
            .then(|| announcer(&args, &node, state.clone()))
            .transpose()?;
        let (engine, announcer) = announcing.unzip();
        let (report, reported) = watch::channel(Arc::new(DaemonStatus::new()));
        let agent = ControlLoop {
            kinds: args.kinds(),
            announcer,
            allocate: args.allocates(),
            ignore_exclusion: args.ignore_exclude_lb,
            saved: state.as_ref().and_then(saved),
            interface_exists: host.interface_exists,
            status: report,
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            role = ?args.role,
            node,
            metrics = %args.metrics_addr,
            "started"
        );
        let served = Served {
            report: reported.clone(),
            engine: engine.clone(),
            node: node.clone(),
        };
        doors.serve(serving, served);
        let daemon = Self {
            begun,
            node,
            host,
            source,
            engine,
            state,
            daemonset: args.daemonset(),
            reported,
            signals,
            signals_after_panic,
        };
        Ok((daemon, agent))
    }

    /// Runs the loop until it ends, or the engine ends, or the process is asked twice to stop.
    async fn run(&mut self, agent: ControlLoop) -> Ending {
        let (stop_in, stop) = oneshot::channel();
        let looped = panicked::catch(agent, &mut self.source, stop);
        let daemonset = self.daemonset.take();
        tokio::select! {
            caught = looped => match caught {
                Ok(Some(leave)) => Ending::StopMode(leave),
                Ok(None) => Ending::Failed("the source of objects has ended"),
                Err(Panicked) => Ending::Panicked,
            },
            () = engine_ended(self.engine.as_ref()) => Ending::Failed(ENGINE_ENDED),
            () = asked_to_stop(&mut self.signals, daemonset, stop_in) => {
                tracing::warn!("asked to stop once more: withdrawing everything at once");
                Ending::StopMode(StopMode::Drain(None))
            }
        }
    }

    /// Ends the sessions and the source; after a panic only when it is time to restart.
    async fn end(self, ending: Ending) -> anyhow::Result<End> {
        if matches!(ending, Ending::Panicked) {
            self.restore();
        }
        let engine = self.engine;
        let mut source = Some(self.source);
        let end = match ending {
            Ending::StopMode(leave) => Ok((End::Stopped, Some(leave))),
            Ending::Failed(why) => Err(anyhow::anyhow!(why)),
            Ending::Panicked => {
                let pause = (self.host.pause_after_panic)(self.begun.elapsed());
                let signals = self.signals_after_panic;
                after_panic(pause, engine.as_ref(), signals, source.take()).await
            }
        };
        let farewell = async {
            if let Some(engine) = engine {
                let leave = end.as_ref().ok().and_then(|(_, leave)| *leave);
                let (text, farewell) = last_words(leave);
                tracing::info!("{text}");
                engine.shutdown(text, farewell).await;
            }
        };
        tokio::join!(farewell, give_up(source));
        tracing::info!("stopped");
        end.map(|(end, _)| end)
    }

    /// After a panic before anything was handed to the engine: what was announced before the restart.
    fn restore(&self) {
        if !self.reported.borrow().initialized
            && let (Some(engine), Some(state)) = (&self.engine, &self.state)
        {
            panicked::restore(&self.node, engine, state);
        }
    }
}

/// Starts the thread that saves the state, if there is a folder for it, and the BGP engine.
fn announcer(
    args: &RunArgs,
    node: &str,
    state: Option<StateDir>,
) -> anyhow::Result<(Handle, Announcer)> {
    let writer = state
        .map(StateWriter::start)
        .transpose()
        .context("start the thread that saves the desired state")?;
    let engine = engine(node, args.listen.clone())?;
    let announcer = Announcer::new(node.to_owned(), engine.clone(), writer);
    Ok((engine, announcer))
}

/// Why the loop ended.
enum Ending {
    StopMode(StopMode),
    Failed(&'static str),
    Panicked,
}

const ENGINE_ENDED: &str = "the BGP engine has ended by itself";

/// Gives up the Lease, so that another allocator leads, and lives on with what is announced until it is time to restart, or
/// until the process is asked to stop.
async fn after_panic(
    pause: Duration,
    engine: Option<&Handle>,
    mut signals: StopSignals,
    source: Option<Source>,
) -> anyhow::Result<(End, Option<StopMode>)> {
    tracing::error!(
        "the main loop has panicked: what is announced stays announced and follows no change, /readyz fails, and the process \
         restarts itself in {} s",
        pause.as_secs()
    );
    let wait = async {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok((End::Restart, None)),
            () = signals.next() => Ok((End::Stopped, Some(StopMode::GracefulRestart))),
            () = engine_ended(engine) => Err(anyhow::anyhow!(ENGINE_ENDED)),
        }
    };
    tokio::join!(wait, give_up(source)).0
}

/// Waits for the wish to stop, passes it on with what there is to know, and waits for a second one.
async fn asked_to_stop(
    signals: &mut StopSignals,
    daemonset: Option<OwnDaemonSet>,
    stop: oneshot::Sender<bool>,
) {
    let mut found = false;
    let find = async {
        if let Some(daemonset) = &daemonset {
            found = daemonset.wait_until_found().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = signals.next() => {}
        () = find => {}
    }
    tracing::info!("asked to stop");
    let gone = match daemonset.filter(|_| found) {
        Some(daemonset) => daemonset.is_gone().await,
        None => false,
    };
    // The loop may have ended by itself; then this is not awaited any more.
    _ = stop.send(gone);
    signals.next().await;
}

/// What peers are told, and what becomes of the routes.
fn last_words(leave: Option<StopMode>) -> (String, ShutdownMode) {
    match leave {
        Some(StopMode::GracefulRestart) => (
            "ferrolb stops, to come back".to_owned(),
            ShutdownMode::GracefulRestart,
        ),
        Some(StopMode::Drain(Some(reason))) => {
            (format!("ferrolb leaves: {reason}"), ShutdownMode::Withdraw)
        }
        Some(StopMode::Drain(None)) => ("ferrolb stops".to_owned(), ShutdownMode::Withdraw),
        // Something of ours failed. Whoever watches over this process starts it again.
        None => (
            "ferrolb stops by a failure, to come back".to_owned(),
            ShutdownMode::GracefulRestart,
        ),
    }
}

/// The socket that was asked for; or the usual one, if it can be had: a daemon runs without it as well.
fn socket(path: Option<&Path>) -> anyhow::Result<Option<Socket>> {
    match (
        Socket::bind(path.unwrap_or(Path::new(DEFAULT_SOCKET))),
        path,
    ) {
        (Ok(socket), _) => Ok(Some(socket)),
        (Err(error), Some(_)) => Err(error.into()),
        (Err(error), None) => {
            tracing::warn!("ferrolb peers and its like can't ask this process: {error}");
            Ok(None)
        }
    }
}

/// Ends the source: whoever held the Lease gives it up, so that another allocator begins at once.
async fn give_up(source: Option<Source>) {
    let Some(Source { mut events, status }) = source else {
        return;
    };
    drop(status);
    let ended = async { while events.recv().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, ended).await.is_err() {
        tracing::warn!("the source did not end in time");
    }
}

async fn source(args: &RunArgs, node: &str) -> anyhow::Result<Source> {
    let config_namespaces = config_namespaces(own_namespace(), &args.config_namespace);
    if let Some(folder) = &args.manifests {
        return folder::start(folder.clone(), config_namespaces);
    }
    let options = kube::KubeOptions {
        kubeconfig: args.kubeconfig.clone(),
        lease_namespace: config_namespaces.first().cloned().unwrap_or_default(),
        config_namespaces,
        allocate: args.allocates(),
        announce: args.announces(),
        identity: identity(node),
    };
    // The error says all of it, cause and remedy; the causes below would only say it again.
    let started = kube::start(options).await;
    started.map_err(|error| anyhow::anyhow!("{error}"))
}

/// What was given, else the Pod's own namespace, else MetalLB's.
fn config_namespaces(own: Option<String>, given: &[String]) -> Vec<String> {
    if !given.is_empty() {
        return given.to_vec();
    }
    vec![own.unwrap_or_else(|| CONFIG_NAMESPACE.to_owned())]
}

/// The Pod's own namespace, wherever the configuration lies; else the first of those.
fn daemonset_namespace(own: Option<String>, given: &[String]) -> String {
    own.unwrap_or_else(|| config_namespaces(None, given).swap_remove(0))
}

/// The Pod's own namespace, if this is a Pod that was told.
fn own_namespace() -> Option<String> {
    let own = std::env::var("POD_NAMESPACE").ok();
    own.filter(|namespace| !namespace.is_empty())
}

/// Who this process is among candidates for the Lease: readable, and never the same twice.
fn identity(node: &str) -> String {
    let name = std::env::var("POD_NAME")
        .ok()
        .filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| {
        if node.is_empty() {
            "ferrolb".to_owned()
        } else {
            node.to_owned()
        }
    });
    format!("{name}_{:08x}", random() >> 32)
}

/// Randomness of the standard library's hasher: enough for jitter and names.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// How long the host has been up, as far as it says.
fn host_uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Starts the BGP engine on a thread of its own.
fn engine(node: &str, listen: Vec<SocketAddr>) -> anyhow::Result<Handle> {
    let addresses: Vec<String> = listen.iter().map(SocketAddr::to_string).collect();
    let listening = if listen.is_empty() {
        String::new()
    } else {
        format!(
            ": it is to listen on {}; a port below 1024 needs the capability NET_BIND_SERVICE",
            addresses.join(" and ")
        )
    };
    let router_id_fallback = fallback_router_id(node, &Node::default());
    let options = SpeakerOptions {
        speaker: SpeakerConfig {
            router_id_fallback,
            seed: random(),
            host_uptime: host_uptime(),
        },
        listen,
    };
    let (handle, _events) = speaker::spawn(options)
        .with_context(|| format!("the BGP engine can't be started{listening}"))?;
    Ok(handle)
}

fn saved(state: &StateDir) -> Option<SavedState> {
    state.load().unwrap_or_else(|error| {
        tracing::warn!("what was announced before the restart can't be read: {error}");
        None
    })
}

/// Without an engine there is nothing that could end.
async fn engine_ended(engine: Option<&Handle>) {
    match engine {
        Some(engine) => engine.ended().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemonset_is_beside_the_pod_and_configuration_where_it_was_said() {
        let own = || Some("ferrolb".to_owned());
        let given = ["config".to_owned(), "more".to_owned()];
        assert_eq!(daemonset_namespace(own(), &given), "ferrolb");
        assert_eq!(daemonset_namespace(own(), &[]), "ferrolb");
        assert_eq!(daemonset_namespace(None, &given), "config");
        assert_eq!(daemonset_namespace(None, &[]), CONFIG_NAMESPACE);
        assert_eq!(config_namespaces(own(), &given), given);
        assert_eq!(config_namespaces(own(), &[]), ["ferrolb"]);
        assert_eq!(config_namespaces(None, &[]), [CONFIG_NAMESPACE]);
    }
}
