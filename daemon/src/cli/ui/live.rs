//! What open pages see: the latest picture, kept up to date only while some page is open.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::cli::workload_flags::index_with;
use crate::cli::world::flags_of;
use crate::core::api::Kind;
use crate::core::api::bgp_session::AllSessions;
use crate::core::config::ConfigPlaces;
use crate::core::picture::Picture;
use crate::core::picture::scene::{EmptyIndex, Scene};
use crate::runtime::source::Event;
use crate::runtime::source::kube::{Cluster, Observed, observe, observed_kinds};
use crate::runtime::source::manifests::{Loader, Manifests, changes};
use crate::runtime::source::stamp::Stamp;

/// How long the objects are followed after the last page was closed, so that a page that is loaded
/// again shows them at once.
const IDLE: Duration = Duration::from_secs(30);
/// Interval of the look at the files.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Minimum time from one picture of a cluster to the next.
const INTERVAL: Duration = Duration::from_millis(200);
/// Changes that belong together, such as those of a Service and of its endpoints, come within this
/// time.
const GATHER: Duration = Duration::from_millis(20);
/// The picture of a cluster is incomplete until each kind is listed or refused. After this time it
/// is shown anyway.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(4);
/// Delay before a cluster that could not be followed is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// Limit for the first picture, for a request that needs the objects.
const FIRST_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the objects come from.
#[derive(Clone, Debug)]
pub(crate) enum Feed {
    /// Files and folders, read again when they change.
    Manifests {
        /// The files and folders.
        paths: Vec<PathBuf>,
        /// Where the configuration is.
        config: ConfigPlaces,
        /// The states of sessions, where they are known.
        sessions: watch::Receiver<Arc<AllSessions>>,
    },
    /// A cluster, watched.
    Cluster {
        /// Kubeconfig; `None` for the default one.
        kubeconfig: Option<PathBuf>,
        /// Of the kubeconfig; None: its current one.
        context: Option<String>,
        /// Where the configuration is.
        config: ConfigPlaces,
    },
}

/// What a page is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing is known yet.
    #[default]
    Nothing,
    /// The picture, as JSON.
    Picture(Arc<str>),
    /// Why there is no picture, as JSON.
    Trouble(Arc<str>),
}

#[derive(Serialize)]
struct PictureEvent<'a> {
    source: &'a str,
    live: bool,
    unseen: &'a [String],
    picture: &'a Picture,
}

/// What open pages see.
pub(crate) struct Live {
    feed: Feed,
    scene: Mutex<Option<Scene>>,
    shown: watch::Sender<Shown>,
    open: watch::Sender<usize>,
}

/// An open page, or a request that needs the objects.
pub(super) struct Open(Arc<Live>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|count| *count -= 1);
    }
}

impl Live {
    pub(super) fn new(feed: Feed) -> Arc<Self> {
        Arc::new(Self {
            feed,
            scene: Mutex::new(None),
            shown: watch::Sender::default(),
            open: watch::Sender::default(),
        })
    }

    /// Where the configuration is.
    pub(super) const fn config(&self) -> &ConfigPlaces {
        match &self.feed {
            Feed::Manifests { config, .. } | Feed::Cluster { config, .. } => config,
        }
    }

