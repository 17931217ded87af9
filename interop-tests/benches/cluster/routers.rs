//! All routers together: waits for what they were told.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use super::place::Place;
use super::sink::{self, Told, What};

/// The routers, and what each has been told so far.
#[derive(Debug)]
pub(crate) struct Routers {
    told: Receiver<Told>,
    tables: Vec<Table>,
}

#[derive(Debug, Default)]
struct Table {
    established: bool,
    complete: bool,
    prefixes: BTreeSet<IpNet>,
}

/// When the announcer had come how far after its start.
#[derive(Debug)]
pub(crate) struct Start {
    /// The last session was established.
    pub(crate) established: Instant,
    /// The first router had its first prefix.
    pub(crate) first_prefix: Instant,
    /// The last router had its last prefix.
    pub(crate) all_prefixes: Instant,
    /// The last router had its End-of-RIB.
    pub(crate) end_of_rib: Instant,
}

impl Routers {
    pub(crate) fn start(place: &Place, addresses: &[Ipv4Addr]) -> Result<Self> {
        let (sender, told) = channel();
        for (router, address) in addresses.iter().enumerate() {
            sink::start(place, router, *address, sender.clone())?;
        }
        let tables = addresses.iter().map(|_| Table::default()).collect();
        Ok(Self { told, tables })
    }

    /// Takes in the next news.
    fn next(&mut self, deadline: Instant) -> Result<Told> {
        let left = deadline.saturating_duration_since(Instant::now());
        let told = self.told.recv_timeout(left);
        let told = told.with_context(|| format!("no news in time; {}", self.summary()))?;
        let table = &mut self.tables[told.router];
        match &told.what {
            What::Established => table.established = true,
            What::Announced(prefixes) => table.prefixes.extend(prefixes),
            What::Withdrawn(prefixes) => {
                table.prefixes.retain(|prefix| !prefixes.contains(prefix));
            }
            What::EndOfRib => table.complete = true,
            What::Closed => *table = Table::default(),
        }
        Ok(told)
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

    /// Takes in news until something holds for all; gives the time of the last of them.
    fn await_all(
        &mut self,
        timeout: Duration,
        holds: impl Fn(&Table) -> bool,
    ) -> Result<Option<Instant>> {
        let deadline = Instant::now() + timeout;
        let mut last = None;
        while !self.tables.iter().all(&holds) {
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

    /// Waits until each has that many prefixes.
    pub(crate) fn await_prefixes(&mut self, count: usize, timeout: Duration) -> Result<()> {
        self.await_all(timeout, |table| table.prefixes.len() == count)
            .map(drop)
    }

    /// Waits until each has that many prefixes and End-of-RIB, none of them having any before.
    pub(crate) fn await_table(&mut self, count: usize, timeout: Duration) -> Result<Start> {
        let deadline = Instant::now() + timeout;
        let (mut established, mut first_prefix, mut all_prefixes) = (None, None, None);
        loop {
            let told = self.next(deadline)?;
            match told.what {
                What::Established => established = Some(told.at),
                What::Announced(_) => {
                    first_prefix = first_prefix.or(Some(told.at));
                    all_prefixes = Some(told.at);
                }
                What::EndOfRib => {}
                What::Withdrawn(_) | What::Closed => bail!("unexpected: {told:?}"),
            }
            let done = |table: &Table| table.complete && table.prefixes.len() == count;
            if self.tables.iter().all(done) {
                return Ok(Start {
                    established: established.context("no session")?,
                    first_prefix: first_prefix.context("no prefix")?,
                    all_prefixes: all_prefixes.context("no prefix")?,
                    end_of_rib: told.at,
                });
            }
        }
    }

    /// Everything that was told so far, until there is nothing new for a while.
    pub(crate) fn take(&mut self, quiet: Duration) -> Vec<Told> {
        std::iter::from_fn(|| self.next(Instant::now() + quiet).ok()).collect()
    }

    /// Waits until each has the prefix (or has it no more): when the first and when the last was told.
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
        // Each has a thread: they need not tell in the order in which they read.
        let first = times.iter().min().context("it was so before")?;
        let last = times.iter().max().context("it was so before")?;
        Ok((*first, *last))
    }
}
