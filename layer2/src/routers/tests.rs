use std::time::Duration;

use super::*;
use crate::limits::{ADVERTISEMENT_INTERVAL_MIN, ROUTERS_MAX};

const OWN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const MAC: Mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);
const ETH1: IfIndex = IfIndex(3);
const ROUTER: Neighbor = Neighbor {
    router: true,
    failed: false,
};
const FAILED: Neighbor = Neighbor {
    router: true,
    failed: true,
};
const HOST: Neighbor = Neighbor {
    router: false,
    failed: false,
};

fn router(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number)
}

fn second(seconds: u64) -> Time {
    Duration::from_secs(1000 + seconds)
}

struct Bench {
    machine: Routers,
    tables: Tables,
    now: Time,
}

impl Bench {
    /// A watched interface that is up.
    fn new() -> Self {
        let mut bench = Self {
            machine: Routers::default(),
            tables: Tables::default(),
            now: second(0),
        };
        bench.set_link(|_| {});
        bench.watch(&["eth1"]);
        bench.machine.handle(bench.now, Input::CanSend(true));
        bench.tables();
        bench
    }

    fn watch(&mut self, names: &[&str]) {
        let names = names.iter().map(|name| Box::from(*name)).collect();
        self.machine.handle(self.now, Input::Watch(&names));
    }

    fn tables(&mut self) {
        self.machine.handle(self.now, Input::Tables(&self.tables));
    }

    fn set_link(&mut self, change: impl FnOnce(&mut Link)) {
        let mut link = Link {
            index: ETH1,
            mac: Some(MAC),
            up: true,
            address: Some(OWN),
        };
        change(&mut link);
        self.tables.links.insert("eth1".into(), link);
    }

    fn neighbor(&mut self, number: u16, neighbor: Neighbor) {
        self.tables
            .neighbors
            .insert((ETH1, router(number)), neighbor);
        self.tables();
    }

    fn advertise(&mut self, number: u16) {
        let advertisement = RouterDiscovery::of_neighbor(router(number), MAC);
        let frame = advertisement.frame(MAC);
        self.machine.handle(self.now, Input::Frame(ETH1, &frame));
    }

    /// The last reported state.
    fn state(&mut self) -> State {
        let changes = std::iter::from_fn(|| self.machine.next_change());
        changes.last().expect("a change").state
    }

    fn router(&mut self) -> Option<Ipv6Addr> {
        self.state().router.map(|router| router.address)
    }

    fn is_quiet(&mut self) -> bool {
        self.machine.next_change().is_none()
    }

    /// Runs the timers until then. Returns the packets with the seconds at which they were sent.
    fn run(&mut self, until: u64) -> Vec<(u64, &'static str)> {
        let mut sent = Vec::new();
        loop {
            while let Some((index, frame)) = self.machine.next_frame() {
                assert_eq!(index, ETH1);
                let packet = RouterDiscovery::decode(Header::decode(&frame).unwrap().1).unwrap();
                let kind = match packet {
                    RouterDiscovery::Advertisement {
                        source, lifetime, ..
                    } => {
                        assert_eq!((source, lifetime), (OWN, Duration::ZERO));
                        "advertisement"
                    }
                    RouterDiscovery::Solicitation { .. } => "solicitation",
                };
                sent.push(((self.now - second(0)).as_secs(), kind));
            }
            match self.machine.poll_timeout() {
                Some(at) if at <= second(until) => {
                    self.now = self.now.max(at);
                    self.machine.handle_timeout(self.now);
                }
                _ => break,
            }
        }
        self.now = second(until);
        sent
    }
}

#[test]
fn a_router_is_found_by_its_advertisement_or_in_the_neighbor_table() {
    let mut bench = Bench::new();
    let state = bench.state();
    assert_eq!(state.router, None);
    assert_eq!(state.notes, [Note::NoRouter("eth1".into())]);
    bench.neighbor(7, HOST);
    assert!(bench.is_quiet(), "a host is no router");
    bench.advertise(1);
    let state = bench.state();
    let expected = Router {
        address: router(1),
        interface: ETH1,
    };
    assert_eq!(state.router, Some(expected));
    assert_eq!(state.notes, []);

    let mut bench = Bench::new();
    bench.neighbor(2, ROUTER);
    assert_eq!(bench.router(), Some(router(2)));
}

