//! ExaBGP, which keeps no table. The program `peering-examples/exabgp/events.sh` writes ExaBGP's
//! events to a file, one JSON object per line, and passes on the commands that are appended to
//! another file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use super::adj_rib_in::{self, AdjRibIn};
use super::{
    Instance, RouteEntry, Router, START_TIMEOUT, replace_password, sorted, text, u32_of, version_of,
};
use crate::eventually::eventually;
use crate::process::{Process, signal_pid};
use crate::topology::{TOR_IPV4, TOR_IPV6};

/// The program in `peering-examples/exabgp` that writes the events and reads the commands.
pub(super) const PROGRAM: &str = "events.sh";

/// ExaBGP in a namespace.
#[derive(Debug)]
pub struct Exabgp<'lab>(pub(super) Instance<'lab>);

impl Exabgp<'_> {
    fn events(&self) -> PathBuf {
        self.0.scratch.file("exabgp-events.json")
    }

    fn commands(&self) -> PathBuf {
        self.0.scratch.file("exabgp-commands")
    }

    fn command(&self, line: &str) -> Result<()> {
        let mut file = File::options().append(true).open(self.commands())?;
        writeln!(file, "{line}").context("write a command for ExaBGP")
    }

    fn peers(&self) -> Result<BTreeMap<IpAddr, AdjRibIn>> {
        read_events(&fs::read_to_string(self.events()).unwrap_or_default())
    }

    /// The routes are lost with the process.
    fn clear_events(&self) -> Result<()> {
        fs::remove_file(self.events()).context("remove ExaBGP's events")
    }
}

impl Router for Exabgp<'_> {
    fn instance(&self) -> &Instance<'_> {
        &self.0
    }

    fn start(&mut self) -> Result<()> {
        self.0.ensure_stopped()?;
        for file in [self.events(), self.commands()] {
            File::create(file)?;
        }
        let configuration = self.0.copy_configuration("exabgp.conf")?;
        // ExaBGP looks for its program in the folder of the configuration.
        let program = self.0.configuration.with_file_name(PROGRAM);
        fs::copy(program, self.0.scratch.file(PROGRAM))?;
        let mut command = self.0.namespace.command("exabgp");
        command.arg(configuration);
        // ExaBGP's default user can't write into the scratch folder.
        command.env("exabgp.daemon.user", "root");
        command.env("exabgp.api.cli", "false");
        command.env("exabgp.tcp.bind", format!("{TOR_IPV4} {TOR_IPV6}"));
        command.env("exabgp.tcp.port", "179");
        command.env("EVENTS", self.events());
        command.env("COMMANDS", self.commands());
        let mut process = Process::start(self.0.scratch, "exabgp", &command)?;
        eventually("ExaBGP up", START_TIMEOUT, || {
            process.ensure_running()?;
            let log = process.log_text()?;
            ensure!(
                log.contains("loaded new configuration successfully"),
                "{log}"
            );
            Ok(())
        })?;
        self.0.processes.push(process);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.clear_events()?;
        self.0.stop()
    }

    fn kill(&mut self) -> Result<()> {
        self.clear_events()?;
        self.0.kill()
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        Ok(adj_rib_in::sessions(self.peers()?))
    }

    fn table(&self) -> Result<BTreeSet<RouteEntry>> {
        Ok(adj_rib_in::table(self.peers()?))
    }

    fn rejected(&self) -> Result<BTreeSet<IpNet>> {
        Ok(BTreeSet::new()) // ExaBGP has no import filter
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
        Ok(self.0.log()? + &fs::read_to_string(self.events())?)
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
        let file = self.0.scratch.file("exabgp.conf");
        replace_password(&file, &file, password)?;
        signal_pid("USR1", self.0.running()?.pid())
    }

    fn shut_down(&self, peer: IpAddr, _: &str) -> Result<()> {
        self.command(&format!("neighbor {peer} teardown 2"))
    }
}

/// Rebuilds the tables from ExaBGP's events. Other lines are replies to commands.
fn read_events(lines: &str) -> Result<BTreeMap<IpAddr, AdjRibIn>> {
    let mut peers: BTreeMap<IpAddr, AdjRibIn> = BTreeMap::new();
    let complete = lines.rsplit_once('\n').map_or("", |(complete, _)| complete);
    for line in complete.lines().filter(|line| line.starts_with('{')) {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let neighbor = &event["neighbor"];
        let Some(address) = neighbor["address"]["peer"].as_str() else {
            continue; // an event without a peer
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

impl AdjRibIn {
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

/// Reads `{"ipv4 unicast": [{"nlri": "203.0.113.10/32"}]}`.
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

/// Reads `[[64700, 120]]` as `64700:120`.
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
    fn announcements_and_withdrawals_change_the_table() {
        let peer = r#""address": {"peer": "10.99.0.11"}, "asn": {"local": 64600, "peer": 64700}"#;
        let update = |update: &str| {
            format!(
                r#"{{"type": "update", "neighbor": {{{peer}, "message": {{"update": {update}}}}}}}"#
            )
        };
        let attributes = r#"{"community": [[64700, 120]], "large-community": [[64700, 1, 2]]}"#;
        let both = r#"[{"nlri": "203.0.113.10/32"}, {"nlri": "203.0.113.11/32"}]"#;
        let announced = format!(r#"{{"ipv4 unicast": {{"10.99.0.11": {both}}}}}"#);
        let lines = [
            format!(r#"{{"type": "state", "neighbor": {{{peer}, "state": "up"}}}}"#),
            update(&format!(
                r#"{{"attribute": {attributes}, "announce": {announced}}}"#
            )),
            "done".to_owned(),
            update(r#"{"withdraw": {"ipv4 unicast": [{"nlri": "203.0.113.11/32"}]}}"#),
            r#"{"type": "upd"#.to_owned(),
        ]
        .join("\n");
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
    fn routes_are_removed_with_their_session() {
        let announce = r#"{"ipv4 unicast": {"10.99.0.11": [{"nlri": "203.0.113.10/32"}]}}"#;
        let lines = [
            r#""type": "state", "neighbor": {"address": {"peer": "10.99.0.11"}, "state": "up"}"#,
            &format!(
                r#""type": "update", "neighbor": {{"address": {{"peer": "10.99.0.11"}},
                "message": {{"update": {{"attribute": {{}}, "announce": {announce}}}}}}}"#
            )
            .replace('\n', " "),
            r#""type": "state", "neighbor": {"address": {"peer": "10.99.0.11"}, "state": "down"}"#,
        ]
        .map(|event| format!("{{{event}}}\n"))
        .concat();
        let peer = &read_events(&lines).unwrap()[&"10.99.0.11".parse().unwrap()];
        assert!(!peer.established && peer.routes.is_empty());
    }
}
