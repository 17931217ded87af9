//! Other hosts on a segment: witnesses that the link works.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Time;
use crate::mac::Mac;

/// In this time each host is reported at most once.
const WINDOW: Duration = Duration::from_millis(100);
/// Hosts that are reported in a window. A flood with many sources must not use memory and time.
const REPORTED: usize = 256;
/// Hosts that are remembered.
const RECENT: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// The begin of the window.
    window: Time,
    reported: HashSet<Mac>,
    /// The most recent first, one entry per Ethernet address.
    recent: VecDeque<(IpAddr, Mac)>,
}

impl Hosts {
    /// A frame of a host was received. Whether it is to be reported.
    pub(super) fn observe(&mut self, now: Time, mac: Mac, address: Option<IpAddr>) -> bool {
        if now >= self.window + WINDOW {
            self.window = now;
            self.reported.clear();
        }
        if self.reported.len() >= REPORTED || !self.reported.insert(mac) {
            return false;
        }
        if let Some(address) = address {
            self.recent.retain(|(_, known)| *known != mac);
            self.recent.truncate(RECENT - 1);
            self.recent.push_front((address, mac));
        }
        true
    }

    pub(super) fn recent(&self) -> impl Iterator<Item = (IpAddr, Mac)> {
        self.recent.iter().copied()
    }
}
