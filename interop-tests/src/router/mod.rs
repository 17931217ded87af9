//! Router products as the top-of-rack router, each started with a configuration of
//! `peering-examples/` and queried with its own command-line client.
//!
//! [`Kind`] names the product, [`Router`] is what a scenario does with it. To add a product, write
//! a module like `bird.rs` and a variant of [`Kind`]. The compiler reports most places to extend;
//! `KINDS` in `tests/corpus/main.rs`, the rows in `tests/interop/` and the packages in
//! `xtask/src/setup.rs` are lists.

mod adj_rib_in;
mod announcer_as_router;
mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;
mod route_entry;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;

pub use announcer_as_router::AnnouncerAsRouter;
pub use bird::Bird;
pub use exabgp::Exabgp;
pub use frr::Frr;
pub use gobgp::Gobgp;
pub use openbgpd::Openbgpd;
pub use route_entry::RouteEntry;
use route_entry::{sorted, strings, text, u32_of};

use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::Process;
use crate::scenario::{Scratch, scenario};
use crate::topology::{MD5_PASSWORD, Topology};

/// Time for a router to come up or end. FRR needs about 1 s on an idle machine.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A top-of-rack router in its own namespace. Dropping it kills it.
pub trait Router: Debug + Sync {
    /// Its product, namespace, configuration and processes.
    fn instance(&self) -> &Instance<'_>;

    /// Starts the router and waits until it listens with its configuration.
    ///
    /// # Errors
    /// When it is running, ends early or does not come up.
    fn start(&mut self) -> Result<()>;

    /// Stops the router as an operator does, with SIGTERM.
    ///
    /// # Errors
    /// When it isn't running or does not end.
    fn stop(&mut self) -> Result<()>;

    /// Kills the router as a crash does, with SIGKILL: its routes stay in the kernel.
    ///
    /// # Errors
    /// When it isn't running.
    fn kill(&mut self) -> Result<()>;

    /// The router product.
    fn kind(&self) -> Kind {
        self.instance().kind
    }

    /// The product's name, for messages.
    fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Whether the router installs its routes into the kernel ([`await_kernel`]).
    fn installs_routes(&self) -> bool {
        self.kind().installs_routes()
    }

    /// The peers with an Established session, each with a mark that changes when the session is
    /// lost and established again.
    ///
    /// # Errors
    /// When the router does not answer.
    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>>;

    /// The received routes of both families that passed the import filter.
    ///
    /// # Errors
    /// When the router does not answer, or its output has an unknown format.
    fn table(&self) -> Result<BTreeSet<RouteEntry>>;

    /// As [`Router::table`], without attributes, for large tables.
    ///
    /// # Errors
    /// As [`Router::table`].
    fn plain_table(&self) -> Result<BTreeSet<RouteEntry>> {
        self.table()
    }

    /// The prefixes that the import filter rejected; empty while nodes announce only what they may.
    ///
    /// # Errors
    /// When the router does not answer.
    fn rejected(&self) -> Result<BTreeSet<IpNet>>;

    /// Version of its package or program.
    ///
    /// # Errors
    /// When the program prints none.
    fn version(&self) -> Result<String>;

    /// The router's own description of the routes for a prefix.
    ///
    /// # Errors
    /// When the router does not answer.
    fn describe(&self, prefix: IpNet) -> Result<String>;

    /// The router's own description of a peer.
    ///
    /// # Errors
    /// When the router does not answer or has no such peer.
    fn describe_peer(&self, peer: IpAddr) -> Result<String>;

    /// Number of UPDATEs received from a peer, End-of-RIB included: in this session or in total,
    /// depending on the product.
    ///
    /// # Errors
    /// When the router does not answer, has no such peer or does not count.
    fn updates_from(&self, peer: IpAddr) -> Result<u64>;

    /// The router's log.
    ///
    /// # Errors
    /// When the router isn't running or the log can't be read.
    fn log(&self) -> Result<String> {
        self.instance().log()
    }

    /// Requests a route refresh (RFC 2918) from a peer.
    ///
    /// # Errors
    /// When the router does not answer, or has no such command.
    fn refresh(&self, peer: IpAddr) -> Result<()>;

