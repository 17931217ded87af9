//! Real routers as top-of-rack, each started from a file of `peering-examples/` as it stands and
//! asked through its own command line.

mod adj_rib_in;
mod announcer_as_router;
mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Display};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ferrolb_bgp::wire::Community;
use ipnet::IpNet;
use serde_json::Value;

pub use announcer_as_router::AnnouncerAsRouter;
pub use bird::Bird;
pub use exabgp::Exabgp;
pub use frr::Frr;
pub use gobgp::Gobgp;
pub use openbgpd::Openbgpd;

use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::Scratch;

/// A router from `start` answers within this. FRR takes about 1 s on an idle machine.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A route as a router learnt it from a node: what `ferrolb plan -o json` predicts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteEntry {
    /// What is announced.
    pub prefix: IpNet,
    /// Where to; of an IPv6 next hop the global address.
    pub next_hop: IpAddr,
    /// Communities as `64700:120`, sorted as strings.
    pub communities: Vec<String>,
    /// Large communities as `64700:1:2`, sorted as strings.
    pub large_communities: Vec<String>,
    /// Only what an iBGP peer sent; none for eBGP.
    pub local_pref: Option<u32>,
}

impl RouteEntry {
    /// A route without communities and local preference.
    ///
    /// # Errors
    /// When one of the two is malformed.
    pub fn new(prefix: &str, next_hop: &str) -> Result<Self> {
        Ok(Self {
            prefix: prefix.parse().context(prefix.to_owned())?,
            next_hop: next_hop.parse().context(next_hop.to_owned())?,
            communities: Vec::new(),
            large_communities: Vec::new(),
            local_pref: None,
        })
    }

    /// The same with these communities.
    #[must_use]
    pub fn communities(mut self, communities: &[&str]) -> Self {
        self.communities = sorted(communities.iter().map(ToString::to_string));
        self
    }

    /// The same with these large communities.
    #[must_use]
    pub fn large_communities(mut self, communities: &[&str]) -> Self {
        self.large_communities = sorted(communities.iter().map(ToString::to_string));
        self
    }

    /// The same with this local preference.
    #[must_use]
    pub fn local_pref(mut self, local_pref: u32) -> Self {
        self.local_pref = Some(local_pref);
        self
    }

    /// The routes that `ferrolb plan -o json` says the nodes announce to `peer`.
    ///
    /// # Errors
    /// When `plan` isn't of the form that ferrolb documents.
    pub fn from_plan(plan: &Value, peer: &str) -> Result<BTreeSet<Self>> {
        let routes = plan["routes"].as_array().context("plan without routes")?;
        routes
            .iter()
            .filter(|route| route["peer"] == peer)
            .map(|route| {
                let local_pref = match &route["localPref"] {
                    Value::Null => None,
                    number => Some(u32_of(number)?),
                };
                Ok(Self {
                    communities: communities(&route["communities"])?,
                    large_communities: strings(&route["largeCommunities"]),
                    local_pref,
                    ..Self::new(text(&route["prefix"])?, text(&route["nextHop"])?)?
                })
            })
            .collect::<Result<_>>()
            .with_context(|| format!("plan: {plan}"))
    }
}

impl Display for RouteEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.prefix, self.next_hop)?;
        for community in self.communities.iter().chain(&self.large_communities) {
            write!(f, " {community}")?;
        }
        match self.local_pref {
            Some(local_pref) => write!(f, " local-pref {local_pref}"),
            None => Ok(()),
        }
    }
}

/// A top-of-rack router in a namespace of its own. Dropping it kills it.
pub trait Router: Debug + Sync {
    /// Its product's name, for messages.
    fn name(&self) -> &'static str;

    /// Whether it puts what it learns into the kernel, so that [`await_kernel`] is of use.
    fn installs_routes(&self) -> bool;

    /// Starts it and waits until it listens with its configuration.
    ///
    /// # Errors
    /// When it ends or does not come up.
    fn start(&mut self) -> Result<()>;

    /// Ends it as an operator does, by SIGTERM.
    ///
    /// # Errors
    /// When it isn't running or does not end.
    fn stop(&mut self) -> Result<()>;

    /// Ends it as a crash does, by SIGKILL: its routes stay in the kernel.
    ///
    /// # Errors
    /// When it isn't running.
    fn kill(&mut self) -> Result<()>;

    /// The peers with an Established session, each with a mark that is another one after the
    /// session was lost and came back.
    ///
    /// # Errors
    /// When the router does not answer.
    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>>;

    /// What it learnt and accepted, of both families.
    ///
    /// # Errors
    /// When the router does not answer, or prints something unknown.
    fn table(&self) -> Result<BTreeSet<RouteEntry>>;

