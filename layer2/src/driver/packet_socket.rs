//! A packet socket of one interface and one kind of frames (packet(7)).
//!
//! The only file of this crate that contains `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::{c_int, c_void, socklen_t};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::interface::IfIndex;
use crate::mac::Mac;

// `<linux/socket.h>` and `<linux/if_packet.h>`: libc has them as `c_int`.
const AF_PACKET: u16 = 17;
const PACKET_MR_MULTICAST: u16 = 0;
const PACKET_MR_PROMISC: u16 = 1;
const PACKET_MR_ALLMULTI: u16 = 2;

/// What an interface receives in addition because of a socket, until the socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    /// Frames to this multicast address.
    Multicast(Mac),
    /// Frames to all multicast addresses.
    AllMulticast,
    /// All frames.
    Promiscuous,
}

/// A packet socket. It doesn't block.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: Socket,
    interface: c_int,
}

impl PacketSocket {
    /// Checks that packet sockets can be opened at all.
    ///
    /// # Errors
    /// EPERM without the capability NET_RAW, EAFNOSUPPORT without packet sockets in the kernel.
    pub(super) fn check() -> io::Result<()> {
        Self::unbound().map(drop)
    }

    /// A socket of protocol 0: it receives nothing until it is bound.
    fn unbound() -> io::Result<Socket> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Opens a socket for the frames of an interface with this EtherType that pass the filter.
    ///
    /// # Errors
    /// The error of the kernel: ENODEV or ENXIO if there is no such interface.
    pub(super) fn open(
        interface: IfIndex,
        ether_type: u16,
        filter: &[SockFilter],
    ) -> io::Result<Self> {
        let index =
            c_int::try_from(interface.0).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
        let socket = Self {
            socket: Self::unbound()?,
            interface: index,
        };
        // Before it is bound, so that the socket never has a frame that the filter would drop.
        socket.socket.attach_filter(filter)?;
        // The filter drops sent frames too: a kernel before 4.20, without the option, wastes time.
        _ = socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1);
        socket.bind(ether_type)?;
        // Even code that an attacker runs in this process can't widen the filter.
        socket.set(libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1)?;
        Ok(socket)
    }

    fn bind(&self, ether_type: u16) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: AF_PACKET,
            sll_protocol: ether_type.to_be(),
            sll_ifindex: self.interface,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the pointer and the length describe `address`, which lives during the call.
        let result = unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                length_of::<libc::sockaddr_ll>(),
            )
        };
        checked(result)
    }

    /// Receives a frame into the buffer. Returns its length, which exceeds the buffer if the frame
    /// does.
    ///
    /// # Errors
    /// EAGAIN without a frame, ENETDOWN once after the interface went down.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, length) = recv(&self.socket, buffer, RecvFlags::TRUNC)?;
        Ok(length)
    }

    /// Sends an Ethernet frame.
    ///
    /// # Errors
    /// EAGAIN or ENOBUFS with a full queue, ENETDOWN, ENXIO or ENODEV without the interface,
    /// EMSGSIZE if it exceeds the MTU.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.socket, frame, SendFlags::empty())?;
        Ok(())
    }

    /// Sends frames before others of the interface. Priority 7 requires NET_RAW, on older kernels
    /// NET_ADMIN. The fallback is 6, the highest one without a capability.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn set_priority(&self) -> io::Result<()> {
        let priority = |value: c_int| self.set(libc::SOL_SOCKET, libc::SO_PRIORITY, &value);
        priority(7).or_else(|_| priority(6))
    }

    /// Requests the largest receive queue that `net.core.rmem_max` permits.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn set_receive_queue(&self) -> io::Result<()> {
        const WANTED: c_int = 4 << 20;
        self.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &WANTED)
    }

    /// Adds a membership.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn add(&self, membership: Membership) -> io::Result<()> {
        let (kind, Mac([a, b, c, d, e, f])) = match membership {
            Membership::Multicast(mac) => (PACKET_MR_MULTICAST, mac),
            Membership::AllMulticast => (PACKET_MR_ALLMULTI, Mac::ZERO),
            Membership::Promiscuous => (PACKET_MR_PROMISC, Mac::ZERO),
        };
        let request = libc::packet_mreq {
            mr_ifindex: self.interface,
            mr_type: kind,
            mr_alen: 6,
            mr_address: [a, b, c, d, e, f, 0, 0],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// The number of frames that the kernel dropped since the last call because the queue was full.
    /// 0 if the kernel doesn't report it.
    pub(super) fn take_dropped(&self) -> u64 {
        let mut statistics = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = length_of::<libc::tpacket_stats>();
        // SAFETY: the pointer and the length describe `statistics`, which lives during the call and
        // consists of integers: every content is valid.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast::<c_void>(),
                &raw mut length,
            )
        };
        checked(result).map_or(0, |()| statistics.tp_drops.into())
    }

    /// Sets an option.
    fn set<T: OptionValue>(&self, level: c_int, name: c_int, value: &T) -> io::Result<()> {
        // SAFETY: the pointer and the length describe `value`, which lives during the call. The
        // kernel only reads from it.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                name,
                (&raw const *value).cast::<c_void>(),
                length_of::<T>(),
            )
        };
        checked(result)
    }
}

/// The value of an option: integers only, no padding and no pointer.
trait OptionValue: Copy {}
impl OptionValue for c_int {}
impl OptionValue for libc::packet_mreq {}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn length_of<T>() -> socklen_t {
    // The structures here have some ten octets. The kernel refuses the length 0.
    socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn checked(result: c_int) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
