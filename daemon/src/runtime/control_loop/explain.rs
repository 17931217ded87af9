//! Answers questions about services from the decisions of this process.

use super::Running;
use super::first_announcements::node_text;
use crate::core::api::ObjectName;
use crate::core::explain::{Explanation, OnNode, no_service};
use crate::runtime::announce::layer2::Layer2Announcer;
use crate::runtime::questions::Question;

impl Running {
    /// Answers a question. The asker may be gone.
    pub(super) fn answer(&self, question: Question) {
        let Question { service, answer } = question;
        _ = answer.send(self.explain(&service));
    }

    fn explain(&self, name: &ObjectName) -> Result<Explanation, String> {
        let Some(node) = self.control.node() else {
            return Err("this process only allocates addresses: ask an announcer".to_owned());
        };
        if !self.index.is_synced(self.control.kinds) {
            return Err("the objects of the cluster are not listed yet: see the log".to_owned());
        }
        let service = self.index.service(name);
        let service = service.ok_or_else(|| no_service(&self.index, name).to_string())?;
        let announcer = self.control.announcer.as_ref();
        let undecided = announcer.is_some_and(|announcer| !announcer.initialized());
        if undecided && self.delayed.is_none() {
            return Err("nothing is decided yet: see the log".to_owned());
        }
        let decisions = announcer.map(|announcer| announcer.node_routes().decisions());
        let announced = self.announced.addresses_of(name);
        let delayed = self.delayed.as_ref();
        let delayed = delayed.map(|(reason, detail)| (*reason, node_text(*reason, detail)));
        let layer2 = self.control.layer2.as_ref();
        let on_node = OnNode {
            index: &self.index,
            node,
            service,
            bgp: decisions.and_then(|decisions| decisions.get(name)),
            announced: &announced,
            layer2: layer2.map(Layer2Announcer::addresses),
            delayed: delayed
                .as_ref()
                .map(|(reason, text)| (*reason, text.as_str())),
        };
        Ok(on_node.explain())
    }
}
