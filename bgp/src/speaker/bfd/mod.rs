//! BFD's driver: a thread of its own, so that encoding a million routes can't delay a packet.
//!
//! It begins with the first session. Ports 3784 and 4784 are bound as long as a session needs them and
//! belong to one program on a host: where another BFD speaker has them, the peers with BFD are
//! told so, and the others don't notice.

mod datagram;
mod outbox;
mod thread;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::{debug, warn};

use self::datagram::{Datagram, Receiver, Sender};
use self::outbox::{Merge, Outbox};
pub(super) use self::thread::BfdThread;
pub(super) use self::thread::Command;
use self::thread::News;
use super::sockopt::interface_index;
use crate::bfd::{Arrival, Bfd, Hops, Input, Path, SOURCE_PORTS, SessionStatus, State};
use crate::fsm::{BfdEvent, BfdTarget};

impl Merge for BfdEvent {
    /// A failure is what the session of BGP must not miss. How BFD is now, the next status says.
    fn merge(self, later: Self) -> Self {
        match &self {
            Self::Failed { .. } => self,
            Self::Changed { change, .. } if change.is_failure() => self,
            Self::Changed { .. } | Self::Status(_) => later,
        }
    }
}

/// How often a peer is told how its session is, beside changes.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Datagrams taken from a socket before the timers have their turn. More than all sessions send
/// while the thread is held up: what lies in the socket must not be taken for silence.
const DATAGRAMS_PER_TURN: usize = 4096;

/// Senders of packets that belong to no session are logged once each, and so many of them: their
/// addresses cost nothing to forge.
const STRANGERS_LOGGED: usize = 64;

/// Who wants to be watched over, and on which path.
#[derive(Debug)]
struct Watched {
    path: Path,
    target: BfdTarget,
}

/// A session, and whether anybody wants it.
#[derive(Debug)]
struct Session {
    sender: Sender,
    /// Nobody left: AdminDown until then.
    leaving: Option<Instant>,
}

struct Driver {
    bfd: Bfd,
    rng: fastrand::Rng,
    peers: BTreeMap<String, Watched>,
    sessions: BTreeMap<Path, Session>,
    receivers: BTreeMap<(Hops, bool), Receiver>,
    commands: mpsc::Receiver<(String, Command)>,
    news: Outbox<BfdEvent>,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    told: Instant,
    /// Packets that belong to no session, for whoever reads metrics.
    without_session: Arc<AtomicU64>,
    /// Senders of such packets that were logged.
    logged: BTreeSet<IpAddr>,
    ended: bool,
}

impl Driver {
    fn new(
        commands: mpsc::Receiver<(String, Command)>,
        news: mpsc::Sender<News>,
        without_session: Arc<AtomicU64>,
    ) -> Self {
        // Discriminators are not to be guessed, so this seed comes from outside.
        let mut rng = fastrand::Rng::new();
        Self {
            bfd: Bfd::new(rng.u64(..)),
            rng,
            peers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            receivers: BTreeMap::new(),
            commands,
            news: Outbox::new(news),
            timer: None,
            told: Instant::now(),
            without_session,
            logged: BTreeSet::new(),
            ended: false,
        }
    }

    async fn run(self) {
        // Tokio lets a task ask for 128 things in a turn, and turns it away for the rest of it: who
        // sends us more datagrams than that would keep our timer from ever being looked at. Each
        // turn bounds itself, and yields.
        tokio::task::unconstrained(self.turns()).await;
    }

    async fn turns(mut self) {
        while !self.ended {
            std::future::poll_fn(|cx| self.poll(cx)).await;
            self.forget_departed();
            self.tell_status();
            self.set_timer();
            // Only meanwhile does the runtime look for news of sockets and timers.
            tokio::task::yield_now().await;
        }
    }

