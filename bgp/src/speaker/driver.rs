//! The loop of the BGP thread: transfers octets, timers and commands between the sockets and
//! [`Speaker`]. It contains no BGP logic.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::AdvertisedRoute;
use super::bfd::{self, BfdThread};
use super::capture::{self, Capture};
use super::convergence::Histograms;
use super::events::EventSender;
use super::listener::{Accepted, Listeners};
use super::log::{self, Addresses};
use super::md5_drops::Dials;
use super::monitor::{self, Monitor};
use super::socket::{Progress, SetupError, Socket, Written};
use super::taps::{Queue, Scope, Taps};
use super::timer::Timer;
use crate::fsm::{
    ConnectionId, Input, IoFailure, OtherPaths, Output, PeerDetail, PeerRoutes, PeerStatus,
    ShutdownMode, Speaker,
};
use crate::rib::Route;

/// Maximum number of octets for one read or one [`Speaker::poll_transmit`].
const CHUNK: usize = 64 * 1024;
/// Maximum number of chunks written to one socket in a turn.
const CHUNKS_PER_TURN: usize = 16;
/// Maximum number of connections accepted in a turn. More than one, so that connections from
/// unknown addresses do not fill the kernel's queue.
const ACCEPTS_PER_TURN: usize = 16;
/// Maximum number of commands processed in a turn.
const COMMANDS_PER_TURN: usize = 64;

/// A command of a [`Handle`](super::Handle).
#[derive(Debug)]
pub(super) enum Command {
    Input(Input),
    /// Routes that follow from a change that was seen at this time.
    Routes(std::time::Instant, Vec<PeerRoutes>),
    Status(oneshot::Sender<Vec<PeerStatus>>),
    OtherPaths(oneshot::Sender<Vec<OtherPaths>>),
    Peer(String, oneshot::Sender<Option<Box<PeerDetail>>>),
    Advertised(String, oneshot::Sender<Vec<AdvertisedRoute>>),
    Capture(String, oneshot::Sender<Option<Capture>>),
    Monitor(oneshot::Sender<Monitor>),
}

pub(super) struct Driver {
    speaker: Speaker,
    sockets: BTreeMap<ConnectionId, Socket>,
    listeners: Listeners,
    commands: mpsc::Receiver<Command>,
    /// All handles were dropped.
    orphaned: bool,
    events: EventSender,
    timer: Timer,
    addresses: Addresses,
    accepted: u64,
    buffer: Vec<u8>,
    bfd: BfdThread,
    dials: Dials,
    histograms: Arc<Histograms>,
    taps: Taps,
    stopped: bool,
}

impl Driver {
    pub(super) fn new(
        speaker: Speaker,
        listeners: Listeners,
        commands: mpsc::Receiver<Command>,
        events: EventSender,
    ) -> Self {
        Self {
            speaker,
            sockets: BTreeMap::new(),
            listeners,
            commands,
            orphaned: false,
            events,
            timer: Timer::default(),
            addresses: Addresses::new(),
            accepted: 0,
            buffer: vec![0; CHUNK],
            bfd: BfdThread::default(),
            dials: Dials::default(),
            histograms: Arc::default(),
            taps: Taps::default(),
            stopped: false,
        }
    }

    /// Counter of BFD packets that matched no session.
    pub(super) fn bfd_packets_without_session(&self) -> Arc<AtomicU64> {
        self.bfd.packets_without_session()
    }

    /// How long changes take to reach the peers.
    pub(super) fn histograms(&self) -> Arc<Histograms> {
        self.histograms.clone()
    }

    /// Runs until the state machine has stopped.
    pub(super) async fn run(self) {
        // Tokio's task budget makes all resources return Pending after 128 operations of a task:
        // with more busy sockets the remaining ones, the timer and the commands would starve. Each
        // turn has its own limits and ends with a yield.
        tokio::task::unconstrained(self.run_turns()).await;
    }

    async fn run_turns(mut self) {
        let mut more = false;
        while !self.stopped {
            let due = std::future::poll_fn(|cx| self.poll(cx, more)).await;
            if due && self.speaker.poll_timeout().is_some_and(|at| at <= now()) {
                self.on_timeout().await;
            }
            more = self.write_all();
            let deadlines = [self.speaker.poll_timeout(), self.look()];
            let deadline = deadlines.into_iter().flatten().min();
            self.timer.set(deadline.map(Instant::from_std));
            // The runtime polls the kernel for sockets and timers only during a yield.
            tokio::task::yield_now().await;
        }
    }

