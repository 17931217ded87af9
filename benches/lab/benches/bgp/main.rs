//! Compares ferrolb's engine with BIRD, FRR, GoBGP, ExaBGP and OpenBGPD on one machine: a daemon in
//! one network namespace, a counting sink in another. Prints one line of JSON per measurement;
//! docs/benchmarks.md describes each.
//!
//! `cargo xtask bench bgp` runs all measurements, `cargo xtask bench bgp -- latency` those with
//! `latency` in their name, `… -- --quick` smaller loads to check that the benchmark works.

mod bfd;
mod daemons;
mod load;
mod mrt;
mod namespace_usage;
mod responder;
mod sink;
mod speaker_process;
mod trial;
mod update_counter;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_bgp::wire::Family;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_lab_bench::statistics::{median, milliseconds, percentile, rounded};
use ferrolb_lab_bench::{measurement, proc_stats};
use serde_json::{Value, json};

use self::daemons::{BURST, Kind};
use self::load::{BfdLoad, Load};
use self::trial::{Lab, Trial};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("--speaker", rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        if let Err(error) = speaker_process::main(rest) {
            eprintln!("speaker: {error:#}");
            std::process::exit(1);
        }
        return;
    }
    scenario("bench-bgp", |scratch| {
        let lab = Lab::new(scratch)?;
        Bench::new(&lab, &arguments).run()
    });
}

/// Name and function of a measurement of one daemon.
type Row<'a> = (&'static str, fn(&Bench<'a>, Kind) -> Result<()>);

struct Bench<'a> {
    lab: &'a Lab<'a>,
    quick: bool,
    /// Run only measurements and daemons with one of these in their name.
    filters: Vec<String>,
}

impl<'a> Bench<'a> {
    fn new(lab: &'a Lab<'a>, arguments: &[String]) -> Self {
        let filters = arguments
            .iter()
            .filter(|argument| !argument.starts_with("--"));
        Self {
            lab,
            quick: arguments.iter().any(|argument| argument == "--quick"),
            filters: filters.cloned().collect(),
        }
    }

    fn run(&self) -> Result<()> {
        let rows: [Row<'a>; 9] = [
            ("speakers_100_peers", Self::hundred_peers),
            ("speakers_1_peer_ipv4", |bench, kind| {
                bench.one_peer(kind, Family::IPV4_UNICAST)
            }),
            ("speakers_1_peer_ipv6", |bench, kind| {
                bench.one_peer(kind, Family::IPV6_UNICAST)
            }),
            ("speakers_latency", Self::latency),
            ("speakers_burst", Self::burst),
            ("speakers_steady", Self::steady),
            ("speakers_idle_memory", Self::idle_memory),
            ("speakers_reconnect", Self::reconnect),
            ("speakers_bfd", Self::bfd),
        ];
        let (busy, stolen) = proc_stats::busy_percent(Duration::from_secs(3))?;
        measurement::print(
            "speakers_before",
            &[
                ("busy_percent", json!(busy)),
                ("stolen_percent", json!(stolen)),
            ],
        );
        for kind in Kind::ALL {
            let columns = [
                ("daemon", json!(kind.name())),
                ("version", json!(kind.version()?)),
            ];
            measurement::print("speakers", &columns);
        }
        let start = Instant::now();
        let mut failed = Vec::new();
        for (name, measure) in rows {
            for kind in Kind::ALL {
                if !self.wanted(name, kind) {
                    continue;
                }
                let begun = Instant::now();
                let outcome = measure(self, kind);
                let (took, all) = (begun.elapsed().as_secs(), start.elapsed().as_secs());
                let all = format!("{}:{:02}", all / 60, all % 60);
                eprintln!("[{all}] {name}, {}: {took} s", kind.name());
                // The others run on: a full run takes hours.
                if let Err(error) = outcome {
                    eprintln!("{name}, {}: {error:#}", kind.name());
                    failed.push((name, kind));
                }
            }
        }
        let ours = failed.iter().find(|(_, kind)| *kind == Kind::Ferrolb);
        ensure!(ours.is_none(), "{ours:?}");
        Ok(())
    }

    /// Filters that are the name of a daemon select daemons, all others select measurements.
    fn wanted(&self, row: &str, kind: Kind) -> bool {
        let is_daemon = |word: &&String| Kind::ALL.iter().any(|kind| kind.name() == word.as_str());
        let (daemons, rows): (Vec<_>, Vec<_>) = self.filters.iter().partition(is_daemon);
        (daemons.is_empty() || daemons.iter().any(|word| *word == kind.name()))
            && (rows.is_empty() || rows.iter().any(|word| row.contains(word.as_str())))
    }

    fn runs(&self) -> usize {
        if self.quick { 2 } else { 5 }
    }

    /// The number, or a hundredth of it in a quick run.
    fn scaled(&self, number: u32) -> u32 {
        if self.quick { number / 100 } else { number }
    }

    fn load(&self, peers: u32, routes: u32, family: Family) -> Load {
        let peers = if self.quick { peers.min(10) } else { peers };
        let routes = self.scaled(routes);
        Load {
            peers,
            routes,
            family,
            bfd: None,
        }
    }

