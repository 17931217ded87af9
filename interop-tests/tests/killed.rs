//! What each router does with a node's routes when ferrolb is killed there, comes back, or the node is cut off: a row of
//! the table in docs/operations.md for each router and each way to watch. UPDATE_DOCS=1 writes the rows anew.

use std::fs;
use std::path::Path;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce_example::{AnnounceExample, program};
use ferrolb_interop_tests::process::{Process, Scratch, scenario, signal_pid};
use ferrolb_interop_tests::router::{Kind, Router};
use ferrolb_interop_tests::topology::{Node, TOR_IPV4, Topology};

const DOCUMENT: &str = "docs/operations.md";

/// How often the router is asked.
const LOOK: Duration = Duration::from_millis(50);
/// Session, BFD and route are there for so long: FRR's first session with BFD is not yet.
const SETTLED: Duration = Duration::from_millis(1500);
/// Longer than anything here should take.
const SOON: Duration = Duration::from_secs(40);
/// How long a killed process is away if it comes back.
const AWAY: Duration = Duration::from_secs(1);
const LONG_RESTART_TIME: Duration = Duration::from_secs(20);
const HOLD_TIME: Duration = Duration::from_secs(3);
/// Of a process that does not come back; far from the hold time, so that they can be told apart.
const RESTART_TIME: Duration = Duration::from_secs(7);
/// How much earlier or later a router's timers may be than they should, and a busy machine's answers.
const EARLY: Duration = Duration::from_millis(1500);
const LATE: Duration = Duration::from_millis(3500);

/// When the router has no route to the node any more.
#[derive(Debug, Clone, Copy)]
enum Gone {
    /// With TCP's end, or as soon as BFD misses three packets.
    AtOnce,
    Detected,
    HoldTime,
    RestartTime,
    DetectedAndRestartTime,
    HoldAndRestartTime,
}

impl Gone {
    fn words(self) -> &'static str {
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
        // Before the hold time would do it, where nothing is to be waited for.
        let late = if due.is_zero() {
            HOLD_TIME - LOOK
        } else {
            LATE
        };
        let fits = (due.saturating_sub(EARLY)..=due + late).contains(&after);
        ensure!(fits, "not {} but after {after:.1?}", self.words());
        Ok(())
    }
}

/// A router's setting and what it does then.
#[derive(Debug)]
struct Row {
    /// As it stands in the document.
    with: &'static str,
    /// Of `peering-examples/`.
    example: &'static str,
    graceful_restart: bool,
    bfd: bool,
    /// Whether the routes of who ends in order and means to be back are there until then.
    planned: bool,
    /// Whether those of who was killed are.
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

/// One row's run of one kind, on a node of its own.
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

    /// ferrolb's engine, set as the daemon sets it.
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

    /// Whether traffic would go there: by the kernel's routes, where the router gives it any.
    fn held(&self) -> Result<bool> {
        let prefix = self.prefix();
        if self.router.installs_routes() {
            let next_hops = self.rack.tor.kernel_next_hops(&prefix)?;
            return Ok(next_hops.contains(&self.node.ipv4.into()));
        }
        let table = self.router.table()?;
        Ok(table.iter().any(|route| route.prefix.to_string() == prefix))
    }

    /// Starts it and waits until all is up, and stays so for a while. Gives too whether the route was there whenever it
    /// was looked for.
    fn up(&self, restart_time: Duration) -> Result<(Process, bool)> {
        let log = self
            .scratch
            .file(&format!("announce-{}.log", self.node.name));
        let logged = fs::read(&log).map_or(0, |octets| octets.len());
        let announcer = self.start(restart_time)?;
        let kept = self.settle(&announcer, logged)?;
        Ok((announcer, kept))
    }

    /// By what the process logged after the first `from` octets, since all of them append to one file.
    fn settle(&self, announcer: &Process, from: usize) -> Result<bool> {
        let start = Instant::now();
        let mut kept = true;
        let mut up_since = None;
        loop {
            let held = self.held()?;
            kept &= held;
            let log = announcer.log_text()?;
            let log = log.get(from..).context("a log grows")?;
            let last = |up, down| log.rfind(up).is_some() && log.rfind(up) > log.rfind(down);
            let bfd = !self.row.bfd || last("BFD Up", "BFD Down");
            if held && bfd && last("session up", "session down") {
                let since = *up_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= SETTLED {
                    return Ok(kept);
                }
            } else {
                up_since = None;
            }
            ensure!(start.elapsed() < SOON, "not up; route: {held}; {log}");
            sleep(LOOK);
        }
    }

