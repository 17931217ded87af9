//! What every sequence of calls keeps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::interface::GroupChange;
use crate::responder::{Probe, Timing};
use crate::wire::ndp::solicited_node;

/// IPv6 addresses of which two share a group, and IPv4 addresses.
const ADDRESSES: [IpAddr; 4] = [
    IpAddr::V6(V6),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 1, 0x12, 0x3456)),
    IpAddr::V4(V4),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
];

#[derive(Clone, Debug)]
enum Call {
    Announce(IpAddr, Selection),
    Withdraw(IpAddr),
    AnnounceAgain(IpAddr),
    Defend(IpAddr),
    Suspend(bool),
    SetInterface(IfIndex, bool),
    RemoveInterface(IfIndex),
    Probe(IpAddr, Selection),
    CancelProbe(IpAddr),
    Receive(IfIndex, Frame),
    Rate(u32),
    Run(Duration),
}

/// Names of interfaces. None: all.
type Selection = Option<&'static [&'static str]>;

fn call() -> impl Strategy<Value = Call> {
    let address = || select(&ADDRESSES[..]);
    let interface = || select(&[ETH0, ETH1][..]);
    let selections: [Selection; 4] = [None, Some(&["eth0"]), Some(&["eth1"]), Some(&[])];
    let selection = move || select(selections.to_vec());
    prop_oneof![
        (address(), selection()).prop_map(|(a, s)| Call::Announce(a, s)),
        address().prop_map(Call::Withdraw),
        address().prop_map(Call::AnnounceAgain),
        address().prop_map(Call::Defend),
        any::<bool>().prop_map(Call::Suspend),
        (interface(), any::<bool>()).prop_map(|(i, c)| Call::SetInterface(i, c)),
        interface().prop_map(Call::RemoveInterface),
        (address(), selection()).prop_map(|(a, s)| Call::Probe(a, s)),
        address().prop_map(Call::CancelProbe),
        (interface(), frame()).prop_map(|(i, f)| Call::Receive(i, f)),
        select(&[1, 10, 2_000][..]).prop_map(Call::Rate),
        (0..3_000_u64).prop_map(|time| Call::Run(ms(time))),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let gratuitous = Packet::Request(arp(OTHER, V4, Mac::ZERO, V4)).from(OTHER, Mac::BROADCAST);
    select(vec![
        request(V4),
        foreign_probe(OTHER),
        gratuitous,
        solicitation(V6).from(OTHER, Mac::of_ipv6_group(V6_GROUP)),
        foreign_duplicate_check(),
        foreign_advertisement(),
    ])
}

fn interfaces(selection: Selection) -> Arc<Interfaces> {
    selection.map_or_else(|| Arc::new(Interfaces::All), named)
}

/// What the responder must know and do.
struct Model {
    responder: Responder,
    now: Time,
    carrier: BTreeMap<IfIndex, bool>,
    suspended: bool,
    announced: BTreeMap<IpAddr, Arc<Interfaces>>,
    probing: BTreeMap<IpAddr, Arc<Interfaces>>,
    joined: BTreeSet<(IfIndex, Ipv6Addr)>,
}

fn interface(index: IfIndex) -> Interface {
    if index == ETH0 { eth0() } else { eth1() }
}

impl Model {
    fn new() -> Self {
        Self {
            responder: Responder::new(GRATUITOUS_RATE, 1),
            now: Duration::from_secs(100),
            carrier: BTreeMap::new(),
            suspended: false,
            announced: BTreeMap::new(),
            probing: BTreeMap::new(),
            joined: BTreeSet::new(),
        }
    }

    fn call(&mut self, call: Call) {
        let (now, responder) = (self.now, &mut self.responder);
        match call {
            Call::Announce(address, selection) => {
                responder.announce(now, address, interfaces(selection));
                self.announced.insert(address, interfaces(selection));
            }
            Call::Withdraw(address) => {
                responder.withdraw(address);
                self.announced.remove(&address);
            }
            Call::AnnounceAgain(address) => responder.announce_again(now, address),
            Call::Defend(address) => responder.defend(address),
            Call::Suspend(suspended) => {
                responder.suspend(now, suspended);
                self.suspended = suspended;
            }
            Call::SetInterface(index, carrier) => {
                let interface = Interface {
                    carrier,
                    ..interface(index)
                };
                responder.set_interface(now, &interface);
                self.carrier.insert(index, carrier);
            }
            Call::RemoveInterface(index) => {
                responder.remove_interface(now, index);
                self.carrier.remove(&index);
                self.joined.retain(|(of, _)| *of != index);
            }
            Call::Probe(address, selection) => {
                let probe = Probe {
                    address,
                    interfaces: interfaces(selection),
                    timing: Timing::FAST,
                };
                self.probing.insert(address, probe.interfaces.clone());
                responder.probe(now, probe);
            }
            Call::CancelProbe(address) => {
                responder.cancel_probe(address);
                self.probing.remove(&address);
            }
            Call::Receive(index, frame) => responder.receive(now, index, &frame.encode()),
            Call::Rate(rate) => responder.set_gratuitous_rate(rate),
            Call::Run(time) => self.run(time),
        }
        self.check();
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.responder.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.responder.handle_timeout(self.now);
            let next = self.responder.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a busy loop");
            self.check();
        }
        self.now = end;
    }

    fn check(&mut self) {
        while let Some((index, octets)) = self.responder.next_frame() {
            let frame = Frame::decode(&octets);
            assert_eq!(frame.source, interface(index).mac);
            assert_eq!(self.carrier.get(&index), Some(&true), "no carrier");
            let is_probe = match &frame.packet {
                Packet::Request(fields) => fields.sender.is_unspecified(),
                Packet::Reply(_) | Packet::Advertisement { .. } => false,
                Packet::Solicitation { .. } => true,
            };
            let address = match frame.packet {
                Packet::Reply(fields) => fields.sender.into(),
                ref other => other.address(),
            };
            let allowed = if is_probe {
                self.probing.get(&address)
            } else {
                assert!(!self.suspended);
                self.announced.get(&address)
            };
            let selected = allowed.is_some_and(|all| all.selects(&interface(index).name));
            assert!(selected, "{address} on {index:?}");
        }
        while let Some(observation) = self.responder.next_observation() {
            match observation {
                Observation::ProbeResult { address, .. } => {
                    let probe = self.probing.remove(&address);
                    assert!(probe.is_some(), "a result without a probe: {address}");
                }
                Observation::Conflict { address, .. } => {
                    assert!(self.announced.contains_key(&address));
                }
                Observation::Foreign { mac, .. } => assert_eq!(mac, OTHER),
            }
        }
        self.check_groups();
    }

    fn check_groups(&mut self) {
        while let Some(change) = self.responder.next_group_change() {
            let changed = match change {
                GroupChange::Join(index, group) => self.joined.insert((index, group)),
                GroupChange::Leave(index, group) => self.joined.remove(&(index, group)),
            };
            assert!(changed, "{change:?} without effect");
        }
        let mut expected = BTreeSet::new();
        for index in self.carrier.keys() {
            for (address, selected) in self.announced.iter().chain(&self.probing) {
                if let IpAddr::V6(address) = address
                    && selected.selects(&interface(*index).name)
                {
                    expected.insert((*index, solicited_node(*address)));
                }
            }
        }
        assert_eq!(self.joined, expected);
    }

    /// All probes end, and the addresses that remain are answered.
    fn finish(&mut self) {
        self.run(ms(60_000));
        assert_eq!(self.probing.len(), 0, "probes without a result");
        let answers = self.carrier.get(&ETH0) == Some(&true)
            && !self.suspended
            && (self.announced.get(&V4.into())).is_some_and(|all| all.selects("eth0"));
        self.responder
            .receive(self.now, ETH0, &request(V4).encode());
        assert_eq!(self.responder.next_frame().is_some(), answers);
        for address in ADDRESSES {
            self.call(Call::Withdraw(address));
        }
        assert_eq!(self.responder.poll_timeout(), None);
        assert_eq!(self.joined.len(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn only_what_is_announced_is_stated_and_each_probe_ends(
        calls in prop::collection::vec(call(), 1..60)
    ) {
        let mut model = Model::new();
        for call in calls {
            model.call(call);
        }
        model.finish();
    }
}
