//! The first announcements of a node wait for its service proxy and for the end of MetalLB's
//! speaker, and what is announced stays: with the real kube-proxy.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb, Metallb, Rack};
use ferrolb_interop_tests::manifest::{self, NAMESPACE, service};
use ferrolb_interop_tests::router::check_table;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{Node, Topology};

use super::{CLUSTER, LOCAL, TIMEOUT, await_metric, plain_configuration};

const LIVEZ: &str = "--service-proxy-health=http://127.0.0.1:10256/livez";
const HEALTHZ: &str = "--service-proxy-health=http://127.0.0.1:10256/healthz";
/// ferrolb's own probe: a proxy that is ready, whatever kube-proxy does.
const READY: &str = "--service-proxy-health=http://127.0.0.1:7472/livez";
const STAYS: Duration = Duration::from_secs(5);

fn delayed(reason: &str) -> String {
    format!("ferrolb_announcements_delayed_bool{{reason=\"{reason}\"}}")
}

/// A rack with an allocator and a Service, without announcers.
fn rack_without_announcers<'lab>(
    scratch: &'lab ferrolb_interop_tests::scenario::Scratch,
    topology: &'lab Topology,
    policy: &str,
) -> Result<Rack<'lab>> {
    let mut rack = Rack::without_crds(scratch, topology, "ebgp")?;
    rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
    rack.cp.apply(&plain_configuration())?;
    rack.cp.apply(&service("web", "", policy))?;
    let allocator = Ferrolb::allocator(&rack.cp, "allocator1")?;
    rack.allocators.push(allocator);
    Ok(rack)
}

/// Marks a node as the Cluster Autoscaler does before it deletes one, and waits until kube-proxy
/// there answers so.
fn await_node_in_deletion(cp: &ControlPlane<'_>, node: &Node) -> Result<()> {
    let taint = "ToBeDeletedByClusterAutoscaler=1:NoSchedule";
    cp.kubectl(&["taint", "node", &node.name, taint])?;
    let url = "http://127.0.0.1:10256/healthz";
    eventually("a 503 of kube-proxy", TIMEOUT, || {
        let arguments = ["-s", "-w", "%{http_code}", url];
        let answer = node.namespace.run("curl", &arguments)?;
        let says_why = answer.contains(r#""nodeEligible":false,"healthy":true"#);
        ensure!(says_why && answer.ends_with("503"), "{answer}");
        Ok(())
    })
}

#[test]
fn first_announcements_wait_for_kube_proxy_which_withdraws_none_later() {
    scenario("first-proxy", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = rack_without_announcers(scratch, &topology, CLUSTER)?;
        let prefix = format!("{}/32", rack.await_addresses("web")?[0]);
        rack.data_path.stop_kube_proxy(0)?;
        await_node_in_deletion(&rack.cp, &topology.nodes[1])?;
        for (node, url) in topology.nodes.iter().zip([LIVEZ, HEALTHZ]) {
            let announcer = Ferrolb::announcer_with(&rack.cp, node, &[url])?;
            rack.announcers.push(announcer);
        }
        // Only the node whose proxy is ready announces, although the other one is to be deleted.
        rack.await_routes(&rack.routes(&prefix, &[1])?)?;
        let first = &rack.announcers[0];
        first.await_log(
            &["nothing is announced yet", "ServiceProxyNotReady"],
            TIMEOUT,
        )?;
        await_metric(first, &delayed("ServiceProxyNotReady"), Some(1.0))?;
        let ready = first.get("/readyz").err().context("it is ready")?;
        ensure!(
            format!("{ready:#}").contains("first announcements"),
            "{ready:#}"
        );
        let peers = first.ask(&["peers"])?;
        ensure!(!peers.contains("Established"), "{peers}");
        consistently("only node2 announces", STAYS, || {
            check_table(&rack.router, &rack.routes(&prefix, &[1])?)
        })?;

        rack.data_path
            .start_kube_proxy(&rack.cp, &topology.nodes, 0)?;
        let both = rack.routes(&prefix, &[0, 1])?;
        rack.await_routes(&both)?;
        await_metric(&rack.announcers[0], &delayed("ServiceProxyNotReady"), None)?;
        rack.announcers[0].await_ready()?;

        // A dead proxy withdraws nothing, nor does a policy that asks it about the Service for the
        // first time, and a restart is not the first announcement.
        rack.data_path.stop_kube_proxy(0)?;
        let local = r#"{"spec":{"externalTrafficPolicy":"Local"}}"#;
        rack.cp.kubectl(&["patch", "svc", "web", "-p", local])?;
        consistently("both announce", STAYS, || check_table(&rack.router, &both))?;
        rack.announcers[0].process().kill()?;
        rack.announcers[0].start_again()?;
        rack.announcers[0].await_ready()?;
        rack.await_routes(&both)
    });
}

