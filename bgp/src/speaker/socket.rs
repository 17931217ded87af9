//! One TCP connection: dialling, reading, writing, and the orderly end.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use super::events::Unread;
use super::sockopt::{interface_index, set_md5_key, set_min_ttl};
use crate::config::Secret;
use crate::fsm::TcpOptions;

/// What segments leave with, so that a peer with GTSM takes them (RFC 5082 §3).
pub(super) const TTL_MAX: u32 = 255;

type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// A connection, from the first SYN on.
pub(super) struct Socket {
    stage: Stage,
    /// Taken from the machine, not yet by the kernel.
    unsent: Bytes,
    /// The kernel's buffer is full.
    blocked: bool,
    /// Nothing more comes from the machine: close our half once `unsent` is out.
    finishing: bool,
    /// The end of the peer's half was seen, or the connection broke.
    ended: bool,
    /// What the speaker's owner hasn't read yet of what the peer said.
    unread: Unread,
}

enum Stage {
    Dialling(Dialling),
    Open(TcpStream),
}

/// What a look at a socket found.
pub(super) enum Progress {
    /// A dial succeeded.
    Connected {
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// A dial failed.
    Failed(io::Error),
    /// Octets.
    Read(Bytes),
    /// The connection is over.
    Ended(Option<io::Error>),
    /// It takes octets again.
    Writable,
}

/// Whether a write left something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All out.
    All,
    /// The kernel takes no more for now.
    Blocked,
}

const GTSM: &str = "the TTL for GTSM (RFC 5082)";

/// Why a socket can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    /// The kernel doesn't give it what the peer's configuration demands: it won't the next time
    /// either, and without it the peer must not run.
    #[error("can't set {option}: {error}")]
    Option {
        option: &'static str,
        error: io::Error,
    },
    /// Something that may be better the next time.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Socket {
    /// Begins to dial. Every option is in place before the first segment leaves.
    ///
    /// # Errors
    /// An option that can't be set, a source address or interface that isn't ours.
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
                    io::Error::new(error.kind(), format!("can't dial from {source}: {error}"))
                })?;
        }
        let socket = TcpSocket::from_std_stream(socket.into());
        Ok(Self::new(Stage::Dialling(Box::pin(socket.connect(remote)))))
    }

    /// Takes a connection that a listener accepted.
    ///
    /// # Errors
    /// An option that can't be set.
    pub(super) fn accepted(
        stream: TcpStream,
        remote: IpAddr,
        options: &TcpOptions,
    ) -> Result<Self, SetupError> {
        // A key it inherited from the listener, unless it was made before that was installed.
        prepare(&SockRef::from(&stream), remote, options)?;
        Ok(Self::new(Stage::Open(stream)))
    }

    fn new(stage: Stage) -> Self {
        Self {
            stage,
            unsent: Bytes::new(),
            blocked: false,
            finishing: false,
            ended: false,
            unread: Unread::default(),
        }
    }

    /// Whether the machine may be asked for octets.
    pub(super) fn wants_octets(&self) -> bool {
        matches!(self.stage, Stage::Open(_)) && self.unsent.is_empty() && !self.ended
    }

    pub(super) fn blocked(&self) -> bool {
        self.blocked
    }

    pub(super) fn unread(&self) -> &Unread {
        &self.unread
    }

    /// Whether our half is still to be closed.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Looks for something that happened, and registers to be woken if nothing did.
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
                // Before reading: a peer that never stops talking must not keep us from answering.
                let writable = self.blocked && stream.poll_write_ready(cx).is_ready();
                self.blocked &= !writable;
                if !self.unread.is_full() {
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

    /// Hands octets to the kernel.
    ///
    /// # Errors
    /// The connection broke; it is over.
    pub(super) fn write(&mut self, octets: Option<Bytes>) -> io::Result<Written> {
        if let Some(octets) = octets {
            self.unsent = octets;
        }
        let Stage::Open(stream) = &self.stage else {
            return Ok(Written::Blocked);
        };
        while !self.unsent.is_empty() {
            match stream.try_write(&self.unsent) {
                Ok(written) => self.unsent.advance(written),
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

    /// From now on segments are signed with another TCP MD5 key.
    ///
    /// # Errors
    /// The kernel doesn't take it; the connection goes on with the old one.
    pub(super) fn rekey(&self, remote: IpAddr, password: &Secret) -> Result<(), SetupError> {
        match &self.stage {
            Stage::Open(stream) => set_key(stream, IpNet::from(remote), Some(password)),
            // The machine gives it up and dials again.
            Stage::Dialling(_) => Ok(()),
        }
    }

    /// The machine has nothing more for this connection.
    pub(super) fn finish(&mut self) {
        self.finishing = true;
    }

    /// Everything is out: closes our half if the machine is done with the connection.
    pub(super) fn all_sent(&mut self) {
        if std::mem::take(&mut self.finishing)
            && let Stage::Open(stream) = &self.stage
        {
            // It fails where the peer was faster; then there is nobody left to tell.
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

/// What every connection gets: small messages leave at once, and a peer that stopped acknowledging
/// is noticed although only we send; and what its peer asks for.
fn prepare(socket: &RawSocket, remote: IpAddr, options: &TcpOptions) -> Result<(), SetupError> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(options.user_timeout)?;
    if let Some(name) = &options.interface {
        interface_index(name)?;
        let bound = socket.bind_device(Some(name.as_bytes()));
        bound.map_err(|error| match error.raw_os_error() {
            // It went this moment, and may come back.
            Some(libc::ENODEV) => error.into(),
            _ => option("the interface it is bound to")(error),
        })?;
    }
    if let Some(least) = options.min_ttl {
        let ipv4 = remote.is_ipv4();
        let sent = if ipv4 {
            socket.set_ttl_v4(TTL_MAX)
        } else {
            socket.set_unicast_hops_v6(TTL_MAX)
        };
        sent.map_err(option(GTSM))?;
        require_ttl(socket, ipv4, least)?;
    }
    if options.password.is_some() {
        set_key(socket, remote.into(), options.password.as_ref())?;
    }
    Ok(())
}

/// Installs a TCP MD5 key, or takes it away.
///
/// # Errors
/// Says which option it was.
pub(super) fn set_key(
    socket: &impl AsFd,
    remote: IpNet,
    password: Option<&Secret>,
) -> Result<(), SetupError> {
    set_md5_key(socket, remote, password).map_err(option("the TCP MD5 password"))
}

/// Takes nothing below this TTL.
///
/// # Errors
/// Says which option it was.
pub(super) fn require_ttl(socket: &impl AsFd, ipv4: bool, least: u8) -> Result<(), SetupError> {
    set_min_ttl(socket, ipv4, least).map_err(option(GTSM))
}

fn option(option: &'static str) -> impl Fn(io::Error) -> SetupError {
    move |error| SetupError::Option { option, error }
}
