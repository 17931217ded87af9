//! What a network must allow for layer 2: the commands of the page on the hosts of a LAN.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::book::{Page, Shell};
use ferrolb_interop_tests::lan::LanCluster;
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;

/// A shell on a host of the LAN.
pub(super) fn on<'lab>(
    scratch: &Scratch,
    name: &str,
    host: &'lab Namespace,
) -> Result<Shell<'lab>> {
    Shell::new(&scratch.file(&format!("shell-{name}")), || {
        host.command("bash")
    })
}

#[test]
pub(super) fn what_a_network_must_allow() {
    scenario("book-networks", |scratch| {
        let rack = Topology::new(3)?;
        let addresses: [IpAddr; 2] = ["10.99.0.200".parse()?, "fd99::200".parse()?];
        let cluster = LanCluster::start(scratch, &rack, &addresses)?;
        let client = on(scratch, "client", &cluster.client.namespace)?;
        let bridge = on(scratch, "bridge", &rack.tor)?;
        let node = on(scratch, "node", &rack.nodes[0].namespace)?;

        let mut page = Page::read("docs/layer2/networks.md")?;
        page.run("Check from a client", &client)?;
        page.run("On the bridge, with the filter", &bridge)?;
        page.run("On the client, with the filter", &client)?;
        a_self_test_fails_behind_a_filter(&cluster)?;
        page.run("On the bridge, without the filter", &bridge)?;
        page.run("On the client, without the filter", &client)?;
        page.run("Multicast groups", &node)?;
        page.run("Linux bridges", &bridge)?;
        page.run("Nodes", &node)?;
        page.run("Clients and routers", &client)?;
        page.finish()
    });
}

/// As the page says of a node that doesn't own the address.
fn a_self_test_fails_behind_a_filter(cluster: &LanCluster<'_>) -> Result<()> {
    let address = cluster.addresses[0];
    for node in 0..cluster.rack.nodes.len() {
        let status = cluster.status(node)?;
        let entry = &status["addresses"][address.to_string()];
        let is_owner = entry["owner"] == cluster.rack.nodes[node].name.as_str();
        let answer = cluster.ask(node, &["l2", "test", &address.to_string()]);
        ensure!(is_owner || answer.is_err(), "{answer:?}");
    }
    Ok(())
}
