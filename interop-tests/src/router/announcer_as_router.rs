//! Our own speaker as the other side: the `bgp` crate's example `announce`, which listens for dynamic neighbours and prints
//! what they announce. Each family's sessions have a process of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;

use super::adj_rib_in::{self, Peer};
use super::{RouteEntry, Router, START_TIMEOUT, version_of};
use crate::announce_example::program;
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Process, Scratch, signal_pid};
use crate::topology::{MD5_PASSWORD, NODE_ASN, TOR_ASN};

/// Where sessions come from, and where they are awaited.
const SIDES: [(&str, &str, &str); 2] = [
    ("v4", "10.99.0.0/24", "10.99.0.1:179"),
    ("v6", "fd99::/64", "[fd99::1]:179"),
];
/// The same in the case `link-local`: such an address alone doesn't say on which link.
const LINK_LOCAL_SIDE: (&str, &str, &str) = ("link-local", "fe80::/64", "[::]:179");

/// Two `announce --receive` in a namespace.
#[derive(Debug)]
pub struct AnnouncerAsRouter<'lab> {
    scratch: &'lab Scratch,
    namespace: &'lab Namespace,
    case: String,
    daemons: Vec<Process>,
}

impl<'lab> AnnouncerAsRouter<'lab> {
    /// Set up as `peering-examples/ROUTER/CASE` sets up a router; not yet started.
    #[must_use]
    pub fn new(scratch: &'lab Scratch, namespace: &'lab Namespace, case: &str) -> Self {
        Self {
            scratch,
            namespace,
            case: case.to_owned(),
            daemons: Vec::new(),
        }
    }

    fn command(&self, network: &str, listen: &str) -> Result<Command> {
        let mut command = self.namespace.command(program()?);
        command.env("NO_COLOR", "1");
        command.args(["--receive", "--peer", network, "--listen", listen]);
        let asn = if self.case == "ibgp" {
            NODE_ASN
        } else {
            TOR_ASN
        };
        command.args(["--local-asn", &asn.to_string()]);
        command.args(["--peer-asn", &NODE_ASN.to_string()]);
        command.args(["--router-id", "10.99.0.1", "--hold-time", "9"]);
        match self.case.as_str() {
            "md5" => {
                let file = self.scratch.file("ferrolb.password");
                fs::write(&file, MD5_PASSWORD)?;
                command.arg("--password-file").arg(file);
            }
            "gtsm" => drop(command.args(["--gtsm", "1"])),
            "bfd" => drop(command.args(["--bfd", "--bfd-interval", "100"])),
            "bfd-multihop" => {
                command.args(["--bfd", "--bfd-interval", "100", "--multihop"]);
            }
            "graceful-restart" => {
                command.args(["--graceful-restart", "20", "--notification-restart"]);
            }
            "link-local" => drop(command.args(["--interface", "rack"])),
            "ebgp" | "ibgp" | "ipv6-only" | "all-capabilities" => {}
            other => bail!("ferrolb as the other side has no case {other}"),
        }
        Ok(command)
    }

    fn peers(&self) -> Result<BTreeMap<IpAddr, Peer>> {
        read_output(&self.log()?)
    }
}

