//! ferrolb's engine as the router: the example `announce` of the `bgp` crate, which accepts dynamic
//! neighbors and prints the routes that they announce.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;

use super::adj_rib_in::{self, AdjRibIn};
use super::{Instance, RouteEntry, Router, START_TIMEOUT, version_of};
use crate::eventually::eventually;
use crate::example::{self, program};
use crate::process::{Process, signal_pid};
use crate::topology::{MD5_PASSWORD, NODE_ASN, TOR_ASN};

/// Of each process: name, network of the neighbors, and listening address.
const LISTENERS: [(&str, &str, &str); 2] = [
    ("v4", "10.99.0.0/24", "10.99.0.1:179"),
    ("v6", "fd99::/64", "[fd99::1]:179"),
];
/// The process of the example `link-local`. It listens on all addresses, since a link-local address
/// does not name its interface.
const LINK_LOCAL_LISTENER: (&str, &str, &str) = ("link-local", "fe80::/64", "[::]:179");

/// `announce --receive` in a namespace, one process per family. The configuration is the name of an
/// example.
#[derive(Debug)]
pub struct AnnouncerAsRouter<'lab>(pub(super) Instance<'lab>);

impl AnnouncerAsRouter<'_> {
    fn example(&self) -> String {
        self.0.configuration.display().to_string()
    }

    fn command(&self, network: &str, listen: &str) -> Result<Command> {
        let mut command = self.0.namespace.command(program(example::BGP)?);
        command.env("NO_COLOR", "1");
        command.args(["--receive", "--peer", network, "--listen", listen]);
        let asn = if self.example() == "ibgp" {
            NODE_ASN
        } else {
            TOR_ASN
        };
        command.args(["--local-asn", &asn.to_string()]);
        command.args(["--peer-asn", &NODE_ASN.to_string()]);
        command.args(["--router-id", "10.99.0.1", "--hold-time", "9"]);
        match self.example().as_str() {
            "md5" => {
                let file = self.0.scratch.file("ferrolb.password");
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
            other => bail!("ferrolb as the router has no example {other}"),
        }
        Ok(command)
    }

    fn peers(&self) -> Result<BTreeMap<IpAddr, AdjRibIn>> {
        read_output(&self.log()?)
    }
}

impl Router for AnnouncerAsRouter<'_> {
    fn instance(&self) -> &Instance<'_> {
        &self.0
    }

    fn start(&mut self) -> Result<()> {
        self.0.ensure_stopped()?;
        let listeners = match self.example().as_str() {
            "link-local" => &[LINK_LOCAL_LISTENER][..],
            _ => &LISTENERS,
        };
        for (name, network, listen) in listeners {
            let command = self.command(network, listen)?;
            let name = format!("router-{}-{name}", self.0.namespace.name());
            let mut process = Process::start(self.0.scratch, &name, &command)?;
            eventually("ferrolb up", START_TIMEOUT, || {
                process.ensure_running()?;
                let port = self.0.namespace.run("ss", &["-Htln", "sport = :179"])?;
                ensure!(port.contains(listen), "{port}");
                Ok(())
            })?;
            self.0.processes.push(process);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.0.stop()
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        Ok(adj_rib_in::sessions(self.peers()?))
    }

    fn table(&self) -> Result<BTreeSet<RouteEntry>> {
        Ok(adj_rib_in::table(self.peers()?))
    }

    fn rejected(&self) -> Result<BTreeSet<IpNet>> {
        Ok(BTreeSet::new()) // it has no import filter
    }

    fn version(&self) -> Result<String> {
        version_of(Command::new(program(example::BGP)?).arg("--version"))
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
        bail!("ferrolb as the router does not count the UPDATEs of {peer}")
    }

    fn refresh(&self, peer: IpAddr) -> Result<()> {
        bail!("ferrolb as the router has no command to request a refresh from {peer}")
    }

    fn change_password(&self, password: &str) -> Result<()> {
        fs::write(self.0.scratch.file("ferrolb.password"), password)?;
        self.0
            .processes
            .iter()
            .try_for_each(|process| signal_pid("HUP", process.pid()))
    }

    fn shut_down(&self, peer: IpAddr, _: &str) -> Result<()> {
        bail!("ferrolb as the router has no command to shut down {peer}")
    }
}

/// Rebuilds the tables from the lines `NETWORK@ADDRESS up`, `… down`, `… - PREFIX` and
/// `… + PREFIX via NEXT-HOP …` of the output.
fn read_output(text: &str) -> Result<BTreeMap<IpAddr, AdjRibIn>> {
    let mut peers: BTreeMap<IpAddr, AdjRibIn> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let address = words[0]
            .split_once('@')
            .and_then(|(_, address)| address.parse().ok());
        let Some(address) = address else {
            continue; // a log line
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

/// Reads any number of attributes: `community 64700:120 large-community 64700:1:2 local-pref 150`.
fn route(prefix: &str, next_hop: &str, attributes: &[&str]) -> Result<RouteEntry> {
    let mut route = RouteEntry::new(prefix, next_hop)?;
    // The global next hop may be followed by a link-local one in parentheses.
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
    fn announcements_and_withdrawals_change_the_table() {
        let text = "2026-11-21T12:24:05Z INFO session up peer=10.99.0.0/24@10.99.0.11
10.99.0.0/24@10.99.0.11 up
10.99.0.0/24@10.99.0.11 + 203.0.113.10/32 via 10.99.0.11 community 64700:120 \
            large-community 64700:1:2 local-pref 150
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
