//! Target of the engine: one node with any inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_layer2::config::{
    AddressSpec, Candidate, Command, ConflictDetection, Identity, Interfaces, Keys, Settings, Time,
};
use ferrolb_layer2::interface::{GroupChange, IfIndex, Interface};
use ferrolb_layer2::limits;
use ferrolb_layer2::mac::Mac;
use ferrolb_layer2::machine::{Input, Machine};
use ferrolb_layer2::status::{Event, NodeState, Status};
use ferrolb_layer2::wire::arp::{Arp, Operation};
use ferrolb_layer2::wire::ethernet::{ETHER_TYPE_ARP, Header};
use ferrolb_layer2::wire::hello::{Claim, Hello, Key, Section};
use ferrolb_layer2::wire::hello_frame;
use ferrolb_layer2::wire::ndp::{Ndp, solicited_node};

use super::octets::Octets;

const CLUSTER: u64 = 7;
const SECRETS: [&[u8]; 2] = [b"the first key of the cluster", b"the second key"];
const NODES: [&str; 4] = ["n0", "n1", "n2", "n3"];
/// The node under test is the first.
const INSTANCE: u64 = 1_700_000_000_000;
const START: Time = Duration::from_secs(1000);
/// Addresses of services. The last one is never added.
const ADDRESSES: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10)),
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10)),
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 99)),
];
const LOOPBACK: u32 = 3;

/// Any sequence of inputs: the node answers only for addresses that it announces, announces only
/// addresses that were added, ends its timers, and a second run is equal.
pub fn layer2_machine(data: &[u8]) {
    let first = run(data);
    let second = run(data);
    let differs = first.iter().zip(&second).find(|(a, b)| a != b);
    assert_eq!(differs, None, "two runs of the same input differ");
    assert_eq!(
        first.len(),
        second.len(),
        "two runs of the same input differ"
    );
}

fn run(data: &[u8]) -> Vec<Output> {
    let mut octets = Octets(data);
    let mut node = Node::new();
    if octets.octet() % 2 == 0 {
        node.set_up();
    }
    while !octets.is_empty() && !node.ended {
        node.perform(&mut octets);
    }
    node.wait(Duration::from_secs(2));
    let status = node.machine.status(node.now);
    let known = status
        .addresses
        .keys()
        .all(|address| node.added.contains(address));
    assert!(known, "the status has an address that was not added");
    node.transcript.push(Output::Status(Box::new(status)));
    node.transcript
}

/// What came out of the engine.
#[derive(Debug, PartialEq)]
enum Output {
    Frame(Time, IfIndex, Vec<u8>),
    Event(Time, Event),
    Group(GroupChange),
    Status(Box<Status>),
}

/// The engine, and what may come out of it.
struct Node {
    machine: Machine,
    now: Time,
    interfaces: BTreeMap<IfIndex, Interface>,
    key: Option<Key>,
    added: BTreeSet<IpAddr>,
    announced: BTreeSet<IpAddr>,
    /// The last sequence number that it sent.
    sent: BTreeMap<IfIndex, u64>,
    /// Sequence numbers of the peers.
    sequence: u64,
    ended: bool,
    transcript: Vec<Output>,
}

impl Node {
    fn new() -> Self {
        let identity = Identity {
            node: NODES[0].into(),
            instance: INSTANCE,
            seed: 1,
        };
        Self {
            machine: Machine::new(identity, settings(0)),
            now: START,
            interfaces: BTreeMap::new(),
            key: None,
            added: BTreeSet::new(),
            announced: BTreeSet::new(),
            sent: BTreeMap::new(),
            sequence: 0,
            ended: false,
            transcript: Vec::new(),
        }
    }

    /// A node with an interface, a key and three addresses.
    fn set_up(&mut self) {
        self.interface(&mut Octets(&[0]));
        self.interface(&mut Octets(&[2]));
        self.set_keys(0);
        for which in [0, 2, 3] {
            self.set_address(&mut Octets(&[which, 7, 0]));
        }
        self.command(Command::AddressesComplete);
        self.wait(Duration::from_secs(1));
    }

