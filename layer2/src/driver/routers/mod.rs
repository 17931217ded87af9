//! Runs [`Routers`] on a thread: with the kernel's tables, which need no
//! capability, and with packet sockets if the process has the capability NET_RAW.

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use self::tables::Kernel;
use super::clock;
use super::netlink::Netlink;
use super::packet_socket::{Membership, PacketSocket};
use super::traffic::router_discovery;
use crate::config::Time;
use crate::interface::IfIndex;
use crate::routers::{Change, Input, Routers};
use crate::wire::ethernet::ETHER_TYPE_IPV6;
use crate::wire::router_discovery::ALL_ROUTERS_MAC;

/// Frames that are read from one socket in one turn.
const FRAMES: usize = 64;
/// Larger than any packet of Router Discovery on Ethernet.
const FRAME_SIZE: usize = 9_216;
/// After this time, what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Receives the changes, on the thread.
pub type Report = Box<dyn FnMut(Change) + Send>;

/// A running thread. It ends when this is dropped.
pub struct Handle {
    // The order matters: the channel closes before the stream, so that the thread wakes and finds
    // the channel closed.
    watched: Sender<BTreeSet<Box<str>>>,
    wake: UnixStream,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    /// Sets the interfaces whose routers are wanted. The first report about each of them follows.
    pub fn watch(&self, interfaces: BTreeSet<Box<str>>) {
        // Fails if the thread has ended, which it reports itself.
        _ = self.watched.send(interfaces);
        // If the stream is full, the thread is awake.
        _ = (&self.wake).write(&[0]);
    }
}

/// Starts the thread.
///
/// # Errors
/// The kernel refused a netlink socket or the thread.
pub fn spawn(report: Report) -> io::Result<Handle> {
    let (watched, requests) = channel();
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let runner = Runner::new(report, requests, woken)?;
    thread::Builder::new()
        .name("routers".into())
        .spawn(move || runner.run())?;
    Ok(Handle { watched, wake })
}

struct Runner {
    machine: Routers,
    netlink: Netlink<Kernel>,
    sockets: BTreeMap<IfIndex, PacketSocket>,
    requests: Receiver<BTreeSet<Box<str>>>,
    /// Readable when there are requests, or no handle any more.
    woken: UnixStream,
    report: Report,
    buffer: Vec<u8>,
    /// When sockets that failed are opened again.
    retry: Option<Time>,
    /// When the kernel's tables are read again.
    read_again: Option<Time>,
}

impl Runner {
    fn new(
        report: Report,
        requests: Receiver<BTreeSet<Box<str>>>,
        woken: UnixStream,
    ) -> io::Result<Self> {
        let mut machine = Routers::default();
        let can_send = PacketSocket::check();
        if let Err(error) = &can_send {
            tracing::warn!(
                "this node sends no router advertisements to unnumbered peers, because packet \
                 sockets are refused ({error}): routers that learn their neighbor from them (FRR: \
                 neighbor IF interface) do not accept the session; add the capability NET_RAW to \
                 securityContext.capabilities.add of the container"
            );
        }
        machine.handle(clock::now(), Input::CanSend(can_send.is_ok()));
        Ok(Self {
            machine,
            netlink: Netlink::open()?,
            sockets: BTreeMap::new(),
            requests,
            woken,
            report,
            buffer: vec![0; FRAME_SIZE],
            retry: None,
            read_again: None,
        })
    }

    fn run(mut self) {
        while self.handle_requests() {
            self.wait();
            let now = clock::now();
            self.drain_wake();
            self.receive_netlink(now);
            self.receive_frames(now);
            self.machine.handle_timeout(now);
            self.output(now);
        }
    }

