//! A folder of manifests as a running source: watched for changes, status kept in memory on top of it.

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
use super::unfinished::Unfinished;
use super::walk::FolderId;
use super::{Event, Source, StatusReceiver, status_writes};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::index::change::{Change, StatusWrite};
use crate::core::model::annotations::ALLOCATED_ANNOTATION;

/// Editors write a file in several steps; what follows within this time is read together.
const SETTLE: Duration = Duration::from_millis(20);
/// How often folders that were replaced, and files whose writer is quiet, are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// Changes waiting for the index.
const QUEUE: usize = 64;

/// Starts watching a folder. The first reading is on its way when this returns.
///
/// # Errors
/// The folder can't be watched; the message says why.
pub(crate) fn start(folder: PathBuf, config_namespaces: Vec<String>) -> anyhow::Result<Source> {
    anyhow::ensure!(
        folder.is_dir(),
        "{} is not a folder: give the folder that holds the manifests",
        folder.display()
    );
    let (wake, woken) = mpsc::channel(1);
    let unfinished = Arc::new(Mutex::new(Unfinished::default()));
    let noted = unfinished.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if let Ok(event) = &event {
            lock(&noted).take_in(Instant::now(), event, is_regular_file);
        }
        if is_news(&event) {
            // A full channel means that the reader is being woken already.
            let _woken_already = wake.try_send(());
        }
    })?;
    watcher
        .watch(&folder, RecursiveMode::NonRecursive)
        .map_err(|error| anyhow::anyhow!("can't watch {}: {error}", folder.display()))?;
    let (events, receiver) = mpsc::channel(QUEUE);
    let (status, writes) = status_writes();
    let task = Folder {
        loader: Loader::new(vec![folder], &config_namespaces),
        config_namespaces,
        told: Manifests::default(),
        statuses: BTreeMap::new(),
        revision: 0,
        events,
        watcher,
        watched: BTreeMap::new(),
        unfinished,
    };
    tokio::spawn(task.run(woken, writes));
    Ok(Source {
        events: receiver,
        status,
    })
}

struct Folder {
    loader: Loader,
    config_namespaces: Vec<String>,
    told: Manifests,
    statuses: BTreeMap<ObjectName, Status>,
    revision: u64,
    events: mpsc::Sender<Event>,
    watcher: RecommendedWatcher,
    /// The folders that the watcher really watches.
    watched: BTreeMap<PathBuf, FolderId>,
    /// Kept by the watcher's thread.
    unfinished: Arc<Mutex<Unfinished>>,
}

/// A status that was written here; manifests know nothing of it.
struct Status {
    addresses: Vec<IpAddr>,
    pool: Option<String>,
    revision: u64,
}

/// Nobody listens any more.
struct Gone;

impl Folder {
    async fn run(mut self, mut woken: mpsc::Receiver<()>, mut writes: StatusReceiver) {
        if self.begin().await.is_err() {
            return;
        }
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                Some(()) = woken.recv() => {
                    sleep(SETTLE).await;
                    self.read_again().await
                }
                _ = look.tick() => {
                    if !self.is_due() {
                        continue;
                    }
                    self.read_again().await
                }
                write = writes.recv() => match write {
                    Some(write) => self.write(&write).await,
                    None => return,
                },
            };
            if told.is_err() {
                return;
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Gone> {
        self.told = self.load();
        self.log_unread(&Manifests::default());
        self.tell_errors().await?;
        for change in changes(&self.told.objects, &self.config_namespaces) {
            self.tell(Event::Change(change)).await?;
        }
        self.tell(Event::Leading(true)).await
    }

    /// Whether there is something to read that no event reports.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        lock(&self.unfinished).is_due(now) || self.loader.is_due(now)
    }

    /// Reads the folder, until all of its subfolders were watched before they were read.
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

    /// Watches the folders that were read; true if some of them were not watched before.
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
                    "can't watch the folder, changes in it stay unseen until another file changes: {error}"
                ),
            }
        }
        new
    }

    /// Tells what is different from what was told before.
    async fn read_again(&mut self) -> Result<(), Gone> {
        let new = self.load();
        let old = std::mem::replace(&mut self.told, new);
        self.log_unread(&old);
        if self.told.errors != old.errors {
            self.tell_errors().await?;
        }
        let relevant = |key: &ObjectKey| {
            !key.kind.is_configuration() || self.config_namespaces.contains(&key.name.namespace)
        };
        let mut changes = Vec::new();
        for key in old
            .objects
            .keys()
            .filter(|key| !self.told.objects.contains_key(key) && relevant(key))
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
            .told
            .objects
            .iter()
            .filter(|(key, new)| relevant(key) && differs(key, new))
        {
            changes.push(Change::Apply(key.clone(), self.with_status(key, &new.raw)));
        }
        for change in changes {
            self.tell(Event::Change(change)).await?;
        }
        Ok(())
    }

    async fn write(&mut self, write: &StatusWrite) -> Result<(), Gone> {
        let key = ObjectKey::new(Kind::Service, ObjectName::clone(&write.service));
        let Some(located) = self.told.objects.get(&key) else {
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
        self.tell(Event::Change(Change::Apply(key, raw))).await
    }

    /// The object as an API server would show it: with the status that was written.
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

    /// Kinds without effect, each once while there are objects of it.
    fn log_unread(&self, old: &Manifests) {
        let new = self.told.unread.iter();
        for (kind, unread) in new.filter(|(kind, _)| !old.unread.contains_key(*kind)) {
            tracing::warn!(place = %unread.location, "{}", unread.message(kind));
        }
    }

    async fn tell_errors(&self) -> Result<(), Gone> {
        let errors = self
            .told
            .errors
            .iter()
            .map(ManifestError::to_string)
            .collect();
        self.tell(Event::Errors(errors)).await
    }

    async fn tell(&self, event: Event) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}

fn lock(unfinished: &Mutex<Unfinished>) -> MutexGuard<'_, Unfinished> {
    unfinished.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_regular_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Whether the folder may read differently now. That somebody (we, for one) opened a file to read it is no news.
fn is_news(event: &notify::Result<notify::Event>) -> bool {
    let Ok(event) = event else { return true };
    match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
