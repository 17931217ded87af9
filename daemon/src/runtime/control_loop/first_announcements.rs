//! Delays the first announcements while the gate says so, and reports why.

use std::sync::Arc;

use tokio::time::Instant;

use super::Running;
use crate::core::api::ObjectName;
use crate::core::decide::{Detail, Reason, Verdict};
use crate::core::index::Dirty;
use crate::core::model::NodeEvent;
use crate::runtime::gate::probe::Answer;
use crate::runtime::gate::{Delay, Followed};
use crate::runtime::source::{ApiWrite, Source};
use crate::runtime::status::Withheld;

impl Running {
    /// Whether nothing is announced yet because of the gate.
    pub(super) fn is_delayed(&mut self) -> bool {
        self.control.gate.delay().is_some()
    }

    /// Handles what the source sees of MetalLB's speaker on this node.
    pub(super) fn see_speaker(&mut self, source: &Source, pod: Option<String>) {
        let before = self.control.gate.speaker().map(str::to_owned);
        self.control.gate.set_speaker(pod);
        let now = self.control.gate.speaker().map(str::to_owned);
        let delayed = self.is_delayed();
        self.unpublished = true;
        let event = match (before, now) {
            (before, Some(pod)) if before.as_ref() != Some(&pod) => {
                let (meaning, consequence) = if delayed {
                    (
                        "ferrolb announces nothing beside it",
                        "it starts when the speaker has ended",
                    )
                } else {
                    (
                        "both announce the same addresses",
                        "what ferrolb announces stays announced, but a new process of ferrolb on \
                         this node would not announce",
                    )
                };
                let message = format!(
                    "MetalLB's speaker {pod} runs on this node: {meaning}. Move over with ferrolb \
                     migrate, or delete MetalLB's DaemonSet; {consequence}"
                );
                tracing::error!(pod, "{message}");
                self.node_event(true, "MetalLBSpeakerRuns", message)
            }
            (Some(pod), None) => {
                let message = format!("MetalLB's speaker {pod} has ended on this node");
                tracing::info!(pod, "{message}");
                self.node_event(false, "MetalLBSpeakerEnded", message)
            }
            _ => None,
        };
        if let Some(event) = event {
            source.writes.send(ApiWrite::NodeEvent(event));
        }
    }

    fn node_event(
        &self,
        warning: bool,
        reason: &'static str,
        message: String,
    ) -> Option<NodeEvent> {
        let component = match &self.control.announcer {
            Some(_) => "ferrolb-announcer",
            None => "ferrolb-layer2",
        };
        Some(NodeEvent {
            node: self.control.node()?.to_owned(),
            component,
            warning,
            reason,
            message,
        })
    }

    /// Handles an answer of the service proxy.
    pub(super) fn handle_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Proxy(answer) => self.control.gate.set_proxy(answer),
            Answer::Service(service, answer) => {
                self.unpublished = true;
                if self.control.gate.services().answer(&service, answer) {
                    let dirty = self.index.release([&service]);
                    self.dirty.merge(dirty);
                }
            }
        }
    }

    /// Reports a reason to delay the first announcements when it begins, changes and ends.
    pub(super) fn report_hold(&mut self) {
        let delay = match self.control.gate.delay() {
            Some(Delay::For(reason, detail)) => Some((reason, detail)),
            Some(Delay::Asking) => return,
            None => None,
        };
        if delay == self.delayed {
            return;
        }
        if let Some((reason, detail)) = &delay {
            let text = node_text(*reason, detail);
            tracing::warn!(reason = reason.code(), "nothing is announced yet: {text}");
        } else {
            tracing::info!("nothing delays the announcements any longer");
        }
        if let Some(layer2) = &mut self.control.layer2 {
            let text = delay.as_ref();
            layer2.delay(text.map(|(reason, detail)| node_text(*reason, detail)));
        }
        self.delayed = delay;
        self.unpublished = true;
    }

    /// Delays the services whose first announcement waits for the service proxy. Returns what must
    /// be decided again.
    pub(super) fn delay_services(&mut self, dirty: &Dirty, first: bool) -> Dirty {
        let Some(announcer) = &self.control.announcer else {
            return Dirty::default();
        };
        let Some(prober) = self.control.gate.prober().cloned() else {
            return Dirty::default();
        };
        let node = announcer.node_routes().node().to_owned();
        let now = Instant::now().into_std();
        let delays = self.control.gate.services();
        let is_announced = |name: &ObjectName| !self.announced.addresses_of(name).is_empty();
        let Followed { new, ended } = if first || dirty.configuration {
            let all = self.index.services().map(|service| &*service.name);
            delays.follow(now, &self.index, &node, all, is_announced)
        } else {
            delays.follow(now, &self.index, &node, &dirty.services, is_announced)
        };
        let node_ips = self.index.nodes().get(&node);
        let node_ips = node_ips.map(|node| node.internal_ips.clone());
        let node_ips = node_ips.unwrap_or_default();
        let mut delayed = Vec::new();
        for delay in new {
            delayed.push(delay.service.clone());
            prober.ask_service(delay, node_ips.clone());
        }
        let mut dirty = self.index.release(&ended);
        dirty.merge(self.index.delay(&node, delayed));
        dirty
    }

    /// Releases services that have waited for too long. Returns whether there are any.
    pub(super) fn release_expired(&mut self) -> bool {
        let expired = self
            .control
            .gate
            .services()
            .expire(Instant::now().into_std());
        for (service, port, why) in &expired {
            tracing::warn!(
                %service,
                reason = Reason::ServiceProxyNotReady.code(),
                "the service proxy of this node did not confirm the service's endpoints on \
                 healthCheckNodePort {port} ({why}): announcing it anyway. Check that the proxy \
                 serves this port, or run without --service-proxy-health"
            );
        }
        let names = expired.iter().map(|(service, ..)| service);
        let dirty = self.index.release(names);
        self.dirty.merge(dirty);
        self.unpublished |= !expired.is_empty();
        !expired.is_empty()
    }

    /// What is not announced yet, and why.
    pub(super) fn withheld(&mut self) -> Vec<Withheld> {
        let node = self.delayed.iter().map(|(reason, detail)| Withheld {
            service: None,
            reason: *reason,
            message: node_text(*reason, detail),
        });
        let mut withheld: Vec<Withheld> = node.collect();
        let services = self.control.gate.services().waiting();
        withheld.extend(services.map(|(service, port, why)| Withheld {
            service: Some(Arc::new(ObjectName::clone(service))),
            reason: Reason::ServiceProxyNotReady,
            message: node_text(
                Reason::ServiceProxyNotReady,
                &format!("healthCheckNodePort {port}: {why}"),
            ),
        }));
        withheld
    }
}

/// A reason that concerns the node, as a sentence with its remedy.
pub(super) fn node_text(reason: Reason, detail: &str) -> String {
    let verdict = Verdict {
        peer: None,
        reason,
        detail: Detail::from(detail),
    };
    verdict.message(&ObjectName::new("", ""))
}
