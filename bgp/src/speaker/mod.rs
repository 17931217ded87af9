//! The tokio driver: runs [`fsm::Speaker`](crate::fsm::Speaker) and [`bfd::Bfd`](crate::bfd::Bfd)
//! on sockets and clocks.
//!
//! [`spawn`] starts it. The [`Handle`] may be used from any thread and any runtime.
//!
//! # Threads and channels
//!
//! ```text
//!  the caller's threads             ferrolb-bgp                         ferrolb-bfd
//!  Handle -- commands ------------> fsm::Speaker, RIB, -- commands ---> bfd::Bfd,
//!  Events <- events, UPDATEs ------ listeners, TCP     <- BFD events -- UDP sockets
//! ```
//!
//! The BGP thread runs from [`spawn`] until the speaker has shut down. The BFD thread starts with
//! the first BFD session and ends with the BGP thread; it runs at raised priority, so that encoding
//! a million routes delays no BFD packet. If it panics, the BGP thread starts another one.
//!
//! | channel | depth | if it is full |
//! |---|---|---|
//! | commands of the caller | 256 | the caller blocks until there is room |
//! | events | 4096 | the event is dropped and counted in [`Event::Missed`](crate::fsm::Event) |
//! | received UPDATEs | 1 MiB for each connection | its socket is not read: TCP slows the peer |
//! | BFD commands, BFD events | 1024 each | one merged item for each peer waits in the sender |
//! | messages of a [`Capture`] | 4 MiB | the message is dropped: [`Captured::Missed`] |
//! | messages of a [`Monitor`] | 16 MiB | the [`Monitor`] ends |
//!
//! Only a caller ever waits: the BGP and BFD threads never block on a channel.

mod bfd;
mod capture;
mod commands;
mod convergence;
mod driver;
mod events;
mod listener;
mod log;
mod md5_drops;
mod monitor;
mod socket;
mod sockopt;
mod taps;
mod timer;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::capture::{Capture, Captured};
use self::commands::COMMANDS_MAX;
use self::convergence::Histograms;
pub use self::convergence::{Convergence, DELAY_BOUNDS, Delays};
use self::driver::{Command, Driver};
use self::events::EventSender;
pub use self::events::Events;
use self::listener::Listeners;
pub use self::monitor::{Monitor, MonitorEnd, Monitored};
use crate::config::{ConfigError, PeerConfig};
use crate::fsm::{
    Input, LinkState, OtherPaths, PeerDetail, PeerRoutes, PeerStatus, ShutdownMode, Speaker,
    SpeakerConfig,
};
use crate::rib::Route;

/// Options of [`spawn`].
#[derive(Clone, Debug)]
pub struct SpeakerOptions {
    /// Configuration of the state machine.
    pub speaker: SpeakerConfig,
    /// Listening addresses; none for a speaker that only dials. The kernel replaces port 0 by a
    /// free port, see [`Handle::local_addresses`].
    pub listen: Vec<SocketAddr>,
}

/// A handle to a running speaker.
///
/// When the last clone is dropped, the speaker shuts down with [`ShutdownMode::GracefulRestart`]:
/// its owner has failed and will restart. Up to 256 commands are queued; further calls block the
/// calling thread until there is room.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    local_addresses: Vec<SocketAddr>,
    bfd_packets_without_session: Arc<AtomicU64>,
    histograms: Arc<Histograms>,
    ended: watch::Receiver<()>,
}

/// A route announced to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// Attributes before the session's additions.
    pub route: Route,
    /// Time since the last announcement, in whole seconds.
    pub age: Duration,
}

/// Whether this host has an interface of this name. Without it, peers with this
/// [`source_interface`](crate::config::Transport::source_interface) cannot be dialed. True if the
/// lookup fails for another reason.
#[must_use]
pub fn interface_exists(name: &str) -> bool {
    !sockopt::interface_index(name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The interface that has the addresses of all Services where kube-proxy uses IPVS.
const IPVS_INTERFACE: &str = "kube-ipvs0";

/// The addresses of this host's interfaces that a connection can have as its source address: no
/// link-local ones of IPv6, which need an interface, and none of kube-proxy's IPVS.
///
/// # Errors
/// The error of the kernel.
pub fn host_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let addresses = sockopt::interface_addresses()?.into_iter();
    let addresses = addresses.filter(|(interface, address)| {
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        interface != IPVS_INTERFACE && !link_local
    });
    Ok(addresses.map(|(_, address)| address).collect())
}

/// Starts a speaker on its own thread.
///
/// # Errors
/// Binding a listening address or starting the thread failed.
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
    let (sender, events) = EventSender::new();
    let (end_sender, ended) = watch::channel(());
    let driver = Driver::new(Speaker::new(options.speaker), listeners, commands, sender);
    let bfd_packets_without_session = driver.bfd_packets_without_session();
    let histograms = driver.histograms();
    thread::Builder::new()
        .name("ferrolb-bgp".to_owned())
        .spawn(move || {
            runtime.block_on(driver.run());
            // Dropped at the end of the thread, also on a panic: this wakes `Handle::ended`.
            drop(end_sender);
        })?;
    Ok((
        Handle {
            commands: command_sender,
            local_addresses,
            bfd_packets_without_session,
            histograms,
            ended,
        },
        events,
    ))
}

