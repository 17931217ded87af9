//! The loop between sockets and the machine. It knows no BGP.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::{debug, error, warn};

use super::AdvertisedRoute;
use super::bfd::{self, BfdThread};
use super::events::Teller;
use super::listener::{Accepted, Listeners};
use super::log::{self, Addresses};
use super::md5_drops::Dials;
use super::socket::{Progress, SetupError, Socket, Written};
use crate::fsm::{
    ConnectionId, Event, Input, IoFailure, OtherPaths, Output, PeerDetail, PeerStatus,
    ShutdownMode, Speaker,
};
use crate::rib::Route;

/// Octets read, or taken from the machine, at a time.
const CHUNK: usize = 64 * 1024;
/// Chunks written to one socket before the others have their turn.
const CHUNKS_PER_TURN: usize = 16;
/// Connections accepted before the sockets have their turn: strangers must not fill the queue that
/// peers wait in.
const ACCEPTS_PER_TURN: usize = 16;
/// Commands taken before the sockets have their turn.
const COMMANDS_PER_TURN: usize = 64;

/// What a [`Handle`](super::Handle) asks for.
#[derive(Debug)]
pub(super) enum Command {
    Input(Input),
    Status(oneshot::Sender<Vec<PeerStatus>>),
    OtherPaths(oneshot::Sender<Vec<OtherPaths>>),
    Peer(String, oneshot::Sender<Option<Box<PeerDetail>>>),
    Advertised(String, oneshot::Sender<Vec<AdvertisedRoute>>),
}

pub(super) struct Driver {
    speaker: Speaker,
    sockets: BTreeMap<ConnectionId, Socket>,
    listeners: Listeners,
    commands: mpsc::Receiver<Command>,
    /// All handles are gone.
    orphaned: bool,
    events: Teller,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    addresses: Addresses,
    accepted: u64,
    buffer: Vec<u8>,
    bfd: BfdThread,
    dials: Dials,
    stopped: bool,
}

impl Driver {
    pub(super) fn new(
        speaker: Speaker,
        listeners: Listeners,
        commands: mpsc::Receiver<Command>,
        events: Teller,
    ) -> Self {
        Self {
            speaker,
            sockets: BTreeMap::new(),
            listeners,
            commands,
            orphaned: false,
            events,
            timer: None,
            addresses: Addresses::new(),
            accepted: 0,
            buffer: vec![0; CHUNK],
            bfd: BfdThread::default(),
            dials: Dials::default(),
            stopped: false,
        }
    }

    /// Counts BFD packets that belong to no session.
    pub(super) fn bfd_packets_without_session(&self) -> Arc<AtomicU64> {
        self.bfd.packets_without_session()
    }

    /// Runs until the machine says that it has stopped.
    pub(super) async fn run(self) {
        // Tokio lets a task ask for 128 things before it has to yield, and turns it away for the
        // rest of its turn: with more busy sockets than that some would starve, and the timer and
        // the commands behind them. Each turn bounds itself, and yields.
        tokio::task::unconstrained(self.turns()).await;
    }

    async fn turns(mut self) {
        let mut more = false;
        while !self.stopped {
            let due = std::future::poll_fn(|cx| self.poll(cx, more)).await;
            if due {
                self.time_out().await;
            }
            more = self.write_all();
            self.set_timer();
            // Only meanwhile does the runtime look for news of sockets and timers.
            tokio::task::yield_now().await;
        }
    }

    /// The timer's time has come. Octets come first, so that a late look at a socket is not taken for
    /// a silent peer: after a pause (SIGSTOP, a suspended machine) the runtime may fire its timers
    /// before it asks the kernel what arrived meanwhile, and asks when everybody has yielded.
    async fn time_out(&mut self) {
        tokio::task::yield_now().await;
        std::future::poll_fn(|cx| {
            self.poll_sockets(cx);
            Poll::Ready(())
        })
        .await;
        // One of the timers may be that of a dial.
        self.tell_md5_drops();
        self.feed(Input::Timeout);
    }

    fn tell_md5_drops(&mut self) {
        for input in self.dials.news() {
            self.feed(input);
        }
    }

