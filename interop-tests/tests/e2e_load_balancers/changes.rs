//! Cases of the suite "LoadBalancers": changes of a Service's type, ports and sources.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::requests::{
    Protocol, Target, any, await_answers, await_closed, await_rejected, exactly,
};
use crate::suite::{NODES, Server, Suite, node_port};

/// The address that the Services request.
const REQUESTED: &str = "192.0.2.7";

/// The ports of a Service.
fn ports(protocol: Protocol, port: u16, node_port: Option<u16>) -> Value {
    json!([{
        "protocol": protocol.name(), "port": port, "targetPort": 8080, "nodePort": node_port,
    }])
}

pub(crate) fn a_tcp_service_changes_its_type_and_ports(suite: &Suite<'_>) -> Result<()> {
    type_and_ports(suite, Protocol::Tcp)
}

pub(crate) fn a_udp_service_changes_its_type_and_ports(suite: &Suite<'_>) -> Result<()> {
    type_and_ports(suite, Protocol::Udp)
}

fn type_and_ports(suite: &Suite<'_>, protocol: Protocol) -> Result<()> {
    let (name, client, node) = ("mutable", suite.client()?, suite.node_address(1));
    let at_node = |port| Target::new(protocol, node, port);
    suite.create(name, json!({"ports": ports(protocol, 80, None)}))?;
    let pod = suite.start_pod(name, "mutable-1", 0)?;

    let service = suite.change(name, &json!({"type": "NodePort"}))?;
    let old = node_port(&service).context("no NodePort")?;
    await_answers(client, at_node(old), any)?;
    suite.await_no_route()?;

    let balanced = json!({"type": "LoadBalancer", "loadBalancerIP": REQUESTED});
    let service = suite.change(name, &balanced)?;
    ensure!(node_port(&service) == Some(old), "{service}");
    let address = suite.address(name)?;
    ensure!(address.to_string() == REQUESTED, "{address}");
    suite.await_routes(address, &NODES)?;
    await_answers(client, at_node(old), any)?;
    await_answers(client, Target::new(protocol, address, 80), any)?;

    let new = if old == 32_767 { 30_000 } else { old + 1 };
    suite.change(name, &json!({"ports": ports(protocol, 80, Some(new))}))?;
    await_answers(client, at_node(new), any)?;
    await_rejected(client, at_node(old))?;
    await_answers(client, Target::new(protocol, address, 80), any)?;

    let service = suite.change(name, &json!({"ports": ports(protocol, 81, Some(new))}))?;
    ensure!(node_port(&service) == Some(new), "{service}");
    let balanced = Target::new(protocol, address, 81);
    await_answers(client, at_node(new), any)?;
    await_answers(client, balanced, any)?;
    await_closed(client, Target::new(protocol, address, 80))?;
    suite.ensure_kept(name, address)?;

    let pod = without_pods(suite, pod, at_node(new), balanced)?;
    suite.ensure_kept(name, address)?;
    let service = suite.change(
        name,
        &json!({"type": "ClusterIP", "ports": ports(protocol, 81, None), "loadBalancerIP": null}),
    )?;
    ensure!(node_port(&service).is_none(), "{service}");
    suite.await_no_route()?;
    await_rejected(client, at_node(new))?;
    await_closed(client, balanced)?;
    let left = suite.rack.cp.service_addresses("default", name)?;
    ensure!(left.is_empty(), "{left:?}");
    suite.delete(name, vec![pod])
}

/// Scales the Pods of a Service to none and back to one. Without a Pod its NodePort rejects
/// requests; its address has no route, so that the router does.
fn without_pods(
    suite: &Suite<'_>,
    pod: Server,
    at_node: Target,
    balanced: Target,
) -> Result<Server> {
    let client = suite.client()?;
    suite.delete_pod(pod)?;
    await_rejected(client, at_node)?;
    suite.await_no_route()?;
    await_closed(client, balanced)?;
    let pod = suite.start_pod("mutable", "mutable-2", 2)?;
    await_answers(client, at_node, any)?;
    await_answers(client, balanced, any)?;
    Ok(pod)
}

pub(crate) fn a_service_without_node_ports_answers_and_gets_one_later(
    suite: &Suite<'_>,
) -> Result<()> {
    let (name, client) = ("portless", suite.client()?);
    suite.create(name, json!({"type": "ClusterIP"}))?;
    let pod = suite.start_pod(name, "portless-1", 0)?;
    let without = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false});
    let service = suite.change(name, &without)?;
    ensure!(node_port(&service).is_none(), "{service}");
    let address = suite.address(name)?;
    await_answers(client, Target::tcp(address, 80), exactly(&["portless-1"]))?;

    let with = json!({"allocateLoadBalancerNodePorts": true});
    let service = suite.change(name, &with)?;
    let port = node_port(&service).context("no NodePort")?;
    for node in NODES {
        let target = Target::tcp(suite.node_address(node), port);
        await_answers(client, target, exactly(&["portless-1"]))?;
    }
    await_answers(client, Target::tcp(address, 80), exactly(&["portless-1"]))?;
    suite.ensure_kept(name, address)?;
    suite.delete(name, vec![pod])
}

pub(crate) fn only_the_source_ranges_of_a_service_reach_it(suite: &Suite<'_>) -> Result<()> {
    let name = "ranges";
    let server = suite.start_pod(name, "ranges-1", 0)?;
    let accepted = suite.start_pod("other", "accepted", 1)?;
    let dropped = suite.start_pod("other", "dropped", 2)?;
    let address = suite.create_balanced(name, "Cluster")?;
    let target = Target::tcp(address, 80);
    let only = |pod: &Server| {
        let ranges = json!({"loadBalancerSourceRanges": [format!("{}/32", pod.address()?)]});
        suite.change(name, &ranges)
    };
    only(&accepted)?;
    await_answers(accepted.host(), target, any)?;
    await_closed(dropped.host(), target)?;
    await_closed(suite.client()?, target)?;
    only(&dropped)?;
    await_closed(accepted.host(), target)?;
    await_answers(dropped.host(), target, any)?;
    suite.change(name, &json!({"loadBalancerSourceRanges": null}))?;
    for from in [accepted.host(), dropped.host(), suite.client()?] {
        await_answers(from, target, any)?;
    }
    suite.ensure_kept(name, address)?;
    suite.delete(name, vec![server, accepted, dropped])
}

pub(crate) fn a_deleted_service_leaves_nothing_and_its_address_is_free(
    suite: &Suite<'_>,
) -> Result<()> {
    let name = "deleted";
    let server = suite.start_pod(name, "deleted-1", 0)?;
    let balanced = json!({"type": "LoadBalancer", "loadBalancerIP": REQUESTED});
    suite.create(name, balanced.clone())?;
    let address = suite.address(name)?;
    let target = Target::tcp(address, 80);
    await_answers(suite.client()?, target, any)?;
    suite.delete(name, vec![server])?;
    await_closed(suite.client()?, target)?;
    let next = suite.start_pod("next", "next-1", 1)?;
    suite.create("next", balanced)?;
    let found = suite.address("next")?;
    ensure!(found == address, "{found}");
    await_answers(suite.client()?, target, exactly(&["next-1"]))?;
    suite.delete("next", vec![next])
}
