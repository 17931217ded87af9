//! One TCP connection: dialing, reading, writing, and the half-close at its end.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};
use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use super::convergence::{Histograms, OnTheWay};
use super::events::Backlog;
use super::sockopt::{interface_index, set_md5_key, set_min_ttl, unacknowledged};
use crate::config::Secret;
use crate::fsm::TcpOptions;

/// TTL of sent segments, as GTSM requires (RFC 5082 §3).
pub(super) const TTL_MAX: u32 = 255;

type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// A connection, from the first SYN on.
pub(super) struct Socket {
    stage: Stage,
    /// Octets of the state machine that the kernel has not accepted yet.
    unsent: Bytes,
    /// Number of octets that the kernel has accepted.
    written: u64,
    /// The changes of routes on their way to the peer.
    changes: OnTheWay,
    /// The kernel's send buffer is full.
    blocked: bool,
    /// The state machine has no more octets: close our half once `unsent` is empty.
    finishing: bool,
    /// The peer has closed its half, or the connection failed.
    ended: bool,
    /// Received octets whose UPDATEs the caller has not read.
    backlog: Backlog,
}

enum Stage {
    Dialling(Dialling),
    Open(TcpStream),
}

/// Result of polling a socket.
pub(super) enum Progress {
    /// A dial succeeded.
    Connected {
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// A dial failed.
    Failed(io::Error),
    /// Received octets.
    Read(Bytes),
    /// The connection has ended.
    Ended(Option<io::Error>),
    /// The socket is writable again.
    Writable,
}

/// Result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All octets were written.
    All,
    /// The kernel's send buffer is full.
    Blocked,
}

const GTSM: &str = "the TTL for GTSM (RFC 5082)";

/// Why a socket could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    /// The kernel rejected an option that the peer's configuration requires. A retry would fail
    /// too, and without the option the peer must not run.
    #[error("cannot set {option}: {error}")]
    Option {
        option: &'static str,
        error: io::Error,
    },
    /// A failure that a retry may resolve.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Socket {
    /// Starts a dial. All options are set before the first segment is sent.
    ///
    /// # Errors
    /// An option cannot be set, or the host lacks the source address or interface.
    pub(super) fn dial(
        remote: SocketAddr,
        source: Option<IpAddr>,
        options: &TcpOptions,
    ) -> Result<Self, SetupError> {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let socket = RawSocket::new(
            Domain::for_address(remote),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        prepare(&socket, remote.ip(), options)?;
        if let Some(source) = source {
            socket
                .bind(&SocketAddr::new(source, 0).into())
                .map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot dial from {source}: {error}"))
                })?;
        }
        let socket = TcpSocket::from_std_stream(socket.into());
        Ok(Self::new(Stage::Dialling(Box::pin(socket.connect(remote)))))
    }

    /// Sets up a connection that a listener accepted.
    ///
    /// # Errors
    /// An option cannot be set.
    pub(super) fn accepted(
        stream: TcpStream,
        remote: IpAddr,
        options: &TcpOptions,
    ) -> Result<Self, SetupError> {
        // The connection has the listener's key only if that was set before the SYN.
        prepare(&SockRef::from(&stream), remote, options)?;
        Ok(Self::new(Stage::Open(stream)))
    }

    fn new(stage: Stage) -> Self {
        Self {
            stage,
            unsent: Bytes::new(),
            written: 0,
            changes: OnTheWay::default(),
            blocked: false,
            finishing: false,
            ended: false,
            backlog: Backlog::default(),
        }
    }

    /// Whether octets of the state machine can be written.
    pub(super) fn wants_octets(&self) -> bool {
        matches!(self.stage, Stage::Open(_)) && self.unsent.is_empty() && !self.ended
    }

    pub(super) fn blocked(&self) -> bool {
        self.blocked
    }

    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    pub(super) fn changes(&self) -> &OnTheWay {
        &self.changes
    }

    pub(super) fn changes_mut(&mut self) -> &mut OnTheWay {
        &mut self.changes
    }

    /// The state machine has nothing more to send, and the kernel has accepted everything.
    pub(super) fn all_written(&mut self, now: Instant, histograms: &Histograms) {
        self.changes.all_written(now, self.written, histograms);
    }

    /// Looks whether the peer has acknowledged the changes, if that is due. Returns when it is due
    /// again.
    pub(super) fn look(&mut self, now: Instant, histograms: &Histograms) -> Option<Instant> {
        let due = self.changes.look()?;
        let Stage::Open(stream) = &self.stage else {
            return None;
        };
        if self.ended {
            return None;
        }
        if due > now {
            return Some(due);
        }
        let unacknowledged = unacknowledged(stream).ok()?;
        let acknowledged = self.written.saturating_sub(unacknowledged);
        self.changes.acknowledged(now, acknowledged, histograms);
        self.changes.look()
    }

    /// Whether our half is waiting to be closed.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Polls the dial, or the socket for readability and writability.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Progress> {
        if self.ended {
            return Poll::Pending;
        }
        match &mut self.stage {
            Stage::Dialling(dialling) => {
                let stream = match std::task::ready!(dialling.as_mut().poll(cx)) {
                    Ok(stream) => stream,
                    Err(error) => return Poll::Ready(self.failed(error)),
                };
                match (stream.local_addr(), stream.peer_addr()) {
                    (Ok(local), Ok(remote)) => {
                        self.stage = Stage::Open(stream);
                        Poll::Ready(Progress::Connected { local, remote })
                    }
                    (Err(error), _) | (_, Err(error)) => Poll::Ready(self.failed(error)),
                }
            }
            Stage::Open(stream) => {
                // Before reading: a peer that sends without pause must not prevent our writes.
                let writable = self.blocked && stream.poll_write_ready(cx).is_ready();
                self.blocked &= !writable;
                if !self.backlog.is_full() {
                    let mut read = ReadBuf::new(buffer);
                    let result = Pin::new(&mut *stream).poll_read(cx, &mut read);
                    if let Poll::Ready(result) = result {
                        let read = read.filled();
                        self.ended = result.is_err() || read.is_empty();
                        return Poll::Ready(match result {
                            Ok(()) if read.is_empty() => Progress::Ended(None),
                            Ok(()) => Progress::Read(Bytes::copy_from_slice(read)),
                            Err(error) => Progress::Ended(Some(error)),
                        });
                    }
                }
                if writable {
                    return Poll::Ready(Progress::Writable);
                }
                Poll::Pending
            }
        }
    }

    /// Writes octets.
    ///
    /// # Errors
    /// The connection failed and has ended.
    pub(super) fn write(&mut self, octets: Option<Bytes>) -> io::Result<Written> {
        if let Some(octets) = octets {
            self.unsent = octets;
        }
        let Stage::Open(stream) = &self.stage else {
            return Ok(Written::Blocked);
        };
        while !self.unsent.is_empty() {
            match stream.try_write(&self.unsent) {
                Ok(written) => {
                    self.unsent.advance(written);
                    self.written += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(Written::Blocked);
                }
                Err(error) => {
                    self.ended = true;
                    self.unsent = Bytes::new();
                    return Err(error);
                }
            }
        }
        Ok(Written::All)
    }

    /// Changes the TCP MD5 key.
    ///
    /// # Errors
    /// The kernel rejected the key; the connection keeps the old one.
    pub(super) fn rekey(&self, remote: IpAddr, password: &Secret) -> Result<(), SetupError> {
        match &self.stage {
            Stage::Open(stream) => set_key(stream, IpNet::from(remote), Some(password)),
            // The state machine dials again with the new key.
            Stage::Dialling(_) => Ok(()),
        }
    }

    /// Closes our half after all octets of the state machine are written.
    pub(super) fn finish(&mut self) {
        self.finishing = true;
    }

    /// All octets are written: closes our half if [`finish`](Self::finish) was called.
    pub(super) fn all_sent(&mut self) {
        if std::mem::take(&mut self.finishing)
            && let Stage::Open(stream) = &self.stage
        {
            // Fails if the peer has already closed the connection.
            drop(SockRef::from(stream).shutdown(Shutdown::Write));
        }
    }

    fn failed(&mut self, error: io::Error) -> Progress {
        self.ended = true;
        Progress::Failed(error)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("dialling", &matches!(self.stage, Stage::Dialling(_)))
            .field("unsent", &self.unsent.len())
            .field("blocked", &self.blocked)
            .field("finishing", &self.finishing)
            .field("ended", &self.ended)
            .finish()
    }
}

