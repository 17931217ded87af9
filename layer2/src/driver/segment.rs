//! The sockets of one interface.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::packet_socket::{Membership, PacketSocket};
use super::traffic::Traffic;
use crate::interface::Interface;
use crate::mac::Mac;
use crate::wire::hello_frame;

/// An interface with its sockets.
#[derive(Debug)]
pub(super) struct Segment {
    interface: Interface,
    sockets: Vec<(Traffic, PacketSocket)>,
    promiscuous: bool,
    all_multicast: bool,
    /// The kernel refused a frame as too long.
    too_long: bool,
    /// In plain words.
    pub(super) warnings: BTreeSet<String>,
}

impl Segment {
    /// Opens the sockets of an interface: for hellos only if it is the loopback interface.
    ///
    /// # Errors
    /// The error of the kernel, when the interface is gone or went down meanwhile.
    pub(super) fn open(interface: Interface) -> io::Result<Self> {
        let kinds = Traffic::ALL.into_iter();
        let kinds = kinds.filter(|kind| !interface.loopback || *kind == Traffic::Hello4);
        let sockets = kinds.map(|kind| Ok((kind, open_socket(&interface, kind)?)));
        let mut segment = Self {
            sockets: sockets.collect::<io::Result<_>>()?,
            interface,
            promiscuous: false,
            all_multicast: false,
            too_long: false,
            warnings: BTreeSet::new(),
        };
        if is_wireless(&segment.interface.name) {
            // Many wireless adapters answer ARP for the addresses of the host in their firmware and
            // drop all other requests.
            segment.add(Membership::Promiscuous)?;
            segment.promiscuous = true;
        }
        Ok(segment)
    }

    pub(super) fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Replaces what is known of the interface.
    pub(super) fn set_interface(&mut self, interface: Interface) {
        self.interface = interface;
    }

    pub(super) fn is_promiscuous(&self) -> bool {
        self.promiscuous
    }

    pub(super) fn sockets(&self) -> &[(Traffic, PacketSocket)] {
        &self.sockets
    }

    pub(super) fn socket(&self, traffic: Traffic) -> Option<&PacketSocket> {
        let mut sockets = self.sockets.iter();
        sockets.find_map(|(kind, socket)| (*kind == traffic).then_some(socket))
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// See [`PacketSocket::send`].
    pub(super) fn send(&mut self, traffic: Traffic, frame: &[u8]) -> io::Result<()> {
        let socket = self.socket(traffic).ok_or(io::ErrorKind::NotFound)?;
        let sent = socket.send(frame);
        let too_long = sent
            .as_ref()
            .is_err_and(|error| is_any(error, &[libc::EMSGSIZE]));
        if too_long && !self.too_long {
            self.too_long = true;
            tracing::warn!(
                "{} refuses a frame of {} octets: other nodes may not receive this node there; \
                 set a larger MTU",
                self.interface.name,
                frame.len()
            );
        }
        sent
    }

    /// Receives frames to all multicast addresses from now on. Returns whether that is new.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn receive_all_multicast(&mut self) -> io::Result<bool> {
        if self.all_multicast {
            return Ok(false);
        }
        self.add(Membership::AllMulticast)?;
        self.all_multicast = true;
        Ok(true)
    }

    fn add(&self, membership: Membership) -> io::Result<()> {
        let mut sockets = self.sockets.iter();
        sockets.try_for_each(|(_, socket)| socket.add(membership))
    }

    /// The number of frames that the kernel dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        let sockets = self.sockets.iter();
        sockets.map(|(_, socket)| socket.take_dropped()).sum()
    }
}

fn open_socket(interface: &Interface, kind: Traffic) -> io::Result<PacketSocket> {
    let filter = kind.filter(interface.index);
    let socket = PacketSocket::open(interface.index, kind.ether_type(), &filter)?;
    socket.set_receive_queue()?;
    let group = match kind {
        Traffic::Hello4 => Mac::of_ipv4_group(hello_frame::GROUP_IPV4),
        Traffic::Hello6 => Mac::of_ipv6_group(hello_frame::GROUP_IPV6),
        Traffic::Arp | Traffic::Ndp => return Ok(socket),
    };
    socket.set_priority()?;
    if !interface.loopback {
        socket.add(Membership::Multicast(group))?;
    }
    Ok(socket)
}

fn is_wireless(interface: &str) -> bool {
    let folder = Path::new("/sys/class/net").join(interface);
    ["wireless", "phy80211"]
        .into_iter()
        .any(|entry| folder.join(entry).exists())
}

/// Whether the kernel returned one of these error numbers.
pub(super) fn is_any(error: &io::Error, codes: &[i32]) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}