    /// One turn: everybody who has something is served once. Ready if there was anything, or `more`
    /// is to be written (a socket that takes whatever it is given wakes nobody); with whether the
    /// timer's time has come.
    fn poll(&mut self, cx: &mut Context<'_>, more: bool) -> Poll<bool> {
        let mut any = more;
        any |= self.events.poll_caught_up(cx);
        any |= self.poll_sockets(cx);
        any |= self.poll_commands(cx);
        while let Poll::Ready((peer, event)) = self.bfd.poll_news(cx) {
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
        let mut due = false;
        if let Some((_, sleep)) = &mut self.timer
            && sleep.as_mut().poll(cx).is_ready()
        {
            self.timer = None;
            due = true;
        }
        if any || due {
            Poll::Ready(due)
        } else {
            Poll::Pending
        }
    }

    /// Looks once at each socket there is.
    fn poll_sockets(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        let ids: Vec<ConnectionId> = self.sockets.keys().copied().collect();
        for id in ids {
            // What another one said may have been the end of this one.
            let Some(socket) = self.sockets.get_mut(&id) else {
                continue;
            };
            if let Poll::Ready(progress) = socket.poll(cx, &mut self.buffer) {
                any = true;
                if let Progress::Read(octets) = &progress {
                    self.events.begin(octets.len(), socket.unread());
                }
                self.progress(id, progress);
                self.events.end();
            }
        }
        any
    }

    fn progress(&mut self, connection: ConnectionId, progress: Progress) {
        self.feed(match progress {
            Progress::Connected { local, remote } => Input::Connected {
                connection,
                local,
                remote,
            },
            Progress::Failed(error) => Input::ConnectFailed {
                connection,
                error: error.into(),
            },
            Progress::Read(octets) => Input::Received { connection, octets },
            Progress::Ended(error) => Input::Closed {
                connection,
                error: error.map(IoFailure::from),
            },
            // Only the writing side has something to do.
            Progress::Writable => return,
        });
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        for _ in 0..COMMANDS_PER_TURN {
            if self.orphaned {
                break;
            }
            match self.commands.poll_recv(cx) {
                Poll::Ready(Some(command)) => self.command(command),
                // An owner that means to withdraw says so. One that is gone without a word has failed
                // and will be started again: peers with graceful restart keep the routes until then.
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
                    self.addresses.insert(config.name.clone(), config.remote);
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
            // Whoever asked may have gone meanwhile.
            Command::Status(answer) => {
                drop(answer.send(self.speaker.status(now())));
            }
            Command::OtherPaths(answer) => drop(answer.send(self.speaker.other_paths())),
            Command::Peer(name, answer) => {
                drop(answer.send(self.speaker.peer(now(), &name).map(Box::new)));
            }
            Command::Advertised(peer, answer) => {
                let now = now();
                let routes = self.speaker.advertised(now, &peer);
                let routes = routes.map(|told| AdvertisedRoute {
                    prefix: told.prefix,
                    route: Route::clone(told.route),
                    age: now.saturating_duration_since(told.sent),
                });
                let routes = routes.collect();
                drop(answer.send(routes));
            }
        }
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
            Accepted::Unexpected(remote) => {
                debug!(%remote, "connection turned away: no peer is configured with this address");
            }
            Accepted::Failed(remote, error) => warn!(?remote, "can't accept: {error}"),
        }
    }

    /// One input, full drain; then what came of the outputs, in the same way.
    fn feed(&mut self, input: Input) {
        match &input {
            Input::ConnectFailed { connection, .. } => {
                let connection = *connection;
                self.tell_md5_drops();
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
        let mut answers = Vec::new();
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Connect {
                    connection,
                    peer,
                    remote,
                    source,
                    options,
                } => {
                    debug!(%peer, address = %remote, "dialling");
                    match Socket::dial(remote, source, &options) {
                        Ok(socket) => {
                            self.dials.begin(connection);
                            self.sockets.insert(connection, socket);
                        }
                        Err(SetupError::Io(error)) => {
                            let error = error.into();
                            answers.push(Input::ConnectFailed { connection, error });
                        }
                        Err(error) => answers.push(unusable(peer, &remote, &error)),
                    }
                }
                Output::Listen {
                    peer,
                    remote,
                    options,
                } => {
                    if let Err(error) = self.listeners.expect(remote, options) {
                        answers.push(unusable(peer, &remote, &error));
                    }
                }
                Output::Unlisten { remote } => self.listeners.forget(remote),
                Output::BfdSet { peer, target } => {
                    answers.extend(self.bfd.command(peer, bfd::Command::Set(target)));
                }
                Output::BfdRemove { peer } => {
                    answers.extend(self.bfd.command(peer, bfd::Command::Remove));
                }
                Output::BfdAdminDown { peer } => {
                    answers.extend(self.bfd.command(peer, bfd::Command::AdminDown));
                }
                Output::Rekey {
                    connection,
                    peer,
                    remote,
                    password,
                } => {
                    let socket = self.sockets.get(&connection);
                    if let Some(Err(error)) = socket.map(|socket| socket.rekey(remote, &password)) {
                        answers.push(unusable(peer, &remote, &error));
                    }
                }
                Output::Finish { connection } => {
                    if let Some(socket) = self.sockets.get_mut(&connection) {
                        socket.finish();
                    }
                }
                Output::Close { connection } => {
                    self.dials.end(connection);
                    self.sockets.remove(&connection);
                }
                Output::Event(event) => self.tell(event),
                Output::Stopped => self.stopped = true,
            }
        }
        for answer in answers {
            self.feed(answer);
        }
    }

    fn tell(&mut self, event: Event) {
        log::event(&event, &self.addresses);
        self.events.tell(event);
    }

    /// Fills every socket that takes octets; true if one may take more at once.
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
                octets = self.speaker.poll_transmit(now(), id, CHUNK);
                if octets.is_none() {
                    socket.all_sent();
                    // The last octets of a session may have been its end.
                    self.drain();
                    return Ok(self.sockets.get(&id).is_some_and(Socket::is_finishing));
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

    fn set_timer(&mut self) {
        let wanted = self.speaker.poll_timeout().map(Instant::from_std);
        if wanted == self.timer.as_ref().map(|(at, _)| *at) {
            return;
        }
        self.timer = wanted.map(|at| (at, Box::pin(sleep_until(at))));
    }
}

/// A peer never runs without what its configuration demands.
fn unusable(peer: String, remote: &dyn Display, error: &SetupError) -> Input {
    error!(%peer, address = %remote, "{error}; the peer does not run");
    let reason = error.to_string();
    Input::PeerUnusable { peer, reason }
}

/// The runtime's clock, which tests may hold still.
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
    async fn a_removed_peer_is_forgotten() {
        let speaker = Speaker::new(SpeakerConfig {
            router_id_fallback: Ipv4Addr::LOCALHOST,
            seed: 1,
            host_uptime: None,
        });
        let (_commands, commands) = mpsc::channel(1);
        let (events, _events) = Teller::new();
        let listeners = Listeners::new(Vec::new()).expect("nothing to listen on");
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
