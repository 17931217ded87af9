//! One daemon and the sink, and what can be measured of the two.

use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::process::Scratch;

use super::daemons::{Kind, Running};
use super::load::{DAEMON4, DAEMON6, Load};
use super::place::Place;
use super::responder::Responder;
use super::sink::{Peer, Sink};
use super::usage;

/// Longer than anything should take.
const TIMEOUT: Duration = Duration::from_secs(600);
/// A daemon at rest: less than this share of a core, three times in a row.
const REST: f64 = 0.1;
const REST_STEP: Duration = Duration::from_millis(500);
/// Nothing more comes.
const STALLED: Duration = Duration::from_millis(500);

/// Two namespaces and a wire.
pub(crate) struct Lab<'lab> {
    scratch: &'lab Scratch,
    node: Namespace,
    sink: Namespace,
    place: Place,
}

impl<'lab> Lab<'lab> {
    pub(crate) fn new(scratch: &'lab Scratch) -> Result<Self> {
        let (node, sink) = (Namespace::new("daemon")?, Namespace::new("sink")?);
        Link::new((&node, "uplink"), (&sink, "wire"))?;
        node.address("uplink", &format!("{DAEMON4}/16"))?;
        node.address("uplink", &format!("{DAEMON6}/64"))?;
        let most = Load {
            peers: 100,
            routes: 0,
            family: ferrolb_bgp::wire::Family::IPV4_UNICAST,
            watch: None,
        };
        for address in most.addresses() {
            sink.address("wire", &format!("{address}/16"))?;
        }
        sink.address("wire", "fd99::1/64")?;
        let place = Place::of(&sink)?;
        Ok(Self {
            scratch,
            node,
            sink,
            place,
        })
    }

    /// Whether the sink's kernel acknowledges at once instead of after up to 40 ms: whoever sends
    /// with Nagle's algorithm on is not held up by it then.
    pub(crate) fn acknowledge(&self, immediate: bool) -> Result<()> {
        let flag = if immediate { "1" } else { "0" };
        let route = [
            "route",
            "replace",
            "10.99.0.0/16",
            "dev",
            "wire",
            "proto",
            "kernel",
        ];
        let route = [
            &route[..],
            &["scope", "link", "src", "10.99.0.1", "quickack", flag],
        ]
        .concat();
        self.sink.ip(&route).map(drop)
    }
}

/// A daemon with its table loaded, and the sink listening.
pub(crate) struct Trial<'lab> {
    kind: Kind,
    load: Load,
    lab: &'lab Lab<'lab>,
    running: Running<'lab>,
    sink: Sink,
    /// Prefixes seen last at the sink, and since when so many.
    progress: (usize, Instant),
}

/// What came of one sending of the table. Times in milliseconds.
#[derive(Debug)]
pub(crate) struct Table {
    /// From a session's Established to its last prefix, the median over sessions.
    pub(crate) peer: f64,
    /// From the first Established to the last prefix of all.
    pub(crate) all: f64,
    pub(crate) cpu: f64,
    pub(crate) updates: usize,
    pub(crate) octets: usize,
    pub(crate) sink_busy: f64,
}

