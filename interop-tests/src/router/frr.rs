//! FRRouting: zebra, bgpd and bfdd in their own path space (`-N`), queried with `vtysh`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::{Deserializer, Value};

use super::{
    Exec, Instance, Kind, RouteEntry, Router, START_TIMEOUT, family, strings, text, u32_of,
    version_of,
};
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Process, run};
use crate::scenario::Scratch;

/// Names of the well-known communities in FRR's JSON.
const WELL_KNOWN: &[(&str, &str)] = &[
    ("gracefulShutdown", "65535:0"),
    ("acceptOwn", "65535:1"),
    ("llgrStale", "65535:6"),
    ("noLlgr", "65535:7"),
    ("blackhole", "65535:666"),
    ("noExport", "65535:65281"),
    ("noAdvertise", "65535:65282"),
    ("localAs", "65535:65283"),
    ("noPeer", "65535:65284"),
];

/// Commands that print the tables of both families.
const TABLES: [&str; 2] = [
    "show bgp ipv4 unicast json detail",
    "show bgp ipv6 unicast json detail",
];

/// FRR in a namespace. Its processes are bgpd, bfdd if configured, and zebra, in this order.
#[derive(Debug)]
pub struct Frr<'lab>(pub(super) Instance<'lab>);

impl<'lab> Frr<'lab> {
    /// FRR with `peering-examples/frr/EXAMPLE.conf`, not started.
    #[must_use]
    pub fn new(scratch: &'lab Scratch, namespace: &'lab Namespace, example: &str) -> Self {
        let configuration = Kind::Frr.example(example);
        Self(Instance::new(Kind::Frr, scratch, namespace, configuration))
    }

    /// Folders of the path space: configuration and sockets.
    fn folders(&self) -> [PathBuf; 2] {
        ["/etc/frr", "/var/run/frr"].map(|base| Path::new(base).join(self.0.namespace.name()))
    }

    fn start_process(&self, program: &str) -> Result<Process> {
        let mut command = self.0.namespace.command(format!("/usr/lib/frr/{program}"));
        command.args(["-N", self.0.namespace.name()]);
        command.args(["-u", "frr", "-g", "frr", "-A", "127.0.0.1"]);
        command.args(["--log", "stdout"]);
        let mut process = Process::start(self.0.scratch, program, &command)?;
        // bgpd needs a running zebra to learn interfaces and kernel routes.
        eventually(format!("{program} up"), START_TIMEOUT, || {
            process.ensure_running()?;
            self.vtysh_to(program, "show version")
        })?;
        Ok(process)
    }

    fn vtysh_to(&self, program: &str, line: &str) -> Result<String> {
        run(Command::new("vtysh").args(["-N", self.0.namespace.name(), "-d", program, "-c", line]))
    }

    /// Runs `show` commands; returns the JSON value of each.
    fn show(&self, lines: &[&str]) -> Result<Vec<Value>> {
        let mut command = Command::new("vtysh");
        command.args(["-N", self.0.namespace.name()]);
        for line in lines {
            command.args(["-c", line]);
        }
        let output = run(&mut command)?;
        let values: Result<Vec<Value>, _> = Deserializer::from_str(&output).into_iter().collect();
        values.with_context(|| format!("vtysh {lines:?} printed: {output}"))
    }

    /// Runs vtysh with these lines in the configuration mode.
    ///
    /// # Errors
    /// When a daemon does not answer or rejects a line.
    pub fn configure_lines(&self, lines: &[&str]) -> Result<()> {
        let mut command = Command::new("vtysh");
        command.args(["-N", self.0.namespace.name(), "-c", "configure terminal"]);
        for line in lines {
            command.args(["-c", line]);
        }
        run(&mut command).map(drop)
    }

    fn configure_bgp(&self, line: &str) -> Result<()> {
        self.configure_lines(&["router bgp", line])
    }

