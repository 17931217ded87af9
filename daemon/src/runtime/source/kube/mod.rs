//! The Kubernetes API as a source: watches, leader election and status writes.
//!
//! ```text
//! client ── watch (one per kind) ── listing ──> Event::Change
//!     ├──── leader_election ── elector (pure) ──> Lead ──> Event::Leading
//!     └──── status_writer <── StatusWrite
//! ```
//!
//! A new leader restarts the watches of the kinds that it allocates from, with consistent lists. It
//! reports that it leads only after these lists were delivered, so everything it receives later is
//! newer than the writes of the previous leader.

mod api_health;
mod api_writer;
mod backoff;
mod client;
mod cluster;
mod daemonset;
mod elector;
mod leader_election;
mod list;
mod listing;
mod metallb_pods;
mod object;
mod ready_nodes;
mod reviewer;
mod session_watch;
mod snapshot;
pub(crate) mod status_objects;
mod status_snapshot;
mod status_writer;
mod stream;
mod unready_sessions;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::{Api, Client};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch as latest};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) use self::client::StartError;
pub(crate) use self::cluster::Cluster;
pub(crate) use self::daemonset::OwnDaemonSet;
pub(crate) use self::leader_election::LEASE_NAME;
pub(crate) use self::reviewer::{Reviewer, Verdict};
pub(crate) use self::snapshot::Snapshot;
pub(crate) use self::status_snapshot::StatusSnapshot;

use self::api_health::ApiHealth;
use self::api_writer::ApiWriter;
use self::leader_election::{Lead, LeaderElection};
use self::watch::{Context, Freshness};
use crate::core::api::Kind;
use crate::core::api::bgp_session::AllSessions;
use crate::core::config::ConfigPlaces;
use crate::runtime::role::Role;
use crate::runtime::source::bgp_sessions::{SessionEnds, session_channels};
use crate::runtime::source::{Event, Source, StatusReceiver, api_writes, status_writes};

/// Capacity of the event channel. An event may contain an object as JSON, some 10 KB. When the
/// channel is full, the watches stop reading from the API server.
const EVENT_CAPACITY: usize = 128;

/// Limit for releasing the Lease at shutdown.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(7);

/// Delay before a watch restarts after it ended or panicked, which is a bug.
const WATCH_RESTART_DELAY: Duration = Duration::from_secs(10);

/// Options of the Kubernetes source.
#[derive(Clone, Debug)]
pub(crate) struct KubeOptions {
    /// Absent: the Pod's service account, or the default kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// Where the configuration and its Secrets are: at least one namespace.
    pub config: ConfigPlaces,
    /// Allocators take part in leader election and write status.
    pub role: Role,
    /// Unique to this process, such as the Pod's name with a random suffix.
    pub identity: String,
    /// Namespace of the Lease, and of the key that the allocator creates.
    pub lease_namespace: String,
    /// Namespace of the Pod.
    pub own_namespace: String,
    /// The node, for Events.
    pub node: String,
    /// The `loadBalancerClass` of the Services to serve. None: those without one.
    pub lb_class: Option<String>,
    /// Where the Lease is renewed: a thread that no decision blocks.
    pub serving: Handle,
}

/// The kinds that a role watches, and that must be listed before anything is decided.
pub(crate) const fn kinds(role: Role) -> &'static [Kind] {
    match role {
        Role::All => &Kind::ALL,
        Role::Announcer => &ANNOUNCER_READS,
        Role::Layer2 => &LAYER2_READS,
        Role::Allocator => &ALLOCATOR_READS,
    }
}

