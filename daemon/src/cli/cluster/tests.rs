//! `ferrolb status` for each kind of trouble: the cluster of `tests/status` with one change.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;
use jiff::Timestamp;
use serde_json::Value;

use super::read::Seen;
use super::status;
use super::{Answer, InsteadArgs, Invocation, peers, pools};
use crate::cli::output::Style;
use crate::core::api::metallb_pod::MetallbPod;
use crate::core::config::{CONFIG_NAMESPACE, ConfigPlaces};
use crate::core::index::Index;
use crate::core::overview::observed::{Pod, Sessions, Workload};
use crate::core::overview::{Code, Gravity, Observed, Overview, of_cluster, of_manifests};
use crate::core::owners::owners;
use crate::core::plan::fill;
use crate::runtime::source::manifests::{Loader, changes};

/// Texts in the two files, and what replaces them.
type Edits<'a> = &'a [(&'a str, &'a str)];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status")
}

/// A file with each edit made, each of which must fit.
fn edited(name: &str, edits: Edits<'_>) -> String {
    let mut text = std::fs::read_to_string(folder().join(name)).expect("a file");
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    text
}

fn index(edits: Edits<'_>) -> Index {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("objects.yaml");
    std::fs::write(&file, edited("objects.yaml", edits)).expect("written");
    let namespaces = [CONFIG_NAMESPACE.to_owned()];
    let manifests = Loader::new(vec![file], ConfigPlaces::of(&namespaces)).load();
    assert!(manifests.errors.is_empty(), "{:?}", manifests.errors);
    fill(
        Index::for_prediction(),
        changes(&manifests.objects, &namespaces),
    )
}

fn observed(edits: Edits<'_>) -> Observed {
    let text = edited("observed.yaml", edits);
    let documents = text.split("\n---\n");
    let objects = documents.map(|text| serde_saphyr::from_str::<Value>(text).expect("YAML"));
    let objects: Vec<Value> = objects.collect();
    let of = |kinds: &[&str]| {
        let of_kind = objects.iter().filter(|object| {
            let kind = object["kind"].as_str().unwrap_or_default();
            kinds.contains(&kind)
        });
        of_kind.cloned().collect::<Vec<Value>>()
    };
    let workloads = of(&["Deployment", "DaemonSet"]);
    let pods = of(&["Pod"]);
    let is_metallbs = |pod: &&Value| MetallbPod::of(pod).is_some();
    let own_pods = pods.iter().filter(|pod| !is_metallbs(pod));
    Observed {
        workloads: Some(workloads.iter().map(Workload::of).collect()),
        pods: Some(own_pods.filter_map(Pod::of).collect()),
        metallb: Some(pods.iter().filter_map(MetallbPod::of).collect()),
        sessions: Sessions::of(&of(&["BGPSession"])),
        owners: owners(&of(&["Event"]), &of(&["ServiceL2Status"])),
    }
}

fn now() -> Timestamp {
    "2026-11-29T12:00:00Z".parse().expect("a time")
}

fn overview(objects: Edits<'_>, of_ferrolb: Edits<'_>) -> Overview {
    of_cluster(&index(objects), &observed(of_ferrolb), now())
}

fn page(overview: &Overview) -> String {
    status::text(overview, true, Style::plain()).expect("a text")
}

fn codes(overview: &Overview) -> BTreeSet<&'static str> {
    let findings = overview.findings.iter();
    findings.map(|finding| finding.code.name()).collect()
}

#[test]
fn a_cluster_in_which_nothing_is_wrong() {
    let overview = overview(&[], &[]);
    assert!(!overview.is_wrong());
    insta::assert_snapshot!("healthy", page(&overview));
    let json = serde_json::to_string_pretty(&overview).expect("JSON");
    assert!(!json.contains("hunter2"), "a password: {json}");
    insta::assert_snapshot!("healthy-json", json);
}

/// The place in the second file where Pods of MetalLB are inserted.
const FIRST_SESSION: &str = "apiVersion: ferrolb.io/v1alpha1
kind: BGPSession
metadata: {name: node-a.tor}";
/// MetalLB's controller as its chart installs it.
const CONTROLLER: &str = "apiVersion: v1
kind: Pod
metadata:
  name: metallb-controller-x
  namespace: metallb
  labels: {app.kubernetes.io/name: metallb, app.kubernetes.io/component: controller}
