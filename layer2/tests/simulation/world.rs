//! Nodes, LANs and clients under a virtual clock. Everything is deterministic: equal seeds give
//! equal runs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_layer2::config::{
    AddressSpec, Candidate, Command, ConflictDetection, Identity, Interfaces, Keys, Settings, Time,
};
use ferrolb_layer2::interface::{IfIndex, Interface};
use ferrolb_layer2::limits;
use ferrolb_layer2::mac::Mac;
use ferrolb_layer2::machine::{Input, Machine};
use ferrolb_layer2::status::{Event, Status};

use crate::answers::Answers;
use crate::arp;

/// The wall clock when the simulation begins, in ms since 1970.
const EPOCH: u64 = 1_700_000_000_000;

/// The number of a LAN.
pub(crate) type Lan = usize;

/// A moment, in ms.
pub(crate) const fn ms(value: u64) -> Time {
    Time::from_millis(value)
}

/// A LAN and its faults.
#[derive(Debug)]
pub(crate) struct LanState {
    pub(crate) latency: (Duration, Duration),
    pub(crate) loss: f64,
    /// Hosts in different parts don't receive each other.
    pub(crate) part: BTreeMap<Mac, u8>,
    /// Frames from the first to the second are lost.
    pub(crate) one_way: BTreeSet<(Mac, Mac)>,
    pub(crate) blackout: bool,
    is_loopback: bool,
    /// Whether nodes receive hellos only: for many nodes, the other frames take most of the time.
    pub(crate) only_hellos: bool,
    /// Frames sent, by sender.
    pub(crate) frames: BTreeMap<Mac, u64>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    Runs,
    /// It handles nothing; frames wait for it.
    Stalled,
    Dead,
}

/// A host that runs the engine.
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) machine: Machine,
    pub(crate) process: Process,
    /// Whether its kernel answers, and its interfaces work.
    pub(crate) powered: bool,
    pub(crate) interfaces: Vec<(Lan, Interface)>,
    /// How much its wall clock is ahead of the true time, in ms.
    pub(crate) clock: i64,
    queue: Vec<(IfIndex, Rc<[u8]>)>,
    scheduled: Option<Time>,
    /// What it announces, according to its events.
    pub(crate) announced: BTreeSet<IpAddr>,
    pub(crate) log: Vec<(Time, Event)>,
}

/// A host that answers for addresses by its kernel, or only resolves addresses.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// ARP replies and gratuitous frames that it received: when, address, Ethernet address.
    pub(crate) received: Vec<(Time, IpAddr, Mac)>,
    /// The addresses for which it asks again and again, on LAN 0.
    asks: Vec<IpAddr>,
}