    /// Processes a due timer. The sockets are read first, so that our own delay does not expire a
    /// hold timer: after a pause (SIGSTOP, a suspended host) the runtime may fire timers before it
    /// polls the kernel for received octets, which it does during a yield.
    async fn on_timeout(&mut self) {
        tokio::task::yield_now().await;
        std::future::poll_fn(|cx| {
            self.poll_sockets(cx);
            Poll::Ready(())
        })
        .await;
        // A dial may be about to time out: pass on the reason first.
        self.report_md5_drops();
        self.feed(Input::Timeout);
    }

    /// Looks where acknowledgements are due. Returns when the next ones are.
    fn look(&mut self) -> Option<std::time::Instant> {
        let due = |socket: &Socket| socket.changes().look();
        self.sockets.values().find_map(due)?;
        let now = now();
        let sockets = self.sockets.values_mut();
        sockets
            .filter_map(|socket| socket.look(now, &self.histograms))
            .min()
    }

    fn report_md5_drops(&mut self) {
        for input in self.dials.new_drops() {
            self.feed(input);
        }
    }

    /// One turn: serves each source of inputs once. Ready if there was an input, or if there is
    /// `more` to write (a writable socket causes no wakeup). Returns whether the timer is due.
    fn poll(&mut self, cx: &mut Context<'_>, more: bool) -> Poll<bool> {
        let mut any = more;
        any |= self.events.poll_drained(cx);
        any |= self.poll_sockets(cx);
        any |= self.poll_commands(cx);
        while let Poll::Ready((peer, event)) = self.bfd.poll_event(cx) {
            any = true;
            self.feed(Input::Bfd { peer, event });
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let Poll::Ready(accepted) = self.listeners.poll_accept(cx) else {
                break;
            };
            any = true;
            self.accept(accepted);
        }
        let due = self.timer.poll(cx);
        if any || due {
            Poll::Ready(due)
        } else {
            Poll::Pending
        }
    }

    /// Polls each socket once.
    fn poll_sockets(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        let ids: Vec<ConnectionId> = self.sockets.keys().copied().collect();
        for id in ids {
            // An input from another connection may have closed this one.
            let Some(socket) = self.sockets.get_mut(&id) else {
                continue;
            };
            if let Poll::Ready(progress) = socket.poll(cx, &mut self.buffer) {
                any = true;
                if let Progress::Read(octets) = &progress {
                    self.events.begin_read(octets.len(), socket.backlog());
                }
                self.progress(id, progress);
                self.events.end_read();
            }
        }
        any
    }

    fn progress(&mut self, connection: ConnectionId, progress: Progress) {
        let input = match progress {
            Progress::Connected { local, remote } => Input::Connected {
                connection,
                local,
                remote,
            },
            Progress::Failed(error) => Input::ConnectFailed {
                connection,
                error: error.into(),
            },
            Progress::Read(octets) => return self.received(connection, octets),
            Progress::Ended(error) => Input::Closed {
                connection,
                error: error.map(IoFailure::from),
            },
            // `write_all` continues.
            Progress::Writable => return,
        };
        self.feed(input);
    }