spec: {nodeName: node-a, containers: [{args: [--port=7472]}]}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPSession
metadata: {name: node-a.tor}";
/// MetalLB's speaker as its manifest installs it.
const SPEAKER: &str = "apiVersion: v1
kind: Pod
metadata: {name: speaker-x, namespace: metallb-system, labels: {app: metallb, component: speaker}}
spec: {nodeName: node-b, containers: [{args: [--port=7472]}]}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPSession
metadata: {name: node-a.tor}";

/// What is changed in the objects and in what is observed, and the codes of the findings.
const TROUBLES: &[(&str, Edits<'static>, Edits<'static>, &[&str])] = &[
    (
        "a session is down",
        &[],
        &[(
            "bgp: Established\n  since: \"2026-11-29T10:00:00Z\"\n  prefixesSent: 2\n  bfd: Up",
            "bgp: Active\n  since: \"2026-11-29T11:59:00Z\"\n  \
             lastError: {reason: hold-timer-expired, message: \"hold timer expired\"}",
        )],
        &["SessionDown"],
    ),
    (
        "all sessions are down, so services are lost",
        &[],
        &[
            ("bgp: Established", "bgp: Idle"),
            ("bgp: Established", "bgp: Idle"),
        ],
        &["NoSessionForService", "SessionDown"],
    ),
    (
        "a node publishes no session",
        &[],
        &[("node: node-b\n  peer: tor", "node: node-c\n  peer: tor")],
        &["SessionMissing"],
    ),
    (
        "a router has fewer routes than it should have",
        &[],
        &[("prefixesSent: 2", "prefixesSent: 1")],
        &["RoutesDiffer"],
    ),
    (
        "a router has as many routes, but others",
        &[],
        &[(
            "prefixesSent: 2",
            "prefixesSent: 2\n  digest: 00000000000000aa",
        )],
        &["RoutesDiffer"],
    ),
    (
        "a pool is exhausted, and a service waits",
        &[
            ("192.0.2.0/28", "192.0.2.1-192.0.2.2"),
            (
                "ports: [{port: 25}]}\nstatus: {loadBalancer: {ingress: [{ip: 198.51.100.1}]}}",
                "ports: [{port: 25}]}",
            ),
            ("  annotations: {metallb.io/address-pool: lan}\n", ""),
        ],
        &[],
        &["NoAddress", "PoolExhausted"],
    ),
    (
        "a pool is nearly exhausted",
        &[
            ("192.0.2.0/28", "192.0.2.1-192.0.2.3"),
            ("2026-11-09T12:00:00Z", "2026-11-28T12:00:00Z"),
        ],
        &[],
        &["PoolNearlyExhausted"],
    ),
    (
        "an object is invalid",
        &[(
            "name: lan, namespace: metallb-system}\nspec: {addresses: [198.51.100.0/29]",
            "name: lan, namespace: metallb-system}\nspec: {addresses: [198.51.100.0/33]",
        )],
        &[],
        &["InvalidObject", "NotAnnounced", "Notice"],
    ),
    (
        "a service is selected by no advertisement",
        &[(
            "spec: {ipAddressPools: [public]}",
            "spec: {ipAddressPools: [public], serviceSelectors: [{matchLabels: {a: b}}]}",
        )],
        &[],
        &["NotAnnounced", "RoutesDiffer"],
    ),
    (
        "a service has no endpoint",
        &[(
            "nodeName: node-a, conditions: {ready: true}",
            "nodeName: node-a, conditions: {ready: false}",
        )],
        &[],
        &["NoEndpoints", "RoutesDiffer"],
    ),
    (
        "a node has no Pod, another one has one that is not ready",
        &[],
        &[
            (
                "nodeName: node-b, containers: [{image: \"ferrolb:1.0\", args: [run, --role=ann",
                "nodeName: node-x, containers: [{image: \"ferrolb:1.0\", args: [run, --role=ann",
            ),
            (
                "status: {phase: Running, conditions: [{type: Ready, status: \"True\"}]}",
                "status: {phase: Running, containerStatuses: [{state: {waiting: {reason: \
                 CrashLoopBackOff, message: back-off}}}], \
                 conditions: [{type: Ready, status: \"False\"}]}",
            ),
        ],
        &["DaemonMissing", "PodNotReady"],
    ),
    (
        "a node is not Ready: its sessions are no findings of their own",
        &[("status: \"True\", reason: of node-b", "status: \"Unknown\"")],
        &[(
            "bgp: Established\n  since: \"2026-11-29T10:00:00Z\"\n  prefixesSent: 2\n  bfd: Up",
            "bgp: Unknown",
        )],
        &["NodeNotReady"],
    ),
    (
        "MetalLB's controller runs in another namespace",
        &[],
        &[(FIRST_SESSION, CONTROLLER)],
        &["MetallbRuns"],
    ),
    (
        "MetalLB's speaker has the port of an announcer, whose Pod is not scheduled",
        &[],
        &[
            (FIRST_SESSION, SPEAKER),
            (
                "spec: {nodeName: node-b, containers: [{image: \"ferrolb:1.0\", args: [run, \
                 --role=announcer]}]}\nstatus: {phase: Running, conditions: [{type: Ready, status: \
                 \"True\"}]}",
                "spec: {containers: [{image: \"ferrolb:1.0\", args: [run, --role=announcer]}]}\n\
                 status: {phase: Pending, conditions: [{type: PodScheduled, status: \"False\", \
                 reason: Unschedulable, message: \"1 node(s) didn't have free ports\"}]}",
            ),
        ],
        &["MetallbRuns", "PodNotReady"],
    ),
    (
        "MetalLB's speaker runs in another namespace",
        &[],
        &[
            (FIRST_SESSION, SPEAKER),
            ("namespace: metallb-system, labels", "namespace: lb, labels"),
        ],
        &["MetallbRuns"],
    ),
    (
        "a rollout has stopped",
        &[],
        &[(
            "nodeName: node-b, containers: [{image: \"ferrolb:1.0\"",
            "nodeName: node-b, containers: [{image: \"ferrolb:1.1\"",
        )],
        &["VersionsDiffer"],
    ),
    (
        "layer 2 is not installed",
        &[],
        &[(
            "image: \"ferrolb:1.0\", args: [run, --role=layer2]",
            "image: \"ferrolb:1.0\", args: [run, --role=announcer]",
        )],
        &["NotInstalled"],
    ),
    (
        "an annotation has no effect",
        &[(
            "annotations: {metallb.io/address-pool: lan}",
            "annotations: {metallb.io/address-pool: lan, metallb.io/adress-pool: lan}",
        )],
        &[],
        &["Notice"],
    ),
];

