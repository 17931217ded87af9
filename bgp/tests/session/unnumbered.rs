//! Unnumbered peers: they follow the router at the other end of an interface.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Instant;

use ferrolb_bgp::config::{PeerConfig, Remote, RemoteAsn, Secret};
use ferrolb_bgp::fsm::{
    ConnectionId, Event, Input, LinkRouter, LinkState, Output, RejectReason, Speaker,
    SpeakerConfig, State,
};
use ferrolb_bgp::wire::Asn;

struct Bench {
    speaker: Speaker,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let speaker = Speaker::new(SpeakerConfig {
            router_id_fallback: Ipv4Addr::new(10, 0, 0, 1),
            seed: 1,
            host_uptime: None,
        });
        let now = Instant::now();
        Self { speaker, now }
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.speaker.handle(self.now, input);
        std::iter::from_fn(|| self.speaker.poll_output()).collect()
    }

    fn link(&mut self, interface: &str, router: Option<LinkRouter>) -> Vec<Output> {
        self.input(Input::Link {
            interface: interface.to_owned(),
            state: LinkState {
                router,
                notes: vec![format!("about {interface}")],
            },
        })
    }

    /// A connection from port 50000 of a link-local address on the interface with this index.
    fn accept(&mut self, number: u64, from: &str, scope: u32) -> Vec<Output> {
        let end = |address: &str, port| {
            SocketAddr::V6(SocketAddrV6::new(address.parse().unwrap(), port, 0, scope))
        };
        self.input(Input::Accepted {
            connection: ConnectionId::Accepted(number),
            local: end("fe80::9", 179),
            remote: end(from, 50000),
        })
    }

    fn state(&self, name: &str) -> State {
        self.speaker.peer(self.now, name).unwrap().status.state
    }
}

fn peer(name: &str, interface: &str) -> PeerConfig {
    let mut config = PeerConfig::new(name, ([127, 0, 0, 1], 179).into(), Asn(65001), Asn(65002));
    config.remote = Remote::unknown_on_link(179);
    config.remote_asn = RemoteAsn::External;
    config.transport.source_interface = Some(interface.to_owned());
    config
}

fn passive(mut config: PeerConfig) -> PeerConfig {
    config.transport.passive = true;
    config
}

fn router(address: &str, interface: u32) -> Option<LinkRouter> {
    let address = address.parse().unwrap();
    Some(LinkRouter { address, interface })
}

/// The addresses that are dialled.
fn dialled(outputs: &[Output]) -> Vec<String> {
    let dials = outputs.iter().filter_map(|output| match output {
        Output::Connect { remote, .. } => Some(remote.to_string()),
        _ => None,
    });
    dials.collect()
}

/// The addresses that may or no longer may connect, with the scope.
fn listening(outputs: &[Output]) -> Vec<String> {
    let changes = outputs.iter().filter_map(|output| match output {
        Output::Listen { remote, scope, .. } => Some(format!("+{remote}%{scope}")),
        Output::Unlisten { remote, scope } => Some(format!("-{remote}%{scope}")),
        _ => None,
    });
    changes.collect()
}

#[test]
fn an_unnumbered_peer_waits_for_its_router_and_follows_a_new_one() {
    let mut bench = Bench::new();
    let outputs = bench.input(Input::SetPeer(peer("tor", "eth1")));
    assert_eq!((dialled(&outputs), listening(&outputs)), (vec![], vec![]));
    assert_eq!(bench.state("tor"), State::Active);
    let status = bench.speaker.peer(bench.now, "tor").unwrap().status;
    assert_eq!(status.address_text(), "eth1");

    let outputs = bench.link("eth1", router("fe80::1", 3));
    assert_eq!(dialled(&outputs), ["[fe80::1%3]:179"]);
    assert_eq!(listening(&outputs), ["+fe80::1/128%3"]);
    let status = bench.speaker.peer(bench.now, "tor").unwrap().status;
    assert_eq!(status.address_text(), "[fe80::1%eth1]:179");
    assert_eq!(status.link.unwrap().notes, ["about eth1"]);

    let outputs = bench.link("eth1", router("fe80::1", 3));
    assert!(outputs.is_empty(), "the same router: {outputs:?}");
    let outputs = bench.link("eth0", router("fe80::7", 2));
    assert!(outputs.is_empty(), "another interface: {outputs:?}");

    let outputs = bench.link("eth1", router("fe80::2", 3));
    assert_eq!(dialled(&outputs), ["[fe80::2%3]:179"]);
    assert_eq!(listening(&outputs), ["+fe80::2/128%3", "-fe80::1/128%3"]);

    let outputs = bench.link("eth1", None);
    assert_eq!(dialled(&outputs), [""; 0]);
    assert_eq!(listening(&outputs), ["-fe80::2/128%3"]);
    assert_eq!(bench.state("tor"), State::Active);
}

