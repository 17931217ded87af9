//! Tracks services whose address is in use elsewhere or reserved, and addresses of Services of
//! other load balancers.

use std::net::IpAddr;

use super::Index;
use crate::core::api::ObjectName;
use crate::core::model::Service;

impl Index {
    /// Updates the notice about a service whose address is in use elsewhere or reserved.
    pub(super) fn update_address_notice(&mut self, name: &ObjectName) {
        let service = self.services.get(name).filter(|service| service.is_ours());
        let message = service.and_then(|service| self.config.address_notice(service));
        let old = match &message {
            Some(message) => self.address_notices.insert(name.clone(), message.clone()),
            None => self.address_notices.remove(name),
        };
        self.problems_changed |= old != message;
    }

    /// Updates the addresses of a Service of another load balancer. Returns whether the change
    /// affects the addresses that our pools may allocate.
    pub(super) fn update_foreign_addresses(
        &mut self,
        name: &ObjectName,
        service: Option<&Service>,
    ) -> bool {
        let foreign = service.filter(|service| service.load_balancer && !service.in_charge);
        let new = foreign.map(Service::addresses).unwrap_or_default();
        let old = match new {
            [] => self.foreign_services.remove(name),
            new => self.foreign_services.insert(name.clone(), new.to_vec()),
        };
        let old = old.unwrap_or_default();
        let in_pool = |address: &IpAddr| self.config.pools.containing(*address).is_some();
        old != new && old.iter().chain(new).any(in_pool)
    }
}
