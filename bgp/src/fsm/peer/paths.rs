//! What the router shows of paths other than ours.

use ipnet::IpNet;

use crate::fsm::other_paths::OtherPaths;
use crate::fsm::peer::Peer;

impl Peer {
    /// Begins or ends to keep which of our prefixes the router reaches over another speaker. What
    /// the router sent before, or of prefixes that we didn't announce at that time, is not known:
    /// it is asked to send that again.
    pub(in crate::fsm) fn watch_paths(&mut self, watched: bool) {
        self.returned.watch(watched);
        for connection in self.slots.iter_mut().filter(|_| watched) {
            connection.want_again();
        }
    }

    /// We announce this prefix no longer.
    pub(in crate::fsm) fn withdrawn(&mut self, prefix: &IpNet) {
        self.returned.forget(prefix);
    }

    /// What the router shows; nothing without a session.
    pub(in crate::fsm) fn other_paths(&self) -> Option<OtherPaths> {
        let connection = self
            .slots
            .best()
            .filter(|c| c.established_since().is_some())?;
        let refreshes = connection.negotiated().is_some_and(|n| n.route_refresh);
        Some(OtherPaths {
            peer: self.config.name.clone(),
            template: self.template.as_ref().map(|of| of.name.clone()),
            shown: if refreshes {
                self.returned.ever().to_vec()
            } else {
                Vec::new()
            },
            prefixes: self.returned.elsewhere().clone(),
        })
    }
}
