//! The services that have an address and that no node announces: the condition and the Events about
//! them, which the leader writes.
//!
//! Each change is written once, when it has lasted for [`SETTLE_TIME`]. After the Service once said
//! what this process decided, another value of the condition is left alone until the decision
//! changes: two processes never overwrite each other in turn. A service that was always announced
//! has no condition.
//!
//! A cluster without any object that says what to announce or to whom has an allocator alone,
//! beside another program that announces. There, nothing is reported.
//!
//! A look at a service costs a decision for each group of nodes that are alike, so a step looks at
//! a limited number. Sessions have no part in it: no process reads all BGPSessions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alike::{AlikeNodes, Precision};
use super::layer2::addresses::Layer2Addresses;
use super::{Detail, Reason, Verdict};
use crate::core::api::ObjectName;
use crate::core::index::{Dirty, Index};
use crate::core::model::{AnnouncedCondition, ConditionWrite, Service, ServiceEvent};

/// How long a decision must last before it is written.
pub(crate) const SETTLE_TIME: Duration = Duration::from_secs(10);
/// When a write is repeated that the Service doesn't show.
const RETRY_TIME: Duration = Duration::from_mins(1);
/// Services that a step looks at.
const LOOKS_MAX: usize = 1000;
/// Services that a step reports.
const REPORTS_MAX: usize = 20;
/// If more services wait for a report, they get conditions and no Events: the cause concerns all of
/// them, and the metric counts them.
const EVENTS_MAX: usize = 20;

/// The component that the Events name.
const COMPONENT: &str = "ferrolb-allocator";

/// What to write about a service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The condition.
    pub condition: ConditionWrite,
    /// The Event, if it is news.
    pub event: Option<ServiceEvent>,
}

/// Whether nodes announce a service.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Opinion {
    /// It has no address, ferrolb is not in charge of it, or ferrolb announces nothing at all.
    NotConcerned,
    Announced,
    /// No node does, for this reason.
    Withheld(Reason, String),
}

/// A service that no node announces, or that has the condition.
#[derive(Debug)]
struct Known {
    opinion: Opinion,
    since: Instant,
    /// When the opinion was last written.
    written: Option<Instant>,
    /// Whether the Service has said it.
    is_said: bool,
}

/// What is known about services.
#[derive(Debug)]
pub(crate) struct Unannounced {
    due: BTreeSet<Arc<ObjectName>>,
    known: BTreeMap<Arc<ObjectName>, Known>,
    layer2: Layer2Addresses,
    /// The nodes since the last change of them or of the configuration.
    nodes: Option<AlikeNodes>,
    /// Whether all services were noted.
    complete: bool,
}

impl Default for Unannounced {
    fn default() -> Self {
        Self {
            due: BTreeSet::new(),
            known: BTreeMap::new(),
            layer2: Layer2Addresses::new(""),
            nodes: None,
            complete: false,
        }
    }
}

impl Unannounced {
    /// Notes what a change affects.
    pub(crate) fn note(&mut self, index: &Index, dirty: &Dirty) {
        if self.complete {
            self.layer2.update(index, dirty);
        } else {
            self.layer2.update_all(index);
        }
        let all = !self.complete || dirty.configuration || !dirty.nodes.is_empty();
        self.complete = true;
        if !all {
            let names = dirty.services.iter();
            self.due.extend(names.map(|name| match index.service(name) {
                Some(service) => service.name.clone(),
                None => Arc::new(name.clone()),
            }));
            return;
        }
        self.nodes = None;
        let existing = index.services().map(|service| service.name.clone());
        self.due.extend(existing);
        self.due.extend(self.known.keys().cloned());
    }

    /// The services that no node announces, with the reason.
    #[cfg(test)]
    pub(crate) fn withheld(&self) -> BTreeMap<ObjectName, Reason> {
        let known = self.known.iter();
        let withheld = known.filter_map(|(name, known)| match &known.opinion {
            Opinion::Withheld(reason, _) => Some((ObjectName::clone(name), *reason)),
            Opinion::NotConcerned | Opinion::Announced => None,
        });
        withheld.collect()
    }

    /// Whether everything was noted.
    pub(crate) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the next step looks at services.
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Looks at some of the services that changed. Returns what to write.
    pub(crate) fn step(&mut self, now: Instant, index: &Index) -> Vec<Report> {
        for _ in 0..LOOKS_MAX {
            let Some(name) = self.due.pop_first() else {
                break;
            };
            self.look(now, index, &name);
        }
        let mut waiting: Vec<(&Arc<ObjectName>, &mut Known)> = self
            .known
            .iter_mut()
            .filter_map(|(name, known)| {
                let service = index.service(name)?;
                known.is_said = known.is_said || is_said(service, &known.opinion);
                known.is_due(now).then_some((name, known))
            })
            .collect();
        let with_events = waiting.len() <= EVENTS_MAX;
        waiting.truncate(REPORTS_MAX);
        let reports = waiting.into_iter().filter_map(|(name, known)| {
            let service = index.service(name)?;
            let is_first = known.written.replace(now).is_none();
            Some(Report {
                condition: condition(service, &known.opinion),
                event: event(service, &known.opinion).filter(|_| is_first && with_events),
            })
        });
        reports.collect()
    }

