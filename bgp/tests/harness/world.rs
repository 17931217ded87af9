//! Speakers joined by byte pipes under a virtual clock.
//!
//! Hosts have addresses, dial each other, and see what the other sent after the latency. Nothing
//! here sleeps: an hour of keepalives takes milliseconds.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrolb_bgp::config::{HoldTime, PeerConfig};
use ferrolb_bgp::fsm::{
    Cause, ConnectionId, Event, Input, IoFailure, Output, PeerRoutes, PeerStatus, Speaker,
    SpeakerConfig, State,
};
use ferrolb_bgp::rib::{Route, RouteAttributes};
use ferrolb_bgp::wire::{Asn, DecodeContext, Family, Framer, Message, Notification, Update};
use ipnet::IpNet;

/// Octets in flight to a host that doesn't read, before its window is shut.
pub(crate) const WINDOW: usize = 16 * 1024;

pub(crate) struct Host {
    pub speaker: Speaker,
    pub address: IpAddr,
    /// Takes connections.
    pub listens: bool,
    /// Doesn't read: what arrives waits, up to the window.
    pub deaf: bool,
    /// What the machine reported, and when.
    pub events: Vec<(Duration, Event)>,
    /// Every message it sent, decoded, and when.
    pub sent: Vec<(Duration, Message)>,
    /// When it dialled.
    pub dials: Vec<Duration>,
    /// Connections that were given another TCP MD5 key.
    pub rekeyed: Vec<ConnectionId>,
    /// Octets it sent.
    pub octets: usize,
    pub stopped: bool,
    accepted: u64,
    waiting: Vec<Input>,
    framers: HashMap<ConnectionId, Framer>,
    finishing: Vec<ConnectionId>,
}

