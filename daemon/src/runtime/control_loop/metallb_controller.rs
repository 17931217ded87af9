//! Reports MetalLB's controller: while it runs, this process allocates nothing.

use super::Running;
use crate::core::api::metallb_pod::MetallbPod;
use crate::core::model::ObjectEvent;
use crate::runtime::source::{ApiWrite, Source};

impl Running {
    /// Handles what the source sees of MetalLB's controller.
    pub(super) fn see_controller(&mut self, source: &Source, pod: Option<Box<MetallbPod>>) {
        if !self.control.allocate {
            return;
        }
        self.unpublished = true;
        let before = self.metallb_controller.take();
        let Some(pod) = pod else {
            if let Some(pod) = before {
                tracing::info!(pod, "MetalLB's controller has ended");
            }
            return;
        };
        let message = format!(
            "MetalLB's controller runs and writes the same Services: ferrolb allocates no \
             addresses until it has ended. Move over with ferrolb migrate, or stop it: {}",
            pod.stop_command()
        );
        tracing::error!(pod = %pod.name, "{message}");
        self.metallb_controller = Some(pod.name.to_string());
        source.writes.send(ApiWrite::ObjectEvent(ObjectEvent {
            api_version: "v1",
            kind: "Pod",
            object: pod.name,
            uid: pod.uid,
            component: "ferrolb-allocator",
            warning: true,
            reason: "MetalLBControllerRuns",
            message,
        }));
    }
}