    /// The number of services with an address that no node announces now, by the code of the
    /// reason.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for known in self.known.values() {
            if let Opinion::Withheld(reason, _) = &known.opinion {
                *counts.entry(reason.code()).or_default() += 1;
            }
        }
        counts
    }

    fn look(&mut self, now: Instant, index: &Index, name: &Arc<ObjectName>) {
        let Some(service) = index.service(name) else {
            self.known.remove(name);
            return;
        };
        let nodes = self
            .nodes
            .get_or_insert_with(|| AlikeNodes::of(index, Precision::Prefixes));
        let opinion = opinion(index, &self.layer2, nodes, service);
        let is_usual = !matches!(opinion, Opinion::Withheld(..));
        let known = self.known.get(name);
        if known.is_some_and(|known| known.opinion == opinion) {
            return;
        }
        if is_usual && service.announced_condition.is_none() && known.is_none() {
            return;
        }
        // What was not written yet need not be taken back.
        let never_written = known.is_some_and(|known| known.written.is_none());
        if is_usual && service.announced_condition.is_none() && never_written {
            self.known.remove(name);
            return;
        }
        let new = Known {
            is_said: is_said(service, &opinion),
            opinion,
            since: now,
            written: None,
        };
        self.known.insert(service.name.clone(), new);
    }
}

impl Known {
    fn is_due(&self, now: Instant) -> bool {
        let passed = |since: Instant, time: Duration| now.saturating_duration_since(since) >= time;
        let is_settled = passed(self.since, SETTLE_TIME);
        let is_tried = self
            .written
            .is_some_and(|written| !passed(written, RETRY_TIME));
        !self.is_said && is_settled && !is_tried
    }
}

/// Whether some node announces a service by BGP or layer 2, and if not, the reason that the node
/// has which gets furthest in the order of the decision.
fn opinion(
    index: &Index,
    layer2: &Layer2Addresses,
    nodes: &AlikeNodes,
    service: &Service,
) -> Opinion {
    let is_concerned = index.config().says_announcements && service.is_ours();
    if !is_concerned || service.addresses().is_empty() {
        return Opinion::NotConcerned;
    }
    let by_layer2 = service.addresses().iter().any(|address| {
        layer2.addresses().contains_key(address)
            && layer2.services_of(*address).contains(&service.name)
    });
    if by_layer2 {
        return Opinion::Announced;
    }
    let mut by_bgp = false;
    let mut reason: Option<Reason> = None;
    nodes.decide(index, service, |decision, _| {
        by_bgp |= !decision.contributions.is_empty();
        let reasons = decision.verdicts.iter().map(|verdict| verdict.reason);
        reason = reason.max(reasons.max());
    });
    if by_bgp {
        return Opinion::Announced;
    }
    let by_layer2 = layer2.withheld(&service.name).map(|(reason, _)| reason);
    let reason = reason.max(by_layer2).unwrap_or(Reason::NodeUnknown);
    Opinion::Withheld(reason, message(service, reason))
}

/// The text is the same on each node, so that it doesn't change with the nodes.
fn message(service: &Service, reason: Reason) -> String {
    let verdict = Verdict {
        peer: None,
        reason,
        detail: Detail::None,
    };
    let (text, name) = (verdict.message(&service.name), &service.name);
    format!("no node announces the service: {text} See ferrolb explain svc {name}")
}

/// Whether the condition of a service says what was decided.
fn is_said(service: &Service, opinion: &Opinion) -> bool {
    let said = service.announced_condition.as_deref();
    match (said, wanted(opinion)) {
        (Some(said), Some(wanted)) => said.says_same(&wanted),
        (said, wanted) => said.is_none() && wanted.is_none(),
    }
}

/// The condition that says it.
fn wanted(opinion: &Opinion) -> Option<AnnouncedCondition> {
    let (announced, reason, message) = match opinion {
        Opinion::NotConcerned => return None,
        Opinion::Announced => (true, Reason::Announced, "a node announces the service"),
        Opinion::Withheld(reason, message) => (false, *reason, message.as_str()),
    };
    Some(AnnouncedCondition {
        announced,
        reason: reason.code().to_owned(),
        message: message.to_owned(),
        since: String::new(),
    })
}

fn condition(service: &Service, opinion: &Opinion) -> ConditionWrite {
    let said = service.announced_condition.as_deref();
    let condition = wanted(opinion).map(|wanted| {
        let same = said.filter(|said| said.announced == wanted.announced);
        AnnouncedCondition {
            since: same.map_or_else(String::new, |said| said.since.clone()),
            ..wanted
        }
    });
    ConditionWrite {
        service: service.name.clone(),
        resource_version: service.resource_version.clone(),
        condition,
    }
}

fn event(service: &Service, opinion: &Opinion) -> Option<ServiceEvent> {
    let (warning, reason, message) = match opinion {
        Opinion::NotConcerned => return None,
        Opinion::Announced => {
            let message = "a node announces the service again".to_owned();
            (false, "AnnouncedAgain", message)
        }
        Opinion::Withheld(reason, message) => {
            (true, "NotAnnounced", format!("{reason}: {message}"))
        }
    };
    Some(ServiceEvent {
        service: service.name.clone(),
        uid: service.request.uid.as_str().into(),
        component: COMPONENT,
        warning,
        reason,
        message,
        may_be_known: false,
    })
}

#[cfg(test)]
mod tests;
