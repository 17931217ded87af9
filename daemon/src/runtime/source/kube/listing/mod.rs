//! What watches say about one kind, made into one consistent story: a [`Change::Reset`] when every namespace has
//! answered, and nothing deleted because it could not be read.
//!
//! Of kinds that are no configuration there may be ten thousands of objects. Each goes on as it comes, and only the names are
//! kept until the list is complete ([`Change::Listed`]).
//!
//! Configuration objects may stand in several namespaces, each with a watch of its own, so they are remembered here and
//! a relist of one namespace keeps the others' objects. They may also vanish because their CRD was deleted: the API
//! server then deletes them one by one first. Deletes are therefore doubted until [`Listing::resolve`] is told whether
//! the CRD still stands, and a CRD that comes back empty does not count as a deletion of everything either.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube::runtime::watcher;

use super::object::Object;
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::index::change::Change;

/// After a CRD came back, its objects are believed complete when this long nothing changed.
const SETTLE: Duration = Duration::from_secs(10);

/// Why objects of a kind can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What is wrong and what helps.
    pub(super) message: String,
    /// Whether the API server does not know the kind at all.
    pub(super) kind_is_gone: bool,
}

/// All watches of one kind.
#[derive(Debug)]
pub(super) struct Listing {
    kind: Kind,
    scopes: Vec<Scope>,
}

/// One watch: of a namespace, or of the whole cluster.
#[derive(Debug, Default)]
struct Scope {
    answer: Answer,
    /// Configuration only, between `Init` and `InitDone`.
    incoming: BTreeMap<ObjectKey, RawObject>,
    /// The others, between `Init` and `InitDone`.
    present: BTreeSet<ObjectName>,
    /// Configuration only: a handful of objects.
    known: BTreeMap<ObjectKey, RawObject>,
    /// Deleted, unless the CRD is going.
    doubted: BTreeSet<ObjectKey>,
    settling: Option<Settling>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Answer {
    #[default]
    None,
    Listed,
    Refused(Refusal),
}

/// What stands in a CRD that came back.
#[derive(Debug)]
struct Settling {
    objects: BTreeMap<ObjectKey, RawObject>,
    /// Absent while there are no objects.
    until: Option<Instant>,
}

impl Settling {
    fn touch(&mut self, now: Instant) {
        self.until = (!self.objects.is_empty()).then_some(now + SETTLE);
    }
}

impl Listing {
    /// Nothing was heard from any of `scopes` watches.
    pub(super) fn new(kind: Kind, scopes: usize) -> Self {
        Self {
            kind,
            scopes: std::iter::repeat_with(Scope::default)
                .take(scopes)
                .collect(),
        }
    }

    /// Whether every watch has answered, if only with a refusal.
    pub(super) fn is_complete(&self) -> bool {
        self.scopes.iter().all(|scope| scope.answer != Answer::None)
    }

    /// Whether every watch has listed its objects.
    pub(super) fn is_listed(&self) -> bool {
        self.scopes
            .iter()
            .all(|scope| scope.answer == Answer::Listed)
    }

    /// Whether [`Listing::resolve`] is waited for.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.scopes.iter().any(|scope| !scope.doubted.is_empty())
    }