    /// Waits until something can be read or a timer is due.
    fn wait(&self) {
        let next = [self.machine.poll_timeout(), self.retry, self.read_again];
        let timeout = next.into_iter().flatten().min().map(|next| {
            let left = next.saturating_sub(clock::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let mut descriptors = vec![
            PollFd::new(&self.woken, PollFlags::IN),
            PollFd::new(&self.netlink, PollFlags::IN),
        ];
        let sockets = self.sockets.values();
        descriptors.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::warn!("cannot wait for frames, trying again: {error}");
                thread::sleep(RETRY);
            }
        }
    }

    fn drain_wake(&mut self) {
        let mut octets = [0; 64];
        while matches!(self.woken.read(&mut octets), Ok(64)) {}
    }

    /// Returns whether there is a handle.
    fn handle_requests(&mut self) -> bool {
        let mut latest = None;
        loop {
            match self.requests.try_recv() {
                Ok(watched) => latest = Some(watched),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        if let Some(watched) = latest {
            let now = clock::now();
            self.machine.handle(now, Input::Watch(&watched));
            self.output(now);
        }
        true
    }

    fn receive_netlink(&mut self, now: Time) {
        if self.read_again.is_some_and(|at| at <= now) {
            self.read_again = None;
            let dump = self.netlink.start_dump();
            self.check_netlink(now, dump);
        }
        let received = self.netlink.receive(&|_| false);
        let changed = self.check_netlink(now, received).unwrap_or_default();
        if let Some(kernel) = self.netlink.table().filter(|_| changed) {
            self.machine.handle(now, Input::Tables(&kernel.tables()));
        }
    }

    /// Schedules another reading of the kernel's tables if this one failed or was incomplete.
    fn check_netlink<T>(&mut self, now: Time, result: io::Result<T>) -> Option<T> {
        if let Err(error) = &result {
            tracing::warn!(
                "the kernel does not report its links and neighbors, trying again: {error}"
            );
        }
        if result.is_err() || self.netlink.take_incomplete() {
            self.read_again = Some(now + RETRY);
        }
        result.ok()
    }

    fn receive_frames(&mut self, now: Time) {
        let mut failed = Vec::new();
        for (index, socket) in &self.sockets {
            for _ in 0..FRAMES {
                match socket.receive(&mut self.buffer) {
                    Ok(length) => {
                        if let Some(frame) = self.buffer.get(..length) {
                            self.machine.handle(now, Input::Frame(*index, frame));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        failed.push((*index, error));
                        break;
                    }
                }
            }
        }
        for (index, error) in failed {
            self.socket_failed(now, index, &error);
        }
    }

    /// The interface went down or is gone. The socket is opened again when it is usable.
    fn socket_failed(&mut self, now: Time, index: IfIndex, error: &io::Error) {
        tracing::debug!("the socket of interface {} failed: {error}", index.0);
        self.sockets.remove(&index);
        self.retry = Some(now + RETRY);
    }

    /// Does what the machine returned.
    fn output(&mut self, now: Time) {
        self.open_sockets(now);
        while let Some((index, frame)) = self.machine.next_frame() {
            let sent = self.sockets.get(&index).map(|socket| socket.send(&frame));
            // Lost frames are sent again later.
            if let Some(Err(error)) = sent {
                tracing::debug!("interface {} refused a frame: {error}", index.0);
            }
        }
        while let Some(change) = self.machine.next_change() {
            (self.report)(change);
        }
    }

    /// Opens and closes sockets until they match the interfaces in use.
    fn open_sockets(&mut self, now: Time) {
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
        }
        let wanted = self.machine.interfaces();
        self.sockets.retain(|index, _| wanted.contains(index));
        if self.retry.is_some() {
            return;
        }
        for index in wanted {
            if self.sockets.contains_key(&index) {
                continue;
            }
            match open(index) {
                Ok(socket) => drop(self.sockets.insert(index, socket)),
                Err(error) => self.socket_failed(now, index, &error),
            }
        }
    }
}

fn open(index: IfIndex) -> io::Result<PacketSocket> {
    let filter = router_discovery(index);
    let socket = PacketSocket::open(index, ETHER_TYPE_IPV6, &filter)?;
    socket.add(Membership::Multicast(ALL_ROUTERS_MAC))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvTimeoutError;

    use super::*;
    use crate::routers::Note;

    #[test]
    fn every_watched_interface_is_reported_and_the_thread_ends_with_its_handle() {
        let (sender, reports) = channel();
        let handle = spawn(Box::new(move |change| drop(sender.send(change)))).unwrap();
        handle.watch(["lo".into(), "no-such-one".into()].into());
        let wait = || reports.recv_timeout(Duration::from_secs(20)).unwrap();
        let mut changes = [wait(), wait()];
        changes.sort_by(|one, two| one.interface.cmp(&two.interface));
        assert_eq!(&*changes[0].interface, "lo");
        assert!(!changes[0].state.notes.is_empty());
        let missing = Note::Missing("no-such-one".into());
        assert_eq!(changes[1].state.notes, [missing]);
        drop(handle);
        let ended = reports.recv_timeout(Duration::from_secs(20));
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    }
}
