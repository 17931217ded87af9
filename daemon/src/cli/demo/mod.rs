//! `ferrolb demo`: three nodes and a router on loopback, with no root, no cluster and no other program.
//!
//! The nodes are processes of this very program, `ferrolb run --manifests`, each with its own loopback address. The router
//! is our own speaker, and the table shown is what it received.

mod screen;
mod tor;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use ipnet::IpNet;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use self::screen::Screen;
use self::tor::Tor;
use crate::cli::plan::plan_manifests;
use crate::cli::signals::StopSignals;
use crate::core::config::CONFIG_NAMESPACE;
use crate::core::plan::Plan;
use crate::runtime::source::manifests::Loader;

const NODES: [(&str, Ipv4Addr); 3] = [
    ("node-a", Ipv4Addr::new(127, 0, 0, 11)),
    ("node-b", Ipv4Addr::new(127, 0, 0, 12)),
    ("node-c", Ipv4Addr::new(127, 0, 0, 13)),
];

/// No step takes longer than this, or the demo has failed.
const STEP: Duration = Duration::from_secs(4);
/// Time to read, where somebody watches.
const READ: Duration = Duration::from_millis(1800);

/// Shows the whole of it and returns when it is over.
///
/// # Errors
/// Something did not happen that should have; the nodes' logs are shown.
pub(crate) async fn run() -> anyhow::Result<()> {
    let mut demo = Demo::prepare()?;
    let mut signals = StopSignals::listen()?;
    let told = tokio::select! {
        told = demo.tell() => told,
        () = signals.next() => Err(anyhow::anyhow!("the demo was interrupted")),
    };
    let cleaned = demo.clean().await;
    told.and(cleaned)
}

struct Demo {
    folder: PathBuf,
    tor: Tor,
    nodes: BTreeMap<&'static str, Child>,
    screen: Screen,
}

/// Nodes by prefix: what the router's table should come to.
type Expected = BTreeMap<IpNet, BTreeSet<String>>;