    fn perform(&mut self, octets: &mut Octets<'_>) {
        let choice = octets.octet();
        match choice % 16 {
            0 | 1 => self.wait(Duration::from_millis(u64::from(octets.octet()) * 4)),
            2 => self.wait(Duration::from_millis(u64::from(octets.octet()) * 40)),
            // The process is stalled.
            3 => self.now += Duration::from_millis(u64::from(octets.octet()) * 10),
            4 => {
                let length = octets.octet().into();
                let frame = octets.take(length);
                self.receive(choice, frame);
            }
            5 | 6 => {
                let frame = arp(octets);
                self.receive(choice, &frame);
            }
            7 => {
                let frame = ndp(octets);
                self.receive(choice, &frame);
            }
            8..=11 => {
                let (source, hello) = self.hello(octets);
                let frame = self.signed(&hello, octets.octet(), source);
                self.receive(choice, &frame);
            }
            12 => self.interface(octets),
            13 => self.set_address(octets),
            _ => self.any_command(octets),
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        let mut calls = 0;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            calls = if at > self.now { 0 } else { calls + 1 };
            assert!(calls < 10, "timers never end at {:?}", self.now);
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            self.collect();
        }
        self.now = until;
    }

    fn input(&mut self, input: Input<'_>) {
        self.machine.handle(self.now, input);
        self.collect();
    }

    fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    fn receive(&mut self, choice: u8, frame: &[u8]) {
        let index = IfIndex(u32::from(choice / 16 % 3) + 1);
        self.input(Input::Frame(index, frame));
    }

    /// Sets or removes eth0, eth1 or lo.
    fn interface(&mut self, octets: &mut Octets<'_>) {
        let choice = octets.octet();
        let number = u32::from(choice % 3) + 1;
        let index = IfIndex(number);
        if choice & 0x80 != 0 {
            self.interfaces.remove(&index);
            self.sent.remove(&index);
            return self.input(Input::InterfaceGone(index));
        }
        let loopback = number == LOOPBACK;
        let network = match (loopback, choice & 0x20) {
            (true, _) => "127.0.0.1/8",
            (_, 0) => "10.0.0.1/24",
            _ => "fe80::1/64",
        };
        let interface = Interface {
            index,
            name: if loopback {
                "lo".into()
            } else {
                format!("eth{}", number - 1).into()
            },
            mac: mac(10 + choice % 3),
            mtu: if choice & 0x10 == 0 { 1500 } else { 65_536 },
            carrier: choice & 0x40 == 0,
            loopback,
            networks: vec![network.parse().unwrap()],
            gateways: vec![IpAddr::from([10, 0, 0, 254])],
        };
        self.interfaces.insert(index, interface.clone());
        self.input(Input::Interface(interface));
    }

    fn set_address(&mut self, octets: &mut Octets<'_>) {
        let address = address(octets.octet() % 5);
        let (nodes, choice) = (octets.octet(), octets.octet());
        let candidates = (0u8..).zip(NODES).filter(|(bit, _)| nodes >> bit & 1 == 1);
        let candidates = candidates.map(|(bit, node)| Candidate {
            node: node.into(),
            weight: u32::from(nodes >> (4 + bit) & 1) * 10,
        });
        let interfaces = match choice % 4 {
            0 | 1 => Interfaces::All,
            2 => Interfaces::Named(["eth1".into()].into()),
            _ => Interfaces::Named(["eth9".into()].into()),
        };
        let conflict_detection = match choice / 4 % 4 {
            0 | 1 => ConflictDetection::Fast,
            2 => ConflictDetection::Rfc5227,
            _ => ConflictDetection::Off,
        };
        let spec = AddressSpec {
            created: i64::from(choice / 64),
            candidates: candidates.collect(),
            interfaces: Arc::new(interfaces),
            conflict_detection,
            sticky: choice & 0x10 == 0,
        };
        self.added.insert(address);
        self.command(Command::SetAddress(address, spec));
    }

