//! Nodes that fail and return.

use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::lan::LanCluster;
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;

use super::{Part, addresses, check_nothing_moves, check_others_stayed, losses, spread};

const AFTER: Duration = Duration::from_secs(4);

pub(super) const PARTS: &[(&str, Part)] = &[
    ("unplugged", an_unplugged_node_loses_its_addresses),
    ("power", two_nodes_die_together_and_return),
    ("silent", a_node_behind_a_dead_switch_is_replaced),
];

/// The node sees that it has no carrier.
fn an_unplugged_node_loses_its_addresses(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(4, 2))?;
    let all = [0, 1, 2];
    let before = cluster.await_owners(&all)?;
    let address = cluster.addresses[0];
    let dead = before[&address];
    let rest: Vec<usize> = all.into_iter().filter(|node| *node != dead).collect();
    let port = rack.nodes[dead].name.clone();

    let report = losses(&mut cluster, address, AFTER, |cluster| {
        cluster.switch().unplug(&port)
    })?;
    let other = format!("node{}", before[&address] + 1);
    ensure!(
        report.answered.keys().any(|name| *name != other),
        "no other node answered: {report:?}"
    );
    let after = cluster.await_owners(&rest)?;
    check_others_stayed(&before, &after, &[dead])?;
    ensure!(spread(&after, &rest) <= 1, "{after:?}");

    cluster.switch().plug(&port)?;
    check_nothing_moves(&cluster, &after, &all)
}

fn two_nodes_die_together_and_return(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(4)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(8, 0))?;
    let all = [0, 1, 2, 3];
    let before = cluster.await_owners(&all)?;
    let address = cluster.addresses[0];
    let dead = [before[&address], (before[&address] + 1) % 4];
    let rest: Vec<usize> = all
        .into_iter()
        .filter(|node| !dead.contains(node))
        .collect();

    let report = losses(&mut cluster, address, AFTER, |cluster| {
        dead.iter().try_for_each(|&node| cluster.power_off(node))
    })?;
    ensure!(report.answered.len() == 2, "{report:?}");
    let after = cluster.await_owners(&rest)?;
    check_others_stayed(&before, &after, &dead)?;
    ensure!(spread(&after, &rest) <= 1, "{after:?}");

    dead.iter().try_for_each(|&node| cluster.power_on(node))?;
    check_nothing_moves(&cluster, &after, &all)
}

/// The node keeps its carrier.
fn a_node_behind_a_dead_switch_is_replaced(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(3, 3))?;
    let all = [0, 1, 2];
    let before = cluster.await_owners(&all)?;
    let address = cluster.addresses[0];
    let dead = before[&address];
    let rest: Vec<usize> = all.into_iter().filter(|node| *node != dead).collect();
    let uplink = rack.nodes[dead].uplink.clone();

    let report = losses(&mut cluster, address, AFTER, |_| uplink.cut())?;
    ensure!(report.answered.len() == 2, "{report:?}");
    let after = cluster.await_owners(&rest)?;
    check_others_stayed(&before, &after, &[dead])?;

    uplink.restore()?;
    check_nothing_moves(&cluster, &after, &all)
}
