//! GoBGP, asked by `gobgp -j`. Its table stays its own: nothing gets into the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use super::{Ask, RouteEntry, Router, START_TIMEOUT, example, sorted, text, u32_of, version_of};
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Process, Scratch, signal_pid};
use crate::topology::MD5_PASSWORD;

/// `session_state` of its API.
const ESTABLISHED: u64 = 6;

/// Attribute type codes, as GoBGP's JSON has them.
mod attribute {
    pub(super) const NEXT_HOP: u64 = 3;
    pub(super) const LOCAL_PREF: u64 = 5;
    pub(super) const COMMUNITIES: u64 = 8;
    pub(super) const MP_REACH_NLRI: u64 = 14;
    pub(super) const LARGE_COMMUNITY: u64 = 32;
}

/// GoBGP in a namespace.
#[derive(Debug)]
pub struct Gobgp<'lab> {
    scratch: &'lab Scratch,
    namespace: &'lab Namespace,
    configuration: PathBuf,
    daemon: Option<Process>,
}

impl<'lab> Gobgp<'lab> {
    /// GoBGP with `peering-examples/gobgp/EXAMPLE.toml`, not yet started.
    #[must_use]
    pub fn new(scratch: &'lab Scratch, namespace: &'lab Namespace, name: &str) -> Self {
        Self::with_configuration(scratch, namespace, example(&format!("gobgp/{name}.toml")))
    }

    /// GoBGP with a configuration of one's own, not yet started.
    #[must_use]
    pub fn with_configuration(
        scratch: &'lab Scratch,
        namespace: &'lab Namespace,
        configuration: PathBuf,
    ) -> Self {
        Self {
            scratch,
            namespace,
            configuration,
            daemon: None,
        }
    }

    fn show(&self, arguments: &[&str]) -> Result<Value> {
        self.namespace.json("gobgp", &[&["-j"], arguments].concat())
    }

    fn running_configuration(&self) -> PathBuf {
        self.scratch.file("gobgpd.toml")
    }

    fn take(&mut self) -> Result<Process> {
        self.daemon.take().context("GoBGP is not running")
    }

    /// Established peers as GoBGP describes them.
    fn established(&self) -> Result<Vec<(IpAddr, Value)>> {
        let neighbors = self.show(&["neighbor"])?;
        let neighbors = neighbors.as_array().context("neighbors")?;
        neighbors
            .iter()
            .filter(|neighbor| neighbor["state"]["session_state"] == ESTABLISHED)
            .map(|neighbor| {
                let address = text(&neighbor["state"]["neighbor_address"])?.parse()?;
                Ok((address, neighbor.clone()))
            })
            .collect()
    }
}

impl Router for Gobgp<'_> {
    fn name(&self) -> &'static str {
        "GoBGP"
    }

    fn installs_routes(&self) -> bool {
        false
    }

    fn start(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "GoBGP is running");
        // A copy, which may change while it runs.
        fs::copy(&self.configuration, self.running_configuration())
            .with_context(|| self.configuration.display().to_string())?;
        let mut command = self.namespace.command("gobgpd");
        command
            .args(["-t", "toml", "-f"])
            .arg(self.running_configuration());
        // Plain output for the log; the API for `gobgp`, nothing else.
        command.args(["-p", "--api-hosts=127.0.0.1:50051", "--pprof-disable"]);
        let mut daemon = Process::start(self.scratch, "gobgpd", &command)?;
        eventually("GoBGP up", START_TIMEOUT, || {
            daemon.ensure_running()?;
            let global = self.show(&["global"])?;
            ensure!(
                global["asn"].as_u64().is_some_and(|asn| asn > 0),
                "{global}"
            );
            Ok(())
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.take()?.terminate(START_TIMEOUT).map(drop)
    }

    fn kill(&mut self) -> Result<()> {
        self.take()?.kill()
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        let mark = |(peer, neighbor): (IpAddr, Value)| {
            (peer, neighbor["timers"]["state"]["uptime"].to_string())
        };
        Ok(self.established()?.into_iter().map(mark).collect())
    }

    fn table(&self) -> Result<BTreeSet<RouteEntry>> {
        let mut routes = BTreeSet::new();
        for family in ["ipv4", "ipv6"] {
            routes.extend(read_routes(&self.show(&["global", "rib", "-a", family])?)?);
        }
        Ok(routes)
    }

    /// Its JSON has, with each IPv6 path, all prefixes of the UPDATE that it came in: 70 MB for 10,000 prefixes.
    fn plain_table(&self) -> Result<BTreeSet<RouteEntry>> {
        let mut routes = BTreeSet::new();
        for family in ["ipv4", "ipv6"] {
            let text = self
                .namespace
                .run("gobgp", &["global", "rib", "-a", family])?;
            routes.extend(read_text(&text)?);
        }
        Ok(routes)
    }

    fn refused(&self) -> Result<BTreeSet<IpNet>> {
        let accepted: BTreeSet<IpNet> = self.table()?.iter().map(|route| route.prefix).collect();
        let mut refused = BTreeSet::new();
        for (peer, _) in self.established()? {
            for family in ["ipv4", "ipv6"] {
                let received =
                    self.show(&["neighbor", &peer.to_string(), "adj-in", "-a", family])?;
                for route in read_routes(&received)? {
                    if !accepted.contains(&route.prefix) {
                        refused.insert(route.prefix);
                    }
                }
            }
        }
        Ok(refused)
    }

    fn version(&self) -> Result<String> {
        version_of(Command::new("gobgpd").arg("--version"))
    }

    fn describe(&self, prefix: IpNet) -> Result<String> {
        let family = if prefix.addr().is_ipv4() {
            "ipv4"
        } else {
            "ipv6"
        };
        let prefix = prefix.to_string();
        self.namespace
            .run("gobgp", &["-j", "global", "rib", &prefix, "-a", family])
    }

    fn describe_peer(&self, peer: IpAddr) -> Result<String> {
        Ok(self.show(&["neighbor", &peer.to_string()])?.to_string())
    }

    fn updates_from(&self, peer: IpAddr) -> Result<u64> {
        let neighbor = self.show(&["neighbor", &peer.to_string()])?;
        // Zero isn't printed.
        Ok(neighbor["state"]["messages"]["received"]["update"]
            .as_u64()
            .unwrap_or(0))
    }

    fn log(&self) -> Result<String> {
        self.daemon
            .as_ref()
            .context("GoBGP is not running")?
            .log_text()
    }

    fn refresh(&self, peer: IpAddr) -> Result<()> {
        self.namespace
            .run("gobgp", &["neighbor", &peer.to_string(), "softresetin"])
            .map(drop)
    }

    fn change_password(&self, password: &str) -> Result<()> {
        let file = self.running_configuration();
        let text = fs::read_to_string(&file)?.replace(MD5_PASSWORD, password);
        fs::write(&file, text)?;
        let daemon = self.daemon.as_ref().context("GoBGP is not running")?;
        signal_pid("HUP", daemon.pid())
    }

    fn shut_down(&self, peer: IpAddr, text: &str) -> Result<()> {
        let peer = peer.to_string();
        self.namespace
            .run("gobgp", &["neighbor", &peer, "shutdown", "--reason", text])
            .map(drop)
    }
}