/// The kinds that routes depend on.
const ANNOUNCER_READS: [Kind; 18] = [
    Kind::Namespace,
    Kind::Node,
    Kind::ServiceCidr,
    Kind::Secret,
    Kind::ConfigMap,
    Kind::Community,
    Kind::FerrolbCommunity,
    Kind::IpAddressPool,
    Kind::FerrolbIpAddressPool,
    Kind::AddressPool,
    Kind::BfdProfile,
    Kind::FerrolbBfdProfile,
    Kind::BgpPeer,
    Kind::FerrolbBgpPeer,
    Kind::BgpAdvertisement,
    Kind::FerrolbBgpAdvertisement,
    Kind::Service,
    Kind::EndpointSlice,
];

/// The kinds that layer 2 depends on. Of Secrets it reads only those with the key of hellos.
const LAYER2_READS: [Kind; 11] = [
    Kind::Namespace,
    Kind::Node,
    Kind::Secret,
    Kind::ConfigMap,
    Kind::IpAddressPool,
    Kind::FerrolbIpAddressPool,
    Kind::AddressPool,
    Kind::L2Advertisement,
    Kind::FerrolbL2Advertisement,
    Kind::Service,
    Kind::EndpointSlice,
];

/// The kinds that an allocator watches: those that it allocates from, those with addresses that
/// Services must not get, those that say whether it creates the key of hellos, those that take
/// precedence over the ConfigMap, and all others of which it reports that an object is refused.
const ALLOCATOR_READS: [Kind; 19] = [
    Kind::Namespace,
    Kind::Node,
    Kind::ServiceCidr,
    Kind::Secret,
    Kind::ConfigMap,
    Kind::Community,
    Kind::FerrolbCommunity,
    Kind::IpAddressPool,
    Kind::FerrolbIpAddressPool,
    Kind::AddressPool,
    Kind::BfdProfile,
    Kind::FerrolbBfdProfile,
    Kind::BgpPeer,
    Kind::FerrolbBgpPeer,
    Kind::BgpAdvertisement,
    Kind::FerrolbBgpAdvertisement,
    Kind::L2Advertisement,
    Kind::FerrolbL2Advertisement,
    Kind::Service,
];

/// Kinds that must be listed consistently in a term before the leader allocates.
const ALLOCATED_FROM: [Kind; 6] = [
    Kind::Namespace,
    Kind::ConfigMap,
    Kind::IpAddressPool,
    Kind::FerrolbIpAddressPool,
    Kind::AddressPool,
    Kind::Service,
];

/// Starts the source. The API server may be unavailable; objects arrive once it answers.
///
/// To stop, drop [`Source::status`] and receive events until the channel closes: the Lease is
/// released by then.
///
/// # Errors
///
/// The client's configuration is invalid.
pub(crate) async fn start(options: KubeOptions) -> Result<Source, StartError> {
    if options.config.namespaces.is_empty() {
        return Err(StartError::NoConfigNamespace);
    }
    let client = client::connect(options.kubeconfig.as_deref()).await?;
    let (events_in, events) = mpsc::channel(EVENT_CAPACITY);
    let (status, mut writes) = status_writes();
    let namespaces: BTreeSet<String> = options.config.namespaces.iter().cloned().collect();
    let context = Context {
        client,
        config_namespaces: namespaces.into_iter().collect(),
        config_map: options.config.config_map.as_str().into(),
        key_namespace: options.lease_namespace.as_str().into(),
        role: options.role,
        events: events_in,
        api_health: Arc::new(ApiHealth::new()),
    };
    let mut watches = Watches::new(context.clone());
    for kind in kinds(options.role) {
        watches.start(*kind, Freshness::Cached, 0);
    }
    let (api_writes, received) = api_writes();
    let writer = ApiWriter {
        client: context.client.clone(),
        namespace: options.lease_namespace.clone(),
        node: options.node.clone(),
    };
    // Both end with the runtime.
    tokio::spawn(writer.run(received));
    let (sessions, session_ends) = session_channels();
    start_sessions(&context.client, &options, session_ends);
    if options.role.announces_layer2() {
        let slices = Api::namespaced(context.client.clone(), &options.own_namespace);
        watches.add(ready_nodes::follow(slices, context.events.clone()));
    }
    if options.role.announces() {
        watches.add(metallb_pods::follow_speaker(
            context.client.clone(),
            context.config_namespaces.to_vec(),
            options.node.clone(),
            context.events.clone(),
        ));
    }
    let (needs_endpoints, endpoints) = latest::channel(false);
    if options.role.allocates() {
        let election = Election::start(context.clone(), options).await?;
        tokio::spawn(allocate(context, election, watches, writes, endpoints));
    } else {
        tokio::spawn(async move {
            // There are no writes in this role; the channel closes at shutdown.
            while writes.recv().await.is_some() {}
            drop(watches);
        });
    }
    Ok(Source {
        events,
        status,
        writes: api_writes,
        needs_endpoints,
        sessions,
    })
}