#[test]
fn a_local_service_waits_until_kube_proxy_has_its_endpoints_on_the_node() {
    scenario("first-local", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = rack_without_announcers(scratch, &topology, LOCAL)?;
        rack.cp.apply(&service("everywhere", "", CLUSTER))?;
        let web = format!("{}/32", rack.await_addresses("web")?[0]);
        let everywhere = format!("{}/32", rack.await_addresses("everywhere")?[0]);
        rack.data_path.stop_kube_proxy(0)?;
        for node in &topology.nodes {
            let announcer = Ferrolb::announcer_with(&rack.cp, node, &[READY])?;
            rack.announcers.push(announcer);
        }
        let mut routes = rack.routes(&everywhere, &[0, 1])?;
        routes.extend(rack.routes(&web, &[1])?);
        rack.await_routes(&routes)?;
        await_metric(&rack.announcers[0], "ferrolb_services_delayed", Some(1.0))?;
        await_metric(&rack.announcers[1], "ferrolb_services_delayed", Some(0.0))?;

        rack.data_path
            .start_kube_proxy(&rack.cp, &topology.nodes, 0)?;
        routes.extend(rack.routes(&web, &[0])?);
        rack.await_routes(&routes)?;
        await_metric(&rack.announcers[0], "ferrolb_services_delayed", Some(0.0))?;
        let log = std::fs::read_to_string(rack.announcers[0].log())?;
        ensure!(!log.contains("announcing it anyway"), "{log}");

        // Without an answer a service waits for half a minute, and not silently.
        rack.data_path.stop_kube_proxy(0)?;
        rack.cp.apply(&service("late", "", LOCAL))?;
        let late = format!("{}/32", rack.await_addresses("late")?[0]);
        await_metric(&rack.announcers[0], "ferrolb_services_delayed", Some(1.0))?;
        let words = [
            "default/late",
            "ServiceProxyNotReady",
            "announcing it anyway",
        ];
        rack.announcers[0].await_log(&words, Duration::from_secs(60))?;
        routes.extend(rack.routes(&late, &[0, 1])?);
        rack.await_routes(&routes)
    });
}

/// The object of a running speaker on a node, with the labels of MetalLB's manifest.
fn create_speaker(cp: &ControlPlane<'_>, node: &str) -> Result<()> {
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: speaker-{node}, namespace: {NAMESPACE}, \
         labels: {{app: metallb, component: speaker}}}}, spec: {{nodeName: {node}, \
         terminationGracePeriodSeconds: 0, containers: [{{name: main, image: none}}]}}}}"
    );
    cp.apply(&pod)?;
    let name = format!("speaker-{node}");
    let running = r#"{"status":{"phase":"Running"}}"#;
    let target = [
        "patch",
        "pod",
        &name,
        "-n",
        NAMESPACE,
        "--subresource=status",
    ];
    cp.kubectl(&[&target[..], &["-p", running]].concat())
        .map(drop)
}

fn delete_speaker(cp: &ControlPlane<'_>, node: &str) -> Result<()> {
    let name = format!("speaker-{node}");
    cp.kubectl(&["delete", "pod", &name, "-n", NAMESPACE])
        .map(drop)
}

