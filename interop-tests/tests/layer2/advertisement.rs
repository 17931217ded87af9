//! What the fields of an L2Advertisement change, and what happens without one.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::lan::{Captured, LanCluster, answers};
use ferrolb_interop_tests::manifest::ferrolb_layer2_advertisement;
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;

use super::{HELLOS, Part, addresses, captured, spread};

const TIMEOUT: Duration = Duration::from_secs(20);
const OBSERVED: Duration = Duration::from_secs(4);

pub(super) const PARTS: &[(&str, Part)] = &[
    ("none", without_an_advertisement_no_frame_is_sent),
    ("fields", the_fields_of_ferrolb_apply_to_a_running_daemon),
];

/// The frames of a while.
fn observed(scratch: &Scratch, cluster: &mut LanCluster<'_>, name: &str) -> Result<Captured> {
    captured(scratch, cluster, name, |_| {
        sleep(OBSERVED);
        Ok(())
    })
}

fn without_an_advertisement_no_frame_is_sent(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(2)?;
    let mut cluster = LanCluster::new(scratch, &rack, &addresses(2, 1), "")?;
    cluster.write_services()?;
    cluster.remove_advertisement()?;
    let all = [0, 1];
    all.iter()
        .try_for_each(|&node| cluster.start_daemon(node))?;
    for (round, name) in ["before", "after"].into_iter().enumerate() {
        let nodes = all.map(|node| cluster.mac(node).clone());
        let frames = observed(scratch, &mut cluster, name)?.frames()?;
        let mut own = frames.iter().filter(|frame| nodes.contains(&frame.source));
        // The kernel's own Neighbor Discovery and MLD go on.
        let hello = own.find(|frame| frame.text.contains("1021") || claims(&cluster, frame));
        ensure!(hello.is_none(), "{hello:?}");
        if round == 0 {
            cluster.write_advertisement("")?;
            cluster.await_owners(&all)?;
            cluster.remove_advertisement()?;
            eventually("no node answers", TIMEOUT, || {
                for &address in &cluster.addresses {
                    let found = answers(&cluster.client.namespace, address)?;
                    ensure!(found.is_empty(), "{address}: {found:?}");
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn claims(cluster: &LanCluster<'_>, frame: &ferrolb_interop_tests::lan::Frame) -> bool {
    let mut addresses = cluster.addresses.iter();
    addresses.any(|address| frame.claims(*address))
}

/// `conflictDetection: none` sends no probe, `helloInterval: 500ms` a fifth of the hellos of the
/// default, and with `sticky: false` a node that returns receives its share.
fn the_fields_of_ferrolb_apply_to_a_running_daemon(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(2)?;
    let mut cluster = LanCluster::new(scratch, &rack, &addresses(4, 0), "")?;
    cluster.remove_advertisement()?;
    let fields = "conflictDetection: none, helloInterval: 500ms, sticky: false";
    let advertisement = ferrolb_layer2_advertisement(fields);
    cluster.folder.write("fields.yaml", &advertisement)?;
    let all = [0, 1];
    all.iter()
        .try_for_each(|&node| cluster.start_daemon(node))?;
    cluster.await_peers(&all)?;
    let frames = captured(scratch, &mut cluster, "first-use", |cluster| {
        cluster.write_services()?;
        cluster.await_owners(&all).map(drop)
    })?;
    // After it, self-tests send probes too.
    let frames = frames.frames()?;
    let before_use = frames.iter().take_while(|frame| !claims(&cluster, frame));
    let probes: Vec<_> = before_use.filter(|frame| frame.is_arp_probe()).collect();
    ensure!(probes.is_empty(), "{probes:?}");

    let hellos = observed(scratch, &mut cluster, "hellos")?.frames_of(HELLOS)?;
    let of_node1 = hellos
        .iter()
        .filter(|frame| frame.source == *cluster.mac(0));
    // Eight, and repetitions after a change. By default it would be 40.
    let count = of_node1.count();
    ensure!((4..=20).contains(&count), "{count} hellos in {OBSERVED:?}");

    cluster.power_off(0)?;
    let owners = cluster.await_owners(&[1])?;
    ensure!(owners.len() == 4, "{owners:?}");
    cluster.power_on(0)?;
    eventually("two addresses on each node", TIMEOUT, || {
        let owners = cluster.owners(&all)?;
        ensure!(spread(&owners, &all) == 0, "{owners:?}");
        Ok(())
    })
}
