//! All routers of the benchmark: collects what they receive and waits for a state of all tables.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ferrolb_interop_tests::netns::NamespaceHandle;
use ipnet::IpNet;

use super::router::{self, Event, Received};

/// The routers and their tables.
#[derive(Debug)]
pub(crate) struct Routers {
    received: Receiver<Received>,
    tables: Vec<Table>,
}

#[derive(Debug, Default)]
struct Table {
    established: bool,
    complete: bool,
    prefixes: BTreeSet<IpNet>,
}

/// Times of the announcer's progress after its start.
#[derive(Debug)]
pub(crate) struct Start {
    /// The last session was established.
    pub(crate) established: Instant,
    /// The first router received its first prefix.
    pub(crate) first_prefix: Instant,
    /// The last router received its last prefix.
    pub(crate) all_prefixes: Instant,
    /// The last router received End-of-RIB.
    pub(crate) end_of_rib: Instant,
}

/// The tables after a start, or after a change.
#[derive(Debug)]
pub(crate) struct Updates {
    /// The last router received its last prefix.
    pub(crate) all_prefixes: Instant,
    /// UPDATEs with prefixes to the router that received most.
    pub(crate) updates: usize,
}

impl Routers {
    pub(crate) fn start(namespace: &NamespaceHandle, addresses: &[Ipv4Addr]) -> Result<Self> {
        let (sender, received) = channel();
        for (router, address) in addresses.iter().enumerate() {
            router::start(namespace, router, *address, sender.clone())?;
        }
        let tables = addresses.iter().map(|_| Table::default()).collect();
        Ok(Self { received, tables })
    }

    /// Applies the next event to its table.
    fn next(&mut self, deadline: Instant) -> Result<Received> {
        let left = deadline.saturating_duration_since(Instant::now());
        let received = self.received.recv_timeout(left);
        let received = received.with_context(|| format!("timed out; {}", self.summary()))?;
        let table = &mut self.tables[received.router];
        match &received.event {
            Event::Established => table.established = true,
            Event::Announced(prefixes) => table.prefixes.extend(prefixes),
            Event::Withdrawn(prefixes) => {
                table.prefixes.retain(|prefix| !prefixes.contains(prefix));
            }
            Event::EndOfRib => table.complete = true,
            Event::Closed => *table = Table::default(),
        }
        Ok(received)
    }

    fn summary(&self) -> String {
        let tables = self.tables.iter().map(|table| {
            let Table {
                established,
                complete,
                prefixes,
            } = table;
            format!(
                "(established {established}, End-of-RIB {complete}, prefixes {})",
                prefixes.len()
            )
        });
        tables.collect()
    }

    /// Waits until `reached` is true for all tables; returns the time of the last event.
    fn await_all(
        &mut self,
        timeout: Duration,
        reached: impl Fn(&Table) -> bool,
    ) -> Result<Option<Instant>> {
        let deadline = Instant::now() + timeout;
        let mut last = None;
        while !self.tables.iter().all(&reached) {
            last = Some(self.next(deadline)?.at);
        }
        Ok(last)
    }

    pub(crate) fn await_established(&mut self, timeout: Duration) -> Result<()> {
        self.await_all(timeout, |table| table.established).map(drop)
    }

    pub(crate) fn await_closed(&mut self, timeout: Duration) -> Result<()> {
        self.await_all(timeout, |table| !table.established)
            .map(drop)
    }

    /// Waits until each router has that many prefixes.
    pub(crate) fn await_prefixes(&mut self, count: usize, timeout: Duration) -> Result<()> {
        self.await_all(timeout, |table| table.prefixes.len() == count)
            .map(drop)
    }

    /// Waits until each router, all of them empty before, has that many prefixes and End-of-RIB.
    pub(crate) fn await_table(&mut self, count: usize, timeout: Duration) -> Result<Start> {
        let deadline = Instant::now() + timeout;
        let (mut established, mut first_prefix, mut all_prefixes) = (None, None, None);
        loop {
            let received = self.next(deadline)?;
            match received.event {
                Event::Established => established = Some(received.at),
                Event::Announced(_) => {
                    first_prefix = first_prefix.or(Some(received.at));
                    all_prefixes = Some(received.at);
                }
                Event::EndOfRib => {}
                Event::Withdrawn(_) | Event::Closed => bail!("unexpected: {received:?}"),
            }
            let done = |table: &Table| table.complete && table.prefixes.len() == count;
            if self.tables.iter().all(done) {
                return Ok(Start {
                    established: established.context("no session")?,
                    first_prefix: first_prefix.context("no prefix")?,
                    all_prefixes: all_prefixes.context("no prefix")?,
                    end_of_rib: received.at,
                });
            }
        }
    }

    /// Waits until each router has that many prefixes, then until no event arrives for the time
    /// `quiet`. Repeated UPDATEs are counted, too.
    pub(crate) fn await_updates(
        &mut self,
        count: usize,
        timeout: Duration,
        quiet: Duration,
    ) -> Result<Updates> {
        let deadline = Instant::now() + timeout;
        let mut events = Vec::new();
        while self
            .tables
            .iter()
            .any(|table| table.prefixes.len() != count)
        {
            events.push(self.next(deadline)?);
        }
        let announces = |received: &&Received| matches!(received.event, Event::Announced(_));
        let all_prefixes = events.iter().filter(announces).map(|received| received.at);
        let all_prefixes = all_prefixes.max().context("no UPDATE")?;
        events.extend(self.take(quiet));
        let to = |router| {
            let announced = events.iter().filter(announces);
            announced
                .filter(|received| received.router == router)
                .count()
        };
        let updates = (0..self.tables.len()).map(to).max().unwrap_or_default();
        Ok(Updates {
            all_prefixes,
            updates,
        })
    }

    /// Takes all events until none arrives for the time `quiet`.
    pub(crate) fn take(&mut self, quiet: Duration) -> Vec<Received> {
        std::iter::from_fn(|| self.next(Instant::now() + quiet).ok()).collect()
    }

    /// Waits until each router has the prefix, or no longer has it; returns the times of the first
    /// and of the last router.
    pub(crate) fn await_change(
        &mut self,
        prefix: IpNet,
        present: bool,
        timeout: Duration,
    ) -> Result<(Instant, Instant)> {
        let deadline = Instant::now() + timeout;
        let mut times = Vec::new();
        while self
            .tables
            .iter()
            .any(|table| table.prefixes.contains(&prefix) != present)
        {
            times.push(self.next(deadline)?.at);
        }
        // Each router has a thread, so events may not arrive in the order of their times.
        let first = times
            .iter()
            .min()
            .context("no change: the routers were already in that state")?;
        let last = times
            .iter()
            .max()
            .context("no change: the routers were already in that state")?;
        Ok((*first, *last))
    }
}
