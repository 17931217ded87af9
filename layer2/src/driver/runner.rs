//! The loop of the thread.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::Timespec;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::links::Links;
use super::netlink::Netlink;
use super::segments::{Change, Ready, Segments, Sent};
use super::traffic::Traffic;
use super::{Options, Request, clock};
use crate::config::Time;
use crate::interface::IfIndex;
use crate::machine::{Input, Machine};
use crate::status::{Event, Status};

/// Frames that are read from one socket in one turn, before timers. A flood of requests must not
/// delay timers, but a hello that was received in time must be read before its sender is silent:
/// the second value exceeds what a queue of the requested size can contain.
const FRAMES: usize = 64;
const HELLOS: usize = 16_384;
/// Groups joined or left in one turn: each takes the kernel up to some ten microseconds.
const GROUPS: usize = 64;
/// Requests in one turn.
const REQUESTS: usize = 1_024;
/// After this time, sockets that failed are opened again.
const RETRY: Duration = Duration::from_millis(200);
/// After this time, the kernel's tables are read again if they were not read completely.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// A turn that takes longer may have been stopped.
const LONG_TURN: Duration = Duration::from_millis(50);
/// Larger than any frame: the loopback interface has an MTU of 65,536.
const FRAME_SIZE: usize = 66_000;

/// The engine with its sockets.
pub(super) struct Runner {
    machine: Machine,
    excluded: Box<dyn Fn(&str) -> bool + Send>,
    requests: mpsc::UnboundedReceiver<Request>,
    events: mpsc::UnboundedSender<Event>,
    /// Readable when there are requests, or no handle any more.
    wake: UnixStream,
    netlink: Netlink<Links>,
    segments: Segments,
    service_proxy: BTreeSet<IpAddr>,
    /// When sockets that failed are opened again.
    retry: Option<Time>,
    /// When the kernel's tables are read again.
    read_again: Option<Time>,
    /// There is work that needs no descriptor and no timer.
    busy: bool,
    buffer: Vec<u8>,
    ready: Vec<Ready>,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    End,
}

