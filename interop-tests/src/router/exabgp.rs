//! ExaBGP, which keeps no table: the program `peering-examples/exabgp/events.sh` writes down what it tells, one JSON
//! object per line, and hands it the commands that are appended to another file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use super::adj_rib_in::{self, Peer};
use super::{RouteEntry, Router, START_TIMEOUT, example, sorted, text, u32_of, version_of};
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Process, Scratch, signal_pid};
use crate::topology::{MD5_PASSWORD, TOR_IPV4, TOR_IPV6};

/// ExaBGP in a namespace.
#[derive(Debug)]
pub struct Exabgp<'lab> {
    scratch: &'lab Scratch,
    namespace: &'lab Namespace,
    configuration: PathBuf,
    daemon: Option<Process>,
}

impl<'lab> Exabgp<'lab> {
    /// ExaBGP with `peering-examples/exabgp/EXAMPLE.conf`, not yet started.
    #[must_use]
    pub fn new(scratch: &'lab Scratch, namespace: &'lab Namespace, name: &str) -> Self {
        Self::with_configuration(scratch, namespace, example(&format!("exabgp/{name}.conf")))
    }

    /// ExaBGP with a configuration of one's own, not yet started.
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

    fn running_configuration(&self) -> PathBuf {
        self.scratch.file("exabgp.conf")
    }

    fn events(&self) -> PathBuf {
        self.scratch.file("exabgp-events.json")
    }

    fn commands(&self) -> PathBuf {
        self.scratch.file("exabgp-commands")
    }

    fn command(&self, line: &str) -> Result<()> {
        let mut file = File::options().append(true).open(self.commands())?;
        writeln!(file, "{line}").context("write to ExaBGP")
    }

    fn peers(&self) -> Result<BTreeMap<IpAddr, Peer>> {
        read_events(&fs::read_to_string(self.events()).unwrap_or_default())
    }

    fn take(&mut self) -> Result<Process> {
        // What it learnt is gone with it.
        fs::remove_file(self.events())?;
        self.daemon.take().context("ExaBGP is not running")
    }
}

impl Router for Exabgp<'_> {
    fn name(&self) -> &'static str {
        "ExaBGP"
    }

    fn installs_routes(&self) -> bool {
        false
    }

    fn start(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "ExaBGP is running");
        for file in [self.events(), self.commands()] {
            File::create(file)?;
        }
        // Copies, of which one may change while it runs. It looks for its program beside the configuration.
        fs::copy(&self.configuration, self.running_configuration())
            .with_context(|| self.configuration.display().to_string())?;
        let program = "events.sh";
        fs::copy(
            self.configuration.with_file_name(program),
            self.scratch.file(program),
        )?;
        let mut command = self.namespace.command("exabgp");
        command.arg(self.running_configuration());
        // It drops to nobody otherwise, who may not write into the scratch folder.
        command.env("exabgp.daemon.user", "root");
        command.env("exabgp.api.cli", "false");
        command.env("exabgp.tcp.bind", format!("{TOR_IPV4} {TOR_IPV6}"));
        command.env("exabgp.tcp.port", "179");
        command.env("EVENTS", self.events());
        command.env("COMMANDS", self.commands());
        let mut daemon = Process::start(self.scratch, "exabgp", &command)?;
        eventually("ExaBGP up", START_TIMEOUT, || {
            daemon.ensure_running()?;
            let log = daemon.log_text()?;
            ensure!(
                log.contains("loaded new configuration successfully"),
                "{log}"
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
        Ok(adj_rib_in::sessions(self.peers()?))
    }

    fn table(&self) -> Result<BTreeSet<RouteEntry>> {
        Ok(adj_rib_in::table(self.peers()?))
    }

    fn refused(&self) -> Result<BTreeSet<IpNet>> {
        Ok(BTreeSet::new()) // it has no filters
    }

    fn version(&self) -> Result<String> {
        version_of(Command::new("exabgp").arg("--version"))
    }

    fn describe(&self, prefix: IpNet) -> Result<String> {
        let prefix = format!("\"{prefix}\"");
        let events = fs::read_to_string(self.events())?;
        let last = events.lines().rfind(|line| line.contains(&prefix));
        Ok(last.unwrap_or_default().to_owned())
    }

    fn describe_peer(&self, peer: IpAddr) -> Result<String> {
        let peer = format!("\"{peer}\"");
        let events = fs::read_to_string(self.events())?;
        Ok(events.lines().filter(|line| line.contains(&peer)).collect())
    }

    fn updates_from(&self, peer: IpAddr) -> Result<u64> {
        let peers = self.peers()?;
        Ok(peers
            .get(&peer)
            .with_context(|| format!("no peer {peer}"))?
            .updates)
    }

    fn log(&self) -> Result<String> {
        let log = self
            .daemon
            .as_ref()
            .context("ExaBGP is not running")?
            .log_text()?;
        Ok(log + &fs::read_to_string(self.events())?)
    }

    fn refresh(&self, peer: IpAddr) -> Result<()> {
        for family in ["ipv4", "ipv6"] {
            self.command(&format!(
                "neighbor {peer} announce route-refresh {family} unicast"
            ))?;
        }
        Ok(())
    }

    fn change_password(&self, password: &str) -> Result<()> {
        let file = self.running_configuration();
        let text = fs::read_to_string(&file)?.replace(MD5_PASSWORD, password);
        fs::write(&file, text)?;
        let daemon = self.daemon.as_ref().context("ExaBGP is not running")?;
        signal_pid("USR1", daemon.pid())
    }

    fn shut_down(&self, peer: IpAddr, _: &str) -> Result<()> {
        self.command(&format!("neighbor {peer} teardown 2"))
    }
}

/// Adds up ExaBGP's events. Lines that are no JSON answer commands.
fn read_events(lines: &str) -> Result<BTreeMap<IpAddr, Peer>> {
    let mut peers: BTreeMap<IpAddr, Peer> = BTreeMap::new();
    let complete = lines.rsplit_once('\n').map_or("", |(complete, _)| complete);
    for line in complete.lines().filter(|line| line.starts_with('{')) {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let neighbor = &event["neighbor"];
        let Some(address) = neighbor["address"]["peer"].as_str() else {
            continue; // about itself
        };
        let peer = peers.entry(address.parse()?).or_default();
        match (text(&event["type"])?, neighbor["state"].as_str()) {
            ("state", Some("up")) => {
                peer.established = true;
                peer.sessions += 1;
            }
            ("state", Some("down")) => {
                peer.established = false;
                peer.routes.clear();
            }
            ("update", _) => {
                peer.updates += 1;
                peer.update(neighbor).with_context(|| line.to_owned())?;
            }
            _ => {}
        }
    }
    Ok(peers)
}

impl Peer {
    fn update(&mut self, neighbor: &Value) -> Result<()> {
        let update = &neighbor["message"]["update"];
        let internal = neighbor["asn"]["local"] == neighbor["asn"]["peer"];
        let attributes = &update["attribute"];
        let local_pref = match &attributes["local-preference"] {
            number if internal && !number.is_null() => Some(u32_of(number)?),
            _ => None,
        };
        for prefix in nlri(&update["withdraw"])? {
            self.routes.remove(&prefix);
        }
        for next_hops in update["announce"]
            .as_object()
            .into_iter()
            .flat_map(|all| all.values())
        {
            for (next_hop, prefixes) in next_hops.as_object().into_iter().flatten() {
                for prefix in prefixes_of(prefixes)? {
                    let route = RouteEntry {
                        communities: tuples(&attributes["community"]),
                        large_communities: tuples(&attributes["large-community"]),
                        local_pref,
                        ..RouteEntry::new(&prefix.to_string(), next_hop)?
                    };
                    self.routes.insert(prefix, route);
                }
            }
        }
        Ok(())
    }
}

/// `{"ipv4 unicast": [{"nlri": "203.0.113.10/32"}]}`
fn nlri(families: &Value) -> Result<Vec<IpNet>> {
    let lists = families
        .as_object()
        .into_iter()
        .flat_map(|all| all.values());
    Ok(lists.map(prefixes_of).collect::<Result<Vec<_>>>()?.concat())
}

fn prefixes_of(list: &Value) -> Result<Vec<IpNet>> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .map(|entry| Ok(text(&entry["nlri"])?.parse()?))
        .collect()
}

