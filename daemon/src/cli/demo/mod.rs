//! `ferrolb demo`: three nodes and a router on loopback, without root, a cluster or other programs.
//!
//! Each node is a `ferrolb run --manifests` process of this program with its own loopback address.
//! The router is ferrolb's own speaker, and the table shows what it received.

mod screen;
mod tor;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use ipnet::IpNet;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use self::screen::Screen;
use self::tor::Tor;
use crate::cli::plan::plan_manifests;
use crate::cli::signals::StopSignals;
use crate::cli::ui::Ui;
use crate::cli::ui::live::{Feed, Live};
use crate::core::config::{CONFIG_NAMESPACE, ConfigPlaces};
use crate::core::index::Index;
use crate::core::plan::Plan;
use crate::runtime::source::manifests::Loader;

const NODES: [(&str, Ipv4Addr); 3] = [
    ("node-a", Ipv4Addr::new(127, 0, 0, 11)),
    ("node-b", Ipv4Addr::new(127, 0, 0, 12)),
    ("node-c", Ipv4Addr::new(127, 0, 0, 13)),
];

/// Limit for a step; the demo fails if it takes longer.
const STEP_TIMEOUT: Duration = Duration::from_secs(4);
/// Time to read a step, on a terminal.
const READING_TIME: Duration = Duration::from_millis(1800);
/// Time to look at a step on the page.
const LOOKING_TIME: Duration = Duration::from_secs(4);
/// How long the demo looks at the router's events at a time, once its steps are over.
const FOLLOW_TIME: Duration = Duration::from_mins(1);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Show it on a page as well, as ferrolb ui does. The demo begins when the page is open, and
    /// its last state stays until Ctrl-C.
    #[arg(long)]
    ui: bool,
}

/// Runs the demo to its end.
///
/// # Errors
///
/// A step did not have the planned result; the error contains the nodes' logs.
pub(super) async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let mut demo = Demo::prepare()?;
    let mut signals = StopSignals::listen()?;
    let result = tokio::select! {
        result = demo.run(args.ui) => result,
        () = signals.next() => match args.ui {
            true => Ok(()),
            false => Err(anyhow::anyhow!("the demo was interrupted")),
        },
    };
    let cleanup = demo.clean_up().await;
    result.and(cleanup)
}

struct Demo {
    folder: PathBuf,
    tor: Tor,
    nodes: BTreeMap<&'static str, Child>,
    screen: Screen,
    /// Time after each step.
    pause: Duration,
}

/// The expected table of the router: nodes by prefix.
type Expected = BTreeMap<IpNet, BTreeSet<String>>;

