//! The pages of docs/routers: each router is configured by the commands of its page, has the
//! sessions and routes that the page shows, and prints what the page shows.

mod host;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::book::{Page, Shell};
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::process::{Process, ferrolb};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{Node, Topology};
use serde_json::Value;

use self::host::Host;

/// The heading of each page's first commands. The nodes start after them.
const CONFIGURE: &str = "Configure";

/// The heading of the commands that show sessions and routes.
const CHECK: &str = "Check";

/// The next hops of the Service in the router's kernel.
const KERNEL: &str = "ip route show 203.0.113.10";

/// The address of the Service that all pages have.
const SERVICE: &str = "203.0.113.10";

/// The address of a Service that the routers' configurations don't know.
const OUTSIDE: &str = "192.0.2.1";

/// What `ferrolb peers` prints when the router expects another AS number of the node.
const WRONG_ASN: &str = "the router expects another AS number from us";

/// What `ferrolb peers` prints on a node that the router doesn't know.
const STRANGER: &str = "not configured as";

/// Time for sessions and routes.
const UP: Duration = Duration::from_secs(60);
/// FRR ends the first session with BFD once.
const STABLE: Duration = Duration::from_secs(3);

/// The router's host, two nodes that read the manifests of the page, and one that the page doesn't
/// mention.
struct Lab<'lab> {
    scratch: &'lab Scratch,
    topology: &'lab Topology,
    folder: &'lab Folder<'lab>,
    host: &'lab Host,
    shell: Shell<'lab>,
    daemons: Vec<Process>,
}

