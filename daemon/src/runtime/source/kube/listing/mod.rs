//! Merges the watches of one kind into one consistent view: sends a [`Change::Reset`] when every
//! namespace has answered, and deletes nothing because it could not be read.
//!
//! There may be tens of thousands of objects of kinds that are not configuration. Each one is
//! passed on as it arrives, and only the names are kept until the list is complete
//! ([`Change::Listed`]).
//!
//! Configuration objects may be in several namespaces with a watch each, so they are cached here,
//! and a relist of one namespace keeps the objects of the others. They may also disappear because
//! their CRD is deleted: the API server then deletes them one by one first. Deletes therefore stay
//! pending until [`Listing::resolve`] reports whether the CRD still exists. A CRD that comes back
//! without objects does not count as a deletion of all objects either.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube::runtime::watcher;

use super::object::Object;
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::index::change::Change;

/// The objects of a CRD that came back count as complete after this time without a change.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// Why objects of a kind can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListError {
    /// What is wrong, and what to do.
    pub(super) message: String,
    /// Whether the API server does not know the kind.
    pub(super) kind_missing: bool,
}

/// The watches of one kind.
#[derive(Debug)]
pub(super) struct Listing {
    kind: Kind,
    scopes: Vec<Scope>,
}

/// One watch: of a namespace or of the whole cluster.
#[derive(Debug, Default)]
struct Scope {
    state: ListState,
    /// Configuration only, between `Init` and `InitDone`.
    incoming: BTreeMap<ObjectKey, RawObject>,
    /// Other kinds, between `Init` and `InitDone`.
    present: BTreeSet<ObjectName>,
    /// Cached configuration objects.
    known: BTreeMap<ObjectKey, RawObject>,
    /// Deletes to apply unless the CRD is being deleted.
    pending_deletes: BTreeSet<ObjectKey>,
    returned_crd: Option<ReturnedCrd>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum ListState {
    #[default]
    None,
    Listed,
    Rejected(ListError),
}

/// The objects of a CRD that came back.
#[derive(Debug)]
struct ReturnedCrd {
    objects: BTreeMap<ObjectKey, RawObject>,
    /// When they count as complete; `None` without objects.
    until: Option<Instant>,
}

impl ReturnedCrd {
    fn restart_timer(&mut self, now: Instant) {
        self.until = (!self.objects.is_empty()).then_some(now + SETTLE_TIME);
    }
}

impl Listing {
    /// A view of `scopes` watches without any answer yet.
    pub(super) fn new(kind: Kind, scopes: usize) -> Self {
        Self {
            kind,
            scopes: std::iter::repeat_with(Scope::default)
                .take(scopes)
                .collect(),
        }
    }

    /// Whether every watch has listed its objects or was rejected.
    pub(super) fn is_complete(&self) -> bool {
        self.scopes
            .iter()
            .all(|scope| scope.state != ListState::None)
    }

    /// Whether every watch has listed its objects.
    pub(super) fn is_listed(&self) -> bool {
        self.scopes
            .iter()
            .all(|scope| scope.state == ListState::Listed)
    }

    /// Whether [`Listing::resolve`] must be called.
    pub(super) fn has_pending_deletes(&self) -> bool {
        self.scopes
            .iter()
            .any(|scope| !scope.pending_deletes.is_empty())
    }

    /// When [`Listing::handle_timeout`] must be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.scopes
            .iter()
            .filter_map(|scope| scope.returned_crd.as_ref()?.until)
            .min()
    }

