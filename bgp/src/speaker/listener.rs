//! The listening sockets, and which peer's password each of them demands.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use super::socket::{Socket, md5_error};
use super::sockopt::set_md5_key;
use crate::config::Secret;

const BACKLOG: i32 = 128;
/// The rest after a failure to accept.
const PAUSE: Duration = Duration::from_secs(1);

/// What connections from one address need.
#[derive(Debug)]
struct Expected {
    password: Option<Secret>,
    user_timeout: Option<Duration>,
}

/// All listening sockets. Without any, nothing is ever accepted.
#[derive(Debug)]
pub(super) struct Listeners {
    sockets: Vec<TcpListener>,
    expected: HashMap<IpAddr, Expected>,
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
            expected: HashMap::new(),
            pause: None,
        })
    }

    /// Expects connections from `remote`, with this password and no other.
    ///
    /// # Errors
    /// The kernel doesn't take the key. Then nothing from that address is accepted.
    pub(super) fn expect(
        &mut self,
        remote: IpAddr,
        password: Option<Secret>,
        user_timeout: Option<Duration>,
    ) -> io::Result<()> {
        let remote = remote.to_canonical();
        let old = self.expected.remove(&remote);
        let had_password = old.is_some_and(|expected| expected.password.is_some());
        if password.is_some() || had_password {
            self.set_keys(remote, password.as_ref())?;
        }
        self.expected.insert(
            remote,
            Expected {
                password,
                user_timeout,
            },
        );
        Ok(())
    }

    /// Expects no more connections from `remote`.
    pub(super) fn forget(&mut self, remote: IpAddr) {
        let remote = remote.to_canonical();
        if self
            .expected
            .remove(&remote)
            .is_some_and(|expected| expected.password.is_some())
        {
            // A key that stays only keeps out whom nobody expects anyway.
            drop(self.set_keys(remote, None));
        }
    }

    fn set_keys(&self, remote: IpAddr, password: Option<&Secret>) -> io::Result<()> {
        for socket in &self.sockets {
            if socket.local_addr()?.is_ipv4() == remote.is_ipv4() {
                set_md5_key(socket, remote, password).map_err(md5_error)?;
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
        for socket in &self.sockets {
            match socket.poll_accept(cx) {
                Poll::Ready(Ok((stream, remote))) => {
                    return Poll::Ready(self.admit(stream, remote));
                }
                Poll::Ready(Err(error)) => {
                    // Out of descriptors, say: trying again at once would only burn the processor.
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                    return Poll::Ready(Accepted::Failed(None, error));
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    fn admit(&self, stream: TcpStream, remote: SocketAddr) -> Accepted {
        let Some(expected) = self.expected.get(&remote.ip().to_canonical()) else {
            return Accepted::Unexpected(remote);
        };
        let admitted = stream.local_addr().and_then(|local| {
            let password = expected.password.as_ref();
            let socket = Socket::accepted(stream, remote.ip(), password, expected.user_timeout)?;
            Ok((socket, local))
        });
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
    Failed(Option<SocketAddr>, io::Error),
}