    /// Keeps the objects up to date as long as the result exists.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.open.send_modify(|count| *count += 1);
        Open(self.clone())
    }

    /// Waits until a page is open.
    pub(crate) async fn wait_open(&self) {
        // The sender is in `self`, so it can't be dropped.
        _ = self.open.subscribe().wait_for(|count| *count > 0).await;
    }

    /// What pages are sent, now and after each change.
    pub(super) fn shown(&self) -> watch::Receiver<Shown> {
        let mut shown = self.shown.subscribe();
        shown.mark_changed();
        shown
    }

    /// Follows the objects while something is open. Never returns.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut open = self.open.subscribe();
        loop {
            _ = open.wait_for(|count| *count > 0).await;
            tokio::select! {
                () = self.follow_feed() => {}
                () = idle(&mut open) => {
                    *self.scene() = None;
                    self.show(Shown::Nothing);
                }
            }
        }
    }

    async fn follow_feed(self: &Arc<Self>) {
        let failed = match &self.feed {
            Feed::Manifests {
                paths,
                config,
                sessions,
            } => self.follow_manifests(paths, config, sessions.clone()).await,
            Feed::Cluster {
                kubeconfig,
                context,
                config,
            } => {
                self.follow_cluster(kubeconfig.as_deref(), context.as_deref(), config)
                    .await
            }
        };
        if let Err(error) = failed {
            let trouble = serde_json::json!({ "message": format!("{error:#}") });
            self.show(Shown::Trouble(trouble.to_string().into()));
            sleep(RETRY_DELAY).await;
        }
    }

    async fn follow_manifests(
        self: &Arc<Self>,
        paths: &[PathBuf],
        config: &ConfigPlaces,
        mut sessions: watch::Receiver<Arc<AllSessions>>,
    ) -> Result<()> {
        let mut loader = Loader::new(paths.to_vec(), config.clone());
        let mut read = None;
        sessions.mark_changed();
        loop {
            let stamp = Some(Stamp::of(paths));
            let differs = read != stamp || loader.is_due(std::time::Instant::now());
            if differs || sessions.has_changed().unwrap_or_default() {
                read = stamp;
                let states = sessions.borrow_and_update().clone();
                let (live, namespaces) = (self.clone(), config.namespaces.clone());
                loader = spawn_blocking(move || {
                    let manifests = loader.load();
                    live.show_manifests(&manifests, &namespaces, &states);
                    loader
                })
                .await?;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    fn show_manifests(&self, manifests: &Manifests, namespaces: &[String], sessions: &AllSessions) {
        let empty: EmptyIndex = Arc::new(|| index_with(&Default::default()));
        let mut scene = Scene::of_manifests(empty, changes(&manifests.objects, namespaces));
        scene.set_sessions(sessions);
        let errors = manifests.errors.iter().map(ToString::to_string);
        let unread = manifests.unread.iter();
        let unread = unread.map(|(kind, one)| format!("{}: {}", one.location, one.message(kind)));
        let unseen: Vec<String> = errors.chain(unread).collect();
        let picture = scene.picture();
        *self.scene() = Some(scene);
        self.show_picture(&picture, &unseen);
    }

    async fn follow_cluster(
        self: &Arc<Self>,
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        config: &ConfigPlaces,
    ) -> Result<()> {
        let cluster = Cluster::connect_to(kubeconfig, context).await?;
        let Observed {
            mut events,
            mut sessions,
        } = observe(kubeconfig, context, config).await?;
        let mut unseen = Vec::new();
        let flags = flags_of(&cluster, &mut unseen).await;
        let empty: EmptyIndex = Arc::new(move || index_with(&flags));
        *self.scene() = Some(Scene::of_cluster(empty));
        let begun = Instant::now();
        let mut complete = false;
        let mut next = begun;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => batch.push(event),
                    None => bail!("the watches of the cluster ended, a bug of ferrolb"),
                },
                changed = sessions.changed() => changed?,
                () = sleep(COMPLETE_TIMEOUT), if !complete => {}
            }
            let until = next.max(Instant::now() + GATHER);
            while let Ok(Some(event)) = timeout_at(until, events.recv()).await {
                batch.push(event);
            }
            let states = sessions.borrow_and_update().clone();
            let late = begun.elapsed() >= COMPLETE_TIMEOUT;
            let (live, unseen) = (self.clone(), unseen.clone());
            let show = move || live.show_cluster(batch, &states, complete, late, unseen);
            complete = spawn_blocking(show).await?;
            if complete {
                next = Instant::now() + INTERVAL;
            }
        }
    }

    /// Applies changes, and shows the picture if it may differ. Returns whether every kind is
    /// listed or refused.
    fn show_cluster(
        &self,
        batch: Vec<Event>,
        sessions: &AllSessions,
        was_complete: bool,
        late: bool,
        mut unseen: Vec<String>,
    ) -> bool {
        let mut guard = self.scene();
        let Some(scene) = guard.as_mut() else {
            return was_complete;
        };
        let mut differs = scene.set_sessions(sessions);
        differs |= scene.apply(batch.into_iter().filter_map(|event| match event {
            Event::Change(change) => Some(change),
            _ => None,
        }));
        let kinds: Vec<Kind> = observed_kinds().collect();
        let complete = scene.is_complete(&kinds);
        differs |= complete != was_complete;
        if (!complete && !late) || (complete && !differs) {
            return complete;
        }
        let missing = kinds.iter().filter(|kind| !scene.is_complete(&[**kind]));
        let missing = missing.map(|kind| format!("{}: not listed yet", kind.full_name()));
        let refused = scene.unreadable().iter();
        let refused = refused.map(|(kind, why)| format!("{}: {why}", kind.full_name()));
        unseen.extend(missing.chain(refused));
        let picture = scene.picture();
        drop(guard);
        self.show_picture(&picture, &unseen);
        complete
    }

    fn show_picture(&self, picture: &Picture, unseen: &[String]) {
        let source = match &self.feed {
            Feed::Manifests { paths, .. } => {
                let paths = paths.iter().map(|path| path.display().to_string());
                paths.collect::<Vec<_>>().join(" ")
            }
            Feed::Cluster { .. } => "cluster".to_owned(),
        };
        let event = PictureEvent {
            source: &source,
            live: matches!(self.feed, Feed::Cluster { .. }),
            unseen,
            picture,
        };
        if let Ok(text) = serde_json::to_string(&event) {
            self.show(Shown::Picture(text.into()));
        }
    }

    fn show(&self, new: Shown) {
        self.shown.send_if_modified(|shown| {
            let differs = *shown != new;
            *shown = new;
            differs
        });
    }

    fn scene(&self) -> MutexGuard<'_, Option<Scene>> {
        self.scene.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the present objects something.
    ///
    /// # Errors
    /// There are none yet.
    pub(super) async fn ask<T: Send + 'static>(
        self: Arc<Self>,
        question: impl FnOnce(&mut Scene) -> T + Send + 'static,
    ) -> Result<T> {
        let _open = self.open();
        let mut shown = self.shown.subscribe();
        let first = shown.wait_for(|shown| *shown != Shown::Nothing);
        // Without an answer in time there is no scene either.
        _ = timeout(FIRST_TIMEOUT, first).await.is_ok();
        let answer = spawn_blocking(move || self.scene().as_mut().map(question)).await?;
        answer.ok_or_else(|| anyhow!("no objects are known yet: try again"))
    }
}

/// Waits until nothing has been open for some time.
async fn idle(open: &mut watch::Receiver<usize>) {
    loop {
        _ = open.wait_for(|count| *count == 0).await;
        let opened = open.wait_for(|count| *count > 0);
        if timeout(IDLE, opened).await.is_err() {
            return;
        }
    }
}