impl Handle {
    /// Adds a peer, or changes the peer of the same name. [`PeerConfig::impact`] says whether a
    /// change resets the session.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn set_peer(&self, config: PeerConfig) -> Result<(), ConfigError> {
        config.check()?;
        self.input(Input::SetPeer(config));
        Ok(())
    }

    /// Reports what is at the other end of an interface. The unnumbered peers on it get the address
    /// of its router.
    pub fn set_link(&self, interface: impl Into<String>, state: LinkState) {
        let interface = interface.into();
        self.input(Input::Link { interface, state });
    }

    /// Removes a peer and its routes. Its session ends with Cease/Peer De-configured.
    pub fn remove_peer(&self, name: impl Into<String>) {
        self.input(Input::RemovePeer(name.into()));
    }

    /// Changes the routes of peers. The changes of one call are sent as one batch.
    pub fn routes(&self, routes: Vec<PeerRoutes>) {
        self.input(Input::Routes(routes));
    }

    /// As [`routes`](Self::routes), for a change that was seen at this time: it counts for
    /// [`convergence`](Self::convergence).
    pub fn routes_since(&self, seen: Instant, routes: Vec<PeerRoutes>) {
        let now = tokio::time::Instant::now().into_std();
        self.histograms.decided(now.saturating_duration_since(seen));
        commands::send(&self.commands, Command::Routes(seen, routes));
    }

    /// How long the changes of [`routes_since`](Self::routes_since) took to reach the peers, since
    /// the start. Those of a session that ends before the acknowledgement count as far as they got.
    #[must_use]
    pub fn convergence(&self) -> Convergence {
        self.histograms.convergence()
    }

    /// Permits the transmission of UPDATE and End-of-RIB messages: the initial set of routes is
    /// complete.
    pub fn open_gate(&self) {
        self.input(Input::OpenGate);
    }

    /// Enables or disables the data of [`other_paths`](Self::other_paths). Each call with `true`
    /// requests a route refresh from the routers.
    pub fn watch_paths(&self, watched: bool) {
        self.input(Input::TrackOtherPaths(watched));
    }

    /// Paths of other speakers to our prefixes, as received from the peers with an Established
    /// session. Empty after the speaker has ended.
    pub async fn other_paths(&self) -> Vec<OtherPaths> {
        let (sender, answer) = oneshot::channel();
        self.ask(Command::OtherPaths(sender)).await;
        answer.await.unwrap_or_default()
    }

    /// Number of received BFD packets that matched no session. Counted only while there is a
    /// session.
    #[must_use]
    pub fn bfd_packets_without_session(&self) -> u64 {
        self.bfd_packets_without_session.load(Ordering::Relaxed)
    }

    /// Status of all peers, sorted by name. Empty after the speaker has ended.
    pub async fn snapshot(&self) -> Vec<PeerStatus> {
        let (sender, answer) = oneshot::channel();
        self.ask(Command::Status(sender)).await;
        answer.await.unwrap_or_default()
    }

    /// Status and history of one peer; `None` for an unknown name or after the speaker has ended.
    pub async fn peer(&self, name: impl Into<String>) -> Option<PeerDetail> {
        let (sender, answer) = oneshot::channel();
        self.ask(Command::Peer(name.into(), sender)).await;
        answer.await.ok().flatten().map(|detail| *detail)
    }

    /// Routes announced to a peer, in no particular order. Empty after the speaker has ended.
    pub async fn advertised(&self, peer: impl Into<String>) -> Vec<AdvertisedRoute> {
        let (sender, answer) = oneshot::channel();
        self.ask(Command::Advertised(peer.into(), sender)).await;
        answer.await.unwrap_or_default()
    }

    /// Begins to copy the messages of a peer, or of the dynamic neighbors of a template; `None` for
    /// an unknown name or after the speaker has ended.
    pub async fn capture(&self, peer: impl Into<String>) -> Option<Capture> {
        let (sender, answer) = oneshot::channel();
        self.ask(Command::Capture(peer.into(), sender)).await;
        answer.await.ok().flatten()
    }

    /// Begins to copy what all sessions send and receive; `None` after the speaker has ended.
    pub async fn monitor(&self) -> Option<Monitor> {
        let (sender, answer) = oneshot::channel();
        self.ask(Command::Monitor(sender)).await;
        answer.await.ok()
    }

    /// Shuts down all sessions with `text` as shutdown communication (RFC 9003). Returns when the
    /// speaker has ended, after at most about four seconds.
    pub async fn shutdown(&self, text: impl Into<String>, mode: ShutdownMode) {
        let text = text.into();
        self.input(Input::Shutdown { text, mode });
        self.ended().await;
    }

    /// Returns when the speaker has ended, for any reason.
    pub async fn ended(&self) {
        // The sender never sends a value; only its drop completes `changed`.
        drop(self.ended.clone().changed().await);
    }

    /// Listening addresses, with the ports that the kernel chose.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local_addresses
    }

    fn input(&self, input: Input) {
        commands::send(&self.commands, Command::Input(input));
    }

    /// Sends a command. An ended speaker drops it together with its reply channel.
    async fn ask(&self, command: Command) {
        drop(self.commands.send(command).await);
    }
}

impl Default for SpeakerOptions {
    /// For programs that only dial. Replace the fixed seed by a random one.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_the_host_are_those_that_a_socket_can_have() {
        let addresses = host_addresses().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(addresses.contains(&socket.local_addr().unwrap().ip()));
        for address in &addresses {
            let link_local = "fe80::/10".parse::<IpNet>().unwrap();
            assert!(!link_local.contains(address), "{addresses:?}");
        }
        assert!(!addresses.contains(&IpAddr::from([203, 0, 113, 254])));
    }
}