impl Demo {
    fn prepare() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("ferrolb-demo-{}", std::process::id()));
        fs::create_dir_all(folder.join("manifests"))
            .context("can't create a folder for the demo's manifests")?;
        let tor = Tor::start(&NODES)?;
        let screen = Screen::new();
        let demo = Self {
            folder,
            tor,
            nodes: BTreeMap::new(),
            pause: match screen.is_interactive() {
                true => READING_TIME,
                false => Duration::ZERO,
            },
            screen,
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

    async fn run(&mut self, ui: bool) -> anyhow::Result<()> {
        if !ui {
            return self.play().await;
        }
        let page = Ui::bind(None, self.feed()).await?;
        self.screen.page(&page.url());
        self.pause = LOOKING_TIME;
        let live = page.live().clone();
        tokio::select! {
            () = page.serve() => Ok(()),
            result = self.play_on_page(&live) => result,
        }
    }

    /// What the page shows: the manifests, and the router's sessions.
    fn feed(&self) -> Feed {
        Feed::Manifests {
            paths: vec![self.manifests()],
            config: ConfigPlaces::of(&[CONFIG_NAMESPACE.to_owned()]),
            sessions: self.tor.sessions(),
        }
    }

    async fn play_on_page(&mut self, live: &Live) -> anyhow::Result<()> {
        live.wait_open().await;
        self.play().await?;
        self.screen.note("The page shows this state until Ctrl-C.");
        loop {
            self.tor.changed(Instant::now() + FOLLOW_TIME).await;
        }
    }

    async fn play(&mut self) -> anyhow::Result<()> {
        self.screen.title(self.tor.port);
        self.screen.step(
            "Three nodes start: each is a `ferrolb run` process with a session to the \
             router.",
        );
        let begin = Instant::now();
        for (node, _) in NODES {
            self.start_node(node)?;
        }
        self.wait_for(&self.planned(&[])?, begin).await?;
        self.screen.note(
            "shop runs on three nodes: the router has three next hops and spreads the load (ECMP).",
        );
        self.pause().await;

        self.screen
            .step("The Pod of shop on node-c becomes unready.");
        let begin = Instant::now();
        self.write_endpoints(false)?;
        self.wait_for(&self.planned(&[])?, begin).await?;
        self.screen.note(&format!(
            "the reason, from `ferrolb plan`: {}",
            self.reason("shop", "node-c")?
        ));
        self.pause().await;

        self.screen
            .step("node-b fails: its process is killed without closing its session.");
        let begin = Instant::now();
        self.kill_node("node-b").await?;
        self.wait_for(&self.planned(&["node-b"])?, begin).await?;
        self.pause().await;

        self.screen.step("The Pod on node-c is ready again.");
        let begin = Instant::now();
        self.write_endpoints(true)?;
        self.wait_for(&self.planned(&["node-b"])?, begin).await?;
        self.screen.end();
        Ok(())
    }

    /// Waits until the router's table is as planned, and shows each change of it.
    async fn wait_for(&mut self, expected: &Expected, begin: Instant) -> anyhow::Result<()> {
        let deadline = begin + STEP_TIMEOUT;
        while self.tor.nodes() != *expected {
            if !self.tor.changed(deadline).await {
                self.screen.table(&self.tor.table);
                bail!(
                    "the router's table was not as planned within {STEP_TIMEOUT:?}\n{}",
                    self.logs()
                );
            }
            self.screen.table(&self.tor.table);
        }
        self.screen.done(begin.elapsed());
        Ok(())
    }

    /// The routes that the manifests result in, without nodes that are off.
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
            .find(|entry| entry.name == service && entry.node.as_deref() == Some(node));
        let entry =
            entry.with_context(|| format!("{service} should not be announced from {node}"))?;
        Ok(format!("{}: {}", entry.reason, entry.message))
    }

    fn plan(&self) -> Plan {
        let namespaces = [CONFIG_NAMESPACE.to_owned()];
        plan_manifests(
            &Loader::new(vec![self.manifests()], ConfigPlaces::of(&namespaces)).load(),
            &namespaces,
            Index::for_prediction(),
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
            .with_context(|| format!("can't start {node}"))?;
        self.nodes.insert(node, child);
        Ok(())
    }

    async fn kill_node(&mut self, node: &str) -> anyhow::Result<()> {
        if let Some(mut child) = self.nodes.remove(node) {
            child.kill().await?;
        }
        Ok(())
    }

    async fn clean_up(mut self) -> anyhow::Result<()> {
        let nodes: Vec<&str> = self.nodes.keys().copied().collect();
        for node in nodes {
            self.kill_node(node).await?;
        }
        self.tor.stop().await;
        fs::remove_dir_all(&self.folder)?;
        Ok(())
    }

    async fn pause(&self) {
        sleep(self.pause).await;
    }

    fn write_endpoints(&self, ready: bool) -> anyhow::Result<()> {
        let text = include_str!("manifests/shop-endpoints.yaml")
            .replace("{node-c-ready}", &ready.to_string());
        self.write("shop-endpoints.yaml", &text)
    }

    /// Writes to another place and renames, so that no node reads half a file.
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

    /// The last log lines of the nodes, for errors.
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
