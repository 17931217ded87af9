//! A LAN that falls apart and heals.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::lan::{Host, LanCluster};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;

use super::{Part, addresses, captured, check_nothing_moves, check_others_stayed, claimants};

const TIMEOUT: Duration = Duration::from_secs(20);
/// Longer than the announcements of an owner.
const AFTER_HEALING: Duration = Duration::from_secs(6);
/// Seconds from the start of the capture for which the owners of both halves may answer, on a
/// machine that runs many of these tests at once. A hello takes at most 0.1 s.
const BOTH_ANSWER: f64 = 2.0;
const BLACKOUT: Duration = Duration::from_secs(30);
/// Frames that announce one address when the LAN heals: six in 5 s, and the answers to the client.
const MAX_CLAIMS_AFTER_BLACKOUT: usize = 12;

pub(super) const PARTS: &[(&str, Part)] = &[
    ("halves", halves_have_an_owner_each_and_agree_when_they_meet),
    ("mute", a_node_that_is_not_received_yields),
    ("deaf", a_node_that_receives_nothing_takes_nothing),
    ("blackout", |scratch| {
        nothing_moves_when_the_whole_lan_is_down(scratch, &addresses(6, 3))
    }),
    // A node that owns nothing is silent for three seconds before its peers notice it.
    ("idle", |scratch| {
        nothing_moves_when_the_whole_lan_is_down(scratch, &addresses(2, 0))
    }),
];

fn halves_have_an_owner_each_and_agree_when_they_meet(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(4)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(4, 2))?;
    let far = Host::new(&rack, "far", 101)?;
    cluster
        .switch()
        .separate(&["node1", "node2", "client"], &["node3", "node4", "far"])?;
    for (client, half) in [(&cluster.client, [0, 1]), (&far, [2, 3])] {
        let owners = eventually(format!("owners among {half:?}"), TIMEOUT, || {
            let owners = cluster.owners_seen_by(client)?;
            ensure!(
                owners.values().all(|owner| half.contains(owner)),
                "{owners:?}"
            );
            Ok(owners)
        })?;
        for node in half {
            cluster.reports(node, &owners)?;
        }
    }
    let all = [0, 1, 2, 3];
    let mut owners = BTreeMap::new();
    let frames = captured(scratch, &mut cluster, "healed", |cluster| {
        cluster.switch().heal()?;
        owners = cluster.await_owners(&all)?;
        sleep(AFTER_HEALING);
        Ok(())
    })?;
    let frames = frames.frames()?;
    let start = frames.first().context("no frames")?.at;
    for (&address, &owner) in &owners {
        let claims = frames.iter().filter(|frame| frame.claims(address));
        let mut others = claims.filter(|frame| frame.source != *cluster.mac(owner));
        let late = others.find(|frame| frame.at - start > BOTH_ANSWER);
        ensure!(late.is_none(), "{address}: {late:?} since {start}");
    }
    let conflicts = all.map(|node| cluster.counter(node, "claimConflicts"));
    let conflicts: u64 = conflicts.into_iter().sum::<Result<u64>>()?;
    ensure!(conflicts > 0, "no conflict was counted");
    check_nothing_moves(&cluster, &owners, &all)
}

/// Nothing that the owner sends arrives anywhere.
fn a_node_that_is_not_received_yields(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(3, 3))?;
    let all = [0, 1, 2];
    let before = cluster.await_owners(&all)?;
    let address = cluster.addresses[0];
    let mute = before[&address];
    let rest: Vec<usize> = all.into_iter().filter(|node| *node != mute).collect();
    let uplink = rack.nodes[mute].uplink.clone();
    let frames = captured(scratch, &mut cluster, "mute", |cluster| {
        uplink.cut_towards(&rack.tor)?;
        let after = cluster.await_owners(&rest)?;
        check_others_stayed(&before, &after, &[mute])?;
        eventually("the mute node reports the owners", TIMEOUT, || {
            cluster.reports(mute, &after)
        })?;
        uplink.restore()?;
        check_nothing_moves(cluster, &after, &all)
    })?;
    for &address in before.keys() {
        let claimants = claimants(&frames, address)?;
        ensure!(claimants.len() <= 2, "{address}: {claimants:?}");
    }
    Ok(())
}

/// The other nodes receive its hellos.
fn a_node_that_receives_nothing_takes_nothing(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(3, 3))?;
    let all = [0, 1, 2];
    let before = cluster.await_owners(&all)?;
    let deaf = &rack.nodes[0];
    let frames = captured(scratch, &mut cluster, "deaf", |cluster| {
        deaf.uplink.cut_towards(&deaf.namespace)?;
        // Longer than the silence after which it would take addresses.
        sleep(Duration::from_secs(5));
        deaf.uplink.restore()?;
        check_nothing_moves(cluster, &before, &all)
    })?;
    for (&address, &owner) in &before {
        let claimants = claimants(&frames, address)?;
        let expected = cluster.mac(owner);
        ensure!(
            claimants.iter().all(|(_, mac)| mac == expected),
            "{address} of {expected}: {claimants:?}"
        );
    }
    Ok(())
}

fn nothing_moves_when_the_whole_lan_is_down(scratch: &Scratch, addresses: &[IpAddr]) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, addresses)?;
    let all = [0, 1, 2];
    let before = cluster.await_owners(&all)?;
    let frames = captured(scratch, &mut cluster, "blackout", |cluster| {
        cluster.switch().black_out()?;
        sleep(BLACKOUT);
        cluster.switch().heal()?;
        check_nothing_moves(cluster, &before, &all)
    })?;
    for (&address, &owner) in &before {
        let claims: Vec<_> = frames
            .frames()?
            .into_iter()
            .filter(|frame| frame.claims(address))
            .collect();
        let expected = cluster.mac(owner);
        ensure!(
            claims.iter().all(|frame| frame.source == *expected),
            "{address} of {expected}: {claims:#?}"
        );
        ensure!(
            claims.len() <= MAX_CLAIMS_AFTER_BLACKOUT,
            "a storm for {address}: {claims:#?}"
        );
    }
    Ok(())
}