    fn received(&mut self, connection: ConnectionId, octets: Bytes) {
        let captured = (!self.taps.is_empty()).then(|| octets.clone());
        if captured.is_some() {
            self.taps.note(&self.speaker, connection);
        }
        self.feed(Input::Received { connection, octets });
        if let Some(octets) = captured {
            self.taps.received(&self.speaker, connection, &octets);
        }
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        for _ in 0..COMMANDS_PER_TURN {
            if self.orphaned {
                break;
            }
            match self.commands.poll_recv(cx) {
                Poll::Ready(Some(command)) => self.command(command),
                // Without a shutdown command the owner has failed and will restart. Peers with
                // graceful restart retain the routes until then.
                Poll::Ready(None) => {
                    self.orphaned = true;
                    self.feed(Input::Shutdown {
                        text: String::new(),
                        mode: ShutdownMode::GracefulRestart,
                    });
                }
                Poll::Pending => break,
            }
            any = true;
        }
        any
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Input(input) => {
                if let Input::SetPeer(config) = &input {
                    let address = config.address_text();
                    self.addresses.insert(config.name.clone(), address);
                }
                let removed = match &input {
                    Input::RemovePeer(name) => Some(name.clone()),
                    _ => None,
                };
                self.feed(input);
                if let Some(name) = removed {
                    self.addresses.remove(&name);
                }
            }
            Command::Routes(seen, routes) => {
                self.feed(Input::Routes(routes));
                for socket in self.sockets.values_mut() {
                    socket.changes_mut().changed(seen);
                }
            }
            // The receiver of an answer may have been dropped.
            Command::Status(answer) => {
                drop(answer.send(self.speaker.status(now())));
            }
            Command::OtherPaths(answer) => drop(answer.send(self.speaker.other_paths())),
            Command::Peer(name, answer) => {
                drop(answer.send(self.speaker.peer(now(), &name).map(Box::new)));
            }
            Command::Capture(peer, answer) => {
                let known = self.speaker.peer(now(), &peer).is_some();
                let tap = known.then(|| self.tap(Scope::Peer(peer), capture::QUEUE_MAX));
                drop(answer.send(tap.map(Capture)));
            }
            Command::Monitor(answer) => {
                let queue = self.tap(Scope::Monitor, monitor::QUEUE_MAX);
                let sessions = self.speaker.sessions_up();
                drop(answer.send(Monitor { sessions, queue }));
            }
            Command::Advertised(peer, answer) => {
                let now = now();
                let routes = self.speaker.advertised(now, &peer);
                let routes = routes.map(|advertised| AdvertisedRoute {
                    prefix: advertised.prefix,
                    route: Route::clone(advertised.route),
                    age: now.saturating_duration_since(advertised.sent),
                });
                let routes = routes.collect();
                drop(answer.send(routes));
            }
        }
    }

    /// Begins to copy messages.
    fn tap(&mut self, scope: Scope, max: usize) -> Queue {
        let (sender, queue) = Queue::new(max);
        let connections = self.sockets.keys().copied();
        self.taps.begin(scope, sender, &self.speaker, connections);
        queue
    }

    fn accept(&mut self, accepted: Accepted) {
        match accepted {
            Accepted::Socket {
                socket,
                local,
                remote,
            } => {
                let connection = ConnectionId::Accepted(self.accepted);
                self.accepted += 1;
                self.sockets.insert(connection, socket);
                self.feed(Input::Accepted {
                    connection,
                    local,
                    remote,
                });
            }
            Accepted::Unknown(remote) => {
                debug!(%remote, "connection rejected: no peer is configured with this address");
            }
            Accepted::Failed(Some(remote), error) => {
                warn!(%remote, "connection rejected: {error}");
            }
            Accepted::Failed(None, error) => {
                warn!("cannot accept connections, retrying in 1 s: {error}");
            }
        }
    }

    /// Passes an input to the state machine and executes all resulting outputs.
    fn feed(&mut self, input: Input) {
        match &input {
            Input::ConnectFailed { connection, .. } => {
                let connection = *connection;
                self.report_md5_drops();
                self.dials.end(connection);
            }
            Input::Connected { connection, .. } => self.dials.end(*connection),
            _ => {}
        }
        log::input(&input);
        self.speaker.handle(now(), input);
        self.drain();
    }

    fn drain(&mut self) {
        let mut failures = Vec::new();
        while let Some(output) = self.speaker.poll_output() {
            failures.extend(self.execute(output));
        }
        for failure in failures {
            self.feed(failure);
        }
    }

    /// Executes an output. Returns the input that reports its failure.
    fn execute(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Connect {
                connection,
                peer,
                remote,
                source,
                options,
            } => {
                debug!(%peer, address = %remote, "dialing");
                match Socket::dial(remote, source, &options) {
                    Ok(socket) => {
                        self.dials.begin(connection);
                        self.sockets.insert(connection, socket);
                    }
                    Err(SetupError::Io(error)) => {
                        let error = error.into();
                        return Some(Input::ConnectFailed { connection, error });
                    }
                    Err(error) => return Some(unusable(peer, &remote, &error)),
                }
            }
            Output::Listen {
                peer,
                remote,
                scope,
                options,
            } => {
                let error = self.listeners.allow(remote, scope, options).err()?;
                return Some(unusable(peer, &remote, &error));
            }
            Output::Unlisten { remote, scope } => self.listeners.disallow(remote, scope),
            Output::BfdSet { peer, target } => {
                return self.bfd.command(peer, bfd::Command::Set(target));
            }
            Output::BfdRemove { peer } => return self.bfd.command(peer, bfd::Command::Remove),
            Output::BfdAdminDown { peer } => {
                return self.bfd.command(peer, bfd::Command::AdminDown);
            }
            Output::Rekey {
                connection,
                peer,
                remote,
                password,
            } => {
                let socket = self.sockets.get(&connection)?;
                let error = socket.rekey(remote, &password).err()?;
                return Some(unusable(peer, &remote, &error));
            }
            Output::Finish { connection } => self.sockets.get_mut(&connection)?.finish(),
            Output::Close { connection } => {
                self.dials.end(connection);
                self.taps.closed(connection);
                self.sockets.remove(&connection);
            }
            Output::Event(event) => {
                log::event(&event, &self.addresses);
                self.taps.event(&self.speaker, &event);
                self.events.send(event);
            }
            Output::Stopped => self.stopped = true,
        }
        None
    }

    /// Writes to every writable socket. Returns whether one may accept more at once.
    fn write_all(&mut self) -> bool {
        let ids: Vec<ConnectionId> = self
            .sockets
            .iter()
            .filter(|(_, s)| !s.blocked())
            .map(|(id, _)| *id)
            .collect();
        let mut more = false;
        for id in ids {
            match self.write(id) {
                Ok(true) => more = true,
                Ok(false) => {}
                Err(error) => {
                    let error = Some(IoFailure::from(error));
                    self.feed(Input::Closed {
                        connection: id,
                        error,
                    });
                }
            }
        }
        more
    }

    fn write(&mut self, id: ConnectionId) -> io::Result<bool> {
        for _ in 0..CHUNKS_PER_TURN {
            let Some(socket) = self.sockets.get_mut(&id) else {
                return Ok(false);
            };
            let mut octets = None;
            if socket.wants_octets() {
                let now = now();
                octets = self.speaker.poll_transmit(now, id, CHUNK);
                let Some(octets) = &octets else {
                    socket.all_written(now, &self.histograms);
                    socket.all_sent();
                    // These may have been the last octets of a session that ends.
                    self.drain();
                    return Ok(self.sockets.get(&id).is_some_and(Socket::is_finishing));
                };
                socket.changes_mut().sends(octets);
                if !self.taps.is_empty() {
                    self.taps.sent(&self.speaker, id, octets);
                }
            }
            if socket.write(octets)? == Written::Blocked {
                break;
            }
        }
        self.drain();
        Ok(self
            .sockets
            .get(&id)
            .is_some_and(|socket| !socket.blocked() && socket.wants_octets()))
    }
}