#[test]
fn a_known_router_is_dialled_at_once_also_after_a_change_of_the_configuration() {
    let mut bench = Bench::new();
    bench.link("eth1", router("fe80::1", 3));
    let outputs = bench.input(Input::SetPeer(peer("tor", "eth1")));
    assert_eq!(dialled(&outputs), ["[fe80::1%3]:179"]);
    let outputs = bench.input(Input::SetPeer(peer("tor", "eth1")));
    assert!(outputs.is_empty(), "nothing changed: {outputs:?}");
    let mut other = peer("tor", "eth1");
    other.remote = Remote::unknown_on_link(1790);
    let outputs = bench.input(Input::SetPeer(other));
    assert_eq!(dialled(&outputs), ["[fe80::1%3]:1790"]);
}

/// Routers often have fe80::1 on every interface.
#[test]
fn routers_with_one_address_on_two_interfaces_are_two_peers() {
    let mut bench = Bench::new();
    bench.link("eth1", router("fe80::1", 3));
    bench.link("eth2", router("fe80::1", 4));
    bench.input(Input::SetPeer(passive(peer("one", "eth1"))));
    bench.input(Input::SetPeer(passive(peer("two", "eth2"))));
    bench.accept(1, "fe80::1", 4);
    assert_eq!(bench.state("one"), State::Active);
    assert_eq!(bench.state("two"), State::OpenSent);
    bench.accept(2, "fe80::1", 3);
    assert_eq!(bench.state("one"), State::OpenSent);
    for (number, from, scope) in [(3, "fe80::1", 5), (4, "fe80::2", 3), (5, "::", 0)] {
        let outputs = bench.accept(number, from, scope);
        let rejected = outputs.iter().any(|output| {
            let unknown = RejectReason::UnknownAddress;
            matches!(output, Output::Event(Event::Rejected { reason, .. }) if *reason == unknown)
        });
        assert!(rejected, "{from} {scope}: {outputs:?}");
    }
}

#[test]
fn two_unnumbered_peers_on_one_interface_conflict() {
    let mut bench = Bench::new();
    bench.input(Input::SetPeer(peer("one", "eth1")));
    bench.input(Input::SetPeer(peer("two", "eth1")));
    let error = |bench: &Bench| {
        let status = bench.speaker.peer(bench.now, "two").unwrap().status;
        status.last_error.map(|error| error.cause.text)
    };
    let text = error(&bench).unwrap();
    assert!(text.contains("the same interface"), "{text}");
    let outputs = bench.link("eth1", router("fe80::1", 3));
    assert_eq!(dialled(&outputs), ["[fe80::1%3]:179"]);
    let outputs = bench.input(Input::RemovePeer("one".to_owned()));
    assert_eq!(dialled(&outputs), ["[fe80::1%3]:179"], "of peer two");
}

/// The kernel's MD5 keys don't depend on the interface.
#[test]
fn routers_with_one_address_share_their_password() {
    let mut bench = Bench::new();
    bench.link("eth1", router("fe80::1", 3));
    bench.link("eth2", router("fe80::1", 4));
    let secured = |name, interface, password: &str| {
        let mut config = peer(name, interface);
        config.transport.password = Some(Secret::new(password));
        config
    };
    bench.input(Input::SetPeer(secured("one", "eth1", "first")));
    bench.input(Input::SetPeer(secured("two", "eth2", "second")));
    let status = bench.speaker.peer(bench.now, "two").unwrap().status;
    let text = status.last_error.unwrap().cause.text;
    assert!(text.contains("another password"), "{text}");
    let outputs = bench.input(Input::SetPeer(secured("two", "eth2", "first")));
    assert_eq!(dialled(&outputs), ["[fe80::1%4]:179"]);
}