    /// Does whatever there is to do. Datagrams come before the timer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut any = self.poll_datagrams(cx);
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            any = true;
            match command {
                Some((peer, Command::Set(target))) => self.set(peer, target),
                Some((peer, Command::Remove)) => self.remove(&peer),
                Some((peer, Command::AdminDown)) => {
                    if let Some(path) = self.peers.get(&peer).map(|watched| watched.path) {
                        self.feed(Input::AdminDown { path });
                    }
                }
                None => {
                    self.ended = true;
                    break;
                }
            }
        }
        if let Some((_, sleep)) = &mut self.timer
            && sleep.as_mut().poll(cx).is_ready()
        {
            self.timer = None;
            any = true;
            self.time_out();
        }
        if any { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_datagrams(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        let receivers = std::mem::take(&mut self.receivers);
        for ((hops, _), receiver) in &receivers {
            for _ in 0..DATAGRAMS_PER_TURN {
                let Poll::Ready(datagram) = receiver.poll(cx) else {
                    break;
                };
                any = true;
                self.received(now(), *hops, datagram);
            }
        }
        self.receivers = receivers;
        any
    }

    /// Judges who was silent, as of a moment whose datagrams have all been read. This thread may
    /// have been held up at any point: then what lies in the sockets is unread and the runtime
    /// hasn't noticed it either, but nobody was silent.
    fn time_out(&mut self) {
        let now = now();
        let receivers = std::mem::take(&mut self.receivers);
        for ((hops, _), receiver) in &receivers {
            for _ in 0..DATAGRAMS_PER_TURN {
                let Some(datagram) = receiver.take() else {
                    break;
                };
                self.received(now, *hops, datagram);
            }
        }
        self.receivers = receivers;
        self.feed_at(now, Input::Timeout);
    }

    fn received(&mut self, now: std::time::Instant, hops: Hops, datagram: io::Result<Datagram>) {
        let datagram = match datagram {
            Ok(datagram) => datagram,
            Err(error) => {
                debug!("a datagram of BFD came to nothing: {error}");
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
            self.report_stranger(datagram.remote);
        }
    }

    fn report_stranger(&mut self, remote: IpAddr) {
        self.without_session.fetch_add(1, Ordering::Relaxed);
        if self.logged.len() < STRANGERS_LOGGED && self.logged.insert(remote) {
            let reason = self.bfd.without_session().last;
            let reason = reason.map(|reason| reason.to_string()).unwrap_or_default();
            warn!(
                address = %remote,
                "BFD packet dropped: {reason}; give the BGPPeer of this router a bfdProfile, or \
                 turn BFD off at the router (packets from there are only counted from now on)"
            );
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        self.feed_at(now(), input);
    }

    /// One input, full drain.
    fn feed_at(&mut self, now: std::time::Instant, input: Input<'_>) {
        self.bfd.handle(now, input);
        while let Some(change) = self.bfd.poll_output() {
            let status = self.bfd.status().find(|status| status.path == change.path);
            if let Some(status) = status {
                self.tell(change.path, &BfdEvent::Changed { change, status });
            }
        }
        while let Some(transmit) = self.bfd.poll_transmit(now) {
            if let Some(session) = self.sessions.get(&transmit.path)
                && let Err(error) = session.sender.send(&transmit.octets)
            {
                // Lost like any other; if the path is dead, the silence tells.
                debug!(peer = %transmit.path.remote, "can't send to a BFD peer: {error}");
            }
        }
    }

    fn tell(&mut self, path: Path, news: &BfdEvent) {
        let peers = self.peers.iter();
        for (peer, _) in peers.filter(|(_, watched)| watched.path == path) {
            match news {
                BfdEvent::Status(_) => self.news.send_if_idle(peer, news.clone()),
                BfdEvent::Changed { .. } | BfdEvent::Failed { .. } => {
                    self.news.send(peer.clone(), news.clone());
                }
            }
        }
    }

    fn set(&mut self, peer: String, target: BfdTarget) {
        let path = match self.prepare(&target) {
            Ok(path) => path,
            Err(error) => {
                warn!(%peer, address = %target.remote, "no BFD: {error}");
                let reason = error.to_string();
                self.news.send(peer, BfdEvent::Failed { reason });
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
        self.peers.insert(peer, Watched { path, target });
        self.feed(Input::Set { path, config });
        let back = self
            .sessions
            .get_mut(&path)
            .is_some_and(|session| session.leaving.take().is_some());
        if back
            || self
                .status(path)
                .is_some_and(|s| s.state == State::AdminDown)
        {
            self.feed(Input::AdminUp { path });
        }
        if let Some(status) = self.status(path) {
            self.tell(path, &BfdEvent::Status(status));
        }
    }

    /// Everything a session needs from the kernel.
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
            let leaving = None;
            self.sessions.insert(path, Session { sender, leaving });
        }
        Ok(path)
    }

    /// The peer has no more use for its session: without anybody else who has, it ends in order.
    fn remove(&mut self, peer: &str) {
        let Some(Watched { path, .. }) = self.peers.remove(peer) else {
            return;
        };
        if self.peers.values().any(|other| other.path == path) {
            return;
        }
        let time = self.status(path).map(|status| status.remote_detection_time);
        if let Some(session) = self.sessions.get_mut(&path) {
            session.leaving = Some(Instant::now() + time.unwrap_or_default());
        }
        self.feed(Input::AdminDown { path });
    }

    fn forget_departed(&mut self) {
        let now = Instant::now();
        let bfd = &mut self.bfd;
        self.sessions.retain(|path, session| {
            let departed = session.leaving.is_some_and(|until| until <= now);
            if departed {
                bfd.handle(now.into_std(), Input::Remove { path: *path });
            }
            !departed
        });
        // Another program on the host may have the ports now.
        let sessions = &self.sessions;
        self.receivers.retain(|(hops, ipv4), _| {
            let mut paths = sessions.keys();
            paths.any(|path| (path.hops, path.remote.is_ipv4()) == (*hops, *ipv4))
        });
    }

    fn status(&self, path: Path) -> Option<SessionStatus> {
        self.bfd.status().find(|status| status.path == path)
    }

    /// An interface that was deleted and made again is another one by its number: what is bound to
    /// the old one reaches nobody any more. What was up is told as lost first.
    fn bind_again(&mut self) {
        let moved = self.peers.iter().filter(|(_, watched)| {
            let interface = watched.target.interface.as_deref();
            let number = interface.and_then(|name| interface_index(name).ok());
            let status = self.status(watched.path);
            let down = status.is_some_and(|s| matches!(s.state, State::Down | State::Init));
            number.is_some() && number != watched.path.interface && down
        });
        let moved = moved.map(|(peer, watched)| (peer.clone(), watched.target.clone()));
        for (peer, target) in moved.collect::<Vec<_>>() {
            match self.prepare(&target) {
                Ok(path) => self.watch(peer, path, target),
                // Its addresses may still be missing.
                Err(error) => debug!(%peer, "BFD can't be bound to the new interface yet: {error}"),
            }
        }
    }

    fn tell_status(&mut self) {
        if self.told + STATUS_INTERVAL > Instant::now() {
            return;
        }
        self.told = Instant::now();
        self.news.flush();
        self.bind_again();
        let all: Vec<SessionStatus> = self.bfd.status().collect();
        for status in all {
            self.tell(status.path, &BfdEvent::Status(status));
        }
    }

    fn set_timer(&mut self) {
        let leaving = self.sessions.values().filter_map(|session| session.leaving);
        let due = self.bfd.poll_timeout().map(Instant::from_std);
        let wanted = leaving.chain(due).min();
        if wanted == self.timer.as_ref().map(|(at, _)| *at) {
            return;
        }
        self.timer = wanted.map(|at| (at, Box::pin(sleep_until(at))));
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests;
