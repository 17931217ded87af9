//! Keeps the kernel's discard routes as [`crate::core::decide::discards`] decides: added before an
//! aggregate is announced, and removed after it was withdrawn.
//!
//! They stay while the process restarts, as its routes do. Other programs may remove them (for
//! instance systemd-networkd, when it starts), so they are added again from time to time.

mod kernel;
mod netlink;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use ferrolb_allocator::Family;
use ipnet::IpNet;

pub(crate) use self::kernel::Kernel;

/// Interval after which all are added again, in case another program removed them, or the kernel
/// refused before.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

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
    /// When everything was added last.
    refreshed: Option<Instant>,
    /// Whether what an earlier process left was removed.
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

    /// Discards packets to no other prefixes, not even those of an earlier process.
    pub(crate) fn retain(&mut self, wanted: &BTreeSet<IpNet>) {
        let Some(table) = &mut self.table else {
            return;
        };
        if self.cleaned && self.added.is_subset(wanted) {
            return;
        }
        if let Err(error) = remove_others(table.as_mut(), wanted) {
            tracing::warn!(
                "can't remove discard routes of aggregates that are no longer announced: {error}. \
                 Packets to these addresses are dropped on this node until it restarts, or until \
                 you remove them: ip rule del pref 32765, also with ip -6"
            );
        }
        self.cleaned = true;
        self.added.retain(|prefix| wanted.contains(prefix));
    }
}

fn remove_others(table: &mut dyn Table, wanted: &BTreeSet<IpNet>) -> io::Result<()> {
    for family in Family::ALL {
        // The list of routes can be long on a router: read it only if there are our rules.
        if !table.has_rules(family)? {
            continue;
        }
        let prefixes = table.prefixes(family)?;
        if !families(wanted).contains(&family) {
            table.remove_rules(family)?;
        }
        for prefix in prefixes.iter().filter(|prefix| !wanted.contains(*prefix)) {
            table.remove(*prefix)?;
        }
    }
    Ok(())
}

fn families<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>) -> BTreeSet<Family> {
    let prefixes = prefixes.into_iter();
    prefixes.map(|prefix| Family::of(prefix.addr())).collect()
}

#[cfg(test)]
mod tests;
