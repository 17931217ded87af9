//! The driver of the BFD thread: transfers packets, timers and commands between the sockets and
//! [`Bfd`].
//!
//! UDP ports 3784 and 4784 are bound while a session needs them. Only one program on a host can use
//! them. If another BFD speaker has bound a port, peers with BFD report that failure; other peers
//! are not affected.

mod datagram;
mod outbox;
mod thread;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};

use self::datagram::{Datagram, Receiver, Sender};
use self::outbox::{Merge, Outbox};
pub(super) use self::thread::BfdThread;
pub(super) use self::thread::Command;
use self::thread::PeerBfdEvent;
use super::sockopt::interface_index;
use super::timer::Timer;
use crate::bfd::{Arrival, Bfd, Hops, Input, Path, SOURCE_PORTS, SessionStatus, State};
use crate::fsm::{BfdEvent, BfdTarget};

impl Merge for BfdEvent {
    /// Keeps a failure, which the BGP session must not miss. The next status report contains the
    /// current state.
    fn merge(self, later: Self) -> Self {
        match &self {
            Self::Failed { .. } => self,
            Self::Changed { change, .. } if change.is_failure() => self,
            Self::Changed { .. } | Self::Status(_) => later,
        }
    }
}

/// Interval of status reports to the BGP thread, which also receives every state change.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of datagrams read from a socket before the timers are processed. More than all
/// sessions receive while the thread is delayed, so that no unread packet expires a detection time.
const DATAGRAMS_PER_TURN: usize = 4096;

/// Maximum number of logged senders of packets without session. Sender addresses can be forged.
const SENDERS_LOGGED_MAX: usize = 64;

/// A BGP peer that uses BFD, and its session.
#[derive(Debug)]
struct PeerBfd {
    path: Path,
    target: BfdTarget,
}

/// The sending socket of a session.
#[derive(Debug)]
struct SessionSocket {
    sender: Sender,
    /// No peer uses the session any more: send AdminDown until then, then remove it.
    admin_down_until: Option<Instant>,
}

struct BfdDriver {
    bfd: Bfd,
    rng: fastrand::Rng,
    peers: BTreeMap<String, PeerBfd>,
    sessions: BTreeMap<Path, SessionSocket>,
    receivers: BTreeMap<(Hops, bool), Receiver>,
    commands: mpsc::Receiver<(String, Command)>,
    events: Outbox<BfdEvent>,
    timer: Timer,
    last_status: Instant,
    /// Counter of packets that matched no session, for metrics.
    without_session: Arc<AtomicU64>,
    /// Senders of such packets that were logged.
    logged_senders: BTreeSet<IpAddr>,
    ended: bool,
}

impl BfdDriver {
    fn new(
        commands: mpsc::Receiver<(String, Command)>,
        events: mpsc::Sender<PeerBfdEvent>,
        without_session: Arc<AtomicU64>,
    ) -> Self {
        // Discriminators must be unpredictable: seeded by the operating system.
        let mut rng = fastrand::Rng::new();
        Self {
            bfd: Bfd::new(rng.u64(..)),
            rng,
            peers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            receivers: BTreeMap::new(),
            commands,
            events: Outbox::new(events),
            timer: Timer::default(),
            last_status: Instant::now(),
            without_session,
            logged_senders: BTreeSet::new(),
            ended: false,
        }
    }

    async fn run(self) {
        // Tokio's task budget makes all resources return Pending after 128 operations of a task: a
        // flood of datagrams would starve the timer. Each turn has its own limits and ends with a
        // yield.
        tokio::task::unconstrained(self.run_turns()).await;
    }

    async fn run_turns(mut self) {
        while !self.ended {
            std::future::poll_fn(|cx| self.poll(cx)).await;
            self.remove_finished();
            self.report_status();
            self.set_timer();
            // The runtime polls the kernel for sockets and timers only during a yield.
            tokio::task::yield_now().await;
        }
    }

