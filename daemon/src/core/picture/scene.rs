//! What is watched: the objects of a cluster or of manifests, and what the nodes decide about them.
//! A change decides again only what depends on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::announcers::Announcers;
use super::colours::Colours;
use super::{Drawn, Picture};
use crate::core::allocate::{Allocation, Outcomes};
use crate::core::api::Kind;
use crate::core::api::bgp_session::AllSessions;
use crate::core::decide::layer2::addresses::Layer2Addresses;
use crate::core::explain::{Explainer, Explanation, Observed, Subject};
use crate::core::index::change::Change;
use crate::core::index::{Dirty, Index};
use crate::core::plan::what_if::Objects;
use crate::core::plan::{Prediction, allocate, fill};

/// Creates an index without objects.
pub(crate) type EmptyIndex = Arc<dyn Fn() -> Index + Send + Sync>;

/// The objects, and the decisions about them.
pub(crate) struct Scene {
    empty: EmptyIndex,
    objects: Objects,
    /// The kinds that can't be read, and why.
    unreadable: BTreeMap<Kind, String>,
    index: Index,
    announcers: Announcers,
    layer2: Layer2Addresses,
    outcomes: Outcomes,
    /// What has changed since the last picture.
    dirty: Dirty,
    source: Source,
    sessions: AllSessions,
    /// Explains the present objects; created when something is explained.
    explainer: Option<Explainer>,
}

/// Where the objects are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Services get the addresses that the allocator would allocate.
    Manifests,
    /// Services have the addresses of their status.
    Cluster,
}

impl Scene {
    /// The objects of manifests.
    pub(crate) fn of_manifests(empty: EmptyIndex, changes: Vec<Change>) -> Self {
        let mut scene = Self::new(empty, Source::Manifests);
        scene.apply(changes);
        allocate(&mut scene.index);
        scene
    }

    /// The objects of a cluster, which follow by [`Self::apply`].
    pub(crate) fn of_cluster(empty: EmptyIndex) -> Self {
        Self::new(empty, Source::Cluster)
    }

    fn new(empty: EmptyIndex, source: Source) -> Self {
        Self {
            index: empty(),
            empty,
            objects: Objects::default(),
            unreadable: BTreeMap::new(),
            announcers: Announcers::default(),
            layer2: Layer2Addresses::new(""),
            outcomes: Outcomes::default(),
            dirty: Dirty {
                configuration: true,
                ..Dirty::default()
            },
            source,
            sessions: AllSessions::new(),
            explainer: None,
        }
    }

    /// Applies changes. Returns whether the picture may differ.
    pub(crate) fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> bool {
        let (objects, unreadable) = (&mut self.objects, &mut self.unreadable);
        let (dirty, ()) = self.index.apply_all(|apply| {
            for change in changes {
                match &change {
                    Change::Unreadable(kind, message) => {
                        unreadable.insert(*kind, message.clone());
                    }
                    Change::Reset(kind, _) | Change::Listed(kind, _) | Change::Absent(kind, _) => {
                        unreadable.remove(kind);
                    }
                    Change::Apply(..) | Change::Delete(_) => {}
                }
                objects.change(&change);
                apply(change);
            }
        });
        let differs = !dirty.is_empty();
        if differs {
            self.explainer = None;
        }
        self.dirty.merge(dirty);
        differs
    }

    /// Sets the states of the sessions. Returns whether they differ.
    pub(crate) fn set_sessions(&mut self, new: &AllSessions) -> bool {
        let differs = self.sessions != *new;
        if differs {
            self.sessions.clone_from(new);
            self.explainer = None;
        }
        differs
    }

    /// Whether each of these kinds was listed or refused.
    pub(crate) fn is_complete(&self, kinds: &[Kind]) -> bool {
        self.index.is_synced(kinds)
    }

    /// The kinds that can't be read, and why.
    pub(crate) const fn unreadable(&self) -> &BTreeMap<Kind, String> {
        &self.unreadable
    }

    /// Decides what has changed, and draws the picture.
    pub(crate) fn picture(&mut self) -> Picture {
        let dirty = std::mem::take(&mut self.dirty);
        let index = &self.index;
        self.announcers.update(index, &dirty);
        self.layer2.update(index, &dirty);
        if dirty.configuration || !dirty.requests.is_empty() {
            self.outcomes = Allocation::default().decide_all(index).outcomes;
        }
        Picture::of(&Drawn {
            index,
            outcomes: &self.outcomes,
            announcers: &self.announcers,
            layer2: &self.layer2,
            sessions: &self.sessions,
            has_conditions: self.source == Source::Cluster,
        })
    }

    /// Explains something.
    ///
    /// # Errors
    /// It does not exist: the text offers the nearest name.
    pub(crate) fn explain(&mut self, subject: &Subject) -> Result<Explanation, String> {
        let explainer = match self.explainer.take() {
            Some(explainer) => explainer,
            None => self.new_explainer(),
        };
        let explained = explainer.explain(subject);
        self.explainer = Some(explainer);
        explained.map_err(|error| error.to_string())
    }

    fn new_explainer(&self) -> Explainer {
        let refused = self.unreadable.iter();
        let refused = refused.map(|(kind, why)| Change::Unreadable(*kind, why.clone()));
        let changes = self.objects.clone().into_changes();
        let index = fill((self.empty)(), changes.into_iter().chain(refused));
        match self.source {
            Source::Manifests => Explainer::of_manifests(index),
            Source::Cluster => Explainer::of_cluster(index, Observed::of_sessions(&self.sessions)),
        }
    }

    /// The same objects, all read and decided again.
    #[cfg(test)]
    pub(super) fn read_again(&self) -> Self {
        let mut again = Self::new(self.empty.clone(), self.source);
        again.apply(self.objects.clone().into_changes());
        again
    }

    /// The objects, for an assumption about them.
    pub(crate) fn assumable(&self) -> Assumable {
        Assumable {
            empty: self.empty.clone(),
            before: self.objects.clone(),
        }
    }
}

/// Objects that an assumption changes. Nothing is written.
pub(crate) struct Assumable {
    empty: EmptyIndex,
    before: Objects,
}

impl Assumable {
    /// What would differ if the objects were changed.
    ///
    /// # Errors
    /// Those of the change.
    pub(crate) fn if_changed(
        self,
        change: impl FnOnce(&mut Objects) -> Result<(), String>,
    ) -> Result<Colours, String> {
        let mut after = self.before.clone();
        change(&mut after)?;
        let before = Prediction::of((self.empty)(), self.before.into_changes());
        let after = Prediction::of((self.empty)(), after.into_changes());
        Ok(Colours::of(&before, &after))
    }
}