#[test]
fn each_trouble_has_its_finding_and_no_others() {
    let mut pages = String::new();
    for (what, objects, of_ferrolb, expected) in TROUBLES {
        let overview = overview(objects, of_ferrolb);
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        let page = page(&overview);
        assert_eq!(codes(&overview), expected, "{what}: {page}");
        let findings = page.split("\nComponents\n").next().unwrap_or_default();
        assert!(!page.contains("hunter2"), "{page}");
        pages += &format!("# {what}\n\n{findings}\n");
    }
    insta::assert_snapshot!("troubles", pages);
}

#[test]
fn a_cluster_without_ferrolb_and_one_without_its_kinds_are_named() {
    let objects = index(&[]);
    let mut nothing = observed(&[]);
    nothing.workloads = Some(Vec::new());
    nothing.pods = Some(Vec::new());
    nothing.sessions = Sessions::NoKind;
    let overview = of_cluster(&objects, &nothing, now());
    let expected = ["NotInstalled", "SessionsUnknown"];
    assert_eq!(codes(&overview), BTreeSet::from(expected));
    assert!(overview.is_wrong());
}

#[test]
fn metallb_is_no_finding_if_it_serves_another_class_or_ferrolb_is_not_installed() {
    let other_class = [(FIRST_SESSION, CONTROLLER), ("--port=7472", "--lb-class=x")];
    assert_eq!(codes(&overview(&[], &other_class)), BTreeSet::new());
    let mut alone = observed(&[(FIRST_SESSION, SPEAKER)]);
    alone.workloads = Some(Vec::new());
    alone.pods = Some(Vec::new());
    let overview = of_cluster(&index(&[]), &alone, now());
    assert_eq!(codes(&overview), BTreeSet::from(["NotInstalled"]));
}

#[test]
fn what_can_not_be_read_is_no_finding() {
    let overview = of_cluster(&index(&[]), &Observed::default(), now());
    assert_eq!(codes(&overview), BTreeSet::new());
    assert_eq!(overview.sessions[0].state, "Unknown");
    assert_eq!(overview.layer2[0].owner, None);
}