/// What it learnt, by a way of one's own to its programs.
pub(super) fn table_by(ask: Ask<'_>) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let output = ask(&["gobgp", "-j", "global", "rib", "-a", family])?;
        let table = serde_json::from_str(&output).with_context(|| output.clone())?;
        routes.extend(read_routes(&table)?);
    }
    Ok(routes)
}

/// Reads a table: an object of prefixes with their paths.
fn read_routes(table: &Value) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    for (prefix, paths) in table.as_object().into_iter().flatten() {
        for path in paths.as_array().into_iter().flatten() {
            routes.insert(route(prefix, path).with_context(|| format!("{prefix}: {path}"))?);
        }
    }
    Ok(routes)
}

/// Reads a table as it is printed for people: `*> PREFIX NEXT-HOP AS-PATH AGE ATTRIBUTES` below a title.
fn read_text(text: &str) -> Result<BTreeSet<RouteEntry>> {
    let paths = text.lines().filter(|line| line.starts_with('*'));
    paths
        .map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (prefix, next_hop) = words.next().zip(words.next()).context("no next hop")?;
            RouteEntry::new(prefix, next_hop)
        })
        .collect::<Result<_>>()
        .with_context(|| text.to_owned())
}

fn route(prefix: &str, path: &Value) -> Result<RouteEntry> {
    let attributes = path["attrs"].as_array().context("attrs")?;
    let find = |code: u64| attributes.iter().find(|found| found["type"] == code);
    let next_hop = find(attribute::NEXT_HOP)
        .or_else(|| find(attribute::MP_REACH_NLRI))
        .context("no next hop")?;
    let mut route = RouteEntry::new(prefix, text(&next_hop["nexthop"])?)?;
    if let Some(communities) = find(attribute::COMMUNITIES) {
        let numbers = communities["communities"].as_array().into_iter().flatten();
        let numbers: Vec<u32> = numbers.map(u32_of).collect::<Result<_>>()?;
        route.communities = sorted(
            numbers
                .iter()
                .map(|number| format!("{}:{}", number >> 16, number & 0xffff)),
        );
    }
    if let Some(communities) = find(attribute::LARGE_COMMUNITY) {
        let values = communities["value"].as_array().into_iter().flatten();
        route.large_communities = sorted(values.map(|value| {
            format!(
                "{}:{}:{}",
                value["ASN"], value["LocalData1"], value["LocalData2"]
            )
        }));
    }
    if let Some(local_pref) = find(attribute::LOCAL_PREF) {
        route.local_pref = Some(u32_of(&local_pref["value"])?);
    }
    Ok(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_for_people_is_read() {
        let text = "\
   Network              Next Hop             AS_PATH              Age        Attrs
*> 203.0.113.10/32      10.99.0.11           64700                00:00:03   [{Origin: i}]
*  203.0.113.10/32      10.99.0.12           64700                00:00:02   [{Origin: i} {Communities: 64700:120}]
";
        let expected = ["10.99.0.11", "10.99.0.12"]
            .map(|next_hop| RouteEntry::new("203.0.113.10/32", next_hop).unwrap());
        assert_eq!(read_text(text).unwrap(), BTreeSet::from(expected));
        assert!(read_text("Network not in table\n").unwrap().is_empty());
    }
}