fn with_lab(name: &str, test: impl FnOnce(&mut Lab<'_>) -> Result<()>) {
    scenario(&format!("book-{name}"), |scratch| {
        let topology = Topology::new(3)?;
        let folder = Folder::new(scratch)?;
        let socket = folder.socket(&topology.nodes[0]);
        let host = Host::start(scratch, &topology.tor, &socket)?;
        test(&mut Lab {
            scratch,
            topology: &topology,
            folder: &folder,
            host: &host,
            shell: host.shell()?,
            daemons: Vec::new(),
        })
    });
}

impl Lab<'_> {
    /// Runs a page until its section "Check". `routes` is a command that prints the next hops of
    /// the Service.
    fn run(&mut self, page: &str, routes: &str) -> Result<Page> {
        let mut page = Page::read(page)?;
        page.run(CONFIGURE, &self.shell)?;
        self.start_nodes()?;
        self.await_routes(routes)?;
        page.run(CHECK, &self.shell)?;
        Ok(page)
    }

    /// Runs the section of a page about a restart without such changes of the Service's route in
    /// the router's kernel, then the restart that removes the route.
    fn check_restarts(
        &self,
        page: &mut Page,
        (heading, is_loss): (&str, fn(&str) -> bool),
        removing: &str,
    ) -> Result<()> {
        let mut monitor = self.topology.tor.command("ip");
        monitor.args(["-4", "-o", "monitor", "route"]);
        let monitor = Process::start(self.scratch, "monitor", &monitor)?;
        page.run(heading, &self.shell)?;
        self.await_routes(KERNEL)?;
        let losses = changes(&monitor, is_loss)?;
        ensure!(losses.is_empty(), "{heading}: {losses:#?}");
        self.host.run(removing)?;
        eventually(format!("{removing} removes the route"), UP, || {
            ensure!(!changes(&monitor, is_removed)?.is_empty(), "it stays");
            Ok(())
        })
    }

    /// The nodes that the page mentions.
    fn nodes(&self) -> &[Node] {
        &self.topology.nodes[..2]
    }

    /// Starts the daemons, with a Service whose endpoints are on both nodes.
    fn start_nodes(&mut self) -> Result<()> {
        if self.daemons.is_empty() {
            let service = manifest::service_at(SERVICE.parse()?, 1, &["node1", "node2"]);
            self.folder.write("service.yaml", &service)?;
            let nodes = self.nodes().iter();
            let daemons = nodes.map(|node| self.folder.run(node));
            self.daemons = daemons.collect::<Result<_>>()?;
        }
        Ok(())
    }

    /// Waits until the sessions last, and the router has the route of each node.
    fn await_routes(&self, routes: &str) -> Result<()> {
        eventually("sessions that last, and routes", UP, || {
            consistently("sessions and routes", STABLE, || {
                let printed = self.host.run(routes)?;
                for node in self.nodes() {
                    self.check_session(node)?;
                    let next_hop = node.ipv4.to_string();
                    ensure!(printed.contains(&next_hop), "{routes}: {printed}");
                }
                Ok(())
            })
        })
    }

    fn check_session(&self, node: &Node) -> Result<()> {
        let peer = self.peer(node)?;
        ensure!(peer["state"] == "Established", "{}: {peer}", node.name);
        Ok(())
    }

    /// The only session of a node.
    fn peer(&self, node: &Node) -> Result<Value> {
        let peers = self.folder.ask(node, &["peers", "-o", "json"])?;
        let peers: Value = serde_json::from_str(&peers)?;
        Ok(peers[0].clone())
    }

    /// Checks that commands in the sentences of a page work.
    fn check_commands(&self, page: &str, commands: &[&str]) -> Result<()> {
        let text = text_of(page)?;
        for command in commands {
            ensure!(text.contains(command), "{page} has no {command:?}");
            self.host.run(command)?;
        }
        Ok(())
    }

    /// Checks that a command of the page prints what the router's filter rejects: the prefix of a
    /// pool that is newer than the router's configuration.
    fn check_rejected(&self, page: &str, command: &str) -> Result<()> {
        ensure!(
            text_of(page)?.contains(command),
            "{page} has no {command:?}"
        );
        let pool = manifest::pool("192.0.2.0/28");
        let service = manifest::service_at(OUTSIDE.parse()?, 2, &["node1", "node2"]);
        self.folder
            .write("outside.yaml", &manifest::join(&[&pool, &service]))?;
        eventually("the rejected prefix", UP, || {
            let printed = self.host.run(command)?;
            ensure!(printed.contains(OUTSIDE), "{command}: {printed}");
            Ok(())
        })?;
        self.folder.remove("outside.yaml")
    }

    /// Checks that the page explains what is printed about mistakes: the router doesn't know a
    /// node, and the BGPPeer has another AS number than the router. `log` is a command that prints
    /// the router's own messages.
    fn check_messages(&mut self, page: &str, log: &str, messages: &[&str]) -> Result<()> {
        let stranger = &self.topology.nodes[2];
        self.folder.write_node(stranger, &[])?;
        self.daemons.push(self.folder.run(stranger)?);
        self.await_message(stranger, STRANGER)?;
        self.host
            .run("sed -i 's/myASN: 64700/myASN: 64701/' manifests/rack.yaml")?;
        self.await_message(&self.topology.nodes[0], WRONG_ASN)?;
        let text = text_of(page)?;
        let of_the_router = self.host.run(log)?;
        for message in messages {
            ensure!(of_the_router.contains(message), "{log}: {of_the_router}");
        }
        for message in [STRANGER, WRONG_ASN].iter().chain(messages) {
            ensure!(text.contains(message), "{page} has no {message:?}");
        }
        Ok(())
    }

    fn await_message(&self, node: &Node, message: &str) -> Result<()> {
        eventually(message, UP, || {
            let peer = self.peer(node)?;
            let text = peer["last_error"]["cause"]["text"].as_str();
            ensure!(text.is_some_and(|text| text.contains(message)), "{peer}");
            Ok(())
        })
    }
}

/// The lines of `ip -o monitor route` about the Service that are meant.
fn changes(monitor: &Process, is_meant: fn(&str) -> bool) -> Result<Vec<String>> {
    let changes = monitor.log_text()?;
    let lines = changes.lines().filter(|line| line.contains(SERVICE));
    let meant = lines.filter(|line| is_meant(line));
    Ok(meant.map(str::to_owned).collect())
}

/// Whether the route is removed.
fn is_removed(line: &str) -> bool {
    line.starts_with("Deleted ")
}

/// Whether the route is removed, or replaced by one with fewer next hops than there are nodes.
fn is_smaller(line: &str) -> bool {
    is_removed(line) || line.matches("via ").count() < 2
}

/// The text of a page.
fn text_of(page: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Ok(fs::read_to_string(root.join(page))?)
}

