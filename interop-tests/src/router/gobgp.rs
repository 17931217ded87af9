//! GoBGP, queried with `gobgp -j`. It installs no routes into the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use super::{
    Exec, Instance, RouteEntry, Router, START_TIMEOUT, family, replace_password, sorted, text,
    u32_of, version_of,
};
use crate::eventually::eventually;
use crate::process::{Process, signal_pid};

/// `session_state` of the API: Established.
const ESTABLISHED: u64 = 6;

/// Attribute type codes in GoBGP's JSON.
mod attribute {
    pub(super) const NEXT_HOP: u64 = 3;
    pub(super) const LOCAL_PREF: u64 = 5;
    pub(super) const COMMUNITIES: u64 = 8;
    pub(super) const MP_REACH_NLRI: u64 = 14;
    pub(super) const LARGE_COMMUNITY: u64 = 32;
}

/// GoBGP in a namespace.
#[derive(Debug)]
pub struct Gobgp<'lab>(pub(super) Instance<'lab>);

impl Gobgp<'_> {
    fn show(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [&["-j"], arguments].concat();
        self.0.namespace.json("gobgp", &arguments)
    }

    fn gobgp(&self, arguments: &[&str]) -> Result<String> {
        self.0.namespace.run("gobgp", arguments)
    }

    fn running_configuration(&self) -> PathBuf {
        self.0.scratch.file("gobgpd.toml")
    }

    /// The Established peers with GoBGP's description.
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
    fn instance(&self) -> &Instance<'_> {
        &self.0
    }

    fn start(&mut self) -> Result<()> {
        self.0.ensure_stopped()?;
        let configuration = self.0.copy_configuration("gobgpd.toml")?;
        let mut command = self.0.namespace.command("gobgpd");
        command.args(["-t", "toml", "-f"]).arg(configuration);
        // Plain output for the log, and only the API that `gobgp` needs.
        command.args(["-p", "--api-hosts=127.0.0.1:50051", "--pprof-disable"]);
        let mut process = Process::start(self.0.scratch, "gobgpd", &command)?;
        eventually("GoBGP up", START_TIMEOUT, || {
            process.ensure_running()?;
            let global = self.show(&["global"])?;
            ensure!(
                global["asn"].as_u64().is_some_and(|asn| asn > 0),
                "{global}"
            );
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

    /// Read from the text format: in JSON each IPv6 path lists all prefixes of its UPDATE, which is
    /// 70 MB for 10,000 prefixes.
    fn plain_table(&self) -> Result<BTreeSet<RouteEntry>> {
        let mut routes = BTreeSet::new();
        for family in ["ipv4", "ipv6"] {
            routes.extend(read_text(&self.gobgp(&["global", "rib", "-a", family])?)?);
        }
        Ok(routes)
    }

    fn rejected(&self) -> Result<BTreeSet<IpNet>> {
        let accepted: BTreeSet<IpNet> = self.table()?.iter().map(|route| route.prefix).collect();
        let mut rejected = BTreeSet::new();
        for (peer, _) in self.established()? {
            for family in ["ipv4", "ipv6"] {
                let received =
                    self.show(&["neighbor", &peer.to_string(), "adj-in", "-a", family])?;
                for route in read_routes(&received)? {
                    if !accepted.contains(&route.prefix) {
                        rejected.insert(route.prefix);
                    }
                }
            }
        }
        Ok(rejected)
    }

    fn version(&self) -> Result<String> {
        version_of(Command::new("gobgpd").arg("--version"))
    }

    fn describe(&self, prefix: IpNet) -> Result<String> {
        let family = family(prefix);
        let prefix = prefix.to_string();
        self.gobgp(&["-j", "global", "rib", &prefix, "-a", family])
    }

    fn describe_peer(&self, peer: IpAddr) -> Result<String> {
        Ok(self.show(&["neighbor", &peer.to_string()])?.to_string())
    }

    fn updates_from(&self, peer: IpAddr) -> Result<u64> {
        let neighbor = self.show(&["neighbor", &peer.to_string()])?;
        // GoBGP omits a zero.
        Ok(neighbor["state"]["messages"]["received"]["update"]
            .as_u64()
            .unwrap_or(0))
    }

    fn refresh(&self, peer: IpAddr) -> Result<()> {
        let arguments = ["neighbor", &peer.to_string(), "softresetin"];
        self.gobgp(&arguments).map(drop)
    }

    fn change_password(&self, password: &str) -> Result<()> {
        let file = self.running_configuration();
        replace_password(&file, &file, password)?;
        signal_pid("HUP", self.0.running()?.pid())
    }

    fn shut_down(&self, peer: IpAddr, text: &str) -> Result<()> {
        let peer = peer.to_string();
        let arguments = ["neighbor", &peer, "shutdown", "--reason", text];
        self.gobgp(&arguments).map(drop)
    }
}

pub(super) fn table_via(exec: Exec<'_>) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let output = exec(&["gobgp", "-j", "global", "rib", "-a", family])?;
        let table = serde_json::from_str(&output).with_context(|| output.clone())?;
        routes.extend(read_routes(&table)?);
    }
    Ok(routes)
}

/// Reads a table in JSON: an object with the paths of each prefix.
fn read_routes(table: &Value) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    for (prefix, paths) in table.as_object().into_iter().flatten() {
        for path in paths.as_array().into_iter().flatten() {
            routes.insert(route(prefix, path).with_context(|| format!("{prefix}: {path}"))?);
        }
    }
    Ok(routes)
}

/// Reads a table in the text format: `*> PREFIX NEXT-HOP AS-PATH AGE ATTRIBUTES` below a title
/// line.
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
    fn the_text_format_is_read() {
        let text = "\
   Network              Next Hop             AS_PATH              Age        Attrs
*> 203.0.113.10/32      10.99.0.11           64700                00:00:03   [{Origin: i}]
*  203.0.113.10/32      10.99.0.12           64700                00:00:02   [{Med: 7}]
";
        let expected = ["10.99.0.11", "10.99.0.12"]
            .map(|next_hop| RouteEntry::new("203.0.113.10/32", next_hop).unwrap());
        assert_eq!(read_text(text).unwrap(), BTreeSet::from(expected));
        assert!(read_text("Network not in table\n").unwrap().is_empty());
    }
}