    fn set_keys(&mut self, choice: u8) {
        let (current, accepted) = match choice % 4 {
            3 => (None, None),
            choice => (Some(choice % 2), (choice == 2).then_some(1)),
        };
        let secret = |which: u8| Arc::from(SECRETS[usize::from(which)]);
        self.key = current.map(|which| Key::new(SECRETS[usize::from(which)]));
        self.command(Command::Keys(Keys {
            current: current.map(secret),
            accepted: accepted.into_iter().map(secret).collect(),
        }));
    }

    fn any_command(&mut self, octets: &mut Octets<'_>) {
        let (kind, choice) = (octets.octet() % 9, octets.octet());
        let command = match kind {
            0 => {
                let address = address(choice);
                self.added.remove(&address);
                Command::RemoveAddress(address)
            }
            1 => Command::AddressesComplete,
            2 => Command::ReadyNodes((choice & 0x80 == 0).then(|| {
                let nodes = (0u8..).zip(NODES).filter(|(bit, _)| choice >> bit & 1 == 1);
                nodes.map(|(_, node)| node.into()).collect()
            })),
            3 => Command::Move(address(choice), NODES[usize::from(choice / 8 % 4)].into()),
            4 => Command::SelfTest(address(choice)),
            5 => return self.set_keys(choice),
            6 => Command::Settings(settings(choice)),
            7 => {
                let addresses = some_addresses(choice).into_iter().collect();
                return self.input(Input::ServiceProxyAddresses(addresses));
            }
            _ => Command::Leave {
                restarting: choice & 1 == 1,
            },
        };
        self.command(command);
    }

    /// A hello of a peer, or of another process of this node.
    fn hello(&mut self, octets: &mut Octets<'_>) -> (Mac, Hello) {
        let (who, what, which) = (octets.octet(), octets.octet(), octets.octet());
        let epoch = match octets.octet() {
            255 => u64::MAX,
            epoch => epoch.into(),
        };
        let node = usize::from(who % 4);
        if who & 0x80 == 0 {
            self.sequence += 1;
        }
        let instance = INSTANCE + u64::from(who / 4 % 4) - 1;
        let wall = INSTANCE + u64::try_from((self.now - START).as_millis()).unwrap();
        let claims: Vec<_> = some_addresses(which)
            .into_iter()
            .map(|address| Claim { address, epoch })
            .collect();
        let target: Arc<str> = NODES[usize::from(which / 64)].into();
        let source = mac(u8::try_from(node).unwrap());
        let hello = Hello {
            cluster: CLUSTER,
            node: NODES[node].into(),
            instance,
            sequence: self.sequence,
            sent: if who & 0x40 == 0 { wall } else { wall / 2 },
            state: [
                NodeState::Ready,
                NodeState::Settling,
                NodeState::Restarting,
                NodeState::Leaving,
            ][usize::from(what / 16 % 4)],
            interval: Duration::from_millis([100, 1000, 0, 65_535][usize::from(what / 64)]),
            multiplier: if which == 255 { 0 } else { 3 },
            owned: u32::try_from(claims.len()).unwrap(),
            digest: epoch,
            mac: source,
            networks: vec!["10.0.0.2/24".parse().unwrap()],
            sections: section(what % 10, target, claims).into_iter().collect(),
        };
        (source, hello)
    }

    /// In a frame, with the current key, or without a valid one.
    fn signed(&self, hello: &Hello, choice: u8, source: Mac) -> Vec<u8> {
        let foreign = Key::new(b"foreign");
        let key = self.key.as_ref().filter(|_| choice % 8 != 7);
        let payload = hello.encode(key.unwrap_or(&foreign));
        let from = if choice & 0x80 == 0 {
            "10.0.0.2"
        } else {
            "fe80::2"
        };
        hello_frame::encapsulate(source, from.parse().unwrap(), &payload)
    }

