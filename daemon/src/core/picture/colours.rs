//! What an assumption would change, as colours of the picture.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::core::plan::difference::{Difference, Effect};
use crate::core::plan::{Plan, PlanError, Prediction};

/// What would change, by what the picture shows.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Colours {
    /// Whether a service would lose an address or an announcement, or a node withdraw a route.
    pub withdraws: bool,
    /// The services that would change, by name.
    pub services: Vec<ServiceColour>,
    /// The sessions whose routes would change.
    pub links: Vec<LinkColour>,
    /// The errors that the change would bring.
    pub errors: Vec<PlanError>,
}

/// How a service would change: the gravest of what applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Colour {
    /// The routes have other attributes.
    #[default]
    Changed,
    /// More nodes announce it.
    More,
    /// No node announces it before, and some node after.
    Gained,
    /// Other nodes announce it.
    Others,
    /// Fewer nodes announce it.
    Fewer,
    /// It has other addresses.
    Moved,
    /// Some node announces it before, and none after.
    Lost,
}

/// How a service would change.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceColour {
    /// `namespace/name`.
    pub service: String,
    /// How.
    pub colour: Colour,
    /// Its addresses before and after, if they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<[Vec<IpAddr>; 2]>,
    /// The nodes that would announce it no more, by BGP or layer 2.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub gone: BTreeSet<String>,
    /// The nodes that would begin to announce it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub new: BTreeSet<String>,
    /// The share of flows that would reach another node at least, in percent: the largest of all
    /// BGPPeers.
    pub moved_at_least: u8,
    /// The same with routers without resilient hashing.
    pub moved_by_rehash: u8,
}

/// How the routes of a session would change.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LinkColour {
    /// The node.
    pub node: String,
    /// The BGPPeer.
    pub peer: String,
    /// The number of routes that the node would announce.
    pub announced: usize,
    /// The number of routes that the node would withdraw.
    pub withdrawn: usize,
    /// The number of routes with other attributes.
    pub changed: usize,
}

impl Colours {
    /// Compares two predictions.
    pub(crate) fn of(before: &Prediction, after: &Prediction) -> Self {
        let difference = Difference::of(before, after);
        let mut painter = Painter::new(&before.plan, &after.plan);
        painter.paint_routes(&difference);
        painter.paint_addresses(&difference);
        painter.paint_layer2(&difference);
        Self {
            withdraws: difference.withdraws(),
            services: painter.finish(&difference),
            links: links(&difference),
            errors: difference.errors,
        }
    }
}

/// Finds the services of what differs.
#[derive(Debug)]
struct Painter {
    /// The services that have an address before or after.
    users: BTreeMap<IpAddr, BTreeSet<String>>,
    services: BTreeMap<String, ServiceColour>,
}

impl Painter {
    fn new(before: &Plan, after: &Plan) -> Self {
        let mut users: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
        for service in before.services.iter().chain(&after.services) {
            for address in &service.addresses {
                let name = format!("{}/{}", service.namespace, service.name);
                users.entry(*address).or_default().insert(name);
            }
        }
        Self {
            users,
            services: BTreeMap::new(),
        }
    }

    fn service(&mut self, name: &str) -> &mut ServiceColour {
        let service = self.services.entry(name.to_owned());
        service.or_insert_with(|| ServiceColour {
            service: name.to_owned(),
            ..ServiceColour::default()
        })
    }

    /// The services with an address in a prefix.
    fn users_of(&self, prefix: &IpNet) -> BTreeSet<String> {
        let range = prefix.network()..=prefix.broadcast();
        let users = self.users.range(range).flat_map(|(_, users)| users);
        users.cloned().collect()
    }

    fn paint_routes(&mut self, difference: &Difference) {
        for route in &difference.routes {
            let still = route.still_announced;
            for name in self.users_of(&route.prefix) {
                let service = self.service(&name);
                match route.effect {
                    Effect::Withdrawn if !still => _ = service.gone.insert(route.node.clone()),
                    Effect::Announced => _ = service.new.insert(route.node.clone()),
                    Effect::Withdrawn | Effect::Changed => {}
                }
            }
        }
        for flow in &difference.flows {
            for name in self.users_of(&flow.prefix) {
                let service = self.service(&name);
                service.moved_at_least = service.moved_at_least.max(flow.moved_at_least);
                service.moved_by_rehash = service.moved_by_rehash.max(flow.moved_by_rehash);
            }
        }
    }

    fn paint_addresses(&mut self, difference: &Difference) {
        for entry in &difference.addresses {
            let both = [entry.before.clone(), entry.after.clone()];
            self.service(&entry.service).addresses = Some(both);
        }
    }

    fn paint_layer2(&mut self, difference: &Difference) {
        for entry in &difference.layer2 {
            let users = self.users.get(&entry.address).cloned().unwrap_or_default();
            for name in users {
                let service = self.service(&name);
                let gone = entry.before.difference(&entry.after);
                service.gone.extend(gone.cloned());
                let new = entry.after.difference(&entry.before);
                service.new.extend(new.cloned());
            }
        }
    }

    fn finish(mut self, difference: &Difference) -> Vec<ServiceColour> {
        for name in difference.lost.iter().chain(&difference.gained) {
            self.service(name);
        }
        let [lost, gained] = [&difference.lost, &difference.gained].map(|names| {
            let names = names.iter().map(String::as_str);
            names.collect::<BTreeSet<&str>>()
        });
        let services = self.services.into_values();
        let coloured = services.map(|mut service| {
            service.keep_those_of_both();
            let colour = if lost.contains(&*service.service) {
                Colour::Lost
            } else if gained.contains(&*service.service) {
                Colour::Gained
            } else {
                service.colour()
            };
            ServiceColour { colour, ..service }
        });
        coloured.collect()
    }
}

impl ServiceColour {
    /// A node that withdraws one address of the service and announces another one still announces
    /// it.
    fn keep_those_of_both(&mut self) {
        let both: BTreeSet<String> = self.gone.intersection(&self.new).cloned().collect();
        self.gone.retain(|node| !both.contains(node));
        self.new.retain(|node| !both.contains(node));
    }

    /// How it changes, if it is announced before and after.
    fn colour(&self) -> Colour {
        let mut both = self.addresses.iter();
        let moved = both.any(|[before, after]| before.iter().any(|ip| !after.contains(ip)));
        match (self.gone.is_empty(), self.new.is_empty()) {
            _ if moved => Colour::Moved,
            (false, false) => Colour::Others,
            (false, true) => Colour::Fewer,
            (true, false) => Colour::More,
            (true, true) => Colour::Changed,
        }
    }
}

fn links(difference: &Difference) -> Vec<LinkColour> {
    let mut links: BTreeMap<(&str, &str), [usize; 3]> = BTreeMap::new();
    for route in &difference.routes {
        let counts = links.entry((&*route.node, &*route.peer)).or_default();
        counts[match route.effect {
            Effect::Announced => 0,
            Effect::Withdrawn => 1,
            Effect::Changed => 2,
        }] += 1;
    }
    let links = links.into_iter();
    links
        .map(
            |((node, peer), [announced, withdrawn, changed])| LinkColour {
                node: node.to_owned(),
                peer: peer.to_owned(),
                announced,
                withdrawn,
                changed,
            },
        )
        .collect()
}
