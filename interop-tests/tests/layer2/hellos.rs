//! Hellos that are not what they seem, and nodes with another key.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::lan::{Capture, Host, LanCluster};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;

use super::{HELLOS, Part, addresses, check_nothing_moves, check_others_stayed};

const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) const PARTS: &[(&str, Part)] = &[
    ("forged", forged_hellos_are_counted_and_ignored),
    ("replayed", replayed_hellos_do_not_revive_a_node),
    ("key", a_wrong_key_is_visible_at_both_ends),
];

fn forged_hellos_are_counted_and_ignored(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(2)?;
    let cluster = LanCluster::start(scratch, &rack, &addresses(3, 1))?;
    let all = [0, 1];
    let owners = cluster.await_owners(&all)?;
    let attacker = Host::new(&rack, "attacker", 130)?;
    let capture = Capture::start(scratch, cluster.switch(), "hellos", HELLOS)?;
    sleep(Duration::from_secs(2));
    let captured = capture.stop()?;
    captured.forged()?.replay(&attacker)?;
    captured.replay(&attacker)?;
    for node in all {
        let forged = cluster.counter(node, "hellosUnauthenticated")?;
        ensure!(forged > 0, "node{} counted no forged hello", node + 1);
        let replayed = cluster.counter(node, "hellosReplayed")?;
        ensure!(replayed > 0, "node{} counted no replayed hello", node + 1);
    }
    check_nothing_moves(&cluster, &owners, &all)
}

fn replayed_hellos_do_not_revive_a_node(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(3, 3))?;
    let before = cluster.await_owners(&[0, 1, 2])?;
    let attacker = Host::new(&rack, "attacker", 130)?;
    let capture = Capture::start(scratch, cluster.switch(), "hellos", HELLOS)?;
    sleep(Duration::from_secs(4));
    let captured = capture.stop()?;
    cluster.power_off(0)?;
    // Takes as long as the capture did.
    captured.replay(&attacker)?;
    let after = cluster.await_owners(&[1, 2])?;
    check_others_stayed(&before, &after, &[0])?;
    let status = cluster.status(1)?;
    let peer = cluster.peer(&status, 0);
    ensure!(peer["alive"] != true, "{peer}");
    ensure!(cluster.counter(1, "hellosReplayed")? > 0);
    Ok(())
}

/// The third node has other manifests.
fn a_wrong_key_is_visible_at_both_ends(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::new(scratch, &rack, &addresses(2, 1), "")?;
    let pair = [0, 1];
    pair.iter()
        .try_for_each(|&node| cluster.start_daemon(node))?;
    cluster.await_peers(&pair)?;
    let owners = cluster.await_owners(&pair)?;

    let other = scratch.within("other")?;
    let folder = Folder::copy_of(&cluster.folder, &other)?;
    folder.write(
        "key.yaml",
        &manifest::memberlist_secret("another-key-of-lab"),
    )?;
    let mut stranger = folder.run_role(&rack.nodes[2], "layer2")?;
    let rejected = |status: &serde_json::Value, node: usize| {
        let peer = cluster.peer(status, node);
        let why = peer["rejected"].as_str().unwrap_or_default().to_owned();
        ensure!(why.contains("key"), "{peer}");
        Ok(())
    };
    eventually("both ends report the wrong key", TIMEOUT, || {
        stranger.ensure_running()?;
        for node in pair {
            rejected(&cluster.status(node)?, 2)?;
        }
        let status = folder.layer2_status(&rack.nodes[2])?;
        pair.into_iter()
            .try_for_each(|node| rejected(&status, node))
    })?;
    stranger.check_log(&["WARN", "node1", "key"])?;
    cluster.daemon(0)?.check_log(&["WARN", "node3", "key"])?;
    // It finds the addresses in use.
    check_nothing_moves(&cluster, &owners, &pair)
}
