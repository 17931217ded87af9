//! `ferrolb run`: the daemon.

mod identity;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use ferrolb_bgp::fsm::{ShutdownMode, SpeakerConfig};
use ferrolb_bgp::speaker::{self, Events, Handle, SpeakerOptions};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use self::identity::{config_namespaces, identity, own_namespace, pod_namespace, random};
use super::gate_args::GateArgs;
use super::metrics_args::MetricsArgs;
use super::signals::StopSignals;
use super::status_objects::{Publishers, StatusOptions, publish_metallb, publish_sessions};
use super::{ConfigPlaces, Host, config_map_name};
use crate::core::api::{CONFIG_MAP, Kind};
use crate::core::decide::peer_config::fallback_router_id;
use crate::core::model::Node;
use crate::runtime::announce::announcer::Announcer;
use crate::runtime::announce::bmp::{self, Collector};
use crate::runtime::announce::discard::{self, Discards};
use crate::runtime::announce::drain::StopMode;
use crate::runtime::announce::layer2::engine::{self, Layer2Engine};
use crate::runtime::announce::layer2::{Layer2Announcer, exclude_file};
use crate::runtime::announce::state_file::{SavedState, StateDir, StateWriter};
use crate::runtime::control_loop::ControlLoop;
use crate::runtime::panicked::{self, Panicked};
use crate::runtime::questions::{Asker, questions};
use crate::runtime::role::Role;
use crate::runtime::serve::control::server::{ControlService, Socket};
use crate::runtime::serve::control::{ALLOCATOR_SOCKET, DEFAULT_SOCKET, LAYER2_SOCKET};
use crate::runtime::serve::http::tls::Tls;
use crate::runtime::serve::http::{self, Served};
use crate::runtime::source::kube::{self, OwnDaemonSet};
use crate::runtime::source::{Source, folder};
use crate::runtime::status::DaemonStatus;
use crate::runtime::telemetry::{self, LogFormat, LogLevel};

const EXAMPLES: &str = "\
Examples:
  ferrolb run --manifests manifests/ --node-name node-a     announce manifests from one node
  ferrolb run --role announcer                              in a DaemonSet that sets NODE_NAME
  ferrolb run --role layer2                                 in another one, with NET_RAW
  ferrolb run --role allocator                              in a Deployment: the leader allocates
  ferrolb run --kubeconfig ~/.kube/config --node-name n1    from outside of the cluster";

/// Limit for the shutdown after the drain. With the drain of at most 45 s it fits into the
/// DaemonSet's grace period of 60 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(8);

