//! Time until a router that lost power has the nodes' routes again, when it is back within the hold
//! time. UPDATE_DOCS=1 writes the rows of the table in docs/failures.md, one per router.

use std::fs;
use std::path::Path;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::example::{self, program};
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{Kind, Router};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{MD5_PASSWORD, Node, TOR_IPV4, Topology};

const DOCUMENT: &str = "docs/failures.md";
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// Time for the first sessions.
const UP: Duration = Duration::from_secs(40);
/// Age from which a new connection replaces the session.
const REPLACEABLE: Duration = Duration::from_secs(6);
/// Time until the router's kernel has removed its connections.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(20);

/// Configuration of a node's session.
#[derive(Debug)]
struct Setup {
    listens: bool,
    md5: bool,
    /// Seconds.
    hold_time: u64,
    /// Seconds from the router's return to the node's route.
    limit: u64,
}

/// The setup of each node. Where ferrolb listens, its next KEEPALIVE, which would cause a RST, is
/// due 60 s after the session came up, and the hold timer expires later: only a new connection that
/// replaces the session can be within the limit.
const SETUPS: [Setup; 4] = [
    Setup {
        listens: true,
        md5: false,
        hold_time: 240,
        limit: 25,
    },
    Setup {
        listens: true,
        md5: true,
        hold_time: 240,
        limit: 25,
    },
    Setup {
        listens: false,
        md5: false,
        hold_time: 30,
        limit: 25,
    },
    // A RST without MD5 signature is ignored.
    Setup {
        listens: false,
        md5: true,
        hold_time: 30,
        limit: 45,
    },
];

/// Edits of the example `active`: a long hold time, passwords for two nodes, and graceful restart
/// where it isn't the default.
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
                "    keepalive-interval = 3\n  [peer-groups.graceful-restart.config]\n    \
                 enabled = true\n    \
                 restart-time = 120\n",
            ),
            (
                "-unicast\"\n",
                "-unicast\"\n    [peer-groups.afi-safis.mp-graceful-restart.config]\n      \
                 enabled = true\n",
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
    let with_password = SETUPS.iter().zip(11..).filter(|(setup, _)| setup.md5);
    plain
        .chain(with_password.map(|(_, host)| password(kind, host)))
        .collect()
}

/// A node's neighbor statement without and with the password.
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
                "neighbor {address} {{\n\t\tdescr node{node}\n\t\t\
                 tcp md5sig password \"{MD5_PASSWORD}\"\n\t}}"
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

fn announce(scratch: &Scratch, node: &Node, setup: &Setup) -> Result<Process> {
    let mut announcer = AnnounceExample::new(scratch, node)
        .with("--peer", TOR_IPV4)
        .with("--prefix", prefix(node))
        .with("--hold-time", setup.hold_time)
        .with("--graceful-restart", 120);
    if setup.listens {
        announcer = announcer.with("--listen", format!("{}:179", node.ipv4));
    }
    if setup.md5 {
        let file = scratch.file("password");
        fs::write(&file, MD5_PASSWORD)?;
        announcer = announcer.with("--password-file", file.display());
    }
    announcer.start()
}

fn prefix(node: &Node) -> String {
    format!("203.0.113.{}/32", node.ipv4.octets()[3])
}

/// The nodes whose routes the router has.
fn announced_to<'a>(router: &dyn Router, rack: &'a Topology) -> Result<Vec<&'a Node>> {
    let table = router.table()?;
    let known = |node: &&Node| {
        let prefix = prefix(node);
        table.iter().any(|route| route.prefix.to_string() == prefix)
    };
    Ok(rack.nodes.iter().filter(known).collect())
}

/// Cuts the power of the router: no FIN or RST reaches a node, and its kernel loses all
/// connections.
fn cut_power(router: &mut dyn Router, rack: &Topology) -> Result<()> {
    for node in &rack.nodes {
        node.uplink.cut()?;
    }
    router.kill()?;
    eventually(
        "the router's kernel has no connection",
        KERNEL_TIMEOUT,
        || {
            let sockets = rack.tor.run("ss", &["-Htan", "state", "connected"])?;
            let left: Vec<&str> = sockets
                .lines()
                .filter(|line| line.contains(":179"))
                .collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        },
    )?;
    rack.nodes.iter().try_for_each(|node| node.uplink.restore())
}

/// Seconds from the router's start to each node's route, rounded up.
fn measure(router: &mut dyn Router, rack: &Topology, logs: &[Process]) -> Result<Vec<u64>> {
    router.start()?;
    let back = Instant::now();
    let mut seconds = vec![None; SETUPS.len()];
    loop {
        let known = announced_to(router, rack)?;
        for (node, seconds) in rack.nodes.iter().zip(&mut seconds) {
            let is_known = known.iter().any(|known| known.ipv4 == node.ipv4);
            if is_known && seconds.is_none() {
                *seconds = Some(back.elapsed().as_secs() + 1);
            }
        }
        if let Some(seconds) = seconds.iter().copied().collect() {
            return Ok(seconds);
        }
        for ((setup, seconds), log) in SETUPS.iter().zip(&seconds).zip(logs) {
            let late = seconds.is_none() && back.elapsed() > Duration::from_secs(setup.limit);
            ensure!(
                !late,
                "no route after {} s: {setup:?}: {}",
                setup.limit,
                log.log_text()?
            );
        }
        sleep(PROBE_INTERVAL);
    }
}

fn row(scratch: &Scratch, kind: Kind) -> Result<String> {
    let rack = Topology::new(u8::try_from(SETUPS.len())?)?;
    // Orphaned sockets time out soon, as if the kernel had lost power.
    rack.tor.sysctl(&["net.ipv4.tcp_orphan_retries=1"])?;
    let mut router = kind.edited(scratch, &rack.tor, "active", &edits(kind))?;
    router.start()?;
    let announcers: Result<Vec<Process>> = rack
        .nodes
        .iter()
        .zip(&SETUPS)
        .map(|(node, setup)| announce(scratch, node, setup))
        .collect();
    let announcers = announcers?;
    eventually("all routes", UP, || {
        let known = announced_to(&*router, &rack)?;
        ensure!(known.len() == SETUPS.len(), "{known:?}");
        Ok(())
    })?;
    sleep(REPLACEABLE);
    cut_power(&mut *router, &rack)?;
    let seconds = measure(&mut *router, &rack, &announcers)?;
    for (setup, log) in SETUPS.iter().zip(&announcers) {
        let replaced = log.log_text()?.contains("which replaces this session");
        ensure!(replaced == setup.listens, "replaced: {replaced}, {setup:?}");
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

/// Replaces the router's row in the text of the document.
fn replace_row(text: &str, row: &str) -> Result<String> {
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
fn after_router_power_loss_routes_return_well_before_the_hold_timer_expires() {
    scenario("router-power", |scratch| {
        program(example::BGP)?; // built before any clock runs
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
            text = replace_row(&text, row)?;
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, text).with_context(|| DOCUMENT.to_owned())?;
        }
        Ok(())
    });
}
