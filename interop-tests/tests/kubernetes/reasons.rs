//! A cluster is brought into the state of every reason code of docs/reasons.md that it can have:
//! `ferrolb explain` names the code, and after the remedy the Service is announced.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::Rack;
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL, NAMESPACE, service};
use ferrolb_interop_tests::router::Router;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use ipnet::IpNet;
use serde_json::json;

use super::explain::{await_announced, explain, start};
use super::{CLUSTER, LOCAL, TIMEOUT};

/// How a cluster gets into the state of a reason, and out of it.
struct Case {
    reason: &'static str,
    cause: Vec<Action>,
    remedy: Vec<Action>,
    /// Restores what other cases expect.
    cleanup: Vec<Action>,
    /// Whether the route stays: a drain keeps the last path.
    stays: bool,
}

enum Action {
    Kubectl(String),
    Apply(String),
    /// Waits until a Service has an address.
    Await(&'static str),
}

/// Words of kubectl, separated by spaces.
fn kubectl(words: impl Into<String>) -> Action {
    Action::Kubectl(words.into())
}

fn advertisement(spec: &str) -> Action {
    Action::Apply(manifest::advertisement(spec))
}

fn peer(more: &str) -> Action {
    Action::Apply(manifest::metallb_peer(more))
}

fn pool(addresses: &str, more: &str) -> Action {
    let manifest = manifest::pool(addresses);
    Action::Apply(manifest.replace("]}", &format!("]{more}}}")))
}

/// Another pool than that of the other cases.
fn other_pool(name: &str, group: &str, spec: &str) -> Action {
    Action::Apply(format!(
        "apiVersion: {group}
kind: IPAddressPool
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec: {{{spec}}}
"
    ))
}

fn delete_pool(name: &str, group: &str) -> Action {
    kubectl(format!(
        "delete ipaddresspools.{group} {name} -n {NAMESPACE}"
    ))
}

/// The pool of all cases.
const ADDRESSES: &str = "192.0.2.0/28";

fn web() -> Action {
    Action::Apply(service("web", "", CLUSTER))
}

fn web_with(spec: &str) -> Action {
    Action::Apply(service("web", "", &format!("{CLUSTER} {spec}")))
}

fn delete(service: &str) -> Action {
    kubectl(format!("delete service {service}"))
}

fn patch(spec: &str) -> Action {
    kubectl(format!(
        "patch service web --type=merge -p {{\"spec\":{{{spec}}}}}"
    ))
}

fn annotate(annotation: &str) -> Action {
    kubectl(format!(
        "annotate service web --overwrite metallb.io/{annotation}"
    ))
}

/// Requests an address that another Service requested before.
fn other(address: &str) -> Action {
    let metadata = format!("annotations: {{metallb.io/loadBalancerIPs: '{address}'}},");
    Action::Apply(service("other", &metadata, CLUSTER))
}

fn network_unavailable(node: &str, status: &str) -> Action {
    let condition = json!({"type": "NetworkUnavailable", "status": status});
    let patch = json!({"status": {"conditions": [condition]}});
    kubectl(format!(
        "patch node {node} --subresource=status --type=strategic -p {patch}"
    ))
}

fn case(reason: &'static str, cause: Vec<Action>, remedy: Vec<Action>) -> Case {
    Case {
        reason,
        cause,
        remedy,
        cleanup: Vec::new(),
        stays: false,
    }
}

impl Case {
    fn cleanup(mut self, cleanup: Vec<Action>) -> Self {
        self.cleanup = cleanup;
        self
    }