impl Demo {
    fn prepare() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("ferrolb-demo-{}", std::process::id()));
        fs::create_dir_all(folder.join("manifests"))
            .context("no folder for the demo's manifests")?;
        let tor = Tor::start(&NODES)?;
        let demo = Self {
            folder,
            tor,
            nodes: BTreeMap::new(),
            screen: Screen::new(),
        };
        demo.write("pool.yaml", include_str!("manifests/pool.yaml"))?;
        demo.write(
            "advertisement.yaml",
            include_str!("manifests/advertisement.yaml"),
        )?;
        demo.write("services.yaml", include_str!("manifests/services.yaml"))?;
        demo.write_endpoints(true)?;
        for (node, address) in NODES {
            let text = include_str!("manifests/node.yaml")
                .replace("{node}", node)
                .replace("{address}", &address.to_string())
                .replace("{port}", &demo.tor.port.to_string());
            demo.write(&format!("{node}.yaml"), &text)?;
        }
        Ok(demo)
    }

    async fn tell(&mut self) -> anyhow::Result<()> {
        self.screen.title(self.tor.port);
        self.screen
            .step("Three nodes start: each is a `ferrolb run` process that dials the router.");
        let begin = Instant::now();
        for (node, _) in NODES {
            self.start_node(node)?;
        }
        self.until(&self.planned(&[])?, begin).await?;
        self.screen.note("shop runs on three nodes, so the router has three next hops and spreads the load (ECMP).");
        self.read().await;

        self.screen
            .step("The Pod of shop on node-c becomes unready.");
        let begin = Instant::now();
        self.write_endpoints(false)?;
        self.until(&self.planned(&[])?, begin).await?;
        self.screen.note(&format!(
            "why? `ferrolb plan` says: {}",
            self.reason("shop", "node-c")?
        ));
        self.read().await;

        self.screen
            .step("node-b is switched off: its process is killed, without a word to the router.");
        let begin = Instant::now();
        self.kill_node("node-b").await?;
        self.until(&self.planned(&["node-b"])?, begin).await?;
        self.read().await;

        self.screen.step("The Pod on node-c is ready again.");
        let begin = Instant::now();
        self.write_endpoints(true)?;
        self.until(&self.planned(&["node-b"])?, begin).await?;
        self.screen.end();
        Ok(())
    }

    /// Waits until the router's table is as planned, and shows each change of it.
    async fn until(&mut self, expected: &Expected, begin: Instant) -> anyhow::Result<()> {
        let deadline = begin + STEP;
        while self.tor.nodes() != *expected {
            if !self.tor.changed(deadline).await {
                self.screen.table(&self.tor.table);
                bail!(
                    "the router's table did not become what was planned within {STEP:?}\n{}",
                    self.logs()
                );
            }
            self.screen.table(&self.tor.table);
        }
        self.screen.done(begin.elapsed());
        Ok(())
    }

    /// What the manifests lead to, without nodes that are off.
    fn planned(&self, off: &[&str]) -> anyhow::Result<Expected> {
        let plan = self.plan();
        if let Some(error) = plan.errors.first() {
            bail!("{}: {}", error.object, error.message);
        }
        let mut expected = Expected::new();
        for route in plan
            .routes
            .into_iter()
            .filter(|route| !off.contains(&&*route.node))
        {
            expected.entry(route.prefix).or_default().insert(route.node);
        }
        Ok(expected)
    }

    fn reason(&self, service: &str, node: &str) -> anyhow::Result<String> {
        let withheld = self.plan().withheld;
        let entry = withheld
            .into_iter()
            .find(|entry| entry.name == service && entry.node == node);
        let entry =
            entry.with_context(|| format!("{service} should not be announced from {node}"))?;
        Ok(format!("{}: {}", entry.reason, entry.message))
    }

    fn plan(&self) -> Plan {
        let namespaces = [CONFIG_NAMESPACE.to_owned()];
        plan_manifests(
            &Loader::new(vec![self.manifests()], &namespaces).load(),
            &namespaces,
            false,
        )
    }

    fn start_node(&mut self, node: &'static str) -> anyhow::Result<()> {
        let log = fs::File::create(self.log(node))?;
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string();
        let child = Command::new(std::env::current_exe()?)
            .arg("run")
            .arg("--manifests")
            .arg(self.manifests())
            .args([
                "--node-name",
                node,
                "--metrics-addr",
                &any_port,
                "--log-format",
                "text",
            ])
            .args(["--config-namespace", CONFIG_NAMESPACE])
            .arg("--socket")
            .arg(self.folder.join(format!("{node}.sock")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{node} can't be started"))?;
        self.nodes.insert(node, child);
        Ok(())
    }

    async fn kill_node(&mut self, node: &str) -> anyhow::Result<()> {
        if let Some(mut child) = self.nodes.remove(node) {
            child.kill().await?;
        }
        Ok(())
    }

    async fn clean(mut self) -> anyhow::Result<()> {
        let nodes: Vec<&str> = self.nodes.keys().copied().collect();
        for node in nodes {
            self.kill_node(node).await?;
        }
        self.tor.stop().await;
        fs::remove_dir_all(&self.folder)?;
        Ok(())
    }

    async fn read(&self) {
        if self.screen.watched() {
            sleep(READ).await;
        }
    }

    fn write_endpoints(&self, ready: bool) -> anyhow::Result<()> {
        let text = include_str!("manifests/shop-endpoints.yaml")
            .replace("{node-c-ready}", &ready.to_string());
        self.write("shop-endpoints.yaml", &text)
    }

    /// Writes beside and renames, so that no node reads half a file.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let new = self.folder.join(name);
        fs::write(&new, text)?;
        fs::rename(new, self.manifests().join(name))?;
        Ok(())
    }

    fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    fn log(&self, node: &str) -> PathBuf {
        self.folder.join(format!("{node}.log"))
    }

    /// What the nodes had to say, for when something went wrong.
    fn logs(&self) -> String {
        let tail = |node: &str| {
            let text = fs::read_to_string(self.log(node)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(12).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            format!("--- {node}\n{}\n", lines.join("\n"))
        };
        NODES.iter().map(|(node, _)| tail(node)).collect()
    }
}
