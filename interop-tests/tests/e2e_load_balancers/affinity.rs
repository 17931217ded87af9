//! Cases of the suite "LoadBalancers": session affinity. A node's kube-proxy remembers its clients,
//! so the router must send all connections of a client to one node: it hashes addresses alone.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::requests::{Answer, Target, await_answers};
use crate::suite::{Server, Suite};

const NAME: &str = "affine";

fn one_pod(answers: &[Answer]) -> Result<()> {
    let other = answers.iter().find(|answer| answer.pod != answers[0].pod);
    ensure!(other.is_none(), "{other:?}, before {}", answers[0].pod);
    Ok(())
}

fn several_pods(answers: &[Answer]) -> Result<()> {
    ensure!(one_pod(answers).is_err(), "only {} answers", answers[0].pod);
    Ok(())
}

/// A Service with two Pods on each of two nodes, while the router hashes addresses alone.
fn with_pods(
    suite: &Suite<'_>,
    policy: &str,
    affinity: &str,
    test: impl FnOnce(IpAddr) -> Result<()>,
) -> Result<()> {
    let router = &suite.rack.topology.tor;
    router.sysctl(&["net.ipv4.fib_multipath_hash_policy=0"])?;
    let mut pods: Vec<Server> = Vec::new();
    for (number, node) in [0, 0, 1, 1].into_iter().enumerate() {
        let name = format!("affine-{}-{number}", policy.to_lowercase());
        pods.push(suite.start_pod(NAME, &name, node)?);
    }
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": policy, "sessionAffinity": affinity,
    });
    suite.create(NAME, spec)?;
    let address = suite.address(NAME)?;
    test(address)?;
    suite.ensure_kept(NAME, address)?;
    suite.delete(NAME, pods)?;
    router.sysctl(&["net.ipv4.fib_multipath_hash_policy=1"])
}

fn is_kept(suite: &Suite<'_>, policy: &str) -> Result<()> {
    with_pods(suite, policy, "ClientIP", |address| {
        await_answers(suite.client()?, Target::tcp(address, 80), one_pod)
    })
}

fn is_switched(suite: &Suite<'_>, policy: &str) -> Result<()> {
    with_pods(suite, policy, "None", |address| {
        let (client, target) = (suite.client()?, Target::tcp(address, 80));
        await_answers(client, target, several_pods)?;
        suite.change(NAME, &json!({"sessionAffinity": "ClientIP"}))?;
        await_answers(client, target, one_pod)?;
        suite.change(NAME, &json!({"sessionAffinity": "None"}))?;
        await_answers(client, target, several_pods)
    })
}

pub(crate) fn session_affinity_keeps_a_client_at_one_pod_with_policy_local(
    suite: &Suite<'_>,
) -> Result<()> {
    is_kept(suite, "Local")
}

pub(crate) fn session_affinity_keeps_a_client_at_one_pod_with_policy_cluster(
    suite: &Suite<'_>,
) -> Result<()> {
    is_kept(suite, "Cluster")
}

pub(crate) fn session_affinity_is_switched_with_policy_local(suite: &Suite<'_>) -> Result<()> {
    is_switched(suite, "Local")
}

pub(crate) fn session_affinity_is_switched_with_policy_cluster(suite: &Suite<'_>) -> Result<()> {
    is_switched(suite, "Cluster")
}
