//! Frames that nodes send on the rack's LAN, counted by the kernel at the bridge's ports.

use anyhow::{Context, Result};
use ferrolb_interop_tests::topology::Topology;

/// The frames that all nodes have sent so far.
pub(crate) fn sent(topology: &Topology) -> Result<u64> {
    let links = topology.tor.json("ip", &["-j", "-s", "link", "show"])?;
    let links = links.as_array().context("no links")?;
    let ports = links.iter().filter(|link| {
        let name = link["ifname"].as_str().unwrap_or_default();
        topology.nodes.iter().any(|node| node.name == name)
    });
    ports
        .map(|link| {
            link["stats64"]["rx"]["packets"]
                .as_u64()
                .context("no rx packets")
        })
        .sum()
}
