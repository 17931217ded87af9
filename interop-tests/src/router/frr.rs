//! FRRouting: zebra and bgpd under a path space of their own (`-N`), asked by `vtysh`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::{Deserializer, Value};

use super::{Ask, RouteEntry, Router, START_TIMEOUT, example, strings, text, u32_of, version_of};
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Process, Scratch, run};

/// FRR prints well-known communities by name, in JSON like this.
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

/// What prints the tables of both families.
const TABLES: [&str; 2] = [
    "show bgp ipv4 unicast json detail",
    "show bgp ipv6 unicast json detail",
];

/// FRR in a namespace.
#[derive(Debug)]
pub struct Frr<'lab> {
    scratch: &'lab Scratch,
    namespace: &'lab Namespace,
    configuration: PathBuf,
    /// bgpd first: it is the first to go.
    daemons: Vec<Process>,
}

impl<'lab> Frr<'lab> {
    /// FRR with `peering-examples/frr/EXAMPLE.conf`, not yet started.
    #[must_use]
    pub fn new(scratch: &'lab Scratch, namespace: &'lab Namespace, name: &str) -> Self {
        Self::with_configuration(scratch, namespace, example(&format!("frr/{name}.conf")))
    }

    /// FRR with a configuration of one's own, not yet started.
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
            daemons: Vec::new(),
        }
    }

    /// Where FRR keeps a path space's configuration and sockets.
    fn folders(&self) -> [PathBuf; 2] {
        ["/etc/frr", "/var/run/frr"].map(|base| Path::new(base).join(self.namespace.name()))
    }

    fn start_daemon(&self, program: &str) -> Result<Process> {
        let mut command = self.namespace.command(format!("/usr/lib/frr/{program}"));
        command.args(["-N", self.namespace.name()]);
        command.args(["-u", "frr", "-g", "frr", "-A", "127.0.0.1"]);
        command.args(["--log", "stdout"]);
        let mut daemon = Process::start(self.scratch, program, &command)?;
        // bgpd misses interfaces and kernel routes when zebra isn't there yet.
        eventually(format!("{program} up"), START_TIMEOUT, || {
            daemon.ensure_running()?;
            self.vtysh_to(program, "show version")
        })?;
        Ok(daemon)
    }

    fn vtysh_to(&self, program: &str, line: &str) -> Result<String> {
        run(Command::new("vtysh").args(["-N", self.namespace.name(), "-d", program, "-c", line]))
    }

    /// What `show` commands print, one JSON value each.
    fn show(&self, lines: &[&str]) -> Result<Vec<Value>> {
        let mut command = Command::new("vtysh");
        command.args(["-N", self.namespace.name()]);
        for line in lines {
            command.args(["-c", line]);
        }
        let output = run(&mut command)?;
        let values: Result<Vec<Value>, _> = Deserializer::from_str(&output).into_iter().collect();
        values.with_context(|| format!("vtysh {lines:?} printed: {output}"))
    }

    fn bgpd(&self) -> Result<&Process> {
        self.daemons.first().context("FRR is not running")
    }

    /// SIGKILL of bgpd alone, as if it crashed: zebra stays, and decides what stays in the kernel.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn kill_bgpd(&mut self) -> Result<()> {
        self.bgpd()?;
        self.daemons.remove(0).kill()
    }

    /// Starts bgpd again after [`Frr::kill_bgpd`], with its configuration.
    ///
    /// # Errors
    /// When it does not come up or refuses a line.
    pub fn start_bgpd(&mut self) -> Result<()> {
        let daemon = self.start_daemon("bgpd")?;
        self.daemons.insert(0, daemon);
        self.configure()
    }

    /// Checks that bgpd selects paths, and no `update-delay` is running since its last start.
    ///
    /// # Errors
    /// When one is running or has not begun yet.
    pub fn ensure_selecting(&self) -> Result<()> {
        if !fs::read_to_string(&self.configuration)?.contains("\n update-delay ") {
            return Ok(());
        }
        let log = self.bgpd()?.log_text()?;
        let since = log.rsplit("starting: vty").next().unwrap_or_default();
        ensure!(since.contains("Update delay ended"), "update-delay");
        Ok(())
    }

    /// Gives all daemons the configuration.
    fn configure(&self) -> Result<()> {
        let output = run(Command::new("vtysh")
            .args(["-N", self.namespace.name(), "-f"])
            .arg(&self.configuration))?;
        // vtysh may refuse a line and still exit with 0.
        ensure!(
            !output.contains('%'),
            "{}: {output}",
            self.configuration.display()
        );
        Ok(())
    }

    /// Of both families' summaries, the Established peers of each.
    fn established(&self) -> Result<Vec<(&'static str, IpAddr)>> {
        let summary = self.show(&["show bgp summary json"])?;
        let mut peers = Vec::new();
        for (key, family) in [("ipv4Unicast", "ipv4"), ("ipv6Unicast", "ipv6")] {
            let Some(of_family) = summary
                .first()
                .and_then(|all| all[key]["peers"].as_object())
            else {
                continue; // no peer has this family
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
    fn name(&self) -> &'static str {
        "FRR"
    }

    fn installs_routes(&self) -> bool {
        true
    }

    fn start(&mut self) -> Result<()> {
        ensure!(self.daemons.is_empty(), "FRR is running");
        for folder in self.folders() {
            fs::create_dir_all(&folder)?;
            run(Command::new("chown").arg("frr:frr").arg(&folder))?;
        }
        fs::write(self.folders()[0].join("vtysh.conf"), "")?;
        let wants_bfd = fs::read_to_string(&self.configuration)?
            .lines()
            .any(|line| line == "bfd");
        let programs = ["zebra", "bfdd", "bgpd"];
        for program in programs
            .into_iter()
            .filter(|program| *program != "bfdd" || wants_bfd)
        {
            let daemon = self.start_daemon(program)?;
            self.daemons.insert(0, daemon);
        }
        self.configure()
    }

    fn stop(&mut self) -> Result<()> {
        self.bgpd()?;
        for mut daemon in self.daemons.drain(..) {
            daemon.terminate(START_TIMEOUT)?;
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.bgpd()?;
        for mut daemon in self.daemons.drain(..) {
            daemon.kill()?;
        }
        Ok(())
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        // The summary's up time has whole seconds and wavers; the log tells each session.
        let log = self.bgpd()?.log_text()?;
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

    fn refused(&self) -> Result<BTreeSet<IpNet>> {
        let mut refused = BTreeSet::new();
        for (family, peer) in self.established()? {
            let line = format!("show bgp {family} unicast neighbors {peer} filtered-routes json");
            for answer in self.show(&[&line])? {
                for prefix in answer["receivedRoutes"].as_object().into_iter().flatten() {
                    refused.insert(prefix.0.parse()?);
                }
            }
        }
        Ok(refused)
    }

    fn version(&self) -> Result<String> {
        version_of(Command::new("/usr/lib/frr/bgpd").arg("--version"))
    }

    fn describe(&self, prefix: IpNet) -> Result<String> {
        let family = if prefix.addr().is_ipv4() {
            "ipv4"
        } else {
            "ipv6"
        };
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
        self.bgpd()?.log_text()
    }

    fn refresh(&self, peer: IpAddr) -> Result<()> {
        for family in ["ipv4", "ipv6"] {
            self.vtysh_to("bgpd", &format!("clear bgp {family} {peer} in"))?;
        }
        Ok(())
    }

    fn change_password(&self, password: &str) -> Result<()> {
        let line = format!("neighbor NODES password {password}");
        let mut command = Command::new("vtysh");
        command.args(["-N", self.namespace.name(), "-d", "bgpd"]);
        for line in ["configure terminal", "router bgp", &line] {
            command.args(["-c", line]);
        }
        run(&mut command).map(drop)
    }

    fn shut_down(&self, peer: IpAddr, text: &str) -> Result<()> {
        let mut command = Command::new("vtysh");
        command.args(["-N", self.namespace.name(), "-d", "bgpd"]);
        let shutdown = format!("neighbor {peer} shutdown message {text}");
        for line in ["configure terminal", "router bgp", &shutdown] {
            command.args(["-c", line]);
        }
        run(&mut command).map(drop)
    }
}

/// What it learnt, by a way of one's own to its programs.
pub(super) fn table_by(ask: Ask<'_>) -> Result<BTreeSet<RouteEntry>> {
    let [ipv4, ipv6] = TABLES;
    let output = ask(&["vtysh", "-c", ipv4, "-c", ipv6])?;
    let tables: Result<Vec<Value>, _> = Deserializer::from_str(&output).into_iter().collect();
    read_tables(&tables.with_context(|| output.clone())?)
}

fn read_tables(tables: &[Value]) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    for table in tables {
        // bgpd without a single route of a family prints an object without the key.
        for (prefix, paths) in table["routes"].as_object().into_iter().flatten() {
            // The first element describes the prefix, those after it are its paths.
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
        self.daemons.clear();
        for folder in self.folders() {
            // Missing when it was never started.
            let _ = fs::remove_dir_all(folder);
        }
    }
}