    /// Changes the TCP MD5 password of all peers from
    /// [`MD5_PASSWORD`] to another one, as an operator does.
    ///
    /// # Errors
    /// When the router rejects the change.
    fn change_password(&self, password: &str) -> Result<()>;

    /// Ends a peer's session with Cease/Administrative Shutdown and, where the product can send
    /// one, this text (RFC 9003). The peer stays down.
    ///
    /// # Errors
    /// When the router does not answer, or has no such command.
    fn shut_down(&self, peer: IpAddr, text: &str) -> Result<()>;
}

/// A router product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// FRRouting: zebra, bgpd and bfdd.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP. Installs no routes into the kernel.
    Gobgp,
    /// OpenBGPD. Installs no routes into the kernel on Linux.
    Openbgpd,
    /// ExaBGP. Passes received routes to a program; has no import filter.
    Exabgp,
    /// ferrolb's own engine as the router: prints received routes; has no import filter.
    Ferrolb,
}

impl Kind {
    /// The products with import filters, against which the daemon is tested.
    pub const FILTERING: [Self; 3] = [Self::Frr, Self::Bird, Self::Gobgp];

    /// The product's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Frr => "FRR",
            Self::Bird => "BIRD",
            Self::Gobgp => "GoBGP",
            Self::Openbgpd => "OpenBGPD",
            Self::Exabgp => "ExaBGP",
            Self::Ferrolb => "ferrolb",
        }
    }

    /// Whether the product installs routes into the kernel.
    #[must_use]
    pub fn installs_routes(self) -> bool {
        matches!(self, Self::Frr | Self::Bird)
    }

    /// Path of the configuration `peering-examples/PRODUCT/NAME.*`. ferrolb has no configuration
    /// file; its path is the name alone.
    #[must_use]
    pub fn example(self, name: &str) -> PathBuf {
        let file = match self {
            Self::Frr => format!("frr/{name}.conf"),
            Self::Bird => format!("bird/{name}.conf"),
            Self::Gobgp => format!("gobgp/{name}.toml"),
            Self::Openbgpd => format!("openbgpd/{name}.conf"),
            Self::Exabgp => format!("exabgp/{name}.conf"),
            Self::Ferrolb => return PathBuf::from(name),
        };
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../peering-examples")
            .join(file)
    }

    /// The router with the configuration `peering-examples/PRODUCT/EXAMPLE.*`, not started.
    #[must_use]
    pub fn router<'lab>(
        self,
        scratch: &'lab Scratch,
        namespace: &'lab Namespace,
        example: &str,
    ) -> Box<dyn Router + 'lab> {
        self.with_configuration(scratch, namespace, self.example(example))
    }

    fn with_configuration<'lab>(
        self,
        scratch: &'lab Scratch,
        namespace: &'lab Namespace,
        configuration: PathBuf,
    ) -> Box<dyn Router + 'lab> {
        let instance = Instance::new(self, scratch, namespace, configuration);
        match self {
            Self::Frr => Box::new(Frr(instance)),
            Self::Bird => Box::new(Bird(instance)),
            Self::Gobgp => Box::new(Gobgp(instance)),
            Self::Openbgpd => Box::new(Openbgpd(instance)),
            Self::Exabgp => Box::new(Exabgp(instance)),
            Self::Ferrolb => Box::new(AnnouncerAsRouter(instance)),
        }
    }

    /// The router with a modified copy of an example, not started: in each pair of `edits` the
    /// second text replaces the first.
    ///
    /// # Errors
    /// When there is no such example, it lacks one of the texts, or the copy can't be written.
    pub fn edited<'lab>(
        self,
        scratch: &'lab Scratch,
        namespace: &'lab Namespace,
        example: &str,
        edits: &[(String, String)],
    ) -> Result<Box<dyn Router + 'lab>> {
        ensure!(self != Self::Ferrolb, "ferrolb has no configuration file");
        let original = self.example(example);
        let name = original.display().to_string();
        let mut text = fs::read_to_string(&original).with_context(|| name.clone())?;
        for (old, new) in edits {
            ensure!(text.contains(old), "{name} has no {old:?}");
            text = text.replace(old, new);
        }
        self.configured(scratch, namespace, &text)
    }

    /// The router with this configuration, not started. At most one for each scratch folder.
    ///
    /// # Errors
    /// When it is ferrolb, which has no configuration file, or it can't be written.
    pub fn configured<'lab>(
        self,
        scratch: &'lab Scratch,
        namespace: &'lab Namespace,
        text: &str,
    ) -> Result<Box<dyn Router + 'lab>> {
        ensure!(self != Self::Ferrolb, "ferrolb has no configuration file");
        let example = self.example("ebgp");
        let folder = scratch.within("configuration")?;
        let file = folder
            .path()
            .join(example.file_name().context("no file name")?);
        fs::write(&file, text)?;
        if self == Self::Exabgp {
            // ExaBGP looks for its program in the folder of the configuration.
            let program = exabgp::PROGRAM;
            fs::copy(example.with_file_name(program), folder.file(program))?;
        }
        Ok(self.with_configuration(scratch, namespace, file))
    }

    /// The table of such a router that runs outside the lab's namespaces, for example in a
    /// container.
    ///
    /// # Errors
    /// When the router does not answer, or its output has an unknown format.
    pub fn table_via(self, exec: Exec<'_>) -> Result<BTreeSet<RouteEntry>> {
        match self {
            Self::Frr => frr::table_via(exec),
            Self::Bird => bird::table_via(exec),
            Self::Gobgp => gobgp::table_via(exec),
            Self::Openbgpd => openbgpd::table_via(exec),
            Self::Exabgp | Self::Ferrolb => bail!("{} has no command for its table", self.name()),
        }
    }
}