/// Limit for the last messages to the BMP collector.
const BMP_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// Role of this process.
    #[arg(long, value_enum, default_value = "all")]
    role: Role,
    /// Name of the node to announce from; required for announcers.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// Folder of manifests to use instead of the Kubernetes API. It is watched for changes.
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig")]
    manifests: Option<PathBuf>,
    /// Kubeconfig of the API server. [default: the Pod's service account, else the default
    /// kubeconfig]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of MetalLB's resources; can be given several times. [default: POD_NAMESPACE, else
    /// metallb-system]
    #[arg(long, value_name = "NAMESPACE")]
    config_namespace: Vec<String>,
    /// Name of MetalLB's ConfigMap, before 0.13: that of its option --config.
    #[arg(long, value_name = "NAME", default_value = CONFIG_MAP, value_parser = config_map_name)]
    config_map: String,
    #[command(flatten)]
    metrics: MetricsArgs,
    /// Path of the control socket, used by `ferrolb peers`, `peer`, `routes`, `log`, `capture`,
    /// `l2` and `probe`. [default: /run/ferrolb/ferrolb.sock, with the role layer2
    /// /run/ferrolb/layer2.sock, with the role allocator /run/ferrolb/allocator.sock, if it can be
    /// created]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on this address for routers that dial in; can be given several times. Without it
    /// ferrolb only dials.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Report sessions and routes to this BMP collector (RFC 7854), such as
    /// collector.example.org:5000.
    #[arg(long, value_name = "HOST:PORT")]
    bmp: Option<Collector>,
    /// Announce also from nodes with the label
    /// node.kubernetes.io/exclude-from-external-load-balancers.
    #[arg(long)]
    ignore_exclude_lb: bool,
    /// Serve Services with this spec.loadBalancerClass instead of those without one. Give it to all
    /// processes.
    #[arg(long, value_name = "CLASS")]
    lb_class: Option<String>,
    #[command(flatten)]
    gate: GateArgs,
    /// DaemonSet of this process, in the Pod's namespace (POD_NAMESPACE, else the first
    /// configuration namespace). If it is being deleted at shutdown, all routes are drained, and
    /// addresses of layer 2 are handed over.
    #[arg(long, value_name = "NAME", conflicts_with = "manifests")]
    daemonset: Option<String>,
    /// Write MetalLB's status objects (metallb.io/v1beta1): a ServiceL2Status or ServiceBGPStatus
    /// for each service that this node announces, and the ConfigurationState of this process. Each
    /// failover then writes to the API server.
    #[arg(long, conflicts_with = "manifests")]
    metallb_status: bool,
    /// Format of log lines. [default: text on a terminal, else json]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// What is logged. RUST_LOG takes precedence.
    #[arg(long, value_enum, default_value = "info")]
    log_level: LogLevel,
    /// Folder for the state file, whose routes are announced if the API server is unavailable after
    /// a restart.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl RunArgs {
    /// The name of the node; optional for an allocator.
    fn node(&self) -> anyhow::Result<String> {
        match &self.node_name {
            Some(node) => Ok(node.clone()),
            None if self.role.announces() => anyhow::bail!(
                "announcers need the name of their node: give --node-name or set NODE_NAME"
            ),
            None => Ok(String::new()),
        }
    }

    /// Whether this build can do what the role needs.
    fn check_role(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            cfg!(feature = "layer2") || self.role != Role::Layer2,
            "this ferrolb was built without layer 2: use a build with the feature layer2, or \
             another --role"
        );
        anyhow::ensure!(
            self.bmp.is_none() || self.role.announces_bgp(),
            "--bmp has no effect in this role, which has no BGP sessions: remove it, or give it to \
             the announcers"
        );
        self.gate.check_role(self.role)?;
        Ok(())
    }

    fn status_options(&self, node: &str) -> StatusOptions {
        StatusOptions {
            kubeconfig: self.kubeconfig.clone(),
            namespace: config_namespaces(own_namespace(), &self.config_namespace).swap_remove(0),
            node: node.to_owned(),
            role: self.role,
        }
    }

    fn kinds(&self) -> &'static [Kind] {
        if self.manifests.is_some() && self.role != Role::Layer2 {
            &Kind::ALL
        } else {
            kube::kinds(self.role)
        }
    }

    /// Starts the reports to the BMP collector.
    fn report_bmp(
        &self,
        engine: Option<&Handle>,
        node: &str,
        serving: &tokio::runtime::Handle,
    ) -> Option<JoinHandle<()>> {
        let (engine, collector) = engine.cloned().zip(self.bmp.clone())?;
        Some(serving.spawn(bmp::report(engine, collector, node.to_owned())))
    }

    fn daemonset(&self) -> Option<OwnDaemonSet> {
        let name = self.daemonset.clone()?;
        Some(OwnDaemonSet {
            kubeconfig: self.kubeconfig.clone(),
            namespace: pod_namespace(own_namespace(), &self.config_namespace),
            name,
        })
    }
}

pub(super) fn run(args: RunArgs, host: Host) -> anyhow::Result<ExitCode> {
    telemetry::start(args.log_format, args.log_level);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let serving =
        serving_thread().context("start the thread for HTTP, the control socket and the Lease")?;
    match runtime.block_on(daemon(args, host, &serving))? {
        End::Stopped => Ok(ExitCode::SUCCESS),
        End::Restart => Err(panicked::restart()).context("can't restart this process"),
    }
}

