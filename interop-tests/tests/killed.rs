//! When each router removes a node's routes: ferrolb restarts, is killed, or the node is cut off.
//! Checks the table in docs/failures.md, which has a row per router and failure detection.
//! UPDATE_DOCS=1 updates the rows.

use std::fs;
use std::path::Path;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::example::{self, program};
use ferrolb_interop_tests::process::{Process, signal_pid};
use ferrolb_interop_tests::router::{Kind, Router};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{Node, TOR_IPV4, Topology};

const DOCUMENT: &str = "docs/failures.md";

/// Interval between two queries of the router.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// A session, its BFD session and its route are stable after this time. FRR's first session with
/// BFD ends earlier.
const STABLE: Duration = Duration::from_millis(1500);
/// Longer than any step takes.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Downtime of a process that is restarted.
const DOWNTIME: Duration = Duration::from_secs(1);
const LONG_RESTART_TIME: Duration = Duration::from_secs(20);
const HOLD_TIME: Duration = Duration::from_secs(3);
/// Restart time of a process that is not restarted; clearly different from the hold time.
const RESTART_TIME: Duration = Duration::from_secs(7);
/// Tolerance for the router's timers and for the delays of a busy machine.
const EARLY: Duration = Duration::from_millis(1500);
const LATE: Duration = Duration::from_millis(3500);

/// When the router removes the route to the node.
#[derive(Debug, Clone, Copy)]
enum Gone {
    /// When TCP closes, or after three missing BFD packets.
    AtOnce,
    Detected,
    HoldTime,
    RestartTime,
    DetectedAndRestartTime,
    HoldAndRestartTime,
}

impl Gone {
    fn text(self) -> &'static str {
        match self {
            Self::AtOnce => "gone at once",
            Self::Detected => "gone after the detection time",
            Self::HoldTime => "gone after the hold time",
            Self::RestartTime => "gone after the restart time",
            Self::DetectedAndRestartTime => "gone after detection and restart time",
            Self::HoldAndRestartTime => "gone after hold and restart time",
        }
    }

    fn check(self, after: Duration) -> Result<()> {
        let due = match self {
            Self::AtOnce | Self::Detected => Duration::ZERO,
            Self::HoldTime => HOLD_TIME,
            Self::RestartTime | Self::DetectedAndRestartTime => RESTART_TIME,
            Self::HoldAndRestartTime => HOLD_TIME + RESTART_TIME,
        };
        // If no timer is involved, the route must go before the hold timer expires.
        let late = if due.is_zero() {
            HOLD_TIME - PROBE_INTERVAL
        } else {
            LATE
        };
        let fits = (due.saturating_sub(EARLY)..=due + late).contains(&after);
        ensure!(
            fits,
            "expected: {}; found: gone after {after:.1?}",
            self.text()
        );
        Ok(())
    }
}

/// A configuration and the expected behaviour of the router.
#[derive(Debug)]
struct Row {
    /// Text of the column "with" in the document.
    with: &'static str,
    /// Name in `peering-examples/`.
    example: &'static str,
    graceful_restart: bool,
    bfd: bool,
    /// Whether routes stay during a planned restart.
    planned: bool,
    /// Whether routes stay when ferrolb is killed and restarted.
    kept: bool,
    killed: Gone,
    cut: Gone,
}

const GRACEFUL_RESTART: Row = Row {
    with: "graceful restart",
    example: "graceful-restart",
    graceful_restart: true,
    bfd: false,
    planned: true,
    kept: true,
    killed: Gone::RestartTime,
    cut: Gone::HoldTime,
};

const BFD: Row = Row {
    with: "BFD",
    example: "bfd",
    graceful_restart: false,
    bfd: true,
    planned: false,
    kept: false,
    killed: Gone::AtOnce,
    cut: Gone::Detected,
};

/// One failure for one row, on its own node.
struct Cell<'lab> {
    scratch: &'lab Scratch,
    router: &'lab dyn Router,
    rack: &'lab Topology,
    node: &'lab Node,
    row: &'lab Row,
}

