//! `ferrolb explain` and `ferrolb plan --against live` on a live cluster, what the daemons answer
//! about their own decisions, and the condition of Services that no node announces.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ALLOCATOR_USER, Metallb, Rack};
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL, NAMESPACE, service};
use ferrolb_interop_tests::process::ferrolb;
use ferrolb_interop_tests::router::Router;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::{CLUSTER, TIMEOUT, plain_configuration};

/// The decision lasts for 10 s, and then it is written.
const SETTLED: Duration = Duration::from_secs(40);

#[test]
fn explain_and_plan_read_a_live_cluster() {
    scenario("explain", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        start_announcing(&mut rack)?;
        an_invalid_object_is_named(&rack)?;
        printed_commands_mend(&rack)?;
        a_drain_is_predicted(&rack)?;
        the_arguments_of_the_workloads_are_read_from_the_cluster(&rack)?;
        a_user_without_permissions_learns_which_ones_are_missing(&rack)
    });
}

/// Starts ferrolb, with a Service that it announces.
fn start_announcing(rack: &mut Rack<'_>) -> Result<()> {
    start(rack)?;
    rack.cp.apply(&service("web", "", CLUSTER))?;
    rack.await_addresses("web")?;
    await_announced(rack)
}

/// With both groups of CRDs: BGPSessions are objects.
pub(super) fn start(rack: &mut Rack<'_>) -> Result<()> {
    rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
    rack.cp.install_ferrolb_crds()?;
    rack.cp.apply(&plain_configuration())?;
    rack.start_ferrolb()?;
    for process in rack.allocators.iter_mut().chain(&mut rack.announcers) {
        process.await_ready()?;
    }
    Ok(())
}

#[test]
fn explain_shows_sessions_and_daemons_answer_from_their_own_decisions() {
    scenario("why", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        start_announcing(&mut rack)?;
        a_daemon_explains_its_own_decision(&rack)?;
        a_service_that_no_node_announces_has_a_condition_and_one_event(&mut rack)?;
        a_lost_session_is_the_first_failing_step(&mut rack)
    });
}

fn a_daemon_explains_its_own_decision(rack: &Rack<'_>) -> Result<()> {
    let announcer = &rack.announcers[0];
    let text = announcer.ask(&["explain", "svc", "web"])?;
    for expected in [
        "Service default/web on node1: 1 address announced by BGP from this node",
        "session        node1 → tor: Established for",
    ] {
        ensure!(text.contains(expected), "{text}");
    }
    ensure!(announcer.metric("ferrolb_services_announced{protocol=\"bgp\"}")? == 1.0);
    let unknown = announcer.ask(&["explain", "svc", "default/wep"]);
    let error = format!("{:#}", unknown.err().context("no such Service")?);
    ensure!(error.contains("did you mean default/web?"), "{error}");
    Ok(())
}

/// The condition of the Service, if it has one.
fn condition(rack: &Rack<'_>) -> Result<Value> {
    let service = rack.cp.get(&["service", "web", "-n", "default"])?;
    let conditions = service["status"]["conditions"].as_array().cloned();
    let mut conditions = conditions.unwrap_or_default().into_iter();
    let found = conditions.find(|one| one["type"] == "ferrolb.io/Announced");
    Ok(found.unwrap_or_default())
}

fn await_condition(rack: &Rack<'_>, status: &str, reason: &str) -> Result<Value> {
    eventually(
        format!("the condition is {status} {reason}"),
        SETTLED,
        || {
            let condition = condition(rack)?;
            ensure!(
                condition["status"] == status && condition["reason"] == reason,
                "{condition}"
            );
            Ok(condition)
        },
    )
}

/// The number of Events about the Service with a reason.
fn events(rack: &Rack<'_>, reason: &str) -> Result<usize> {
    events_about(rack, "web", reason)
}

fn events_about(rack: &Rack<'_>, service: &str, reason: &str) -> Result<usize> {
    let selector = format!("--field-selector=reason={reason},involvedObject.name={service}");
    let list = rack.cp.get(&["events", "-n", "default", &selector])?;
    Ok(list["items"].as_array().context("items")?.len())
}

