//! Cases of the suite "LoadBalancers": a flow of datagrams outlives its Pod.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use serde_json::json;

use crate::requests::{Flow, TIMEOUT};
use crate::suite::Suite;

const NAME: &str = "datagrams";

pub(crate) fn datagrams_reach_the_next_pod_on_another_node(suite: &Suite<'_>) -> Result<()> {
    ["Cluster", "Local"]
        .into_iter()
        .try_for_each(|policy| replaced(suite, policy, [0, 1]).context(policy))
}

pub(crate) fn datagrams_reach_the_next_pod_on_the_same_node(suite: &Suite<'_>) -> Result<()> {
    ["Cluster", "Local"]
        .into_iter()
        .try_for_each(|policy| replaced(suite, policy, [0, 0]).context(policy))
}

/// A Pod on the first of the nodes is replaced by one on the second. The client's socket stays. So
/// do the kernels' entries for its flow, unless kube-proxy removes them.
fn replaced(suite: &Suite<'_>, policy: &str, nodes: [usize; 2]) -> Result<()> {
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": policy,
        "ports": [{"protocol": "UDP", "port": 80, "targetPort": 8080}],
    });
    suite.create(NAME, spec)?;
    let address = suite.address(NAME)?;
    let flow = Flow::new(suite.client()?, SocketAddr::new(address, 80))?;
    let await_pod = |name: &str| {
        eventually(format!("{name} answers"), TIMEOUT, || {
            let answer = flow.ask()?;
            ensure!(answer.pod == name, "{answer:?}");
            Ok(())
        })
    };
    let name = |number: u8| format!("{NAME}-{}-{number}", policy.to_lowercase());
    let first = suite.start_pod(NAME, &name(1), nodes[0])?;
    await_pod(&name(1))?;
    let second = suite.start_pod(NAME, &name(2), nodes[1])?;
    suite.delete_pod(first)?;
    await_pod(&name(2))?;
    suite.ensure_kept(NAME, address)?;
    suite.delete(NAME, vec![second])
}
