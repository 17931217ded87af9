//! Speakers in a virtual network.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrolb_bgp::fsm::{
    Cause, ConnectionId, Event, Input, IoFailure, Output, PeerStatus, SpeakerConfig, State,
};
use ferrolb_bgp::wire::{DecodeContext, Family, Framer, Message, Notification, Update};
use ipnet::IpNet;

use super::CheckedSpeaker;

/// The receive window in octets of a host that does not read.
pub(crate) const WINDOW: usize = 16 * 1024;

/// A speaker at an address of the network, and the record of what it did. Times count from the
/// start of the world.
pub(crate) struct Host {
    pub(crate) speaker: CheckedSpeaker,
    pub(crate) address: IpAddr,
    /// Whether it accepts connections.
    pub(crate) listens: bool,
    /// Whether it does not read. Octets then wait in its receive window.
    pub(crate) stalled: bool,
    /// The events of the speaker.
    pub(crate) events: Vec<(Duration, Event)>,
    /// The messages that it sent.
    pub(crate) sent: Vec<(Duration, Message)>,
    /// The times of its dials.
    pub(crate) dials: Vec<Duration>,
    /// The connections whose TCP MD5 key it changed.
    pub(crate) rekeyed: Vec<ConnectionId>,
    /// The number of octets that it sent.
    pub(crate) octets_sent: usize,
    accepted: u64,
    unread: Vec<Input>,
    framers: HashMap<ConnectionId, Framer>,
    finishing: Vec<ConnectionId>,
}

