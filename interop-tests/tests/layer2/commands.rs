//! `ferrolb l2`, and metrics.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::lan::LanCluster;
use ferrolb_interop_tests::metrics;
use ferrolb_interop_tests::process::{Process, ferrolb};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use serde_json::Value;

use super::{addresses, check_nothing_moves, losses, spread};

const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn an_operator_sees_moves_and_tests_addresses() {
    scenario("l2-commands", |scratch| {
        let rack = Topology::new(3)?;
        let mut cluster = LanCluster::start(scratch, &rack, &addresses(5, 1))?;
        let all = [0, 1, 2];
        let before = cluster.await_owners(&all)?;
        the_table_has_owners_and_neighbors(&cluster)?;
        a_self_test_sees_the_owner(&cluster)?;
        metrics_have_the_names_of_metallb(&cluster)?;

        // Requests are not lost, and only this address moves.
        let address = cluster.addresses[0];
        let to = (before[&address] + 1) % 3;
        let node = rack.nodes[to].name.clone();
        let mut watch = Command::new(ferrolb()?);
        watch.args(["l2", "--watch", "--socket"]);
        watch.arg(cluster.folder.socket(&rack.nodes[to]));
        let watch = Process::start(scratch, "watch", &watch)?;
        let report = losses(&mut cluster, address, Duration::from_secs(2), |cluster| {
            // From a third node: any can ask.
            let asked = (to + 1) % 3;
            let arguments = ["l2", "move", &address.to_string(), &node];
            cluster.ask(asked, &arguments).map(drop)
        })?;
        ensure!(report.handed_over(), "{report:?}");
        let mut expected = before;
        expected.insert(address, to);
        let owners = cluster.await_owners(&all)?;
        ensure!(owners == expected, "{expected:?}, found {owners:?}");
        let status = cluster.status(to)?;
        let entry = &status["addresses"][address.to_string()];
        ensure!(entry["reason"] == "Moved", "{entry}");
        watch.await_log(&[&address.to_string(), &node], TIMEOUT)?;

        ensure!(spread(&owners, &all) == 2, "{owners:?}");
        let plan = cluster.ask(0, &["l2", "rebalance", "--dry-run", "-o", "json"])?;
        let plan: Value = serde_json::from_str(&plan)?;
        let planned = plan["moves"].as_array().context("no moves")?;
        ensure!(planned.len() == 1, "{plan}");
        check_nothing_moves(&cluster, &owners, &all)?;
        cluster.ask(0, &["l2", "rebalance"])?;
        let after = eventually("as many addresses on every node", TIMEOUT, || {
            let owners = cluster.owners(&all)?;
            ensure!(spread(&owners, &all) == 0, "{owners:?}");
            Ok(owners)
        })?;
        let moved = after
            .iter()
            .filter(|(address, node)| owners[*address] != **node);
        let moved: Vec<String> = moved.map(|(address, _)| address.to_string()).collect();
        ensure!(moved == [planned[0]["address"].as_str().context("no address")?]);
        Ok(())
    });
}

fn the_table_has_owners_and_neighbors(cluster: &LanCluster<'_>) -> Result<()> {
    for node in [0, 1, 2] {
        let table = cluster.ask(node, &["l2"])?;
        for (address, owner) in cluster.owners(&[0, 1, 2])? {
            let line = table
                .lines()
                .find(|line| line.contains(&address.to_string()));
            let line = line.with_context(|| format!("no {address} in {table}"))?;
            ensure!(line.contains(&format!("node{}", owner + 1)), "{line}");
        }
        for other in ["uplink", "node1", "node2", "node3"] {
            ensure!(table.contains(other), "no {other} in {table}");
        }
    }
    Ok(())
}

fn a_self_test_sees_the_owner(cluster: &LanCluster<'_>) -> Result<()> {
    for (address, owner) in cluster.owners(&[0, 1, 2])? {
        let output = cluster.ask(owner, &["l2", "test", &address.to_string()])?;
        let mac = cluster.mac(owner).to_string();
        ensure!(output.contains(&mac), "{address}: no {mac} in {output}");
    }
    Ok(())
}

fn metrics_have_the_names_of_metallb(cluster: &LanCluster<'_>) -> Result<()> {
    let (address, owner) = cluster
        .owners(&[0, 1, 2])?
        .pop_first()
        .context("no address")?;
    let node = &cluster.rack.nodes[owner].namespace;
    for name in ["requests_received", "responses_sent", "gratuitous_sent"] {
        let series = format!("metallb_layer2_{name}{{ip=\"{address}\"}}");
        let value = metrics::value(node, &series)?;
        ensure!(value > 0.0, "{series} {value}");
    }
    Ok(())
}