/// Runs one of a router's programs on the router's host and returns its stdout.
pub type Exec<'a> = &'a dyn Fn(&[&str]) -> Result<String>;

/// Where a router runs, with which configuration, and its processes.
#[derive(Debug)]
pub struct Instance<'lab> {
    kind: Kind,
    scratch: &'lab Scratch,
    namespace: &'lab Namespace,
    configuration: PathBuf,
    /// Empty unless the router runs; stopped in this order.
    processes: Vec<Process>,
}

impl<'lab> Instance<'lab> {
    fn new(
        kind: Kind,
        scratch: &'lab Scratch,
        namespace: &'lab Namespace,
        configuration: PathBuf,
    ) -> Self {
        Self {
            kind,
            scratch,
            namespace,
            configuration,
            processes: Vec::new(),
        }
    }

    /// The main process.
    fn running(&self) -> Result<&Process> {
        let process = self.processes.first();
        process.with_context(|| format!("{} is not running", self.kind.name()))
    }

    fn ensure_stopped(&self) -> Result<()> {
        let name = self.kind.name();
        ensure!(self.processes.is_empty(), "{name} is running");
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.running()?;
        self.processes
            .drain(..)
            .try_for_each(|mut process| process.terminate(START_TIMEOUT).map(drop))
    }

    fn kill(&mut self) -> Result<()> {
        self.running()?;
        self.processes
            .drain(..)
            .try_for_each(|mut process| process.kill())
    }

    fn log(&self) -> Result<String> {
        self.running()?;
        let logs: Result<Vec<String>> = self.processes.iter().map(Process::log_text).collect();
        Ok(logs?.concat())
    }

    /// Copies the configuration into the scratch folder, for a router whose configuration changes
    /// while it runs.
    fn copy_configuration(&self, name: &str) -> Result<PathBuf> {
        let copy = self.scratch.file(name);
        fs::copy(&self.configuration, &copy)
            .with_context(|| self.configuration.display().to_string())?;
        Ok(copy)
    }
}

/// Writes a configuration file with another password than [`MD5_PASSWORD`].
fn replace_password(from: &Path, to: &Path, password: &str) -> Result<()> {
    let text = fs::read_to_string(from)?.replace(MD5_PASSWORD, password);
    fs::write(to, text).with_context(|| to.display().to_string())
}

