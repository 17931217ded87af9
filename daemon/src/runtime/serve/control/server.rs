//! Server of the control socket: answers requests about the running daemon.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::fsm::{PeerDetail, PeerStatus};
use ferrolb_bgp::speaker::{Capture, Handle};
use ferrolb_bgp::wire::{Family, NextHop};
use ipnet::IpNet;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::WriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::capture::CaptureLine;
use super::explain::explain;
use super::layer2::Layer2Answers;
use super::{Answer, LogLine, PeerLine, RejectedPeer, Request, RouteLine, WithheldLine};
use crate::core::config::Problem;
use crate::runtime::announce::layer2::engine::Layer2Engine;
use crate::runtime::questions::Asker;
use crate::runtime::status::{DaemonStatus, Probe};

/// Number of requests answered concurrently; others wait.
const MAX_REQUESTS: usize = 8;
/// Number of route lists sent concurrently. Their readers may be slow, so they have a limit of
/// their own.
const MAX_ROUTE_LISTS: usize = 2;
/// Number of captures at the same time; each may take 4 MiB.
const MAX_CAPTURES: usize = 4;
/// Maximum number of connections; clients with --watch stay connected.
const MAX_CONNECTIONS: usize = 64;
/// An error about an unknown peer lists at most this many peers.
const MAX_SUGGESTIONS: usize = 8;
/// Maximum size of a request, in octets.
const MAX_REQUEST_SIZE: u64 = 4096;
/// Limit for receiving a request and for sending a short answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Limit for sending a chunk of a long answer: the reader may be a pager.
const CHUNK_TIMEOUT: Duration = Duration::from_mins(10);
/// Interval of lines of a capture while there is no message. They show that both ends still run.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Attempts to lock the socket's folder: 2 s in all.
const LOCK_ATTEMPTS: u32 = 200;
/// Delay between two attempts.
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(10);
/// Size of a chunk, in octets.
const CHUNK_SIZE: usize = 64 * 1024;

/// Why the socket can't be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Another daemon listens on it.
    #[error(
        "another daemon listens on {}: choose another path with --socket PATH",
        path.display()
    )]
    InUse {
        /// Path of the socket.
        path: PathBuf,
    },
    /// An I/O error.
    #[error(
        "can't create the socket {}: {error}; choose another path with --socket PATH",
        path.display()
    )]
    Io {
        /// Path of the socket.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

/// A listening socket; dropping it removes its file.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file. No other file gets this inode while the listener is open.
    file: (u64, u64),
}

impl Socket {
    /// Creates the socket with access for its owner only, and its folder if missing. Replaces the
    /// socket of a daemon that is gone.
    ///
    /// # Errors
    ///
    /// A running daemon listens on it, or an I/O error.
    pub(crate) fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |error| BindError::Io {
            path: path.to_owned(),
            error,
        };
        let folder = folder_of(path);
        fs::create_dir_all(folder).map_err(failed)?;
        // With the lock, one of several starting daemons replaces a stale socket, and the others
        // see a live one.
        let _lock = lock_folder(folder).map_err(failed)?;
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(BindError::InUse {
                path: path.to_owned(),
            });
        }
        remove_stale_sockets(path);
        // Use a temporary name until the mode is set.
        let new = path.with_extension(format!("new.{}", std::process::id()));
        let bound = (|| {
            let listener = UnixListener::bind(&new)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
            let file = identity(&new)?;
            fs::rename(&new, path)?;
            Ok((listener, file))
        })();
        let (listener, file) = bound.map_err(|error| {
            _ = fs::remove_file(&new);
            failed(error)
        })?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file,
        })
    }

    /// Serves until the process ends.
    pub(crate) async fn serve(self, service: ControlService) {
        let limits = Arc::new(Limits {
            short: Semaphore::new(MAX_REQUESTS),
            routes: Semaphore::new(MAX_ROUTE_LISTS),
            captures: Semaphore::new(MAX_CAPTURES),
        });
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(connection) = connections.clone().acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let service = service.clone();
                    let limits = limits.clone();
                    tokio::spawn(async move {
                        // A client that disconnects is not an error.
                        _ = service.handle_connection(stream, &limits).await;
                        drop(connection);
                    });
                }
                Err(error) => {
                    tracing::warn!(
                        "can't accept connections on {}, retrying: {error}",
                        self.path.display()
                    );
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent();
    folder
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Takes an exclusive lock of a folder. The wait is limited, since every process that can read the
/// folder can lock it.
fn lock_folder(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY_DELAY),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    let message = format!("another process has locked {}", folder.display());
    Err(io::Error::other(message))
}