/// How often a client asks.
pub(crate) const ASKS: Time = ms(20);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Frame {
        lan: Lan,
        from: Mac,
    },
    Wake(usize),
    /// A client asks for all addresses, and does so again after a while.
    Ask(Mac),
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) lans: Vec<LanState>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) hosts: BTreeMap<Mac, Host>,
    /// Other programs on nodes that answer ARP for addresses.
    pub(crate) speakers: BTreeMap<Mac, BTreeSet<IpAddr>>,
    pub(crate) settings: Settings,
    pub(crate) key: Arc<[u8]>,
    seed: u64,
    random: fastrand::Rng,
    queue: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    bodies: BTreeMap<u64, Rc<[u8]>>,
    sequence: u64,
    recording: Option<Lan>,
    recorded: Vec<(Mac, Rc<[u8]>)>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            now: ms(1_000_000),
            lans: Vec::new(),
            nodes: Vec::new(),
            hosts: BTreeMap::new(),
            speakers: BTreeMap::new(),
            settings: Settings {
                cluster: 7,
                hello_interval: limits::HELLO_INTERVAL,
                gratuitous_rate: limits::GRATUITOUS_RATE,
            },
            key: (*b"the key of the cluster").into(),
            seed,
            random: fastrand::Rng::with_seed(seed),
            queue: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            sequence: 0,
            recording: None,
            recorded: Vec::new(),
        };
        world.add_lan();
        world
    }

    /// A world with nodes n0, n1, … on one LAN that know `addresses`, in the order of placement.
    pub(crate) fn cluster(seed: u64, nodes: usize, addresses: &[IpAddr]) -> Self {
        let mut world = Self::new(seed);
        let candidates = candidates(nodes);
        for index in 0..nodes {
            let node = world.add_node(&[0]);
            assert_eq!(node, index);
            world.specify(node, addresses, &candidates);
        }
        world
    }

    /// A node learns addresses, in the order of placement, and that these are all. Their
    /// candidates are the first `nodes` nodes.
    pub(crate) fn introduce(&mut self, node: usize, addresses: &[IpAddr], nodes: usize) {
        self.specify(node, addresses, &candidates(nodes));
    }

    fn specify(&mut self, node: usize, addresses: &[IpAddr], candidates: &Arc<[Candidate]>) {
        for (order, address) in (0..).zip(addresses) {
            let spec = spec(order, candidates);
            self.command(node, Command::SetAddress(*address, spec));
        }
        self.command(node, Command::AddressesComplete);
    }

    pub(crate) fn add_lan(&mut self) -> Lan {
        self.lans.push(LanState {
            latency: (Duration::from_micros(50), Duration::from_micros(300)),
            loss: 0.0,
            part: BTreeMap::new(),
            one_way: BTreeSet::new(),
            blackout: false,
            is_loopback: false,
            only_hellos: false,
            frames: BTreeMap::new(),
        });
        self.lans.len() - 1
    }

    /// Adds a node with an interface eth0, eth1, … on each LAN, and starts its process.
    pub(crate) fn add_node(&mut self, lans: &[Lan]) -> usize {
        let index = self.nodes.len();
        let interfaces: Vec<_> = (0u32..)
            .zip(lans)
            .map(|(number, lan)| (*lan, interface(index, number, *lan)))
            .collect();
        let name: Arc<str> = format!("n{index}").into();
        let machine = self.new_machine(&name, 0);
        self.nodes.push(Node {
            name,
            machine,
            process: Process::Runs,
            powered: true,
            interfaces,
            clock: 0,
            queue: Vec::new(),
            scheduled: None,
            announced: BTreeSet::new(),
            log: Vec::new(),
        });
        self.start_inputs(index);
        index
    }

    /// Adds a node with a loopback interface, on which its processes receive each other.
    pub(crate) fn add_node_with_loopback(&mut self, lans: &[Lan]) -> usize {
        let loopback = self.add_lan();
        self.lans[loopback].is_loopback = true;
        let index = self.add_node(lans);
        self.add_loopback(index, loopback);
        index
    }

    fn add_loopback(&mut self, index: usize, lan: Lan) {
        let mut link = interface(index, 100, 0);
        link.name = "lo".into();
        link.loopback = true;
        link.networks = vec!["127.0.0.1/8".parse().expect("a network")];
        link.mtu = 65_536;
        self.nodes[index].interfaces.push((lan, link.clone()));
        self.input(index, Input::Interface(link));
    }

    /// Adds another process of a node that has a loopback interface.
    pub(crate) fn add_process(&mut self, of: usize) -> usize {
        let interfaces = self.nodes[of].interfaces.clone();
        let index = self.add_node(&[]);
        let (lan, _) = interfaces[interfaces.len() - 1];
        self.nodes[index].name = self.nodes[of].name.clone();
        self.nodes[index].machine = self.new_machine(&self.nodes[of].name.clone(), 0);
        self.nodes[index].interfaces = interfaces[..interfaces.len() - 1].to_vec();
        self.add_loopback(index, lan);
        self.start_inputs(index);
        index
    }

    fn new_machine(&mut self, name: &Arc<str>, clock: i64) -> Machine {
        self.seed = self.seed.wrapping_add(1);
        let identity = Identity {
            node: name.clone(),
            instance: self.wall().saturating_add_signed(clock),
            seed: self.seed,
        };
        Machine::new(identity, self.settings.clone())
    }

    fn wall(&self) -> u64 {
        EPOCH + u64::try_from(self.now.as_millis()).expect("fits")
    }

    /// Gives a node keys.
    pub(crate) fn set_keys(&mut self, index: usize, current: &[u8], accepted: &[&[u8]]) {
        let keys = Keys {
            current: Some(current.into()),
            accepted: accepted.iter().map(|key| (*key).into()).collect(),
        };
        self.command(index, Command::Keys(keys));
    }

    /// A carrier comes or goes.
    pub(crate) fn set_carrier(&mut self, index: usize, port: usize, carrier: bool) {
        self.nodes[index].interfaces[port].1.carrier = carrier;
        let link = self.nodes[index].interfaces[port].1.clone();
        self.input(index, Input::Interface(link));
    }

    fn start_inputs(&mut self, index: usize) {
        for (_, interface) in self.nodes[index].interfaces.clone() {
            self.input(index, Input::Interface(interface));
        }
        let keys = Keys {
            current: Some(self.key.clone()),
            accepted: Vec::new(),
        };
        self.command(index, Command::Keys(keys));
    }

    /// A new process of a node, which knows no addresses.
    pub(crate) fn restart(&mut self, index: usize) {
        let name = self.nodes[index].name.clone();
        self.nodes[index].machine = self.new_machine(&name, self.nodes[index].clock);
        let node = &mut self.nodes[index];
        node.process = Process::Runs;
        node.powered = true;
        node.queue.clear();
        node.scheduled = None;
        node.announced.clear();
        self.start_inputs(index);
    }

    /// Power is lost.
    pub(crate) fn power_off(&mut self, index: usize) {
        self.nodes[index].powered = false;
        self.kill(index);
    }

    /// The process ends at once. The kernel goes on.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].process = Process::Dead;
        self.nodes[index].announced.clear();
    }

    /// The process stops, as by SIGSTOP.
    pub(crate) fn stall(&mut self, index: usize) {
        self.nodes[index].process = Process::Stalled;
    }

    /// The process goes on: it handles what waited.
    pub(crate) fn resume(&mut self, index: usize) {
        self.nodes[index].process = Process::Runs;
        for (interface, frame) in std::mem::take(&mut self.nodes[index].queue) {
            self.input(index, Input::Frame(interface, &frame));
        }
        self.wake(index);
    }

    pub(crate) fn command(&mut self, index: usize, command: Command) {
        self.input(index, Input::Command(command));
    }

    pub(crate) fn input(&mut self, index: usize, input: Input<'_>) {
        self.report_clock(index);
        self.nodes[index].machine.handle(self.now, input);
        self.collect(index);
    }

    fn report_clock(&mut self, index: usize) {
        let wall = self.wall().saturating_add_signed(self.nodes[index].clock);
        self.nodes[index].machine.set_wall_clock(self.now, wall);
    }

    fn wake(&mut self, index: usize) {
        self.report_clock(index);
        self.nodes[index].machine.handle_timeout(self.now);
        self.collect(index);
    }

    /// Takes what a machine wants to send and report, and schedules its timer.
    fn collect(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let mut frames = Vec::new();
        while let Some((interface, frame)) = node.machine.next_frame() {
            let on = node
                .interfaces
                .iter()
                .find(|(_, known)| known.index == interface && known.carrier);
            if let Some((lan, known)) = on {
                frames.push((*lan, known.mac, frame));
            }
        }
        while node.machine.next_group_change().is_some() {}
        while let Some(event) = node.machine.next_event() {
            match &event {
                Event::Announced { address, .. } => {
                    node.announced.insert(*address);
                }
                Event::Withdrawn { address, .. } => {
                    node.announced.remove(address);
                }
                _ => {}
            }
            node.log.push((now, event));
        }
        let next = node.machine.poll_timeout().map(|at| at.max(now));
        if let Some(at) = next
            && node
                .scheduled
                .is_none_or(|scheduled| at < scheduled || scheduled < now)
        {
            node.scheduled = Some(at);
            self.push(at, Happening::Wake(index));
        }
        for (lan, mac, frame) in frames {
            self.transmit(lan, mac, frame.into());
        }
    }

    fn push(&mut self, at: Time, happening: Happening) -> u64 {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, happening)));
        self.sequence
    }

    /// A host sends a frame.
    pub(crate) fn transmit(&mut self, lan: Lan, from: Mac, frame: Rc<[u8]>) {
        let state = &mut self.lans[lan];
        *state.frames.entry(from).or_default() += 1;
        if self.recording == Some(lan) {
            self.recorded.push((from, frame.clone()));
        }
        if state.blackout {
            return;
        }
        let (low, high) = state.latency;
        let latency = low + (high - low).mul_f64(self.random.f64());
        let id = self.push(self.now + latency, Happening::Frame { lan, from });
        self.bodies.insert(id, frame);
    }

    /// Runs until a moment.
    pub(crate) fn run_until(&mut self, until: Time) {
        while self
            .queue
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= until)
        {
            let Some(Reverse((at, id, happening))) = self.queue.pop() else {
                break;
            };
            self.now = at;
            match happening {
                Happening::Frame { lan, from } => {
                    if let Some(frame) = self.bodies.remove(&id) {
                        self.deliver(lan, from, &frame);
                    }
                }
                Happening::Wake(index) => self.wake_scheduled(index),
                Happening::Ask(client) => self.ask_all(client),
            }
        }
        self.now = until;
    }

    /// Runs for a while.
    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    fn wake_scheduled(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.scheduled != Some(self.now) {
            return;
        }
        node.scheduled = None;
        if node.process == Process::Runs {
            self.wake(index);
        }
    }

    fn deliver(&mut self, lan: Lan, from: Mac, frame: &Rc<[u8]>) {
        let Some(to) = frame.get(..6).and_then(|to| Some(Mac(to.try_into().ok()?))) else {
            return;
        };
        let to_nodes = !self.lans[lan].only_hellos || frame.get(12..14) == Some(&[8, 0]);
        for index in (0..self.nodes.len()).filter(|_| to_nodes) {
            let ports: Vec<_> = self.nodes[index]
                .interfaces
                .iter()
                .filter(|(on, known)| *on == lan && known.mac != from && known.carrier)
                .map(|(_, known)| (known.index, known.mac))
                .collect();
            for (interface, mac) in ports {
                let addressed = to.is_multicast() || to == mac;
                if addressed && self.nodes[index].powered && self.passes(lan, from, mac) {
                    self.deliver_to_node(index, interface, mac, lan, frame);
                }
            }
        }
        let hosts: Vec<_> = self.hosts.keys().copied().collect();
        for mac in hosts {
            if mac != from && (to.is_multicast() || to == mac) && self.passes(lan, from, mac) {
                self.deliver_to_host(mac, lan, frame);
            }
        }
    }

    fn passes(&mut self, lan: Lan, from: Mac, to: Mac) -> bool {
        let state = &self.lans[lan];
        let part = |mac| state.part.get(&mac).copied().unwrap_or_default();
        !state.blackout
            && part(from) == part(to)
            && !state.one_way.contains(&(from, to))
            && (state.loss == 0.0 || self.random.f64() >= state.loss)
    }

    fn deliver_to_node(
        &mut self,
        index: usize,
        interface: IfIndex,
        mac: Mac,
        lan: Lan,
        frame: &Rc<[u8]>,
    ) {
        if let Some(request) = arp::request(frame)
            && !self.lans[lan].is_loopback
        {
            let kernel = kernel_address(index, lan);
            let speaks = self
                .speakers
                .get(&mac)
                .is_some_and(|speaks| speaks.contains(&IpAddr::V4(request.target)));
            if request.target == kernel || speaks {
                self.transmit(lan, mac, arp::reply(&request, mac).into());
            }
        }
        match self.nodes[index].process {
            Process::Runs => self.input(index, Input::Frame(interface, frame)),
            Process::Stalled => self.nodes[index].queue.push((interface, frame.clone())),
            Process::Dead => {}
        }
    }

    fn deliver_to_host(&mut self, mac: Mac, lan: Lan, frame: &Rc<[u8]>) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&mac) else {
            return;
        };
        if let Some((address, sender)) = arp::announcement(frame) {
            host.received.push((now, IpAddr::V4(address), sender));
        }
        if let Some(request) = arp::request(frame)
            && host.addresses.contains(&IpAddr::V4(request.target))
        {
            let reply = arp::reply(&request, mac);
            self.transmit(lan, mac, reply.into());
        }
    }

    /// All frames that a host sends on a LAN from now on are recorded.
    pub(crate) fn record(&mut self, lan: Lan) {
        self.recording = Some(lan);
    }

    /// The recorded frames.
    pub(crate) fn recorded(&mut self) -> Vec<(Mac, Rc<[u8]>)> {
        self.recording = None;
        std::mem::take(&mut self.recorded)
    }

    /// Adds a host that has addresses.
    pub(crate) fn add_host(&mut self, number: u8, addresses: &[IpAddr]) -> Mac {
        let mac = Mac([2, 0xff, 0, 0, 0, number]);
        self.hosts.insert(
            mac,
            Host {
                addresses: addresses.iter().copied().collect(),
                received: Vec::new(),
                asks: Vec::new(),
            },
        );
        mac
    }

    /// Adds a client that asks for addresses all the time.
    pub(crate) fn add_client(&mut self, number: u8, addresses: &[IpAddr]) -> Mac {
        let mac = self.add_host(number, &[]);
        if let Some(host) = self.hosts.get_mut(&mac) {
            host.asks = addresses.to_vec();
        }
        self.push(self.now, Happening::Ask(mac));
        mac
    }

    fn ask_all(&mut self, client: Mac) {
        let asks = self.hosts.get(&client).map(|host| host.asks.clone());
        for address in asks.unwrap_or_default() {
            self.ask(client, 0, address);
        }
        self.push(self.now + ASKS, Happening::Ask(client));
    }

    /// Which hosts answered a client for an address in each period of [`ASKS`] since a moment.
    pub(crate) fn answers(&self, client: Mac, address: IpAddr, since: Time) -> Answers {
        let mut periods: BTreeMap<u128, BTreeSet<Mac>> = BTreeMap::new();
        for (at, of, mac) in &self.hosts[&client].received {
            if *of == address && *at >= since {
                let period = (*at - since).as_millis() / ASKS.as_millis();
                periods.entry(period).or_default().insert(*mac);
            }
        }
        let total = (self.now - since).as_millis() / ASKS.as_millis();
        Answers { periods, total }
    }

    /// A host asks for an address, as a client does.
    pub(crate) fn ask(&mut self, host: Mac, lan: Lan, address: IpAddr) {
        let IpAddr::V4(address) = address else {
            return;
        };
        let sender = Ipv4Addr::new(10, 0, u8::try_from(lan).expect("few LANs"), 250);
        self.transmit(lan, host, arp::new_request(host, sender, address).into());
    }

    /// A host announces an address.
    pub(crate) fn boast(&mut self, host: Mac, address: IpAddr) {
        if let IpAddr::V4(address) = address {
            self.transmit(0, host, arp::new_request(host, address, address).into());
        }
    }

    pub(crate) fn status(&self, index: usize) -> Status {
        self.nodes[index].machine.status(self.now)
    }

    /// The nodes that announce an address, according to their events.
    pub(crate) fn owners(&self, address: IpAddr) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|index| self.nodes[*index].announced.contains(&address))
            .collect()
    }

    /// The addresses that each node announces.
    pub(crate) fn announced(&self) -> Vec<BTreeSet<IpAddr>> {
        let nodes = self.nodes.iter();
        nodes.map(|node| node.announced.clone()).collect()
    }

    /// How many addresses each node announces.
    pub(crate) fn counts(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.announced.len()).collect()
    }

    /// The Ethernet address of a node on its first LAN.
    pub(crate) fn mac(&self, index: usize) -> Mac {
        self.nodes[index].interfaces[0].1.mac
    }
}