impl Router for AnnouncerAsRouter<'_> {
    fn name(&self) -> &'static str {
        "ferrolb"
    }

    fn installs_routes(&self) -> bool {
        false
    }

    fn start(&mut self) -> Result<()> {
        ensure!(self.daemons.is_empty(), "ferrolb is running");
        let sides = match self.case.as_str() {
            "link-local" => &[LINK_LOCAL_SIDE][..],
            _ => &SIDES,
        };
        for (name, network, listen) in sides {
            let command = self.command(network, listen)?;
            // A log of its own for each start.
            let name = format!("other-side-{}-{name}", self.namespace.name());
            let mut daemon = Process::start(self.scratch, &name, &command)?;
            eventually("ferrolb up", START_TIMEOUT, || {
                daemon.ensure_running()?;
                let port = self.namespace.run("ss", &["-Htln", "sport = :179"])?;
                ensure!(port.contains(listen), "{port}");
                Ok(())
            })?;
            self.daemons.push(daemon);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        for mut daemon in self.daemons.drain(..) {
            daemon.terminate(START_TIMEOUT)?;
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.daemons
            .drain(..)
            .try_for_each(|mut daemon| daemon.kill())
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        Ok(adj_rib_in::sessions(self.peers()?))
    }

    fn table(&self) -> Result<BTreeSet<RouteEntry>> {
        Ok(adj_rib_in::table(self.peers()?))
    }

    fn refused(&self) -> Result<BTreeSet<IpNet>> {
        Ok(BTreeSet::new()) // it filters nothing
    }

    fn version(&self) -> Result<String> {
        version_of(Command::new(program()?).arg("--version"))
    }

    fn describe(&self, prefix: IpNet) -> Result<String> {
        let wanted = format!(" + {prefix} ");
        let log = self.log()?;
        Ok(log
            .lines()
            .rfind(|line| line.contains(&wanted))
            .unwrap_or_default()
            .to_owned())
    }

    fn describe_peer(&self, peer: IpAddr) -> Result<String> {
        let wanted = format!("@{peer} ");
        let log = self.log()?;
        Ok(log.lines().filter(|line| line.contains(&wanted)).collect())
    }

    fn updates_from(&self, peer: IpAddr) -> Result<u64> {
        bail!("it does not count those of {peer}")
    }

    fn log(&self) -> Result<String> {
        let logs: Vec<String> = self
            .daemons
            .iter()
            .map(Process::log_text)
            .collect::<Result<_>>()?;
        Ok(logs.concat())
    }

    fn refresh(&self, peer: IpAddr) -> Result<()> {
        bail!("it never asks {peer} for its routes again")
    }

    fn change_password(&self, password: &str) -> Result<()> {
        fs::write(self.scratch.file("ferrolb.password"), password)?;
        self.daemons
            .iter()
            .try_for_each(|daemon| signal_pid("HUP", daemon.pid()))
    }

    fn shut_down(&self, peer: IpAddr, _: &str) -> Result<()> {
        bail!("it has no command that ends the session with {peer}")
    }
}

/// Reads the lines `NETWORK@ADDRESS up`, `… down`, `… - PREFIX` and `… + PREFIX via NEXT-HOP …` among the others.
fn read_output(text: &str) -> Result<BTreeMap<IpAddr, Peer>> {
    let mut peers: BTreeMap<IpAddr, Peer> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let address = words[0]
            .split_once('@')
            .and_then(|(_, address)| address.parse().ok());
        let Some(address) = address else {
            continue; // a line of the log
        };
        let peer = peers.entry(address).or_default();
        match words[1..] {
            ["up"] => {
                peer.established = true;
                peer.sessions += 1;
            }
            ["down"] => {
                peer.established = false;
                peer.routes.clear();
            }
            ["-", prefix] => drop(peer.routes.remove(&prefix.parse()?)),
            ["+", prefix, "via", next_hop, ref attributes @ ..] => {
                let route = route(prefix, next_hop, attributes).with_context(|| line.to_owned())?;
                peer.routes.insert(route.prefix, route);
            }
            _ => {}
        }
    }
    Ok(peers)
}

/// `community 64700:120 large-community 64700:1:2 local-pref 150`, in any number.
fn route(prefix: &str, next_hop: &str, attributes: &[&str]) -> Result<RouteEntry> {
    let mut route = RouteEntry::new(prefix, next_hop)?;
    // A link-local address may stand after the global one.
    let attributes = match attributes {
        [link_local, rest @ ..] if link_local.starts_with('(') => rest,
        all => all,
    };
    for pair in attributes.chunks(2) {
        match pair {
            ["community", value] => route.communities.push((*value).to_owned()),
            ["large-community", value] => route.large_communities.push((*value).to_owned()),
            ["local-pref", value] => route.local_pref = Some(value.parse()?),
            _ => {}
        }
    }
    route.communities.sort();
    route.large_communities.sort();
    Ok(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_adds_up_to_a_table() {
        let text = "2026-11-21T12:24:05Z INFO session up peer=10.99.0.0/24@10.99.0.11
10.99.0.0/24@10.99.0.11 up
10.99.0.0/24@10.99.0.11 + 203.0.113.10/32 via 10.99.0.11 community 64700:120 large-community 64700:1:2 local-pref 150
10.99.0.0/24@10.99.0.11 + 203.0.113.11/32 via 10.99.0.11
10.99.0.0/24@10.99.0.11 - 203.0.113.11/32
10.99.0.0/24@10.99.0.11 End-of-RIB ipv4-unicast
10.99.0.0/24@10.99.0.12 up
10.99.0.0/24@10.99.0.12 + 203.0.113.12/32 via 10.99.0.12
10.99.0.0/24@10.99.0.12 down
";
        let peers = read_output(text).unwrap();
        let first = &peers[&"10.99.0.11".parse().unwrap()];
        let expected = RouteEntry::new("203.0.113.10/32", "10.99.0.11")
            .unwrap()
            .communities(&["64700:120"])
            .large_communities(&["64700:1:2"])
            .local_pref(150);
        assert!(first.established && first.sessions == 1);
        assert_eq!(first.routes.values().collect::<Vec<_>>(), [&expected]);
        let second = &peers[&"10.99.0.12".parse().unwrap()];
        assert!(!second.established && second.routes.is_empty());
    }
}
