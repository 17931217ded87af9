use super::*;

/// Attributes in the format of the kernel.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(aligned(octets.len()), 0);
    octets
}

const UP: i32 = libc::IFF_UP | libc::IFF_BROADCAST | libc::IFF_LOWER_UP;

struct NewLink {
    family: u8,
    index: u32,
    flags: i32,
    hardware: u16,
    attributes: Vec<u8>,
}

impl NewLink {
    fn new(index: u32, name: &str) -> Self {
        let mut attributes = attribute(libc::IFLA_IFNAME, format!("{name}\0").as_bytes());
        attributes.extend(attribute(libc::IFLA_MTU, &1500u32.to_ne_bytes()));
        attributes.extend(attribute(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]));
        Self {
            family: 0,
            index,
            flags: UP,
            hardware: libc::ARPHRD_ETHER,
            attributes,
        }
    }

    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.attributes.extend(attribute(kind, value));
        self
    }

    fn payload(&self) -> Vec<u8> {
        let mut payload = vec![self.family, 0];
        payload.extend(self.hardware.to_ne_bytes());
        payload.extend(self.index.to_ne_bytes());
        payload.extend(self.flags.to_ne_bytes());
        payload.extend([0; 4]);
        payload.extend(&self.attributes);
        payload
    }
}

fn address(index: u32, network: &str, flags: u32) -> Vec<u8> {
    let network: IpNet = network.parse().unwrap();
    let (family, octets) = octets(network.addr());
    let mut payload = vec![family, network.prefix_len(), 0, 0];
    payload.extend(index.to_ne_bytes());
    payload.extend(attribute(libc::IFA_ADDRESS, &octets));
    payload.extend(attribute(libc::IFA_FLAGS, &flags.to_ne_bytes()));
    payload
}

/// A route of the main table.
fn route(family: i32, destination_length: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let family = u8::try_from(family).unwrap();
    let table = libc::RT_TABLE_MAIN;
    let mut payload = vec![
        family,
        destination_length,
        0,
        0,
        table,
        0,
        0,
        libc::RTN_UNICAST,
    ];
    payload.extend([0; 4]);
    payload.extend(attributes.concat());
    payload
}

fn gateway(address: &str) -> Vec<u8> {
    attribute(libc::RTA_GATEWAY, &octets(address.parse().unwrap()).1)
}

fn out(index: u32) -> Vec<u8> {
    attribute(libc::RTA_OIF, &index.to_ne_bytes())
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (2, address.octets().to_vec()),
        IpAddr::V6(address) => (10, address.octets().to_vec()),
    }
}

impl Links {
    fn message(&mut self, kind: u16, flags: u16, payload: &[u8]) -> bool {
        let message = Message {
            kind,
            flags,
            sequence: 0,
            payload,
        };
        self.apply(&message, &|name| name.starts_with("veth"))
    }

    fn link(&mut self, link: &NewLink) {
        assert!(self.message(libc::RTM_NEWLINK, 0, &link.payload()));
    }

    fn add(&mut self, payload: &[u8]) -> bool {
        self.message(libc::RTM_NEWROUTE, 0, payload)
    }

    fn names(&self) -> Vec<String> {
        let interfaces = self.interfaces().into_values();
        interfaces.map(|interface| interface.name.into()).collect()
    }

