//! Frames of other hosts are built, and ours are decoded, by smoltcp.

mod announcements;
mod answers;
mod interfaces;
mod probes;
mod properties;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags,
    NdiscRepr, RawHardwareAddress,
};

use super::{Observation, Responder};
use crate::config::{Interfaces, Time};
use crate::interface::{IfIndex, Interface};
use crate::limits::GRATUITOUS_RATE;
use crate::mac::Mac;

const ETH0: IfIndex = IfIndex(2);
const ETH1: IfIndex = IfIndex(3);
const OURS: Mac = Mac([2, 0, 0, 0, 0, 2]);
const OTHER: Mac = Mac([2, 0, 0, 0, 1, 1]);
const THIRD: Mac = Mac([2, 0, 0, 0, 1, 2]);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const V6_GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff12, 0x3456);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x64);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A frame as the other hosts see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    source: Mac,
    destination: Mac,
    packet: Packet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Packet {
    Request(ArpFields),
    Reply(ArpFields),
    Solicitation {
        source: Ipv6Addr,
        destination: Ipv6Addr,
        target: Ipv6Addr,
        option: Option<Mac>,
    },
    Advertisement {
        source: Ipv6Addr,
        destination: Ipv6Addr,
        target: Ipv6Addr,
        /// Router, solicited, override.
        flags: [bool; 3],
        option: Option<Mac>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ArpFields {
    sender_mac: Mac,
    sender: Ipv4Addr,
    target_mac: Mac,
    target: Ipv4Addr,
}

fn arp(sender_mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> ArpFields {
    ArpFields {
        sender_mac,
        sender,
        target_mac,
        target,
    }
}

impl Packet {
    fn from(self, source: Mac, destination: Mac) -> Frame {
        Frame {
            source,
            destination,
            packet: self,
        }
    }

    /// The address that an unsolicited frame of ours is for.
    fn address(&self) -> IpAddr {
        match self {
            Self::Request(fields) | Self::Reply(fields) => fields.target.into(),
            Self::Solicitation { target, .. } | Self::Advertisement { target, .. } => {
                IpAddr::V6(*target)
            }
        }
    }
}

impl Frame {
    fn encode(&self) -> Vec<u8> {
        let header = |ethertype| EthernetRepr {
            src_addr: EthernetAddress(self.source.0),
            dst_addr: EthernetAddress(self.destination.0),
            ethertype,
        };
        let raw = |mac: Mac| RawHardwareAddress::from_bytes(&mac.0);
        match self.packet {
            Packet::Request(fields) => encode_arp(
                &header(EthernetProtocol::Arp),
                ArpOperation::Request,
                fields,
            ),
            Packet::Reply(fields) => {
                encode_arp(&header(EthernetProtocol::Arp), ArpOperation::Reply, fields)
            }
            Packet::Solicitation {
                source,
                destination,
                target,
                option,
            } => {
                let message = NdiscRepr::NeighborSolicit {
                    target_addr: target,
                    lladdr: option.map(raw),
                };
                encode_ndp(
                    &header(EthernetProtocol::Ipv6),
                    source,
                    destination,
                    message,
                )
            }
            Packet::Advertisement {
                source,
                destination,
                target,
                flags: [router, solicited, overrides],
                option,
            } => {
                let mut flags = NdiscNeighborFlags::empty();
                flags.set(NdiscNeighborFlags::ROUTER, router);
                flags.set(NdiscNeighborFlags::SOLICITED, solicited);
                flags.set(NdiscNeighborFlags::OVERRIDE, overrides);
                let message = NdiscRepr::NeighborAdvert {
                    flags,
                    target_addr: target,
                    lladdr: option.map(raw),
                };
                encode_ndp(
                    &header(EthernetProtocol::Ipv6),
                    source,
                    destination,
                    message,
                )
            }
        }
    }

    fn decode(octets: &[u8]) -> Self {
        let ethernet = EthernetFrame::new_checked(octets).unwrap();
        let packet = match ethernet.ethertype() {
            EthernetProtocol::Arp => decode_arp(ethernet.payload()),
            EthernetProtocol::Ipv6 => decode_ndp(ethernet.payload()),
            other => panic!("{other}"),
        };
        packet.from(Mac(ethernet.src_addr().0), Mac(ethernet.dst_addr().0))
    }
}

fn encode_arp(header: &EthernetRepr, operation: ArpOperation, fields: ArpFields) -> Vec<u8> {
    let message = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(fields.sender_mac.0),
        source_protocol_addr: fields.sender,
        target_hardware_addr: EthernetAddress(fields.target_mac.0),
        target_protocol_addr: fields.target,
    };
    let mut octets = vec![0; header.buffer_len() + message.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut octets[..]);
    header.emit(&mut frame);
    message.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    octets
}

fn encode_ndp(
    header: &EthernetRepr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    message: NdiscRepr<'_>,
) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(message);
    let packet = Ipv6Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 255,
    };
    let length = header.buffer_len() + packet.buffer_len() + message.buffer_len();
    let mut octets = vec![0; length];
    let mut frame = EthernetFrame::new_unchecked(&mut octets[..]);
    header.emit(&mut frame);
    let mut ipv6 = Ipv6Packet::new_unchecked(frame.payload_mut());
    packet.emit(&mut ipv6);
    message.emit(
        &source,
        &destination,
        &mut Icmpv6Packet::new_unchecked(ipv6.payload_mut()),
        &ChecksumCapabilities::default(),
    );
    octets
}

