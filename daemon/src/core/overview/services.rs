//! The Services: whether they have an address, and whether some node announces it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::sessions::Expected;
use super::{Code, Findings, View};
use crate::core::api::ObjectName;
use crate::core::decide::{Decision, Reason};
use crate::core::model::Service;

/// How many Services of type LoadBalancer there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceCounts {
    /// All that ferrolb is in charge of, or announces.
    pub total: usize,
    /// Those that some node announces.
    pub announced: usize,
    /// Those that wait for an address.
    pub without_address: usize,
}

/// What the nodes decide about a service.
#[derive(Debug, Default)]
struct Announcement {
    /// Whether a node announces it over BGP.
    by_bgp: bool,
    /// Whether a node does over a session that is established.
    over_session: bool,
    /// Whether a node may announce it by layer 2.
    by_layer2: bool,
    /// How many nodes withhold it from all routers, by reason.
    reasons: BTreeMap<Reason, usize>,
}

impl Announcement {
    /// The reason of most nodes.
    fn reason(&self) -> Option<Reason> {
        let reasons = self.reasons.iter();
        let first = reasons.max_by_key(|(reason, nodes)| (**nodes, std::cmp::Reverse(**reason)));
        first.map(|(reason, _)| *reason)
    }
}

/// What all nodes decide about all services.
#[derive(Debug)]
pub(super) struct Announcements(BTreeMap<Arc<ObjectName>, Announcement>);

impl Announcements {
    /// The services of type LoadBalancer, with what is announced by layer 2.
    pub(super) fn of(view: &View<'_>) -> Self {
        let services = view.index.services();
        let services = services.filter(|service| service.load_balancer);
        let services = services.map(|service| {
            let announcement = Announcement {
                by_layer2: by_layer2(view, service),
                ..Announcement::default()
            };
            (service.name.clone(), announcement)
        });
        Self(services.collect())
    }

    /// Adds what nodes decided about a service.
    pub(super) fn add<'n>(
        &mut self,
        service: &ObjectName,
        decision: &Decision,
        nodes: impl Iterator<Item = &'n String> + Clone,
        expected: &Expected<'_>,
    ) {
        let Some(found) = self.0.get_mut(service) else {
            return;
        };
        let contributions = decision.contributions.iter();
        let mut offers = contributions.flat_map(|one| one.offers.iter());
        let count = nodes.clone().count();
        let is_established = |peer| {
            let mut nodes = nodes.clone();
            nodes.any(|node| expected.is_established(node, peer))
        };
        found.by_bgp |= !decision.contributions.is_empty();
        found.over_session = found.over_session || offers.any(|(peer, _)| is_established(peer));
        let verdicts = decision.verdicts.iter();
        let withheld = verdicts.filter(|verdict| verdict.reason != Reason::Announced);
        for verdict in withheld {
            *found.reasons.entry(verdict.reason).or_default() += count;
        }
    }

    /// Counts, and reports what is not announced.
    pub(super) fn finish(self, view: &View<'_>, findings: &mut Findings) -> ServiceCounts {
        let mut counts = ServiceCounts::default();
        for (name, found) in &self.0 {
            let Some(service) = view.index.service(name) else {
                continue;
            };
            if !service.in_charge
                && !view
                    .index
                    .config()
                    .announces_class(service.class.as_deref())
            {
                continue;
            }
            counts.total += 1;
            counts.announced += usize::from(found.by_layer2 || found.over_session);
            if check_address(view, service, findings) {
                counts.without_address += 1;
            } else {
                check_announcement(view, service, found, findings);
            }
        }
        counts
    }
}

fn by_layer2(view: &View<'_>, service: &Service) -> bool {
    let mut addresses = service.addresses().iter();
    addresses.any(|address| {
        view.layer2.services_of(*address).contains(&service.name)
            && view.layer2.addresses().contains_key(address)
    })
}

/// Reports a service that doesn't have all addresses. Returns whether it has none.
fn check_address(view: &View<'_>, service: &Service, findings: &mut Findings) -> bool {
    let has_none = service.addresses().is_empty();
    let outcome = view.outcomes.get(&*service.name);
    let reason = outcome.and_then(|outcome| Some((outcome.reason()?, outcome.message()?)));
    let text = match reason {
        Some((reason, message)) => format!("{}: {message}", reason.code()),
        None if has_none && service.in_charge => {
            "its address is not written yet: is an allocator running?".to_owned()
        }
        None => return has_none,
    };
    // A service that keeps its addresses although another pool should serve it has no fault.
    if has_none || outcome.is_some_and(|outcome| outcome.addresses().is_empty()) {
        let command = explain(&service.name);
        findings.add(
            Code::NoAddress,
            service_object(service),
            text,
            Some(command),
        );
    }
    has_none
}

fn check_announcement(
    view: &View<'_>,
    service: &Service,
    found: &Announcement,
    findings: &mut Findings,
) {
    if found.by_layer2 || found.over_session {
        return;
    }
    let object = service_object(service);
    let command = Some(explain(&service.name));
    if found.by_bgp {
        let text = "no node that announces it has an established session with a router that should \
                    get it";
        findings.add(Code::NoSessionForService, object, text, command);
        return;
    }
    let layer2 = view.layer2.withheld(&service.name);
    let reason = found.reason().or(layer2.map(|(reason, _)| reason));
    let (code, text) = match reason {
        None => (Code::NotAnnounced, "no node is known".to_owned()),
        Some(reason) => {
            let code = match reason {
                Reason::NoEndpoints | Reason::NoLocalEndpoints => Code::NoEndpoints,
                _ => Code::NotAnnounced,
            };
            let meaning = reason.meaning().trim();
            (
                code,
                format!("{reason}: {meaning} Remedy: {}", reason.remedy()),
            )
        }
    };
    findings.add(code, object, text, command);
}

fn service_object(service: &Service) -> String {
    format!("Service {}", service.name)
}

fn explain(service: &ObjectName) -> String {
    format!("ferrolb explain svc {service}")
}
