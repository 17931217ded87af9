//! The state of a whole cluster, as far as its API server knows it: what is wrong first, then
//! components, pools, sessions and the addresses of layer 2.
//!
//! Pure: it repeats the decisions of `ferrolb run` for every node, and compares them with what the
//! nodes have published.

mod components;
mod expected_routes;
mod layer2;
pub(crate) mod observed;
mod pools;
mod services;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

pub(crate) use self::layer2::OwnerLine;
pub(crate) use self::observed::Observed;
pub(crate) use self::pools::PoolLine;
pub(crate) use self::sessions::SessionLine;

use self::expected_routes::ExpectedRoutes;
use self::observed::Workload;
use self::services::{Announcements, ServiceCounts};
use self::sessions::Expected;
use super::allocate::{Allocation, Outcomes};
use super::config::Severity;
use super::decide::alike::{AlikeNodes, Precision};
use super::decide::layer2::addresses::Layer2Addresses;
use super::index::Index;
use super::plan::allocate;

/// The state of a cluster. Programs read it as JSON: field names must not change.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overview {
    /// What is wrong, and then what deserves a look.
    pub findings: Vec<Finding>,
    /// What could not be read, so that the answer may be incomplete.
    pub unseen: Vec<String>,
    /// ferrolb's workloads.
    pub components: Vec<Workload>,
    /// The Services of type LoadBalancer.
    pub services: ServiceCounts,
    /// The pools, one line for each family.
    pub pools: Vec<PoolLine>,
    /// The sessions that the configuration requires, and those that exist.
    pub sessions: Vec<SessionLine>,
    /// The addresses that are announced by layer 2.
    pub layer2: Vec<OwnerLine>,
}

/// Something that an operator should know. What has one cause is one finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub severity: Gravity,
    /// What it is.
    pub code: Code,
    /// The objects that it concerns.
    pub objects: BTreeSet<String>,
    /// The cause, and the remedy.
    pub text: String,
    /// A command that shows more, or resolves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Gravity {
    /// Something does not work.
    Wrong,
    /// Something may be intended, or may not work soon.
    Warning,
}

/// Declares each code once: its gravity and its meaning, for docs/observe.md.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident => $gravity:ident,)+) => {
        /// What a finding is about. Findings are sorted in this order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub(crate) enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// How bad it is.
            const fn gravity(self) -> Gravity {
                match self { $(Self::$name => Gravity::$gravity,)+ }
            }

            /// The name.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// All codes, with their gravity and meaning.
            #[cfg(test)]
            pub(crate) const ALL: &[(&str, Gravity, &str)] = &[
                $((stringify!($name), Gravity::$gravity, concat!($($doc),+)),)+
            ];
        }
    };
}

codes! {
    /// No workload of ferrolb does what the configuration needs.
    NotInstalled => Wrong,
    /// MetalLB runs beside ferrolb.
    MetallbRuns => Wrong,
    /// A Service has an address, and no node announces it.
    NotAnnounced => Wrong,
    /// A Service would be announced over BGP, but none of these sessions is established.
    NoSessionForService => Wrong,
    /// A Service waits for an address.
    NoAddress => Wrong,
    /// A node is not Ready.
    NodeNotReady => Wrong,
    /// A node that should announce has no Pod of ferrolb that does.
    DaemonMissing => Wrong,
    /// A Pod of ferrolb is not ready.
    PodNotReady => Wrong,
    /// A session is not established.
    SessionDown => Wrong,
    /// A node has not published a session that it should have.
    SessionMissing => Wrong,
    /// An object is invalid.
    InvalidObject => Wrong,
    /// A Service has an address and no ready endpoint, so it is not announced.
    NoEndpoints => Warning,
    /// A router has other routes from a node than the configuration means.
    RoutesDiffer => Warning,
    /// A pool has no free address.
    PoolExhausted => Warning,
    /// A pool will soon have no free address.
    PoolNearlyExhausted => Warning,
    /// Pods of ferrolb have different images.
    VersionsDiffer => Warning,
    /// The API server has no kind BGPSession, so the states of sessions are unknown.
    SessionsUnknown => Warning,
    /// A part of an object has no effect.
    Notice => Warning,
}

