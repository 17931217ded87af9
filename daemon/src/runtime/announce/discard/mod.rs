//! Keeps the kernel's discard routes as [`crate::core::decide::discards`] decides: added before an
//! aggregate is announced, and removed some seconds after it was withdrawn.
//!
//! They stay while the process restarts, as its routes do. Other programs may remove them (for
//! instance systemd-networkd, when it starts), so they are added again from time to time.

mod kernel;
mod netlink;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use ferrolb_allocator::Family;
use ipnet::IpNet;

pub(crate) use self::kernel::Kernel;

/// Interval after which all are added again, in case another program removed them, or the kernel
/// refused before.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// How long packets are discarded after the withdrawal of an aggregate was requested: until then
/// routers may forward them to this node.
const LINGER: Duration = Duration::from_secs(5);
/// The same at the end of a process, after its sessions were closed.
const LINGER_AT_END: Duration = Duration::from_secs(1);

/// Where packets are discarded. Adding what exists and removing what doesn't is no error.
pub(crate) trait Table: fmt::Debug + Send {
    /// Applies the table to forwarded packets of a family.
    ///
    /// # Errors
    /// The error of the kernel, as for the other methods.
    fn add_rules(&mut self, family: Family) -> io::Result<()>;
    /// Ends that.
    fn remove_rules(&mut self, family: Family) -> io::Result<()>;
    /// Whether the table applies to a family, perhaps since an earlier process.
    fn has_rules(&mut self, family: Family) -> io::Result<bool>;
    /// Discards packets to this prefix.
    fn add(&mut self, prefix: IpNet) -> io::Result<()>;
    /// Ends that.
    fn remove(&mut self, prefix: IpNet) -> io::Result<()>;
    /// The prefixes of a family in the table.
    fn prefixes(&mut self, family: Family) -> io::Result<Vec<IpNet>>;
}

/// The prefixes that this host discards packets to.
#[derive(Debug, Default)]
pub struct Discards {
    /// None: packets are not discarded, which is for tests.
    table: Option<Box<dyn Table>>,
    added: BTreeSet<IpNet>,
    /// Those that are removed at this time.
    leaving: BTreeMap<IpNet, Instant>,
    /// When everything was added last.
    refreshed: Option<Instant>,
    /// Whether it is known what an earlier process left.
    cleaned: bool,
}

impl Discards {
    /// By the kernel of this host.
    pub(crate) fn by_kernel() -> Self {
        Self::by(Box::new(Kernel::default()))
    }

    fn by(table: Box<dyn Table>) -> Self {
        Self {
            table: Some(table),
            ..Self::default()
        }
    }

    /// Discards packets to these prefixes as well. Returns why the kernel refuses, if it does.
    pub(crate) fn add(&mut self, now: Instant, wanted: &BTreeSet<IpNet>) -> Option<String> {
        let Some(table) = &mut self.table else {
            return None;
        };
        let due = self
            .refreshed
            .is_none_or(|refreshed| now.saturating_duration_since(refreshed) >= REFRESH_INTERVAL);
        if due {
            self.refreshed = Some(now);
            self.added.clear();
        }
        self.leaving.retain(|prefix, _| !wanted.contains(prefix));
        for family in families(wanted.difference(&self.added)) {
            if let Err(error) = table.add_rules(family) {
                return Some(error.to_string());
            }
        }
        for prefix in wanted {
            if !self.added.contains(prefix) {
                if let Err(error) = table.add(*prefix) {
                    return Some(format!("{prefix}: {error}"));
                }
                self.added.insert(*prefix);
            }
        }
        None
    }

    /// Discards packets to no other prefixes after a while, not even to those of an earlier
    /// process: [`Self::remove_due`] removes them.
    pub(crate) fn retain(&mut self, now: Instant, wanted: &BTreeSet<IpNet>) {
        let Some(table) = &mut self.table else {
            return;
        };
        if !self.cleaned {
            self.cleaned = true;
            match left_behind(table.as_mut(), wanted) {
                Ok(prefixes) => self.added.extend(prefixes),
                Err(error) => warn_not_removed(&error),
            }
        }
        let others = self.added.iter().filter(|prefix| !wanted.contains(*prefix));
        for prefix in others.copied().collect::<Vec<_>>() {
            self.added.remove(&prefix);
            self.leaving.entry(prefix).or_insert(now + LINGER);
        }
    }

    /// Removes what is due.
    pub(crate) fn remove_due(&mut self, now: Instant) {
        let Some(table) = &mut self.table else {
            return;
        };
        let due = self.leaving.iter().filter(|(_, due)| **due <= now);
        let due: BTreeSet<IpNet> = due.map(|(prefix, _)| *prefix).collect();
        if due.is_empty() {
            return;
        }
        self.leaving.retain(|prefix, _| !due.contains(prefix));
        let needed = families(self.added.iter().chain(self.leaving.keys()));
        if let Err(error) = remove(table.as_mut(), &due, &needed) {
            warn_not_removed(&error);
        }
    }
}

/// Ends all discards of this host, after the sessions of a process were closed that doesn't start
/// again.
pub(crate) async fn end() {
    let mut discards = Discards::by_kernel();
    let now = Instant::now();
    discards.retain(now, &BTreeSet::new());
    if !discards.leaving.is_empty() {
        tokio::time::sleep(LINGER_AT_END).await;
        discards.remove_due(now + LINGER);
    }
}

/// The prefixes in the table. The table no longer applies to a family without any.
fn left_behind(table: &mut dyn Table, wanted: &BTreeSet<IpNet>) -> io::Result<Vec<IpNet>> {
    let mut found = Vec::new();
    for family in Family::ALL {
        // The list of routes can be long on a router: read it only if there are our rules.
        if !table.has_rules(family)? {
            continue;
        }
        let prefixes = table.prefixes(family)?;
        if prefixes.is_empty() && !families(wanted).contains(&family) {
            table.remove_rules(family)?;
        }
        found.extend(prefixes);
    }
    Ok(found)
}

/// Removes prefixes, and the rules of families that are not needed any more.
fn remove(
    table: &mut dyn Table,
    prefixes: &BTreeSet<IpNet>,
    needed: &BTreeSet<Family>,
) -> io::Result<()> {
    for family in families(prefixes).difference(needed) {
        table.remove_rules(*family)?;
    }
    for prefix in prefixes {
        table.remove(*prefix)?;
    }
    Ok(())
}

fn warn_not_removed(error: &io::Error) {
    tracing::warn!(
        "can't remove discard routes of aggregates that are no longer announced: {error}. Packets \
         to these addresses are dropped on this node until it restarts, or until you remove them: \
         ip rule del pref 32765, also with ip -6"
    );
}

fn families<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>) -> BTreeSet<Family> {
    let prefixes = prefixes.into_iter();
    prefixes.map(|prefix| Family::of(prefix.addr())).collect()
}

#[cfg(test)]
mod tests;
