//! BIRD, queried with `birdc`. It prints text only; the formats here are those of 2.0.12.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;

use super::{
    Exec, Instance, Kind, RouteEntry, Router, START_TIMEOUT, replace_password, sorted, version_of,
};
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Process, run};
use crate::scenario::Scratch;

/// BIRD in a namespace.
#[derive(Debug)]
pub struct Bird<'lab>(pub(super) Instance<'lab>);

impl<'lab> Bird<'lab> {
    /// BIRD with `peering-examples/bird/EXAMPLE.conf`, not started.
    #[must_use]
    pub fn new(scratch: &'lab Scratch, namespace: &'lab Namespace, example: &str) -> Self {
        Self::with_configuration(scratch, namespace, Kind::Bird.example(example))
    }

    /// BIRD with another configuration, not started.
    #[must_use]
    pub fn with_configuration(
        scratch: &'lab Scratch,
        namespace: &'lab Namespace,
        configuration: PathBuf,
    ) -> Self {
        Self(Instance::new(Kind::Bird, scratch, namespace, configuration))
    }

    /// Name of its files in the scratch folder: a scenario may run several, one per namespace.
    fn file_stem(&self) -> String {
        format!("bird-{}", self.0.namespace.name())
    }

    fn socket(&self) -> PathBuf {
        self.0.scratch.file(&format!("{}.ctl", self.file_stem()))
    }

    /// Runs `birdc`.
    ///
    /// # Errors
    /// When BIRD does not answer or rejects the line.
    pub fn birdc(&self, line: &str) -> Result<String> {
        run(Command::new("timeout")
            .args(["60", "birdc", "-s"])
            .arg(self.socket())
            .arg(line))
    }

    /// The protocol of a neighbor in the output of `show protocols all`.
    fn protocol(&self, peer: IpAddr) -> Result<String> {
        let protocols = self.birdc("show protocols all")?;
        let wanted = format!("Neighbor address: {peer}");
        let found = protocols
            .split("\n\n")
            .find(|protocol| protocol.lines().any(|line| line.trim() == wanted));
        Ok(found
            .with_context(|| format!("no neighbor {peer}: {protocols}"))?
            .trim_start()
            .to_owned())
    }

    fn protocol_name(&self, peer: IpAddr) -> Result<String> {
        let protocol = self.protocol(peer)?;
        // The first protocol follows the greeting and the title line.
        let mut lines = protocol.lines();
        let line = lines
            .find(|line| line.contains(" BGP "))
            .with_context(|| protocol.clone())?;
        Ok(line.split(' ').next().unwrap_or_default().to_owned())
    }
}

impl Router for Bird<'_> {
    fn instance(&self) -> &Instance<'_> {
        &self.0
    }

    fn start(&mut self) -> Result<()> {
        self.0.ensure_stopped()?;
        let configuration = &self.0.configuration;
        let mut command = self.0.namespace.command("bird");
        command.arg("-f").arg("-c").arg(configuration);
        command.arg("-s").arg(self.socket());
        if fs::read_to_string(configuration)?.contains("\ngraceful restart wait ") {
            command.arg("-R");
        }
        let mut process = Process::start(self.0.scratch, &self.file_stem(), &command)?;
        eventually("BIRD up", START_TIMEOUT, || {
            process.ensure_running()?;
            let status = self.birdc("show status")?;
            ensure!(status.contains("Daemon is up and running"), "{status}");
            Ok(())
        })?;
        self.0.processes.push(process);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.0.stop()
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        // The "since" column varies by a millisecond between two replies, and the name of a dynamic
        // neighbor is used again. The peer's TCP port identifies the session.
        let connections = self
            .0
            .namespace
            .run("ss", &["-Htn", "state", "established", "sport = :179"])?;
        let connections = read_connections(&connections);
        let established = read_established(&self.birdc("show protocols all")?);
        let mark = |peer| format!("from ports {:?}", connections.get(&peer));
        Ok(established
            .into_iter()
            .map(|peer| (peer, mark(peer)))
            .collect())
    }

    fn table(&self) -> Result<BTreeSet<RouteEntry>> {
        read_routes(&self.birdc("show route all")?)
    }

    fn rejected(&self) -> Result<BTreeSet<IpNet>> {
        let routes = read_routes(&self.birdc("show route filtered all")?)?;
        Ok(routes.into_iter().map(|route| route.prefix).collect())
    }

    fn version(&self) -> Result<String> {
        version_of(Command::new("bird").arg("--version"))
    }

    fn describe(&self, prefix: IpNet) -> Result<String> {
        // `birdc` fails if there is no such route.
        Ok(self
            .birdc(&format!("show route for {prefix} all"))
            .unwrap_or_default())
    }

    fn describe_peer(&self, peer: IpAddr) -> Result<String> {
        self.protocol(peer)
    }

    fn updates_from(&self, peer: IpAddr) -> Result<u64> {
        // One line "Import updates" per channel; BIRD counts prefixes.
        let protocol = self.protocol(peer)?;
        let counts = protocol.lines().filter_map(|line| {
            line.trim()
                .strip_prefix("Import updates:")?
                .split_whitespace()
                .next()
        });
        counts.map(|count| Ok(count.parse::<u64>()?)).sum()
    }

    fn refresh(&self, peer: IpAddr) -> Result<()> {
        self.birdc(&format!("reload in {}", self.protocol_name(peer)?))
            .map(drop)
    }

    fn change_password(&self, password: &str) -> Result<()> {
        let file = self.0.scratch.file("bird-password.conf");
        replace_password(&self.0.configuration, &file, password)?;
        self.birdc(&format!("configure \"{}\"", file.display()))
            .map(drop)
    }

    fn shut_down(&self, peer: IpAddr, text: &str) -> Result<()> {
        self.birdc(&format!("disable {} \"{text}\"", self.protocol_name(peer)?))
            .map(drop)
    }
}