/// The reasons of the Events about a Node, from ferrolb.
fn node_events(cp: &ControlPlane<'_>, node: &str) -> Result<Vec<String>> {
    let events = cp.get(&["events", "-n", "default"])?;
    let events = events["items"].as_array().context("no items")?;
    let about = |event: &&serde_json::Value| {
        let object = &event["involvedObject"];
        object["kind"] == "Node"
            && object["name"] == node
            && event["source"]["component"]
                .as_str()
                .is_some_and(|component| component.starts_with("ferrolb"))
    };
    let reasons = events
        .iter()
        .filter(about)
        .map(|event| event["reason"].as_str());
    Ok(reasons.flatten().map(str::to_owned).collect())
}

#[test]
fn beside_metallbs_speaker_nothing_is_announced_until_it_is_gone() {
    scenario("first-speaker", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = rack_without_announcers(scratch, &topology, CLUSTER)?;
        let prefix = format!("{}/32", rack.await_addresses("web")?[0]);
        rack.cp
            .apply(&manifest::layer2_advertisement("interfaces: [uplink]"))?;
        for node in ["node1", "node2"] {
            create_speaker(&rack.cp, node)?;
        }
        rack.announcers
            .push(Ferrolb::announcer(&rack.cp, &topology.nodes[0])?);
        let layer2 = Ferrolb::layer2(&rack.cp, &topology.nodes[1])?;
        for (process, node) in [(&rack.announcers[0], "node1"), (&layer2, "node2")] {
            let pod = format!("{NAMESPACE}/speaker-{node}");
            process.await_log(&["ERROR", &pod, "ferrolb migrate"], TIMEOUT)?;
            await_metric(process, &delayed("MetallbSpeaker"), Some(1.0))?;
            await_metric(process, "ferrolb_metallb_speaker_bool", Some(1.0))?;
            ensure!(process.get("/readyz").is_err(), "{node} is ready");
            eventually("the Event on the Node", TIMEOUT, || {
                let events = node_events(&rack.cp, node)?;
                ensure!(events == ["MetalLBSpeakerRuns"], "{events:?}");
                Ok(())
            })?;
        }
        let shown = layer2.ask(&["l2"]);
        let shown = shown.unwrap_or_else(|error| format!("{error:#}"));
        ensure!(shown.contains("MetalLB's speaker"), "{shown}");
        consistently("node1 announces nothing", STAYS, || {
            let sessions = ferrolb_interop_tests::router::Router::sessions(&rack.router)?;
            ensure!(sessions.is_empty(), "{sessions:?}");
            Ok(())
        })?;

        for node in ["node1", "node2"] {
            delete_speaker(&rack.cp, node)?;
        }
        let routes = rack.routes(&prefix, &[0])?;
        rack.await_routes(&routes)?;
        rack.announcers[0].await_ready()?;
        layer2.await_log(&["layer 2 started"], TIMEOUT)?;
        eventually("the Event on the Node", TIMEOUT, || {
            let events = node_events(&rack.cp, "node1")?;
            ensure!(events.len() == 2, "{events:?}");
            ensure!(
                events.contains(&"MetalLBSpeakerEnded".to_owned()),
                "{events:?}"
            );
            Ok(())
        })?;

        // A speaker that appears later, and a restart beside it, withdraw nothing.
        create_speaker(&rack.cp, "node1")?;
        rack.announcers[0].process().kill()?;
        rack.announcers[0].start_again()?;
        rack.announcers[0].await_ready()?;
        rack.await_routes(&routes)?;
        rack.announcers[0].await_log(&["both announce the same addresses"], TIMEOUT)?;
        await_metric(
            &rack.announcers[0],
            "ferrolb_metallb_speaker_bool",
            Some(1.0),
        )?;
        consistently("node1 announces", STAYS, || {
            check_table(&rack.router, &routes)
        })
    });
}
