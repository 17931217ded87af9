//! The tokio driver: a thread of its own that carries octets between sockets and
//! [`fsm::Speaker`](crate::fsm::Speaker).
//!
//! [`spawn`] starts it. The [`Handle`] may be used from any thread and any runtime.

mod bfd;
mod commands;
mod driver;
mod events;
mod listener;
mod log;
mod md5_drops;
mod socket;
mod sockopt;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};

use self::commands::COMMANDS_MAX;
use self::driver::{Command, Driver};
pub use self::events::Events;
use self::events::Teller;
use self::listener::Listeners;
use crate::config::{ConfigError, PeerConfig};
use crate::fsm::{
    Input, OtherPaths, PeerDetail, PeerRoutes, PeerStatus, ShutdownMode, Speaker, SpeakerConfig,
};
use crate::rib::Route;

/// What a speaker is started with.
#[derive(Clone, Debug)]
pub struct SpeakerOptions {
    /// For the state machine.
    pub speaker: SpeakerConfig,
    /// Where to listen; nowhere if empty. Port 0 takes a free one, see
    /// [`Handle::local_addresses`].
    pub listen: Vec<SocketAddr>,
}

/// Commands for a running speaker. When the last one is dropped, the speaker shuts down as with
/// [`ShutdownMode::GracefulRestart`]: its owner has failed and means to come back.
///
/// 256 commands may wait for the speaker. Who gives one more waits on its thread until there is room.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    local_addresses: Vec<SocketAddr>,
    bfd_packets_without_session: Arc<AtomicU64>,
    ended: watch::Receiver<()>,
}

/// A route that a peer holds from us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// What was said of it, before the session turned it into octets.
    pub route: Route,
    /// How long ago it was last sent, to the second.
    pub age: Duration,
}

/// Whether there is an interface of this name where this process runs: without it a peer whose
/// [`source_interface`](crate::config::Transport::source_interface) it is can't be dialled. True if
/// the kernel can't be asked.
#[must_use]
pub fn interface_exists(name: &str) -> bool {
    !sockopt::interface_index(name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Starts a speaker on a thread of its own.
///
/// # Errors
/// An address that can't be listened on, or no thread to be had.
pub fn spawn(options: SpeakerOptions) -> io::Result<(Handle, Events)> {
    let bound = options
        .listen
        .iter()
        .map(|address| listener::bind(*address));
    let bound = bound.collect::<io::Result<Vec<_>>>()?;
    let local_addresses = bound.iter().map(std::net::TcpListener::local_addr);
    let local_addresses = local_addresses.collect::<io::Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listeners = {
        let _inside = runtime.enter();
        Listeners::new(bound)?
    };
    let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
    let (teller, events) = Teller::new();
    let (end_sender, ended) = watch::channel(());
    let driver = Driver::new(Speaker::new(options.speaker), listeners, commands, teller);
    let bfd_packets_without_session = driver.bfd_packets_without_session();
    thread::Builder::new()
        .name("ferrolb-bgp".to_owned())
        .spawn(move || {
            runtime.block_on(driver.run());
            // Dropped last, also when the thread panics: whoever waits for the end gets to know.
            drop(end_sender);
        })?;
    Ok((
        Handle {
            commands: command_sender,
            local_addresses,
            bfd_packets_without_session,
            ended,
        },
        events,
    ))
}

impl Handle {
    /// Adds a peer, or changes the one of the same name. A running session goes on if it can
    /// ([`PeerConfig::impact`]).
    ///
    /// # Errors
    /// A configuration that could never run.
    pub fn set_peer(&self, config: PeerConfig) -> Result<(), ConfigError> {
        config.check()?;
        self.input(Input::SetPeer(config));
        Ok(())
    }

    /// Ends the peer's session with Cease/Peer De-configured and forgets it and its routes.
    pub fn remove_peer(&self, name: impl Into<String>) {
        self.input(Input::RemovePeer(name.into()));
    }

    /// Changes what peers are to be told; what comes in one call is packed together.
    pub fn routes(&self, routes: Vec<PeerRoutes>) {
        self.input(Input::Routes(routes));
    }

    /// Says that the first complete set of routes was handed over. Before that no UPDATE and no
    /// End-of-RIB leaves.
    pub fn open_gate(&self) {
        self.input(Input::OpenGate);
    }

    /// Whether to keep up to date what [`other_paths`](Self::other_paths) gives. Each call with
    /// `true` asks routers for their routes again.
    pub fn watch_paths(&self, watched: bool) {
        self.input(Input::TrackOtherPaths(watched));
    }

    /// What routers with an Established session show of paths other than ours to prefixes of ours.
    /// Empty once the speaker has ended.
    pub async fn other_paths(&self) -> Vec<OtherPaths> {
        let (sender, answer) = oneshot::channel();
        self.ask(Command::OtherPaths(sender)).await;
        answer.await.unwrap_or_default()
    }

    /// BFD packets received that belong to no session; only counted while there is a session.
    #[must_use]
    pub fn bfd_packets_without_session(&self) -> u64 {
        self.bfd_packets_without_session.load(Ordering::Relaxed)
    }

    /// All peers, by name. Empty once the speaker has ended.
    pub async fn snapshot(&self) -> Vec<PeerStatus> {
        let (sender, answer) = oneshot::channel();
        self.ask(Command::Status(sender)).await;
        answer.await.unwrap_or_default()
    }

    /// All there is to know about one peer; `None` if there is none of that name, or the speaker has
    /// ended.
    pub async fn peer(&self, name: impl Into<String>) -> Option<PeerDetail> {
        let (sender, answer) = oneshot::channel();
        self.ask(Command::Peer(name.into(), sender)).await;
        answer.await.ok().flatten().map(|detail| *detail)
    }

    /// What a peer holds from us, in no order.
    pub async fn advertised(&self, peer: impl Into<String>) -> Vec<AdvertisedRoute> {
        let (sender, answer) = oneshot::channel();
        self.ask(Command::Advertised(peer.into(), sender)).await;
        answer.await.unwrap_or_default()
    }

    /// Takes leave of every peer, with this text for their operators (RFC 9003), and returns when the
    /// speaker has ended: in about four seconds at the latest, whatever the peers do.
    pub async fn shutdown(&self, text: impl Into<String>, mode: ShutdownMode) {
        let text = text.into();
        self.input(Input::Shutdown { text, mode });
        self.ended().await;
    }

    /// Returns when the speaker has ended, for whatever reason.
    pub async fn ended(&self) {
        // The sender never sends: the only news is that it is gone.
        drop(self.ended.clone().changed().await);
    }

    /// Where the speaker listens, with the ports the kernel chose.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local_addresses
    }

    fn input(&self, input: Input) {
        commands::send(&self.commands, Command::Input(input));
    }

    /// A speaker that has ended takes no commands; there is nothing to do about it here.
    async fn ask(&self, command: Command) {
        drop(self.commands.send(command).await);
    }
}

impl Default for SpeakerOptions {
    /// Listens nowhere; for programs that dial only. The seed is fixed: give one of your own.
    fn default() -> Self {
        let router_id_fallback = std::net::Ipv4Addr::new(127, 0, 0, 1);
        Self {
            speaker: SpeakerConfig {
                router_id_fallback,
                seed: 0,
                host_uptime: None,
            },
            listen: Vec::new(),
        }
    }
}
