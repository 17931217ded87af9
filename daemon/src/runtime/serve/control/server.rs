//! Answers questions of this host's user about the running daemon.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::fsm::{PeerDetail, PeerStatus};
use ferrolb_bgp::speaker::Handle;
use ferrolb_bgp::wire::{Family, NextHop};
use ipnet::IpNet;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::WriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::{Answer, LogLine, PeerLine, RefusedPeer, Request, RouteLine};
use crate::core::config::Problem;
use crate::runtime::status::DaemonStatus;

/// How many questions are answered at once; more wait their turn.
const AT_ONCE: usize = 8;
/// How many are told routes at once. They may read page by page, and take nobody else's turn.
const TELLING_ROUTES: usize = 2;
/// How many may be connected; whoever watches stays, and asks again and again.
const CONNECTED: usize = 64;
/// Up to this many peers are named to whom asks for one that isn't there.
const NAMED: usize = 8;
/// Octets of the longest question.
const LONGEST: u64 = 4096;
/// How long a client may be silent, or may not read its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take for a piece of a long answer: somebody may be reading it page by
/// page.
const READING: Duration = Duration::from_mins(10);
/// How often the lock of the socket's folder is tried: for 2 s in all.
const LOCK_ATTEMPTS: u32 = 200;
/// The time between two attempts.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Octets that are written at once.
const PIECE: usize = 64 * 1024;

/// Why the socket can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Somebody answers there.
    #[error("another daemon answers on {}: give this one a socket of its own with --socket PATH", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The file system says no.
    #[error("can't make the socket {}: {error}; give a path in a folder of your own with --socket PATH", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

/// A socket that listens; gone with its file when this is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file. No other file gets this inode while the listener is open.
    file: (u64, u64),
}