fn decode_arp(payload: &[u8]) -> Packet {
    let packet = ArpPacket::new_checked(payload).unwrap();
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
    } = ArpRepr::parse(&packet).unwrap()
    else {
        panic!()
    };
    let fields = arp(
        Mac(source_hardware_addr.0),
        source_protocol_addr,
        Mac(target_hardware_addr.0),
        target_protocol_addr,
    );
    match operation {
        ArpOperation::Request => Packet::Request(fields),
        ArpOperation::Reply => Packet::Reply(fields),
        other @ ArpOperation::Unknown(_) => panic!("{other:?}"),
    }
}

fn decode_ndp(payload: &[u8]) -> Packet {
    let packet = Ipv6Packet::new_checked(payload).unwrap();
    assert_eq!(packet.hop_limit(), 255);
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    let caps = ChecksumCapabilities::default();
    let mac = |raw: RawHardwareAddress| Mac(raw.as_bytes().try_into().unwrap());
    match Icmpv6Repr::parse(&source, &destination, &message, &caps).unwrap() {
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
            target_addr,
            lladdr,
        }) => Packet::Solicitation {
            source,
            destination,
            target: target_addr,
            option: lladdr.map(mac),
        },
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
            flags,
            target_addr,
            lladdr,
        }) => Packet::Advertisement {
            source,
            destination,
            target: target_addr,
            flags: [
                flags.contains(NdiscNeighborFlags::ROUTER),
                flags.contains(NdiscNeighborFlags::SOLICITED),
                flags.contains(NdiscNeighborFlags::OVERRIDE),
            ],
            option: lladdr.map(mac),
        },
        other => panic!("{other:?}"),
    }
}

/// A responder and its clock.
struct Node {
    responder: Responder,
    now: Time,
}

/// When, where and what a node sent.
type Sent = (Time, IfIndex, Frame);

impl Node {
    /// With one interface, eth0.
    fn new() -> Self {
        Self::with_rate(GRATUITOUS_RATE)
    }

    fn with_rate(rate: u32) -> Self {
        let mut node = Self {
            responder: Responder::new(rate, 1),
            now: Duration::from_secs(1_000),
        };
        node.set(&eth0());
        node
    }

    fn set(&mut self, interface: &Interface) {
        self.responder.set_interface(self.now, interface);
    }

    fn announce(&mut self, address: impl Into<IpAddr>) {
        let all = Arc::new(Interfaces::All);
        self.responder.announce(self.now, address.into(), all);
    }

