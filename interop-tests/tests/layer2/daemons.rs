//! Daemons that end, are killed, or stall, on nodes that live on.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::lan::{Capture, LanCluster};
use ferrolb_interop_tests::manifest::EXCLUDE_LABEL;
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;

use super::{
    NEIGHBORS_AND_HELLOS, addresses, captured, check_nothing_moves, check_others_stayed, claimants,
    in_parallel, losses,
};

/// Five times the interval of an owner's hellos.
const FIVE_HELLOS: Duration = Duration::from_millis(500);
/// Seconds for which peers wait for a dead process, less the jitter of its hellos.
const DEAD_PROCESS_HOLD: f64 = 1.8;
/// Seconds for which peers wait for a process that said it restarts, less the same jitter.
const RESTART_HOLD: f64 = 9.8;

#[test]
fn addresses_move_only_from_daemons_that_end_or_stay_away() {
    in_parallel(
        "l2-daemons",
        &[
            ("back", a_killed_daemon_that_comes_back_keeps_its_addresses),
            ("killed", |scratch| {
                a_daemon_that_stays_away_is_replaced(scratch, Ending::Killed)
            }),
            ("ended", |scratch| {
                a_daemon_that_stays_away_is_replaced(scratch, Ending::Stopped)
            }),
            ("short", |scratch| a_stall_makes_no_second_owner(scratch, 2)),
            ("long", |scratch| a_stall_makes_no_second_owner(scratch, 5)),
            (
                "stopped",
                a_stopped_daemon_that_comes_back_keeps_its_addresses,
            ),
            ("excluded", an_excluded_node_hands_over_without_loss),
            ("replaced", a_replaced_daemon_keeps_its_addresses),
            (
                "refused",
                a_daemon_without_packet_sockets_says_what_it_lacks,
            ),
        ],
    );
}

/// Checks that no request and no connection is lost while something happens to an owner, and that
/// only the owner answers.
fn keeps_its_addresses(
    scratch: &Scratch,
    happens: impl FnOnce(&mut LanCluster<'_>, usize) -> Result<()>,
) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(4, 2))?;
    let all = [0, 1, 2];
    let before = cluster.await_owners(&all)?;
    let address = cluster.addresses[0];
    let owner = before[&address];
    let capture = Capture::start(scratch, cluster.switch(), "kept", NEIGHBORS_AND_HELLOS)?;
    let report = losses(&mut cluster, address, Duration::from_secs(5), |cluster| {
        happens(cluster, owner)
    })?;
    ensure!((report.failed, report.broken) == (0, 0), "{report:?}");
    let frames = capture.stop()?;
    for (&address, &owner) in &before {
        let claimants = claimants(&frames, address)?;
        let expected = cluster.mac(owner);
        ensure!(
            claimants.iter().all(|(_, mac)| mac == expected),
            "{address} of {expected}: {claimants:?}"
        );
    }
    check_nothing_moves(&cluster, &before, &all)
}

fn a_killed_daemon_that_comes_back_keeps_its_addresses(scratch: &Scratch) -> Result<()> {
    keeps_its_addresses(scratch, |cluster, owner| {
        cluster.kill_daemon(owner)?;
        cluster.start_daemon(owner)
    })
}

/// How a daemon ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// By SIGKILL.
    Killed,
    /// By SIGTERM: it announces that it restarts.
    Stopped,
}

impl Ending {
    fn apply(self, cluster: &mut LanCluster<'_>, node: usize) -> Result<()> {
        match self {
            Self::Killed => cluster.kill_daemon(node),
            Self::Stopped => cluster.stop_daemon(node),
        }
    }

    /// The seconds for which peers wait at least.
    const fn hold(self) -> f64 {
        match self {
            Self::Killed => DEAD_PROCESS_HOLD,
            Self::Stopped => RESTART_HOLD,
        }
    }
}

fn a_daemon_that_stays_away_is_replaced(scratch: &Scratch, ending: Ending) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(4, 2))?;
    let all = [0, 1, 2];
    let before = cluster.await_owners(&all)?;
    let address = cluster.addresses[0];
    let owner = before[&address];
    let rest: Vec<usize> = all.into_iter().filter(|node| *node != owner).collect();
    let frames = captured(scratch, &mut cluster, "away", |cluster| {
        // The capture has at least one hello of the owner.
        sleep(FIVE_HELLOS);
        ending.apply(cluster, owner)?;
        let after = cluster.await_owners(&rest)?;
        check_others_stayed(&before, &after, &[owner])
    })?;
    let old = cluster.mac(owner);
    let last_hello = frames
        .frames_of(super::HELLOS)?
        .into_iter()
        .filter(|frame| frame.source == *old)
        .map(|frame| frame.at)
        .next_back()
        .context("no hello of the owner")?;
    let claimants = claimants(&frames, address)?;
    let (taken, _) = claimants
        .iter()
        .find(|(_, mac)| mac != old)
        .context("not taken over")?;
    ensure!(
        taken - last_hello >= ending.hold(),
        "{ending:?}: taken over {:.2} s after the last hello",
        taken - last_hello
    );
    Ok(())
}