    /// Takes all outputs and checks them.
    fn collect(&mut self) {
        while let Some(event) = self.machine.next_event() {
            self.check_event(&event);
            self.transcript.push(Output::Event(self.now, event));
        }
        while let Some((index, frame)) = self.machine.next_frame() {
            self.check_frame(index, &frame);
            self.transcript.push(Output::Frame(self.now, index, frame));
        }
        while let Some(change) = self.machine.next_group_change() {
            self.transcript.push(Output::Group(change));
        }
        let added = self.announced.is_subset(&self.added);
        assert!(added, "a removed address is still announced");
        if self.ended {
            assert_eq!(self.machine.poll_timeout(), None, "a timer after the end");
        }
    }

    fn check_event(&mut self, event: &Event) {
        assert!(!self.ended, "after the end: {event:?}");
        match event {
            Event::Announced { address, .. } => {
                assert!(self.added.contains(address), "not added: {event:?}");
                assert!(self.announced.insert(*address), "twice: {event:?}");
            }
            Event::Withdrawn { address, .. } => {
                assert!(self.announced.remove(address), "not announced: {event:?}");
            }
            Event::Left => self.ended = true,
            _ => {}
        }
    }

    fn check_frame(&mut self, index: IfIndex, frame: &[u8]) {
        let interface = self
            .interfaces
            .get(&index)
            .expect("a frame on no interface");
        let (header, payload) = Header::decode(frame).expect("a frame");
        assert_eq!(header.source, interface.mac);
        if let Some((_, payload)) = hello_frame::decapsulate(frame) {
            let keys = [self.key.clone().expect("a hello without a key")];
            let hello = Hello::decode(payload, CLUSTER, &keys).expect("a valid hello");
            assert!(payload.len() + hello_frame::OVERHEAD <= interface.mtu as usize);
            let last = self.sent.insert(index, hello.sequence);
            assert!(last < Some(hello.sequence), "sequence {last:?}");
            return;
        }
        assert!(
            !interface.loopback,
            "no hello, but on the loopback interface"
        );
        let answered = if header.ether_type == ETHER_TYPE_ARP {
            let arp = Arp::decode(payload).expect("an ARP packet");
            let probe = arp.operation == Operation::Request && arp.sender.is_unspecified();
            (!probe).then_some(IpAddr::V4(arp.sender))
        } else {
            match Ndp::decode(payload).expect("a packet of Neighbor Discovery") {
                Ndp::Solicitation { source, .. } => {
                    (!source.is_unspecified()).then_some(IpAddr::V6(source))
                }
                Ndp::Advertisement { target, .. } => Some(IpAddr::V6(target)),
            }
        };
        if let Some(address) = answered {
            let announced = self.announced.contains(&address);
            assert!(announced, "{address} is not announced: {frame:x?}");
        }
    }
}

fn settings(choice: u8) -> Settings {
    Settings {
        cluster: CLUSTER,
        hello_interval: limits::HELLO_INTERVAL * (1 + u32::from(choice % 4)),
        gratuitous_rate: [limits::GRATUITOUS_RATE, 1, 0, 100][usize::from(choice / 4 % 4)],
    }
}

/// Node, this node (10 to 12: its interfaces) or other host.
const fn mac(number: u8) -> Mac {
    Mac([2, 0, 0x5e, 0, 0x53, number])
}

fn address(choice: u8) -> IpAddr {
    ADDRESSES[usize::from(choice) % ADDRESSES.len()]
}

fn some_addresses(bits: u8) -> Vec<IpAddr> {
    let chosen = (0u8..)
        .zip(ADDRESSES)
        .filter(|(bit, _)| bits >> bit & 1 == 1);
    chosen.map(|(_, address)| address).collect()
}

fn section(kind: u8, node: Arc<str>, claims: Vec<Claim>) -> Option<Section> {
    let addresses = claims.iter().map(|claim| claim.address);
    Some(match kind {
        0 => return None,
        1 => Section::Claims(claims),
        2 => Section::Intents(claims),
        3 => Section::Released(claims),
        4 => Section::Successors { node, claims },
        5 => Section::Remembered { node, claims },
        6 => Section::RequestClaims { node },
        7 => Section::Move {
            node,
            addresses: addresses.collect(),
        },
        8 => Section::TestRequest {
            node,
            addresses: addresses.collect(),
        },
        _ => Section::TestResult {
            node,
            answers: addresses.map(|address| (address, vec![mac(10)])).collect(),
        },
    })
}