/// Hosts, the connections between them, and the time.
pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    /// The time from one end of a connection to the other.
    pub(crate) latency: Duration,
    /// Whether all packets are lost.
    pub(crate) cut: bool,
    /// The maximum number of octets that arrive at once.
    pub(crate) segment: usize,
    start: Instant,
    now: Instant,
    queue: BTreeMap<(Instant, u64), (usize, Input)>,
    sequence: u64,
    /// The latest arrival scheduled for each end of a connection. Later octets do not overtake it,
    /// even if the latency decreases.
    arrivals: HashMap<(usize, ConnectionId), Instant>,
    /// The other end of each end of a connection.
    ends: BTreeMap<(usize, ConnectionId), (usize, ConnectionId)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let start = Instant::now();
        Self {
            hosts: Vec::new(),
            latency: Duration::from_millis(1),
            cut: false,
            segment: usize::MAX,
            start,
            now: start,
            queue: BTreeMap::new(),
            sequence: 0,
            arrivals: HashMap::new(),
            ends: BTreeMap::new(),
        }
    }

    /// Adds a host and returns its index.
    pub(crate) fn host(&mut self, address: &str, listens: bool) -> usize {
        let address: IpAddr = address.parse().unwrap();
        self.hosts
            .push(Host::new(address, listens, self.hosts.len() as u64, None));
        self.hosts.len() - 1
    }

    /// The process of a host is killed and restarts: its connections are closed, its configuration
    /// is lost.
    pub(crate) fn restart(&mut self, host: usize) {
        self.restart_with(host, None);
    }

    /// As [`World::restart`], on a host with this uptime.
    pub(crate) fn restart_with(&mut self, host: usize, uptime: Option<Duration>) {
        self.restart_process(host, uptime);
        let gone: Vec<_> = self.ends.extract_if(.., |(h, _), _| *h == host).collect();
        for (_, (there, connection)) in gone {
            let error = None;
            self.schedule(there, Input::Closed { connection, error });
        }
    }

    /// A host loses power and restarts at once. The other ends of its connections receive neither
    /// FIN nor RST, and octets that they send are lost. (With TCP MD5 this lasts, since an unsigned
    /// RST is dropped.)
    pub(crate) fn power_cycle(&mut self, host: usize) {
        self.restart_process(host, None);
        self.ends
            .retain(|(here, _), (there, _)| *here != host && *there != host);
    }

    fn restart_process(&mut self, host: usize, uptime: Option<Duration>) {
        let old = &self.hosts[host];
        let mut new = Host::new(old.address, old.listens, 99, uptime);
        new.accepted = old.accepted;
        self.hosts[host] = new;
        self.queue
            .retain(|_, (to, input)| *to != host || connection_of(input).is_none());
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn input(&mut self, host: usize, input: Input) {
        self.hosts[host].speaker.handle(self.now, input);
        self.pump(host);
    }

    /// Advances the time, and delivers all octets and timeouts on the way.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            steps += 1;
            assert!(steps < 1_000_000, "the state machine is in an endless loop");
            self.now = self.now.max(next);
            // Octets before timers, as in the driver.
            if let Some(key) = self
                .queue
                .keys()
                .next()
                .copied()
                .filter(|(at, _)| *at <= self.now)
            {
                let (host, input) = self.queue.remove(&key).unwrap();
                self.deliver(host, input);
                continue;
            }
            for host in 0..self.hosts.len() {
                let due = self.hosts[host].speaker.poll_timeout();
                if due.is_some_and(|at| at <= self.now) {
                    self.input(host, Input::Timeout);
                }
            }
        }
        self.now = end;
    }

    /// Advances the time until `condition` is true. Panics with `what` if it is not within `limit`.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) {
        let end = self.now + limit;
        while !condition(self) {
            assert!(
                self.now < end,
                "{what}: not within {limit:?}\n{:#?}",
                self.all_events()
            );
            self.run(Duration::from_millis(10));
        }
    }

    /// The status of the only peer of a host.
    pub(crate) fn status(&self, host: usize) -> PeerStatus {
        let mut all = self.hosts[host].speaker.status(self.now);
        assert_eq!(all.len(), 1, "only for hosts with one peer");
        all.remove(0)
    }

    pub(crate) fn state(&self, host: usize) -> State {
        self.status(host).state
    }

    /// Whether each host has an established session. Each must have one peer.
    pub(crate) fn established(&self) -> bool {
        (0..self.hosts.len()).all(|host| self.state(host) == State::Established)
    }

    /// A stalled host reads again, beginning with the octets in its window.
    pub(crate) fn resume(&mut self, host: usize) {
        self.hosts[host].stalled = false;
        for input in std::mem::take(&mut self.hosts[host].unread) {
            self.input(host, input);
        }
        self.pump_all();
    }

    fn all_events(&self) -> Vec<&Vec<(Duration, Event)>> {
        self.hosts.iter().map(|host| &host.events).collect()
    }

    fn next(&self) -> Option<Instant> {
        let timers = self
            .hosts
            .iter()
            .filter_map(|host| host.speaker.poll_timeout());
        self.queue
            .keys()
            .next()
            .map(|(at, _)| *at)
            .into_iter()
            .chain(timers)
            .min()
    }

    /// Delivers an input after the latency.
    fn schedule(&mut self, host: usize, input: Input) {
        let mut at = self.now + self.latency;
        if let Input::Received { connection, .. } | Input::Closed { connection, .. } = &input {
            let latest = self.arrivals.entry((host, *connection)).or_insert(at);
            at = at.max(*latest);
            *latest = at;
        }
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (host, input));
    }

    /// Sends octets to an end of a connection.
    fn send(&mut self, host: usize, connection: ConnectionId, mut octets: Bytes) {
        while !octets.is_empty() {
            let octets = octets.split_to(octets.len().min(self.segment));
            self.schedule(host, Input::Received { connection, octets });
        }
    }

    /// Resets all connections at both ends. Octets in flight are lost.
    pub(crate) fn reset_connections(&mut self) {
        let mut ends: Vec<_> = std::mem::take(&mut self.ends).into_keys().collect();
        ends.sort();
        for host in &mut self.hosts {
            host.unread.clear();
        }
        for (host, connection) in ends {
            let error = Some(IoFailure {
                kind: std::io::ErrorKind::ConnectionReset,
                text: "Connection reset by peer".to_owned(),
            });
            self.input(host, Input::Closed { connection, error });
        }
    }

    /// Sends octets over a host's latest connection, as if its speaker had sent them.
    pub(crate) fn inject(&mut self, host: usize, octets: Bytes) {
        let mut theirs: Vec<_> = self.ends.iter().filter(|((h, _), _)| *h == host).collect();
        theirs.sort();
        if let Some((_, &(there, connection))) = theirs.pop() {
            self.send(there, connection, octets);
        }
    }

    /// Connects from the address of one host to another one without sending any octets.
    pub(crate) fn silent_connection(&mut self, from: usize, to: usize) {
        let connection = ConnectionId::Accepted(self.hosts[to].accepted);
        self.hosts[to].accepted += 1;
        let local = SocketAddr::new(self.hosts[to].address, 179);
        let remote = SocketAddr::new(self.hosts[from].address, 50000);
        self.input(
            to,
            Input::Accepted {
                connection,
                local,
                remote,
            },
        );
    }

    fn deliver(&mut self, host: usize, input: Input) {
        if let Input::Received { connection, .. } | Input::Closed { connection, .. } = &input {
            if !self.ends.contains_key(&(host, *connection)) {
                return; // closed by the host in the meantime
            }
            if self.hosts[host].stalled {
                self.hosts[host].unread.push(input);
                return;
            }
        }
        self.input(host, input);
        // The other end may have room in the window now.
        self.pump_all();
    }

    fn pump_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.pump(host);
        }
    }

    /// Drains the speaker, as the driver does after each input.
    fn pump(&mut self, host: usize) {
        loop {
            self.drain(host);
            let mut mine: Vec<_> = self
                .ends
                .keys()
                .filter(|(h, _)| *h == host)
                .map(|(_, id)| *id)
                .collect();
            mine.sort();
            let mut moved = false;
            for id in mine {
                moved |= self.transmit(host, id);
            }
            if !moved && !self.drain(host) {
                return;
            }
        }
    }

    fn transmit(&mut self, host: usize, id: ConnectionId) -> bool {
        let Some(&(there, their_id)) = self.ends.get(&(host, id)) else {
            return false;
        };
        let in_flight: usize = self.hosts[there]
            .unread
            .iter()
            .chain(
                self.queue
                    .values()
                    .filter(|(to, _)| *to == there)
                    .map(|(_, input)| input),
            )
            .map(|input| match input {
                Input::Received { connection, octets } if *connection == their_id => octets.len(),
                _ => 0,
            })
            .sum();
        if self.hosts[there].stalled && in_flight >= WINDOW {
            return false;
        }
        match self.hosts[host].speaker.poll_transmit(self.now, id, 4096) {
            Some(octets) => {
                self.record(host, id, &octets);
                if !self.cut {
                    self.send(there, their_id, octets);
                }
                true
            }
            None => {
                let done = self.hosts[host]
                    .finishing
                    .iter()
                    .position(|finishing| *finishing == id);
                if let Some(at) = done {
                    self.hosts[host].finishing.remove(at);
                    if self.cut {
                        return false;
                    }
                    self.schedule(
                        there,
                        Input::Closed {
                            connection: their_id,
                            error: None,
                        },
                    );
                }
                false
            }
        }
    }

    fn record(&mut self, host: usize, id: ConnectionId, octets: &[u8]) {
        let at = self.elapsed();
        let host = &mut self.hosts[host];
        host.octets_sent += octets.len();
        let framer = host.framers.entry(id).or_default();
        framer.push(octets);
        while let Some(message) = framer.next(&context()) {
            host.sent.push((at, message.expect("a valid message")));
        }
    }

    fn drain(&mut self, host: usize) -> bool {
        let mut any = false;
        while let Some(output) = self.hosts[host].speaker.poll_output() {
            any = true;
            match output {
                Output::Connect {
                    connection, remote, ..
                } => self.connect(host, connection, remote),
                Output::Finish { connection } => self.hosts[host].finishing.push(connection),
                Output::Close { connection } => self.close(host, connection),
                Output::Event(event) => {
                    let at = self.elapsed();
                    self.hosts[host].events.push((at, event));
                }
                Output::Stopped
                | Output::Listen { .. }
                | Output::Unlisten { .. }
                | Output::BfdSet { .. }
                | Output::BfdRemove { .. }
                | Output::BfdAdminDown { .. } => {}
                Output::Rekey { connection, .. } => self.hosts[host].rekeyed.push(connection),
            }
        }
        any
    }

    fn connect(&mut self, host: usize, connection: ConnectionId, remote: SocketAddr) {
        let at = self.elapsed();
        self.hosts[host].dials.push(at);
        let target = self
            .hosts
            .iter()
            .position(|h| h.address == remote.ip() && h.listens);
        let Some(there) = target.filter(|_| !self.cut) else {
            let error = IoFailure {
                kind: std::io::ErrorKind::ConnectionRefused,
                text: "Connection refused".to_owned(),
            };
            self.schedule(host, Input::ConnectFailed { connection, error });
            return;
        };
        let accepted = ConnectionId::Accepted(self.hosts[there].accepted);
        self.hosts[there].accepted += 1;
        self.ends.insert((host, connection), (there, accepted));
        self.ends.insert((there, accepted), (host, connection));
        let local = SocketAddr::new(self.hosts[host].address, 40000);
        self.schedule(
            host,
            Input::Connected {
                connection,
                local,
                remote,
            },
        );
        self.schedule(
            there,
            Input::Accepted {
                connection: accepted,
                local: remote,
                remote: local,
            },
        );
    }

    fn close(&mut self, host: usize, connection: ConnectionId) {
        if let Some((there, theirs)) = self.ends.remove(&(host, connection))
            && !self.cut
        {
            self.schedule(
                there,
                Input::Closed {
                    connection: theirs,
                    error: None,
                },
            );
        }
        self.hosts[host]
            .finishing
            .retain(|finishing| *finishing != connection);
    }
}

