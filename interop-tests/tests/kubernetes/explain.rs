//! `ferrolb explain` and `ferrolb plan --against live` on a live cluster.

use std::collections::BTreeSet;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::Rack;
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL, NAMESPACE, service};
use ferrolb_interop_tests::process::ferrolb;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;

use super::{CLUSTER, TIMEOUT, plain_configuration};

/// How a cluster gets into the state of a reason, and out of it. Arguments of kubectl, or a
/// manifest.
struct Case {
    reason: &'static str,
    cause: Vec<Action>,
    remedy: Vec<Action>,
}

enum Action {
    Kubectl(Vec<&'static str>),
    Apply(String),
}

fn kubectl(words: &'static str) -> Action {
    Action::Kubectl(words.split(' ').collect())
}

fn advertisement(spec: &str) -> Action {
    Action::Apply(manifest::advertisement(spec))
}

fn case(reason: &'static str, cause: Action, remedy: Action) -> Case {
    Case {
        reason,
        cause: vec![cause],
        remedy: vec![remedy],
    }
}

/// The reasons of BGP, of the selection and of the allocator that one Service can meet.
fn cases() -> Vec<Case> {
    let selector = |app: &'static str| {
        Action::Kubectl(vec!["patch", "service", "web", "--type=merge", "-p", app])
    };
    vec![
        case(
            "NoAdvertisement",
            kubectl("delete bgpadvertisement all -n metallb-system"),
            advertisement(""),
        ),
        case(
            "ServiceNotSelected",
            advertisement("serviceSelectors: [{matchLabels: {tier: none}}]"),
            kubectl("label service web tier=none"),
        ),
        case(
            "NodeNotSelected",
            advertisement("nodeSelectors: [{matchLabels: {rack: none}}]"),
            kubectl("label nodes --all rack=none"),
        ),
        case(
            "PeerNotSelected",
            advertisement("peers: [other]"),
            advertisement("peers: [tor]"),
        ),
        case(
            "NoPeer",
            Action::Apply(manifest::metallb_peer(
                ", nodeSelectors: [{matchLabels: {rack: other}}]",
            )),
            Action::Apply(manifest::metallb_peer("")),
        ),
        case(
            "NoEndpoints",
            selector("{\"spec\":{\"selector\":{\"app\":\"none\"}}}"),
            selector("{\"spec\":{\"selector\":{\"app\":\"web\"}}}"),
        ),
        case(
            "UnknownPool",
            kubectl("annotate service web metallb.io/address-pool=none"),
            kubectl("annotate service web metallb.io/address-pool-"),
        ),
    ]
}

#[test]
fn explain_names_the_cause_and_after_the_remedy_the_service_is_announced() {
    scenario("explain", |scratch| {
        let topology = Topology::new(2)?;
        let rack = Rack::start(scratch, &topology, "ebgp", &plain_configuration())?;
        rack.cp.apply(&service("web", "", CLUSTER))?;
        rack.await_addresses("web")?;
        await_announced(&rack)?;
        for case in cases() {
            for action in &case.cause {
                perform(&rack, action)?;
            }
            await_withheld(&rack, case.reason)?;
            for action in &case.remedy {
                perform(&rack, action)?;
            }
            await_announced(&rack).with_context(|| format!("after {}", case.reason))?;
        }
        an_invalid_object_is_named(&rack)?;
        printed_commands_mend(&rack)?;
        a_drain_is_predicted(&rack)?;
        a_user_without_permissions_learns_which_ones_are_missing(&rack)
    });
}

fn perform(rack: &Rack<'_>, action: &Action) -> Result<()> {
    match action {
        Action::Kubectl(arguments) => rack.cp.kubectl(arguments).map(drop),
        Action::Apply(manifest) => rack.cp.apply(manifest),
    }
}

fn run(rack: &Rack<'_>, arguments: &[&str]) -> Result<Output> {
    let mut command = rack.cp.command(ferrolb()?);
    command.args(arguments).arg("--kubeconfig");
    command.arg(rack.cp.admin_kubeconfig());
    command.output().context("ferrolb")
}

fn explain(rack: &Rack<'_>) -> Result<(bool, String)> {
    let answer = run(rack, &["explain", "svc", "web"])?;
    let errors = String::from_utf8_lossy(&answer.stderr);
    // The lab runs ferrolb's processes without Deployments.
    let unexpected = errors.lines().filter(|line| !line.contains("workloads"));
    let unexpected: Vec<&str> = unexpected.collect();
    ensure!(unexpected.is_empty(), "{unexpected:?}");
    let text = String::from_utf8(answer.stdout)?;
    Ok((answer.status.success(), text))
}

fn await_withheld(rack: &Rack<'_>, reason: &str) -> Result<()> {
    await_explained(rack, reason)?;
    rack.await_routes(&BTreeSet::new())
}

fn await_explained(rack: &Rack<'_>, reason: &str) -> Result<()> {
    eventually(format!("explain names {reason}"), TIMEOUT, || {
        let (announced, text) = explain(rack)?;
        ensure!(
            !announced && text.contains(&format!("not announced: {reason}\n")),
            "{text}"
        );
        Ok(())
    })
}