    /// When [`Listing::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.scopes
            .iter()
            .filter_map(|scope| scope.settling.as_ref()?.until)
            .min()
    }

    /// A watch said something.
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

    /// A watch was refused. Says so only once.
    pub(super) fn refuse(&mut self, scope: usize, refusal: Refusal) -> Vec<Change> {
        let scope = &mut self.scopes[scope];
        scope.doubted.clear();
        scope.settling = None;
        if scope.answer == Answer::Refused(refusal.clone()) {
            return Vec::new();
        }
        scope.answer = Answer::Refused(refusal);
        self.publish()
    }

    /// Tells whether the CRD stands; if so, the doubted deletes were deliberate.
    pub(super) fn resolve(&mut self, crd: Result<(), Refusal>) -> Vec<Change> {
        let complete = self.is_complete();
        let mut changes = Vec::new();
        for index in 0..self.scopes.len() {
            let scope = &mut self.scopes[index];
            if scope.doubted.is_empty() {
                continue;
            }
            match &crd {
                Ok(()) => {
                    for key in std::mem::take(&mut scope.doubted) {
                        scope.known.remove(&key);
                        changes.extend(complete.then_some(Change::Delete(key)));
                    }
                }
                Err(refusal) => changes.extend(self.refuse(index, refusal.clone())),
            }
        }
        changes
    }

    /// A CRD that came back has settled.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Change> {
        let mut settled = false;
        for scope in &mut self.scopes {
            let due = |settling: &Settling| settling.until.is_some_and(|until| until <= now);
            if let Some(settling) = scope.settling.take_if(|settling| due(settling)) {
                scope.known = settling.objects;
                scope.answer = Answer::Listed;
                settled = true;
            }
        }
        if settled { self.publish() } else { Vec::new() }
    }

    /// A watch has listed everything.
    fn listed(&mut self, now: Instant, scope: usize) -> Vec<Change> {
        let kind = self.kind;
        let scope = &mut self.scopes[scope];
        if !kind.is_configuration() {
            scope.answer = Answer::Listed;
            return vec![Change::Listed(kind, std::mem::take(&mut scope.present))];
        }
        let incoming = std::mem::take(&mut scope.incoming);
        scope.doubted.clear();
        let was_gone = matches!(&scope.answer, Answer::Refused(refusal) if refusal.kind_is_gone);
        if was_gone && !scope.known.is_empty() {
            let mut settling = Settling {
                objects: incoming,
                until: None,
            };
            settling.touch(now);
            scope.settling = Some(settling);
            scope.answer = Answer::Refused(Refusal {
                message: format!(
                    "the CRD is back, but its objects are not yet: create them again, or restart ferrolb \
                     to forget the {} that it had",
                    scope.known.len()
                ),
                kind_is_gone: true,
            });
        } else {
            scope.known = incoming;
            scope.answer = Answer::Listed;
        }
        self.publish()
    }

    /// Everything that is known, and what can't be read; nothing before every watch has answered.
    fn publish(&self) -> Vec<Change> {
        if !self.is_complete() {
            return Vec::new();
        }
        let mut changes = Vec::new();
        if self.kind.is_configuration()
            && self
                .scopes
                .iter()
                .any(|scope| scope.answer == Answer::Listed)
        {
            let known = self.scopes.iter().flat_map(|scope| &scope.known);
            let known = known.map(|(key, raw)| (key.clone(), raw.clone())).collect();
            changes.push(Change::Reset(self.kind, known));
        }
        let mut messages: Vec<&str> = Vec::new();
        for scope in &self.scopes {
            if let Answer::Refused(refusal) = &scope.answer
                && !messages.contains(&refusal.message.as_str())
            {
                messages.push(&refusal.message);
            }
        }
        if !messages.is_empty() {
            let never_seen = |scope: &Scope| {
                scope.known.is_empty()
                    && matches!(&scope.answer, Answer::Refused(refusal) if refusal.kind_is_gone)
            };
            let absent = self.kind.is_optional() && self.scopes.iter().all(never_seen);
            let say = if absent {
                Change::Absent
            } else {
                Change::Unreadable
            };
            changes.push(say(self.kind, messages.join("; ")));
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
        if let Some(settling) = &mut self.settling {
            settling.objects.insert(key, raw);
            settling.touch(now);
            return Vec::new();
        }
        self.doubted.remove(&key);
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
        if let Some(settling) = &mut self.settling {
            settling.objects.remove(&key);
            settling.touch(now);
            return Vec::new();
        }
        if key.kind.is_custom() {
            self.doubted.insert(key);
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