/// Starts a separate thread for HTTP, the control socket and the Lease: all three go on while the
/// control loop is stalled.
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

/// How the process ends, apart from errors.
enum End {
    Stopped,
    /// By replacing itself.
    Restart,
}

async fn daemon(
    args: RunArgs,
    host: Host,
    serving: &tokio::runtime::Handle,
) -> anyhow::Result<End> {
    let (mut daemon, control_loop) = Daemon::start(args, host, serving).await?;
    let ending = daemon.run(control_loop).await;
    daemon.end(ending).await
}

/// The listening sockets, bound at the start and served once all parts run.
struct Listeners {
    metrics: TcpListener,
    /// None if its default path can't be created.
    control: Option<Socket>,
}

impl Listeners {
    fn open(args: &RunArgs, serving: &tokio::runtime::Handle) -> anyhow::Result<Self> {
        // The only role that is rolled out with two processes on a node.
        let shared = args.role == Role::Layer2;
        let metrics = http::bind(args.metrics.metrics_addr, shared, serving)?;
        let control = {
            let _runtime = serving.enter();
            socket(args.socket.as_deref(), args.role)?
        };
        Ok(Self { metrics, control })
    }

    fn serve(
        self,
        serving: &tokio::runtime::Handle,
        served: Served,
        asker: Asker,
        tls: Option<Tls>,
    ) {
        if let Some(socket) = self.control {
            serving.spawn(socket.serve(ControlService {
                engine: served.engine.clone(),
                layer2: served.layer2.clone(),
                status: served.status.clone(),
                asker,
                node: served.node.clone(),
            }));
        }
        serving.spawn(http::serve(self.metrics, served, tls));
    }
}

/// A started daemon without its control loop.
struct Daemon {
    started: Instant,
    node: String,
    host: Host,
    source: Source,
    engine: Option<Handle>,
    objects: Publishers,
    layer2: Option<Layer2Engine>,
    /// Reports to the BMP collector.
    bmp: Option<JoinHandle<()>>,
    state: Option<StateDir>,
    daemonset: Option<OwnDaemonSet>,
    status: watch::Receiver<Arc<DaemonStatus>>,
    signals: StopSignals,
    signals_after_panic: StopSignals,
}

impl Daemon {
    /// Starts all parts. Returns the control loop separately.
    async fn start(
        args: RunArgs,
        host: Host,
        serving: &tokio::runtime::Handle,
    ) -> anyhow::Result<(Self, ControlLoop)> {
        let started = Instant::now();
        let node = args.node()?;
        args.check_role()?;
        let listeners = Listeners::open(&args, serving)?;
        let protection = args
            .metrics
            .protection(args.kubeconfig.clone(), serving)
            .await?;
        let (tls, access) = protection.unzip();
        let mut source = source(&args, &node, serving).await?;
        let signals = StopSignals::listen()?;
        let signals_after_panic = StopSignals::listen()?;
        let state = args.state_dir.clone().map(StateDir::new);
        let announcing = args
            .role
            .announces_bgp()
            .then(|| announcer(&args, &node, state.clone()))
            .transpose()?;
        let (engine, announcer) = announcing.unzip();
        let (engine, events) = engine.unzip();
        let (layer2_announcer, layer2) = layer2(&args, &node, &source).unzip();
        let saved = state.as_ref().and_then(saved);
        let (status_in, status) = watch::channel(Arc::new(DaemonStatus::new()));
        let metallb = if args.metallb_status {
            let layer2 = layer2_announcer.as_ref().zip(layer2.as_ref());
            let options = args.status_options(&node);
            Some(publish_metallb(&options, &status, engine.as_ref(), layer2).await?)
        } else {
            None
        };
        let objects = source.sessions.objects.take();
        let parts = engine.clone().zip(events).zip(objects);
        let sessions = parts.map(|((engine, events), objects)| {
            publish_sessions(&node, (engine, events), status.clone(), objects, random())
        });
        let (asker, questions) = questions();
        let control_loop = ControlLoop {
            kinds: args.kinds(),
            announcer,
            layer2: layer2_announcer,
            gate: args
                .gate
                .gate(args.role, args.manifests.is_some(), saved.as_ref()),
            allocate: args.role.allocates(),
            ignore_exclusion: args.ignore_exclude_lb,
            lb_class: args.lb_class.clone(),
            saved,
            interface_exists: host.interface_exists,
            host_addresses: speaker::host_addresses,
            discards: Discards::by_kernel(),
            questions,
            status: status_in,
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            role = ?args.role,
            node,
            metrics = %args.metrics.metrics_addr,
            "ferrolb started"
        );
        let served = Served {
            status: status.clone(),
            engine: engine.clone(),
            layer2: layer2.clone(),
            node: node.clone(),
            access,
        };
        listeners.serve(serving, served, asker, tls);
        let bmp = args.report_bmp(engine.as_ref(), &node, serving);
        let daemon = Self {
            started,
            node,
            host,
            source,
            engine,
            objects: Publishers { sessions, metallb },
            layer2,
            bmp,
            state,
            daemonset: args.daemonset(),
            status,
            signals,
            signals_after_panic,
        };
        Ok((daemon, control_loop))
    }