/// Removes sockets of daemons that ended between creating and renaming them.
fn remove_stale_sockets(path: &Path) {
    let prefix = path.with_extension("new.");
    let Ok(entries) = fs::read_dir(folder_of(path)) else {
        return;
    };
    let prefix = prefix.file_name().unwrap_or_default().as_encoded_bytes();
    for entry in entries.flatten() {
        let ours = entry.file_name().as_encoded_bytes().starts_with(prefix);
        let socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        let path = entry.path();
        if ours && socket && std::os::unix::net::UnixStream::connect(&path).is_err() {
            _ = fs::remove_file(path);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The path may have been removed, and may belong to another daemon now.
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            _ = fs::remove_file(&self.path);
        }
    }
}

/// Concurrency limits.
struct Limits {
    short: Semaphore,
    routes: Semaphore,
    captures: Semaphore,
}

/// The data sources of the server.
#[derive(Clone, Debug)]
pub(crate) struct ControlService {
    /// The BGP engine, if this process announces over BGP.
    pub engine: Option<Handle>,
    /// The layer 2 engine, if this process announces by layer 2.
    pub layer2: Option<Layer2Engine>,
    /// Status of the control loop.
    pub status: watch::Receiver<Arc<DaemonStatus>>,
    /// Asks the control loop.
    pub asker: Asker,
    /// The name of the node.
    pub node: String,
}

/// The answer of a process that doesn't announce over BGP.
const NO_BGP: &str = "this process has no BGP sessions (its --role is layer2): run the command in \
                      the announcer's Pod";

/// Answers requests about BGP.
struct BgpAnswers<'a> {
    engine: &'a Handle,
    status: &'a watch::Receiver<Arc<DaemonStatus>>,
}

impl ControlService {
    async fn handle_connection(&self, mut stream: UnixStream, limits: &Limits) -> io::Result<()> {
        let (read, mut write) = stream.split();
        let mut read = BufReader::new(read);
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut read).take(MAX_REQUEST_SIZE);
            let octets = timeout(REQUEST_TIMEOUT, limited.read_until(b'\n', &mut line)).await??;
            if octets == 0 {
                return Ok(());
            }
            match serde_json::from_slice(&line) {
                Ok(Request::Capture { peer }) => {
                    self.capture(&peer, &limits.captures, &mut write).await?;
                }
                Ok(request) => {
                    let limits = match request {
                        Request::Routes { .. } => &limits.routes,
                        _ => &limits.short,
                    };
                    let _permit = limits.acquire().await.map_err(io::Error::other)?;
                    self.answer(request, &mut write).await?;
                }
                Err(error) => {
                    let error = Answer::<()>::Error(format!(
                        "invalid request ({error}): expected for example {{\"command\":\"peers\"}}"
                    ));
                    send(&mut write, &text(&error)?, REQUEST_TIMEOUT).await?;
                }
            }
        }
    }

    /// Sends the messages of a session. An answer that is an error ends it at once.
    async fn capture(
        &self,
        wanted: &str,
        captures: &Semaphore,
        write: &mut WriteHalf<'_>,
    ) -> io::Result<()> {
        let status = &self.status;
        let bgp = self
            .engine
            .as_ref()
            .map(|engine| BgpAnswers { engine, status });
        let capture = match (captures.try_acquire(), bgp) {
            (_, None) => Err(NO_BGP.to_owned()),
            (Err(_), _) => Err(format!(
                "{MAX_CAPTURES} captures of this daemon run already: end one of them"
            )),
            (Ok(permit), Some(bgp)) => bgp.capture(wanted).await.map(|capture| (capture, permit)),
        };
        match capture {
            Ok((capture, _permit)) => send_messages(capture, write).await,
            Err(message) => {
                send(
                    write,
                    &text(&Answer::<()>::Error(message))?,
                    REQUEST_TIMEOUT,
                )
                .await
            }
        }
    }

    async fn answer(&self, request: Request, write: &mut WriteHalf<'_>) -> io::Result<()> {
        let status = &self.status;
        let bgp = |engine| BgpAnswers { engine, status };
        let layer2 = Layer2Answers {
            engine: self.layer2.as_ref(),
            status,
        };
        let answer = match (request, &self.engine) {
            (Request::Probe { probe }, _) => text(&probe_answer(status, probe)),
            (Request::Withheld, _) => text(&Answer::Ok(withheld(&status.borrow()))),
            (Request::Explain { service }, engine) => {
                let explained = explain(&self.asker, engine.as_ref(), &self.node, &service);
                text(&explained.await.into())
            }
            (Request::L2 { address }, _) => text(&layer2.status(address).await.into()),
            (Request::L2Move { address, node }, _) => {
                text(&layer2.move_to(address, node).await.into())
            }
            (Request::L2Rebalance, _) => text(&layer2.rebalance().await.into()),
            (Request::L2Test { address }, _) => text(&layer2.test(address).await.into()),
            (_, None) => text(&Answer::<()>::Error(NO_BGP.to_owned())),
            (Request::Peers, Some(engine)) => text(&Answer::Ok(bgp(engine).peers().await)),
            (Request::Peer { peer }, Some(engine)) => text(&bgp(engine).peer(&peer).await.into()),
            (Request::Refused, Some(engine)) => text(&Answer::Ok(bgp(engine).rejected())),
            (Request::Routes { peer }, Some(engine)) => {
                return bgp(engine).send_routes(peer.as_deref(), write).await;
            }
            (Request::Log { peer }, Some(engine)) => {
                text(&bgp(engine).log(peer.as_deref()).await.into())
            }
            // Answered by `capture`.
            (Request::Capture { .. }, Some(_)) => return Ok(()),
        };
        send(write, &answer?, REQUEST_TIMEOUT).await
    }
}

