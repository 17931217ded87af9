//! A machine whose CPUs are all busy.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::thread::{available_parallelism, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::lan::{Captured, CpuGroup, LanCluster};
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;

use super::{addresses, captured, check_nothing_moves, claimants};

/// Shares of a container without a CPU request.
const NO_REQUEST: u64 = 2;
/// Shares of a request of 20m.
const SMALL_REQUEST: u64 = 20;
/// Shares of the busy processes.
const OTHERS: u64 = 2048;
const BUSY: Duration = Duration::from_secs(10);

#[test]
fn a_busy_machine_makes_no_second_owner_and_a_cpu_request_prevents_moves() {
    scenario("l2-saturated", |scratch| {
        let rack = Topology::new(3)?;
        let mut cluster = LanCluster::start(scratch, &rack, &addresses(6, 0))?;
        let all = [0, 1, 2];
        for shares in [SMALL_REQUEST, NO_REQUEST] {
            let before = cluster.await_owners(&all)?;
            let frames = saturate(scratch, &mut cluster, shares)?;
            let after = cluster.await_owners(&all)?;
            if shares == SMALL_REQUEST {
                ensure!(before == after, "{before:?} became {after:?}");
                for &address in before.keys() {
                    let claimants = claimants(&frames, address)?;
                    ensure!(claimants.len() <= 1, "{address}: {claimants:?}");
                }
            }
            check_owners_took_turns(&cluster, &frames, &before)?;
            check_nothing_moves(&cluster, &after, &all)?;
        }
        Ok(())
    });
}

/// The frames while the daemons have these shares and all CPUs are busy.
fn saturate(scratch: &Scratch, cluster: &mut LanCluster<'_>, shares: u64) -> Result<Captured> {
    let own = CpuGroup::new("own", shares)?;
    let busy = CpuGroup::new("busy", OTHERS)?;
    for node in 0..cluster.rack.nodes.len() {
        own.add(cluster.daemon(node)?.pid())?;
    }
    let name = format!("shares-{shares}");
    let frames = captured(scratch, cluster, &name, |_| {
        let mut processes = Vec::new();
        for number in 0..available_parallelism()?.get() * 2 {
            let mut work = Command::new("sh");
            work.args(["-c", "while :; do :; done"]);
            let process = Process::start(scratch, &format!("busy-{number}"), &work)?;
            busy.add(process.pid())?;
            processes.push(process);
        }
        sleep(BUSY);
        Ok(())
    })?;
    // The group of the daemons can't be removed while they are in it.
    for node in 0..cluster.rack.nodes.len() {
        CpuGroup::leave(cluster.daemon(node)?.pid())?;
    }
    Ok(frames)
}

/// Checks that owners took turns: there are as many claimants of an address in a row as owners that
/// the nodes report. Two owners that answer in turn would be more.
fn check_owners_took_turns(
    cluster: &LanCluster<'_>,
    frames: &Captured,
    before: &BTreeMap<IpAddr, usize>,
) -> Result<()> {
    for &address in before.keys() {
        let claimants = claimants(frames, address)?;
        let mut owners = 0;
        for node in 0..cluster.rack.nodes.len() {
            let status = cluster.status(node)?;
            let moves = &status["addresses"][address.to_string()]["moves"];
            let moves = moves.as_array().context("no moves")?;
            owners = owners.max(moves.iter().filter(|entry| !entry["to"].is_null()).count());
        }
        // A status has the last eight changes.
        ensure!(
            claimants.len() <= owners || owners >= 4,
            "{address}: {owners} owners, {claimants:?}"
        );
    }
    Ok(())
}