/// What a cluster has, for a command that only looks.
#[derive(Debug)]
pub(crate) struct Observed {
    /// The changes of the objects; the watches end when it is dropped.
    pub events: mpsc::Receiver<Event>,
    /// The statuses of all BGPSessions.
    pub sessions: latest::Receiver<Arc<AllSessions>>,
}

/// The kinds that [`observe`] watches: all but Secrets, whose passwords decide nothing.
pub(crate) fn observed_kinds() -> impl Iterator<Item = Kind> {
    let kinds = Kind::ALL.into_iter();
    kinds.filter(|kind| *kind != Kind::Secret)
}

/// Watches what decisions depend on, and the BGPSessions: one list and one watch of each kind and
/// namespace of the configuration. Writes nothing.
///
/// # Errors
///
/// The client's configuration is invalid.
pub(crate) async fn observe(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
    config: &ConfigPlaces,
) -> Result<Observed, StartError> {
    let client = client::connect_to(kubeconfig, context).await?;
    let (events_in, events) = mpsc::channel(EVENT_CAPACITY);
    let namespaces: BTreeSet<String> = config.namespaces.iter().cloned().collect();
    let mut watches = Watches::new(Context {
        client: client.clone(),
        config_namespaces: namespaces.into_iter().collect(),
        config_map: config.config_map.as_str().into(),
        key_namespace: "".into(),
        role: Role::All,
        events: events_in.clone(),
        api_health: Arc::new(ApiHealth::new()),
    });
    for kind in observed_kinds() {
        watches.start(kind, Freshness::Cached, 0);
    }
    let (states, sessions) = latest::channel(Arc::default());
    watches.add(session_watch::follow_all(client, states));
    tokio::spawn(async move {
        events_in.closed().await;
        drop(watches);
    });
    Ok(Observed { events, sessions })
}

/// Starts what a role does with BGPSessions. It ends with the runtime.
fn start_sessions(client: &Client, options: &KubeOptions, ends: SessionEnds) {
    let SessionEnds {
        objects,
        unready,
        wanted,
        states,
    } = ends;
    if options.role.announces_bgp() {
        let writer = status_objects::Writer::of_bgp_sessions(client.clone(), &options.node);
        tokio::spawn(writer.run(objects));
        tokio::spawn(session_watch::follow(client.clone(), wanted, states));
    }
    if options.role.allocates() {
        tokio::spawn(unready_sessions::follow(client.clone(), unready));
    }
}

/// The watches, one per kind. Dropping this aborts them.
struct Watches {
    context: Context,
    running: BTreeMap<Kind, WatchTask>,
    /// What else sends events: the channel closes when all senders are gone.
    others: Vec<WatchTask>,
    /// Unbounded: each watch sends once.
    listed_in: mpsc::UnboundedSender<(u64, Kind)>,
    listed: mpsc::UnboundedReceiver<(u64, Kind)>,
}

/// A task that is aborted when the handle is dropped.
struct WatchTask(JoinHandle<()>);