    fn gateways(&self, index: u32) -> Vec<String> {
        let interface = self.interfaces().remove(&IfIndex(index)).unwrap();
        interface.gateways.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn an_interface_has_the_facts_of_the_kernel() {
    let mut links = Links::default();
    links.link(&NewLink::new(3, "eth0"));
    for network in ["192.0.2.11/24", "fe80::1/64"] {
        assert!(links.message(libc::RTM_NEWADDR, 0, &address(3, network, 0)));
    }
    links.add(&route(libc::AF_INET, 0, &[gateway("192.0.2.1"), out(3)]));
    let interface = links.interfaces().remove(&IfIndex(3)).unwrap();
    assert_eq!(
        interface,
        Interface {
            index: IfIndex(3),
            name: "eth0".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            carrier: true,
            loopback: false,
            networks: vec![
                "192.0.2.11/24".parse().unwrap(),
                "fe80::1/64".parse().unwrap()
            ],
            gateways: vec!["192.0.2.1".parse().unwrap()],
        }
    );
    let mut link = NewLink::new(3, "eth0");
    link.flags = libc::IFF_UP | libc::IFF_BROADCAST;
    links.link(&link);
    assert!(!links.interfaces()[&IfIndex(3)].carrier);
}

#[test]
fn only_interfaces_that_can_answer_arp_are_usable() {
    let mut links = Links::default();
    let mut down = NewLink::new(2, "down");
    down.flags &= !libc::IFF_UP;
    let mut noarp = NewLink::new(3, "noarp");
    noarp.flags |= libc::IFF_NOARP;
    let mut tunnel = NewLink::new(4, "tunnel");
    tunnel.flags &= !libc::IFF_BROADCAST;
    let mut infiniband = NewLink::new(5, "ib0");
    infiniband.hardware = 32;
    let excluded = NewLink::new(6, "veth6");
    let slave = NewLink::new(7, "slave").with(libc::IFLA_MASTER, &8u32.to_ne_bytes());
    for link in [down, noarp, tunnel, infiniband, excluded, slave] {
        links.link(&link);
    }
    links.link(&NewLink::new(8, "bond0"));
    assert_eq!(links.names(), ["bond0"]);
}

#[test]
fn the_loopback_interface_is_reported_whatever_is_excluded() {
    let mut links = Links::default();
    let mut loopback = NewLink::new(1, "veth-lo");
    loopback.flags = libc::IFF_UP | libc::IFF_LOOPBACK | libc::IFF_LOWER_UP;
    loopback.hardware = 772;
    links.link(&loopback);
    assert!(links.interfaces()[&IfIndex(1)].loopback);
}

#[test]
fn an_interface_changes_when_it_is_enslaved_released_or_removed() {
    let mut links = Links::default();
    let free = NewLink::new(2, "eth0");
    links.link(&free);
    let slave = NewLink::new(2, "eth0").with(libc::IFLA_MASTER, &3u32.to_ne_bytes());
    links.link(&slave);
    assert_eq!(links.names(), [""; 0]);
    links.link(&free);
    assert_eq!(links.names(), ["eth0"]);
    // The bridge reports its port in the family AF_BRIDGE, also when the port leaves it.
    let mut port = NewLink::new(2, "eth0");
    port.family = 7;
    assert!(!links.message(libc::RTM_DELLINK, 0, &port.payload()));
    assert_eq!(links.names(), ["eth0"]);
    assert!(links.message(libc::RTM_DELLINK, 0, &free.payload()));
    assert_eq!(links.names(), [""; 0]);
}

#[test]
fn an_address_that_failed_duplicate_detection_is_not_used() {
    let mut links = Links::default();
    links.link(&NewLink::new(2, "eth0"));
    let networks = |links: &Links| links.interfaces()[&IfIndex(2)].networks.len();
    links.message(libc::RTM_NEWADDR, 0, &address(2, "2001:db8::1/64", 0));
    assert_eq!(networks(&links), 1);
    let failed = address(2, "2001:db8::1/64", libc::IFA_F_DADFAILED);
    links.message(libc::RTM_NEWADDR, 0, &failed);
    assert_eq!(networks(&links), 0);
}

#[test]
fn the_local_address_of_a_point_to_point_link_is_the_one_that_counts() {
    let mut links = Links::default();
    links.link(&NewLink::new(2, "eth0"));
    let mut payload = address(2, "192.0.2.99/32", 0);
    payload.extend(attribute(libc::IFA_LOCAL, &[192, 0, 2, 1]));
    links.message(libc::RTM_NEWADDR, 0, &payload);
    let networks = &links.interfaces()[&IfIndex(2)].networks;
    assert_eq!(*networks, ["192.0.2.1/32".parse().unwrap()]);
}

#[test]
fn only_default_routes_of_the_main_table_have_gateways() {
    let mut links = Links::default();
    links.link(&NewLink::new(2, "eth0"));
    let hop = [gateway("192.0.2.1"), out(2)];
    assert!(!links.add(&route(libc::AF_INET, 8, &hop)));
    let mut other_table = route(libc::AF_INET, 0, &hop);
    other_table[4] = 100;
    assert!(!links.add(&other_table));
    let mut blackhole = route(libc::AF_INET, 0, &hop);
    blackhole[7] = 6;
    assert!(!links.add(&blackhole));
    assert_eq!(links.gateways(2), [""; 0]);
}

#[test]
fn gateways_of_all_default_routes_count_once() {
    let mut links = Links::default();
    links.link(&NewLink::new(2, "eth0"));
    links.link(&NewLink::new(3, "eth1"));
    let metric = |metric: u32| attribute(libc::RTA_PRIORITY, &metric.to_ne_bytes());
    let first = route(
        libc::AF_INET,
        0,
        &[gateway("192.0.2.1"), out(2), metric(100)],
    );
    let second = route(
        libc::AF_INET,
        0,
        &[gateway("192.0.2.1"), out(2), metric(200)],
    );
    links.add(&first);
    links.add(&second);
    assert_eq!(links.gateways(2), ["192.0.2.1"]);
    links.message(libc::RTM_DELROUTE, 0, &first);
    assert_eq!(links.gateways(2), ["192.0.2.1"]);
    links.message(libc::RTM_DELROUTE, 0, &second);
    assert_eq!(links.gateways(2), [""; 0]);

    // Several next hops, and an IPv4 route with an IPv6 next hop.
    let mut hops = Vec::new();
    let via = [
        &10u16.to_ne_bytes()[..],
        &octets("fe80::1".parse().unwrap()).1,
    ]
    .concat();
    for (index, hop) in [
        (2u32, gateway("192.0.2.2")),
        (3, attribute(libc::RTA_VIA, &via)),
    ] {
        hops.extend(u16::try_from(8 + hop.len()).unwrap().to_ne_bytes());
        hops.extend([0, 0]);
        hops.extend(index.to_ne_bytes());
        hops.extend(hop);
    }
    links.add(&route(
        libc::AF_INET,
        0,
        &[attribute(libc::RTA_MULTIPATH, &hops)],
    ));
    assert_eq!(links.gateways(2), ["192.0.2.2"]);
    assert_eq!(links.gateways(3), ["fe80::1"]);
}

#[test]
fn a_replaced_route_loses_its_gateway() {
    let mut links = Links::default();
    links.link(&NewLink::new(2, "eth0"));
    links.add(&route(libc::AF_INET6, 0, &[gateway("fe80::2"), out(2)]));
    links.add(&route(libc::AF_INET, 0, &[gateway("192.0.2.1"), out(2)]));
    let replacement = route(libc::AF_INET, 0, &[gateway("192.0.2.2"), out(2)]);
    links.message(libc::RTM_NEWROUTE, 0x100, &replacement);
    assert_eq!(links.gateways(2), ["192.0.2.2", "fe80::2"]);
}

#[test]
fn ipv4_routes_end_with_the_link_and_with_its_last_address() {
    let mut links = Links::default();
    let up = NewLink::new(2, "eth0");
    let default = route(libc::AF_INET, 0, &[gateway("192.0.2.1"), out(2)]);
    links.link(&up);
    links.add(&default);
    let mut down = NewLink::new(2, "eth0");
    down.flags &= !libc::IFF_UP;
    links.link(&down);
    links.link(&up);
    assert_eq!(links.gateways(2), [""; 0]);

    links.message(libc::RTM_NEWADDR, 0, &address(2, "192.0.2.11/24", 0));
    links.add(&default);
    links.message(libc::RTM_DELADDR, 0, &address(2, "192.0.2.11/24", 0));
    assert_eq!(links.gateways(2), [""; 0]);
}

#[test]
fn bonds_that_rewrite_addresses_are_recognised() {
    let bond = |mode: u8| {
        let kind = attribute(libc::IFLA_INFO_KIND, b"bond\0");
        let data = attribute(libc::IFLA_INFO_DATA, &attribute(BOND_MODE, &[mode]));
        NewLink::new(2, "bond0").with(libc::IFLA_LINKINFO, &[kind, data].concat())
    };
    let mut links = Links::default();
    links.link(&bond(1));
    assert_eq!(links.rewriting_bond_mode(IfIndex(2)), None);
    links.link(&bond(6));
    assert_eq!(links.rewriting_bond_mode(IfIndex(2)), Some("balance-alb"));
}

#[test]
fn addresses_of_the_service_proxy_are_those_of_kube_ipvs0() {
    let mut links = Links::default();
    links.link(&NewLink::new(2, "eth0"));
    let mut proxy = NewLink::new(3, "kube-ipvs0");
    proxy.flags = libc::IFF_BROADCAST | libc::IFF_NOARP;
    links.link(&proxy);
    links.message(libc::RTM_NEWADDR, 0, &address(2, "192.0.2.11/24", 0));
    links.message(libc::RTM_NEWADDR, 0, &address(3, "203.0.113.10/32", 0));
    let expected: IpAddr = "203.0.113.10".parse().unwrap();
    assert_eq!(links.service_proxy_addresses(), BTreeSet::from([expected]));
    links.message(libc::RTM_DELLINK, 0, &proxy.payload());
    assert_eq!(links.service_proxy_addresses(), BTreeSet::new());
}

#[test]
fn truncated_messages_change_nothing() {
    let mut links = Links::default();
    let link = NewLink::new(2, "eth0").payload();
    for length in 0..16 {
        assert!(!links.message(libc::RTM_NEWLINK, 0, &link[..length]));
    }
    assert!(!links.message(libc::RTM_NEWADDR, 0, &address(2, "192.0.2.1/24", 0)[..8]));
    assert_eq!(links.names(), [""; 0]);
}