/// Ethernet source and destination.
fn hosts(choice: u8, group: Mac) -> (Mac, Mac) {
    let to = if choice & 0x80 == 0 { group } else { mac(10) };
    (mac(choice % 16), to)
}

fn arp(octets: &mut Octets<'_>) -> Vec<u8> {
    let (host, sender, target) = (octets.octet(), octets.octet(), octets.octet());
    let ipv4 = |choice: u8| match (address(choice), choice / 8 % 4) {
        (IpAddr::V4(address), 0 | 1) => address,
        (_, 2) => Ipv4Addr::UNSPECIFIED,
        (_, node) => Ipv4Addr::new(10, 0, 0, node),
    };
    let (source, destination) = hosts(host, Mac::BROADCAST);
    let packet = Arp {
        operation: if host & 0x40 == 0 {
            Operation::Request
        } else {
            Operation::Reply
        },
        sender_mac: source,
        sender: ipv4(sender),
        target_mac: destination,
        target: ipv4(target),
    };
    packet.frame(source, destination)
}

fn ndp(octets: &mut Octets<'_>) -> Vec<u8> {
    let (host, source, target) = (octets.octet(), octets.octet(), octets.octet());
    let ipv6 = |choice: u8| match address(choice) {
        IpAddr::V6(address) => address,
        IpAddr::V4(_) if choice & 0x40 == 0 => Ipv6Addr::UNSPECIFIED,
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    };
    let (source_mac, destination_mac) = hosts(host, Mac([0x33, 0x33, 0, 0, 0, 1]));
    let (source, target) = (ipv6(source), ipv6(target));
    let packet = if host & 0x40 == 0 {
        Ndp::Solicitation {
            source,
            destination: solicited_node(target),
            target,
            source_mac: (!source.is_unspecified()).then_some(source_mac),
        }
    } else {
        Ndp::unsolicited(source_mac, target)
    };
    packet.frame_to(source_mac, destination_mac)
}

/// Each begins with a node that is set up.
pub fn seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 9] = [
        // A client asks, an address is removed, the client asks again.
        &[0, 2, 100, 5, 4, 27, 0, 14, 0, 0, 5, 4, 27, 0, 0, 50],
        // A host asks for an IPv6 address, and another one probes it.
        &[0, 2, 100, 7, 4, 4, 3, 7, 5, 0, 3, 0, 200],
        // A peer owns an address, and becomes silent.
        &[0, 8, 5, 1, 1, 1, 0, 0, 50, 8, 5, 0, 0, 1, 0, 2, 100],
        // Two claims with the highest epoch.
        &[
            0, 2, 100, 8, 5, 1, 1, 255, 0, 0, 50, 14, 0, 0, 13, 0, 1, 0, 2, 100,
        ],
        // Another process of the node on lo hands over.
        &[0, 40, 8, 1, 7, 9, 0, 0, 25, 40, 8, 4, 7, 9, 0, 2, 50],
        // Moves to a peer, a self-test, and the end with a hand-over.
        &[
            0, 8, 5, 0, 0, 0, 0, 14, 3, 8, 0, 50, 14, 4, 0, 0, 50, 14, 8, 0, 2, 100,
        ],
        // A stall, an interface that goes and comes, a foreign host with an address.
        &[
            0, 2, 50, 3, 200, 5, 79, 0, 0, 0, 20, 12, 128, 0, 20, 12, 0, 2, 50,
        ],
        // A peer that owns an address becomes silent, and the key is gone.
        &[
            0, 8, 5, 1, 1, 1, 0, 0, 20, 8, 5, 1, 1, 1, 0, 0, 80, 14, 5, 3, 2, 100,
        ],
        // The keys change and are gone.
        &[
            1, 12, 0, 14, 5, 0, 13, 0, 1, 0, 14, 1, 0, 2, 60, 14, 5, 2, 0, 9, 14, 5, 3, 2, 9,
        ],
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}
