//! Folder source: watches a folder of manifests and keeps the status of Services in memory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::manifests::{Loader, Located, ManifestError, Manifests, changes};
use super::open_files::OpenFiles;
use super::walk::FolderId;
use super::{Event, SessionChannels, Source, StatusReceiver, api_writes, status_writes};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::config::ConfigPlaces;
use crate::core::index::change::{Change, StatusWrite};
use crate::core::model::annotations::ALLOCATED_ANNOTATION;

/// Editors write a file in several steps: changes within this time are read together.
const SETTLE_TIME: Duration = Duration::from_millis(20);
/// Interval of the check for replaced folders and files without further writes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Capacity of the event channel.
const EVENT_CAPACITY: usize = 64;

/// Starts to watch a folder. The initial read is in progress when this returns.
///
/// # Errors
///
/// The folder can't be watched.
pub(crate) fn start(folder: PathBuf, config: ConfigPlaces) -> anyhow::Result<Source> {
    anyhow::ensure!(
        folder.is_dir(),
        "{} is not a folder: give the folder that contains the manifests",
        folder.display()
    );
    let (wake, woken) = mpsc::channel(1);
    let unfinished = Arc::new(Mutex::new(OpenFiles::default()));
    let recorded = unfinished.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if let Ok(event) = &event {
            lock(&recorded).record(Instant::now(), event, is_regular_file);
        }
        if may_change_files(&event) {
            // A full channel has woken the reader already.
            let _woken_already = wake.try_send(());
        }
    })?;
    watcher
        .watch(&folder, RecursiveMode::NonRecursive)
        .map_err(|error| anyhow::anyhow!("can't watch {}: {error}", folder.display()))?;
    let (events, receiver) = mpsc::channel(EVENT_CAPACITY);
    let (status, writes) = status_writes();
    let task = Folder {
        config_namespaces: config.namespaces.clone(),
        loader: Loader::new(vec![folder], config),
        current: Manifests::default(),
        statuses: BTreeMap::new(),
        revision: 0,
        events,
        watcher,
        watched: BTreeMap::new(),
        unfinished,
    };
    tokio::spawn(task.run(woken, writes));
    // Without an API server there is nothing else to write.
    let (writes, _) = api_writes();
    let (needs_endpoints, _) = tokio::sync::watch::channel(false);
    Ok(Source {
        needs_endpoints,
        events: receiver,
        status,
        writes,
        sessions: SessionChannels::unconnected(),
    })
}

struct Folder {
    loader: Loader,
    config_namespaces: Vec<String>,
    current: Manifests,
    statuses: BTreeMap<ObjectName, Status>,
    revision: u64,
    events: mpsc::Sender<Event>,
    watcher: RecommendedWatcher,
    /// The folders with an active watch.
    watched: BTreeMap<PathBuf, FolderId>,
    /// Updated by the watcher's thread.
    unfinished: Arc<Mutex<OpenFiles>>,
}

/// A status that was written; the manifests don't contain it.
struct Status {
    addresses: Vec<IpAddr>,
    pool: Option<String>,
    revision: u64,
}

/// The receiver of events was dropped.
struct ReceiverDropped;

impl Folder {
    async fn run(mut self, mut woken: mpsc::Receiver<()>, mut writes: StatusReceiver) {
        if self.start().await.is_err() {
            return;
        }
        let mut look = interval(POLL_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let current = tokio::select! {
                Some(()) = woken.recv() => {
                    sleep(SETTLE_TIME).await;
                    self.reread().await
                }
                _ = look.tick() => {
                    if !self.is_due() {
                        continue;
                    }
                    self.reread().await
                }
                write = writes.recv() => match write {
                    Some(write) => self.write(&write).await,
                    None => return,
                },
            };
            if current.is_err() {
                return;
            }
        }
    }

    async fn start(&mut self) -> Result<(), ReceiverDropped> {
        self.current = self.load();
        self.log_unread(&Manifests::default());
        self.send_errors().await?;
        for change in changes(&self.current.objects, &self.config_namespaces) {
            self.send(Event::Change(change)).await?;
        }
        self.send(Event::Leading(true)).await
    }