/// The address that the kernel of a node has on a LAN.
pub(crate) fn kernel_address(index: usize, lan: Lan) -> Ipv4Addr {
    let lan = u8::try_from(lan).expect("few LANs");
    let [high, low] = u16::try_from(index + 1).expect("few nodes").to_be_bytes();
    Ipv4Addr::new(10, 100 + lan, high, low)
}

fn interface(index: usize, number: u32, lan: Lan) -> Interface {
    let [high, low] = u16::try_from(index).expect("few nodes").to_be_bytes();
    let address = kernel_address(index, lan);
    Interface {
        index: IfIndex(number + 2),
        name: format!("eth{number}").into(),
        mac: Mac([2, 0, high, low, 0, u8::try_from(number).expect("few")]),
        mtu: 1500,
        carrier: true,
        loopback: false,
        networks: vec![ipnet::IpNet::new(IpAddr::V4(address), 16).expect("a prefix length")],
        gateways: Vec::new(),
    }
}

/// The first nodes, all with the same weight.
pub(crate) fn candidates(nodes: usize) -> Arc<[Candidate]> {
    (0..nodes)
        .map(|index| Candidate {
            node: format!("n{index}").into(),
            weight: 0,
        })
        .collect()
}

/// The specification of an address.
pub(crate) fn spec(created: i64, candidates: &Arc<[Candidate]>) -> AddressSpec {
    AddressSpec {
        created,
        candidates: candidates.clone(),
        interfaces: Arc::new(Interfaces::All),
        conflict_detection: ConflictDetection::Fast,
        sticky: true,
    }
}

/// Addresses of services on LAN 0.
pub(crate) fn addresses(count: u16) -> Vec<IpAddr> {
    (0..count)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(10, 100, 128 + high, low))
        })
        .collect()
}
