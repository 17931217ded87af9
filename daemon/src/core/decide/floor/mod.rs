//! Whether as many nodes announce each service as its BGPAdvertisements request (`minAnnouncers`),
//! and the Events about that, which the leader writes.
//!
//! Each change is one Event, however often endpoints flap: a service that falls below its floor is
//! reported at once, and that it is back only when that lasted for [`SETTLE_TIME`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alike::{AlikeNodes, Precision};
use super::selection;
use crate::core::api::ObjectName;
use crate::core::config::Config;
use crate::core::index::{Dirty, Index};
use crate::core::model::{Service, ServiceEvent};

/// How long enough nodes must announce a service before that is reported, and how long a service
/// that was never announced by enough nodes may take.
const SETTLE_TIME: Duration = Duration::from_mins(1);

/// The component that the Events name.
const COMPONENT: &str = "ferrolb-allocator";

/// Whether an advertisement requests more than one node.
pub(crate) fn is_used(config: &Config) -> bool {
    let mut ads = config.advertisements.values();
    ads.any(|ad| ad.min_announcers > 1)
}

/// How many nodes announce a service, and how many should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announcers {
    nodes: usize,
    floor: u32,
}

/// The nodes of the cluster.
#[derive(Debug)]
struct Nodes {
    alike: AlikeNodes,
    /// For each of them whether it goes on announcing: it is neither deleted nor shut down.
    stays: Vec<bool>,
}

impl Nodes {
    fn of(index: &Index) -> Self {
        let nodes = index.nodes().values();
        Self {
            alike: AlikeNodes::of(index, Precision::Prefixes),
            stays: nodes
                .map(|node| !node.deleting && !node.shutting_down)
                .collect(),
        }
    }
}

impl Announcers {
    /// None for a service without an address, or without a floor above 1.
    fn of(index: &Index, nodes: &Nodes, service: &Service) -> Option<Self> {
        if !service.load_balancer {
            return None;
        }
        let selections = selection::of(index, service).into_iter().flatten();
        let ads = selections.flat_map(|selection| selection.bgp);
        let floor = ads.map(|ad| ad.min_announcers).max()?;
        if floor < 2 {
            return None;
        }
        let mut counts = vec![0; service.addresses().len()];
        nodes.alike.decide(index, service, |decision, members| {
            let announced = &decision.contributions;
            let staying = members.iter().filter(|place| nodes.stays[**place]).count();
            for (count, address) in counts.iter_mut().zip(service.addresses()) {
                if announced.iter().any(|one| one.prefix.contains(address)) {
                    *count += staying;
                }
            }
        });
        let nodes = counts.into_iter().min()?;
        Some(Self { nodes, floor })
    }

    fn are_enough(self) -> bool {
        usize::try_from(self.floor).is_ok_and(|floor| self.nodes >= floor)
    }
}

/// What was reported about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing: too few nodes since then, and never enough before.
    Starting(Instant),
    /// Nothing, or that enough nodes announce it.
    Met,
    /// That too few do. With the time since when enough do.
    Below(Option<Instant>),
}

/// The services with a floor above 1.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    services: BTreeMap<Arc<ObjectName>, (Announcers, Phase)>,
    /// The nodes since the last change of them or of the configuration.
    nodes: Option<Nodes>,
    /// Whether all services were looked at.
    complete: bool,
}

impl Floors {
    /// Looks at the services that a change affects. Returns the Events to write.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        index: &Index,
        dirty: &Dirty,
    ) -> Vec<ServiceEvent> {
        let all = !self.complete || dirty.configuration || !dirty.nodes.is_empty();
        if !is_used(index.config()) {
            *self = Self::default();
            return Vec::new();
        }
        self.complete = true;
        let mut events = Vec::new();
        if !all {
            for name in &dirty.services {
                self.look(now, index, name, &mut events);
            }
            return events;
        }
        self.nodes = None;
        let known = self.services.keys().cloned();
        let existing = index.services().map(|service| service.name.clone());
        let names: BTreeSet<Arc<ObjectName>> = known.chain(existing).collect();
        for name in names {
            self.look(now, index, &name, &mut events);
        }
        events
    }

    /// The Events that are due because time has passed.
    pub(crate) fn due(&mut self, now: Instant, index: &Index) -> Vec<ServiceEvent> {
        let mut events = Vec::new();
        for (name, (announcers, phase)) in &mut self.services {
            let (next, is_news) = step(*phase, announcers.are_enough(), now);
            let before = std::mem::replace(phase, next);
            let service = index.service(name).filter(|_| is_news);
            events.extend(service.map(|service| event(service, *announcers, before)));
        }
        events
    }

    /// The number of services that too few nodes announce now.
    pub(crate) fn below(&self) -> usize {
        let announcers = self.services.values();
        announcers.filter(|(found, _)| !found.are_enough()).count()
    }

    fn look(
        &mut self,
        now: Instant,
        index: &Index,
        name: &ObjectName,
        events: &mut Vec<ServiceEvent>,
    ) {
        let nodes = self.nodes.get_or_insert_with(|| Nodes::of(index));
        let service = index.service(name);
        let Some((service, found)) =
            service.and_then(|service| Some((service, Announcers::of(index, nodes, service)?)))
        else {
            self.services.remove(name);
            return;
        };
        let before = match self.services.get(name) {
            Some((_, phase)) => *phase,
            None if found.are_enough() => Phase::Met,
            None => Phase::Starting(now),
        };
        let (phase, is_news) = step(before, found.are_enough(), now);
        self.services.insert(service.name.clone(), (found, phase));
        events.extend(is_news.then(|| event(service, found, before)));
    }
}

/// The next phase, and whether it is reported.
fn step(phase: Phase, enough: bool, now: Instant) -> (Phase, bool) {
    let is_over = |since: Instant| now.saturating_duration_since(since) >= SETTLE_TIME;
    match (phase, enough) {
        (Phase::Starting(_) | Phase::Met, true) => (Phase::Met, false),
        (Phase::Starting(since), false) if !is_over(since) => (phase, false),
        (Phase::Starting(_) | Phase::Met, false) => (Phase::Below(None), true),
        (Phase::Below(_), false) => (Phase::Below(None), false),
        (Phase::Below(since), true) => {
            let since = since.unwrap_or(now);
            if is_over(since) {
                (Phase::Met, true)
            } else {
                (Phase::Below(Some(since)), false)
            }
        }
    }
}

fn event(service: &Service, announcers: Announcers, before: Phase) -> ServiceEvent {
    let Announcers { nodes, floor } = announcers;
    let nodes = match nodes {
        0 => "no node announces".to_owned(),
        1 => "1 node announces".to_owned(),
        nodes => format!("{nodes} nodes announce"),
    };
    let (reason, message) = if announcers.are_enough() {
        let message = format!("{nodes} the service again; minAnnouncers is {floor}");
        ("MinAnnouncersMet", message)
    } else {
        let message = format!(
            "{nodes} the service, but minAnnouncers is {floor}: check its ready endpoints and the \
             nodes. ferrolb plan names the reason of each node"
        );
        ("MinAnnouncersNotMet", message)
    };
    ServiceEvent {
        service: service.name.clone(),
        uid: service.request.uid.as_str().into(),
        component: COMPONENT,
        warning: !announcers.are_enough(),
        reason,
        message,
        // A new leader doesn't know what the one before reported.
        may_be_known: matches!(before, Phase::Starting(_)),
    }
}

#[cfg(test)]
mod tests;