    /// Whether there is something to read for which no event arrives.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        lock(&self.unfinished).is_due(now) || self.loader.is_due(now)
    }

    /// Reads the folder, again if a subfolder was read before it was watched.
    fn load(&mut self) -> Manifests {
        loop {
            let now = Instant::now();
            let unfinished = lock(&self.unfinished).files(now);
            let manifests = self.loader.reload(now, &unfinished);
            if !self.watch_folders() {
                return manifests;
            }
        }
    }

    /// Watches the folders that were read. Returns whether there were new ones.
    fn watch_folders(&mut self) -> bool {
        let folders = self.loader.folders();
        let gone = |path: &PathBuf, id: &FolderId| folders.get(path) != Some(id);
        for (path, _) in self.watched.extract_if(.., |path, id| gone(path, id)) {
            // The watch of a deleted folder has ended by itself.
            _ = self.watcher.unwatch(&path);
        }
        let mut new = false;
        for (path, id) in folders {
            if self.watched.contains_key(path) {
                continue;
            }
            match self.watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), *id);
                    new = true;
                }
                Err(error) => tracing::warn!(
                    folder = %path.display(),
                    "can't watch the folder: changes in it are read only when another file \
                     changes: {error}"
                ),
            }
        }
        new
    }

    /// Reads the folder again and sends the differences.
    async fn reread(&mut self) -> Result<(), ReceiverDropped> {
        let new = self.load();
        let old = std::mem::replace(&mut self.current, new);
        self.log_unread(&old);
        if self.current.errors != old.errors {
            self.send_errors().await?;
        }
        let relevant = |key: &ObjectKey| {
            !key.kind.is_configuration() || self.config_namespaces.contains(&key.name.namespace)
        };
        let mut changes = Vec::new();
        for key in old
            .objects
            .keys()
            .filter(|key| !self.current.objects.contains_key(key) && relevant(key))
        {
            if key.kind == Kind::Service {
                self.statuses.remove(&key.name);
            }
            changes.push(Change::Delete(key.clone()));
        }
        let differs = |key: &ObjectKey, new: &Located| {
            old.objects.get(key).is_none_or(|old| old.raw != new.raw)
        };
        for (key, new) in self
            .current
            .objects
            .iter()
            .filter(|(key, new)| relevant(key) && differs(key, new))
        {
            changes.push(Change::Apply(key.clone(), self.with_status(key, &new.raw)));
        }
        for change in changes {
            self.send(Event::Change(change)).await?;
        }
        Ok(())
    }

    async fn write(&mut self, write: &StatusWrite) -> Result<(), ReceiverDropped> {
        let key = ObjectKey::new(Kind::Service, ObjectName::clone(&write.service));
        let Some(located) = self.current.objects.get(&key) else {
            return Ok(());
        };
        self.revision += 1;
        self.statuses.insert(
            key.name.clone(),
            Status {
                addresses: write.addresses.clone(),
                pool: write.pool.clone(),
                revision: self.revision,
            },
        );
        let raw = self.with_status(&key, &located.raw);
        self.send(Event::Change(Change::Apply(key, raw))).await
    }

    /// Returns the object as the API server would: with the written status.
    fn with_status(&self, key: &ObjectKey, raw: &RawObject) -> RawObject {
        let mut raw = raw.clone();
        let Some(status) = self
            .statuses
            .get(&key.name)
            .filter(|_| key.kind == Kind::Service)
        else {
            return raw;
        };
        let ingress: Vec<Value> = status
            .addresses
            .iter()
            .map(|ip| json!({ "ip": ip }))
            .collect();
        raw.body.insert(
            "status".into(),
            json!({ "loadBalancer": { "ingress": ingress } }),
        );
        raw.metadata.annotations.remove(ALLOCATED_ANNOTATION);
        if let Some(pool) = &status.pool {
            raw.metadata
                .annotations
                .insert(ALLOCATED_ANNOTATION.into(), pool.clone());
        }
        raw.metadata.resource_version = status.revision.to_string();
        raw
    }

    /// Logs each kind without effect once, as long as there are objects of it.
    fn log_unread(&self, old: &Manifests) {
        let new = self.current.unread.iter();
        for (kind, unread) in new.filter(|(kind, _)| !old.unread.contains_key(*kind)) {
            tracing::warn!(place = %unread.location, "{}", unread.message(kind));
        }
    }

    async fn send_errors(&self) -> Result<(), ReceiverDropped> {
        let errors = self
            .current
            .errors
            .iter()
            .map(ManifestError::to_string)
            .collect();
        self.send(Event::Errors(errors)).await
    }

    async fn send(&self, event: Event) -> Result<(), ReceiverDropped> {
        self.events.send(event).await.map_err(|_| ReceiverDropped)
    }
}

fn lock(unfinished: &Mutex<OpenFiles>) -> MutexGuard<'_, OpenFiles> {
    unfinished.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_regular_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Whether a file may have changed. Opening a file to read it, as ferrolb does, changes nothing.
fn may_change_files(event: &notify::Result<notify::Event>) -> bool {
    let Ok(event) = event else { return true };
    match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