    /// Handles an event of a watch.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        scope: usize,
        event: watcher::Event<Object>,
    ) -> Vec<Change> {
        let complete = self.is_complete();
        let kind = self.kind;
        if matches!(event, watcher::Event::InitDone) {
            return self.listed(now, scope);
        }
        let scope = &mut self.scopes[scope];
        match event {
            watcher::Event::Init => {
                scope.incoming.clear();
                scope.present.clear();
            }
            watcher::Event::InitApply(object) => {
                let (key, raw) = object.keyed(kind);
                if !kind.is_configuration() {
                    scope.present.insert(key.name.clone());
                    return vec![Change::Apply(key, raw)];
                }
                scope.incoming.insert(key, raw);
            }
            watcher::Event::InitDone => {}
            watcher::Event::Apply(object) => {
                let (key, raw) = object.keyed(kind);
                return scope.apply(now, key, raw, complete);
            }
            watcher::Event::Delete(object) => {
                let (key, _) = object.keyed(kind);
                return scope.delete(now, key, complete);
            }
        }
        Vec::new()
    }

    /// Handles a rejected watch. The same error is reported only once.
    pub(super) fn reject(&mut self, scope: usize, error: ListError) -> Vec<Change> {
        let scope = &mut self.scopes[scope];
        scope.pending_deletes.clear();
        scope.returned_crd = None;
        if scope.state == ListState::Rejected(error.clone()) {
            return Vec::new();
        }
        scope.state = ListState::Rejected(error);
        self.publish()
    }

    /// Applies the pending deletes if the CRD exists, and drops them otherwise.
    pub(super) fn resolve(&mut self, crd: Result<(), ListError>) -> Vec<Change> {
        let complete = self.is_complete();
        let mut changes = Vec::new();
        for index in 0..self.scopes.len() {
            let scope = &mut self.scopes[index];
            if scope.pending_deletes.is_empty() {
                continue;
            }
            match &crd {
                Ok(()) => {
                    for key in std::mem::take(&mut scope.pending_deletes) {
                        scope.known.remove(&key);
                        changes.extend(complete.then_some(Change::Delete(key)));
                    }
                }
                Err(error) => changes.extend(self.reject(index, error.clone())),
            }
        }
        changes
    }

    /// Accepts the objects of CRDs that came back and no longer change.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Change> {
        let mut changed = false;
        for scope in &mut self.scopes {
            let due =
                |returned_crd: &ReturnedCrd| returned_crd.until.is_some_and(|until| until <= now);
            if let Some(returned_crd) = scope.returned_crd.take_if(|returned_crd| due(returned_crd))
            {
                scope.known = returned_crd.objects;
                scope.state = ListState::Listed;
                changed = true;
            }
        }
        if changed { self.publish() } else { Vec::new() }
    }

    /// Handles the end of a list.
    fn listed(&mut self, now: Instant, scope: usize) -> Vec<Change> {
        let kind = self.kind;
        let scope = &mut self.scopes[scope];
        if !kind.is_configuration() {
            scope.state = ListState::Listed;
            return vec![Change::Listed(kind, std::mem::take(&mut scope.present))];
        }
        let incoming = std::mem::take(&mut scope.incoming);
        scope.pending_deletes.clear();
        let was_missing = matches!(&scope.state, ListState::Rejected(error) if error.kind_missing);
        if was_missing && !scope.known.is_empty() {
            let mut returned_crd = ReturnedCrd {
                objects: incoming,
                until: None,
            };
            returned_crd.restart_timer(now);
            scope.returned_crd = Some(returned_crd);
            scope.state = ListState::Rejected(ListError {
                message: format!(
                    "the CRD is back, but its objects are not: create them again, or restart \
                     ferrolb to drop the {} known ones",
                    scope.known.len()
                ),
                kind_missing: true,
            });
        } else {
            scope.known = incoming;
            scope.state = ListState::Listed;
        }
        self.publish()
    }

    /// All known objects and errors; nothing before every watch has answered.
    fn publish(&self) -> Vec<Change> {
        if !self.is_complete() {
            return Vec::new();
        }
        let mut changes = Vec::new();
        if self.kind.is_configuration()
            && self
                .scopes
                .iter()
                .any(|scope| scope.state == ListState::Listed)
        {
            let known = self.scopes.iter().flat_map(|scope| &scope.known);
            let known = known.map(|(key, raw)| (key.clone(), raw.clone())).collect();
            changes.push(Change::Reset(self.kind, known));
        }
        let mut messages: Vec<&str> = Vec::new();
        for scope in &self.scopes {
            if let ListState::Rejected(error) = &scope.state
                && !messages.contains(&error.message.as_str())
            {
                messages.push(&error.message);
            }
        }
        if !messages.is_empty() {
            let never_existed = |scope: &Scope| {
                scope.known.is_empty()
                    && matches!(&scope.state, ListState::Rejected(error) if error.kind_missing)
            };
            let absent = self.kind.is_optional() && self.scopes.iter().all(never_existed);
            let constructor = if absent {
                Change::Absent
            } else {
                Change::Unreadable
            };
            changes.push(constructor(self.kind, messages.join("; ")));
        }
        changes
    }
}

impl Scope {
    fn apply(
        &mut self,
        now: Instant,
        key: ObjectKey,
        raw: RawObject,
        complete: bool,
    ) -> Vec<Change> {
        if let Some(returned_crd) = &mut self.returned_crd {
            returned_crd.objects.insert(key, raw);
            returned_crd.restart_timer(now);
            return Vec::new();
        }
        self.pending_deletes.remove(&key);
        if key.kind.is_configuration() {
            self.known.insert(key.clone(), raw.clone());
        }
        if complete {
            vec![Change::Apply(key, raw)]
        } else {
            Vec::new()
        }
    }

    fn delete(&mut self, now: Instant, key: ObjectKey, complete: bool) -> Vec<Change> {
        if let Some(returned_crd) = &mut self.returned_crd {
            returned_crd.objects.remove(&key);
            returned_crd.restart_timer(now);
            return Vec::new();
        }
        if key.kind.is_custom() {
            self.pending_deletes.insert(key);
            return Vec::new();
        }
        self.known.remove(&key);
        if complete {
            vec![Change::Delete(key)]
        } else {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests;