    /// Kills bgpd alone, as a crash does: zebra decides which routes stay in the kernel.
    ///
    /// # Errors
    /// When bgpd isn't running.
    pub fn kill_bgpd(&mut self) -> Result<()> {
        self.0.running()?;
        self.0.processes.remove(0).kill()
    }

    /// Starts bgpd after [`Frr::kill_bgpd`].
    ///
    /// # Errors
    /// When bgpd does not come up or rejects its configuration.
    pub fn start_bgpd(&mut self) -> Result<()> {
        let process = self.start_process("bgpd")?;
        self.0.processes.insert(0, process);
        self.configure()
    }

    /// Checks that bgpd selects paths: the `update-delay` of its last start, if configured, is
    /// over.
    ///
    /// # Errors
    /// When the delay is running or has not begun.
    pub fn ensure_selecting(&self) -> Result<()> {
        if !fs::read_to_string(&self.0.configuration)?.contains("\n update-delay ") {
            return Ok(());
        }
        let log = self.0.running()?.log_text()?;
        let since = log.rsplit("starting: vty").next().unwrap_or_default();
        ensure!(since.contains("Update delay ended"), "in update-delay");
        Ok(())
    }

    /// Loads the configuration into all daemons.
    fn configure(&self) -> Result<()> {
        let output = run(Command::new("vtysh")
            .args(["-N", self.0.namespace.name(), "-f"])
            .arg(&self.0.configuration))?;
        // vtysh may reject a line and still exit with 0.
        ensure!(
            !output.contains('%'),
            "{}: {output}",
            self.0.configuration.display()
        );
        Ok(())
    }

    /// The Established peers of each family.
    fn established(&self) -> Result<Vec<(&'static str, IpAddr)>> {
        let summary = self.show(&["show bgp summary json"])?;
        let mut peers = Vec::new();
        for (key, family) in [("ipv4Unicast", "ipv4"), ("ipv6Unicast", "ipv6")] {
            let Some(of_family) = summary
                .first()
                .and_then(|all| all[key]["peers"].as_object())
            else {
                continue; // no peer with this family
            };
            for (address, peer) in of_family {
                if peer["state"] == "Established" {
                    peers.push((family, address.parse()?));
                }
            }
        }
        Ok(peers)
    }
}