    fn hundred_peers(&self, kind: Kind) -> Result<()> {
        let load = self.load(100, 10_000, Family::IPV4_UNICAST);
        if !kind.can_load(load) {
            return Ok(());
        }
        let mut trial = Trial::start(self.lab, kind, load)?;
        for immediate in [false, true] {
            self.lab.set_quickack(immediate)?;
            let how = if immediate { "at once" } else { "as usual" };
            let outcome = self.tables(&mut trial, "speakers_100_peers", &[("acks", json!(how))]);
            self.lab.set_quickack(false)?;
            outcome?;
        }
        Ok(())
    }

    fn one_peer(&self, kind: Kind, family: Family) -> Result<()> {
        let load = self.load(1, 1_000_000, family);
        if !kind.can_load(load) {
            return Ok(());
        }
        let empty = Load { routes: 0, ..load };
        let trial = Trial::start(self.lab, kind, empty)?;
        let idle = trial.resident()?;
        drop(trial);
        let mut trial = Trial::start(self.lab, kind, load)?;
        let loaded = trial.resident()?;
        let name = if load.is_ipv4() {
            "speakers_1_peer_ipv4"
        } else {
            "speakers_1_peer_ipv6"
        };
        self.tables(
            &mut trial,
            name,
            &[("idle_kib", json!(idle)), ("loaded_kib", json!(loaded))],
        )?;
        measurement::print(
            "speakers_memory",
            &[
                ("daemon", json!(kind.name())),
                ("routes", json!(load.routes)),
                ("family", json!(load.family.to_string())),
                (
                    "over_idle_when_loaded_kib",
                    json!(loaded.saturating_sub(idle)),
                ),
                (
                    "over_idle_after_sending_kib",
                    json!(trial.resident()?.saturating_sub(idle)),
                ),
            ],
        );
        Ok(())
    }

    /// Has the daemon send the whole table several times and prints the medians.
    fn tables(&self, trial: &mut Trial<'_>, name: &str, more: &[(&str, Value)]) -> Result<()> {
        let mut tables = Vec::new();
        for _ in 0..self.runs() {
            tables.push(trial.table()?);
        }
        let median = |of: fn(&trial::Table) -> f64| median(tables.iter().map(of));
        let times: Vec<f64> = tables.iter().map(|table| table.all).collect();
        let load = trial.load();
        let first = tables.first().context("no run")?;
        let mut columns = vec![("daemon", json!(trial.kind().name()))];
        columns.extend_from_slice(more);
        columns.extend([
            ("peers", json!(load.peers)),
            ("routes", json!(load.routes)),
            ("runs", json!(tables.len())),
            ("median_peer_ms", json!(median(|table| table.peer))),
            ("all_ms", json!(median(|table| table.all))),
            (
                "all_min_ms",
                json!(times.iter().copied().fold(f64::MAX, f64::min)),
            ),
            (
                "all_max_ms",
                json!(times.iter().copied().fold(0.0, f64::max)),
            ),
            ("cpu_ms", json!(median(|table| table.cpu))),
            (
                "updates_per_peer",
                json!(first.updates / load.peers as usize),
            ),
            ("fewest_updates", json!(load.fewest_updates())),
            ("octets_per_peer", json!(first.octets / load.peers as usize)),
            ("sink_busy_percent", json!(median(|table| table.sink_busy))),
        ]);
        measurement::print(name, &columns);
        Ok(())
    }

    fn latency(&self, kind: Kind) -> Result<()> {
        let load = Load {
            routes: 10_000,
            ..self.load(1, 10_000, Family::IPV4_UNICAST)
        };
        let mut trial = Trial::start(self.lab, kind, load)?;
        trial.table()?;
        trial.establish()?;
        // The first change opens connections and fills caches.
        trial.change(0..1, true)?;
        trial.change(0..1, false)?;
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        for index in 0..self.scaled(500).max(20) {
            for (announce, times) in [(true, &mut announced), (false, &mut withdrawn)] {
                // Varied, so as not to be in phase with any timer of the daemon.
                sleep(Duration::from_millis(15 + u64::from(index) * 7 % 20));
                times.push(milliseconds(trial.change(0..1, announce)?));
            }
        }
        for (announce, mut times) in [(true, announced), (false, withdrawn)] {
            times.sort_by(f64::total_cmp);
            measurement::print(
                "speakers_latency",
                &[
                    ("daemon", json!(kind.name())),
                    (
                        "change",
                        json!(if announce { "announce" } else { "withdraw" }),
                    ),
                    ("routes", json!(load.routes)),
                    ("changes", json!(times.len())),
                    ("p50_ms", json!(percentile(&times, 50))),
                    ("p99_ms", json!(percentile(&times, 99))),
                    ("max_ms", json!(percentile(&times, 100))),
                ],
            );
        }
        Ok(())
    }

