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

use super::{
    HELLOS, Part, addresses, captured, check_nothing_moves, check_others_stayed, claimants,
};

const TIMEOUT: Duration = Duration::from_secs(20);
const KEY_CHANGED: Duration = Duration::from_secs(90);

pub(super) const PARTS: &[(&str, Part)] = &[
    ("forged", forged_hellos_are_counted_and_ignored),
    ("replayed", replayed_hellos_do_not_revive_a_node),
    ("key", a_wrong_key_is_visible_at_both_ends),
    ("rotation", addresses_stay_while_the_key_changes),
    ("missing", nothing_is_announced_without_a_key),
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
    ensure!(peer["alive"] == false, "{peer}");
    ensure!(cluster.counter(1, "hellosReplayed")? > 0);
    Ok(())
}

/// The third node has other manifests.
fn a_wrong_key_is_visible_at_both_ends(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::new(scratch, &rack, &addresses(2, 1), "")?;
    cluster.write_services()?;
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

/// The nodes accept the new key at different moments, and use it a minute later.
fn addresses_stay_while_the_key_changes(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(3, 3))?;
    let all = [0, 1, 2];
    let owners = cluster.await_owners(&all)?;
    let key = manifest::memberlist_secret("a-new-key-of-the-lab");
    let frames = captured(scratch, &mut cluster, "rotation", |cluster| {
        cluster.folder.write("key.yaml", &key)?;
        for node in all {
            let words = ["hellos are now authenticated with the new key"];
            cluster.daemon(node)?.await_log(&words, KEY_CHANGED)?;
        }
        check_nothing_moves(cluster, &owners, &all)
    })?;
    for (&address, &owner) in &owners {
        let claimants = claimants(&frames, address)?;
        let expected = cluster.mac(owner);
        ensure!(
            claimants.iter().all(|(_, mac)| mac == expected),
            "{address} of {expected}: {claimants:?}"
        );
    }
    Ok(())
}

fn nothing_is_announced_without_a_key(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(1)?;
    let mut cluster = LanCluster::new(scratch, &rack, &addresses(1, 1), "")?;
    cluster.write_services()?;
    cluster.folder.remove("key.yaml")?;
    cluster.start_daemon(0)?;
    eventually("the missing key is reported", TIMEOUT, || {
        let status = cluster.status(0)?;
        for address in &cluster.addresses {
            let address = &status["addresses"][address.to_string()];
            ensure!(address["reason"] == "NoKey", "{address}");
        }
        Ok(())
    })?;
    let words = ["ERROR", "create the Secret memberlist"];
    cluster.daemon(0)?.await_log(&words, TIMEOUT)?;
    let key = manifest::memberlist_secret("a-key-of-the-lab");
    cluster.folder.write("key.yaml", &key)?;
    cluster.await_owners(&[0]).map(drop)
}