/// Stops a peer whose socket options cannot be set: it never runs without them.
fn unusable(peer: String, remote: &dyn Display, error: &SetupError) -> Input {
    error!(%peer, address = %remote, "peer stopped until it is configured again: {error}");
    let reason = error.to_string();
    Input::PeerUnusable { peer, reason }
}

/// The runtime's clock, which tests can pause.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::PeerConfig;
    use crate::fsm::SpeakerConfig;
    use crate::wire::Asn;

    #[tokio::test]
    async fn the_address_of_a_removed_peer_is_removed() {
        let speaker = Speaker::new(SpeakerConfig {
            router_id_fallback: Ipv4Addr::LOCALHOST,
            seed: 1,
            host_uptime: None,
        });
        let (_commands, commands) = mpsc::channel(1);
        let (events, _events) = EventSender::new();
        let listeners = Listeners::new(Vec::new()).expect("no listeners");
        let mut driver = Driver::new(speaker, listeners, commands, events);
        let remote: std::net::SocketAddr = "127.0.0.2:1".parse().expect("an address");
        let mut config = PeerConfig::new("a", remote, Asn(65001), Asn(65002));
        config.transport.passive = true;
        let mut command = |input| {
            driver.command(Command::Input(input));
            driver.addresses.len()
        };
        assert_eq!(command(Input::SetPeer(config)), 1);
        assert_eq!(command(Input::RemovePeer("a".to_owned())), 0);
    }
}