/// `[[64700, 120]]` as `64700:120`.
fn tuples(list: &Value) -> Vec<String> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    sorted(list.iter().map(|tuple| {
        let numbers = tuple.as_array().map_or(&[][..], Vec::as_slice);
        let numbers: Vec<String> = numbers.iter().map(Value::to_string).collect();
        numbers.join(":")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_add_up_to_a_table() {
        let head = r#""neighbor": {"address": {"peer": "10.99.0.11"}, "asn": {"local": 64600, "peer": 64700}"#;
        let lines = format!(
            r#"{{"type": "state", {head}, "state": "up"}}}}
{{"type": "update", {head}, "message": {{"update": {{"attribute": {{"community": [[64700, 120]], "large-community": [[64700, 1, 2]]}}, "announce": {{"ipv4 unicast": {{"10.99.0.11": [{{"nlri": "203.0.113.10/32"}}, {{"nlri": "203.0.113.11/32"}}]}}}}}}}}}}}}
done
{{"type": "update", {head}, "message": {{"update": {{"withdraw": {{"ipv4 unicast": [{{"nlri": "203.0.113.11/32"}}]}}}}}}}}}}
{{"type": "upd"#
        );
        let peers = read_events(&lines).unwrap();
        let peer = &peers[&"10.99.0.11".parse().unwrap()];
        assert!(peer.established && peer.sessions == 1 && peer.updates == 2);
        let expected = RouteEntry::new("203.0.113.10/32", "10.99.0.11")
            .unwrap()
            .communities(&["64700:120"])
            .large_communities(&["64700:1:2"]);
        assert_eq!(peer.routes.values().collect::<Vec<_>>(), [&expected]);
    }

    #[test]
    fn a_lost_session_takes_its_routes_along() {
        let lines = r#"{"type": "state", "neighbor": {"address": {"peer": "10.99.0.11"}, "state": "up"}}
{"type": "update", "neighbor": {"address": {"peer": "10.99.0.11"}, "message": {"update": {"attribute": {}, "announce": {"ipv4 unicast": {"10.99.0.11": [{"nlri": "203.0.113.10/32"}]}}}}}}
{"type": "state", "neighbor": {"address": {"peer": "10.99.0.11"}, "state": "down"}}
"#;
        let peer = &read_events(lines).unwrap()[&"10.99.0.11".parse().unwrap()];
        assert!(!peer.established && peer.routes.is_empty());
    }
}