impl Router for Frr<'_> {
    fn instance(&self) -> &Instance<'_> {
        &self.0
    }

    fn start(&mut self) -> Result<()> {
        self.0.ensure_stopped()?;
        for folder in self.folders() {
            fs::create_dir_all(&folder)?;
            run(Command::new("chown").arg("frr:frr").arg(&folder))?;
        }
        fs::write(self.folders()[0].join("vtysh.conf"), "")?;
        let configuration = fs::read_to_string(&self.0.configuration)?;
        let bfdd = configuration.lines().any(|line| line == "bfd");
        for program in ["zebra", "bfdd", "bgpd"] {
            if program != "bfdd" || bfdd {
                let process = self.start_process(program)?;
                self.0.processes.insert(0, process);
            }
        }
        self.configure()
    }

    fn stop(&mut self) -> Result<()> {
        self.0.stop()
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        // The uptime in the summary has whole seconds and is inexact; the log has every change.
        let log = self.0.running()?.log_text()?;
        let mark = |peer: IpAddr| {
            let change = format!("%ADJCHANGE: neighbor {peer}(");
            let changes = log.lines().filter(|line| line.contains(&change)).count();
            (peer, format!("after {changes} changes"))
        };
        Ok(self
            .established()?
            .into_iter()
            .map(|(_, peer)| mark(peer))
            .collect())
    }

    fn table(&self) -> Result<BTreeSet<RouteEntry>> {
        read_tables(&self.show(&TABLES)?)
    }

    fn rejected(&self) -> Result<BTreeSet<IpNet>> {
        let mut rejected = BTreeSet::new();
        for (family, peer) in self.established()? {
            let line = format!("show bgp {family} unicast neighbors {peer} filtered-routes json");
            for answer in self.show(&[&line])? {
                for prefix in answer["receivedRoutes"].as_object().into_iter().flatten() {
                    rejected.insert(prefix.0.parse()?);
                }
            }
        }
        Ok(rejected)
    }

    fn version(&self) -> Result<String> {
        version_of(Command::new("/usr/lib/frr/bgpd").arg("--version"))
    }

    fn describe(&self, prefix: IpNet) -> Result<String> {
        let family = family(prefix);
        self.vtysh_to("bgpd", &format!("show bgp {family} unicast {prefix} json"))
    }

    fn describe_peer(&self, peer: IpAddr) -> Result<String> {
        self.vtysh_to("bgpd", &format!("show bgp neighbors {peer} json"))
    }

    fn updates_from(&self, peer: IpAddr) -> Result<u64> {
        let neighbors = self.show(&[&format!("show bgp neighbors {peer} json")])?;
        let neighbor = neighbors.first().context("no answer")?;
        let count = &neighbor[peer.to_string()]["messageStats"]["updatesRecv"];
        count
            .as_u64()
            .with_context(|| format!("{peer}: {neighbor}"))
    }

    fn log(&self) -> Result<String> {
        self.0.running()?.log_text()
    }

    fn refresh(&self, peer: IpAddr) -> Result<()> {
        for family in ["ipv4", "ipv6"] {
            self.vtysh_to("bgpd", &format!("clear bgp {family} {peer} in"))?;
        }
        Ok(())
    }

    fn change_password(&self, password: &str) -> Result<()> {
        self.configure_bgp(&format!("neighbor NODES password {password}"))
    }

    fn shut_down(&self, peer: IpAddr, text: &str) -> Result<()> {
        self.configure_bgp(&format!("neighbor {peer} shutdown message {text}"))
    }
}

pub(super) fn table_via(exec: Exec<'_>) -> Result<BTreeSet<RouteEntry>> {
    let [ipv4, ipv6] = TABLES;
    let output = exec(&["vtysh", "-c", ipv4, "-c", ipv6])?;
    let tables: Result<Vec<Value>, _> = Deserializer::from_str(&output).into_iter().collect();
    read_tables(&tables.with_context(|| output.clone())?)
}

fn read_tables(tables: &[Value]) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    for table in tables {
        // Without routes of a family bgpd prints an object without the key.
        for (prefix, paths) in table["routes"].as_object().into_iter().flatten() {
            // The first element describes the prefix; the paths follow.
            for path in paths.as_array().context("paths")?.iter().skip(1) {
                if path["valid"] == true {
                    routes
                        .insert(route(prefix, path).with_context(|| format!("{prefix}: {path}"))?);
                }
            }
        }
    }
    Ok(routes)
}

fn route(prefix: &str, path: &Value) -> Result<RouteEntry> {
    let next_hops = path["nexthops"].as_array().context("nexthops")?;
    let next_hop = next_hops
        .iter()
        .find(|next_hop| next_hop["scope"] != "link-local")
        .context("no global next hop")?;
    let mut communities = strings(&path["community"]["list"]);
    for community in &mut communities {
        if let Some((_, number)) = WELL_KNOWN.iter().find(|(name, _)| name == community) {
            *community = (*number).to_owned();
        }
    }
    communities.sort();
    let local_pref = if path["peer"]["type"] == "internal" {
        Some(u32_of(&path["locPrf"])?)
    } else {
        None
    };
    Ok(RouteEntry {
        communities,
        large_communities: strings(&path["largeCommunity"]["list"]),
        local_pref,
        ..RouteEntry::new(prefix, text(&next_hop["ip"])?)?
    })
}

impl Drop for Frr<'_> {
    fn drop(&mut self) {
        self.0.processes.clear();
        for folder in self.folders() {
            // Fails if FRR was never started.
            let _ = fs::remove_dir_all(folder);
        }
    }
}