impl Runner {
    /// Opens what doesn't depend on an interface.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn new(
        options: Options,
        requests: mpsc::UnboundedReceiver<Request>,
        events: mpsc::UnboundedSender<Event>,
        wake: UnixStream,
    ) -> io::Result<Self> {
        let segments = Segments::new()?;
        let netlink = Netlink::<Links>::open()?;
        segments.watch(&netlink, Ready::Netlink)?;
        segments.watch(&wake, Ready::Requests)?;
        Ok(Self {
            machine: Machine::new(options.identity, options.settings),
            excluded: options.excluded,
            requests,
            events,
            wake,
            netlink,
            segments,
            service_proxy: BTreeSet::new(),
            retry: None,
            read_again: None,
            busy: false,
            buffer: vec![0; FRAME_SIZE],
            ready: Vec::new(),
        })
    }

    /// Runs until the engine has left, or there is no handle.
    pub(super) fn run(mut self) {
        loop {
            match self.turn() {
                Ok(Flow::Continue) => {}
                Ok(Flow::End) => return,
                Err(error) => {
                    tracing::error!(
                        "layer 2 ends, this node announces nothing until it starts again: {error}"
                    );
                    return;
                }
            }
        }
    }

    /// Waits, and handles all that happened: first what was received, then timers, so that a late
    /// turn doesn't see silence where frames wait.
    fn turn(&mut self) -> io::Result<Flow> {
        let timeout = self.timeout();
        let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
        self.segments.wait(timeout.as_ref())?;
        // Before the frames are read: the machine notices first that the process was stalled.
        let now = clock::now();
        self.machine.set_wall_clock(now, clock::wall());
        // After the clock: what arrived until `now` is read before the timers that expired then,
        // also if the process was stopped between the two calls.
        let mut ready = std::mem::take(&mut self.ready);
        self.segments.ready(&mut ready)?;
        for ready in &ready {
            match *ready {
                Ready::Frames(traffic, index) => self.receive(now, traffic, index),
                Ready::Netlink => self.receive_netlink(now),
                Ready::Requests => self.drain_wake(),
            }
        }
        self.ready = ready;
        if self.read_again.is_some_and(|at| at <= now) {
            self.read_again = None;
            let result = self.netlink.start_dump();
            self.check_netlink(now, result);
        }
        if self.retry.is_some_and(|retry| retry <= now) {
            self.update_interfaces(now);
        }
        self.busy = false;
        if self.handle_requests(now) == Flow::End {
            return Ok(Flow::End);
        }
        if self
            .machine
            .poll_timeout()
            .is_some_and(|timeout| timeout <= now)
        {
            self.machine.handle_timeout(now);
        }
        // The process may have been stopped since `now`, and another node may have taken over:
        // what the machine answered meanwhile must not be sent.
        let later = clock::now();
        if later > now + LONG_TURN {
            self.machine.handle_timeout(later);
        }
        Ok(self.output(later))
    }

    /// How long the next turn waits.
    fn timeout(&self) -> Option<Duration> {
        if self.busy {
            return Some(Duration::ZERO);
        }
        let next = [self.machine.poll_timeout(), self.retry, self.read_again];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_sub(clock::now()))
    }

    fn receive(&mut self, now: Time, traffic: Traffic, index: IfIndex) {
        let limit = if traffic.is_hello() { HELLOS } else { FRAMES };
        for _ in 0..limit {
            match self.segments.receive(traffic, index, &mut self.buffer) {
                Ok(Some(length)) => match self.buffer.get(..length) {
                    Some(frame) => self.machine.handle(now, Input::Frame(index, frame)),
                    None => self.segments.count_dropped(),
                },
                Ok(None) => return,
                Err(error) => return self.interface_failed(now, index, &error),
            }
        }
    }

    /// The sockets of an interface failed: it went down, or is gone. They are opened again when
    /// netlink reports it as usable.
    fn interface_failed(&mut self, now: Time, index: IfIndex, error: &io::Error) {
        tracing::debug!("sockets of interface {} failed: {error}", index.0);
        self.segments.close(index);
        self.machine.handle(now, Input::InterfaceGone(index));
        self.retry = Some(now + RETRY);
    }

    fn receive_netlink(&mut self, now: Time) {
        let result = self.netlink.receive(&*self.excluded);
        if self.check_netlink(now, result).unwrap_or_default() {
            self.update_interfaces(now);
        }
    }

    /// Schedules another reading of the kernel's tables if this one failed or was incomplete.
    fn check_netlink<T>(&mut self, now: Time, result: io::Result<T>) -> Option<T> {
        if let Err(error) = &result {
            tracing::warn!(
                "the kernel does not report its links, addresses and routes, trying again: {error}"
            );
        }
        if result.is_err() || self.netlink.take_incomplete() {
            self.read_again = Some(now + READ_AGAIN);
        }
        result.ok()
    }

    fn update_interfaces(&mut self, now: Time) {
        let Some(links) = self.netlink.table() else {
            return;
        };
        for change in self.segments.set_interfaces(links.interfaces()) {
            self.machine.handle(
                now,
                match change {
                    Change::Set(interface) => Input::Interface(interface),
                    Change::Gone(index) => Input::InterfaceGone(index),
                },
            );
        }
        send_warnings(&mut self.segments, links, &self.events);
        let service_proxy = links.service_proxy_addresses();
        if service_proxy != self.service_proxy {
            self.service_proxy.clone_from(&service_proxy);
            self.machine
                .handle(now, Input::ServiceProxyAddresses(service_proxy));
        }
        self.retry = self.segments.has_failures().then_some(now + RETRY);
    }

    /// Empties the pipe, so that it is readable again only after the next request.
    fn drain_wake(&mut self) {
        let mut octets = [0; 64];
        while matches!(self.wake.read(&mut octets), Ok(64)) {}
    }

    fn handle_requests(&mut self, now: Time) -> Flow {
        for _ in 0..REQUESTS {
            match self.requests.try_recv() {
                Ok(Request::Command(command)) => {
                    self.machine.handle(now, Input::Command(command));
                }
                Ok(Request::Status(reply)) => {
                    _ = reply.send(self.status(now));
                }
                Err(TryRecvError::Empty) => return Flow::Continue,
                Err(TryRecvError::Disconnected) => return Flow::End,
            }
        }
        self.busy = true;
        Flow::Continue
    }

    fn status(&mut self, now: Time) -> Status {
        let mut status = self.machine.status(now);
        self.segments.complete(&mut status);
        status
    }

    /// Does what the machine returned.
    fn output(&mut self, now: Time) -> Flow {
        while let Some((index, frame)) = self.machine.next_frame() {
            match self.segments.send(index, &frame) {
                Ok(Sent::Yes) => {}
                Ok(Sent::No) => self.machine.frame_refused(index, &frame),
                Err(error) => self.interface_failed(now, index, &error),
            }
        }
        for _ in 0..GROUPS {
            let Some(change) = self.machine.next_group_change() else {
                break;
            };
            let failed = self.segments.change_group(change);
            if let Some(links) = self.netlink.table().filter(|_| failed) {
                send_warnings(&mut self.segments, links, &self.events);
            }
            self.busy = true;
        }
        let mut flow = Flow::Continue;
        while let Some(event) = self.machine.next_event() {
            if event == Event::Left {
                flow = Flow::End;
            }
            _ = self.events.send(event);
        }
        flow
    }
}

fn send_warnings(segments: &mut Segments, links: &Links, events: &mpsc::UnboundedSender<Event>) {
    for event in segments.update_warnings(links) {
        _ = events.send(event);
    }
}
