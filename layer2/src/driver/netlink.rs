//! Follows tables of the kernel, such as its links and addresses, by a socket of rtnetlink(7).

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

/// Tables that are built from the messages of the kernel.
pub(super) trait Table: Default {
    /// The groups of events (`RTMGRP_…`).
    const GROUPS: libc::c_int;
    /// The steps of a dump. The kernel answers one request at a time.
    const STEPS: &'static [Step];

    /// Applies a message. Returns whether something may have changed.
    fn apply(&mut self, message: &Message<'_>, excluded: &dyn Fn(&str) -> bool) -> bool;
}

/// A request for a whole table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The message, `RTM_GET…`.
    pub(super) kind: u16,
    /// The address family; AF_UNSPEC for all.
    pub(super) family: libc::c_int,
    /// The length of the fixed part, in octets.
    pub(super) fixed: usize,
}

impl Table for Links {
    /// Links, addresses of both families, routes of both families, and `RTNLGRP_IPV4_NETCONF`,
    /// which reports changes of `rp_filter`.
    const GROUPS: libc::c_int = libc::RTMGRP_LINK
        | libc::RTMGRP_IPV4_IFADDR
        | libc::RTMGRP_IPV6_IFADDR
        | libc::RTMGRP_IPV4_ROUTE
        | libc::RTMGRP_IPV6_ROUTE
        | 1 << (24 - 1);
    const STEPS: &'static [Step] = &[
        Step::all(libc::RTM_GETLINK),
        Step::all(libc::RTM_GETADDR),
        Step::all(libc::RTM_GETROUTE),
    ];

    fn apply(&mut self, message: &Message<'_>, excluded: &dyn Fn(&str) -> bool) -> bool {
        // A change of `rp_filter` changes warnings.
        Self::apply(self, message, excluded) || message.kind == libc::RTM_NEWNETCONF
    }
}

impl Step {
    /// A table of all address families. The largest of the fixed parts is `ifinfomsg`.
    const fn all(kind: u16) -> Self {
        Self {
            kind,
            family: libc::AF_UNSPEC,
            fixed: 16,
        }
    }
}

/// Datagrams that are read in one turn: frames wait meanwhile. The kernel fills up to 32 KiB of a
/// dump at a time.
const DATAGRAMS: usize = 16;

/// The queue of events. What exceeds it is read by a new dump.
const QUEUE: usize = 1 << 20;

/// A socket of rtnetlink that is subscribed to events.
#[derive(Debug)]
pub(super) struct Netlink<T> {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// The sequence number of the last request.
    sequence: u32,
    /// Complete. None until the first dump has ended.
    table: Option<T>,
    /// In progress: events are applied to it, and it replaces `table` at its end.
    dump: Option<Dump<T>>,
    /// The dumps in sequence that were interrupted.
    interruptions: u32,
    /// `table` is of a dump that was interrupted.
    incomplete: bool,
}

/// After as many interrupted dumps the last one is used: on a host whose tables change all the
/// time, no dump would ever be complete.
const INTERRUPTIONS: u32 = 3;

#[derive(Debug, Default)]
struct Dump<T> {
    table: T,
    /// An index into [`Table::STEPS`].
    step: usize,
    /// The kernel's tables changed while it read them: the dump must be repeated.
    interrupted: bool,
}

impl<T: Table> Netlink<T> {
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
        bind(
            &socket,
            &SocketAddrNetlink::new(0, T::GROUPS.cast_unsigned()),
        )?;
        // A connected socket receives from the kernel only, not from other processes.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        let mut netlink = Self {
            socket,
            buffer: vec![0; 64 << 10],
            sequence: 0,
            table: None,
            dump: None,
            interruptions: 0,
            incomplete: false,
        };
        netlink.start_dump()?;
        Ok(netlink)
    }

    /// The tables. None until the first dump has ended.
    pub(super) fn table(&self) -> Option<&T> {
        self.table.as_ref()
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
            dump.table.apply(message, excluded);
            return Ok(false);
        }
        let table = self.table.as_mut();
        Ok(table.is_some_and(|table| table.apply(message, excluded)))
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
        if dump.step < T::STEPS.len() {
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
        self.table = self.dump.take().map(|dump| dump.table);
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
        let step = self.dump.as_ref().and_then(|dump| T::STEPS.get(dump.step));
        let Some(&step) = step else {
            return Ok(());
        };
        self.sequence = self.sequence.wrapping_add(1).max(1);
        send(
            &self.socket,
            &request(step, self.sequence),
            SendFlags::empty(),
        )?;
        Ok(())
    }
}

impl<T> AsFd for Netlink<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether the kernel's table changed while the kernel read it.
fn is_interrupted(message: &Message<'_>) -> bool {
    i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0
}

fn request(step: Step, sequence: u32) -> Vec<u8> {
    /// `NLM_F_REQUEST` and `NLM_F_DUMP` of `<linux/netlink.h>`.
    const FLAGS: u16 = 1 | 0x300;
    const HEADER: usize = 16;
    let mut request = Vec::with_capacity(HEADER + step.fixed);
    let length = u32::try_from(HEADER + step.fixed).unwrap_or(u32::MAX);
    request.extend(length.to_ne_bytes());
    request.extend(step.kind.to_ne_bytes());
    request.extend(FLAGS.to_ne_bytes());
    request.extend(sequence.to_ne_bytes());
    // The port number of the sender, which the kernel knows.
    request.extend([0; 4]);
    // Every fixed part begins with the address family.
    request.extend(u8::try_from(step.family));
    request.resize(HEADER + step.fixed, 0);
    request
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn the_first_dump_lists_the_loopback_interface_with_its_address() {
        let mut netlink = Netlink::<Links>::open().unwrap();
        assert!(netlink.table().is_none());
        while netlink.table().is_none() {
            let timeout = Timespec {
                tv_sec: 10,
                tv_nsec: 0,
            };
            let mut descriptors = [PollFd::new(&netlink, PollFlags::IN)];
            assert_eq!(poll(&mut descriptors, Some(&timeout)), Ok(1));
            netlink.receive(&|_| true).unwrap();
        }
        let interfaces = netlink.table().unwrap().interfaces();
        let loopback = interfaces.values().find(|interface| interface.loopback);
        let networks = &loopback.unwrap().networks;
        assert!(
            networks.contains(&"127.0.0.1/8".parse().unwrap()),
            "{networks:?}"
        );
    }
}