    /// Runs the control loop until it ends, the engine ends, or a second stop signal arrives.
    async fn run(&mut self, control_loop: ControlLoop) -> Ending {
        let (stop_in, stop) = oneshot::channel();
        let running = panicked::catch(control_loop, &mut self.source, stop);
        let daemonset = self.daemonset.take();
        tokio::select! {
            caught = running => match caught {
                Ok(Some(mode)) => Ending::StopMode(mode),
                Ok(None) => Ending::Failed("the source of Kubernetes objects has ended"),
                Err(Panicked) => Ending::Panicked,
            },
            () = engine_ended(self.engine.as_ref()) => Ending::Failed(ENGINE_ENDED),
            () = stop_requested(&mut self.signals, daemonset, stop_in) => {
                tracing::warn!(
                    "second stop signal: ending at once, without a drain or a hand-over"
                );
                Ending::StopMode(StopMode::Drain(None))
            }
        }
    }

    /// Shuts down sessions, layer 2 and source, after a panic with a delay.
    ///
    /// Layer 2 hands its addresses to the next process of the same node if that runs already, as
    /// in a rollout with surge. Otherwise, if nothing shows that the stop is permanent, other nodes
    /// wait for this one to come back: its kernel goes on forwarding, so that no connection breaks.
    async fn end(mut self, ending: Ending) -> anyhow::Result<End> {
        let _restored = match ending {
            Ending::Panicked => self.restore(),
            Ending::StopMode(_) | Ending::Failed(_) => None,
        };
        let engine = self.engine;
        let mut source = Some(self.source);
        let end = match ending {
            Ending::StopMode(mode) => Ok((End::Stopped, Some(mode))),
            Ending::Failed(why) => Err(anyhow::anyhow!(why)),
            Ending::Panicked => {
                let pause = (self.host.pause_after_panic)(self.started.elapsed());
                let signals = self.signals_after_panic;
                after_panic(pause, engine.as_ref(), signals, source.take()).await
            }
        };
        let restarts = matches!(
            end,
            Ok((End::Restart, _) | (_, Some(StopMode::GracefulRestart)))
        );
        let at_once = matches!(end, Ok((_, Some(StopMode::Drain(None)))));
        let leave = async {
            if let Some(layer2) = self.layer2.filter(|_| !at_once) {
                tokio::select! {
                    () = layer2.leave(restarts) => {}
                    () = self.signals.next() => {
                        tracing::warn!("another stop signal: ending layer 2 at once");
                    }
                }
            }
        };
        let mode = end.as_ref().ok().and_then(|(_, mode)| *mode);
        let leaves = matches!(mode, Some(StopMode::Drain(Some(_))));
        let objects = self.objects.end(leaves);
        let announces = engine.is_some();
        let shutdown = async {
            if let Some(engine) = engine {
                let (text, shutdown) = shutdown_message(mode);
                tracing::info!("{text}");
                engine.shutdown(text, shutdown).await;
            }
            if let Some(bmp) = self.bmp {
                // It has ended, or the collector does not read.
                _ = tokio::time::timeout(BMP_TIMEOUT, bmp).await;
            }
        };
        tokio::join!(shutdown, leave, objects, end_source(source));
        if announces && leaves {
            discard::end().await;
        }
        tracing::info!("ferrolb stopped");
        end.map(|(end, _)| end)
    }