    /// A node that announces an address, and has sent its unsolicited frames.
    fn announcing(address: impl Into<IpAddr>) -> Self {
        let mut node = Self::new();
        node.announce(address);
        node.run(Duration::from_secs(6));
        node
    }

    /// Lets time pass, and returns the frames that were sent in it.
    fn run(&mut self, time: Duration) -> Vec<Sent> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(at) = self.responder.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.responder.handle_timeout(self.now);
            let next = self.responder.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a busy loop");
            sent.extend(self.take());
        }
        self.now = end;
        sent
    }

    /// The frames that wait to be sent.
    fn take(&mut self) -> Vec<Sent> {
        let now = self.now;
        std::iter::from_fn(|| self.responder.next_frame())
            .map(|(interface, octets)| (now, interface, Frame::decode(&octets)))
            .collect()
    }

    /// Receives a frame on eth0 and returns what is sent at once.
    fn receive(&mut self, frame: &Frame) -> Vec<Frame> {
        self.responder.receive(self.now, ETH0, &frame.encode());
        self.take().into_iter().map(|(_, _, frame)| frame).collect()
    }

    /// All observations but those of foreign hosts.
    fn observations(&mut self) -> Vec<Observation> {
        std::iter::from_fn(|| self.responder.next_observation())
            .filter(|observation| !matches!(observation, Observation::Foreign { .. }))
            .collect()
    }

    fn foreign(&mut self) -> Vec<(Mac, Option<IpAddr>)> {
        std::iter::from_fn(|| self.responder.next_observation())
            .filter_map(|observation| match observation {
                Observation::Foreign { mac, address, .. } => Some((mac, address)),
                _ => None,
            })
            .collect()
    }
}

fn eth0() -> Interface {
    Interface {
        index: ETH0,
        name: "eth0".into(),
        mac: OURS,
        mtu: 1_500,
        carrier: true,
        loopback: false,
        networks: Vec::new(),
        gateways: Vec::new(),
    }
}

fn eth1() -> Interface {
    Interface {
        index: ETH1,
        name: "eth1".into(),
        mac: Mac([2, 0, 0, 0, 0, 3]),
        ..eth0()
    }
}

fn named(names: &[&str]) -> Arc<Interfaces> {
    let names: BTreeSet<Box<str>> = names.iter().map(|name| (*name).into()).collect();
    Arc::new(Interfaces::Named(names))
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A broadcast request of a client.
fn request(target: Ipv4Addr) -> Frame {
    Packet::Request(arp(OTHER, CLIENT, Mac::ZERO, target)).from(OTHER, Mac::BROADCAST)
}

/// A solicitation of a client.
fn solicitation(target: Ipv6Addr) -> Packet {
    Packet::Solicitation {
        source: CLIENT_V6,
        destination: V6_GROUP,
        target,
        option: Some(OTHER),
    }
}

/// An advertisement of another host for an address of ours.
fn foreign_advertisement() -> Frame {
    let packet = Packet::Advertisement {
        source: V6,
        destination: ALL_NODES,
        target: V6,
        flags: [false, false, true],
        option: Some(OTHER),
    };
    packet.from(OTHER, Mac::of_ipv6_group(ALL_NODES))
}

/// A probe of another host (RFC 5227 §2.1.1).
fn foreign_probe(mac: Mac) -> Frame {
    let fields = arp(mac, Ipv4Addr::UNSPECIFIED, Mac::ZERO, V4);
    Packet::Request(fields).from(mac, Mac::BROADCAST)
}

/// A solicitation of a host that checks whether an address is a duplicate (RFC 4862 §5.4.2).
fn foreign_duplicate_check() -> Frame {
    let packet = Packet::Solicitation {
        source: Ipv6Addr::UNSPECIFIED,
        destination: V6_GROUP,
        target: V6,
        option: None,
    };
    packet.from(OTHER, Mac::of_ipv6_group(V6_GROUP))
}
