//! Follows links, addresses and default routes of the kernel by a socket of rtnetlink(7).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
    socket_with, sockopt,
};

use super::attributes::{Message, messages, u32_at};
use super::links::Links;

/// Links, addresses of both families, routes of both families, and `RTNLGRP_IPV4_NETCONF`, which
/// reports changes of `rp_filter`.
const GROUPS: u32 = (libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_ROUTE
    | 1 << (24 - 1))
    .cast_unsigned();

/// Datagrams that are read in one turn: frames wait meanwhile. The kernel fills up to 32 KiB of a
/// dump at a time.
const DATAGRAMS: usize = 16;

/// The queue of events. What exceeds it is read by a new dump.
const QUEUE: usize = 1 << 20;

/// The steps of a dump. The kernel answers one request at a time.
const STEPS: [u16; 3] = [libc::RTM_GETLINK, libc::RTM_GETADDR, libc::RTM_GETROUTE];

/// A socket of rtnetlink that is subscribed to events.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// The sequence number of the last request.
    sequence: u32,
    /// Complete. None until the first dump has ended.
    links: Option<Links>,
    /// In progress: events are applied to it, and it replaces `links` at its end.
    dump: Option<Dump>,
    /// The dumps in sequence that were interrupted.
    interruptions: u32,
    /// `links` are of a dump that was interrupted.
    incomplete: bool,
}

/// After as many interrupted dumps the last one is used: on a host whose tables change all the
/// time, no dump would ever be complete.
const INTERRUPTIONS: u32 = 3;

#[derive(Debug, Default)]
struct Dump {
    links: Links,
    /// An index into [`STEPS`].
    step: usize,
    /// The kernel's tables changed while it read them: the dump must be repeated.
    interrupted: bool,
}

