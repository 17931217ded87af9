//! Cases of the suite "LoadBalancers ExternalTrafficPolicy: Local".

use std::io::ErrorKind;

use anyhow::{Context, Result, bail, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::topology::CLIENT_IPV4;
use serde_json::json;

use crate::requests::{
    TIMEOUT, Target, any, await_answers, await_closed, exactly, health, seen_as,
};
use crate::suite::{NODES, Suite, health_port, node_port};

pub(crate) fn pods_see_the_address_of_a_client_of_the_load_balancer(
    suite: &Suite<'_>,
) -> Result<()> {
    let name = "local";
    let pod = suite.start_pod(name, "local-1", 0)?;
    let address = suite.create_balanced(name, "Local")?;
    let port = health_port(&suite.service(name)?).context("no healthCheckNodePort")?;
    suite.await_routes(address, &[0])?;
    await_answers(
        suite.client()?,
        Target::tcp(address, 80),
        seen_as(CLIENT_IPV4.into()),
    )?;
    suite.await_healthy(port, &[0])?;
    // The port for health checks ends with the type.
    suite.change(
        name,
        &json!({"type": "ClusterIP", "externalTrafficPolicy": null}),
    )?;
    suite.await_no_route()?;
    for node in NODES {
        await_unchecked(suite, node, port)?;
    }
    suite.delete(name, vec![pod])
}

/// Waits until no program listens on a port for health checks.
fn await_unchecked(suite: &Suite<'_>, node: usize, port: u16) -> Result<()> {
    let (client, address) = (suite.client()?, suite.node_address(node));
    eventually(
        format!("no health checks on node {node}"),
        TIMEOUT,
        || match health(client, address, port)? {
            Ok(status) => bail!("{status}"),
            Err(error) => {
                ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
                Ok(())
            }
        },
    )
}

pub(crate) fn pods_see_the_address_of_a_client_of_the_node_port(suite: &Suite<'_>) -> Result<()> {
    let name = "local-port";
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
    let port = node_port(&suite.create(name, spec)?).context("no NodePort")?;
    let pods = vec![
        suite.start_pod(name, "local-port-1", 0)?,
        suite.start_pod(name, "local-port-2", 1)?,
    ];
    let client = suite.client()?;
    for (node, pod) in [(0, "local-port-1"), (1, "local-port-2")] {
        let target = Target::tcp(suite.node_address(node), port);
        await_answers(client, target, |answers| {
            exactly(&[pod])(answers)?;
            seen_as(CLIENT_IPV4.into())(answers)
        })?;
    }
    await_closed(client, Target::tcp(suite.node_address(2), port))?;
    suite.delete(name, pods)
}

pub(crate) fn only_the_node_with_the_pod_gets_requests_and_is_healthy(
    suite: &Suite<'_>,
) -> Result<()> {
    let name = "local-node";
    let address = suite.create_balanced(name, "Local")?;
    let port = health_port(&suite.service(name)?).context("no healthCheckNodePort")?;
    for node in NODES {
        let pod_name = format!("local-node-{node}");
        let pod = suite.start_pod(name, &pod_name, node)?;
        suite.await_routes(address, &[node])?;
        await_answers(
            suite.client()?,
            Target::tcp(address, 80),
            exactly(&[&pod_name]),
        )?;
        suite.await_healthy(port, &[node])?;
        suite.delete_pod(pod)?;
        suite.await_no_route()?;
    }
    suite.ensure_kept(name, address)?;
    suite.delete(name, Vec::new())
}

pub(crate) fn all_nodes_with_pods_get_requests_and_are_healthy(suite: &Suite<'_>) -> Result<()> {
    let name = "local-nodes";
    let address = suite.create_balanced(name, "Local")?;
    let port = health_port(&suite.service(name)?).context("no healthCheckNodePort")?;
    // Two of the Pods share a node.
    let pods = vec![
        suite.start_pod(name, "local-nodes-1", 0)?,
        suite.start_pod(name, "local-nodes-2", 2)?,
        suite.start_pod(name, "local-nodes-3", 2)?,
    ];
    suite.await_routes(address, &[0, 2])?;
    let all = exactly(&["local-nodes-1", "local-nodes-2", "local-nodes-3"]);
    await_answers(suite.client()?, Target::tcp(address, 80), |answers| {
        all(answers)?;
        seen_as(CLIENT_IPV4.into())(answers)
    })?;
    suite.await_healthy(port, &[0, 2])?;
    suite.delete(name, pods)
}

pub(crate) fn pods_and_nodes_reach_the_load_balancer_pods_with_their_own_address(
    suite: &Suite<'_>,
) -> Result<()> {
    let name = "local-pods";
    let server = suite.start_pod(name, "local-pods-1", 0)?;
    let address = suite.create_balanced(name, "Local")?;
    let target = Target::tcp(address, 80);
    // From the node of the server, and from one without a server.
    for (client, node) in [("client-1", 0), ("client-2", 1)] {
        let client = suite.start_pod("clients", client, node)?;
        await_answers(client.host(), target, seen_as(client.address()?))?;
        suite.delete_pod(client)?;
    }
    // The server itself, whose own address can't be the source.
    await_answers(server.host(), target, any)?;
    // The nodes, with and without a server. A process of a node needs a route to the address, which
    // the rack has made unreachable for packets that kube-proxy doesn't rewrite yet.
    for node in &suite.rack.topology.nodes {
        let unreachable = |verb| ["route", verb, "unreachable", "192.0.2.0/24"];
        node.namespace.ip(&unreachable("del"))?;
        await_answers(&node.namespace, target, any)?;
        node.namespace.ip(&unreachable("add"))?;
    }
    suite.delete(name, vec![server])
}

pub(crate) fn a_service_changes_its_external_traffic_policy(suite: &Suite<'_>) -> Result<()> {
    let (name, client) = ("policy", suite.client()?);
    let pod = suite.start_pod(name, "policy-1", 0)?;
    let address = suite.create_balanced(name, "Local")?;
    let target = Target::tcp(address, 80);
    let port = health_port(&suite.service(name)?).context("no healthCheckNodePort")?;
    suite.await_routes(address, &[0])?;
    await_answers(client, target, seen_as(CLIENT_IPV4.into()))?;

    let service = suite.change(name, &json!({"externalTrafficPolicy": "Cluster"}))?;
    ensure!(health_port(&service).is_none(), "{service}");
    suite.await_routes(address, &NODES)?;
    let at_node = node_port(&service).context("no NodePort")?;
    for node in NODES {
        await_answers(client, Target::tcp(suite.node_address(node), at_node), any)?;
        await_unchecked(suite, node, port)?;
    }
    await_answers(client, target, |answers| {
        let kept = answers.iter().find(|answer| answer.seen_as == CLIENT_IPV4);
        ensure!(kept.is_none(), "{kept:?}");
        Ok(())
    })?;

    let local = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": port});
    let service = suite.change(name, &local)?;
    ensure!(health_port(&service) == Some(port), "{service}");
    suite.await_routes(address, &[0])?;
    await_answers(client, target, seen_as(CLIENT_IPV4.into()))?;
    suite.await_healthy(port, &[0])?;
    suite.ensure_kept(name, address)?;
    suite.delete(name, vec![pod])
}
