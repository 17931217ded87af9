//! Nodes that fail and return.

use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::lan::LanCluster;
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;

use super::{Part, addresses, check_nothing_moves, check_others_stayed, losses, spread};

const AFTER: Duration = Duration::from_secs(4);
/// Longer than a takeover takes on a machine that runs many of these tests at once; MetalLB takes
/// more than twice as long.
const MAX_GAP_MS: u64 = 2_000;
/// A node must be preferred for 30 s. The last check begins earlier.
const PREFERENCE_HOLD_DOWN: Duration = Duration::from_secs(26);
/// Longer than the hand-over of all addresses after the hold-down.
const HANDED_OVER: Duration = Duration::from_secs(20);

pub(super) const PARTS: &[(&str, Part)] = &[
    ("unplugged", an_unplugged_node_loses_its_addresses),
    ("power", two_nodes_die_together_and_return),
    ("silent", a_node_behind_a_dead_switch_is_replaced),
    ("preferred", a_preferred_node_takes_over_after_a_while),
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
    ensure!(report.longest_gap_ms <= MAX_GAP_MS, "{report:?}");
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
    ensure!(report.longest_gap_ms <= MAX_GAP_MS, "{report:?}");
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
    ensure!(report.longest_gap_ms <= MAX_GAP_MS, "{report:?}");
    let after = cluster.await_owners(&rest)?;
    check_others_stayed(&before, &after, &[dead])?;

    uplink.restore()?;
    check_nothing_moves(&cluster, &after, &all)
}

/// The weight is written while all addresses have owners. None moves during the hold-down; then the
/// owners hand over, without loss.
fn a_preferred_node_takes_over_after_a_while(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(3, 3))?;
    let all = [0, 1, 2];
    let before = cluster.await_owners(&all)?;
    let address = cluster.addresses[0];
    let preferred = (before[&address] + 1) % 3;
    let name = &rack.nodes[preferred].name;
    let spec = format!(
        "preferredNodeSelectors: [{{weight: 10, preference: \
         {{matchLabels: {{kubernetes.io/hostname: {name}}}}}}}]"
    );
    let report = losses(&mut cluster, address, AFTER, |cluster| {
        cluster.write_advertisement(&spec)?;
        consistently("the owners", PREFERENCE_HOLD_DOWN, || {
            all.iter()
                .try_for_each(|&node| cluster.reports(node, &before))
        })?;
        eventually("all on the preferred node", HANDED_OVER, || {
            let found = cluster.owners(&all)?;
            ensure!(found.values().all(|node| *node == preferred), "{found:?}");
            Ok(())
        })
    })?;
    ensure!(report.handed_over(), "{report:?}");
    ensure!(report.answered.len() == 2, "{report:?}");
    Ok(())
}