impl Drop for WatchTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watches {
    fn new(context: Context) -> Self {
        let (listed_in, listed) = mpsc::unbounded_channel();
        let probe = context.api_health.clone().probe(context.client.clone());
        Self {
            others: vec![WatchTask(tokio::spawn(probe))],
            context,
            running: BTreeMap::new(),
            listed_in,
            listed,
        }
    }

    /// Starts a task that ends with the watches.
    fn add(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.others.push(WatchTask(tokio::spawn(task)));
    }

    /// Starts the watch of a kind. [`Watches::listed`] receives `term` with the kind once it is
    /// listed.
    fn start(&mut self, kind: Kind, freshness: Freshness, term: u64) {
        let listed = self.listed_in.clone();
        let listed = move || _ = listed.send((term, kind));
        let context = self.context.clone();
        let events = context.events.clone();
        let follow = move || watch::follow(context.clone(), kind, freshness, listed.clone());
        let task = async move {
            tokio::select! {
                biased;
                () = events.closed() => {}
                () = supervise(kind, follow) => {}
            }
        };
        self.running.insert(kind, WatchTask(tokio::spawn(task)));
    }

    /// Restarts the watches with consistent lists. No event of an old watch follows one of its
    /// successor.
    async fn restart(&mut self, kinds: &[Kind], term: u64) {
        for kind in kinds {
            if let Some(mut old) = self.running.remove(kind) {
                old.0.abort();
                // The result is the cancellation that was just requested.
                _ = (&mut old.0).await;
            }
            self.start(*kind, Freshness::Consistent, term);
        }
    }
}

/// Runs the watch of a kind forever. A watch that ends or panics is a bug, perhaps triggered by one
/// object: the other kinds continue, known objects stay, and each restart is logged.
async fn supervise<F: Future<Output = ()>>(kind: Kind, follow: impl Fn() -> F) {
    loop {
        let ended = AssertUnwindSafe(follow()).catch_unwind().await;
        let how = if ended.is_ok() { "ended" } else { "panicked" };
        tracing::error!(
            kind = kind.name(),
            "the watch {how}, a bug of ferrolb (please report it): restarting it in {} s",
            WATCH_RESTART_DELAY.as_secs()
        );
        tokio::time::sleep(WATCH_RESTART_DELAY).await;
    }
}

/// The running election.
struct Election {
    task: JoinHandle<()>,
    lead: latest::Receiver<Lead>,
    release: oneshot::Sender<()>,
}

impl Election {
    /// Starts it on [`KubeOptions::serving`], with a client of its own. A leader whose decisions
    /// take longer than the Lease lasts goes on renewing it; the kubelet, which asks `/livez`,
    /// ends one whose control loop hangs.
    async fn start(context: Context, options: KubeOptions) -> Result<Self, StartError> {
        let (kubeconfig, serving) = (options.kubeconfig.clone(), options.serving.clone());
        let connect = async move { client::connect(kubeconfig.as_deref()).await };
        let client = match serving.spawn(connect).await {
            Ok(client) => client?,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        };
        let (lead_in, lead) = latest::channel(Lead::default());
        let (release, released) = oneshot::channel();
        let context = Context { client, ..context };
        let task = serving.spawn(elect(context, options, lead_in, released));
        Ok(Self {
            task,
            lead,
            release,
        })
    }
}