    /// How long the route is still there.
    fn gone_after(&self) -> Result<Duration> {
        let start = Instant::now();
        while self.held()? {
            ensure!(start.elapsed() < SOON, "still there");
            sleep(LOOK);
        }
        Ok(start.elapsed())
    }

    /// Killed, and told to end, and back each time.
    fn comes_back(&self) -> Result<()> {
        let (mut announcer, _) = self.up(LONG_RESTART_TIME)?;
        let kept = self.is_back(&mut announcer, Process::kill)?;
        let planned = self.is_back(&mut announcer, |announcer| {
            signal_pid("INT", announcer.pid())?;
            announcer.wait_exit(SOON).map(drop)
        })?;
        let expected = (self.row.kept, self.row.planned);
        ensure!(
            (kept, planned) == expected,
            "killed {kept}, planned {planned}"
        );
        Ok(())
    }

    /// Ends it and starts it again; whether its route was there whenever it was looked for.
    fn is_back(
        &self,
        announcer: &mut Process,
        end: impl FnOnce(&mut Process) -> Result<()>,
    ) -> Result<bool> {
        end(announcer)?;
        let ended = Instant::now();
        let mut kept = true;
        while ended.elapsed() < AWAY {
            kept &= self.held()?;
            sleep(LOOK);
        }
        let (back, kept_since) = self.up(LONG_RESTART_TIME)?;
        *announcer = back;
        Ok(kept && kept_since)
    }

    fn is_killed(&self) -> Result<()> {
        let (mut announcer, _) = self.up(RESTART_TIME)?;
        announcer.kill()?;
        self.row.killed.check(self.gone_after()?)
    }

    fn is_cut_off(&self) -> Result<()> {
        let (_announcer, _) = self.up(RESTART_TIME)?;
        self.node.uplink.cut()?;
        self.row.cut.check(self.gone_after()?)
    }
}

type Run = fn(&Cell<'_>) -> Result<()>;

/// What is run for each row.
const RUNS: [(&str, Run); 3] = [
    ("back in time", |cell| cell.comes_back()),
    ("killed", |cell| cell.is_killed()),
    ("cut off", |cell| cell.is_cut_off()),
];

/// Rows with the same example, side by side on nodes of their own.
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

/// Runs a router's rows, those with one example after the other, and looks for them in the document.
fn rows(kind: Kind, rows: &[Row]) {
    scenario(&format!("killed-{kind:?}"), |scratch| {
        program()?; // built before any clock runs
        for group in rows.chunk_by(|a, b| a.example == b.example) {
            let rack = Topology::new(u8::try_from(group.len() * RUNS.len())?)?;
            let mut router = kind.router(scratch, &rack.tor, group[0].example);
            router.start()?;
            run(scratch, &*router, &rack, group).with_context(|| router.name())?;
            for row in group {
                in_document(router.name(), &router.version()?, row)?;
            }
        }
        Ok(())
    });
}

/// The document says of a row what ran; with UPDATE_DOCS=1 it does from now on.
fn in_document(router: &str, version: &str, row: &Row) -> Result<()> {
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
        row.killed.words(),
        row.cut.words()
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
        "{DOCUMENT} says {old}, but what ran is {new}; UPDATE_DOCS=1 writes it anew"
    );
    fs::write(&path, text.replace(old, &new)).with_context(|| DOCUMENT.to_owned())
}

#[test]
fn bird() {
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
fn frr() {
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
fn gobgp() {
    let row = Row {
        cut: Gone::HoldAndRestartTime,
        ..GRACEFUL_RESTART
    };
    rows(Kind::Gobgp, &[row]);
}

#[test]
fn openbgpd() {
    rows(Kind::Openbgpd, &[GRACEFUL_RESTART]);
}

/// It helps nobody restart.
#[test]
fn exabgp() {
    let row = Row {
        example: "ebgp",
        planned: false,
        kept: false,
        killed: Gone::AtOnce,
        ..GRACEFUL_RESTART
    };
    rows(Kind::Exabgp, &[row]);
}
