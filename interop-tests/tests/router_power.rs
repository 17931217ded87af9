//! A router loses power and is back within the hold time: how long until it has a node's routes again. A row of the
//! table in docs/operations.md for each router; UPDATE_DOCS=1 writes the rows.

use std::fs;
use std::path::Path;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce_example::{AnnounceExample, program};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::process::{Process, Scratch, scenario};
use ferrolb_interop_tests::router::{Kind, Router};
use ferrolb_interop_tests::topology::{MD5_PASSWORD, Node, TOR_IPV4, Topology};

const DOCUMENT: &str = "docs/operations.md";
const LOOK: Duration = Duration::from_millis(100);
/// How long a first session may take.
const UP: Duration = Duration::from_secs(40);
/// A session is replaced by a new connection once it is that old.
const SETTLED: Duration = Duration::from_secs(6);
/// Until the kernel of the router has forgotten its connections.
const FORGOTTEN: Duration = Duration::from_secs(20);

/// How a node and the router come to a session.
#[derive(Debug)]
struct Way {
    listens: bool,
    md5: bool,
    /// Seconds.
    hold_time: u64,
    /// Seconds from the router's return to the node's route.
    limit: u64,
}

/// Node by node. Where ferrolb listens, the first KEEPALIVE that could draw a RST is due 60 s after the session came up,
/// and the hold time ends later still: only a connection that replaces the session is within the limit.
const WAYS: [Way; 4] = [
    Way {
        listens: true,
        md5: false,
        hold_time: 240,
        limit: 25,
    },
    Way {
        listens: true,
        md5: true,
        hold_time: 240,
        limit: 25,
    },
    Way {
        listens: false,
        md5: false,
        hold_time: 30,
        limit: 25,
    },
    // The router need not sign its RST.
    Way {
        listens: false,
        md5: true,
        hold_time: 30,
        limit: 45,
    },
];

/// The example `active` with a long hold time, passwords for two nodes, and graceful restart where it isn't the default.
fn edits(kind: Kind) -> Vec<(String, String)> {
    let hold_time = match kind {
        Kind::Frr => ("timers 3 9", "timers 3 240"),
        Kind::Bird => ("hold time 9;", "hold time 240;"),
        Kind::Gobgp => ("hold-time = 9", "hold-time = 240"),
        Kind::Openbgpd => ("holdtime 9", "holdtime 240"),
        Kind::Exabgp | Kind::Ferrolb => ("hold-time 9;", "hold-time 240;"),
    };
    let graceful_restart: &[(&str, &str)] = match kind {
        Kind::Gobgp => &[
            (
                "    keepalive-interval = 3\n",
                "    keepalive-interval = 3\n  [peer-groups.graceful-restart.config]\n    enabled = true\n    \
                 restart-time = 120\n",
            ),
            (
                "-unicast\"\n",
                "-unicast\"\n    [peer-groups.afi-safis.mp-graceful-restart.config]\n      enabled = true\n",
            ),
        ],
        Kind::Exabgp => &[(
            "route-refresh enable;",
            "route-refresh enable; graceful-restart 120;",
        )],
        Kind::Frr | Kind::Bird | Kind::Openbgpd | Kind::Ferrolb => &[],
    };
    let plain = graceful_restart.iter().copied().chain([hold_time]);
    let plain = plain.map(|(old, new)| (old.to_owned(), new.to_owned()));
    let with_password = WAYS.iter().zip(11..).filter(|(way, _)| way.md5);
    plain
        .chain(with_password.map(|(_, host)| password(kind, host)))
        .collect()
}

/// The node's neighbor with and without the password.
fn password(kind: Kind, host: u8) -> (String, String) {
    let address = format!("10.99.0.{host}");
    match kind {
        Kind::Frr => {
            let old = format!(" neighbor {address} peer-group NODES\n");
            let new = format!("{old} neighbor {address} password {MD5_PASSWORD}\n");
            (old, new)
        }
        Kind::Bird => {
            let old = format!("neighbor {address} as 64700;");
            let new = format!("{old} password \"{MD5_PASSWORD}\";");
            (old, new)
        }
        Kind::Gobgp => {
            let old = format!("neighbor-address = \"{address}\"\n");
            let new = format!("{old}    auth-password = \"{MD5_PASSWORD}\"\n");
            (old, new)
        }
        Kind::Openbgpd => {
            let node = host - 10;
            let old = format!("neighbor {address} {{ descr node{node} }}");
            let new = format!(
                "neighbor {address} {{\n\t\tdescr node{node}\n\t\ttcp md5sig password \"{MD5_PASSWORD}\"\n\t}}"
            );
            (old, new)
        }
        Kind::Exabgp | Kind::Ferrolb => {
            let old = format!("neighbor {address} {{\n");
            let new = format!("{old}  md5-password '{MD5_PASSWORD}';\n");
            (old, new)
        }
    }
}

/// `peering-examples/` has it under this path.
fn example(kind: Kind) -> &'static str {
    match kind {
        Kind::Frr => "frr/active.conf",
        Kind::Bird => "bird/active.conf",
        Kind::Gobgp => "gobgp/active.toml",
        Kind::Openbgpd => "openbgpd/active.conf",
        Kind::Exabgp | Kind::Ferrolb => "exabgp/active.conf",
    }
}

fn announce(scratch: &Scratch, node: &Node, way: &Way) -> Result<Process> {
    let mut announcer = AnnounceExample::new(scratch, node)
        .with("--peer", TOR_IPV4)
        .with("--prefix", prefix(node))
        .with("--hold-time", way.hold_time)
        .with("--graceful-restart", 120);
    if way.listens {
        announcer = announcer.with("--listen", format!("{}:179", node.ipv4));
    }
    if way.md5 {
        let file = scratch.file("password");
        fs::write(&file, MD5_PASSWORD)?;
        announcer = announcer.with("--password-file", file.display());
    }
    announcer.start()
}