#[test]
pub(crate) fn frr() {
    with_lab("frr", |lab| {
        let file = "docs/routers/frr.md";
        let mut page = lab.run(file, KERNEL)?;
        let rejected = "vtysh -c 'show bgp ipv4 unicast neighbors 10.99.0.11 filtered-routes'";
        lab.check_rejected(file, rejected)?;
        // With BFD a next hop may be missing for a moment: FRR ends the first session again.
        let restart = ("When bgpd restarts", is_removed as fn(&str) -> bool);
        lab.check_restarts(&mut page, restart, "systemctl restart frr")?;
        page.finish()?;
        lab.host.run(
            "vtysh -c 'configure terminal' -c 'log file /run/frr/frr.log' \
             -c 'debug bgp neighbor-events'",
        )?;
        let messages = [
            "2/2 (OPEN Message Error/Bad Peer AS)",
            "not configured and not valid for dynamic",
        ];
        lab.check_messages(file, "cat /run/frr/frr.log", &messages)?;
        lab.check_commands(file, &["vtysh -c 'clear bgp 10.99.0.11'"])
    });
}

/// The pages of systems that have FRR inside: the same router loads each configuration.
#[test]
pub(crate) fn systems_with_frr_inside() {
    with_lab("frr-inside", |lab| {
        lab.host.run(
            "sed -i 's/^bgpd=no/bgpd=yes/; s/^bfdd=no/bfdd=yes/' /etc/frr/daemons\n\
             systemctl restart frr",
        )?;
        for page in ["vyos", "cumulus", "sonic"] {
            let file = format!("docs/routers/{page}.md");
            lab.run(&file, KERNEL)?.finish()?;
            lab.host
                .run("vtysh -c 'configure terminal' -c 'no router bgp 64600' -c 'no bfd'")?;
        }
        Ok(())
    });
}

#[test]
pub(crate) fn bird() {
    with_lab("bird", |lab| {
        let file = "docs/routers/bird.md";
        let mut page = lab.run(file, KERNEL)?;
        lab.check_commands(file, &["birdc configure"])?;
        lab.check_rejected(file, "birdc show route filtered")?;
        let restart = ("When BIRD restarts", is_smaller as fn(&str) -> bool);
        lab.check_restarts(&mut page, restart, "systemctl restart bird")?;
        page.finish()?;
        lab.check_messages(file, "birdc show protocols", &["Bad peer AS"])
    });
}

#[test]
pub(crate) fn gobgp() {
    with_lab("gobgp", |lab| {
        let file = "docs/routers/gobgp.md";
        lab.run(file, "gobgp global rib")?.finish()?;
        lab.check_commands(file, &["gobgp neighbor 10.99.0.11 enable"])?;
        lab.check_rejected(file, "gobgp neighbor 10.99.0.11 adj-in")?;
        lab.check_messages(file, "cat gobgpd.log", &[])
    });
}

#[test]
pub(crate) fn openbgpd() {
    with_lab("openbgpd", |lab| {
        let file = "docs/routers/openbgpd.md";
        lab.run(file, "bgpctl show rib")?.finish()?;
        lab.check_commands(file, &["bgpctl reload"])?;
        lab.check_rejected(file, "bgpctl show rib neighbor node1 in")?;
        lab.check_messages(file, "cat openbgpd.log", &["peer sent wrong AS"])
    });
}

#[test]
pub(crate) fn exabgp() {
    with_lab("exabgp", |lab| {
        let file = "docs/routers/exabgp.md";
        lab.run(file, "grep announce events.json")?.finish()?;
        lab.check_messages(file, "cat exabgp.log", &[])
    });
}

/// Pages whose commands need no router.
#[test]
pub(crate) fn generated_only() {
    scenario("book-router-config", |scratch| {
        for page in [
            "docs/router-config.md",
            "docs/routers/eos.md",
            "docs/routers/nxos.md",
            "docs/routers/junos.md",
            "docs/routers/routeros.md",
        ] {
            let name = page.replace(['/', '.'], "-");
            let folder = scratch.within(&name)?;
            let shell = Shell::new(folder.path(), || Command::new("bash"))?
                .program("ferrolb", &ferrolb()?)?;
            Page::read(page)?.run_rest(&shell)?;
        }
        Ok(())
    });
}