#[test]
fn nothing_is_reported_before_the_tables_are_known() {
    let mut machine = Routers::default();
    let names = ["eth1".into()].into();
    machine.handle(second(0), Input::Watch(&names));
    machine.handle(second(0), Input::CanSend(true));
    assert_eq!(machine.next_change(), None);
    machine.handle(second(0), Input::Tables(&Tables::default()));
    let change = machine.next_change().unwrap();
    assert_eq!(change.state.notes, [Note::Missing("eth1".into())]);
}

#[test]
fn the_first_router_is_used_as_long_as_it_answers() {
    let mut bench = Bench::new();
    bench.neighbor(5, ROUTER);
    assert_eq!(bench.router(), Some(router(5)));
    bench.advertise(1);
    let state = bench.state();
    let note = Note::Several {
        interface: "eth1".into(),
        used: router(5),
        others: vec![router(1)],
    };
    assert_eq!(state.notes, [note]);
    assert_eq!(state.router.unwrap().address, router(5));
    // The kernel forgets a neighbor without traffic.
    bench.tables.neighbors.clear();
    bench.tables();
    assert!(bench.is_quiet());
    bench.neighbor(5, FAILED);
    let state = bench.state();
    assert_eq!(state.router.unwrap().address, router(1));
    assert_eq!(state.notes, []);
    // It is back, but a change would end the session.
    bench.neighbor(5, ROUTER);
    assert_eq!(bench.router(), Some(router(1)));
}

#[test]
fn a_replaced_router_is_followed_when_the_old_one_no_longer_answers() {
    let mut bench = Bench::new();
    bench.neighbor(1, ROUTER);
    bench.neighbor(1, FAILED);
    let state = bench.state();
    assert_eq!(
        state.router.unwrap().address,
        router(1),
        "there is no other"
    );
    let note = Note::Unreachable {
        interface: "eth1".into(),
        router: router(1),
    };
    assert_eq!(state.notes, [note]);
    bench.neighbor(2, ROUTER);
    assert_eq!(bench.router(), Some(router(2)));
    // Of several that answer, one that advertises itself comes first: hosts may forward too.
    bench.neighbor(3, ROUTER);
    bench.advertise(4);
    bench.neighbor(2, FAILED);
    assert_eq!(bench.router(), Some(router(4)));
}

#[test]
fn an_interface_comes_and_goes() {
    let mut bench = Bench::new();
    bench.neighbor(1, ROUTER);
    assert_eq!(bench.router(), Some(router(1)));
    // Down: the kernel forgets its neighbors. The session may survive it.
    bench.set_link(|link| link.up = false);
    bench.tables.neighbors.clear();
    bench.tables();
    let state = bench.state();
    assert_eq!(state.router.unwrap().address, router(1));
    assert_eq!(state.notes, [Note::Down("eth1".into())]);
    bench.tables.links.clear();
    bench.tables();
    let state = bench.state();
    assert_eq!(state.router, None);
    assert_eq!(state.notes, [Note::Missing("eth1".into())]);
    // A new interface of the same name.
    bench.set_link(|link| link.index = IfIndex(9));
    bench.neighbor(1, ROUTER);
    let state = bench.state();
    assert_eq!(state.router, None, "a neighbor of the old one");
    bench
        .tables
        .neighbors
        .insert((IfIndex(9), router(1)), ROUTER);
    bench.tables();
    assert_eq!(bench.state().router.unwrap().interface, IfIndex(9));
}

