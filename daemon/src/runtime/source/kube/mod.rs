//! The Kubernetes API as a source: watches in, the Lease, status out.
//!
//! ```text
//! client ── watch (one per kind) ── listing ──> Event::Change
//!     ├──── candidate ── lease (pure) ──> Lead ──> Event::Leading
//!     └──── status <── StatusWrite
//! ```
//!
//! When this process wins the Lease, the watches of what it decides from begin again with a consistent list; only when
//! these lists were handed over does it say that it leads. So everything it hears after that is newer than what the
//! last leader wrote.

mod api_health;
mod client;
mod daemonset;
mod elector;
mod leader_election;
mod listing;
mod object;
mod status_writer;
mod stream;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot, watch as latest};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) use self::client::StartError;
pub(crate) use self::daemonset::OwnDaemonSet;

use self::api_health::ApiHealth;
use self::leader_election::{Lead, LeaderElection};
use self::watch::{Context, Freshness};
use crate::core::api::Kind;
use crate::runtime::source::{Event, Source, StatusReceiver, status_writes};

/// How many events may wait: each may be an object as JSON, some 10 KB. When they are too many, the watches wait, and with
/// them the API server's streams.
const CHANNEL: usize = 128;

/// How long giving up the Lease may take at the end.
const FAREWELL: Duration = Duration::from_secs(7);

/// Before a watch that failed by a bug begins anew.
const PAUSE: Duration = Duration::from_secs(10);

/// What the Kubernetes source is told.
#[derive(Clone, Debug)]
pub(crate) struct KubeOptions {
    /// Absent: the Pod we run in, else the default kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// Where configuration and Secrets are read; at least one.
    pub config_namespaces: Vec<String>,
    /// Whether to stand for the Lease and write status.
    pub allocate: bool,
    /// Whether to read what announcing needs.
    pub announce: bool,
    /// Unique to this process: its Pod's name and something random, for instance.
    pub identity: String,
    /// Where the Lease is.
    pub lease_namespace: String,
}

/// The kinds that a role reads, and that the index must have before it can decide anything.
pub(crate) fn kinds(allocate: bool, announce: bool) -> &'static [Kind] {
    match (allocate, announce) {
        (_, true) => &Kind::ALL,
        (true, false) => &ALLOCATOR_READS,
        (false, false) => &[],
    }
}

/// What an allocator reads: what it decides from, and whose addresses it must not give to services.
const ALLOCATOR_READS: [Kind; 7] = [
    Kind::Namespace,
    Kind::Node,
    Kind::ServiceCidr,
    Kind::IpAddressPool,
    Kind::BgpPeer,
    Kind::FerrolbBgpPeer,
    Kind::Service,
];

/// What has to be listed consistently in a term before the allocator decides.
const ALLOCATED_FROM: [Kind; 3] = [Kind::Namespace, Kind::IpAddressPool, Kind::Service];

/// Starts the source. The API server need not answer now: its objects come when it does.
///
/// To end it, drop [`Source::status`] and take events until there are no more: the Lease is given up by then.
///
/// # Errors
/// The configuration of the client can't be used.
pub(crate) async fn start(options: KubeOptions) -> Result<Source, StartError> {
    if options.config_namespaces.is_empty() {
        return Err(StartError::NoConfigNamespace);
    }
    let client = client::connect(options.kubeconfig.as_deref()).await?;
    let (events_in, events) = mpsc::channel(CHANNEL);
    let (status, mut writes) = status_writes();
    let namespaces: BTreeSet<String> = options.config_namespaces.iter().cloned().collect();
    let context = Context {
        client,
        config_namespaces: namespaces.into_iter().collect(),
        events: events_in,
        reach: Arc::new(ApiHealth::new()),
    };
    let mut watches = Watches::new(context.clone());
    for kind in kinds(options.allocate, options.announce) {
        watches.start(*kind, Freshness::Cached, 0);
    }
    if options.allocate {
        tokio::spawn(allocate(context, options, watches, writes));
    } else {
        tokio::spawn(async move {
            // Nobody has a reason to write; that nobody can any more is the end.
            while writes.recv().await.is_some() {}
            drop(watches);
        });
    }
    Ok(Source { events, status })
}

/// The watches, one per kind. They end when this is dropped.
struct Watches {
    context: Context,
    running: BTreeMap<Kind, Watching>,
    _probe: Watching,
    /// Unbounded: each watch sends once.
    answered_in: mpsc::UnboundedSender<(u64, Kind)>,
    answered: mpsc::UnboundedReceiver<(u64, Kind)>,
}