fn await_announced(rack: &Rack<'_>) -> Result<()> {
    eventually("the service is announced", TIMEOUT, || {
        let (announced, text) = explain(rack)?;
        ensure!(
            announced && text.contains("announced by BGP from 2 nodes"),
            "{text}"
        );
        Ok(())
    })?;
    let address = rack.await_addresses("web")?[0];
    rack.await_routes(&rack.routes(&format!("{address}/32"), &[0, 1])?)
}

/// The daemons use the last valid version of an invalid object.
fn an_invalid_object_is_named(rack: &Rack<'_>) -> Result<()> {
    rack.cp
        .apply(&manifest::advertisement("aggregationLength: 24"))?;
    let (announced, text) = explain(rack)?;
    ensure!(
        !announced && text.contains("BGPAdvertisement metallb-system/all is invalid"),
        "{text}"
    );
    let address = rack.await_addresses("web")?[0];
    rack.await_routes(&rack.routes(&format!("{address}/32"), &[0, 1])?)?;
    rack.cp.apply(&manifest::advertisement(""))?;
    await_announced(rack)
}

/// The commands that explain prints for excluded nodes and for a Service of another type.
fn printed_commands_mend(rack: &Rack<'_>) -> Result<()> {
    let label = format!("{EXCLUDE_LABEL}=");
    rack.cp.kubectl(&["label", "nodes", "--all", &label])?;
    // The drain keeps the last path.
    await_explained(rack, "NodeExcluded")?;
    let (_, text) = explain(rack)?;
    let command = printed_command(&text)?;
    ensure!(command.ends_with(&format!("{EXCLUDE_LABEL}-")), "{command}");
    for name in rack.topology.nodes.iter().map(|node| &node.name) {
        rack.cp
            .kubectl(&["label", "node", name, &format!("{EXCLUDE_LABEL}-")])?;
    }
    await_announced(rack)?;
    let other = "{\"spec\":{\"type\":\"ClusterIP\"}}";
    rack.cp.kubectl(&["patch", "service", "web", "-p", other])?;
    let (announced, text) = explain(rack)?;
    ensure!(
        !announced && text.contains("its type is not LoadBalancer"),
        "{text}"
    );
    let words = printed_command(&text)?;
    let words: Vec<String> = words
        .split(' ')
        .map(|word| word.replace('\'', ""))
        .collect();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    rack.cp.kubectl(&words)?;
    await_announced(rack)
}

fn printed_command(text: &str) -> Result<String> {
    let mut commands = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("$ "));
    Ok(commands.next().context("no command")?.to_owned())
}

/// What `plan` predicts for the exclusion of a node is what then happens.
fn a_drain_is_predicted(rack: &Rack<'_>) -> Result<()> {
    let name = rack.topology.nodes[0].name.as_str();
    let arguments = ["plan", "--against", "live", "--drain", name, "-o", "json"];
    let answer = run(rack, &arguments)?;
    ensure!(answer.status.code() == Some(3), "{answer:?}");
    let plan: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    let withdrawn = plan["routes"].as_array().context("routes")?;
    ensure!(withdrawn.len() == 1, "{plan:#}");
    ensure!(
        withdrawn[0]["effect"] == "withdrawn" && withdrawn[0]["node"] == name,
        "{plan:#}"
    );
    ensure!(plan["lost"] == serde_json::json!([]), "{plan:#}");
    ensure!(plan["flows"][0]["movedAtLeast"] == 50, "{plan:#}");
    let label = format!("{EXCLUDE_LABEL}=");
    rack.cp.kubectl(&["label", "node", name, &label])?;
    let address = rack.await_addresses("web")?[0];
    rack.await_routes(&rack.routes(&format!("{address}/32"), &[1])?)?;
    let label = format!("{EXCLUDE_LABEL}-");
    rack.cp.kubectl(&["label", "node", name, &label])?;
    await_announced(rack)
}

fn a_user_without_permissions_learns_which_ones_are_missing(rack: &Rack<'_>) -> Result<()> {
    rack.cp.kubectl(&["create", "serviceaccount", "viewer"])?;
    let create = "create clusterrole viewer --verb=list \
                  --resource=services,nodes,namespaces,endpointslices.discovery.k8s.io";
    rack.cp
        .kubectl(&create.split_whitespace().collect::<Vec<_>>())?;
    let bind = "create clusterrolebinding viewer --clusterrole=viewer \
                --serviceaccount=default:viewer";
    rack.cp
        .kubectl(&bind.split_whitespace().collect::<Vec<_>>())?;
    let kubeconfig = rack.cp.service_account_kubeconfig("default", "viewer")?;
    let mut command = rack.cp.command(ferrolb()?);
    command.args(["explain", "svc", "web", "--kubeconfig"]);
    let answer = command.arg(kubeconfig).output()?;
    let errors = String::from_utf8_lossy(&answer.stderr);
    for expected in [
        "can't see IPAddressPool:",
        "cannot list resource \"bgppeers\"",
    ] {
        ensure!(errors.contains(expected), "{errors}");
    }
    ensure!(errors.contains(NAMESPACE), "{errors}");
    let text = String::from_utf8(answer.stdout)?;
    ensure!(
        text.contains("type LoadBalancer") && text.contains("endpoints"),
        "{text}"
    );
    Ok(())
}