fn withheld(status: &DaemonStatus) -> Vec<WithheldLine> {
    let withheld = status.withheld.iter().map(|one| WithheldLine {
        service: one.service.as_ref().map(ToString::to_string),
        reason: one.reason.code().to_owned(),
        message: one.message.clone(),
    });
    withheld.collect()
}

impl BgpAnswers<'_> {
    async fn peers(&self) -> Vec<PeerLine> {
        let peers = self.engine.snapshot().await;
        let daemon = self.status.borrow().clone();
        let line = |status: PeerStatus| PeerLine {
            prefixes_desired: daemon.routes_of(&status),
            status,
        };
        peers.into_iter().map(line).collect()
    }

    fn rejected(&self) -> Vec<RejectedPeer> {
        let status = self.status.borrow();
        let line = |problem: &Problem| RejectedPeer {
            name: problem.object.name.name.clone(),
            object: problem.object.to_string(),
            reason: problem.message.clone(),
        };
        status.rejected_peers.iter().map(line).collect()
    }

    /// The name of one peer. A `peerNetwork` has a name of its own.
    async fn name_of(&self, wanted: &str) -> Result<String, String> {
        let peers = self.engine.snapshot().await;
        let mut select = self.select(&peers, wanted)?;
        if select.iter().any(|peer| peer.name == wanted) {
            select.retain(|peer| peer.name == wanted);
        }
        let names: Vec<&str> = select.iter().map(|peer| peer.name.as_str()).collect();
        match names[..] {
            [name] => Ok(name.to_owned()),
            _ => Err(format!(
                "{wanted} is the address of several peers: select one by name: {}",
                names.join(", ")
            )),
        }
    }

    async fn peer(&self, wanted: &str) -> Result<PeerDetail, String> {
        let name = self.name_of(wanted).await?;
        let detail = self.engine.peer(&*name).await;
        detail.ok_or_else(|| removed(&name))
    }

    async fn capture(&self, wanted: &str) -> Result<Capture, String> {
        let name = self.name_of(wanted).await?;
        let capture = self.engine.capture(&*name).await;
        capture.ok_or_else(|| removed(&name))
    }

    /// Sends one line per route, by peer and prefix, so that millions of routes to several peers
    /// take no more memory than those of one peer.
    async fn send_routes(&self, wanted: Option<&str>, write: &mut WriteHalf<'_>) -> io::Result<()> {
        let peers = self.engine.snapshot().await;
        let matching = match self.of(&peers, wanted) {
            Ok(matching) => matching,
            Err(message) => {
                return send(
                    write,
                    &text(&Answer::<()>::Error(message))?,
                    REQUEST_TIMEOUT,
                )
                .await;
            }
        };
        let status = self.status.borrow().clone();
        let mut chunk = Vec::new();
        for peer in matching {
            let Some(detail) = self.engine.peer(&*peer.name).await else {
                continue;
            };
            let ibgp = peer
                .negotiated
                .as_ref()
                .is_some_and(|negotiated| negotiated.ibgp);
            let mut routes = self.engine.advertised(&*peer.name).await;
            // Sort on another thread, to keep this one responsive.
            let sorted = tokio::task::spawn_blocking(move || {
                routes.sort_unstable_by_key(|advertised| advertised.prefix);
                routes
            });
            for advertised in sorted.await.map_err(io::Error::other)? {
                let next_hop = next_hop(&detail, &advertised.prefix);
                let line = RouteLine {
                    waits_for_other_path: status.awaits_path(peer, advertised.prefix),
                    ..RouteLine::new(&peer.name, next_hop, ibgp, &advertised)
                };
                chunk.extend(text(&Answer::Ok(Some(line)))?);
                if chunk.len() >= CHUNK_SIZE {
                    send(write, &chunk, CHUNK_TIMEOUT).await?;
                    chunk.clear();
                    tokio::task::yield_now().await;
                }
            }
        }
        chunk.extend(text(&Answer::Ok(None::<RouteLine>))?);
        send(write, &chunk, CHUNK_TIMEOUT).await
    }

    async fn log(&self, wanted: Option<&str>) -> Result<Vec<LogLine>, String> {
        let peers = self.engine.snapshot().await;
        let mut lines = Vec::new();
        for peer in self.of(&peers, wanted)? {
            let Some(detail) = self.engine.peer(&*peer.name).await else {
                continue;
            };
            let now = jiff::Timestamp::now();
            lines.extend(detail.journal.into_iter().map(|entry| LogLine {
                at: now.checked_sub(entry.age).unwrap_or(now),
                peer: peer.name.clone(),
                entry,
            }));
        }
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }
}