    /// One turn. Datagrams are processed before the timer. Ready if there was an input.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut any = self.poll_datagrams(cx);
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            any = true;
            match command {
                Some((peer, Command::Set(target))) => self.set(peer, target),
                Some((peer, Command::Remove)) => self.remove(&peer),
                Some((peer, Command::AdminDown)) => {
                    if let Some(path) = self.peers.get(&peer).map(|used| used.path) {
                        self.feed(Input::AdminDown { path });
                    }
                }
                None => {
                    self.ended = true;
                    break;
                }
            }
        }
        if self.timer.poll(cx) {
            any = true;
            self.on_timeout();
        }
        if any { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_datagrams(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        self.read_all(|receiver| match receiver.poll(cx) {
            Poll::Ready(datagram) => {
                any = true;
                Some((now(), datagram))
            }
            Poll::Pending => None,
        });
        any
    }

    /// Reads from each socket until `read` returns `None`.
    fn read_all(
        &mut self,
        mut read: impl FnMut(&Receiver) -> Option<(std::time::Instant, io::Result<Datagram>)>,
    ) {
        let receivers = std::mem::take(&mut self.receivers);
        for ((hops, _), receiver) in &receivers {
            for (now, datagram) in std::iter::from_fn(|| read(receiver)).take(DATAGRAMS_PER_TURN) {
                self.received(now, *hops, datagram);
            }
        }
        self.receivers = receivers;
    }

    /// Processes a due timer as of a time whose datagrams have all been read. This thread may have
    /// been delayed at any point; then the sockets contain packets that the runtime has not noticed
    /// yet, and their detection times must not expire.
    fn on_timeout(&mut self) {
        let now = now();
        self.read_all(|receiver| receiver.take().map(|datagram| (now, datagram)));
        self.feed_at(now, Input::Timeout);
    }

    fn received(&mut self, now: std::time::Instant, hops: Hops, datagram: io::Result<Datagram>) {
        let datagram = match datagram {
            Ok(datagram) => datagram,
            Err(error) => {
                debug!("cannot receive a BFD packet: {error}");
                return;
            }
        };
        let before = self.bfd.without_session().count;
        self.feed_at(
            now,
            Input::Received(Arrival {
                remote: datagram.remote,
                local: datagram.local,
                interface: datagram.interface,
                hops,
                ttl: datagram.ttl,
                octets: datagram.octets(),
            }),
        );
        if self.bfd.without_session().count > before {
            self.log_sender_without_session(datagram.remote);
        }
    }

    fn log_sender_without_session(&mut self, remote: IpAddr) {
        self.without_session.fetch_add(1, Ordering::Relaxed);
        if self.logged_senders.len() < SENDERS_LOGGED_MAX && self.logged_senders.insert(remote) {
            let reason = self.bfd.without_session().last;
            let reason = reason.map(|reason| reason.to_string()).unwrap_or_default();
            warn!(
                address = %remote,
                "BFD packet discarded: {reason}; set bfdProfile in the BGPPeer of this router, or \
                 disable BFD on the router (further packets from this address are counted, not \
                 logged)"
            );
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        self.feed_at(now(), input);
    }

    /// Passes an input to the state machine and executes all resulting outputs.
    fn feed_at(&mut self, now: std::time::Instant, input: Input<'_>) {
        self.bfd.handle(now, input);
        while let Some(change) = self.bfd.poll_output() {
            let status = self.bfd.status().find(|status| status.path == change.path);
            if let Some(status) = status {
                self.report(change.path, &BfdEvent::Changed { change, status });
            }
        }
        while let Some(transmit) = self.bfd.poll_transmit(now) {
            if let Some(session) = self.sessions.get(&transmit.path)
                && let Err(error) = session.sender.send(&transmit.octets)
            {
                // A lost packet. If the path has failed, the detection time expires.
                debug!(address = %transmit.path.remote, "cannot send a BFD packet: {error}");
            }
        }
    }

    fn report(&mut self, path: Path, event: &BfdEvent) {
        let peers = self.peers.iter();
        for (peer, _) in peers.filter(|(_, used)| used.path == path) {
            match event {
                BfdEvent::Status(_) => self.events.send_if_idle(peer, event.clone()),
                BfdEvent::Changed { .. } | BfdEvent::Failed { .. } => {
                    self.events.send(peer.clone(), event.clone());
                }
            }
        }
    }

    /// Starts or changes the session of a peer.
    fn set(&mut self, peer: String, target: BfdTarget) {
        let path = match self.prepare(&target) {
            Ok(path) => path,
            Err(error) => {
                warn!(%peer, address = %target.remote, "BFD not started: {error}");
                let reason = error.to_string();
                self.events.send(peer, BfdEvent::Failed { reason });
                return;
            }
        };
        self.watch(peer, path, target);
    }

    fn watch(&mut self, peer: String, path: Path, target: BfdTarget) {
        if self.peers.get(&peer).is_some_and(|old| old.path != path) {
            self.remove(&peer);
        }
        let config = target.config;
        self.peers.insert(peer, PeerBfd { path, target });
        self.feed(Input::Set { path, config });
        let back = self
            .sessions
            .get_mut(&path)
            .is_some_and(|session| session.admin_down_until.take().is_some());
        if back
            || self
                .status(path)
                .is_some_and(|s| s.state == State::AdminDown)
        {
            self.feed(Input::AdminUp { path });
        }
        if let Some(status) = self.status(path) {
            self.report(path, &BfdEvent::Status(status));
        }
    }

    /// Opens the sockets of a session.
    fn prepare(&mut self, target: &BfdTarget) -> io::Result<Path> {
        let interface = target.interface.as_deref().map(interface_index);
        let path = Path {
            remote: target.remote,
            local: target.local,
            interface: interface.transpose()?,
            hops: target.hops,
        };
        let family = (path.hops, path.remote.is_ipv4());
        if let Entry::Vacant(place) = self.receivers.entry(family) {
            place.insert(Receiver::bind(path.hops, path.remote.is_ipv4())?);
        }
        if !self.sessions.contains_key(&path) {
            let first = self.rng.u16(SOURCE_PORTS);
            let sender = Sender::new(&path, target.interface.as_deref(), first)?;
            let admin_down_until = None;
            self.sessions.insert(
                path,
                SessionSocket {
                    sender,
                    admin_down_until,
                },
            );
        }
        Ok(path)
    }

    /// Removes a peer. If no other peer uses its session, the session ends with AdminDown.
    fn remove(&mut self, peer: &str) {
        let Some(PeerBfd { path, .. }) = self.peers.remove(peer) else {
            return;
        };
        if self.peers.values().any(|other| other.path == path) {
            return;
        }
        let time = self.status(path).map(|status| status.remote_detection_time);
        if let Some(session) = self.sessions.get_mut(&path) {
            session.admin_down_until = Some(Instant::now() + time.unwrap_or_default());
        }
        self.feed(Input::AdminDown { path });
    }

    fn remove_finished(&mut self) {
        let now = Instant::now();
        let bfd = &mut self.bfd;
        self.sessions.retain(|path, session| {
            let departed = session.admin_down_until.is_some_and(|until| until <= now);
            if departed {
                bfd.handle(now.into_std(), Input::Remove { path: *path });
            }
            !departed
        });
        // Release unused ports to other programs on the host.
        let sessions = &self.sessions;
        self.receivers.retain(|(hops, ipv4), _| {
            let mut paths = sessions.keys();
            paths.any(|path| (path.hops, path.remote.is_ipv4()) == (*hops, *ipv4))
        });
    }

    fn status(&self, path: Path) -> Option<SessionStatus> {
        self.bfd.status().find(|status| status.path == path)
    }

    /// Moves sessions to interfaces that were deleted and created again. Such an interface has a
    /// new index, and sockets bound to the old one reach no peer. A session that was Up fails
    /// first.
    fn rebind_interfaces(&mut self) {
        let moved = self.peers.iter().filter(|(_, used)| {
            let interface = used.target.interface.as_deref();
            let number = interface.and_then(|name| interface_index(name).ok());
            let status = self.status(used.path);
            let down = status.is_some_and(|s| matches!(s.state, State::Down | State::Init));
            number.is_some() && number != used.path.interface && down
        });
        let moved = moved.map(|(peer, used)| (peer.clone(), used.target.clone()));
        for (peer, target) in moved.collect::<Vec<_>>() {
            match self.prepare(&target) {
                Ok(path) => self.watch(peer, path, target),
                // Retried with the next status: its addresses may still be missing.
                Err(error) => debug!(%peer, "cannot bind BFD to the new interface yet: {error}"),
            }
        }
    }

    fn report_status(&mut self) {
        if self.last_status + STATUS_INTERVAL > Instant::now() {
            return;
        }
        self.last_status = Instant::now();
        self.events.flush();
        self.rebind_interfaces();
        let all: Vec<SessionStatus> = self.bfd.status().collect();
        for status in all {
            self.report(status.path, &BfdEvent::Status(status));
        }
    }

    fn set_timer(&mut self) {
        let admin_down_until = self
            .sessions
            .values()
            .filter_map(|session| session.admin_down_until);
        let due = self.bfd.poll_timeout().map(Instant::from_std);
        self.timer.set(admin_down_until.chain(due).min());
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests;