    /// The same without attributes, where there are many and no attributes matter.
    ///
    /// # Errors
    /// As [`Router::table`].
    fn plain_table(&self) -> Result<BTreeSet<RouteEntry>> {
        self.table()
    }

    /// The prefixes that its import filter refused. A node that announces only what it should
    /// leaves this empty.
    ///
    /// # Errors
    /// When the router does not answer.
    fn refused(&self) -> Result<BTreeSet<IpNet>>;

    /// Its version, as its package or program has it.
    ///
    /// # Errors
    /// When it does not say.
    fn version(&self) -> Result<String>;

    /// What it knows of one prefix, in its own words.
    ///
    /// # Errors
    /// When the router does not answer.
    fn describe(&self, prefix: IpNet) -> Result<String>;

    /// What it knows of a peer, in its own words.
    ///
    /// # Errors
    /// When the router does not answer or knows no such peer.
    fn describe_peer(&self, peer: IpAddr) -> Result<String>;

    /// How many UPDATEs it has received from a peer, End-of-RIB included, in this session or since ever.
    ///
    /// # Errors
    /// When it does not answer or knows no such peer.
    fn updates_from(&self, peer: IpAddr) -> Result<u64>;

    /// Everything it has written to its log.
    ///
    /// # Errors
    /// When the log can't be read.
    fn log(&self) -> Result<String>;

    /// Asks a peer for all its routes again (RFC 2918), as an operator does.
    ///
    /// # Errors
    /// When it does not answer, or has no such command.
    fn refresh(&self, peer: IpAddr) -> Result<()>;

    /// Changes the TCP MD5 password of all peers from [`MD5_PASSWORD`](crate::topology::MD5_PASSWORD) to another one, as
    /// an operator does.
    ///
    /// # Errors
    /// When it does not take it.
    fn change_password(&self, password: &str) -> Result<()>;

    /// Ends a peer's session by Cease/Administrative Shutdown with this text (RFC 9003) where the router can
    /// send one; the peer stays down.
    ///
    /// # Errors
    /// When it does not answer, or has no such command.
    fn shut_down(&self, peer: IpAddr, text: &str) -> Result<()>;
}

/// Which router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// FRRouting's bgpd and zebra.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP; has no kernel routes.
    Gobgp,
    /// OpenBGPD; has no kernel routes on Linux.
    Openbgpd,
    /// ExaBGP; tells its routes to a program, and filters none.
    Exabgp,
    /// Our own speaker as the other side; prints its routes.
    Ferrolb,
}

impl Kind {
    /// Those that filter, and that the daemon's tests run against.
    pub const FILTERING: [Self; 3] = [Self::Frr, Self::Bird, Self::Gobgp];

    /// The router with the configuration `peering-examples/ROUTER/EXAMPLE.*`, not yet started.
    #[must_use]
    pub fn router<'lab>(
        self,
        scratch: &'lab Scratch,
        namespace: &'lab Namespace,
        example: &str,
    ) -> Box<dyn Router + 'lab> {
        match self {
            Self::Frr => Box::new(Frr::new(scratch, namespace, example)),
            Self::Bird => Box::new(Bird::new(scratch, namespace, example)),
            Self::Gobgp => Box::new(Gobgp::new(scratch, namespace, example)),
            Self::Openbgpd => Box::new(Openbgpd::new(scratch, namespace, example)),
            Self::Exabgp => Box::new(Exabgp::new(scratch, namespace, example)),
            Self::Ferrolb => Box::new(AnnouncerAsRouter::new(scratch, namespace, example)),
        }
    }
}

impl Kind {
    /// The router with a configuration of `peering-examples/` in which each pair's first text is replaced by its
    /// second, not yet started.
    ///
    /// # Errors
    /// When there is no such example, it lacks one of the texts, or the copy can't be written.
    pub fn edited<'lab>(
        self,
        scratch: &'lab Scratch,
        namespace: &'lab Namespace,
        path: &str,
        edits: &[(String, String)],
    ) -> Result<Box<dyn Router + 'lab>> {
        let original = example(path);
        let mut text = fs::read_to_string(&original).with_context(|| path.to_owned())?;
        for (old, new) in edits {
            ensure!(text.contains(old), "{path} has no {old:?}");
            text = text.replace(old, new);
        }
        let folder = scratch.within("edited")?;
        let copy = folder.file(&path.replace('/', "-"));
        fs::write(&copy, text)?;
        Ok(match self {
            Self::Frr => Box::new(Frr::with_configuration(scratch, namespace, copy)),
            Self::Bird => Box::new(Bird::with_configuration(scratch, namespace, copy)),
            Self::Gobgp => Box::new(Gobgp::with_configuration(scratch, namespace, copy)),
            Self::Openbgpd => Box::new(Openbgpd::with_configuration(scratch, namespace, copy)),
            Self::Exabgp => {
                // It looks for its program beside the configuration.
                let program = "events.sh";
                fs::copy(original.with_file_name(program), folder.file(program))?;
                Box::new(Exabgp::with_configuration(scratch, namespace, copy))
            }
            Self::Ferrolb => bail!("its configuration is its command line"),
        })
    }
}