    fn stays(mut self) -> Self {
        self.stays = true;
        self
    }
}

/// The reasons of the decision.
fn decisions() -> Vec<Case> {
    let excluded = |more: &str| kubectl(format!("label nodes --all {EXCLUDE_LABEL}{more}"));
    vec![
        case(
            "ForeignLoadBalancerClass",
            vec![
                delete("web"),
                web_with("loadBalancerClass: example.com/other,"),
            ],
            vec![delete("web"), web()],
        ),
        case(
            "NoAdvertisement",
            vec![kubectl(format!(
                "delete bgpadvertisements.metallb.io all -n {NAMESPACE}"
            ))],
            vec![advertisement("")],
        ),
        case(
            "ServiceNotSelected",
            vec![advertisement(
                "serviceSelectors: [{matchLabels: {tier: none}}]",
            )],
            vec![kubectl("label service web tier=none")],
        )
        .cleanup(vec![advertisement("")]),
        case(
            "NodeNotSelected",
            vec![advertisement(
                "nodeSelectors: [{matchLabels: {rack: none}}]",
            )],
            vec![kubectl("label nodes --all rack=none")],
        )
        .cleanup(vec![advertisement("")]),
        case(
            "PeerNotSelected",
            vec![advertisement("peers: [other]")],
            vec![advertisement("peers: [tor]")],
        )
        .cleanup(vec![advertisement("")]),
        case(
            "NoPeer",
            vec![peer(", nodeSelectors: [{matchLabels: {rack: other}}]")],
            vec![peer("")],
        ),
        case(
            "PeerRefused",
            vec![
                Action::Apply(manifest::metallb_peer("").replace("name: tor", "name: second")),
                advertisement("peers: [second]"),
            ],
            vec![
                kubectl(format!("delete bgppeers.metallb.io second -n {NAMESPACE}")),
                advertisement(""),
            ],
        ),
        case(
            "FamilyNotCarried",
            vec![
                other_pool(
                    "six",
                    "metallb.io/v1beta1",
                    "addresses: ['2001:db8:10::/120']",
                ),
                delete("web"),
                web_with("ipFamilyPolicy: SingleStack, ipFamilies: [IPv6],"),
            ],
            vec![peer(", dualStackAddressFamily: true")],
        )
        .cleanup(vec![
            delete("web"),
            delete_pool("six", "metallb.io"),
            web(),
            peer(""),
        ]),
        case(
            "NodeNetworkUnavailable",
            vec![
                network_unavailable("node1", "True"),
                network_unavailable("node2", "True"),
            ],
            vec![
                network_unavailable("node1", "False"),
                network_unavailable("node2", "False"),
            ],
        ),
        case("NodeExcluded", vec![excluded("=")], vec![excluded("-")]).stays(),
        case(
            "NoEndpoints",
            vec![patch("\"selector\":{\"app\":\"none\"}")],
            vec![patch("\"selector\":{\"app\":\"web\"}")],
        ),
        case(
            "NoLocalEndpoints",
            vec![patch(
                "\"externalTrafficPolicy\":\"Local\",\"selector\":{\"app\":\"none\"}",
            )],
            vec![patch("\"selector\":{\"app\":\"web\"}")],
        )
        .cleanup(vec![web()]),
        no_local_endpoints_of_sharer(),
    ]
}

/// Two Services with different Pods share an address, and one has no Pod.
fn no_local_endpoints_of_sharer() -> Case {
    let metadata = "annotations: {metallb.io/allow-shared-ip: us, \
                    ferrolb.io/allow-shared-local: 'true', metallb.io/loadBalancerIPs: 192.0.2.5},";
    let sharer = service("other", metadata, LOCAL).replace("port: 80,", "port: 81,");
    case(
        "NoLocalEndpointsOfSharer",
        vec![
            Action::Apply(service("web", metadata, LOCAL)),
            Action::Apply(sharer.replace("app: web", "app: none")),
            Action::Await("other"),
        ],
        vec![Action::Apply(sharer)],
    )
    .cleanup(vec![delete("other"), delete("web"), web()])
}

/// The reasons of the allocator.
fn allocations() -> Vec<Case> {
    let requested = |address: &str| annotate(&format!("loadBalancerIPs={address}"));
    let released = || annotate("loadBalancerIPs-");
    let kept = |reservations: &str| {
        let spec = format!(
            "addresses: [198.51.100.0/30], autoAssign: false, reservations: [{reservations}]"
        );
        other_pool("kept", "ferrolb.io/v1alpha1", &spec)
    };
    vec![
        case(
            "NoPools",
            vec![delete_pool("pool", "metallb.io")],
            vec![pool(ADDRESSES, "")],
        ),
        case(
            "NoEligiblePool",
            vec![delete("web"), pool(ADDRESSES, ", autoAssign: false"), web()],
            vec![pool(ADDRESSES, "")],
        ),
        case(
            "NoPoolWithFamily",
            vec![
                delete("web"),
                web_with("ipFamilyPolicy: SingleStack, ipFamilies: [IPv6],"),
            ],
            vec![delete("web"), web()],
        ),
        case(
            "PoolExhausted",
            vec![
                delete("web"),
                pool("192.0.2.9/32", ""),
                Action::Apply(service("other", "", CLUSTER)),
                Action::Await("other"),
                web(),
            ],
            vec![delete("other")],
        )
        .cleanup(vec![pool(ADDRESSES, "")]),
        case(
            "UnknownPool",
            vec![annotate("address-pool=none")],
            vec![annotate("address-pool-")],
        ),
        case(
            "AddressNotInPool",
            vec![requested("203.0.113.1")],
            vec![released()],
        ),
        case(
            "AddressInUse",
            vec![
                other("192.0.2.10"),
                Action::Await("other"),
                requested("192.0.2.10"),
            ],
            vec![delete("other")],
        )
        .cleanup(vec![released()]),
        case(
            "BuggyAddress",
            vec![
                pool(ADDRESSES, ", avoidBuggyIPs: true"),
                requested("192.0.2.0"),
            ],
            vec![released()],
        )
        .cleanup(vec![pool(ADDRESSES, "")]),
        case(
            "AddressExcluded",
            vec![
                other_pool(
                    "lan",
                    "metallb.io/v1beta1",
                    "addresses: [10.99.0.0/28], autoAssign: false",
                ),
                requested("10.99.0.1"),
            ],
            vec![released()],
        )
        .cleanup(vec![delete_pool("lan", "metallb.io")]),
        case(
            "AddressReserved",
            vec![
                kept("{namespace: default, name: later, addresses: [198.51.100.1]}"),
                requested("198.51.100.1"),
            ],
            vec![released()],
        ),
        case(
            "ReservationUnavailable",
            vec![
                other("198.51.100.2"),
                Action::Await("other"),
                kept("{namespace: default, name: web, addresses: [198.51.100.2]}"),
                delete("web"),
                web(),
            ],
            vec![delete("other")],
        )
        .cleanup(vec![delete_pool("kept", "ferrolb.io")]),
        case(
            "PoolDoesNotAcceptService",
            vec![
                other_pool(
                    "private",
                    "metallb.io/v1beta1",
                    "addresses: [198.51.100.8/30], serviceAllocation: {namespaces: [other]}",
                ),
                annotate("address-pool=private"),
            ],
            vec![annotate("address-pool-")],
        )
        .cleanup(vec![delete_pool("private", "metallb.io")]),
        case(
            "FamilyMismatch",
            vec![requested("2001:db8:10::1")],
            vec![released()],
        ),
        // A Service that has an address keeps it.
        case(
            "RequestUnparsable",
            new_web("nonsense", ""),
            vec![released()],
        ),
        case(
            "RequestedTwice",
            new_web("192.0.2.4", "loadBalancerIP: 192.0.2.3,"),
            vec![released()],
        )
        .cleanup(vec![patch("\"loadBalancerIP\":null")]),
        case(
            "RequestFamilies",
            new_web("192.0.2.3,192.0.2.4", ""),
            vec![released()],
        ),
    ]
}

/// A Service without an address that requests this one.
fn new_web(address: &str, spec: &str) -> Vec<Action> {
    let metadata = format!("annotations: {{metallb.io/loadBalancerIPs: '{address}'}},");
    let spec = format!("{CLUSTER} {spec}");
    vec![
        delete("web"),
        Action::Apply(service("web", &metadata, &spec)),
    ]
}

/// The other codes, and why a cluster can't be brought into that state here.
const ELSEWHERE: [(&str, &str); 21] = [
    ("Announced", "each case ends with it"),
    (
        "NoAddress",
        "explain names the reason of the allocator instead",
    ),
    ("InvalidAddress", "the API server refuses such a status"),
    (
        "AddressConflict",
        "the allocator moves the younger Service at once: kubernetes/main.rs",
    ),
    (
        "AggregateTooWide",
        "such an advertisement is invalid, unless its pool changes later",
    ),
    (
        "TooManyAggregates",
        "of a pool, not of a Service: tests/aggregates.rs",
    ),
    (
        "CannotDiscard",
        "of a pool, not of a Service: tests/aggregates.rs",
    ),
    (
        "NodeUnknown",
        "only the process of a node without a Node has it",
    ),
    ("NodeLeaving", "of layer 2: tests/layer2/kubernetes.rs"),
    ("NodeCordoned", "of layer 2: tests/layer2/kubernetes.rs"),
    ("NoEligibleNode", "of layer 2: tests/layer2/kubernetes.rs"),
    (
        "NoCommonNode",
        "of layer 2: daemon/src/core/decide/layer2/tests.rs",
    ),
    (
        "ServiceProxyNotReady",
        "only the process knows it: kubernetes/first_announcements.rs",
    ),
    (
        "MetallbSpeaker",
        "only the process knows it: kubernetes/first_announcements.rs",
    ),
    (
        "NoNextHop",
        "every node of the lab has addresses of both families",
    ),
    (
        "PoolFrozen",
        "explain knows no earlier version of an invalid pool",
    ),
    (
        "SharingChanged",
        "why an address was lost: the Service has another reason or address",
    ),
    ("NoClusterIP", "the API server refuses such a Service"),
    (
        "NotEnoughClusterIPs",
        "the API server refuses such a Service",
    ),
    ("ClusterIPFamilies", "the API server refuses such a Service"),
    (
        "PoolUnknown",
        "the Service keeps its address while pools can't be read",
    ),
];

/// The Service is announced, with one family less than it prefers.
const ANNOUNCED_WITH_A_NOTE: &str = "SecondFamilyUnavailable";

#[test]
fn every_reason_code_has_a_case_or_a_reason_why_not() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reasons.md");
    let page = fs::read_to_string(page).expect("docs/reasons.md");
    let tables = page.split("## Which node owns").next().expect("two tables");
    let codes = tables
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let codes: BTreeSet<&str> = codes.collect();
    assert!(codes.len() > 40, "{codes:?}");
    let walked = decisions()
        .into_iter()
        .chain(allocations())
        .map(|case| case.reason);
    let walked: Vec<&str> = walked.collect();
    let elsewhere = ELSEWHERE.iter().map(|(code, _)| *code);
    let all: Vec<&str> = walked
        .into_iter()
        .chain(elsewhere)
        .chain([ANNOUNCED_WITH_A_NOTE])
        .collect();
    let named: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!(named, codes);
    assert_eq!(all.len(), named.len(), "a code is named twice: {all:?}");
}

