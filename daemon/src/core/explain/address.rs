//! To whom an address belongs, and who announces it.

use std::net::IpAddr;

use super::{Explainer, Explanation, Stage, Step, Verdict, count};
use crate::core::api::Kind;
use crate::core::decide::Reason;
use crate::core::model::Service;

impl Explainer {
    pub(super) fn address(&self, address: IpAddr) -> Explanation {
        let address = address.to_canonical();
        let mut steps = vec![self.pool_of(address)];
        steps.extend(self.exclusion(address));
        let services = self.index.services_with_address(address);
        let services: Vec<&Service> = services.filter(|s| s.load_balancer).collect();
        let mut announced = 0;
        for service in &services {
            let explanation = self.explain_service(service);
            announced += usize::from(explanation.announced);
            let verdict = if explanation.announced {
                Verdict::Ok
            } else {
                Verdict::Withheld
            };
            let text = format!("{}: {}", explanation.subject, explanation.summary);
            let command = format!("ferrolb explain svc {}", service.name);
            steps.push(Step::new(Stage::Service, verdict, text).with_command(command));
        }
        let summary = if services.is_empty() {
            "no Service has it".to_owned()
        } else {
            format!(
                "{} with it, of which {announced} announced",
                count(services.len(), "Service")
            )
        };
        Explanation {
            subject: format!("address {address}"),
            announced: announced > 0,
            summary,
            steps,
        }
    }

    fn pool_of(&self, address: IpAddr) -> Step {
        match self.index.config().pools.containing(address) {
            Some(pool) => Step::ok(Stage::Pool, self.pool_object(pool.name())),
            None => Step::withheld(Stage::Pool, "no pool contains it")
                .because(Reason::AddressNotInPool.code())
                .with_command(super::command::get(&self.index, &[Kind::IpAddressPool])),
        }
    }

    /// Why the allocator never allocates it, or for one service only.
    fn exclusion(&self, address: IpAddr) -> Option<Step> {
        let pool = self.index.config().pools.containing(address)?;
        if let Some(exclusion) = pool.exclusion_of(address) {
            let text = format!("it is {exclusion}, so it is never allocated");
            return Some(Step::withheld(Stage::Address, text).because("AddressExcluded"));
        }
        let mut reservations = pool.reservations().iter();
        let reserved = reservations.find(|reservation| reservation.contains(address))?;
        let text = format!("reserved for {}", reserved.service());
        Some(Step::ok(Stage::Address, text))
    }
}