/// Sets the options of a connection: those of its peer, no delay of small messages (TCP_NODELAY),
/// and a limit for unacknowledged octets (TCP_USER_TIMEOUT), which detects a dead peer while we
/// send.
fn prepare(socket: &RawSocket, remote: IpAddr, options: &TcpOptions) -> Result<(), SetupError> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(options.user_timeout)?;
    if let Some(name) = &options.interface {
        interface_index(name)?;
        let bound = socket.bind_device(Some(name.as_bytes()));
        bound.map_err(|error| match error.raw_os_error() {
            // The interface has just disappeared and may come back.
            Some(libc::ENODEV) => error.into(),
            _ => option("the source interface")(error),
        })?;
    }
    if let Some(min_ttl) = options.min_ttl {
        let ipv4 = remote.is_ipv4();
        let sent = if ipv4 {
            socket.set_ttl_v4(TTL_MAX)
        } else {
            socket.set_unicast_hops_v6(TTL_MAX)
        };
        sent.map_err(option(GTSM))?;
        require_ttl(socket, ipv4, min_ttl)?;
    }
    if options.password.is_some() {
        set_key(socket, remote.into(), options.password.as_ref())?;
    }
    Ok(())
}

/// Sets or removes a TCP MD5 key.
///
/// # Errors
/// [`SetupError::Option`].
pub(super) fn set_key(
    socket: &impl AsFd,
    remote: IpNet,
    password: Option<&Secret>,
) -> Result<(), SetupError> {
    set_md5_key(socket, remote, password).map_err(option("the TCP MD5 password"))
}

/// Discards segments below this TTL.
///
/// # Errors
/// [`SetupError::Option`].
pub(super) fn require_ttl(socket: &impl AsFd, ipv4: bool, min_ttl: u8) -> Result<(), SetupError> {
    set_min_ttl(socket, ipv4, min_ttl).map_err(option(GTSM))
}

fn option(option: &'static str) -> impl Fn(io::Error) -> SetupError {
    move |error| SetupError::Option { option, error }
}