impl Cell<'_> {
    fn prefix(&self) -> String {
        format!("203.0.113.{}/32", self.node.ipv4.octets()[3])
    }

    /// Starts ferrolb's engine with the settings that the daemon uses.
    fn start(&self, restart_time: Duration) -> Result<Process> {
        let mut announcer = AnnounceExample::new(self.scratch, self.node)
            .with("--peer", TOR_IPV4)
            .with("--prefix", self.prefix())
            .with("--hold-time", HOLD_TIME.as_secs());
        if self.row.graceful_restart {
            announcer = announcer
                .with("--graceful-restart", restart_time.as_secs())
                .flag("--preserve");
        }
        if self.row.bfd {
            announcer = announcer.flag("--bfd").with("--bfd-interval", 100);
        }
        if self.row.graceful_restart && self.row.bfd {
            announcer = announcer.flag("--notification-restart");
        }
        announcer.start()
    }

    /// Whether the router sends traffic to the node: judged by its kernel if it installs routes.
    fn has_route(&self) -> Result<bool> {
        let prefix = self.prefix();
        if self.router.installs_routes() {
            let next_hops = self.rack.tor.kernel_next_hops(&prefix)?;
            return Ok(next_hops.contains(&self.node.ipv4.into()));
        }
        let table = self.router.table()?;
        Ok(table.iter().any(|route| route.prefix.to_string() == prefix))
    }

    /// Starts the announcer and waits until session, BFD and route are stable. Also returns whether
    /// every query found the route.
    fn up(&self, restart_time: Duration) -> Result<(Process, bool)> {
        let log = self
            .scratch
            .file(&format!("announce-{}.log", self.node.name));
        let logged = fs::read(&log).map_or(0, |octets| octets.len());
        let announcer = self.start(restart_time)?;
        let kept = self.await_stable(&announcer, logged)?;
        Ok((announcer, kept))
    }

    /// Reads only the log after the first `from` octets: all processes of a node append to one
    /// file.
    fn await_stable(&self, announcer: &Process, from: usize) -> Result<bool> {
        let start = Instant::now();
        let mut kept = true;
        let mut up_since = None;
        loop {
            let has_route = self.has_route()?;
            kept &= has_route;
            let log = announcer.log_text()?;
            let log = log.get(from..).context("the log was truncated")?;
            let last = |up, down| log.rfind(up).is_some() && log.rfind(up) > log.rfind(down);
            let bfd = !self.row.bfd || last("BFD Up", "BFD Down");
            if has_route && bfd && last("session up", "session down") {
                let since = *up_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= STABLE {
                    return Ok(kept);
                }
            } else {
                up_since = None;
            }
            ensure!(
                start.elapsed() < TIMEOUT,
                "not stable; route: {has_route}; {log}"
            );
            sleep(PROBE_INTERVAL);
        }
    }

    /// Time until the router has removed the route.
    fn time_until_gone(&self) -> Result<Duration> {
        let start = Instant::now();
        while self.has_route()? {
            ensure!(start.elapsed() < TIMEOUT, "the route is still there");
            sleep(PROBE_INTERVAL);
        }
        Ok(start.elapsed())
    }

    /// The announcer is killed and restarted, then stopped and restarted.
    fn restarts_in_time(&self) -> Result<()> {
        let (mut announcer, _) = self.up(LONG_RESTART_TIME)?;
        let kept = self.restart(&mut announcer, Process::kill)?;
        let planned = self.restart(&mut announcer, |announcer| {
            signal_pid("INT", announcer.pid())?;
            announcer.wait_exit(TIMEOUT).map(drop)
        })?;
        let expected = (self.row.kept, self.row.planned);
        ensure!(
            (kept, planned) == expected,
            "routes stayed: killed {kept}, planned {planned}"
        );
        Ok(())
    }

    /// Ends the announcer and starts it again; returns whether every query found its route.
    fn restart(
        &self,
        announcer: &mut Process,
        end: impl FnOnce(&mut Process) -> Result<()>,
    ) -> Result<bool> {
        end(announcer)?;
        let ended = Instant::now();
        let mut kept = true;
        while ended.elapsed() < DOWNTIME {
            kept &= self.has_route()?;
            sleep(PROBE_INTERVAL);
        }
        let (back, kept_since) = self.up(LONG_RESTART_TIME)?;
        *announcer = back;
        Ok(kept && kept_since)
    }

    fn stays_killed(&self) -> Result<()> {
        let (mut announcer, _) = self.up(RESTART_TIME)?;
        announcer.kill()?;
        self.row.killed.check(self.time_until_gone()?)
    }

    fn is_cut_off(&self) -> Result<()> {
        let (_announcer, _) = self.up(RESTART_TIME)?;
        self.node.uplink.cut()?;
        self.row.cut.check(self.time_until_gone()?)
    }
}