#[test]
fn each_reason_of_the_decision_is_named_and_resolved() {
    walk("reasons", decisions());
}

#[test]
fn each_reason_of_the_allocator_is_named_and_resolved() {
    walk("allocations", allocations());
}

fn walk(name: &str, cases: Vec<Case>) {
    scenario(name, |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        start(&mut rack)?;
        perform(&rack, &web())?;
        await_announced(&rack)?;
        for case in &cases {
            walk_through(&rack, case).with_context(|| case.reason)?;
        }
        Ok(())
    });
}

fn walk_through(rack: &Rack<'_>, case: &Case) -> Result<()> {
    let address = rack.await_addresses("web")?[0];
    for action in &case.cause {
        perform(rack, action)?;
    }
    eventually(format!("explain names {}", case.reason), TIMEOUT, || {
        let (announced, text) = explain(rack)?;
        let summary = format!("not announced: {}\n", case.reason);
        ensure!(!announced && text.contains(&summary), "{text}");
        Ok(())
    })?;
    let prefix = IpNet::from(address);
    eventually("the router has no route", TIMEOUT, || {
        let mut table = rack.router.table()?;
        table.retain(|route| route.prefix == prefix);
        // Another Service may have the address now.
        let is_taken = rack.cp.service_addresses("default", "other");
        let is_taken = is_taken.is_ok_and(|addresses| addresses.contains(&address));
        ensure!(table.is_empty() || case.stays || is_taken, "{table:?}");
        Ok(())
    })?;
    for action in &case.remedy {
        perform(rack, action)?;
    }
    await_announced(rack).context("after the remedy")?;
    for action in &case.cleanup {
        perform(rack, action)?;
    }
    await_announced(rack).context("after the cleanup")
}

fn perform(rack: &Rack<'_>, action: &Action) -> Result<()> {
    match action {
        Action::Kubectl(words) => {
            let words: Vec<&str> = words.split(' ').collect();
            rack.cp.kubectl(&words).map(drop)
        }
        Action::Apply(manifest) => rack.cp.apply(manifest),
        Action::Await(service) => rack.await_addresses(service).map(drop),
    }
}
