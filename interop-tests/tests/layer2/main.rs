//! Layer 2: which node answers ARP and Neighbor Discovery for an address, and what clients of it
//! lose. Clients are real kernels, `arping` and `ndisc6`.

mod advertisement;
mod answers;
mod beside_metallb;
mod both;
mod commands;
mod conflicts;
mod daemons;
mod hellos;
mod kubernetes;
mod nodes;
mod partitions;
mod rollout;
mod saturated;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::consistently;
use ferrolb_interop_tests::kube::{Load, Report};
use ferrolb_interop_tests::lan::{Capture, Captured, LanCluster, Mac};
use ferrolb_interop_tests::scenario::{Scratch, scenario};

/// Matches all frames for which a host changes its neighbor cache, and the hellos of the nodes.
const NEIGHBORS_AND_HELLOS: &str = "arp or icmp6 or udp port 1021";
/// Matches only the hellos.
const HELLOS: &str = "udp port 1021";
/// Time of traffic before a disruption.
const WARM_UP: Duration = Duration::from_secs(1);

/// A part of a test that has hosts of its own.
type Part = fn(&Scratch) -> Result<()>;

/// Runs parts at the same time: they mostly wait.
fn in_parallel(name: &str, parts: &[(&str, Part)]) {
    scenario(name, |scratch| {
        let run = |part: Part, name| part(&scratch.within(name)?);
        let outcomes = thread::scope(|scope| {
            let threads = parts
                .iter()
                .map(|&(name, part)| (name, scope.spawn(move || run(part, name))));
            let threads: Vec<_> = threads.collect();
            let joined = threads
                .into_iter()
                .map(|(name, thread)| (name, thread.join()));
            joined.collect::<Vec<_>>()
        });
        let mut failed = Vec::new();
        for (name, outcome) in outcomes {
            let outcome = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            failed.extend(outcome.err().map(|error| format!("{name}: {error:#}")));
        }
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    });
}

#[test]
fn one_node_answers_and_others_replace_dead_ones() {
    in_parallel(
        "l2-nodes",
        &[answers::PARTS, nodes::PARTS, both::PARTS].concat(),
    );
}

#[test]
fn faults_of_the_lan_and_other_hosts_make_no_second_owner() {
    let parts = [
        partitions::PARTS,
        conflicts::PARTS,
        hellos::PARTS,
        advertisement::PARTS,
    ];
    in_parallel("l2-lan", &parts.concat());
}

/// The first addresses of the pool of [`LanCluster`].
fn addresses(ipv4: u8, ipv6: u8) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = (0..ipv4)
        .map(|number| Ipv4Addr::new(10, 99, 0, 200 + number).into())
        .collect();
    let texts = (0..ipv6).map(|number| format!("fd99::{}", 200 + u32::from(number)));
    addresses.extend(texts.filter_map(|text| text.parse::<IpAddr>().ok()));
    addresses
}

/// The difference between the most and the fewest addresses of these nodes.
fn spread(owners: &BTreeMap<IpAddr, usize>, nodes: &[usize]) -> usize {
    let count = |node: &usize| owners.values().filter(|owner| *owner == node).count();
    let counts: Vec<usize> = nodes.iter().map(count).collect();
    counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
}

/// Checks that addresses that did not belong to these nodes have the same owner as before.
fn check_others_stayed(
    before: &BTreeMap<IpAddr, usize>,
    after: &BTreeMap<IpAddr, usize>,
    dead: &[usize],
) -> Result<()> {
    for (address, owner) in before.iter().filter(|(_, owner)| !dead.contains(owner)) {
        ensure!(
            after.get(address) == Some(owner),
            "{address} moved: {before:?} {after:?}"
        );
    }
    Ok(())
}

/// Checks that all nodes are ready and no address moves while they receive each other.
fn check_nothing_moves(
    cluster: &LanCluster<'_>,
    owners: &BTreeMap<IpAddr, usize>,
    nodes: &[usize],
) -> Result<()> {
    cluster.await_peers(nodes)?;
    consistently("the owners", Duration::from_secs(4), || {
        let found = cluster.owners(nodes)?;
        ensure!(found == *owners, "{owners:?} became {found:?}");
        Ok(())
    })
}

/// What the client loses of requests and of 50 connections to an address, while something happens
/// and for a while afterwards.
fn losses(
    cluster: &mut LanCluster<'_>,
    address: IpAddr,
    after: Duration,
    happens: impl FnOnce(&mut LanCluster<'_>) -> Result<()>,
) -> Result<Report> {
    let target = SocketAddr::new(address, 80);
    let load = Load::start(&cluster.client.namespace, target, 50, 50)?;
    sleep(WARM_UP);
    happens(cluster)?;
    sleep(after);
    let report = load.stop()?;
    ensure!(report.long_lived == 50, "{report:?}");
    Ok(report)
}

/// The frames while something happens.
fn captured(
    scratch: &Scratch,
    cluster: &mut LanCluster<'_>,
    name: &str,
    happens: impl FnOnce(&mut LanCluster<'_>) -> Result<()>,
) -> Result<Captured> {
    let capture = Capture::start(scratch, cluster.switch(), name, NEIGHBORS_AND_HELLOS)?;
    happens(cluster)?;
    capture.stop()
}

/// The senders of the frames that claim an address, each with the time of its first frame in
/// seconds. Consecutive frames of one sender are one entry: an address that moves once has two.
fn claimants(captured: &Captured, address: IpAddr) -> Result<Vec<(f64, Mac)>> {
    let mut claimants: Vec<(f64, Mac)> = Vec::new();
    for frame in captured.frames()? {
        if !frame.claims(address) {
            continue;
        }
        if claimants
            .last()
            .is_none_or(|(_, last)| *last != frame.source)
        {
            claimants.push((frame.at, frame.source));
        }
    }
    Ok(claimants)
}