type Run = fn(&Cell<'_>) -> Result<()>;

/// The runs of each row.
const RUNS: [(&str, Run); 3] = [
    ("back in time", |cell| cell.restarts_in_time()),
    ("killed", |cell| cell.stays_killed()),
    ("cut off", |cell| cell.is_cut_off()),
];

/// Runs the rows of one example in parallel, each run on its own node.
fn run(scratch: &Scratch, router: &dyn Router, rack: &Topology, rows: &[Row]) -> Result<()> {
    let runs = rows.iter().flat_map(|row| RUNS.map(|run| (row, run)));
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (node, (row, (what, run))) in rack.nodes.iter().zip(runs) {
            let cell = Cell {
                scratch,
                router,
                rack,
                node,
                row,
            };
            threads.push((row.with, what, scope.spawn(move || run(&cell))));
        }
        let mut failed = Vec::new();
        for (with, what, thread) in threads {
            let outcome = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if let Err(error) = outcome {
                failed.push(format!("{with}, {what}: {error:#}"));
            }
        }
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    })
}

/// Runs the rows of a router, example by example, and compares them with the document.
fn rows(kind: Kind, rows: &[Row]) {
    scenario(&format!("killed-{kind:?}"), |scratch| {
        program(example::BGP)?; // built before any clock runs
        for group in rows.chunk_by(|a, b| a.example == b.example) {
            let rack = Topology::new(u8::try_from(group.len() * RUNS.len())?)?;
            let mut router = kind.router(scratch, &rack.tor, group[0].example);
            router.start()?;
            run(scratch, &*router, &rack, group).with_context(|| router.name())?;
            for row in group {
                check_document(router.name(), &router.version()?, row)?;
            }
        }
        Ok(())
    });
}

/// Compares a row with the document; with UPDATE_DOCS=1 it updates the document.
fn check_document(router: &str, version: &str, row: &Row) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| DOCUMENT.to_owned())?;
    let [planned, kept] = [row.planned, row.kept].map(|kept| {
        if kept {
            "stay"
        } else {
            "gone until it is back"
        }
    });
    let with = format!(" | {} | ", row.with);
    let new = format!(
        "| {router} {version}{with}{planned} | {kept} | {} | {} |",
        row.killed.text(),
        row.cut.text()
    );
    let begins = format!("| {router} ");
    let old = text
        .lines()
        .find(|line| line.starts_with(&begins) && line.contains(&with))
        .with_context(|| format!("{DOCUMENT} has no row for: {new}"))?;
    if old == new {
        return Ok(());
    }
    ensure!(
        std::env::var_os("UPDATE_DOCS").is_some(),
        "{DOCUMENT} has {old}, the result is {new}; update it with UPDATE_DOCS=1"
    );
    fs::write(&path, text.replace(old, &new)).with_context(|| DOCUMENT.to_owned())
}

#[test]
fn bird_removes_routes_of_a_killed_node_as_documented() {
    let both = Row {
        graceful_restart: true,
        ..BFD
    };
    rows(
        Kind::Bird,
        &[
            GRACEFUL_RESTART,
            BFD,
            Row {
                with: "both, `bfd on`",
                killed: Gone::Detected,
                ..both
            },
            Row {
                with: "both, `bfd graceful`",
                example: "graceful-restart-bfd",
                planned: true,
                kept: true,
                killed: Gone::RestartTime,
                cut: Gone::DetectedAndRestartTime,
                ..both
            },
        ],
    );
}

#[test]
fn frr_removes_routes_of_a_killed_node_as_documented() {
    let both = Row {
        with: "both",
        graceful_restart: true,
        planned: true,
        kept: true,
        killed: Gone::RestartTime,
        ..BFD
    };
    rows(Kind::Frr, &[GRACEFUL_RESTART, BFD, both]);
}

#[test]
fn gobgp_removes_routes_of_a_killed_node_as_documented() {
    let row = Row {
        cut: Gone::HoldAndRestartTime,
        ..GRACEFUL_RESTART
    };
    rows(Kind::Gobgp, &[row]);
}

#[test]
fn openbgpd_removes_routes_of_a_killed_node_as_documented() {
    rows(Kind::Openbgpd, &[GRACEFUL_RESTART]);
}

/// ExaBGP is no restarting helper (RFC 4724).
#[test]
fn exabgp_removes_routes_of_a_killed_node_as_documented() {
    let row = Row {
        example: "ebgp",
        planned: false,
        kept: false,
        killed: Gone::AtOnce,
        ..GRACEFUL_RESTART
    };
    rows(Kind::Exabgp, &[row]);
}
