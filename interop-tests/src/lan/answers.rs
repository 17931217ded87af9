//! Which hosts answer for an address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result};

use super::host::{Mac, UPLINK};
use crate::netns::Namespace;

/// The Ethernet addresses that answer broadcast requests for an address within a second: `arping`
/// for IPv4, `ndisc6` for IPv6.
///
/// # Errors
/// When the program can't be started, or prints an answer in another format.
pub fn answers(host: &Namespace, address: IpAddr) -> Result<BTreeSet<Mac>> {
    let text = address.to_string();
    let (program, arguments): (_, &[&str]) = match address {
        // Without -c it waits for all answers.
        IpAddr::V4(_) => ("arping", &["-b", "-w", "1", "-I", UPLINK, &text]),
        IpAddr::V6(_) => (
            "ndisc6",
            &["-m", "-n", "-r", "1", "-w", "1000", &text, UPLINK],
        ),
    };
    // Both fail without an answer.
    let output = host
        .command(program)
        .args(arguments)
        .output()
        .with_context(|| format!("start {program}"))?;
    macs_in(&String::from_utf8_lossy(&output.stdout))
}

/// The Ethernet addresses in the output of `arping` ("Unicast reply from 10.99.0.200
/// [02:00:5E:00:53:01]  0.873ms") or `ndisc6` ("Target link-layer address: 02:00:5E:00:53:01").
fn macs_in(output: &str) -> Result<BTreeSet<Mac>> {
    let of_line = |line: &str| {
        let line = line.trim();
        if line.contains("reply from") {
            let (_, rest) = line.split_once('[')?;
            return Some(rest.split(']').next()?.to_owned());
        }
        let (_, mac) = line
            .strip_prefix("Target link-layer address")?
            .split_once(": ")?;
        Some(mac.to_owned())
    };
    let macs = output.lines().filter_map(of_line);
    macs.map(|mac| mac.parse()).collect()
}

/// The Ethernet address of an address in the kernel's neighbor cache of a host; none if it isn't
/// resolved.
///
/// # Errors
/// When `ip` fails.
pub fn cached_answer(host: &Namespace, address: IpAddr) -> Result<Option<Mac>> {
    let text = address.to_string();
    let entries = host.json("ip", &["-j", "neigh", "show", "to", &text, "dev", UPLINK])?;
    entries[0]["lladdr"].as_str().map(str::parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_are_read_from_arping_and_ndisc6() {
        let arping = "ARPING 10.99.0.200 from 10.99.0.100 uplink
Unicast reply from 10.99.0.200 [02:00:5E:00:53:01]  0.873ms
Unicast reply from 10.99.0.200 [02:00:5E:00:53:02]  1.253ms
Sent 1 probes (1 broadcast(s))
Received 2 response(s)
";
        let macs: Vec<String> = macs_in(arping)
            .unwrap()
            .iter()
            .map(Mac::to_string)
            .collect();
        assert_eq!(macs, ["02:00:5e:00:53:01", "02:00:5e:00:53:02"]);
        let ndisc6 = "Soliciting fd99::200 (fd99::200) on uplink...
Target link-layer address: 02:00:5E:00:53:01
 from fd99::200
";
        assert_eq!(macs_in(ndisc6).unwrap().len(), 1);
        assert!(macs_in("Timed out.\nNo response.\n").unwrap().is_empty());
    }
}