/// Runs a scenario with `nodes` nodes and a started router of this kind, which has the
/// configuration `peering-examples/PRODUCT/EXAMPLE.*`.
pub fn router_scenario(
    kind: Kind,
    name: &str,
    nodes: u8,
    example: &str,
    test: impl FnOnce(&Scratch, &Topology, &mut dyn Router) -> Result<()>,
) {
    scenario(&format!("{name}-{kind:?}"), |scratch| {
        let rack = Topology::new(nodes)?;
        let mut router = kind.router(scratch, &rack.tor, example);
        router.start()?;
        test(scratch, &rack, &mut *router)
    });
}

/// Waits until the router's table is exactly `expected` and its import filter rejected nothing.
///
/// # Errors
/// After `timeout`, with the missing and the unexpected routes.
pub fn await_table(
    router: &dyn Router,
    expected: &BTreeSet<RouteEntry>,
    timeout: Duration,
) -> Result<()> {
    eventually(format!("table of {}", router.name()), timeout, || {
        check_table(router, expected)
    })
}

/// Compares the router's table with `expected`, once.
///
/// # Errors
/// With the missing, the unexpected and the rejected routes.
pub fn check_table(router: &dyn Router, expected: &BTreeSet<RouteEntry>) -> Result<()> {
    let table = router.table()?;
    let list = |routes: Vec<&RouteEntry>| {
        routes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let missing: Vec<_> = expected.difference(&table).collect();
    let unexpected: Vec<_> = table.difference(expected).collect();
    ensure!(
        missing.is_empty() && unexpected.is_empty(),
        "{} routes as expected; missing: [{}]; unexpected: [{}]",
        expected.intersection(&table).count(),
        list(missing),
        list(unexpected)
    );
    let rejected = router.rejected()?;
    ensure!(
        rejected.is_empty(),
        "the import filter rejected {rejected:?}"
    );
    Ok(())
}

/// Waits until exactly these peers have an Established session.
///
/// # Errors
/// After `timeout`, with the sessions found.
pub fn await_sessions(
    router: &dyn Router,
    peers: &BTreeSet<IpAddr>,
    timeout: Duration,
) -> Result<()> {
    eventually(format!("sessions of {}", router.name()), timeout, || {
        let sessions: BTreeSet<IpAddr> = router.sessions()?.into_keys().collect();
        ensure!(sessions == *peers, "{sessions:?}");
        Ok(())
    })
}

/// Waits until the kernel forwards `prefix` to exactly these next hops.
///
/// # Errors
/// After `timeout`, with the next hops found.
pub fn await_kernel(
    namespace: &Namespace,
    prefix: &str,
    next_hops: &BTreeSet<IpAddr>,
    timeout: Duration,
) -> Result<()> {
    eventually(format!("kernel route {prefix}"), timeout, || {
        let found = namespace.kernel_next_hops(prefix)?;
        ensure!(found == *next_hops, "next hops {found:?}");
        Ok(())
    })
}

/// Waits until the kernel forwards each prefix to exactly the next hops of its routes.
///
/// # Errors
/// After `timeout`, with the next hops found.
pub fn await_kernel_routes(
    namespace: &Namespace,
    routes: &BTreeSet<RouteEntry>,
    timeout: Duration,
) -> Result<()> {
    for (prefix, next_hops) in next_hops_by_prefix(routes) {
        await_kernel(namespace, &prefix.to_string(), &next_hops, timeout)?;
    }
    Ok(())
}

/// The next hops of each prefix.
#[must_use]
pub fn next_hops_by_prefix(routes: &BTreeSet<RouteEntry>) -> BTreeMap<IpNet, BTreeSet<IpAddr>> {
    let mut prefixes: BTreeMap<IpNet, BTreeSet<IpAddr>> = BTreeMap::new();
    for route in routes {
        let next_hops = prefixes.entry(route.prefix).or_default();
        next_hops.insert(route.next_hop);
    }
    prefixes
}

/// The family of a prefix in the words of FRR and GoBGP.
fn family(prefix: IpNet) -> &'static str {
    if prefix.addr().is_ipv4() {
        "ipv4"
    } else {
        "ipv6"
    }
}

/// The version that a program prints: the last word of the first line.
fn version_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    // BIRD prints it to stderr.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let words = text.lines().next().unwrap_or_default().split_whitespace();
    words
        .last()
        .map(str::to_owned)
        .with_context(|| format!("{command:?} printed nothing"))
}