pub(crate) struct World {
    pub hosts: Vec<Host>,
    pub latency: Duration,
    /// Octets get lost, and nobody notices.
    pub cut: bool,
    /// Octets that arrive at once, at most.
    pub portion: usize,
    start: Instant,
    now: Instant,
    queue: BTreeMap<(Instant, u64), (usize, Input)>,
    sequence: u64,
    /// When the latest octets on their way reach an end: later ones don't overtake them, even if
    /// the latency shrinks.
    arrivals: HashMap<(usize, ConnectionId), Instant>,
    /// The other end of a connection.
    ends: HashMap<(usize, ConnectionId), (usize, ConnectionId)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let start = Instant::now();
        Self {
            hosts: Vec::new(),
            latency: Duration::from_millis(1),
            cut: false,
            portion: usize::MAX,
            start,
            now: start,
            queue: BTreeMap::new(),
            sequence: 0,
            arrivals: HashMap::new(),
            ends: HashMap::new(),
        }
    }

    /// A host with a speaker; its number is its place.
    pub(crate) fn host(&mut self, address: &str, listens: bool) -> usize {
        let address: IpAddr = address.parse().unwrap();
        self.hosts
            .push(Host::new(address, listens, self.hosts.len() as u64, None));
        self.hosts.len() - 1
    }

    /// The process dies and is started again: connections are gone, the new one knows nothing.
    pub(crate) fn restart(&mut self, host: usize) {
        self.restart_with(host, None);
    }

    /// The same, the host having been up for that long.
    pub(crate) fn restart_with(&mut self, host: usize, uptime: Option<Duration>) {
        let fresh = Host::new(
            self.hosts[host].address,
            self.hosts[host].listens,
            99,
            uptime,
        );
        self.hosts[host] = fresh;
        let gone: Vec<_> = self.ends.iter().filter(|((h, _), _)| *h == host).collect();
        let gone: Vec<_> = gone
            .into_iter()
            .map(|(here, there)| (*here, *there))
            .collect();
        for (here, there) in gone {
            self.ends.remove(&here);
            self.post(
                there.0,
                Input::Closed {
                    connection: there.1,
                    error: None,
                },
            );
        }
    }

    /// The host loses power and is back at once: its connections are gone, no FIN and no RST of it arrives,
    /// and what is sent on them gets lost. With TCP MD5 it stays so: a RST without signature is dropped.
    pub(crate) fn power_cycle(&mut self, host: usize) {
        let fresh = Host::new(self.hosts[host].address, self.hosts[host].listens, 99, None);
        self.hosts[host] = fresh;
        self.ends
            .retain(|(here, _), (there, _)| *here != host && *there != host);
        self.queue.retain(|_, (to, input)| {
            *to != host || !matches!(input, Input::Received { .. } | Input::Closed { .. })
        });
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

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            steps += 1;
            assert!(steps < 1_000_000, "the machine spins");
            self.now = self.now.max(next);
            // Octets before timers, as the driver does it.
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
                    let next = self.hosts[host].speaker.poll_timeout();
                    assert!(
                        next.is_none_or(|at| at > self.now),
                        "a timer that doesn't go away"
                    );
                }
            }
        }
        self.now = end;
    }

    /// Lets time pass until something holds; panics if it doesn't within `limit`.
    pub(crate) fn until(&mut self, limit: Duration, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !holds(self) {
            assert!(
                self.now < end,
                "{what}: not within {limit:?}\n{:#?}",
                self.all_events()
            );
            self.run(Duration::from_millis(10));
        }
    }

    pub(crate) fn status(&self, host: usize) -> PeerStatus {
        let mut all = self.hosts[host].speaker.status(self.now);
        assert_eq!(all.len(), 1, "meant for hosts with one peer");
        all.remove(0)
    }

    pub(crate) fn state(&self, host: usize) -> State {
        self.status(host).state
    }

    pub(crate) fn established(&self) -> bool {
        (0..self.hosts.len()).all(|host| self.state(host) == State::Established)
    }

    /// Hosts that read again get what waited.
    pub(crate) fn hear(&mut self, host: usize) {
        self.hosts[host].deaf = false;
        for input in std::mem::take(&mut self.hosts[host].waiting) {
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

    fn post(&mut self, host: usize, input: Input) {
        let mut at = self.now + self.latency;
        if let Input::Received { connection, .. } | Input::Closed { connection, .. } = &input {
            let latest = self.arrivals.entry((host, *connection)).or_insert(at);
            at = at.max(*latest);
            *latest = at;
        }
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (host, input));
    }

    /// Sends octets to an end, in portions.
    fn carry(&mut self, host: usize, connection: ConnectionId, mut octets: Bytes) {
        while !octets.is_empty() {
            let octets = octets.split_to(octets.len().min(self.portion));
            self.post(host, Input::Received { connection, octets });
        }
    }

    /// All connections break at both ends; what was on its way is lost.
    pub(crate) fn reset_connections(&mut self) {
        let mut ends: Vec<_> = std::mem::take(&mut self.ends).into_keys().collect();
        ends.sort();
        for host in &mut self.hosts {
            host.waiting.clear();
        }
        for (host, connection) in ends {
            let error = Some(IoFailure {
                kind: std::io::ErrorKind::ConnectionReset,
                text: "Connection reset by peer".to_owned(),
            });
            self.input(host, Input::Closed { connection, error });
        }
    }

    /// Octets reach the other end of a host's connection as if the host had sent them.
    pub(crate) fn inject(&mut self, host: usize, octets: Bytes) {
        let mut theirs: Vec<_> = self.ends.iter().filter(|((h, _), _)| *h == host).collect();
        theirs.sort();
        if let Some((_, &(there, connection))) = theirs.pop() {
            self.carry(there, connection, octets);
        }
    }

    /// Somebody with a host's address connects to another one, and says nothing.
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
        let id = match &input {
            Input::Received { connection, .. } | Input::Closed { connection, .. } => {
                if !self.ends.contains_key(&(host, *connection)) {
                    return; // closed here meanwhile
                }
                Some(*connection)
            }
            _ => None,
        };
        if self.hosts[host].deaf && id.is_some() {
            self.hosts[host].waiting.push(input);
            return;
        }
        self.input(host, input);
        // Room in the window: the other end may go on.
        self.pump_all();
    }

    fn pump_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.pump(host);
        }
    }

    /// Does what a driver does after each input.
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
            .waiting
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
        if self.hosts[there].deaf && in_flight >= WINDOW {
            return false;
        }
        match self.hosts[host].speaker.poll_transmit(self.now, id, 4096) {
            Some(octets) => {
                self.record(host, id, &octets);
                if !self.cut {
                    self.carry(there, their_id, octets);
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
                    self.post(
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
        host.octets += octets.len();
        let framer = host.framers.entry(id).or_default();
        framer.push(octets);
        while let Some(message) = framer.next(&context()) {
            host.sent
                .push((at, message.expect("we send what we can read")));
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
                Output::Stopped => self.hosts[host].stopped = true,
                Output::Listen { .. }
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
            self.post(host, Input::ConnectFailed { connection, error });
            return;
        };
        let accepted = ConnectionId::Accepted(self.hosts[there].accepted);
        self.hosts[there].accepted += 1;
        self.ends.insert((host, connection), (there, accepted));
        self.ends.insert((there, accepted), (host, connection));
        let local = SocketAddr::new(self.hosts[host].address, 40000);
        self.post(
            host,
            Input::Connected {
                connection,
                local,
                remote,
            },
        );
        self.post(
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
            self.post(
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
            speaker: Speaker::new(SpeakerConfig {
                router_id_fallback,
                seed,
                host_uptime,
            }),
            address,
            listens,
            deaf: false,
            events: Vec::new(),
            sent: Vec::new(),
            dials: Vec::new(),
            rekeyed: Vec::new(),
            octets: 0,
            stopped: false,
            accepted: 0,
            waiting: Vec::new(),
            framers: HashMap::new(),
            finishing: Vec::new(),
        }
    }

    /// Why sessions and attempts ended.
    pub(crate) fn causes(&self) -> Vec<&Cause> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Down { cause, .. } => Some(cause),
                _ => None,
            })
            .collect()
    }

    /// UPDATEs received, in order.
    pub(crate) fn updates(&self) -> Vec<&Update> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Received { update, .. } => Some(&**update),
                _ => None,
            })
            .collect()
    }

    /// What a receiver would hold.
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

