//! UDP sockets of BFD: one receiver for each port and address family, one sender for each session.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket as StdSocket};
use std::task::{Context, Poll};

use socket2::{Domain, MaybeUninitSlice, MsgHdrMut, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::super::socket::TTL_MAX;
use super::super::sockopt::{initialised, request_metadata, set_dscp_cs6};
use crate::bfd::{Hops, PACKET_LENGTH, Path, SOURCE_PORTS};

/// Size of the receive buffer. Valid packets are shorter; longer ones are truncated and fail the
/// length check.
const OCTETS_MAX: usize = 128;
/// Size of the buffer for control messages: destination address, interface and TTL.
const CONTROL_MAX: usize = 128;
/// Maximum number of source ports to try.
const PORTS_TRIED: u16 = 64;

/// A datagram and its metadata.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) remote: IpAddr,
    pub(super) local: IpAddr,
    pub(super) interface: u32,
    pub(super) ttl: u8,
    octets: [u8; OCTETS_MAX],
    length: usize,
}

impl Datagram {
    pub(super) fn octets(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

/// A socket bound to a BFD port.
#[derive(Debug)]
pub(super) struct Receiver(UdpSocket);

impl Receiver {
    /// Binds the port.
    ///
    /// # Errors
    /// The text says what to do if the port is in use.
    pub(super) fn bind(hops: Hops, ipv4: bool) -> io::Result<Self> {
        let port = hops.port();
        let at = SocketAddr::new(unspecified(ipv4), port);
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if !ipv4 {
            socket.set_only_v6(true)?;
        }
        request_metadata(&socket, ipv4)?;
        socket.bind(&at.into()).map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "; another BFD speaker (BIRD, FRR) runs on this host: disable BFD there, or \
                     for this peer"
                }
                io::ErrorKind::PermissionDenied => "; add the capability NET_BIND_SERVICE",
                _ => "",
            };
            let text = format!("cannot bind UDP port {port}: {error}{advice}");
            io::Error::new(error.kind(), text)
        })?;
        Self::new(socket.into())
    }

    /// Registers a socket whose options are set.
    pub(super) fn new(socket: StdSocket) -> io::Result<Self> {
        Ok(Self(UdpSocket::from_std(socket)?))
    }

    /// Reads a datagram that has arrived, even if the runtime has not noticed it yet.
    pub(super) fn take(&self) -> Option<io::Result<Datagram>> {
        match receive(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            result => Some(result),
        }
    }

    /// The next datagram.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<Datagram>> {
        loop {
            if let Err(error) = std::task::ready!(self.0.poll_recv_ready(cx)) {
                return Poll::Ready(Err(error));
            }
            match self.0.try_io(Interest::READABLE, || receive(&self.0)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

fn unspecified(ipv4: bool) -> IpAddr {
    if ipv4 {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

fn receive(socket: &UdpSocket) -> io::Result<Datagram> {
    let mut octets = [MaybeUninit::new(0u8); OCTETS_MAX];
    let mut control = [MaybeUninit::new(0u8); CONTROL_MAX];
    let mut from = SockAddr::from(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0));
    let (length, control_length) = {
        let mut buffers = [MaybeUninitSlice::new(&mut octets)];
        let mut message = MsgHdrMut::new()
            .with_addr(&mut from)
            .with_buffers(&mut buffers)
            .with_control(&mut control);
        let length = SockRef::from(socket).recvmsg(&mut message, 0)?;
        (length, message.control_len())
    };
    let control = initialised(control);
    let control = control.get(..control_length).unwrap_or_default();
    let remote = from.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let origin = Origin::of(control).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Datagram {
        remote: remote.ip(),
        local: origin.local,
        interface: origin.interface,
        ttl: origin.ttl,
        octets: initialised(octets),
        length,
    })
}

/// Metadata of a datagram from the kernel.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    local: IpAddr,
    interface: u32,
    ttl: u8,
}

impl Origin {
    /// Parses control messages (`cmsg(3)`): length, level, type and data, aligned to a machine
    /// word.
    fn of(mut control: &[u8]) -> Option<Self> {
        const WORD: usize = size_of::<usize>();
        const HEADER: usize = WORD + 8;
        let (mut place, mut ttl) = (None, None);
        while control.len() >= HEADER {
            let length = usize::from_ne_bytes(control.get(..WORD)?.try_into().ok()?);
            let level = i32::from_ne_bytes(control.get(WORD..WORD + 4)?.try_into().ok()?);
            let kind = i32::from_ne_bytes(control.get(WORD + 4..HEADER)?.try_into().ok()?);
            let data = control.get(HEADER..length)?;
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let address: [u8; 4] = data.get(8..12)?.try_into().ok()?;
                    place = Some((IpAddr::from(address), word(data.get(..4)?)?));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let address: [u8; 16] = data.get(..16)?.try_into().ok()?;
                    place = Some((IpAddr::from(address), word(data.get(16..20)?)?));
                }
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    ttl = u8::try_from(word(data.get(..4)?)?).ok();
                }
                _ => {}
            }
            control = control
                .get(length.next_multiple_of(WORD)..)
                .unwrap_or_default();
        }
        let (local, interface) = place?;
        let ttl = ttl?;
        Some(Self {
            local,
            interface,
            ttl,
        })
    }
}