fn prefix(node: &Node) -> String {
    format!("203.0.113.{}/32", node.ipv4.octets()[3])
}

/// The nodes whose route the router has.
fn known<'a>(router: &dyn Router, rack: &'a Topology) -> Result<Vec<&'a Node>> {
    let table = router.table()?;
    let known = |node: &&Node| {
        let prefix = prefix(node);
        table.iter().any(|route| route.prefix.to_string() == prefix)
    };
    Ok(rack.nodes.iter().filter(known).collect())
}

/// The router's host goes: no FIN and no RST of it reaches a node, and no connection survives in its kernel.
fn cut_power(router: &mut dyn Router, rack: &Topology) -> Result<()> {
    for node in &rack.nodes {
        node.uplink.cut()?;
    }
    router.kill()?;
    eventually("the router's kernel forgets", FORGOTTEN, || {
        let sockets = rack.tor.run("ss", &["-Htan", "state", "connected"])?;
        let left: Vec<&str> = sockets
            .lines()
            .filter(|line| line.contains(":179"))
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    rack.nodes.iter().try_for_each(|node| node.uplink.mend())
}

/// Seconds from the router's return to each node's route, rounded up.
fn measure(router: &mut dyn Router, rack: &Topology, logs: &[Process]) -> Result<Vec<u64>> {
    router.start()?;
    let back = Instant::now();
    let mut seconds = vec![None; WAYS.len()];
    loop {
        let known = known(router, rack)?;
        for (node, seconds) in rack.nodes.iter().zip(&mut seconds) {
            let is_known = known.iter().any(|known| known.ipv4 == node.ipv4);
            if is_known && seconds.is_none() {
                *seconds = Some(back.elapsed().as_secs() + 1);
            }
        }
        if let Some(seconds) = seconds.iter().copied().collect() {
            return Ok(seconds);
        }
        for ((way, seconds), log) in WAYS.iter().zip(&seconds).zip(logs) {
            let late = seconds.is_none() && back.elapsed() > Duration::from_secs(way.limit);
            ensure!(
                !late,
                "no route after {} s: {way:?}: {}",
                way.limit,
                log.log_text()?
            );
        }
        sleep(LOOK);
    }
}

fn row(scratch: &Scratch, kind: Kind) -> Result<String> {
    let rack = Topology::new(u8::try_from(WAYS.len())?)?;
    // Sockets without a process give up soon; this kernel is to forget as one that lost power does.
    rack.tor.sysctl(&["net.ipv4.tcp_orphan_retries=1"])?;
    let mut router = kind.edited(scratch, &rack.tor, example(kind), &edits(kind))?;
    router.start()?;
    let announcers: Result<Vec<Process>> = rack
        .nodes
        .iter()
        .zip(&WAYS)
        .map(|(node, way)| announce(scratch, node, way))
        .collect();
    let announcers = announcers?;
    eventually("all routes", UP, || {
        let known = known(&*router, &rack)?;
        ensure!(known.len() == WAYS.len(), "{known:?}");
        Ok(())
    })?;
    sleep(SETTLED);
    cut_power(&mut *router, &rack)?;
    let seconds = measure(&mut *router, &rack, &announcers)?;
    for (way, log) in WAYS.iter().zip(&announcers) {
        let replaced = log.log_text()?.contains("which replaces this session");
        ensure!(replaced == way.listens, "replaced: {replaced}, {way:?}");
    }
    let cells: Vec<String> = seconds
        .iter()
        .map(|seconds| format!(" {seconds} s |"))
        .collect();
    Ok(format!(
        "| {} {} |{}",
        router.name(),
        router.version()?,
        cells.concat()
    ))
}

/// The document has a row for the router; with UPDATE_DOCS=1 it is this one from now on.
fn in_document(text: &str, row: &str) -> Result<String> {
    let name = row.split_whitespace().nth(1).context("a name")?;
    let heading = "## When a router loses power";
    let (before, rest) = text.split_once(heading).context(heading)?;
    let (section, after) = rest.split_once("\n## ").context("the next heading")?;
    let begins = format!("| {name}");
    let old = section.lines().find(|line| line.starts_with(&begins));
    let old = old.with_context(|| format!("{DOCUMENT} has no row for: {row}"))?;
    Ok([before, heading, &section.replace(old, row), "\n## ", after].concat())
}

#[test]
fn a_router_that_lost_power_has_the_routes_again_well_before_the_hold_time() {
    scenario("router-power", |scratch| {
        program()?; // built before any clock runs
        let kinds = [
            Kind::Bird,
            Kind::Exabgp,
            Kind::Frr,
            Kind::Gobgp,
            Kind::Openbgpd,
        ];
        let rows: Vec<Result<String>> = thread::scope(|scope| {
            let threads = kinds.map(|kind| {
                scope.spawn(move || {
                    let scratch = scratch.within(&format!("{kind:?}"))?;
                    row(&scratch, kind).with_context(|| format!("{kind:?}"))
                })
            });
            let join = |thread: thread::ScopedJoinHandle<'_, Result<String>>| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.map(join).into()
        });
        let failed: Vec<String> = rows
            .iter()
            .filter_map(|row| row.as_ref().err())
            .map(|error| format!("{error:#}"))
            .collect();
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(DOCUMENT);
        let mut text = fs::read_to_string(&path).with_context(|| DOCUMENT.to_owned())?;
        for row in rows.iter().flatten() {
            text = in_document(&text, row)?;
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, text).with_context(|| DOCUMENT.to_owned())?;
        }
        Ok(())
    });
}