    fn burst(&self, kind: Kind) -> Result<()> {
        let load = Load {
            routes: 10_000,
            ..self.load(1, 10_000, Family::IPV4_UNICAST)
        };
        let mut trial = Trial::start(self.lab, kind, load)?;
        trial.table()?;
        trial.establish()?;
        let (mut times, mut cpu) = (Vec::new(), Vec::new());
        for run in 0..self.runs() {
            // GoBGP's client withdraws one prefix per call, which takes minutes: use new prefixes
            // in each run instead.
            let again = !matches!(kind, Kind::Gobgp | Kind::Gobgp4);
            let first = 1 + if again {
                0
            } else {
                BURST * u32::try_from(run)?
            };
            let range = first..first + BURST;
            let before = trial.cpu()?;
            times.push(milliseconds(trial.change(range.clone(), true)?));
            sleep(Duration::from_secs(1));
            cpu.push(milliseconds(trial.cpu()? - before));
            if again {
                trial.change(range, false)?;
                sleep(Duration::from_secs(1));
            }
        }
        measurement::print(
            "speakers_burst",
            &[
                ("daemon", json!(kind.name())),
                ("changes", json!(BURST)),
                ("runs", json!(times.len())),
                ("last_ms", json!(median(times.into_iter()))),
                ("cpu_ms", json!(median(cpu.into_iter()))),
            ],
        );
        Ok(())
    }

    fn steady(&self, kind: Kind) -> Result<()> {
        let load = Load {
            routes: 10_000,
            ..self.load(1, 10_000, Family::IPV4_UNICAST)
        };
        let mut trial = Trial::start(self.lab, kind, load)?;
        trial.table()?;
        trial.establish()?;
        let planned = self.scaled(3000);
        let every = Duration::from_millis(10);
        let before = trial.cpu()?;
        let start = Instant::now();
        let mut changes = 0;
        // A client that needs more than 10 ms per change makes fewer.
        while changes < planned && start.elapsed() < every * planned {
            trial.submit(0..1, changes % 2 == 0)?;
            changes += 1;
            let due = start + every * changes;
            sleep(due.saturating_duration_since(Instant::now()));
        }
        let took = start.elapsed();
        measurement::print(
            "speakers_steady",
            &[
                ("daemon", json!(kind.name())),
                ("changes", json!(changes)),
                ("seconds", json!(rounded(took.as_secs_f64()))),
                ("cpu_ms", json!(milliseconds(trial.cpu()? - before))),
                ("prefixes_at_the_sink", json!(trial.prefixes())),
            ],
        );
        Ok(())
    }

    fn idle_memory(&self, kind: Kind) -> Result<()> {
        let load = Load {
            peers: 4,
            routes: 1000,
            family: Family::IPV4_UNICAST,
            bfd: None,
        };
        let mut trial = Trial::start(self.lab, kind, load)?;
        trial.establish()?;
        sleep(Duration::from_secs(3));
        measurement::print(
            "speakers_idle_memory",
            &[
                ("daemon", json!(kind.name())),
                ("peers", json!(load.peers)),
                ("routes", json!(load.routes)),
                ("vm_rss_kib", json!(trial.resident()?)),
            ],
        );
        Ok(())
    }

    fn reconnect(&self, kind: Kind) -> Result<()> {
        let load = self.load(100, 10_000, Family::IPV4_UNICAST);
        if !kind.can_load(load) {
            return Ok(());
        }
        let mut trial = Trial::start(self.lab, kind, load)?;
        trial.establish()?;
        let (mut times, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..self.runs() {
            // Until no session is being established any more.
            sleep(Duration::from_secs(3));
            let before = trial.cpu()?;
            times.push(milliseconds(trial.reconnect()?));
            cpu.push(milliseconds(trial.cpu()? - before));
        }
        measurement::print(
            "speakers_reconnect",
            &[
                ("daemon", json!(kind.name())),
                ("peers", json!(load.peers)),
                ("routes", json!(load.routes)),
                ("runs", json!(times.len())),
                ("in_sync_ms", json!(median(times.into_iter()))),
                ("cpu_ms", json!(median(cpu.into_iter()))),
            ],
        );
        Ok(())
    }

    /// Debian's GoBGP, ExaBGP and OpenBGPD have no BFD. GoBGP 4 has, but can't load this many
    /// routes.
    fn bfd(&self, kind: Kind) -> Result<()> {
        let priorities = match kind {
            Kind::Ferrolb => &[true, false][..],
            Kind::Bird | Kind::Frr => &[false],
            Kind::Gobgp | Kind::Gobgp4 | Kind::Exabgp | Kind::Openbgpd => return Ok(()),
        };
        let seconds = if self.quick { 3 } else { 20 };
        let course = bfd::Course {
            duration: Duration::from_secs(seconds),
            cuts: if self.quick { 1 } else { 3 },
        };
        for real_time in priorities.iter().copied() {
            let sessions = BfdLoad {
                sessions: 64,
                real_time,
            };
            let load = Load {
                bfd: Some(sessions),
                ..self.load(4, 1_000_000, Family::IPV4_UNICAST)
            };
            bfd::measure(self.lab, kind, load, course)?;
        }
        Ok(())
    }
}
