//! One daemon connected to the sink, and the measurements of the pair.

use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::netns::{Link, Namespace, NamespaceHandle};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_lab_bench::statistics::{median, milliseconds, rounded};

use super::daemons::{Kind, Running};
use super::load::{DAEMON4, DAEMON6, Load};
use super::namespace_usage;
use super::responder::Responder;
use super::sink::{Peer, Sink};

/// Longer than any step takes.
const TIMEOUT: Duration = Duration::from_secs(600);
/// A daemon is idle when it uses less than this share of a core three times in a row.
const IDLE: f64 = 0.1;
const REST_STEP: Duration = Duration::from_millis(500);
/// Without a new prefix for this long the table is incomplete.
const STALLED: Duration = Duration::from_millis(500);

/// Two namespaces, joined by a veth pair.
pub(crate) struct Lab<'lab> {
    scratch: &'lab Scratch,
    node: Namespace,
    sink: Namespace,
    sink_handle: NamespaceHandle,
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
            bfd: None,
        };
        for address in most.addresses() {
            sink.address("wire", &format!("{address}/16"))?;
        }
        sink.address("wire", "fd99::1/64")?;
        let sink_handle = sink.open()?;
        Ok(Self {
            scratch,
            node,
            sink,
            sink_handle,
        })
    }

    /// Sets whether the sink's kernel acknowledges immediately instead of after up to 40 ms.
    /// Delayed acknowledgements slow down a sender that uses Nagle's algorithm.
    pub(crate) fn set_quickack(&self, immediate: bool) -> Result<()> {
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
    /// The sink's number of prefixes, and when it last grew.
    progress: (usize, Instant),
}

/// Result of sending the table once. Times are in milliseconds.
#[derive(Debug)]
pub(crate) struct Table {
    /// From Established to the last prefix of the session, the median over all sessions.
    pub(crate) peer: f64,
    /// From the first Established to the last prefix of all sessions.
    pub(crate) all: f64,
    pub(crate) cpu: f64,
    pub(crate) updates: usize,
    pub(crate) octets: usize,
    pub(crate) sink_busy: f64,
}

impl<'lab> Trial<'lab> {
    /// Starts the daemon, waits until it is idle, and opens the sink.
    pub(crate) fn start(lab: &'lab Lab<'lab>, kind: Kind, load: Load) -> Result<Self> {
        let mut running = Running::start(kind, load, &lab.node, lab.scratch)?;
        await_idle(&lab.node)?;
        running.ensure_running()?;
        let mut addresses = load.addresses();
        if kind == Kind::Ferrolb {
            // In ferrolb a BFD session belongs to a BGP peer.
            addresses.extend(load.bfd_addresses());
        }
        let sink = Sink::open(&lab.sink_handle, &addresses, load.family)?;
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
        namespace_usage::resident(&self.lab.node)
    }

    /// CPU time of the daemon so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        namespace_usage::cpu_time(&self.lab.node)
    }

    pub(crate) fn prefixes(&self) -> usize {
        self.sink.prefixes()
    }

    /// Brings all sessions up at once, waits for the whole table and closes the sessions.
    pub(crate) fn table(&mut self) -> Result<Table> {
        self.connect()?;
        sleep(REST_STEP);
        let cpu = self.cpu()?;
        let sink = self.sink.cpu_time()?;
        let start = Instant::now();
        self.sink.release();
        self.await_prefixes(self.whole())?;
        let busy = (self.sink.cpu_time()? - sink).as_secs_f64() / start.elapsed().as_secs_f64();
        // Until the daemon has sent End-of-RIB and finished its work.
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

    /// Brings all sessions up and waits for the whole table. The sessions stay up.
    pub(crate) fn establish(&mut self) -> Result<()> {
        self.connect()?;
        self.sink.release();
        self.await_prefixes(self.whole())?;
        sleep(REST_STEP);
        self.sink.reset();
        Ok(())
    }

    /// Closes all sessions at once; returns the time until all peers have the whole table again.
    pub(crate) fn reconnect(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.sink.drop_all();
        self.await_prefixes(self.whole())?;
        let last = self.sink.peers().iter().filter_map(|peer| peer.last).max();
        Ok(last.context("no prefix")? - start)
    }

    /// Requests the whole table again.
    pub(crate) fn refresh(&mut self) {
        self.sink.refresh();
        self.progress = (0, Instant::now());
    }

    /// Requests the table again once it is complete, or when no more of it arrives; returns whether
    /// it was complete. BIRD sometimes omits the last 16 prefixes when the request follows directly
    /// after its last octet.
    pub(crate) fn refresh_when_complete(&mut self) -> Result<bool> {
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

    /// Starts the remote end of the daemon's BFD sessions.
    pub(crate) fn responder(&self) -> Result<Responder> {
        Responder::open(
            &self.lab.sink_handle,
            self.load.daemon_address(),
            &self.load.bfd_addresses(),
        )
    }

    /// Changes prefixes; returns the time from the call to the last change received by the sink.
    pub(crate) fn change(&mut self, range: Range<u32>, announce: bool) -> Result<Duration> {
        self.sink.reset();
        let start = Instant::now();
        self.submit(range.clone(), announce)?;
        self.await_prefixes(range.len())?;
        let last = self.sink.peers().iter().filter_map(|peer| peer.last).max();
        Ok(last.context("no prefix")? - start)
    }

    /// Changes prefixes without waiting for the sink.
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

    fn wait(&mut self, what: &str, reached: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        while !reached(self) {
            self.running.ensure_running()?;
            ensure!(
                start.elapsed() < TIMEOUT,
                "{what}: timed out after {} s",
                TIMEOUT.as_secs()
            );
            sleep(Duration::from_micros(500));
        }
        Ok(())
    }
}

/// Waits until the processes of a namespace are idle.
fn await_idle(namespace: &Namespace) -> Result<()> {
    let start = Instant::now();
    let mut quiet = 0;
    let mut before = namespace_usage::cpu_time(namespace)?;
    while quiet < 3 {
        ensure!(
            start.elapsed() < TIMEOUT,
            "the daemon did not become idle within {} s",
            TIMEOUT.as_secs()
        );
        sleep(REST_STEP);
        let now = namespace_usage::cpu_time(namespace)?;
        let share = now.saturating_sub(before).as_secs_f64() / REST_STEP.as_secs_f64();
        quiet = if share < IDLE { quiet + 1 } else { 0 };
        before = now;
    }
    Ok(())
}
