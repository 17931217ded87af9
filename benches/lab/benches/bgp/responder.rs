//! The remote end of the daemon's BFD sessions: ferrolb's state machine on a thread of the sink's
//! core, with real-time priority, so that late packets are the daemon's. It counts lost sessions
//! and can stop sending to measure the daemon's detection time.

use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::num::NonZeroU8;
use std::pin::Pin;
use std::process::Command as Program;
use std::sync::mpsc as blocking;
use std::task::{Context as Waking, Poll};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ferrolb_bgp::bfd::{
    Arrival, Bfd, Cause, Hops, Input, Interval, PACKET_LENGTH, Packet, Path, SOURCE_PORTS,
    SessionConfig, State, TRANSMIT_TTL, Timers,
};
use ferrolb_interop_tests::netns::NamespaceHandle;
use ferrolb_interop_tests::process::run;
use rustix::thread::gettid;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::unconstrained;
use tokio::time::{Sleep, sleep_until};

use super::sink::pin;

/// Transmit interval of both ends in milliseconds.
pub(crate) const INTERVAL_MS: u32 = 50;
pub(crate) const TIMERS: Timers = Timers {
    desired_min_tx: Interval::from_millis(INTERVAL_MS),
    required_min_rx: Interval::from_millis(INTERVAL_MS),
    detect_mult: NonZeroU8::MIN.saturating_add(2),
};
/// Above the priority of ferrolb's BFD thread.
const PRIORITY: &str = "10";
/// Datagrams read from one session before the next session's turn.
const DATAGRAMS_PER_TURN: usize = 16;

/// Measurements since [`Responder::reset`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Sessions that are up now.
    pub(crate) up: usize,
    /// Sessions that the daemon declared down.
    pub(crate) lost_by_daemon: usize,
    /// Sessions declared down here because the daemon sent nothing for the detection time.
    pub(crate) lost_here: usize,
    /// The longest time between two packets of the daemon in a session that was up.
    pub(crate) silence: Duration,
    /// The largest delay of a timer on this thread.
    pub(crate) late: Duration,
    /// For each session that was up: time from the last packet sent here to the daemon's packet
    /// with a state other than Up.
    pub(crate) detected: Vec<Option<Duration>>,
}

enum Command {
    Reset,
    Silence,
    Resume,
    Report(blocking::Sender<Report>),
}

pub(crate) struct Responder {
    commands: mpsc::UnboundedSender<Command>,
}

impl Responder {
    /// Starts a session at each of the addresses, on a thread in the namespace.
    pub(crate) fn open(
        namespace: &NamespaceHandle,
        daemon: IpAddr,
        addresses: &[IpAddr],
    ) -> Result<Self> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (ready, opened) = blocking::channel();
        let namespace = namespace.try_clone()?;
        let addresses = addresses.to_vec();
        thread::Builder::new()
            .name("responder".to_owned())
            .spawn(move || {
                let begin = || {
                    namespace.enter()?;
                    pin()?;
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?;
                    let inside = runtime.enter();
                    let driver = Driver::new(daemon, &addresses, receiver)?;
                    drop(inside);
                    anyhow::Ok((runtime, driver))
                };
                match begin() {
                    Ok((runtime, driver)) => {
                        drop(ready.send(Ok(gettid().as_raw_nonzero().get())));
                        // More sockets than the budget of a Tokio task allows to read in one turn.
                        runtime.block_on(unconstrained(driver.run()));
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            })?;
        let thread = opened.recv().context("the responder's thread ended")??;
        run(Program::new("chrt").args(["--rr", "--pid", PRIORITY, &thread.to_string()]))?;
        Ok(Self { commands })
    }

    /// Resets all measurements.
    pub(crate) fn reset(&self) -> Result<()> {
        self.command(Command::Reset)
    }

    /// Stops sending, and ignores received packets.
    pub(crate) fn silence(&self) -> Result<()> {
        self.command(Command::Silence)
    }

    /// Sends and processes packets again.
    pub(crate) fn resume(&self) -> Result<()> {
        self.command(Command::Resume)
    }

    pub(crate) fn report(&self) -> Result<Report> {
        let (sender, answer) = blocking::channel();
        self.command(Command::Report(sender))?;
        answer.recv().context("the responder's thread ended")
    }

    fn command(&self, command: Command) -> Result<()> {
        let sent = self.commands.send(command);
        sent.ok().context("the responder's thread ended")
    }
}

/// Sockets and state of one session.
struct End {
    path: Path,
    address: IpAddr,
    receiver: UdpSocket,
    sender: StdSocket,
    up: bool,
    last_received: Option<Instant>,
}

impl End {
    fn new(daemon: IpAddr, address: IpAddr, port: u16) -> Result<Self> {
        let receiver = StdSocket::bind((address, Hops::Single.port()))?;
        receiver.set_nonblocking(true)?;
        let sender = StdSocket::bind((address, port))?;
        sender.set_nonblocking(true)?;
        sender.set_ttl(TRANSMIT_TTL.into())?;
        sender.connect(SocketAddr::new(daemon, Hops::Single.port()))?;
        Ok(Self {
            path: Path {
                remote: daemon,
                local: Some(address),
                interface: None,
                hops: Hops::Single,
            },
            address,
            receiver: UdpSocket::from_std(receiver)?,
            sender,
            up: false,
            last_received: None,
        })
    }
}

/// State while [`Responder::silence`] is in effect.
struct Cut {
    since: Instant,
    /// Sessions that were up, and when the daemon signalled that it detected the failure.
    detected: Vec<(usize, Option<Instant>)>,
}

struct Driver {
    bfd: Bfd,
    ends: Vec<End>,
    commands: mpsc::UnboundedReceiver<Command>,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    cut: Option<Cut>,
    report: Report,
    ended: bool,
}

impl Driver {
    fn new(
        daemon: IpAddr,
        addresses: &[IpAddr],
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<Self> {
        let mut bfd = Bfd::new(1);
        let ends = addresses.iter().zip(SOURCE_PORTS);
        let ends: Vec<End> = ends
            .map(|(address, port)| End::new(daemon, *address, port))
            .collect::<Result<_>>()?;
        for end in &ends {
            let config = SessionConfig {
                timers: TIMERS,
                ..SessionConfig::default()
            };
            let path = end.path;
            bfd.handle(Instant::now(), Input::Set { path, config });
        }
        Ok(Self {
            bfd,
            ends,
            commands,
            timer: None,
            cut: None,
            report: Report::default(),
            ended: false,
        })
    }

    async fn run(mut self) {
        while !self.ended {
            self.set_timer();
            std::future::poll_fn(|cx| self.poll(cx)).await;
        }
    }

    fn set_timer(&mut self) {
        let wanted = self.bfd.poll_timeout();
        if wanted != self.timer.as_ref().map(|(at, _)| *at) {
            self.timer = wanted.map(|at| (at, Box::pin(sleep_until(at.into()))));
        }
    }

    fn poll(&mut self, cx: &mut Waking<'_>) -> Poll<()> {
        let mut any = false;
        for index in 0..self.ends.len() {
            for _ in 0..DATAGRAMS_PER_TURN {
                let mut octets = [0; 2 * PACKET_LENGTH];
                let mut buffer = ReadBuf::new(&mut octets);
                let received = self.ends[index].receiver.poll_recv_from(cx, &mut buffer);
                let Poll::Ready(received) = received else {
                    break;
                };
                any = true;
                if received.is_ok() {
                    self.received(index, buffer.filled());
                }
            }
        }
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            any = true;
            match command {
                Some(command) => self.execute(&command),
                None => {
                    self.ended = true;
                    break;
                }
            }
        }
        if let Some((at, sleep)) = &mut self.timer
            && sleep.as_mut().poll(cx).is_ready()
        {
            self.report.late = self.report.late.max(at.elapsed());
            self.timer = None;
            any = true;
            self.feed(Instant::now(), Input::Timeout);
        }
        if any { Poll::Ready(()) } else { Poll::Pending }
    }

