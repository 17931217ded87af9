//! The steps that are the same on every node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_allocator::{self as allocation, Outcome};

use super::announcements::Announced;
use super::command::{get, get_advertisements};
use super::not_found::{NotFound, no_service};
use super::{Explainer, Explanation, Stage, Step, Verdict, count, list};
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::config::Severity;
use crate::core::config::selection::Selection;
use crate::core::decide::{Reason, decide};
use crate::core::model::{Family, Service, TrafficPolicy};

impl Explainer {
    pub(super) fn service(&self, name: &ObjectName) -> Result<Explanation, NotFound> {
        let service = self.index.service(name);
        let service = service.ok_or_else(|| no_service(&self.index, name))?;
        Ok(self.explain_service(service))
    }

    pub(super) fn explain_service(&self, service: &Service) -> Explanation {
        let mut steps = vec![service_step(service)];
        let mut announced = Announced::default();
        if service.load_balancer {
            steps.push(self.address_step(service));
            if !service.addresses().is_empty() {
                steps.extend(self.endpoint_steps(service));
                steps.extend(self.advertisement_steps(service));
            }
            steps.extend(self.bgp_steps(service, &mut announced));
            let layer2 = self.layer2_steps(service, &mut announced);
            // What BGP reports already is not repeated.
            let is_known = |step: &Step| steps.iter().any(|other| other.text == step.text);
            let layer2: Vec<Step> = layer2.into_iter().filter(|s| !is_known(s)).collect();
            steps.extend(layer2);
        }
        let invalid = self.invalid_objects();
        let summary = announced.summary();
        // Routes without an established session passed all rules before it.
        let reason = announced.failed_session();
        let reason = reason.unwrap_or_else(|| self.first_reason(&steps));
        self.remove_repeated(&mut steps);
        steps.extend(invalid);
        Explanation {
            subject: format!("Service {}", service.name),
            announced: !announced.is_empty(),
            summary: summary.unwrap_or_else(|| format!("not announced: {reason}")),
            steps,
        }
    }

    /// The first reason in the order of the decision: what concerns all nodes is decided first.
    fn first_reason(&self, steps: &[Step]) -> String {
        let withheld = || {
            steps
                .iter()
                .filter(|step| step.verdict == Verdict::Withheld)
        };
        let without_address = withheld().find(|step| step.stage <= Stage::Address);
        let everywhere = withheld().find(|step| self.is_everywhere(step));
        let first = without_address.or(everywhere).or_else(|| withheld().next());
        match first.map(|step| (step.stage, step.reason.clone())) {
            Some((_, Some(reason))) => reason,
            Some((stage, None)) => format!("see {stage}"),
            None => "no node is known".to_owned(),
        }
    }

    /// Whether it is the decision of every node.
    fn is_everywhere(&self, step: &Step) -> bool {
        let of_node = matches!(step.stage, Stage::Bgp | Stage::Layer2);
        of_node && step.peers.is_empty() && step.nodes.len() == self.index.nodes().len()
    }

    /// Removes decisions of all nodes that an earlier step explains.
    fn remove_repeated(&self, steps: &mut Vec<Step>) {
        let earlier = steps.iter().filter(|step| step.stage < Stage::Bgp);
        let reasons: BTreeSet<String> = earlier.filter_map(|step| step.reason.clone()).collect();
        let without_address = steps
            .iter()
            .any(|step| step.stage == Stage::Address && step.verdict == Verdict::Withheld);
        steps.retain(|step| {
            let reason = step.reason.as_deref().unwrap_or_default();
            let repeated =
                reasons.contains(reason) || (without_address && reason == Reason::NoAddress.code());
            step.stage < Stage::Bgp || !(repeated && self.is_everywhere(step))
        });
    }

    /// Whether some node announces the service.
    pub(super) fn is_announced(&self, service: &Service) -> bool {
        let by_layer2 = service.addresses().iter().any(|address| {
            self.layer2.services_of(*address).contains(&service.name)
                && self.layer2.addresses().contains_key(address)
        });
        let mut nodes = self.index.nodes().iter();
        by_layer2
            || nodes.any(|(name, node)| {
                let decision = decide(&self.index, name, Some(node), service);
                let mut contributions = decision.contributions.iter();
                contributions.any(|contribution| {
                    let mut offers = contribution.offers.iter();
                    offers.any(|(peer, _)| self.reaches(name, peer))
                })
            })
    }