/// Runs one of a router's programs where the router is, and gives what it prints.
pub type Ask<'a> = &'a dyn Fn(&[&str]) -> Result<String>;

impl Kind {
    /// What such a router learnt and accepted, of both families, where it isn't one of the lab's
    /// own: in a container, say.
    ///
    /// # Errors
    /// When the router does not answer, or prints something unknown.
    pub fn table_by(self, ask: Ask<'_>) -> Result<BTreeSet<RouteEntry>> {
        match self {
            Self::Frr => frr::table_by(ask),
            Self::Bird => bird::table_by(ask),
            Self::Gobgp => gobgp::table_by(ask),
            Self::Openbgpd => openbgpd::table_by(ask),
            Self::Exabgp | Self::Ferrolb => bail!("{self:?} keeps no table to be asked for"),
        }
    }
}

/// Waits until the router's table is exactly `expected` and its filter refused nothing.
///
/// # Errors
/// After `timeout`, with what is missing and what is too much.
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
/// With what is missing, what is too much, what its filter refused.
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
    let refused = router.refused()?;
    ensure!(refused.is_empty(), "its import filter refused {refused:?}");
    Ok(())
}

/// Waits until exactly these peers have an Established session.
///
/// # Errors
/// After `timeout`, with the sessions there are.
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
/// After `timeout`, with the next hops there are.
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

/// A configuration of `peering-examples/`.
fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../peering-examples")
        .join(path)
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.collect();
    texts.sort();
    texts
}

/// The strings of a JSON array, sorted; nothing where there is no array.
fn strings(array: &Value) -> Vec<String> {
    let items = array.as_array().map_or(&[][..], Vec::as_slice);
    sorted(items.iter().filter_map(Value::as_str).map(str::to_owned))
}

/// What a program says of its version: the last word of the first line.
fn version_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    // BIRD tells it to stderr.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let words = text.lines().next().unwrap_or_default().split_whitespace();
    words
        .last()
        .map(str::to_owned)
        .with_context(|| format!("{command:?} said nothing"))
}

/// ferrolb prints well-known communities by name; here they are numbers as all others.
fn communities(array: &Value) -> Result<Vec<String>> {
    let numbers = strings(array).into_iter().map(|text| {
        let Community(number) = text.parse().with_context(|| text.clone())?;
        Ok(format!("{}:{}", number >> 16, number & 0xffff))
    });
    let numbers: Result<Vec<String>> = numbers.collect();
    Ok(sorted(numbers?.into_iter()))
}

fn text(value: &Value) -> Result<&str> {
    value
        .as_str()
        .with_context(|| format!("not a string: {value}"))
}

fn u32_of(value: &Value) -> Result<u32> {
    value
        .as_u64()
        .and_then(|number| number.try_into().ok())
        .with_context(|| format!("not a 32-bit number: {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_gives_the_routes_of_one_peer() {
        let plan = serde_json::json!({"routes": [
            {"node": "node1", "peer": "tor", "prefix": "203.0.113.10/32", "nextHop": "10.99.0.11",
             "communities": ["64700:20", "64700:120", "NO_EXPORT"], "largeCommunities": ["64700:1:2"], "localPref": 150},
            {"node": "node1", "peer": "other", "prefix": "203.0.113.11/32", "nextHop": "10.99.0.11"},
            {"node": "node2", "peer": "tor", "prefix": "2001:db8::1/128", "nextHop": "fd99::12",
             "communities": [], "largeCommunities": [], "localPref": null},
        ]});
        let expected = BTreeSet::from([
            RouteEntry::new("203.0.113.10/32", "10.99.0.11")
                .unwrap()
                .communities(&["64700:120", "64700:20", "65535:65281"])
                .large_communities(&["64700:1:2"])
                .local_pref(150),
            RouteEntry::new("2001:db8::1/128", "fd99::12").unwrap(),
        ]);
        assert_eq!(RouteEntry::from_plan(&plan, "tor").unwrap(), expected);

        let broken = serde_json::json!({"routes": [{"peer": "tor", "prefix": 7}]});
        let error = RouteEntry::from_plan(&broken, "tor").unwrap_err();
        assert!(format!("{error:#}").contains("not a string: 7"));
    }
}