    fn received(&mut self, index: usize, octets: &[u8]) {
        let now = Instant::now();
        let state = Packet::decode(octets).map(|packet| packet.state);
        if let Some(cut) = &mut self.cut {
            let detected = cut
                .detected
                .iter_mut()
                .find(|(session, _)| *session == index);
            if let Some((_, at)) = detected
                && state.is_ok_and(|state| state != State::Up)
            {
                at.get_or_insert(now);
            }
            return;
        }
        let end = &mut self.ends[index];
        let before = end.last_received.replace(now).filter(|_| end.up);
        let silence = before.map_or(Duration::ZERO, |before| now - before);
        self.report.silence = self.report.silence.max(silence);
        let arrival = Arrival {
            remote: end.path.remote,
            local: end.address,
            interface: 1,
            hops: Hops::Single,
            // The two namespaces share a link, so no router decrements the TTL.
            ttl: TRANSMIT_TTL,
            octets,
        };
        self.feed(now, Input::Received(arrival));
    }

    fn feed(&mut self, now: Instant, input: Input<'_>) {
        self.bfd.handle(now, input);
        while let Some(change) = self.bfd.poll_output() {
            let end = self.ends.iter_mut().find(|end| end.path == change.path);
            let Some(end) = end else { continue };
            end.up = change.to == State::Up;
            if change.from != State::Up || self.cut.is_some() {
                continue;
            }
            match change.cause {
                Cause::DetectionTimeExpired => {
                    self.report.lost_here += 1;
                    // Packets after this belong to the next session.
                    let last = end.last_received;
                    let silence = last.map(|last| now - last).unwrap_or_default();
                    self.report.silence = self.report.silence.max(silence);
                }
                _ => self.report.lost_by_daemon += 1,
            }
        }
        while let Some(transmit) = self.bfd.poll_transmit(now) {
            let end = self.ends.iter().find(|end| end.path == transmit.path);
            if let Some(end) = end.filter(|_| self.cut.is_none()) {
                // Fails while the daemon has not opened its port.
                drop(end.sender.send(&transmit.octets));
            }
        }
    }

    fn execute(&mut self, command: &Command) {
        match command {
            Command::Reset => {
                self.report = Report::default();
                // Silence before the reset does not count.
                let now = Instant::now();
                for end in &mut self.ends {
                    end.last_received = end.last_received.map(|_| now);
                }
            }
            Command::Silence => {
                let up = (0..).zip(&self.ends).filter(|(_, end)| end.up);
                let detected = up.map(|(index, _)| (index, None)).collect();
                let since = Instant::now();
                self.cut = Some(Cut { since, detected });
            }
            Command::Resume => {
                let Some(Cut { since, detected }) = self.cut.take() else {
                    return;
                };
                let detected = detected.iter().map(|(_, at)| at.map(|at| at - since));
                self.report.detected.extend(detected);
            }
            Command::Report(answer) => {
                self.report.up = self.ends.iter().filter(|end| end.up).count();
                drop(answer.send(self.report.clone()));
            }
        }
    }
}