    /// The invalid objects of the configuration. A process that has run since before the mistake
    /// uses the last valid version, which is not known here.
    fn invalid_objects(&self) -> Vec<Step> {
        let problems = self.index.problems().into_iter();
        let errors = problems.filter(|problem| {
            problem.severity == Severity::Error && problem.object.kind.is_configuration()
        });
        errors
            .map(|problem| {
                let text = format!(
                    "{} is invalid (a running ferrolb uses its last valid version): {}",
                    problem.object, problem.message
                );
                let command = self.edit(&problem.object);
                Step::withheld(Stage::Configuration, text).with_command(command)
            })
            .collect()
    }

    fn address_step(&self, service: &Service) -> Step {
        let Some(outcome) = self.outcomes.get(&*service.name) else {
            return self.foreign(service);
        };
        let current = service.addresses();
        let ours = outcome.addresses();
        if let Some(reason) = outcome.reason().filter(|_| ours.is_empty()) {
            let text = format!("no address: {reason}");
            let command = match reason {
                allocation::Reason::AddressInUse { address, .. } => {
                    format!("ferrolb explain address {address}")
                }
                _ => get(&self.index, &[Kind::IpAddressPool]),
            };
            return Step::withheld(Stage::Address, text)
                .because(reason.code())
                .with_command(command);
        }
        if current != ours {
            return not_written(current, ours);
        }
        let mut text = self.addresses_with_pools(outcome);
        if let Some(reason) = outcome.reason() {
            text += &format!("; {reason}");
        }
        Step::ok(Stage::Address, text)
    }

    /// Another load balancer allocates.
    fn foreign(&self, service: &Service) -> Step {
        let addresses = service.addresses();
        let pools = &self.index.config().pools;
        let outside = addresses
            .iter()
            .filter(|ip| pools.containing(**ip).is_none());
        let outside: Vec<&IpAddr> = outside.collect();
        if addresses.is_empty() {
            let text = "another load balancer is in charge of the class, and allocated no address";
            return Step::withheld(Stage::Address, text)
                .because(Reason::ForeignLoadBalancerClass.code());
        }
        if !outside.is_empty() {
            let text = format!(
                "{}, allocated by another load balancer, is in no pool of ferrolb",
                list(outside)
            );
            return Step::withheld(Stage::Address, text)
                .because(Reason::AddressNotInPool.code())
                .with_command(get(&self.index, &[Kind::IpAddressPool]));
        }
        let text = format!("{}, allocated by another load balancer", list(addresses));
        Step::ok(Stage::Address, text)
    }

    fn addresses_with_pools(&self, outcome: &Outcome) -> String {
        let pools = &self.index.config().pools;
        let of = |address: &IpAddr| match pools.containing(*address) {
            Some(pool) => format!("{address} of {}", self.pool_object(pool.name())),
            None => format!("{address}, which is in no pool"),
        };
        list(outcome.addresses().iter().map(of))
    }

    fn endpoint_steps(&self, service: &Service) -> Vec<Step> {
        let families = Family::ALL.into_iter();
        let wanted = families.filter(|family| {
            let mut addresses = service.addresses().iter();
            addresses.any(|address| Family::of(*address) == *family)
        });
        wanted
            .map(|family| self.endpoint_step(service, family))
            .collect()
    }

    fn endpoint_step(&self, service: &Service, family: Family) -> Step {
        let endpoints = self.index.endpoints(&service.name, family);
        if endpoints.healthy == 0 {
            let text = format!("no {family} endpoint is ready or serving");
            let ObjectName { namespace, name } = &*service.name;
            let command = format!(
                "kubectl get endpointslices -n {namespace} -l kubernetes.io/service-name={name}"
            );
            return Step::withheld(Stage::Endpoints, text)
                .because(Reason::NoEndpoints.code())
                .with_command(command);
        }
        let (healthy, nodes) = (endpoints.healthy, endpoints.nodes.len());
        let healthy = usize::try_from(healthy).unwrap_or(usize::MAX);
        let healthy = count(healthy, &format!("{family} endpoint"));
        let text = match nodes {
            0 => format!("{healthy} ready or serving"),
            nodes => format!("{healthy} ready or serving, on {}", count(nodes, "node")),
        };
        Step::ok(Stage::Endpoints, text)
    }

