//! All objects that ferrolb reads, listed once, for commands that predict or explain.

use anyhow::{Context, Result, anyhow};
use futures::future::join_all;

use super::cluster::{Cluster, Refused};
use super::object::path_of_kind;
use crate::core::api::{CONFIG_MAP, Kind, RawObject};
use crate::core::index::change::Change;

/// The objects of a cluster, and what could not be read.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// The objects, as an index takes them.
    pub changes: Vec<Change>,
    /// The kinds that the user may not list, with the answer of the API server.
    pub unreadable: Vec<(Kind, String)>,
}

impl Snapshot {
    /// Lists all that decisions depend on. Passwords are not needed.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) async fn without_secrets(cluster: &Cluster, namespaces: &[String]) -> Result<Self> {
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Secret);
        let kinds: Vec<Kind> = kinds.collect();
        let snapshot = Self::read(cluster, &kinds, namespaces).await;
        snapshot.context("can't read the cluster; try: kubectl get --raw /readyz")
    }

    /// Lists objects of these kinds, those of the configuration in these namespaces only. A kind
    /// that the user may not list is reported, and the others are complete.
    ///
    /// # Errors
    /// The API server does not answer, or an object has no valid metadata.
    pub(crate) async fn read(
        cluster: &Cluster,
        kinds: &[Kind],
        namespaces: &[String],
    ) -> Result<Self> {
        let lists = kinds.iter().map(|kind| list(cluster, *kind, namespaces));
        let mut snapshot = Self::default();
        for (kind, listed) in kinds.iter().zip(join_all(lists).await) {
            match listed {
                Ok(change) => snapshot.changes.push(change),
                Err(error) => match error.downcast_ref::<Refused>() {
                    Some(refused) if refused.is_forbidden() => {
                        let message = refused.message.clone();
                        snapshot.unreadable.push((*kind, message.clone()));
                        snapshot.changes.push(Change::Unreadable(*kind, message));
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(snapshot)
    }
}

async fn list(cluster: &Cluster, kind: Kind, namespaces: &[String]) -> Result<Change> {
    let places: Vec<Option<&str>> = if kind.is_configuration() {
        namespaces.iter().map(|name| Some(name.as_str())).collect()
    } else {
        vec![None]
    };
    let mut keyed = Vec::new();
    for place in places {
        for object in cluster.list(&path_of_kind(kind, place)).await? {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if kind == Kind::ConfigMap && name != CONFIG_MAP {
                continue;
            }
            let about = format!("{} {name}", kind.full_name());
            let raw = RawObject::from_json(object).map_err(|error| anyhow!("{about}: {error}"))?;
            keyed.extend(raw.key(place.unwrap_or_default()).map(|key| (key, raw)));
        }
    }
    Ok(Change::Reset(kind, keyed))
}