pub(super) fn table_via(exec: Exec<'_>) -> Result<BTreeSet<RouteEntry>> {
    read_routes(&exec(&["birdc", "show route all"])?)
}

/// Reads `ss -Htn state established`: the remote ports by remote address. Format:
/// `0      0      10.99.0.1:179      10.99.0.11:45678`, IPv6 addresses in brackets.
fn read_connections(output: &str) -> BTreeMap<IpAddr, BTreeSet<u16>> {
    let mut connections: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
    let remotes = output
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3));
    for remote in remotes.filter_map(|remote| remote.parse::<SocketAddr>().ok()) {
        connections
            .entry(remote.ip())
            .or_default()
            .insert(remote.port());
    }
    connections
}

/// Reads `show protocols all`: the addresses of Established peers.
fn read_established(output: &str) -> BTreeSet<IpAddr> {
    let mut peers = BTreeSet::new();
    let mut established = false;
    for line in output.lines() {
        if !line.starts_with(' ') {
            // "node1      BGP        ---        up     08:49:28.685  Established"
            let words: Vec<&str> = line.split_whitespace().collect();
            established = matches!(words[..], [_, "BGP", _, "up", _, "Established"]);
        } else if let Some(address) = line.trim().strip_prefix("Neighbor address:")
            && let Ok(address) = address.trim().parse()
            && established
        {
            peers.insert(address);
        }
    }
    peers
}

/// Reads `show route all`: the routes received by BGP.
///
/// A route begins with `PREFIX unicast [node1 08:49:29.556] …`; further routes for the same prefix
/// have blanks instead of the prefix. The attributes follow, each on a line that begins with a tab.
fn read_routes(output: &str) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    let mut prefix = None;
    let mut block: Option<(IpNet, Vec<&str>)> = None;
    for line in output.lines() {
        if let Some(attribute) = line.strip_prefix('\t') {
            if let Some((_, attributes)) = &mut block {
                attributes.push(attribute);
            }
            continue;
        }
        routes.extend(finish(block.take())?);
        if !line.contains(" unicast [") && !line.contains(" unreachable [") {
            continue; // a title or a discarded route
        }
        if !line.starts_with(' ') {
            let word = line.split_whitespace().next().unwrap_or_default();
            prefix = Some(word.parse().with_context(|| line.to_owned())?);
        }
        block = prefix.map(|prefix| (prefix, Vec::new()));
    }
    routes.extend(finish(block)?);
    Ok(routes)
}