#[test]
fn manifests_have_addresses_and_neither_sessions_nor_pods() {
    let unallocated = ("status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}\n", "");
    let overview = of_manifests(&mut index(&[unallocated]), now());
    assert_eq!(codes(&overview), BTreeSet::new());
    assert_eq!(overview.services.announced, 3);
    assert_eq!(overview.sessions.len(), 2);
    assert_eq!(overview.sessions[0].prefixes_expected, 2);
}

#[test]
fn the_digest_decides_whether_a_router_has_the_expected_routes() {
    let digest = overview(&[], &[]).sessions[0].digest_expected.clone();
    let with_digest = format!("prefixesSent: 2\n  digest: \"{digest}\"");
    let same = overview(&[], &[("prefixesSent: 2", with_digest.as_str())]);
    assert_eq!(same.sessions[0].has_expected_routes(), Some(true));
    // Another community changes it, on every node alike.
    let tagged = "spec: {ipAddressPools: [public], communities: ['64700:1']}";
    let other = overview(&[("spec: {ipAddressPools: [public]}", tagged)], &[]);
    assert_ne!(other.sessions[0].digest_expected, digest);
    assert_eq!(
        other.sessions[0].digest_expected,
        other.sessions[1].digest_expected
    );
}

#[test]
fn days_left_follow_from_the_services_of_the_last_month() {
    // Two services in 20 days, and 14 of 16 addresses are free.
    let overview = overview(&[], &[]);
    let public = overview.pools.iter().find(|pool| pool.pool == "public");
    let public = public.expect("a pool");
    assert!((public.per_day - 0.1).abs() < 1e-9, "{public:?}");
    assert_eq!((public.free, public.days_left), (14, Some(140)));
    // Those that were all created within a day are no rate of a minute.
    let new = [
        ("2026-11-09T12:00:00Z", "2026-11-29T11:59:00Z"),
        ("2026-11-27T12:00:00Z", "2026-11-29T11:59:00Z"),
    ];
    let overview = self::overview(&new, &[]);
    let public = overview.pools.iter().find(|pool| pool.pool == "public");
    assert_eq!(public.expect("a pool").days_left, Some(7));
}

#[test]
fn the_tables_of_peers_and_pools() {
    let active = ("bgp: Established", "bgp: Active");
    let overview = overview(&[], &[active, ("prefixesSent: 2", "prefixesSent: 0")]);
    let seen = Seen {
        index: index(&[]),
        overview,
        now: now(),
        live: true,
    };
    let lines = peers::Peers.lines(&seen).expect("lines");
    let texts: Vec<String> = lines
        .iter()
        .map(|(key, line)| format!("{key}: {}", line.text))
        .collect();
    assert_eq!(
        texts,
        [
            "node-a → tor 10.0.0.1: Active  0 of 2 routes",
            "node-b → tor 10.0.0.1: Established  2 routes",
        ]
    );
    insta::assert_snapshot!("peers", peers::text(&seen, Style::plain()));
    insta::assert_snapshot!("pools", pools::text(&seen.overview.pools));
}

/// docs/observe.md lists every code.
#[test]
fn the_documentation_has_every_code_with_its_meaning() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/observe.md");
    let docs = std::fs::read_to_string(docs).expect("the document");
    for (name, gravity, meaning) in Code::ALL {
        let gravity = match gravity {
            Gravity::Wrong => "wrong",
            Gravity::Warning => "warning",
        };
        let row = format!("| `{name}` | {gravity} | {} |", meaning.trim());
        assert!(docs.contains(&row), "add this row:\n{row}");
    }
}

#[derive(Parser)]
struct Instead {
    #[command(flatten)]
    instead: InsteadArgs,
}

#[test]
fn the_daemon_is_asked_unless_a_cluster_or_manifests_or_kubectl_are_meant() {
    let is_meant = |arguments: &[&str], program: &str, socket: bool| {
        let arguments = [&["program"], arguments].concat();
        let parsed = Instead::try_parse_from(arguments).expect("valid");
        let program = OsString::from(program);
        let invocation = Invocation::of(Some(&program));
        parsed.instead.is_meant(invocation, socket)
    };
    assert!(!is_meant(&[], "/usr/bin/ferrolb", false));
    assert!(is_meant(&[], "/opt/krew/bin/kubectl-ferrolb", false));
    assert!(!is_meant(&[], "kubectl-ferrolb", true), "a socket");
    for given in [["--kubeconfig", "a"], ["--context", "a"], ["-f", "a"]] {
        assert!(is_meant(&given, "ferrolb", false), "{given:?}");
    }
}
