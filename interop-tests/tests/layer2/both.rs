//! A pool that is announced by BGP and by layer 2 at once.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::Load;
use ferrolb_interop_tests::lan::LanCluster;
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL};
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{Bird, Kind, Router, await_kernel};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::{Topology, ipv4_addresses};

use super::{Part, addresses};

const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) const PARTS: &[(&str, Part)] = &[("both", bgp_and_layer2_announce_the_same_address)];

/// A client of the segment reaches the owner; a client behind the router reaches all nodes. A node
/// that is excluded is left out of both.
fn bgp_and_layer2_announce_the_same_address(scratch: &Scratch) -> Result<()> {
    let mut rack = Topology::new(3)?;
    rack.add_client()?;
    let mut router = router(scratch, &rack)?;
    router.start()?;
    let mut cluster = LanCluster::new(scratch, &rack, &addresses(2, 1), "")?;
    let bgp = [manifest::metallb_peer(""), manifest::advertisement("")];
    let bgp = manifest::join(&bgp.each_ref().map(String::as_str));
    cluster.folder.write("bgp.yaml", &bgp)?;
    let all = [0, 1, 2];
    all.iter()
        .try_for_each(|&node| cluster.start_daemon(node))?;
    let nodes = rack.nodes.iter();
    let announcers = nodes.map(|node| cluster.folder.run_beside(node, "announcer"));
    let _announcers: Vec<Process> = announcers.collect::<Result<_>>()?;
    cluster.await_peers(&all)?;
    cluster.write_services()?;
    let owners = cluster.await_owners(&all)?;
    let address = cluster.addresses[0];
    await_next_hops(&rack, address, &all)?;
    check_answers(&cluster.client.namespace, address, &[owners[&address]])?;
    check_answers(rack.client()?, address, &all)?;

    let excluded = owners[&address];
    let labels = [(EXCLUDE_LABEL, "")];
    cluster.folder.write_node(&rack.nodes[excluded], &labels)?;
    let rest: Vec<usize> = all.into_iter().filter(|node| *node != excluded).collect();
    await_next_hops(&rack, address, &rest)?;
    let new = eventually("a new owner", TIMEOUT, || {
        let owner = cluster.owners(&all)?[&address];
        ensure!(owner != excluded, "node{} still answers", owner + 1);
        Ok(owner)
    })?;
    check_answers(&cluster.client.namespace, address, &[new])?;
    check_answers(rack.client()?, address, &rest)
}

/// BIRD as the router of the rack, with the pool of [`LanCluster`] in its import filters.
fn router<'lab>(scratch: &'lab Scratch, rack: &'lab Topology) -> Result<Bird<'lab>> {
    let example = fs::read_to_string(Kind::Bird.example("ebgp"))?;
    let configuration = example
        .replace("192.0.2.0/24+", "10.99.0.192/26+")
        .replace("2001:db8::/32+", "fd99::/64+");
    ensure!(
        configuration != example,
        "the example has other filters now"
    );
    let path = scratch.file("router.conf");
    fs::write(&path, configuration)?;
    Ok(Bird::with_configuration(scratch, &rack.tor, path))
}

/// Waits until the router's kernel has exactly these nodes as next hops of an IPv4 address.
fn await_next_hops(rack: &Topology, address: IpAddr, nodes: &[usize]) -> Result<()> {
    let nodes: Vec<_> = nodes.iter().map(|&node| &rack.nodes[node]).collect();
    let next_hops = ipv4_addresses(&nodes);
    await_kernel(&rack.tor, &format!("{address}/32"), &next_hops, TIMEOUT)
}

/// Checks that exactly these nodes answer the requests of a client.
fn check_answers(client: &Namespace, address: IpAddr, nodes: &[usize]) -> Result<()> {
    let load = Load::start(client, SocketAddr::new(address, 80), 50, 0)?;
    sleep(Duration::from_secs(2));
    let report = load.stop()?;
    ensure!(report.failed == 0, "{report:?}");
    let names = nodes.iter().map(|node| format!("node{}", node + 1));
    let expected: BTreeSet<String> = names.collect();
    let answered: BTreeSet<String> = report.answered.keys().cloned().collect();
    ensure!(answered == expected, "{report:?}");
    Ok(())
}