impl BgpAnswers<'_> {
    /// All peers, or the selected ones.
    fn of<'a>(
        &self,
        peers: &'a [PeerStatus],
        wanted: Option<&str>,
    ) -> Result<Vec<&'a PeerStatus>, String> {
        match wanted {
            None => Ok(peers.iter().collect()),
            Some(wanted) => self.select(peers, wanted),
        }
    }

    /// The selected peers, or an error that lists the known ones.
    fn select<'a>(
        &self,
        peers: &'a [PeerStatus],
        wanted: &str,
    ) -> Result<Vec<&'a PeerStatus>, String> {
        let matching = matching(peers, wanted);
        if !matching.is_empty() {
            return Ok(matching);
        }
        if let Some(rejected) = self.rejected().iter().find(|peer| peer.name == wanted) {
            return Err(format!(
                "{} is rejected: {}",
                rejected.object, rejected.reason
            ));
        }
        let known: Vec<String> = peers
            .iter()
            .take(MAX_SUGGESTIONS)
            .map(|peer| format!("{} ({})", peer.name, peer.address_text()))
            .collect();
        Err(if known.is_empty() {
            format!(
                "no peer {wanted}, and no other peer: no BGPPeer selects this node, or the \
                 configuration is not loaded yet (see the daemon's log, or ferrolb plan)"
            )
        } else {
            let others = match peers.len() - known.len() {
                0 => String::new(),
                others => format!(" and {others} more (see ferrolb peers)"),
            };
            format!(
                "no peer {wanted}; known peers: {}{others}",
                known.join(", ")
            )
        })
    }
}

impl<T> From<Result<T, String>> for Answer<T> {
    fn from(result: Result<T, String>) -> Self {
        match result {
            Ok(answer) => Self::Ok(answer),
            Err(message) => Self::Error(message),
        }
    }
}

fn removed(name: &str) -> String {
    format!("{name} was just removed: see ferrolb peers")
}

fn probe_answer(status: &watch::Receiver<Arc<DaemonStatus>>, probe: Probe) -> Answer<()> {
    let result = status.borrow().probe(probe);
    result.map_err(str::to_owned).into()
}

/// An answer as a line of JSON.
fn text<T: Serialize>(answer: &Answer<T>) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(answer)?;
    text.push(b'\n');
    Ok(text)
}

async fn send(write: &mut WriteHalf<'_>, octets: &[u8], limit: Duration) -> io::Result<()> {
    timeout(limit, write.write_all(octets)).await?
}

/// Sends the messages of a capture until the client closes the connection or the engine ends.
async fn send_messages(mut capture: Capture, write: &mut WriteHalf<'_>) -> io::Result<()> {
    let mut line = Some(CaptureLine::Idle);
    while let Some(next) = line {
        send(write, &text(&Answer::Ok(next))?, CHUNK_TIMEOUT).await?;
        line = match timeout(IDLE_INTERVAL, capture.recv()).await {
            Ok(captured) => captured.map(CaptureLine::from),
            Err(_) => Some(CaptureLine::Idle),
        };
    }
    Ok(())
}

/// The peer with this name and, for a `peerNetwork`, its dynamic neighbors; or the peers at this
/// address.
fn matching<'a>(peers: &'a [PeerStatus], wanted: &str) -> Vec<&'a PeerStatus> {
    let is_named =
        |peer: &&PeerStatus| peer.name == wanted || peer.template.as_deref() == Some(wanted);
    let named: Vec<&PeerStatus> = peers.iter().filter(is_named).collect();
    if !named.is_empty() {
        return named;
    }
    let address: Option<IpAddr> = wanted.parse().ok();
    let at = |peer: &&PeerStatus| {
        peer.remote
            .router()
            .is_some_and(|router| Some(router.ip().to_canonical()) == address)
    };
    peers.iter().filter(at).collect()
}

/// The next hop of a route as sent to the peer.
fn next_hop(peer: &PeerDetail, prefix: &IpNet) -> Option<NextHop> {
    let PeerDetail { status, config, .. } = peer;
    let negotiated = status.negotiated.as_ref();
    let ipv4_over_ipv6 = negotiated.is_some_and(|negotiated| negotiated.ipv4_next_hop_v6);
    config.next_hop(Family::of(prefix), status.local_address, ipv4_over_ipv6)
}