impl Socket {
    /// Makes the socket, for its owner only, and its folder if it is missing. One that a dead
    /// process left is replaced.
    ///
    /// # Errors
    /// A living daemon has it, or the file system says no.
    pub(crate) fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |error| BindError::Io {
            path: path.to_owned(),
            error,
        };
        let folder = folder_of(path);
        fs::create_dir_all(folder).map_err(failed)?;
        // Of daemons that start together one replaces a dead socket; the others find a living one.
        let _lock = locked(folder).map_err(failed)?;
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(BindError::InUse {
                path: path.to_owned(),
            });
        }
        remove_left_over(path);
        // Under another name first: nobody shall come in before its mode is right.
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

    /// Answers until the program ends.
    pub(crate) async fn serve(self, asked: ControlService) {
        let turns = Arc::new(Turns {
            short: Semaphore::new(AT_ONCE),
            routes: Semaphore::new(TELLING_ROUTES),
        });
        let seats = Arc::new(Semaphore::new(CONNECTED));
        while let Ok(seat) = seats.clone().acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let asked = asked.clone();
                    let turns = turns.clone();
                    tokio::spawn(async move {
                        // A client that goes away in the middle is its own affair.
                        _ = asked.converse(stream, &turns).await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    tracing::warn!("{}: {error}", self.path.display());
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

/// Takes an exclusive lock of a folder. The wait is limited: every process that can read the
/// folder can lock it.
fn locked(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    let message = format!("another process keeps {} locked", folder.display());
    Err(io::Error::other(message))
}

/// Removes what daemons left that died between making a socket and giving it its name.
fn remove_left_over(path: &Path) {
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
        // The file may have been removed, and the path be another daemon's now.
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            _ = fs::remove_file(&self.path);
        }
    }
}

/// Who is answered when.
struct Turns {
    short: Semaphore,
    routes: Semaphore,
}

/// Who knows the answers.
#[derive(Clone, Debug)]
pub(crate) struct ControlService {
    /// The BGP engine.
    pub engine: Handle,
    /// The loop's present state.
    pub report: watch::Receiver<Arc<DaemonStatus>>,
}

impl ControlService {
    async fn converse(&self, mut stream: UnixStream, turns: &Turns) -> io::Result<()> {
        let (read, mut write) = stream.split();
        let mut read = BufReader::new(read);
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut read).take(LONGEST);
            let octets = timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await??;
            if octets == 0 {
                return Ok(());
            }
            match serde_json::from_slice(&line) {
                Ok(request) => {
                    let turns = match request {
                        Request::Routes { .. } => &turns.routes,
                        _ => &turns.short,
                    };
                    let _turn = turns.acquire().await.map_err(io::Error::other)?;
                    self.answer(request, &mut write).await?;
                }
                Err(error) => {
                    let error = Answer::<()>::Error(format!(
                        "this is no question ({error}): ask as {{\"command\":\"peers\"}}"
                    ));
                    send(&mut write, &text(&error)?, PATIENCE).await?;
                }
            }
        }
    }

    async fn answer(&self, request: Request, write: &mut WriteHalf<'_>) -> io::Result<()> {
        let answer = match request {
            Request::Peers => text(&Answer::Ok(self.peers().await)),
            Request::Peer { peer } => text(&self.peer(&peer).await.into()),
            Request::Refused => text(&Answer::Ok(self.refused())),
            Request::Routes { peer } => return self.tell_routes(peer.as_deref(), write).await,
            Request::Log { peer } => text(&self.log(peer.as_deref()).await.into()),
        };
        send(write, &answer?, PATIENCE).await
    }

    async fn peers(&self) -> Vec<PeerLine> {
        let peers = self.engine.snapshot().await;
        let report = self.report.borrow().clone();
        let line = |status: PeerStatus| PeerLine {
            prefixes_desired: report.routes_of(&status),
            status,
        };
        peers.into_iter().map(line).collect()
    }

    fn refused(&self) -> Vec<RefusedPeer> {
        let report = self.report.borrow();
        let line = |problem: &Problem| RefusedPeer {
            name: problem.object.name.name.clone(),
            object: problem.object.to_string(),
            refused: problem.message.clone(),
        };
        report.refused_peers.iter().map(line).collect()
    }

    async fn peer(&self, wanted: &str) -> Result<PeerDetail, String> {
        let peers = self.engine.snapshot().await;
        let mut chosen = self.chosen(&peers, wanted)?;
        // A template by its name is one, though its neighbours are meant elsewhere.
        if chosen.iter().any(|peer| peer.name == wanted) {
            chosen.retain(|peer| peer.name == wanted);
        }
        let names: Vec<&str> = chosen.iter().map(|peer| peer.name.as_str()).collect();
        let [name] = names[..] else {
            return Err(format!(
                "{wanted} is the address of several peers: ask for one of them by name: {}",
                names.join(", ")
            ));
        };
        let detail = self.engine.peer(name).await;
        detail.ok_or_else(|| format!("{name} was removed a moment ago: see ferrolb peers"))
    }

    /// A line for each route, peer by peer and by prefix, so that a million of them towards each of
    /// several peers take no more memory than one peer's.
    async fn tell_routes(&self, wanted: Option<&str>, write: &mut WriteHalf<'_>) -> io::Result<()> {
        let peers = self.engine.snapshot().await;
        let meant = match self.of(&peers, wanted) {
            Ok(meant) => meant,
            Err(message) => {
                return send(write, &text(&Answer::<()>::Error(message))?, PATIENCE).await;
            }
        };
        let report = self.report.borrow().clone();
        let mut piece = Vec::new();
        for peer in meant {
            let Some(detail) = self.engine.peer(&*peer.name).await else {
                continue;
            };
            let ibgp = peer
                .negotiated
                .as_ref()
                .is_some_and(|negotiated| negotiated.ibgp);
            let mut routes = self.engine.advertised(&*peer.name).await;
            // Beside the daemon's own loop, which shall not wait for it.
            let sorted = tokio::task::spawn_blocking(move || {
                routes.sort_unstable_by_key(|told| told.prefix);
                routes
            });
            for told in sorted.await.map_err(io::Error::other)? {
                let next_hop = next_hop(&detail, &told.prefix);
                let line = RouteLine {
                    waits_for_other_path: report.awaits_path(peer, told.prefix),
                    ..RouteLine::new(&peer.name, next_hop, ibgp, &told)
                };
                piece.extend(text(&Answer::Ok(Some(line)))?);
                if piece.len() >= PIECE {
                    send(write, &piece, READING).await?;
                    piece.clear();
                    tokio::task::yield_now().await;
                }
            }
        }
        piece.extend(text(&Answer::Ok(None::<RouteLine>))?);
        send(write, &piece, READING).await
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

impl ControlService {
    /// All peers, or those that are meant.
    fn of<'a>(
        &self,
        peers: &'a [PeerStatus],
        wanted: Option<&str>,
    ) -> Result<Vec<&'a PeerStatus>, String> {
        match wanted {
            None => Ok(peers.iter().collect()),
            Some(wanted) => self.chosen(peers, wanted),
        }
    }

    /// The peers that are meant, or why there is none.
    fn chosen<'a>(
        &self,
        peers: &'a [PeerStatus],
        wanted: &str,
    ) -> Result<Vec<&'a PeerStatus>, String> {
        let meant = meant(peers, wanted);
        if !meant.is_empty() {
            return Ok(meant);
        }
        if let Some(refused) = self.refused().iter().find(|peer| peer.name == wanted) {
            return Err(format!(
                "{} is refused: {}",
                refused.object, refused.refused
            ));
        }
        let known: Vec<String> = peers
            .iter()
            .take(NAMED)
            .map(|peer| format!("{} ({})", peer.name, peer.remote))
            .collect();
        Err(if known.is_empty() {
            format!(
                "there is no peer {wanted}, nor any other: no BGPPeer selects this node, or the \
                 configuration is not loaded yet (see the daemon's log, or ferrolb plan)"
            )
        } else {
            let others = match peers.len() - known.len() {
                0 => String::new(),
                others => format!(" and {others} more (see ferrolb peers)"),
            };
            format!(
                "there is no peer {wanted}; there are: {}{others}",
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

/// An answer, or an entry of one, in a line.
fn text<T: Serialize>(answer: &Answer<T>) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(answer)?;
    text.push(b'\n');
    Ok(text)
}

async fn send(write: &mut WriteHalf<'_>, octets: &[u8], patience: Duration) -> io::Result<()> {
    timeout(patience, write.write_all(octets)).await?
}

/// The peer of this name and, if it is a template, its neighbours; or the peers at this address.
fn meant<'a>(peers: &'a [PeerStatus], wanted: &str) -> Vec<&'a PeerStatus> {
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

/// The next hop of what the peer holds from us.
fn next_hop(peer: &PeerDetail, prefix: &IpNet) -> Option<NextHop> {
    let PeerDetail { status, config, .. } = peer;
    let negotiated = status.negotiated.as_ref();
    let ipv4_over_ipv6 = negotiated.is_some_and(|negotiated| negotiated.ipv4_next_hop_v6);
    config.next_hop(Family::of(prefix), status.local_address, ipv4_over_ipv6)
}