impl Host {
    fn new(address: IpAddr, listens: bool, seed: u64, host_uptime: Option<Duration>) -> Self {
        let router_id_fallback = match address {
            IpAddr::V4(own) => own,
            IpAddr::V6(_) => Ipv4Addr::new(10, 255, 0, 99),
        };
        Self {
            speaker: CheckedSpeaker::new(SpeakerConfig {
                router_id_fallback,
                seed,
                host_uptime,
            }),
            address,
            listens,
            stalled: false,
            events: Vec::new(),
            sent: Vec::new(),
            dials: Vec::new(),
            rekeyed: Vec::new(),
            octets_sent: 0,
            accepted: 0,
            unread: Vec::new(),
            framers: HashMap::new(),
            finishing: Vec::new(),
        }
    }

    /// Why its sessions and connection attempts ended, in order.
    pub(crate) fn causes(&self) -> Vec<&Cause> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Down { cause, .. } => Some(cause),
                _ => None,
            })
            .collect()
    }

    /// The UPDATEs that it received, in order.
    pub(crate) fn updates(&self) -> Vec<&Update> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Received { update, .. } => Some(&**update),
                _ => None,
            })
            .collect()
    }

    /// The routes that it received and that were not withdrawn. Includes those of earlier sessions.
    pub(crate) fn table(&self) -> BTreeMap<IpNet, Update> {
        let mut table = BTreeMap::new();
        for update in self.updates() {
            for prefix in update.withdrawn_prefixes() {
                table.remove(&prefix);
            }
            for prefix in update.announced() {
                table.insert(prefix, update.clone());
            }
        }
        table
    }

    pub(crate) fn notifications_sent(&self) -> Vec<&Notification> {
        self.sent
            .iter()
            .filter_map(|(_, message)| match message {
                Message::Notification(notification) => Some(notification),
                _ => None,
            })
            .collect()
    }
}

/// The connection that an input is about.
fn connection_of(input: &Input) -> Option<ConnectionId> {
    match input {
        Input::Connected { connection, .. }
        | Input::ConnectFailed { connection, .. }
        | Input::Accepted { connection, .. }
        | Input::Received { connection, .. }
        | Input::Closed { connection, .. } => Some(*connection),
        _ => None,
    }
}

/// Decodes the messages of a speaker.
fn context() -> DecodeContext {
    DecodeContext {
        four_octet_asn: true,
        ibgp: true,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ipv4_next_hop_v6: true,
        ..DecodeContext::default()
    }
}