#[test]
fn an_interface_without_an_address_or_the_capability_says_so() {
    let mut bench = Bench::new();
    bench.neighbor(1, ROUTER);
    bench.state();
    bench.set_link(|link| link.address = None);
    bench.tables();
    assert_eq!(bench.state().notes, [Note::NoAddress("eth1".into())]);
    bench.set_link(|link| link.mac = None);
    bench.tables();
    assert_eq!(bench.state().notes, [Note::NotEthernet("eth1".into())]);
    bench.set_link(|_| {});
    bench.tables();
    assert_eq!(bench.state().notes, []);
    bench.machine.handle(bench.now, Input::CanSend(false));
    let state = bench.state();
    assert_eq!(state.notes, [Note::NotAdvertised("eth1".into())]);
    let text = state.notes[0].to_string();
    assert!(text.contains("NET_RAW"), "{text}");
    assert_eq!(state.router.unwrap().address, router(1));
    assert_eq!(bench.machine.poll_timeout(), None);
    assert!(bench.machine.interfaces().is_empty());
}

#[test]
fn advertisements_are_frequent_at_first_and_solicitations_end() {
    let mut bench = Bench::new();
    assert_eq!(bench.machine.interfaces(), [ETH1].into());
    let sent = bench.run(25);
    let at = |kind: &str| -> Vec<u64> {
        let of_kind = sent.iter().filter(|(_, sent)| *sent == kind);
        of_kind.map(|(second, _)| *second).collect()
    };
    assert_eq!(at("advertisement"), [0, 1, 2, 12, 22]);
    assert_eq!(at("solicitation"), [0, 4, 8]);
    bench.set_link(|link| link.up = false);
    bench.tables();
    assert_eq!(bench.run(50), []);
    bench.set_link(|_| {});
    bench.tables();
    bench.advertise(1);
    let sent = bench.run(53);
    let expected = [50, 51, 52].map(|second| (second, "advertisement"));
    assert_eq!(sent[0], expected[0]);
    assert_eq!(sent[2..], expected[1..], "no solicitation but the first");
}

#[test]
fn a_solicitation_is_answered_at_once_but_not_often() {
    let mut bench = Bench::new();
    bench.advertise(1);
    bench.run(20);
    let frame = RouterDiscovery::Solicitation {
        source: router(1),
        source_mac: None,
    }
    .frame(MAC);
    bench.machine.handle(bench.now, Input::Frame(ETH1, &frame));
    assert_eq!(bench.run(20), [(20, "advertisement")]);
    bench.machine.handle(bench.now, Input::Frame(ETH1, &frame));
    let next = 20 + ADVERTISEMENT_INTERVAL_MIN.as_secs();
    assert_eq!(bench.run(25), [(next, "advertisement")]);
}

#[test]
fn frames_of_other_interfaces_and_truncated_ones_are_ignored() {
    let mut bench = Bench::new();
    bench.state();
    let own = RouterDiscovery::of_neighbor(OWN, MAC).frame(MAC);
    bench.machine.handle(bench.now, Input::Frame(ETH1, &own));
    let elsewhere = RouterDiscovery::of_neighbor(router(1), MAC).frame(MAC);
    let other = IfIndex(99);
    bench
        .machine
        .handle(bench.now, Input::Frame(other, &elsewhere));
    for length in [0, 13, 14, 20, elsewhere.len() - 1] {
        let cut = &elsewhere[..length];
        bench.machine.handle(bench.now, Input::Frame(ETH1, cut));
    }
    assert!(bench.is_quiet());
}

#[test]
fn a_flood_of_advertisements_fills_no_memory() {
    let mut bench = Bench::new();
    for number in 1..1000 {
        bench.advertise(number);
    }
    let state = bench.state();
    assert_eq!(state.router.unwrap().address, router(1));
    let [Note::Several { others, .. }] = &*state.notes else {
        panic!("{state:?}");
    };
    assert_eq!(others.len(), ROUTERS_MAX - 1);
}

#[test]
fn an_interface_that_is_watched_again_is_reported_again() {
    let mut bench = Bench::new();
    bench.neighbor(1, ROUTER);
    bench.state();
    bench.watch(&[]);
    assert!(bench.is_quiet());
    bench.watch(&["eth1", "eth2"]);
    let changes: Vec<Change> = std::iter::from_fn(|| bench.machine.next_change()).collect();
    assert_eq!(changes.len(), 2);
    assert!(changes[0].state.router.is_some());
    assert_eq!(changes[1].state.notes, [Note::Missing("eth2".into())]);
}
