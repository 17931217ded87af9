//! Which node answers for an address, as the client's kernel sees it.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::topology::Topology;

use crate::ADDRESSES;

/// Longer than any of the programs takes to start.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The position of the node whose Ethernet address answers for an address, by a probe.
pub(crate) fn owner_of(topology: &Topology, address: Ipv4Addr) -> Result<Option<usize>> {
    let text = address.to_string();
    let mut arping = topology.tor.command("arping");
    // Fails without an answer.
    let output = arping
        .args(["-c", "1", "-w", "1", "-I", "rack", &text])
        .output()?;
    let answers = String::from_utf8_lossy(&output.stdout).to_lowercase();
    for (position, node) in topology.nodes.iter().enumerate() {
        let link = node
            .namespace
            .json("ip", &["-j", "link", "show", "uplink"])?;
        let mac = link[0]["address"]
            .as_str()
            .context("uplink has no address")?;
        if answers.contains(mac) {
            return Ok(Some(position));
        }
    }
    Ok(None)
}

/// The owners of all addresses.
pub(crate) fn owners(topology: &Topology) -> Result<Vec<Option<usize>>> {
    let addresses = ADDRESSES.iter();
    addresses
        .map(|address| owner_of(topology, *address))
        .collect()
}

/// Waits until every address has an owner.
pub(crate) fn await_owners(topology: &Topology) -> Result<()> {
    eventually("an answer for every address", TIMEOUT, || {
        let owners = owners(topology)?;
        ensure!(owners.iter().all(Option::is_some), "{owners:?}");
        Ok(())
    })
}

/// How many addresses have another owner.
pub(crate) fn moved(before: &[Option<usize>], after: &[Option<usize>]) -> usize {
    before.iter().zip(after).filter(|(a, b)| a != b).count()
}