    /// One step for each pool of the service's addresses.
    fn advertisement_steps(&self, service: &Service) -> Vec<Step> {
        let config = self.index.config();
        let addresses = service.addresses().iter();
        let pools = addresses.filter_map(|address| config.pools.containing(*address));
        let mut pools: Vec<&str> = pools.map(|pool| pool.name()).collect();
        pools.dedup();
        pools
            .into_iter()
            .map(|pool| self.advertisement_step(service, pool))
            .collect()
    }

    fn advertisement_step(&self, service: &Service, pool: &str) -> Step {
        let of_pool: Vec<_> = self.advertisements_selecting(pool).collect();
        let class = service.class.as_deref().filter(|_| !service.in_charge);
        let accepts =
            |selection: &Selection| class.is_none_or(|class| selection.classes.accepts(class));
        let of_class = of_pool
            .iter()
            .copied()
            .filter(|(_, selection)| accepts(selection));
        let (selecting, others): (Vec<_>, Vec<_>) =
            of_class.partition(|(_, selection)| selection.services.matches(&service.labels));
        let objects = |ads: &[(&ObjectKey, _)]| list(ads.iter().map(|(object, _)| object));
        if !selecting.is_empty() {
            return Step::ok(Stage::Advertisement, objects(&selecting));
        }
        if let (Some(class), [], [(first, _), ..]) = (class, &*others, &*of_pool) {
            let names = objects(&of_pool);
            let text = format!("{names}: loadBalancerClasses does not list {class}");
            return Step::withheld(Stage::Advertisement, text)
                .because(Reason::ForeignLoadBalancerClass.code())
                .with_command(self.edit(first));
        }
        let Some((first, _)) = others.first() else {
            let text = format!("no advertisement selects {}", self.pool_object(pool));
            return Step::withheld(Stage::Advertisement, text)
                .because(Reason::NoAdvertisement.code())
                .with_command(get_advertisements(&self.index));
        };
        let names = objects(&others);
        let text = format!("{names}: serviceSelectors does not select this service's labels");
        Step::withheld(Stage::Advertisement, text)
            .because(Reason::ServiceNotSelected.code())
            .with_command(self.edit(first))
    }
}

pub(super) fn service_step(service: &Service) -> Step {
    if !service.load_balancer {
        let ObjectName { namespace, name } = &*service.name;
        let command = format!(
            "kubectl patch service -n {namespace} {name} -p '{{\"spec\":{{\"type\":\
             \"LoadBalancer\"}}}}'"
        );
        let text = "its type is not LoadBalancer, so it gets no address".to_owned();
        return Step::withheld(Stage::Service, text).with_command(command);
    }
    let policy = match service.traffic_policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    };
    let class = match &service.class {
        Some(class) => format!(", loadBalancerClass {class}"),
        None => String::new(),
    };
    let text = format!("type LoadBalancer, externalTrafficPolicy {policy}{class}");
    Step::ok(Stage::Service, text)
}

/// The status differs from what the allocator allocates.
fn not_written(current: &[IpAddr], ours: &[IpAddr]) -> Step {
    let has = if current.is_empty() {
        "no address".to_owned()
    } else {
        list(current)
    };
    let text = format!(
        "the status has {has}, but the allocator would write {}: no allocator of ferrolb is the \
         leader, or its write is refused",
        list(ours)
    );
    let command = "kubectl get leases -A | grep ferrolb-allocator".to_owned();
    let step = if current.is_empty() {
        Step::withheld(Stage::Address, text).because(Reason::NoAddress.code())
    } else {
        Step::ok(Stage::Address, text)
    };
    step.with_command(command)
}
