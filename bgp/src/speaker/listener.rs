//! The listening sockets, with the TCP options of the peers that may connect.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use super::socket::{SetupError, Socket, TTL_MAX, require_ttl, set_key};
use crate::config::Secret;
use crate::fsm::TcpOptions;

/// Length of the kernel's queue of connections to accept.
const BACKLOG: i32 = 128;
/// Delay after a failed accept.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// All listening sockets; may be none.
#[derive(Debug)]
pub(super) struct Listeners {
    sockets: Vec<TcpListener>,
    /// Socket to poll first. Rotates, so that connections at one socket do not starve another.
    next: usize,
    /// TCP options by remote network and the index of its interface, 0 for any. Other connections
    /// are closed.
    allowed: BTreeMap<(IpNet, u32), TcpOptions>,
    /// Delay after a failed accept.
    pause: Option<Pin<Box<Sleep>>>,
}

/// Creates a listening socket, to be registered with the runtime by [`Listeners::new`].
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // MD5 keys are per family, and another socket can bind 0.0.0.0.
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(TTL_MAX)?;
    } else {
        // A SYN+ACK must pass the peer's GTSM; which peer it is, the listener cannot know.
        socket.set_ttl_v4(TTL_MAX)?;
    }
    socket
        .bind(&address.into())
        .and_then(|()| socket.listen(BACKLOG))
        .map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        })?;
    Ok(socket.into())
}

impl Listeners {
    /// Registers the sockets of [`bind`]. Must be called inside the runtime.
    pub(super) fn new(bound: Vec<std::net::TcpListener>) -> io::Result<Self> {
        let sockets = bound
            .into_iter()
            .map(TcpListener::from_std)
            .collect::<io::Result<_>>()?;
        Ok(Self {
            sockets,
            next: 0,
            allowed: BTreeMap::new(),
            pause: None,
        })
    }

    /// Allows connections from `remote`, on the interface of index `scope` if that is not 0, with
    /// these options, replacing earlier ones.
    ///
    /// # Errors
    /// Setting the MD5 key failed (then connections from `remote` are closed), or the minimum TTL.
    pub(super) fn allow(
        &mut self,
        remote: IpNet,
        scope: u32,
        options: TcpOptions,
    ) -> Result<(), SetupError> {
        let old = self.allowed.remove(&(remote, scope));
        let had_password = old.is_some_and(|allowed| allowed.password.is_some());
        if options.password.is_some() || had_password {
            self.set_keys(remote, options.password.as_ref())?;
        }
        self.allowed.insert((remote, scope), options);
        self.set_min_ttl()
    }

    /// Closes connections from `remote` on this interface from now on.
    pub(super) fn disallow(&mut self, remote: IpNet, scope: u32) {
        let removed = self.allowed.remove(&(remote, scope));
        // The kernel has one key per address, whatever the interface.
        let mut others = self.allowed.iter();
        let needs_key =
            others.any(|((other, _), options)| *other == remote && options.password.is_some());
        if !needs_key && removed.is_some_and(|allowed| allowed.password.is_some()) {
            // Ignore failure: a stale MD5 key only blocks addresses that are no longer configured.
            drop(self.set_keys(remote, None));
        }
        // Ignore failure: a stale minimum TTL is not too high for the remaining peers.
        drop(self.set_min_ttl());
    }

    /// Applies GTSM (RFC 5082) from the first SYN on, with the lowest minimum TTL of all peers of a
    /// family. A higher minimum of a single peer applies once its connection is accepted. Until
    /// then an off-path attacker cannot complete the handshake, because it does not see our
    /// SYN+ACK.
    fn set_min_ttl(&self) -> Result<(), SetupError> {
        for socket in &self.sockets {
            let ipv4 = socket.local_addr()?.is_ipv4();
            let of_family = self
                .allowed
                .iter()
                .filter(|((network, _), _)| network.addr().is_ipv4() == ipv4);
            let least = of_family
                .map(|(_, options)| options.min_ttl.unwrap_or(0))
                .min();
            require_ttl(socket, ipv4, least.unwrap_or(0))?;
        }
        Ok(())
    }

    fn set_keys(&self, remote: IpNet, password: Option<&Secret>) -> Result<(), SetupError> {
        for socket in &self.sockets {
            if socket.local_addr()?.is_ipv4() == remote.addr().is_ipv4() {
                set_key(socket, remote, password)?;
            }
        }
        Ok(())
    }

    /// The next connection, with its options set. If that fails, or if its address is not allowed,
    /// the connection is closed.
    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Accepted> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        for at in 0..self.sockets.len() {
            let turn = (self.next + at) % self.sockets.len();
            let Some(socket) = self.sockets.get(turn) else {
                continue;
            };
            match socket.poll_accept(cx) {
                Poll::Ready(Ok((stream, remote))) => {
                    self.next = turn + 1;
                    return Poll::Ready(self.admit(stream, remote));
                }
                Poll::Ready(Err(error)) => {
                    // For example out of descriptors: an immediate retry would fail too.
                    self.pause = Some(Box::pin(sleep(ACCEPT_RETRY_INTERVAL)));
                    return Poll::Ready(Accepted::Failed(None, error.into()));
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    fn admit(&self, stream: TcpStream, remote: SocketAddr) -> Accepted {
        let address = remote.ip().to_canonical();
        let on = match remote {
            SocketAddr::V6(remote) => remote.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let allowed = self.allowed.iter();
        let Some((_, options)) = allowed
            .filter(|((network, scope), _)| {
                network.contains(&address) && (*scope == 0 || *scope == on)
            })
            .max_by_key(|((network, scope), _)| (network.prefix_len(), *scope))
        else {
            return Accepted::Unknown(remote);
        };
        let admitted = match stream.local_addr() {
            Ok(local) => Socket::accepted(stream, address, options).map(|socket| (socket, local)),
            Err(error) => Err(error.into()),
        };
        match admitted {
            Ok((socket, local)) => Accepted::Socket {
                socket,
                local,
                remote,
            },
            Err(error) => Accepted::Failed(Some(remote), error),
        }
    }
}

/// Result of an accept.
#[derive(Debug)]
pub(super) enum Accepted {
    /// A connection from an allowed address.
    Socket {
        socket: Socket,
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// A connection from another address; it is closed.
    Unknown(SocketAddr),
    /// Accepting failed, or setting the options of this connection, which is closed.
    Failed(Option<SocketAddr>, SetupError),
}