impl Netlink {
    /// Subscribes to events and requests a dump.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            // NETLINK_ROUTE is 0.
            None,
        )?;
        sockopt::set_socket_recv_buffer_size(&socket, QUEUE)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        // A connected socket receives from the kernel only, not from other processes.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        let mut netlink = Self {
            socket,
            buffer: vec![0; 64 << 10],
            sequence: 0,
            links: None,
            dump: None,
            interruptions: 0,
            incomplete: false,
        };
        netlink.start_dump()?;
        Ok(netlink)
    }

    /// The tables. None until the first dump has ended.
    pub(super) fn links(&self) -> Option<&Links> {
        self.links.as_ref()
    }

    /// Reads pending messages. Returns whether something may have changed.
    ///
    /// # Errors
    /// The error of the kernel. Overflow of the queue isn't one: the tables are read again.
    pub(super) fn receive(&mut self, excluded: &dyn Fn(&str) -> bool) -> io::Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let changed = self.receive_into(&mut buffer, excluded);
        self.buffer = buffer;
        changed
    }

    fn receive_into(
        &mut self,
        buffer: &mut [u8],
        excluded: &dyn Fn(&str) -> bool,
    ) -> io::Result<bool> {
        let mut changed = false;
        for _ in 0..DATAGRAMS {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => {
                    for message in messages(buffer.get(..length).unwrap_or_default()) {
                        changed |= self.apply(&message, excluded)?;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => {
                    tracing::debug!("the queue of netlink events overflowed: reading all tables");
                    self.start_dump()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(changed)
    }

    fn apply(
        &mut self,
        message: &Message<'_>,
        excluded: &dyn Fn(&str) -> bool,
    ) -> io::Result<bool> {
        let kind = i32::from(message.kind);
        if kind == libc::NLMSG_DONE || kind == libc::NLMSG_ERROR {
            // Otherwise the end of a dump that was given up.
            let is_current = message.sequence == self.sequence;
            return if is_current {
                self.step_done(message)
            } else {
                Ok(false)
            };
        }
        if let Some(dump) = &mut self.dump {
            dump.interrupted |= is_interrupted(message);
            dump.links.apply(message, excluded);
            return Ok(false);
        }
        // A change of `rp_filter` changes warnings.
        let is_netconf = message.kind == libc::RTM_NEWNETCONF;
        let links = self.links.as_mut();
        Ok(links.is_some_and(|links| links.apply(message, excluded) || is_netconf))
    }

    /// A step of the dump has ended. Returns whether it was the last one.
    fn step_done(&mut self, message: &Message<'_>) -> io::Result<bool> {
        let Some(dump) = &mut self.dump else {
            return Ok(false);
        };
        // The payload of both kinds begins with 0 or a negative error number.
        let error =
            u32_at(message.payload, 0).map_or(0, |error| error.cast_signed().wrapping_neg());
        if error != 0 && error != libc::EBUSY {
            let error = io::Error::from_raw_os_error(error);
            tracing::warn!("the kernel did not list all links, addresses and routes: {error}");
        }
        // EBUSY: a dump that was given up is still in progress.
        dump.interrupted |= error == libc::EBUSY || is_interrupted(message);
        dump.step += 1;
        if dump.step < STEPS.len() {
            self.request()?;
            return Ok(false);
        }
        self.interruptions = if dump.interrupted {
            self.interruptions + 1
        } else {
            0
        };
        if (1..INTERRUPTIONS).contains(&self.interruptions) {
            self.start_dump()?;
            return Ok(false);
        }
        self.incomplete = dump.interrupted;
        self.interruptions = 0;
        self.links = self.dump.take().map(|dump| dump.links);
        Ok(true)
    }

    /// Whether the tables of the last dump may be incomplete, and were not reported so before.
    pub(super) fn take_incomplete(&mut self) -> bool {
        std::mem::take(&mut self.incomplete)
    }

    /// Requests all tables.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn start_dump(&mut self) -> io::Result<()> {
        self.dump = Some(Dump::default());
        self.request()
    }

    /// Requests the table of the current step.
    fn request(&mut self) -> io::Result<()> {
        let step = self.dump.as_ref().and_then(|dump| STEPS.get(dump.step));
        let Some(&kind) = step else {
            return Ok(());
        };
        self.sequence = self.sequence.wrapping_add(1).max(1);
        send(
            &self.socket,
            &request(kind, self.sequence),
            SendFlags::empty(),
        )?;
        Ok(())
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether the kernel's table changed while the kernel read it.
fn is_interrupted(message: &Message<'_>) -> bool {
    i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0
}

/// A request for a whole table, of all address families.
fn request(kind: u16, sequence: u32) -> Vec<u8> {
    /// `NLM_F_REQUEST` and `NLM_F_DUMP` of `<linux/netlink.h>`.
    const FLAGS: u16 = 1 | 0x300;
    let mut request = Vec::with_capacity(32);
    request.extend(32u32.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(FLAGS.to_ne_bytes());
    request.extend(sequence.to_ne_bytes());
    // The port number of the sender, which the kernel knows, and the largest of the fixed parts,
    // `ifinfomsg`, with the address family AF_UNSPEC.
    request.resize(32, 0);
    request
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn the_first_dump_lists_the_loopback_interface_with_its_address() {
        let mut netlink = Netlink::open().unwrap();
        assert!(netlink.links().is_none());
        while netlink.links().is_none() {
            let timeout = Timespec {
                tv_sec: 10,
                tv_nsec: 0,
            };
            let mut descriptors = [PollFd::new(&netlink, PollFlags::IN)];
            assert_eq!(poll(&mut descriptors, Some(&timeout)), Ok(1));
            netlink.receive(&|_| true).unwrap();
        }
        let interfaces = netlink.links().unwrap().interfaces();
        let loopback = interfaces.values().find(|interface| interface.loopback);
        let networks = &loopback.unwrap().networks;
        assert!(
            networks.contains(&"127.0.0.1/8".parse().unwrap()),
            "{networks:?}"
        );
    }
}
