//! What the leader writes about configuration objects: into the status of pools how many addresses
//! are assigned and available, and into that of ferrolb's own kinds whether the object is refused.
//! MetalLB's CRDs drop conditions, so a refused object of MetalLB's gets an Event.
//!
//! An object that was never refused has no condition, which costs no write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ferrolb_allocator::Pool;

use super::pool_status::{in_use, status_of};
use crate::core::api::condition::{ACCEPTED, Condition};
use crate::core::api::metallb::PoolStatus;
use crate::core::api::{ObjectKey, RawObject};
use crate::core::config::Refusal;
use crate::core::index::Index;
use crate::core::model::ObjectEvent;

/// Delay before a write is repeated whose effect is not visible. It doubles each time up to
/// [`REPEAT_MAX`], since older CRDs lack the fields.
const REPEAT_FIRST: Duration = Duration::from_secs(10);
const REPEAT_MAX: Duration = Duration::from_hours(1);

/// The component that the Events name.
const COMPONENT: &str = "ferrolb-allocator";

/// The reason of the condition, and of the Event, when an object is not refused any more.
const NOT_REFUSED: &str = "Accepted";

/// Everything that ferrolb writes into the status of an object: what one server-side apply leaves
/// out, it removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectStatus {
    /// The addresses of a pool that is used.
    pub counts: Option<PoolStatus>,
    /// Whether the object is used as it is. Without a time, that changes now.
    pub accepted: Option<Condition>,
}

/// A status that was written.
#[derive(Debug)]
struct Written {
    status: ObjectStatus,
    repeat: Duration,
    due: Instant,
}

/// What to write now.
#[derive(Debug, Default)]
pub(crate) struct DueWrites {
    /// The statuses that differ from what the objects have.
    pub statuses: Vec<(ObjectKey, ObjectStatus)>,
    /// What changed for objects of MetalLB's.
    pub events: Vec<ObjectEvent>,
}

/// What the leader has written.
#[derive(Debug, Default)]
pub(crate) struct ObjectStatuses {
    written: BTreeMap<ObjectKey, Written>,
    /// The refused objects of MetalLB's that had an Event, with its message.
    refused: BTreeMap<ObjectKey, String>,
}

impl ObjectStatuses {
    /// Whether all objects had their status at the last call of [`Self::due`].
    pub(crate) fn is_complete(&self) -> bool {
        self.written.is_empty()
    }

    /// What to write now.
    pub(crate) fn due(&mut self, now: Instant, index: &Index) -> DueWrites {
        let mut statuses = Vec::new();
        let mut differing = BTreeMap::new();
        for (key, status) in differing_statuses(index) {
            let before = self.written.remove(&key);
            let same = before.filter(|written| written.status == status);
            let written = match same {
                Some(written) if written.due > now => written,
                same => {
                    statuses.push((key.clone(), status.clone()));
                    let repeat = same.map_or(REPEAT_FIRST, |w| (w.repeat * 2).min(REPEAT_MAX));
                    Written {
                        status,
                        repeat,
                        due: now + repeat,
                    }
                }
            };
            differing.insert(key, written);
        }
        self.written = differing;
        DueWrites {
            statuses,
            events: self.events(index),
        }
    }

    /// One Event for each object of MetalLB's that is refused for another reason than before, or
    /// not any more.
    fn events(&mut self, index: &Index) -> Vec<ObjectEvent> {
        let refused = index.config().refused.iter();
        let refused: BTreeMap<&ObjectKey, (&RawObject, &Refusal)> = refused
            .filter(|(key, _)| !key.kind.is_own())
            .filter_map(|(key, refusal)| Some((key, (index.configuration_object(key)?, refusal))))
            .collect();
        let news = refused
            .iter()
            .filter(|(key, (_, refusal))| self.refused.get(**key) != Some(&refusal.message));
        let warnings = news.map(|(key, (raw, refusal))| {
            event(
                key,
                raw,
                true,
                refusal.cause.code(),
                refusal.message.clone(),
            )
        });
        let ended = self.refused.keys().filter(|key| !refused.contains_key(key));
        let ended = ended.filter_map(|key| {
            let raw = index.configuration_object(key)?;
            Some(event(key, raw, false, NOT_REFUSED, IN_USE.to_owned()))
        });
        let events = warnings.chain(ended).collect();
        let messages = refused.into_iter();
        self.refused = messages
            .map(|(key, (_, refusal))| (key.clone(), refusal.message.clone()))
            .collect();
        events
    }
}

/// The message when an object is not refused any more.
const IN_USE: &str = "nothing in the object is refused";

fn event(
    key: &ObjectKey,
    raw: &RawObject,
    warning: bool,
    reason: &'static str,
    message: String,
) -> ObjectEvent {
    ObjectEvent {
        api_version: key.kind.api_version(),
        kind: key.kind.name(),
        object: key.name.clone(),
        uid: raw.metadata.uid.clone(),
        component: COMPONENT,
        warning,
        reason,
        message,
    }
}

/// The statuses that objects should have and don't.
fn differing_statuses(index: &Index) -> Vec<(ObjectKey, ObjectStatus)> {
    let in_use = in_use(index);
    let config = index.config();
    let mut pools: BTreeMap<&ObjectKey, &Pool> = BTreeMap::new();
    for pool in config.pools.iter() {
        let details = config.pool_details.get(pool.name());
        let object = details.map(|details| &details.object);
        // What a ConfigMap or an AddressPool means has no status.
        if let Some(object) = object.filter(|key| config.sources.origin(key) == *key) {
            pools.insert(object, pool);
        }
    }
    let objects: BTreeSet<&ObjectKey> = index.own_objects().chain(pools.keys().copied()).collect();
    let differing = objects.into_iter().filter_map(|key| {
        let counts = pools.get(key).map(|pool| status_of(pool, &in_use));
        let said = index.accepted_condition(key).filter(|_| key.kind.is_own());
        let refusal = config.refused.get(key).filter(|_| key.kind.is_own());
        let accepted = accepted(refusal, said.as_ref());
        let is_said = match (&said, &accepted) {
            (Some(said), Some(accepted)) => said.says_same(accepted),
            (said, accepted) => said.is_none() && accepted.is_none(),
        };
        let is_same = is_said && index.pool_status(key) == counts;
        (!is_same).then(|| (key.clone(), ObjectStatus { counts, accepted }))
    });
    differing.collect()
}

/// The condition that an object of ferrolb's should have. `said` is the one that it has.
fn accepted(refusal: Option<&Refusal>, said: Option<&Condition>) -> Option<Condition> {
    let (status, reason, message) = match (refusal, said) {
        (Some(refusal), _) => ("False", refusal.cause.code(), refusal.message.as_str()),
        (None, Some(_)) => ("True", NOT_REFUSED, IN_USE),
        (None, None) => return None,
    };
    let since = said.filter(|said| said.status == status);
    Some(Condition {
        r#type: ACCEPTED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since
            .map(|said| said.last_transition_time.clone())
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
