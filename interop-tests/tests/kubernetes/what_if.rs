//! What `ferrolb plan --against live` predicts is what then happens: ten changes, each predicted,
//! made, and compared with the table of the router.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::Rack;
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL, service};
use ferrolb_interop_tests::router::Router;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use ipnet::IpNet;
use serde_json::Value;

use super::explain::{run, start};
use super::{CLUSTER, LOCAL, TIMEOUT, plain_configuration};

/// A prefix and the node that announces it.
type Table = BTreeSet<(IpNet, String)>;

/// A change, and how it happens.
struct Case {
    what: &'static str,
    /// The manifests of the change; empty: none.
    change: String,
    /// Further arguments of the prediction.
    arguments: Vec<&'static str>,
    /// Commands of kubectl that make it happen beside the manifests.
    happens: Vec<String>,
    /// Commands of kubectl that end it. The configuration and the Services are applied again.
    ends: Vec<String>,
}

fn change(what: &'static str, change: String) -> Case {
    Case {
        what,
        change,
        arguments: Vec::new(),
        happens: Vec::new(),
        ends: Vec::new(),
    }
}

fn event(what: &'static str, arguments: Vec<&'static str>, happens: &[&str]) -> Case {
    Case {
        arguments,
        happens: happens.iter().map(|words| (*words).to_owned()).collect(),
        ..change(what, String::new())
    }
}

/// One Service that all nodes announce, and one that those with a Pod announce.
fn services() -> String {
    manifest::join(&[
        &service("cluster", "labels: {tier: web},", CLUSTER),
        &service("local", "", LOCAL),
    ])
}

fn cases() -> Vec<Case> {
    let ad = |spec: &str| manifest::advertisement(spec);
    let one_rack = ", nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node1}}]";
    let drained = format!("label node node1 {EXCLUDE_LABEL}=");
    let kept = format!("label node node1 {EXCLUDE_LABEL}-");
    vec![
        change(
            "a new Service with its endpoints",
            manifest::join(&[
                &service("another", "", CLUSTER),
                &manifest::endpoint_slice("another", "IPv4", "10.98.0.1", "node1"),
            ]),
        ),
        change(
            "a pool that moves the addresses",
            manifest::pool("192.0.2.64/29"),
        ),
        change(
            "fewer Services",
            ad("serviceSelectors: [{matchLabels: {tier: web}}]"),
        ),
        change(
            "fewer nodes",
            ad("nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node2}}]"),
        ),
        change("no peer", ad("peers: [other]")),
        change("aggregates", ad("aggregationLength: 28")),
        change("other attributes", ad("communities: ['64700:120']")),
        change("a peer of one node", manifest::metallb_peer(one_rack)),
        Case {
            ends: vec![kept],
            ..event("a drain", vec!["--drain", "node1"], &[&drained])
        },
        event(
            "a lost router",
            vec!["--lose-peer", "tor"],
            &["delete bgppeers.metallb.io tor -n metallb-system"],
        ),
    ]
}

#[test]
fn ten_predictions_come_true_on_the_router() {
    scenario("whatif", |scratch| {
        let topology = Topology::new(3)?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        start(&mut rack)?;
        for node in &topology.nodes {
            let label = format!("kubernetes.io/hostname={}", node.name);
            rack.cp
                .kubectl(&["label", "node", &node.name, "--overwrite", &label])?;
        }
        rack.cp.apply(&services())?;
        let cases = cases();
        ensure!(cases.len() == 10);
        for case in &cases {
            predict_and_compare(&rack, case).with_context(|| case.what)?;
        }
        Ok(())
    });
}

fn predict_and_compare(rack: &Rack<'_>, case: &Case) -> Result<()> {
    let before = await_usual(rack)?;
    let file = rack.cp.admin_kubeconfig().with_file_name("change.yaml");
    std::fs::write(&file, &case.change)?;
    let path = file.display().to_string();
    let mut arguments = vec!["plan", "--against", "live", "-o", "json"];
    if !case.change.is_empty() {
        arguments.extend(["-f", &path]);
    }
    arguments.extend(&case.arguments);
    let answer = run(rack, &arguments)?;
    let plan: Value =
        serde_json::from_slice(&answer.stdout).with_context(|| format!("{answer:?}"))?;
    let (predicted, withdraws) = predicted(&before, &plan)?;
    ensure!(
        answer.status.code() == Some(if withdraws { 3 } else { 0 }),
        "{answer:?}"
    );
    ensure!(!case.changes_the_table() || predicted != before, "{plan:#}");
    if !case.change.is_empty() {
        rack.cp.apply(&case.change)?;
    }
    kubectl(rack, &case.happens)?;
    eventually("the prediction comes true", TIMEOUT, || {
        let table = table(rack)?;
        ensure!(table == predicted, "{table:?} instead of {predicted:?}");
        Ok(())
    })?;
    if case.what == "other attributes" {
        let routes = rack.router.table()?;
        let all = routes
            .iter()
            .all(|route| route.communities == ["64700:120"]);
        ensure!(all, "{routes:?}");
    }
    kubectl(rack, &case.ends)?;
    rack.cp.apply(&plain_configuration())?;
    for object in ["service/another", "endpointslice/another-ipv4"] {
        rack.cp.kubectl(&["delete", object, "--ignore-not-found"])?;
    }
    Ok(())
}

impl Case {
    fn changes_the_table(&self) -> bool {
        self.what != "other attributes"
    }
}

fn kubectl(rack: &Rack<'_>, commands: &[String]) -> Result<()> {
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        rack.cp.kubectl(&words)?;
    }
    Ok(())
}

/// Waits until both Services are announced by all nodes, with addresses of the usual pool.
fn await_usual(rack: &Rack<'_>) -> Result<Table> {
    eventually("all nodes announce both Services", TIMEOUT, || {
        let mut expected = Table::new();
        for name in ["cluster", "local"] {
            let addresses = rack.cp.service_addresses("default", name)?;
            let address = *addresses.first().context("no address")?;
            let usual: IpNet = "192.0.2.0/28".parse()?;
            ensure!(usual.contains(&address), "{address}");
            let nodes = rack.topology.nodes.iter();
            expected.extend(nodes.map(|node| (IpNet::from(address), node.name.clone())));
        }
        let table = table(rack)?;
        ensure!(table == expected, "{table:?} instead of {expected:?}");
        Ok(table)
    })
}

fn table(rack: &Rack<'_>) -> Result<Table> {
    let routes = rack.router.table()?;
    let named = routes.into_iter().map(|route| {
        let mut nodes = rack.topology.nodes.iter();
        let node = nodes.find(|node| IpAddr::V4(node.ipv4) == route.next_hop);
        let node = node.with_context(|| format!("whose is {route:?}?"))?;
        Ok((route.prefix, node.name.clone()))
    });
    named.collect()
}

/// The table after the predicted changes, and whether something is withdrawn or moves.
fn predicted(before: &Table, plan: &Value) -> Result<(Table, bool)> {
    let mut table = before.clone();
    let mut withdraws = false;
    for route in plan["routes"].as_array().context("routes")? {
        let prefix: IpNet = route["prefix"].as_str().context("prefix")?.parse()?;
        let node = route["node"].as_str().context("node")?.to_owned();
        match route["effect"].as_str().context("effect")? {
            "withdrawn" => {
                withdraws = true;
                ensure!(table.remove(&(prefix, node)), "not announced: {route}");
            }
            "announced" => ensure!(table.insert((prefix, node)), "announced: {route}"),
            effect => ensure!(effect == "changed", "{route}"),
        }
    }
    Ok((table, withdraws))
}