/// The requests that arrive while the owner is stalled wait in its socket.
fn a_stall_makes_no_second_owner(scratch: &Scratch, seconds: u64) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(3, 3))?;
    let all = [0, 1, 2];
    let before = cluster.await_owners(&all)?;
    let address = cluster.addresses[0];
    let owner = before[&address];
    let frames = captured(scratch, &mut cluster, "stall", |cluster| {
        let seconds_of_requests = (seconds + 4).to_string();
        let mut arping = cluster.client.namespace.command("arping");
        arping.args(["-b", "-q", "-w", &seconds_of_requests, "-I", "uplink"]);
        let mut requests = arping.arg(address.to_string()).spawn()?;
        sleep(Duration::from_millis(500));
        cluster.daemon(owner)?.suspend()?;
        sleep(Duration::from_secs(seconds));
        cluster.daemon(owner)?.resume()?;
        requests.wait()?;
        Ok(())
    })?;
    let after = cluster.await_owners(&all)?;
    check_others_stayed(&before, &after, &[owner])?;
    for &address in before.keys() {
        let claimants = claimants(&frames, address)?;
        ensure!(claimants.len() <= 2, "{address}: {claimants:?}");
    }
    if seconds > 2 {
        ensure!(after[&address] != owner, "not taken over: {after:?}");
        ensure!(claimants(&frames, address)?.len() == 2);
    }
    ensure!(cluster.counter(owner, "stalls")? >= 1);
    check_nothing_moves(&cluster, &after, &all)
}

/// Its peers wait for it, and its node goes on forwarding.
fn a_stopped_daemon_that_comes_back_keeps_its_addresses(scratch: &Scratch) -> Result<()> {
    keeps_its_addresses(scratch, |cluster, owner| {
        cluster.stop_daemon(owner)?;
        sleep(Duration::from_secs(3));
        cluster.start_daemon(owner)
    })
}

fn a_replaced_daemon_keeps_its_addresses(scratch: &Scratch) -> Result<()> {
    keeps_its_addresses(scratch, |cluster, owner| cluster.replace_daemon(owner))
}

fn an_excluded_node_hands_over_without_loss(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(4, 2))?;
    let all = [0, 1, 2];
    let before = cluster.await_owners(&all)?;
    let address = cluster.addresses[0];
    let owner = before[&address];
    let rest: Vec<usize> = all.into_iter().filter(|node| *node != owner).collect();
    let capture = Capture::start(scratch, cluster.switch(), "excluded", NEIGHBORS_AND_HELLOS)?;
    let report = losses(&mut cluster, address, Duration::from_secs(3), |cluster| {
        let labels = [(EXCLUDE_LABEL, "")];
        cluster.folder.write_node(&rack.nodes[owner], &labels)
    })?;
    ensure!(report.handed_over(), "{report:?}");
    ensure!(report.answered.len() == 2, "{report:?}");
    let after = cluster.await_owners(&rest)?;
    check_others_stayed(&before, &after, &[owner])?;
    let frames = capture.stop()?;
    for &address in before.keys() {
        let claimants = claimants(&frames, address)?;
        ensure!(claimants.len() <= 2, "{address}: {claimants:?}");
    }
    cluster.folder.write_node(&rack.nodes[owner], &[])?;
    check_nothing_moves(&cluster, &after, &all)
}

/// It is no candidate, since it sends no hello.
fn a_daemon_without_packet_sockets_says_what_it_lacks(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(2)?;
    let mut cluster = LanCluster::new(scratch, &rack, &addresses(2, 0), "")?;
    cluster.write_services()?;
    let mut refused = cluster
        .folder
        .run_without(&rack.nodes[1], "layer2", "net_raw")?;
    refused.await_log(&["NET_RAW"], Duration::from_secs(20))?;
    cluster.start_daemon(0)?;
    let owners = cluster.await_owners(&[0])?;
    ensure!(owners.len() == 2, "{owners:?}");
    refused.ensure_running()
}
