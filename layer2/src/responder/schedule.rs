//! When the unsolicited frames of an interface are due, and in which order they are sent.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Time;

/// The form of an unsolicited ARP frame. Neighbor Advertisements have one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Linux replaces a cache entry that is younger than a second only after a request.
    Request,
    /// For hosts that ignore gratuitous requests.
    Reply,
}

/// The frames of a new address: the time since the frame before, and the form. Linux before 4.12
/// ignores all of them in the first second after the last change (`locktime`), hence the fourth.
const STEPS: [(Duration, Form); 6] = [
    (Duration::ZERO, Form::Request),
    (Duration::from_millis(100), Form::Request),
    (Duration::from_millis(100), Form::Reply),
    (Duration::from_millis(900), Form::Request),
    (Duration::from_millis(1_400), Form::Request),
    (Duration::from_millis(2_500), Form::Request),
];

/// Seconds between two frames of an address whose steps are over.
const REFRESH: u64 = 60;

/// The addresses that an interface announces.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: HashMap<IpAddr, Entry>,
    /// Frames that become due.
    waiting: BTreeSet<(Micros, IpAddr)>,
    /// Frames that are due, in the order in which they are sent: the first frames of all addresses
    /// before the second ones, refreshes last, and newer addresses before older ones.
    due: BTreeSet<(u8, Reverse<u32>, IpAddr)>,
    /// While not running, nothing waits and nothing is due.
    running: bool,
}

/// There is one for each address: the types are as small as possible.
#[derive(Debug)]
struct Entry {
    /// Greater for newer addresses.
    serial: u32,
    /// The number of frames sent, at most the number of steps.
    step: u8,
    /// The place in `waiting`, if it is there.
    at: Micros,
}

/// A time in microseconds.
type Micros = u64;

fn micros(time: Time) -> Micros {
    time.as_micros().try_into().unwrap_or(Micros::MAX)
}

impl Entry {
    fn key(&self, address: IpAddr) -> (u8, Reverse<u32>, IpAddr) {
        (self.step, Reverse(self.serial), address)
    }
}

impl Schedule {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.entries.contains_key(&address)
    }

    /// Begins with the first step.
    pub(super) fn start(&mut self, now: Time, address: IpAddr, serial: u32) {
        self.stop(address);
        let entry = Entry {
            serial,
            step: 0,
            at: micros(now),
        };
        if self.running {
            self.waiting.insert((entry.at, address));
        }
        self.entries.insert(address, entry);
    }

    pub(super) fn stop(&mut self, address: IpAddr) {
        if let Some(entry) = self.entries.remove(&address) {
            self.waiting.remove(&(entry.at, address));
            self.due.remove(&entry.key(address));
        }
    }

    /// Makes the next frame of an address due, whichever it is.
    pub(super) fn hasten(&mut self, address: IpAddr) {
        if let Some(entry) = self.entries.get(&address)
            && self.waiting.remove(&(entry.at, address))
        {
            self.due.insert(entry.key(address));
        }
    }

    /// Sends nothing until [`Self::restart`].
    pub(super) fn pause(&mut self) {
        self.running = false;
        self.waiting.clear();
        self.due.clear();
    }

    /// Begins with the first step of all addresses.
    pub(super) fn restart(&mut self, now: Time) {
        self.pause();
        self.running = true;
        for (address, entry) in &mut self.entries {
            entry.step = 0;
            entry.at = micros(now);
            self.waiting.insert((entry.at, *address));
        }
    }

    /// Finds the frames that are due.
    pub(super) fn advance(&mut self, now: Time) {
        while let Some((at, address)) = self.waiting.pop_first() {
            if at > micros(now) {
                self.waiting.insert((at, address));
                return;
            }
            if let Some(entry) = self.entries.get(&address) {
                self.due.insert(entry.key(address));
            }
        }
    }

    /// Whether the first frame of an address is due.
    pub(super) fn first_is_due(&self) -> bool {
        self.due.first().is_some_and(|(step, ..)| *step == 0)
    }

    /// The next frame that is due. It counts as sent.
    pub(super) fn take(&mut self, now: Time) -> Option<(IpAddr, Form)> {
        let (.., address) = self.due.pop_first()?;
        let entry = self.entries.get_mut(&address)?;
        let step = usize::from(entry.step);
        let form = STEPS.get(step).map_or(Form::Request, |(_, form)| *form);
        if step < STEPS.len() {
            entry.step += 1;
        }
        entry.at = micros(match STEPS.get(step + 1) {
            Some((gap, _)) => now + *gap,
            None => next_refresh(now, entry.serial),
        });
        self.waiting.insert((entry.at, address));
        Some((address, form))
    }

    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// When the next frame becomes due that is not yet.
    pub(super) fn next_due(&self) -> Option<Time> {
        let (at, _) = self.waiting.first()?;
        Some(Duration::from_micros(*at))
    }
}

/// Spreads refreshes evenly over the period, whichever addresses there are: multiples of the golden
/// ratio, modulo 1, leave no large gap.
fn next_refresh(now: Time, serial: u32) -> Time {
    const GOLDEN_RATIO: u32 = 0x9e37_79b9;
    let fraction = u64::from(serial.wrapping_mul(GOLDEN_RATIO));
    let phase = Duration::from_micros((fraction * REFRESH * 1_000_000) >> 32);
    let period = Duration::from_secs(now.as_secs() - now.as_secs() % REFRESH);
    let at = period + phase;
    if at > now {
        at
    } else {
        at + Duration::from_secs(REFRESH)
    }
}
