//! All objects that ferrolb reads, listed once, for commands that predict or explain.

use anyhow::{Context, Result};
use futures::future::join_all;

use super::cluster::{Cluster, Refused};
use super::list::each_item;
use super::object::{Object, path_of_kind};
use crate::core::api::{Kind, ObjectKey, RawObject};
use crate::core::config::ConfigPlaces;
use crate::core::index::Index;
use crate::core::index::change::Change;

/// The objects of a cluster, as the API server wrote them, and what could not be read.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    lists: Vec<List>,
    /// The kinds that the user may not list, with the answer of the API server.
    pub unreadable: Vec<(Kind, String)>,
}

/// The objects of a kind.
#[derive(Debug)]
struct List {
    kind: Kind,
    /// The answer of the API server for each namespace, or for the whole cluster.
    texts: Vec<String>,
    /// The only object that counts, if not all do.
    only: Option<String>,
}

impl Snapshot {
    /// Lists all that decisions depend on. Passwords are not needed.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) async fn without_secrets(cluster: &Cluster, config: &ConfigPlaces) -> Result<Self> {
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Secret);
        let kinds: Vec<Kind> = kinds.collect();
        let snapshot = Self::read(cluster, &kinds, config).await;
        snapshot.context("can't read the cluster; try: kubectl get --raw /readyz")
    }

    /// Lists objects of these kinds, those of the configuration only where it is. A kind that the
    /// user may not list is reported, and the others are complete.
    ///
    /// # Errors
    /// The API server does not answer.
    pub(crate) async fn read(
        cluster: &Cluster,
        kinds: &[Kind],
        config: &ConfigPlaces,
    ) -> Result<Self> {
        let lists = kinds.iter().map(|kind| list(cluster, *kind, config));
        let mut snapshot = Self::default();
        for (kind, listed) in kinds.iter().zip(join_all(lists).await) {
            match listed {
                Ok(list) => snapshot.lists.push(list),
                Err(error) => match error.downcast_ref::<Refused>() {
                    Some(refused) if refused.is_forbidden() => {
                        snapshot.unreadable.push((*kind, refused.message.clone()));
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(snapshot)
    }

    /// The objects, as an index takes them.
    ///
    /// # Errors
    /// An object has no valid metadata.
    pub(crate) fn into_changes(self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for list in self.lists {
            let mut objects = Vec::new();
            let kind = list.kind;
            list.each(|key, object| objects.push((key, object)))?;
            changes.push(Change::Reset(kind, objects));
        }
        changes.extend(unreadable(self.unreadable));
        Ok(changes)
    }

    /// Adds the objects to an index one by one: no more than one unparsed object is in memory.
    ///
    /// # Errors
    /// An object has no valid metadata.
    pub(crate) fn fill(self, mut index: Index) -> Result<Index> {
        let (_, read) = index.apply_all(|apply| {
            for list in self.lists {
                list.apply(apply)?;
            }
            unreadable(self.unreadable).for_each(apply);
            anyhow::Ok(())
        });
        read?;
        Ok(index)
    }
}

fn unreadable(kinds: Vec<(Kind, String)>) -> impl Iterator<Item = Change> {
    let kinds = kinds.into_iter();
    kinds.map(|(kind, message)| Change::Unreadable(kind, message))
}

impl List {
    /// Calls `each` with each object.
    fn each(self, mut each: impl FnMut(ObjectKey, RawObject)) -> Result<()> {
        let Self { kind, texts, only } = self;
        for text in texts {
            let read = each_item(&text, |object: Object| {
                let (key, object) = object.keyed(kind);
                if only.as_ref().is_none_or(|only| key.name.name == *only) {
                    each(key, object);
                }
            });
            read.with_context(|| format!("the list of {}", kind.full_name()))?;
        }
        Ok(())
    }

    /// Applies each object, and that these are all. The configuration is compiled once.
    fn apply(self, apply: &mut dyn FnMut(Change)) -> Result<()> {
        let kind = self.kind;
        if kind.is_configuration() {
            let mut objects = Vec::new();
            self.each(|key, object| objects.push((key, object)))?;
            apply(Change::Reset(kind, objects));
            return Ok(());
        }
        let mut names = Vec::new();
        self.each(|key, object| {
            names.push(key.name.clone());
            apply(Change::Apply(key, object));
        })?;
        apply(Change::Listed(kind, names.into_iter().collect()));
        Ok(())
    }
}

async fn list(cluster: &Cluster, kind: Kind, config: &ConfigPlaces) -> Result<List> {
    let places: Vec<Option<&str>> = if kind.is_configuration() {
        let namespaces = config.namespaces.iter();
        namespaces.map(|name| Some(name.as_str())).collect()
    } else {
        vec![None]
    };
    let texts = places.into_iter().map(|place| async move {
        let path = path_of_kind(kind, place);
        cluster.list_text(&path).await
    });
    // Of several errors the first one is reported.
    let texts: Result<Vec<Option<String>>> = join_all(texts).await.into_iter().collect();
    let texts = texts?.into_iter().flatten().collect();
    let only = (kind == Kind::ConfigMap).then(|| config.config_map.clone());
    Ok(List { kind, texts, only })
}