impl Overview {
    /// Whether something is wrong.
    pub(crate) fn is_wrong(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|finding| finding.severity == Gravity::Wrong)
    }
}

/// Collects findings. Those with the same cause become one.
#[derive(Debug, Default)]
struct Findings(BTreeMap<(Code, String), Finding>);

impl Findings {
    fn add(
        &mut self,
        code: Code,
        object: impl Into<String>,
        text: impl Into<String>,
        command: Option<String>,
    ) {
        let text = text.into();
        let finding = self.0.entry((code, text.clone()));
        let finding = finding.or_insert_with(|| Finding {
            severity: code.gravity(),
            code,
            objects: BTreeSet::new(),
            text,
            command,
        });
        finding.objects.insert(object.into());
    }
}

/// What the parts of the overview are computed from.
#[derive(Debug)]
struct View<'a> {
    index: &'a Index,
    outcomes: &'a Outcomes,
    observed: Option<&'a Observed>,
    layer2: Layer2Addresses,
    now: Timestamp,
}

/// The state of a cluster.
pub(crate) fn of_cluster(index: &Index, observed: &Observed, now: Timestamp) -> Overview {
    let outcomes = Allocation::default().decide_all(index).outcomes;
    overview(index, &outcomes, Some(observed), now)
}

/// The state that manifests predict: services get the addresses that the allocator would allocate.
/// There are neither sessions nor Pods.
pub(crate) fn of_manifests(index: &mut Index, now: Timestamp) -> Overview {
    let outcomes = allocate(index);
    overview(index, &outcomes, None, now)
}

fn overview(
    index: &Index,
    outcomes: &Outcomes,
    observed: Option<&Observed>,
    now: Timestamp,
) -> Overview {
    let mut layer2 = Layer2Addresses::new("");
    layer2.update_all(index);
    let view = View {
        index,
        outcomes,
        observed,
        layer2,
        now,
    };
    let mut findings = Findings::default();
    let alike = AlikeNodes::of(index, Precision::Attributes);
    let mut expected = Expected::of(&view);
    let mut announcements = Announcements::of(&view);
    let mut routes = ExpectedRoutes::new(index, &alike);
    for service in index.services() {
        alike.decide(index, service, |decision, nodes| {
            routes.add(decision, nodes);
            let names = nodes.iter().filter_map(|node| alike.names().get(*node));
            announcements.add(&service.name, decision, names, &expected);
        });
    }
    expected.set_routes(alike.names(), routes.finish());
    let sessions = expected.lines(&view, &mut findings);
    let services = announcements.finish(&view, &mut findings);
    let pools = pools::lines(&view, &mut findings);
    let layer2 = layer2::lines(&view);
    components::check(&view, &expected, &mut findings);
    add_problems(index, &mut findings);
    let components = observed.and_then(|observed| observed.workloads.clone());
    Overview {
        findings: findings.0.into_values().collect(),
        unseen: Vec::new(),
        components: components.unwrap_or_default(),
        services,
        pools,
        sessions,
        layer2,
    }
}

/// The errors of objects, and notices about them.
fn add_problems(index: &Index, findings: &mut Findings) {
    for problem in index.problems() {
        let code = match problem.severity {
            Severity::Error => Code::InvalidObject,
            Severity::UnknownField | Severity::Notice => Code::Notice,
        };
        let text = match code {
            Code::InvalidObject => format!(
                "{} (a running ferrolb uses the last valid version)",
                problem.message
            ),
            _ => problem.message,
        };
        findings.add(code, problem.object.to_string(), text, None);
    }
}

/// `3 nodes`, `1 node`.
fn count(number: usize, one: &str) -> String {
    let plural = match number {
        1 => "",
        _ if one.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {one}{plural}")
}