impl<'lab> Trial<'lab> {
    /// Starts the daemon, lets it come to rest, opens the sink.
    pub(crate) fn start(lab: &'lab Lab<'lab>, kind: Kind, load: Load) -> Result<Self> {
        let mut running = Running::start(kind, load, &lab.node, lab.scratch)?;
        rest(&lab.node)?;
        running.ensure_running()?;
        let mut addresses = load.addresses();
        if kind == Kind::Ferrolb {
            // Its BFD sessions are those of peers.
            addresses.extend(load.watched());
        }
        let sink = Sink::open(&lab.place, &addresses, load.family)?;
        Ok(Self {
            kind,
            load,
            lab,
            running,
            sink,
            progress: (0, Instant::now()),
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn load(&self) -> Load {
        self.load
    }

    pub(crate) fn resident(&self) -> Result<u64> {
        usage::resident(&self.lab.node)
    }

    /// Processor time of the daemon so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        usage::time(&self.lab.node)
    }

    pub(crate) fn prefixes(&self) -> usize {
        self.sink.prefixes()
    }

    /// All sessions come up at once, and the whole table is sent. They are ended afterwards.
    pub(crate) fn table(&mut self) -> Result<Table> {
        self.connect()?;
        sleep(REST_STEP);
        let cpu = self.cpu()?;
        let sink = self.sink.time()?;
        let start = Instant::now();
        self.sink.release();
        self.await_prefixes(self.whole())?;
        let busy = (self.sink.time()? - sink).as_secs_f64() / start.elapsed().as_secs_f64();
        // End-of-RIB, and what else is left to do.
        sleep(REST_STEP);
        let cpu = self.cpu()? - cpu;
        let peers = self.sink.peers();
        let established = peers.iter().filter_map(|peer| peer.established);
        let first = established.min().context("no session")?;
        let last = peers
            .iter()
            .filter_map(|peer| peer.last)
            .max()
            .unwrap_or(first);
        let own = |peer: &Peer| {
            Some(milliseconds(
                peer.last?.saturating_duration_since(peer.established?),
            ))
        };
        let table = Table {
            peer: median(peers.iter().filter_map(own)),
            all: milliseconds(last.saturating_duration_since(first)),
            cpu: milliseconds(cpu),
            updates: peers
                .iter()
                .map(|peer| peer.count.updates - peer.count.end_of_rib)
                .sum(),
            octets: peers.iter().map(|peer| peer.count.octets).sum(),
            sink_busy: rounded(busy * 100.0),
        };
        self.sink.hold();
        self.sink.drop_all();
        Ok(table)
    }

    /// Sessions that stay, with the whole table sent.
    pub(crate) fn establish(&mut self) -> Result<()> {
        self.connect()?;
        self.sink.release();
        self.await_prefixes(self.whole())?;
        sleep(REST_STEP);
        self.sink.forget();
        Ok(())
    }

    /// Ends all sessions at once, and gives the time until all have everything again.
    pub(crate) fn reconnect(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.sink.drop_all();
        self.await_prefixes(self.whole())?;
        let last = self.sink.peers().iter().filter_map(|peer| peer.last).max();
        Ok(last.context("no prefix")? - start)
    }

    /// Asks for the whole table again.
    pub(crate) fn refresh(&mut self) {
        self.sink.refresh();
        self.progress = (0, Instant::now());
    }

    /// Asks for the whole table again if all of it has come, or nothing more does: BIRD, asked at
    /// once after its last octet, now and then leaves out the last 16 prefixes.
    pub(crate) fn again(&mut self) -> Result<bool> {
        self.running.ensure_running()?;
        let prefixes = self.sink.prefixes();
        let (before, since) = self.progress;
        if prefixes != before {
            self.progress = (prefixes, Instant::now());
        }
        let whole = prefixes >= self.whole();
        if whole || (prefixes == before && since.elapsed() > STALLED) {
            self.refresh();
        }
        Ok(whole)
    }

    /// The far ends of the daemon's BFD sessions.
    pub(crate) fn responder(&self) -> Result<Responder> {
        Responder::open(
            &self.lab.place,
            self.load.daemon_address(),
            &self.load.watched(),
        )
    }

    /// Changes prefixes, and gives the time from before the call to the last one at the sink.
    pub(crate) fn change(&mut self, range: Range<u32>, announce: bool) -> Result<Duration> {
        self.sink.forget();
        let start = Instant::now();
        self.submit(range.clone(), announce)?;
        self.await_prefixes(range.len())?;
        let last = self.sink.peers().iter().filter_map(|peer| peer.last).max();
        Ok(last.context("no prefix")? - start)
    }

    /// Changes prefixes and does not wait.
    pub(crate) fn submit(&mut self, range: Range<u32>, announce: bool) -> Result<()> {
        self.running.change(range, announce)
    }

    fn whole(&self) -> usize {
        (u64::from(self.load.peers) * u64::from(self.load.routes))
            .try_into()
            .unwrap_or(usize::MAX)
    }

    fn connect(&mut self) -> Result<()> {
        self.wait("all connections", |trial| {
            trial.sink.peers().iter().all(|peer| peer.connected)
        })
    }

    fn await_prefixes(&mut self, count: usize) -> Result<()> {
        self.wait("the prefixes", |trial| trial.sink.prefixes() >= count)
            .with_context(|| format!("{} of {count} prefixes", self.sink.prefixes()))
    }

    fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        while !holds(self) {
            self.running.ensure_running()?;
            ensure!(
                start.elapsed() < TIMEOUT,
                "{what}: not within {} s",
                TIMEOUT.as_secs()
            );
            sleep(Duration::from_micros(500));
        }
        Ok(())
    }
}

/// Waits until what runs there has nothing to do.
fn rest(namespace: &Namespace) -> Result<()> {
    let start = Instant::now();
    let mut quiet = 0;
    let mut before = usage::time(namespace)?;
    while quiet < 3 {
        ensure!(
            start.elapsed() < TIMEOUT,
            "the daemon does not come to rest"
        );
        sleep(REST_STEP);
        let now = usage::time(namespace)?;
        let share = now.saturating_sub(before).as_secs_f64() / REST_STEP.as_secs_f64();
        quiet = if share < REST { quiet + 1 } else { 0 };
        before = now;
    }
    Ok(())
}

/// The one in the middle, of an even number the lower one.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