/// The route of a block; none if another protocol than BGP added it.
fn finish(block: Option<(IpNet, Vec<&str>)>) -> Result<Option<RouteEntry>> {
    let Some((prefix, attributes)) = block else {
        return Ok(None);
    };
    let value = |name: &str| {
        attributes
            .iter()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let Some(next_hop) = value("BGP.next_hop") else {
        return Ok(None);
    };
    // The global address, optionally followed by a link-local one.
    let next_hop = next_hop.split(' ').next().unwrap_or_default();
    // BIRD sets LOCAL_PREF 100 on eBGP routes. A route with an empty AS_PATH is an iBGP route that
    // its sender originated.
    let internal = value("BGP.as_path").is_none_or(str::is_empty);
    let local_pref = match value("BGP.local_pref") {
        Some(number) if internal => Some(number.parse()?),
        _ => None,
    };
    Ok(Some(RouteEntry {
        communities: tuples(value("BGP.community")),
        large_communities: tuples(value("BGP.large_community")),
        local_pref,
        ..RouteEntry::new(&prefix.to_string(), next_hop)?
    }))
}

/// Reads `(64700,120) (64700,121)` or `(64700, 1, 2)`; returns the communities with colons.
fn tuples(list: Option<&str>) -> Vec<String> {
    sorted(
        list.unwrap_or_default()
            .split(')')
            .filter_map(|tuple| tuple.trim().strip_prefix('('))
            .map(|tuple| tuple.replace(", ", ":").replace(',', ":")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_both_families_are_read() {
        let output = "BIRD 2.0.12 ready.\n\
            Table master4:\n\
            203.0.113.10/32      unicast [node2 08:49:29.556] * (100) [AS64700i]\n\
            \tvia 10.99.0.12 on rack\n\
            \tType: BGP univ\n\
            \tBGP.as_path: 64700\n\
            \tBGP.next_hop: 10.99.0.12\n\
            \tBGP.local_pref: 100\n\
            \tBGP.community: (64700,120) (64700,20)\n\
            \tBGP.large_community: (64700, 1, 2)\n\
            \u{20}                    unicast [node1 08:49:29.557] (100) [i]\n\
            \tvia 10.99.0.11 on rack\n\
            \tBGP.as_path: \n\
            \tBGP.next_hop: 10.99.0.11\n\
            \tBGP.local_pref: 150\n\
            10.99.0.0/24         unicast [direct1 08:49:29.556] * (240)\n\
            \tdev rack\n\
            \n\
            Table master6:\n\
            2001:db8:113::10/128 unicast [node1 08:49:29.596 from 10.99.0.11] * (100) [AS64700i]\n\
            \tvia fd99::11 on rack\n\
            \tBGP.as_path: 64700\n\
            \tBGP.next_hop: fd99::11 fe80::a479:d0ff:fe4c:d385\n";
        let expected = BTreeSet::from([
            RouteEntry::new("203.0.113.10/32", "10.99.0.12")
                .unwrap()
                .communities(&["64700:120", "64700:20"])
                .large_communities(&["64700:1:2"]),
            RouteEntry::new("203.0.113.10/32", "10.99.0.11")
                .unwrap()
                .local_pref(150),
            RouteEntry::new("2001:db8:113::10/128", "fd99::11").unwrap(),
        ]);
        assert_eq!(read_routes(output).unwrap(), expected);
    }

    #[test]
    fn only_established_peers_are_returned() {
        let output = "BIRD 2.0.12 ready.\n\
            Name       Proto      Table      State  Since         Info\n\
            nodes      BGP        ---        start  08:48:56.721  Passive\n\
            \u{20} Neighbor range: 10.99.0.0/24\n\
            node1      BGP        ---        up     08:49:28.685  Established   \n\
            \u{20} BGP state:          Established\n\
            \u{20}   Neighbor address: 10.99.0.11\n\
            node2      BGP        ---        start  08:49:28.685  OpenSent\n\
            \u{20}   Neighbor address: 10.99.0.12\n";
        let expected = BTreeSet::from(["10.99.0.11".parse().unwrap()]);
        assert_eq!(read_established(output), expected);
    }

    #[test]
    fn connections_are_grouped_by_remote_address() {
        let output = "0      0         10.99.0.1:179     10.99.0.11:45678\n\
                      0      0      [fd99::1]:179     [fd99::11]:45679\n";
        let expected = BTreeMap::from([
            ("10.99.0.11".parse().unwrap(), BTreeSet::from([45678])),
            ("fd99::11".parse().unwrap(), BTreeSet::from([45679])),
        ]);
        assert_eq!(read_connections(output), expected);
    }
}
