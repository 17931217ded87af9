//! OpenBGPD, queried with `bgpctl -j`. The portable version installs no routes into the Linux
//! kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use super::{
    Exec, Instance, RouteEntry, Router, START_TIMEOUT, replace_password, strings, text, u32_of,
    version_of,
};
use crate::eventually::eventually;
use crate::process::{Process, run};

/// OpenBGPD chroots into this folder and opens its control socket there. A tmpfs mounted over it
/// is private to each instance.
const FOLDER: &str = "/run/openbgpd";

/// OpenBGPD in a namespace.
#[derive(Debug)]
pub struct Openbgpd<'lab>(pub(super) Instance<'lab>);

impl Openbgpd<'_> {
    fn bgpctl(&self, arguments: &[&str]) -> Result<String> {
        let pid = self.0.running()?.pid().to_string();
        run(Command::new("nsenter")
            .args(["--target", &pid, "--mount", "--", "timeout", "60", "bgpctl"])
            .args(arguments))
    }

    fn show(&self, arguments: &[&str]) -> Result<Value> {
        let answer = self.bgpctl(&[&["-j", "show"], arguments].concat())?;
        serde_json::from_str(&answer).with_context(|| format!("bgpctl {arguments:?}: {answer}"))
    }
}

impl Router for Openbgpd<'_> {
    fn instance(&self) -> &Instance<'_> {
        &self.0
    }

    fn start(&mut self) -> Result<()> {
        self.0.ensure_stopped()?;
        let configuration = self.0.copy_configuration("openbgpd.conf")?;
        // OpenBGPD rejects a configuration that others can read.
        fs::set_permissions(&configuration, fs::Permissions::from_mode(0o600))?;
        fs::create_dir_all(FOLDER)?;
        let mut command = self.0.namespace.command("unshare");
        let script = r#"mount -t tmpfs -o mode=755 openbgpd "$1" && exec bgpd -d -v -f "$2""#;
        command
            .args(["--mount", "sh", "-c", script, "sh", FOLDER])
            .arg(&configuration);
        let process = Process::start(self.0.scratch, "openbgpd", &command)?;
        self.0.processes.push(process);
        eventually("OpenBGPD up", START_TIMEOUT, || {
            let process = self.0.processes.first_mut().context("no process")?;
            process.ensure_running()?;
            let log = process.log_text()?;
            ensure!(log.contains("RDE soft reconfiguration done"), "{log}");
            self.show(&["neighbor"]).map(drop)
        })
    }

    fn stop(&mut self) -> Result<()> {
        self.0.stop()
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        let answer = self.show(&["neighbor"])?;
        let neighbors = answer["neighbors"].as_array().context("neighbors")?;
        neighbors
            .iter()
            .filter(|neighbor| neighbor["state"] == "Established")
            .map(|neighbor| {
                let address = text(&neighbor["remote_addr"])?.parse()?;
                let remote = &neighbor["session"]["remote"];
                Ok((address, format!("from port {}", remote["port"])))
            })
            .collect()
    }

    fn table(&self) -> Result<BTreeSet<RouteEntry>> {
        table_via(&|words| self.bgpctl(&words[1..]))
    }

    fn rejected(&self) -> Result<BTreeSet<IpNet>> {
        let accepted: BTreeSet<IpNet> = self.table()?.iter().map(|route| route.prefix).collect();
        let received = read_routes(&self.show(&["rib", "table", "Adj-RIB-In", "detail"])?)?;
        let prefixes = received.into_iter().map(|route| route.prefix);
        Ok(prefixes
            .filter(|prefix| !accepted.contains(prefix))
            .collect())
    }

    fn version(&self) -> Result<String> {
        version_of(Command::new("bgpd").arg("-V"))
    }

    fn describe(&self, prefix: IpNet) -> Result<String> {
        self.bgpctl(&["-j", "show", "rib", "detail", &prefix.to_string()])
    }

    fn describe_peer(&self, peer: IpAddr) -> Result<String> {
        self.bgpctl(&["-j", "show", "neighbor", &peer.to_string()])
    }

    fn updates_from(&self, peer: IpAddr) -> Result<u64> {
        let answer = self.show(&["neighbor", &peer.to_string()])?;
        let count = &answer["neighbors"][0]["stats"]["message"]["received"]["updates"];
        count.as_u64().with_context(|| format!("{peer}: {answer}"))
    }

    fn refresh(&self, peer: IpAddr) -> Result<()> {
        self.bgpctl(&["neighbor", &peer.to_string(), "refresh"])
            .map(drop)
    }

    fn change_password(&self, password: &str) -> Result<()> {
        let file = self.0.scratch.file("openbgpd.conf");
        replace_password(&file, &file, password)?;
        self.bgpctl(&["reload"]).map(drop)
    }

    fn shut_down(&self, peer: IpAddr, text: &str) -> Result<()> {
        self.bgpctl(&["neighbor", &peer.to_string(), "down", text])
            .map(drop)
    }
}

pub(super) fn table_via(exec: Exec<'_>) -> Result<BTreeSet<RouteEntry>> {
    let answer = exec(&["bgpctl", "-j", "show", "rib", "detail"])?;
    read_routes(&serde_json::from_str(&answer).context(answer)?)
}

/// Reads `show rib detail`.
fn read_routes(answer: &Value) -> Result<BTreeSet<RouteEntry>> {
    let routes = answer["rib"].as_array().map_or(&[][..], Vec::as_slice);
    routes
        .iter()
        .map(|route| {
            let local_pref = if route["source"] == "internal" {
                Some(u32_of(&route["localpref"])?)
            } else {
                None
            };
            Ok(RouteEntry {
                communities: strings(&route["communities"]),
                large_communities: strings(&route["large_communities"]),
                local_pref,
                ..RouteEntry::new(text(&route["prefix"])?, text(&route["exit_nexthop"])?)?
            })
        })
        .collect::<Result<_>>()
        .with_context(|| answer.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_pref_is_read_from_internal_routes_only() {
        let answer = serde_json::json!({"rib": [
            {"prefix": "203.0.113.10/32", "exit_nexthop": "10.99.0.11", "true_nexthop": "10.99.0.1",
             "source": "external", "localpref": 100,
             "communities": ["64700:120"], "large_communities": ["64700:1:2"]},
            {"prefix": "2001:db8::1/128", "exit_nexthop": "fd99::11",
             "source": "internal", "localpref": 150},
        ]});
        let expected = BTreeSet::from([
            RouteEntry::new("203.0.113.10/32", "10.99.0.11")
                .unwrap()
                .communities(&["64700:120"])
                .large_communities(&["64700:1:2"]),
            RouteEntry::new("2001:db8::1/128", "fd99::11")
                .unwrap()
                .local_pref(150),
        ]);
        assert_eq!(read_routes(&answer).unwrap(), expected);
        assert!(
            read_routes(&serde_json::json!({"rib": []}))
                .unwrap()
                .is_empty()
        );
    }
}