fn word(octets: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.try_into().ok()?))
}

/// Sending socket of a session. Its source port never changes (RFC 5881 §4).
#[derive(Debug)]
pub(super) struct Sender {
    socket: StdSocket,
    to: SocketAddr,
}

impl Sender {
    /// Binds a free source port, starting at `first`.
    ///
    /// # Errors
    /// The host lacks the source address or interface, or no port is free.
    pub(super) fn new(path: &Path, interface: Option<&str>, first: u16) -> io::Result<Self> {
        let ipv4 = path.remote.is_ipv4();
        let to = match path.remote {
            IpAddr::V4(_) => SocketAddr::new(path.remote, path.hops.port()),
            IpAddr::V6(remote) => {
                let scope = path.interface.unwrap_or(0);
                SocketAddrV6::new(remote, path.hops.port(), 0, scope).into()
            }
        };
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if ipv4 {
            socket.set_ttl_v4(TTL_MAX)?;
        } else {
            socket.set_unicast_hops_v6(TTL_MAX)?;
        }
        set_dscp_cs6(&socket, ipv4)?;
        if let Some(name) = interface {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        let local = path.local.unwrap_or(unspecified(ipv4));
        let mut port = first;
        for _ in 0..PORTS_TRIED {
            let from = match local {
                IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                    SocketAddrV6::new(v6, port, 0, path.interface.unwrap_or(0)).into()
                }
                other => SocketAddr::new(other, port),
            };
            match socket.bind(&from.into()) {
                Ok(()) => {
                    let socket = socket.into();
                    return Ok(Self { socket, to });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    let text = format!("cannot send from {local}: {error}");
                    return Err(io::Error::new(error.kind(), text));
                }
            }
            port = port.checked_add(1).unwrap_or(*SOURCE_PORTS.start());
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "no free UDP source port in the range 49152 to 65535",
        ))
    }

    pub(super) fn send(&self, octets: &[u8; PACKET_LENGTH]) -> io::Result<()> {
        self.socket.send_to(octets, self.to).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_are_parsed_within_their_lengths() {
        fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
            let mut octets = (16 + data.len()).to_ne_bytes().to_vec();
            octets.extend(level.to_ne_bytes());
            octets.extend(kind.to_ne_bytes());
            octets.extend(data);
            octets.resize(octets.len().next_multiple_of(8), 0);
            octets
        }
        let mut info = 7u32.to_ne_bytes().to_vec();
        info.extend([10, 0, 0, 1, 192, 0, 2, 1]);
        let unknown = message(99, 99, b"odd");
        let ttl = message(libc::IPPROTO_IP, libc::IP_TTL, &255u32.to_ne_bytes());
        let place = message(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        let all = [unknown, ttl.clone(), place].concat();
        let expected = Origin {
            local: "192.0.2.1".parse().unwrap(),
            interface: 7,
            ttl: 255,
        };
        assert_eq!(Origin::of(&all), Some(expected));
        assert_eq!(Origin::of(&ttl), None, "without the address");
        for length in 0..all.len() - 4 {
            assert_eq!(Origin::of(&all[..length]), None, "{length}");
        }
        let mut endless = ttl;
        endless[..8].fill(0xff);
        assert_eq!(Origin::of(&endless), None);
        endless[..8].fill(0);
        assert_eq!(Origin::of(&endless), None);
    }
}