/// How the recorder reads what our own speaker sends.
pub(crate) fn context() -> DecodeContext {
    DecodeContext {
        four_octet_asn: true,
        ibgp: true,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ipv4_next_hop_v6: true,
        ..DecodeContext::default()
    }
}

pub(crate) fn peer(name: &str, address: &str, local_asn: u32, remote_asn: u32) -> PeerConfig {
    let address = SocketAddr::new(address.parse().unwrap(), 179);
    PeerConfig::new(name, address, Asn(local_asn), Asn(remote_asn))
}

/// Host 0 is 10.0.0.1 in AS 65001 and dials; host 1 is 10.0.0.2 in AS 65002, waits and listens.
pub(crate) fn pair(change: impl Fn(&mut PeerConfig)) -> World {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.host("10.0.0.2", true);
    let mut ours = peer("b", "10.0.0.2", 65001, 65002);
    let mut theirs = peer("a", "10.0.0.1", 65002, 65001);
    theirs.transport.passive = true;
    theirs.receive = true;
    change(&mut ours);
    change(&mut theirs);
    world.input(1, Input::SetPeer(theirs));
    world.input(0, Input::SetPeer(ours));
    world
}

pub(crate) fn hold(seconds: u16) -> impl Fn(&mut PeerConfig) {
    move |config| config.timers.hold_time = HoldTime::from_secs(seconds).unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn route(med: u32) -> Option<Route> {
    Some(Arc::new(RouteAttributes {
        med: Some(med),
        ..RouteAttributes::default()
    }))
}

pub(crate) fn routes(peer: &str, changes: Vec<(IpNet, Option<Route>)>) -> Input {
    Input::Routes(vec![PeerRoutes {
        peer: peer.to_owned(),
        changes,
    }])
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
