//! The listening sockets, and which peer's password each of them demands.

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

const BACKLOG: i32 = 128;
/// The rest after a failure to accept.
const PAUSE: Duration = Duration::from_secs(1);

/// All listening sockets. Without any, nothing is ever accepted.
#[derive(Debug)]
pub(super) struct Listeners {
    sockets: Vec<TcpListener>,
    /// Whose turn it is: strangers at one of them must not keep peers at another waiting.
    next: usize,
    /// What connections need, by where they come from.
    expected: BTreeMap<IpNet, TcpOptions>,
    /// After a failure: when to try again.
    pause: Option<Pin<Box<Sleep>>>,
}

/// A bound socket that doesn't listen for real yet, since that needs the runtime.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // MD5 keys are per family, and 0.0.0.0 can be listened on beside.
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(TTL_MAX)?;
    } else {
        // The answer to a SYN has to pass the peer's GTSM; whether we have it too, the listener
        // can't know yet.
        socket.set_ttl_v4(TTL_MAX)?;
    }
    socket
        .bind(&address.into())
        .and_then(|()| socket.listen(BACKLOG))
        .map_err(|error| {
            io::Error::new(error.kind(), format!("can't listen on {address}: {error}"))
        })?;
    Ok(socket.into())
}

impl Listeners {
    /// Takes what [`bind`] made. Must be called inside the runtime.
    pub(super) fn new(bound: Vec<std::net::TcpListener>) -> io::Result<Self> {
        let sockets = bound
            .into_iter()
            .map(TcpListener::from_std)
            .collect::<io::Result<_>>()?;
        Ok(Self {
            sockets,
            next: 0,
            expected: BTreeMap::new(),
            pause: None,
        })
    }

    /// Expects connections from `remote`, with these options, its password and no other.
    ///
    /// # Errors
    /// The kernel doesn't take the key. Then nothing from there is accepted.
    pub(super) fn expect(&mut self, remote: IpNet, options: TcpOptions) -> Result<(), SetupError> {
        let old = self.expected.remove(&remote);
        let had_password = old.is_some_and(|expected| expected.password.is_some());
        if options.password.is_some() || had_password {
            self.set_keys(remote, options.password.as_ref())?;
        }
        self.expected.insert(remote, options);
        self.set_least_ttl()
    }

    /// Expects no more connections from `remote`.
    pub(super) fn forget(&mut self, remote: IpNet) {
        if self
            .expected
            .remove(&remote)
            .is_some_and(|expected| expected.password.is_some())
        {
            // A key that stays only keeps out whom nobody expects anyway.
            drop(self.set_keys(remote, None));
        }
        // Likewise one that is too high.
        drop(self.set_least_ttl());
    }

    /// What every expected peer of a family promises holds from the first SYN on. Where they differ,
    /// GTSM begins with the connection: what comes before that from too far away, nobody can forge
    /// who doesn't see our SYN+ACK.
    fn set_least_ttl(&self) -> Result<(), SetupError> {
        for socket in &self.sockets {
            let ipv4 = socket.local_addr()?.is_ipv4();
            let of_family = self
                .expected
                .iter()
                .filter(|(network, _)| network.addr().is_ipv4() == ipv4);
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

    /// The next connection, ready to be used.
    ///
    /// One whose options can't be set, or from an address nobody expects, is closed on the spot and
    /// comes out as an error with its address.
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
                    // Out of descriptors, say: trying again at once would only burn the processor.
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                    return Poll::Ready(Accepted::Failed(None, error.into()));
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    fn admit(&self, stream: TcpStream, remote: SocketAddr) -> Accepted {
        let address = remote.ip().to_canonical();
        let expected = self.expected.iter();
        let Some((_, options)) = expected
            .filter(|(network, _)| network.contains(&address))
            .max_by_key(|(network, _)| network.prefix_len())
        else {
            return Accepted::Unexpected(remote);
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

/// What a listener came up with.
#[derive(Debug)]
pub(super) enum Accepted {
    /// A connection of an expected address.
    Socket {
        socket: Socket,
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// A connection of anybody else; it is closed.
    Unexpected(SocketAddr),
    /// Accepting failed.
    Failed(Option<SocketAddr>, SetupError),
}
