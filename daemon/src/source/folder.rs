//! A folder of manifests as a running source: watched for changes, status kept in memory on top of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::manifests::{Loader, Located, ManifestError, Manifests, changes};
use super::{Change, Event, Source, StatusWrite};
use crate::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::index::facts::ALLOCATED_ANNOTATION;

/// Editors write a file in several steps; what follows within this time is read together.
const SETTLE: Duration = Duration::from_millis(20);
/// Changes waiting for the index.
const QUEUE: usize = 64;

/// Starts watching a folder. The first reading is on its way when this returns.
///
/// # Errors
/// The folder can't be watched; the message says why.
pub fn start(folder: PathBuf, config_namespaces: Vec<String>) -> anyhow::Result<Source> {
    anyhow::ensure!(
        folder.is_dir(),
        "{} is not a folder: give the folder that holds the manifests",
        folder.display()
    );
    let (wake, woken) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event| {
        if is_news(&event) {
            // A full channel means that somebody is being woken already.
            let _woken_already = wake.try_send(());
        }
    })?;
    watcher
        .watch(&folder, RecursiveMode::Recursive)
        .map_err(|error| anyhow::anyhow!("can't watch {}: {error}", folder.display()))?;
    let (events, receiver) = mpsc::channel(QUEUE);
    let (status, writes) = mpsc::unbounded_channel();
    let task = Folder {
        loader: Loader::new(vec![folder], &config_namespaces),
        config_namespaces,
        told: Manifests::default(),
        statuses: BTreeMap::new(),
        revision: 0,
        events,
        _watcher: watcher,
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
    _watcher: RecommendedWatcher,
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
    async fn run(
        mut self,
        mut woken: mpsc::Receiver<()>,
        mut writes: mpsc::UnboundedReceiver<StatusWrite>,
    ) {
        if self.begin().await.is_err() {
            return;
        }
        loop {
            let told = tokio::select! {
                Some(()) = woken.recv() => {
                    sleep(SETTLE).await;
                    self.read_again().await
                }
                write = writes.recv() => match write {
                    Some(write) => self.write(write).await,
                    None => return,
                },
            };
            if told.is_err() {
                return;
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Gone> {
        self.told = self.loader.load();
        self.tell_errors().await?;
        for change in changes(&self.told.objects, &self.config_namespaces) {
            self.tell(Event::Change(change)).await?;
        }
        self.tell(Event::Leading(true)).await
    }

    /// Tells what is different from what was told before.
    async fn read_again(&mut self) -> Result<(), Gone> {
        let new = self.loader.load();
        let old = std::mem::replace(&mut self.told, new);
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

    async fn write(&mut self, write: StatusWrite) -> Result<(), Gone> {
        let key = ObjectKey::new(Kind::Service, write.service.clone());
        let Some(located) = self.told.objects.get(&key) else {
            return Ok(());
        };
        self.revision += 1;
        let StatusWrite {
            service,
            resource_version: _,
            addresses,
            pool,
        } = write;
        self.statuses.insert(
            service,
            Status {
                addresses,
                pool,
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

/// Whether the folder may read differently now. That somebody (we, for one) opened a file to read it is no news.
fn is_news(event: &notify::Result<notify::Event>) -> bool {
    let Ok(event) = event else { return true };
    match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}