    /// After a panic before the first update, announces the saved routes.
    fn restore(&self) -> Option<Announcer> {
        let (engine, state) = (self.engine.as_ref()?, self.state.as_ref()?);
        if self.status.borrow().initialized {
            return None;
        }
        panicked::restore(&self.node, engine, state)
    }
}

/// Starts the state writer, if there is a state folder, and the BGP engine.
fn announcer(
    args: &RunArgs,
    node: &str,
    state: Option<StateDir>,
) -> anyhow::Result<((Handle, Events), Announcer)> {
    let writer = state
        .map(StateWriter::start)
        .transpose()
        .context("start the thread that writes the state file")?;
    let (engine, events) = engine(node, args.listen.clone())?;
    let announcer = Announcer::new(node.to_owned(), engine.clone(), writer);
    Ok(((engine, events), announcer))
}

/// The announcer of layer 2, in roles that have one, and the holder of its engine.
fn layer2(args: &RunArgs, node: &str, source: &Source) -> Option<(Layer2Announcer, Layer2Engine)> {
    args.role.announces_layer2().then(|| {
        let writes = source.writes.clone();
        Layer2Announcer::new(node, exclude_file::read(), writes, engine::start)
    })
}

/// Why the control loop ended.
enum Ending {
    StopMode(StopMode),
    Failed(&'static str),
    Panicked,
}

const ENGINE_ENDED: &str = "the BGP engine terminated unexpectedly";

/// Releases the Lease, so that another allocator becomes leader, and keeps the announced routes
/// until the restart or a stop signal.
async fn after_panic(
    pause: Duration,
    engine: Option<&Handle>,
    mut signals: StopSignals,
    source: Option<Source>,
) -> anyhow::Result<(End, Option<StopMode>)> {
    tracing::error!(
        "the control loop panicked: what it announces stays announced but is not updated, /readyz \
         fails, and the process restarts in {} s",
        pause.as_secs()
    );
    let wait = async {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok((End::Restart, None)),
            () = signals.next() => Ok((End::Stopped, Some(StopMode::GracefulRestart))),
            () = engine_ended(engine) => Err(anyhow::anyhow!(ENGINE_ENDED)),
        }
    };
    tokio::join!(wait, end_source(source)).0
}