/// A task that ends with its handle.
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watches {
    fn new(context: Context) -> Self {
        let (answered_in, answered) = mpsc::unbounded_channel();
        let probe = context.reach.clone().probe(context.client.clone());
        Self {
            _probe: Watching(tokio::spawn(probe)),
            context,
            running: BTreeMap::new(),
            answered_in,
            answered,
        }
    }

    /// `term` comes back with the kind in [`Watches::answered`].
    fn start(&mut self, kind: Kind, freshness: Freshness, term: u64) {
        let answered = self.answered_in.clone();
        let answered = move || _ = answered.send((term, kind));
        let context = self.context.clone();
        let events = context.events.clone();
        let follow = move || watch::follow(context.clone(), kind, freshness, answered.clone());
        let task = async move {
            tokio::select! {
                biased;
                () = events.closed() => {}
                () = again(kind, follow) => {}
            }
        };
        self.running.insert(kind, Watching(tokio::spawn(task)));
    }

    /// Begins anew with consistent lists. Nothing of the old watches comes after anything of the new ones.
    async fn renew(&mut self, kinds: &[Kind], term: u64) {
        for kind in kinds {
            if let Some(mut old) = self.running.remove(kind) {
                old.0.abort();
                // That it was cancelled is what we asked for.
                _ = (&mut old.0).await;
            }
            self.start(*kind, Freshness::Consistent, term);
        }
    }
}

/// Follows a kind for ever. A watch that ends or panics is a bug of ours, over some object perhaps: the other kinds go on, what
/// this one knew stays, and the log says so each time it begins anew.
async fn again<F: Future<Output = ()>>(kind: Kind, follow: impl Fn() -> F) {
    loop {
        let ended = AssertUnwindSafe(follow()).catch_unwind().await;
        let how = if ended.is_ok() { "ended" } else { "panicked" };
        tracing::error!(
            kind = kind.name(),
            "the watch {how}, which is a bug of ferrolb: it begins anew in {} s",
            PAUSE.as_secs()
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// Stands for the Lease, and tells when it leads.
async fn allocate(
    context: Context,
    options: KubeOptions,
    mut watches: Watches,
    writes: StatusReceiver,
) {
    let (lead_in, mut lead) = latest::channel(Lead::default());
    let (release, released) = oneshot::channel();
    let candidate = LeaderElection::new(
        context.client.clone(),
        &options.lease_namespace,
        options.identity,
        lead_in,
    );
    let mut candidate = tokio::spawn(candidate.run(context.reach.clone(), released));
    let mut writer = JoinSet::new();
    let (decides_in, decides) = latest::channel(None);
    let writing = status_writer::write_all(context.client.clone(), lead.clone(), decides, writes);
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
                let (event, begins) = leading.lead(now);
                if begins {
                    watches.renew(&ALLOCATED_FROM, now.term).await;
                }
                event
            }
            Some((term, kind)) = watches.answered.recv() => leading.answered(term, kind),
        };
        decides_in.send_replace(leading.decides());
        if let Some(event) = event
            && context.events.send(Event::Leading(event)).await.is_err()
        {
            break;
        }
    }
    drop(watches);
    drop(release);
    // Its own time-out is shorter; this is for the case that it hangs.
    if tokio::time::timeout(FAREWELL, &mut candidate)
        .await
        .is_err()
    {
        candidate.abort();
    }
}

/// When to say that we lead. Pure.
#[derive(Debug, Default)]
struct Leading {
    /// The term in which we lead, and which kinds were not listed in it yet.
    term: Option<(u64, BTreeSet<Kind>)>,
    told: bool,
}

impl Leading {
    /// How the Lease stands: what to tell, and whether a term begins.
    fn lead(&mut self, lead: Lead) -> (Option<bool>, bool) {
        let current = self.term.as_ref().map(|(term, _)| *term);
        let now = lead.until.map(|_| lead.term);
        if current == now {
            return (None, false);
        }
        self.term = now.map(|term| (term, ALLOCATED_FROM.into_iter().collect()));
        let tell = std::mem::take(&mut self.told).then_some(false);
        (tell, now.is_some())
    }

    /// The term in which the allocator decides, once it was told that it may.
    fn decides(&self) -> Option<u64> {
        self.term
            .as_ref()
            .map(|(term, _)| *term)
            .filter(|_| self.told)
    }

    /// The list of a kind was handed over in a term: what to tell.
    fn answered(&mut self, term: u64, kind: Kind) -> Option<bool> {
        let (current, missing) = self.term.as_mut()?;
        if *current != term || self.told {
            return None;
        }
        missing.remove(&kind);
        self.told = missing.is_empty();
        self.told.then_some(true)
    }
}

#[cfg(test)]
mod tests;
