//! The Events about what an allocation changes, under MetalLB's names.

use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_allocator::{Outcome, Reason};

use crate::core::index::change::StatusWrite;
use crate::core::model::annotations::NEW_PREFIX;
use crate::core::model::{Service, ServiceEvent};

/// The component that the Events name.
const COMPONENT: &str = "ferrolb-allocator";

/// The Events for a change of a Service's addresses, once its status shows it.
pub(super) fn of_write(
    service: &Service,
    write: &StatusWrite,
    outcome: &Outcome,
) -> Vec<ServiceEvent> {
    let (before, after) = (service.addresses(), write.addresses.as_slice());
    let lost = without(before, after);
    let gained = without(after, before);
    let mut events = Vec::new();
    if !lost.is_empty() {
        let why = outcome.lost().or_else(|| outcome.reason());
        let why = why.map_or_else(String::new, |reason| format!(": {reason}"));
        let message = format!("released {}{why}", join(&lost));
        events.push(event(service, false, "ClearAssignment", message));
    }
    if !gained.is_empty() {
        let pool = write.pool.as_deref().unwrap_or_default();
        let message = format!("assigned {} of pool {pool}", join(&gained));
        events.push(event(service, false, "IPAllocated", message));
    }
    events
}

/// The Event for a reason that is new, unless [`of_write`] has it.
pub(super) fn of_reason(service: &Service, outcome: &Outcome) -> Option<ServiceEvent> {
    let reason = outcome.reason()?;
    let message = format!("{}: {}", reason.code(), outcome.message()?);
    let (warning, name) = match (outcome, reason) {
        (Outcome::Assigned { .. }, Reason::SecondFamilyUnavailable { .. }) => {
            (false, "AdditionalAssignFailed")
        }
        (Outcome::Assigned { .. }, _) => return None,
        (Outcome::Kept { .. }, _) => (true, "LoadBalancerFailed"),
        (Outcome::Refused { .. }, _) => (true, "AllocationFailed"),
    };
    Some(event(service, warning, name, message))
}

/// The Event about annotations under MetalLB's old prefix.
pub(super) fn of_deprecated(service: &Service, annotations: &str) -> ServiceEvent {
    let message =
        format!("{annotations}: MetalLB's old prefix still works, but write {NEW_PREFIX} instead");
    event(service, true, "deprecatedAnnotation", message)
}

fn event(service: &Service, warning: bool, reason: &'static str, message: String) -> ServiceEvent {
    ServiceEvent {
        service: Arc::clone(&service.name),
        uid: service.request.uid.as_str().into(),
        component: COMPONENT,
        warning,
        reason,
        message,
        may_be_known: false,
    }
}

/// The addresses of one list that the other one lacks.
fn without(addresses: &[IpAddr], others: &[IpAddr]) -> Vec<IpAddr> {
    let addresses = addresses.iter().copied();
    addresses
        .filter(|address| !others.contains(address))
        .collect()
}

fn join(addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    addresses.join(", ")
}