/// Waits for a stop signal, passes it to the control loop, and waits for a second one.
async fn stop_requested(
    signals: &mut StopSignals,
    daemonset: Option<OwnDaemonSet>,
    stop: oneshot::Sender<bool>,
) {
    let mut exists = false;
    let lookup = async {
        if let Some(daemonset) = &daemonset {
            exists = daemonset.wait_until_found().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = signals.next() => {}
        () = lookup => {}
    }
    tracing::info!("stop signal received: shutting down");
    let gone = match daemonset.filter(|_| exists) {
        Some(daemonset) => daemonset.is_gone().await,
        None => false,
    };
    // Fails if the control loop has ended.
    _ = stop.send(gone);
    signals.next().await;
}

/// The shutdown message for peers (RFC 9003), and what happens to the routes.
fn shutdown_message(mode: Option<StopMode>) -> (String, ShutdownMode) {
    match mode {
        Some(StopMode::GracefulRestart) => (
            "ferrolb is restarting".to_owned(),
            ShutdownMode::GracefulRestart,
        ),
        Some(StopMode::Drain(Some(reason))) => (
            format!("ferrolb is shutting down: {reason}"),
            ShutdownMode::Withdraw,
        ),
        Some(StopMode::Drain(None)) => (
            "ferrolb is shutting down".to_owned(),
            ShutdownMode::Withdraw,
        ),
        // An internal failure; a supervisor restarts the process.
        None => (
            "ferrolb is restarting after an internal failure".to_owned(),
            ShutdownMode::GracefulRestart,
        ),
    }
}

/// Creates the control socket. A failure at the default path is not fatal.
fn socket(path: Option<&Path>, role: Role) -> anyhow::Result<Option<Socket>> {
    let default = match role {
        Role::Layer2 => LAYER2_SOCKET,
        Role::Allocator => ALLOCATOR_SOCKET,
        Role::Announcer | Role::All => DEFAULT_SOCKET,
    };
    match (Socket::bind(path.unwrap_or(Path::new(default))), path) {
        (Ok(socket), _) => Ok(Some(socket)),
        (Err(error), Some(_)) => Err(error.into()),
        (Err(error), None) => {
            tracing::warn!(
                "control socket unavailable, `ferrolb peers`, `peer`, `routes`, `log`, `capture`, \
                 `l2` and `probe` will not work: {error}"
            );
            Ok(None)
        }
    }
}

/// Ends the source and releases the Lease, so that another allocator becomes leader at once.
async fn end_source(source: Option<Source>) {
    let Some(Source {
        mut events, status, ..
    }) = source
    else {
        return;
    };
    drop(status);
    let ended = async { while events.recv().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await.is_err() {
        tracing::warn!(
            "the source of Kubernetes objects did not end within {} s: if this process was the \
             leader, another allocator waits until the Lease expires",
            SHUTDOWN_TIMEOUT.as_secs()
        );
    }
}

async fn source(
    args: &RunArgs,
    node: &str,
    serving: &tokio::runtime::Handle,
) -> anyhow::Result<Source> {
    let mut config = ConfigPlaces::of(&config_namespaces(own_namespace(), &args.config_namespace));
    config.config_map.clone_from(&args.config_map);
    if let Some(folder) = &args.manifests {
        return folder::start(folder.clone(), config);
    }
    let options = kube::KubeOptions {
        kubeconfig: args.kubeconfig.clone(),
        lease_namespace: config.namespaces.first().cloned().unwrap_or_default(),
        config,
        own_namespace: pod_namespace(own_namespace(), &args.config_namespace),
        node: node.to_owned(),
        lb_class: args.lb_class.clone(),
        role: args.role,
        identity: identity(node),
        serving: serving.clone(),
    };
    // The message contains cause and remedy; the chain of causes would repeat it.
    let started = kube::start(options).await;
    started.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Uptime of the host, if known.
fn host_uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Starts the BGP engine on its own thread.
fn engine(node: &str, listen: Vec<SocketAddr>) -> anyhow::Result<(Handle, Events)> {
    let addresses: Vec<String> = listen.iter().map(SocketAddr::to_string).collect();
    let listening = if listen.is_empty() {
        String::new()
    } else {
        format!(
            ": listening on {}; a port below 1024 needs the capability NET_BIND_SERVICE",
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
    speaker::spawn(options).with_context(|| format!("can't start the BGP engine{listening}"))
}

fn saved(state: &StateDir) -> Option<SavedState> {
    state.load().unwrap_or_else(|error| {
        tracing::warn!("can't read the state file, continuing without it: {error}");
        None
    })
}

/// Never returns without an engine.
async fn engine_ended(engine: Option<&Handle>) {
    match engine {
        Some(engine) => engine.ended().await,
        None => std::future::pending().await,
    }
}