fn a_service_that_no_node_announces_has_a_condition_and_one_event(
    rack: &mut Rack<'_>,
) -> Result<()> {
    ensure!(condition(rack)? == Value::Null, "announced from the start");
    let other = json!({"status": {"conditions": [{
        "type": "example.com/Other", "status": "True", "reason": "Other", "message": "of another",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    let other = other.to_string();
    let patch = [
        "patch",
        "service",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        &other,
    ];
    rack.cp.kubectl(&patch)?;
    let selector = |app: &str| {
        let patch = json!({"spec": {"selector": {"app": app}}}).to_string();
        rack.cp
            .kubectl(&["patch", "service", "web", "--type=merge", "-p", &patch])
    };
    selector("none")?;
    let first = await_condition(rack, "False", "NoEndpoints")?;
    let message = first["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("ferrolb explain svc default/web"),
        "{first}"
    );
    let leader = &rack.allocators[0];
    let series = "ferrolb_services_unannounced{reason=\"NoEndpoints\"}";
    ensure!(leader.metric(series)? == 1.0);
    let withheld = "ferrolb_services_withheld{reason=\"NoEndpoints\"}";
    ensure!(rack.announcers[0].metric(withheld)? == 1.0);
    eventually("one Event", TIMEOUT, || {
        let count = events(rack, "NotAnnounced")?;
        ensure!(count == 1, "{count}");
        Ok(())
    })?;

    a_new_leader_repeats_nothing(rack, &first)
}

fn a_new_leader_repeats_nothing(rack: &mut Rack<'_>, first: &Value) -> Result<()> {
    let series = "ferrolb_services_unannounced{reason=\"NoEndpoints\"}";
    let metadata = "annotations: {metallb.io/loadBalancerIPs: 203.0.113.1},";
    rack.cp.apply(&service("refused", metadata, CLUSTER))?;
    let refused = |rack: &Rack<'_>| events_about(rack, "refused", "AllocationFailed");
    eventually("one Event", TIMEOUT, || {
        ensure!(refused(rack)? == 1);
        Ok(())
    })?;
    let writes = || condition_writes(rack);
    let before = writes()?;
    rack.allocators[0].process().terminate(TIMEOUT)?;
    rack.allocators[0].start_again()?;
    rack.allocators[0].await_ready()?;
    eventually("the new leader sees the cause", SETTLED, || {
        ensure!(rack.allocators[0].metric(series)? == 1.0);
        Ok(())
    })?;
    let selector = |app: &str| {
        let patch = json!({"spec": {"selector": {"app": app}}}).to_string();
        rack.cp
            .kubectl(&["patch", "service", "web", "--type=merge", "-p", &patch])
    };
    ensure!(condition(rack)? == *first, "{first}");
    selector("web")?;
    await_announced(rack)?;
    await_condition(rack, "True", "Announced")?;
    ensure!(condition_writes(rack)? == before + 1, "{before}");
    ensure!(events(rack, "NotAnnounced")? == 1);
    ensure!(refused(rack)? == 1 && events(rack, "IPAllocated")? == 1);
    eventually("the Event about the return", TIMEOUT, || {
        ensure!(events(rack, "AnnouncedAgain")? == 1);
        Ok(())
    })?;
    let service = rack.cp.get(&["service", "web", "-n", "default"])?;
    let conditions = service["status"]["conditions"]
        .as_array()
        .context("conditions")?;
    ensure!(
        conditions.len() == 2,
        "the condition of another program stays: {service}"
    );
    Ok(())
}

/// The accepted writes of the allocator to the status of Services.
fn condition_writes(rack: &Rack<'_>) -> Result<usize> {
    let writes = rack.cp.writes()?;
    let denied = writes.iter().find(|write| write.status == 403);
    ensure!(denied.is_none(), "{denied:?}");
    let of_allocator = writes.iter().filter(|write| {
        write.user == ALLOCATOR_USER && write.resource == "services/status" && write.status < 300
    });
    Ok(of_allocator.count())
}

/// Without the router, each node decides as before, and no router has the route.
fn a_lost_session_is_the_first_failing_step(rack: &mut Rack<'_>) -> Result<()> {
    let (_, text) = explain(rack)?;
    ensure!(text.contains("node1, node2 → tor: Established"), "{text}");
    rack.router.stop()?;
    eventually("explain names the session", TIMEOUT, || {
        let (announced, text) = explain(rack)?;
        ensure!(
            !announced && text.contains("not announced: SessionDown\n"),
            "{text}"
        );
        ensure!(text.contains("-- /ferrolb peer tor"), "{text}");
        Ok(())
    })?;
    let node = run(rack, &["explain", "node", "node1"])?;
    ensure!(node.status.code() == Some(1), "{node:?}");
    let peer = run(rack, &["explain", "peer", "tor", "-o", "json"])?;
    let peer: Value = serde_json::from_slice(&peer.stdout)?;
    ensure!(
        peer["announced"] == false && peer["steps"][0]["reason"] == "SessionDown",
        "{peer:#}"
    );
    let own = rack.announcers[0].ask(&["explain", "svc", "web"]);
    let own = format!("{:#}", own.err().context("it is not announced")?);
    ensure!(own.contains("SessionDown"), "{own}");

    // No process observes the sessions of a node that is not Ready.
    let conditions = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let conditions = conditions.to_string();
    let patch = [
        "patch",
        "node",
        "node1",
        "--subresource=status",
        "--type=strategic",
        "-p",
    ];
    rack.cp.kubectl(&[&patch[..], &[&conditions]].concat())?;
    eventually("an unknown session is said as such", TIMEOUT, || {
        let (_, text) = explain(rack)?;
        ensure!(
            text.contains("node1 → tor: SessionUnknown: Unknown since"),
            "{text}"
        );
        Ok(())
    })?;
    rack.cp.kubectl(&["delete", "bgpsession", "node2.tor"])?;
    let (_, text) = explain(rack)?;
    ensure!(
        text.contains("node2 → tor: SessionMissing: there is no BGPSession"),
        "{text}"
    );
    Ok(())
}

/// `plan` and `explain` serve the class that ferrolb's workloads serve. Objects only: nothing runs
/// them.
fn the_arguments_of_the_workloads_are_read_from_the_cluster(rack: &Rack<'_>) -> Result<()> {
    let classed = service("classed", "", "loadBalancerClass: example.com/lab,");
    rack.cp.apply(&classed)?;
    let gained = |arguments: &[&str]| -> Result<Value> {
        let answer = run(
            rack,
            &[&["plan", "--against", "live", "-o", "json"], arguments].concat(),
        )?;
        serde_json::from_slice(&answer.stdout).with_context(|| format!("{answer:?}"))
    };
    // Something must change for the plan to have an address: the same Service with another port.
    let file = rack.cp.admin_kubeconfig().with_file_name("classed.yaml");
    std::fs::write(
        &file,
        service("second", "", "loadBalancerClass: example.com/lab,"),
    )?;
    let file = file.display().to_string();
    let change = ["-f", file.as_str()];
    ensure!(
        gained(&change)?["addresses"] == json!([]),
        "not the class of a daemon"
    );
    let given = gained(&[&change[..], &["--lb-class=example.com/lab"]].concat())?;
    ensure!(
        given["addresses"][0]["service"] == "default/second",
        "{given:#}"
    );
    rack.cp.apply(&workload("Deployment", "allocator"))?;
    rack.cp.apply(&workload("DaemonSet", "announcer"))?;
    let read = gained(&change)?;
    ensure!(
        read["addresses"][0]["service"] == "default/second",
        "{read:#}"
    );
    let (announced, text) = explain(rack)?;
    ensure!(
        !announced && text.contains("ForeignLoadBalancerClass"),
        "{text}"
    );
    for object in [
        "deployment/ferrolb-allocator",
        "daemonset/ferrolb-announcer",
    ] {
        rack.cp.kubectl(&["delete", object, "-n", NAMESPACE])?;
    }
    rack.cp.kubectl(&["delete", "service", "classed"])?;
    await_announced(rack)
}

fn workload(kind: &str, component: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: {kind}
metadata:
  name: ferrolb-{component}
  namespace: {NAMESPACE}
  labels: {{app.kubernetes.io/name: ferrolb}}
spec:
  selector: {{matchLabels: {{app: none}}}}
  template:
    metadata: {{labels: {{app: none}}}}
    spec:
      nodeSelector: {{no: where}}
      containers: [{{name: main, image: none, args: [run, --lb-class=example.com/lab]}}]
"
    )
}

pub(super) fn run(rack: &Rack<'_>, arguments: &[&str]) -> Result<Output> {
    let mut command = rack.cp.command(ferrolb()?);
    command.args(arguments).arg("--kubeconfig");
    command.arg(rack.cp.admin_kubeconfig());
    command.output().context("ferrolb")
}

pub(super) fn explain(rack: &Rack<'_>) -> Result<(bool, String)> {
    let answer = run(rack, &["explain", "svc", "web"])?;
    let errors = String::from_utf8_lossy(&answer.stderr);
    // The lab runs ferrolb's processes without Deployments.
    let unexpected = errors.lines().filter(|line| !line.contains("workloads"));
    let unexpected: Vec<&str> = unexpected.collect();
    ensure!(unexpected.is_empty(), "{unexpected:?}");
    let text = String::from_utf8(answer.stdout)?;
    Ok((answer.status.success(), text))
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

pub(super) fn await_announced(rack: &Rack<'_>) -> Result<()> {
    eventually("the service is announced", TIMEOUT, || {
        let (announced, text) = explain(rack)?;
        ensure!(
            announced && text.contains("announced by BGP from 2 nodes"),
            "{text}"
        );
        Ok(())
    })?;
    // Without what the daemons have not applied yet: of other Services there may be more.
    let address = rack.await_addresses("web")?[0];
    let prefix = IpNet::from(address);
    let expected = rack.routes(&prefix.to_string(), &[0, 1])?;
    eventually(format!("the routes of {address}"), TIMEOUT, || {
        let mut table = rack.router.table()?;
        table.retain(|route| route.prefix == prefix);
        ensure!(table == expected, "{table:?}");
        Ok(())
    })
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
    let plan: Value = serde_json::from_slice(&answer.stdout)?;
    let withdrawn = plan["routes"].as_array().context("routes")?;
    ensure!(withdrawn.len() == 1, "{plan:#}");
    ensure!(
        withdrawn[0]["effect"] == "withdrawn" && withdrawn[0]["node"] == name,
        "{plan:#}"
    );
    ensure!(plan["lost"] == json!([]), "{plan:#}");
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
        "the Role ferrolb-announcer-config of ferrolb may list them",
        "cannot list resource \"deployments\"",
    ] {
        ensure!(errors.contains(expected), "{errors}");
    }
    ensure!(errors.contains(NAMESPACE), "{errors}");
    ensure!(
        !errors.contains("none has the label"),
        "not known: {errors}"
    );
    let text = String::from_utf8(answer.stdout)?;
    ensure!(
        text.contains("type LoadBalancer") && text.contains("endpoints"),
        "{text}"
    );
    Ok(())
}