/// Takes part in the election until `release` fires or is dropped, except while MetalLB's
/// controller runs: both would write the same Services in turn.
async fn elect(
    context: Context,
    options: KubeOptions,
    lead: latest::Sender<Lead>,
    mut release: oneshot::Receiver<()>,
) {
    let mut may_lead = metallb_pods::follow_controller(
        context.client.clone(),
        context.config_namespaces.to_vec(),
        options.lb_class.clone(),
        lead.subscribe(),
        context.events.clone(),
    );
    loop {
        let ended = tokio::select! {
            _ = &mut release => return,
            permitted = may_lead.wait_for(|may_lead| *may_lead) => permitted.is_err(),
        };
        if ended {
            // What looks for MetalLB has ended, a bug: nothing is allocated beside it.
            _ = release.await;
            return;
        }
        let (stop, stopped) = oneshot::channel();
        let election = LeaderElection::new(
            context.client.clone(),
            &options.lease_namespace,
            options.identity.clone(),
            lead.clone(),
        );
        let mut election = pin!(election.run(context.api_health.clone(), stopped));
        let released = tokio::select! {
            () = &mut election => return,
            _ = &mut release => true,
            _ = may_lead.wait_for(|may_lead| !may_lead) => false,
        };
        drop(stop);
        election.await;
        if released {
            return;
        }
    }
}

/// Follows the leader election, sends [`Event::Leading`] and writes statuses.
async fn allocate(
    context: Context,
    election: Election,
    mut watches: Watches,
    writes: StatusReceiver,
    mut endpoints: latest::Receiver<bool>,
) {
    let Election {
        mut task,
        mut lead,
        release,
    } = election;
    let mut writer = JoinSet::new();
    let (allocating_term_in, allocating_term) = latest::channel(None);
    let writing = status_writer::write_all(
        context.client.clone(),
        lead.clone(),
        allocating_term,
        writes,
    );
    writer.spawn(writing);

    let mut leading = Leading::default();
    loop {
        let event = tokio::select! {
            biased;
            _ = writer.join_next() => break,
            () = context.events.closed() => break,
            changed = lead.changed() => {
                if changed.is_err() {
                    break;
                }
                let now = *lead.borrow_and_update();
                let (event, is_new_term) = leading.lead(now);
                if is_new_term {
                    watches.restart(&ALLOCATED_FROM, now.term).await;
                }
                event
            }
            Some((term, kind)) = watches.listed.recv() => leading.listed(term, kind),
            Ok(()) = endpoints.changed() => {
                if *endpoints.borrow_and_update() {
                    watches.start(Kind::EndpointSlice, Freshness::Cached, 0);
                }
                None
            }
        };
        allocating_term_in.send_replace(leading.allocating_term());
        if let Some(event) = event
            && context.events.send(Event::Leading(event)).await.is_err()
        {
            break;
        }
    }
    drop(watches);
    drop(release);
    // The release has its own, shorter timeout; this one applies if it hangs.
    if tokio::time::timeout(RELEASE_TIMEOUT, &mut task)
        .await
        .is_err()
    {
        task.abort();
    }
}

/// Decides when to report that this process leads. Pure.
#[derive(Debug, Default)]
struct Leading {
    /// The current term, and the kinds that were not listed in it yet.
    term: Option<(u64, BTreeSet<Kind>)>,
    announced: bool,
}

impl Leading {
    /// Handles a change of leadership. Returns the event to send, and whether a term begins.
    fn lead(&mut self, lead: Lead) -> (Option<bool>, bool) {
        let current = self.term.as_ref().map(|(term, _)| *term);
        let now = lead.until.map(|_| lead.term);
        if current == now {
            return (None, false);
        }
        self.term = now.map(|term| (term, ALLOCATED_FROM.into_iter().collect()));
        let event = std::mem::take(&mut self.announced).then_some(false);
        (event, now.is_some())
    }

    /// The term in which the allocator may decide, once [`Event::Leading`] was sent.
    fn allocating_term(&self) -> Option<u64> {
        self.term
            .as_ref()
            .map(|(term, _)| *term)
            .filter(|_| self.announced)
    }

    /// Handles the complete list of a kind in a term. Returns the event to send.
    fn listed(&mut self, term: u64, kind: Kind) -> Option<bool> {
        let (current, missing) = self.term.as_mut()?;
        if *current != term || self.announced {
            return None;
        }
        missing.remove(&kind);
        self.announced = missing.is_empty();
        self.announced.then_some(true)
    }
}

#[cfg(test)]
mod tests;
