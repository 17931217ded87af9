//! The kinds of frames that are received, and the kernel's filter for each.

use std::ops::RangeInclusive;

use socket2::SockFilter;

use crate::interface::IfIndex;
use crate::wire::ethernet::{ETHER_TYPE_ARP, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6};
use crate::wire::hello_frame;

/// A kind of frames. Each interface has a socket for each kind, so that a flood of one kind fills
/// the queue of that kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Traffic {
    /// Hellos in IPv4.
    Hello4,
    /// Hellos in IPv6.
    Hello6,
    /// ARP requests and replies.
    Arp,
    /// Neighbor Solicitations and Advertisements.
    Ndp,
}

/// Octets of an Ethernet header.
const ETHERNET: u32 = 14;
const UDP: u32 = 17;
const ICMPV6: u32 = 58;

// Instructions of `<linux/bpf_common.h>`.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_OCTET: u16 = 0x30;
const RETURN: u16 = 0x06;

/// `SKF_AD_PKTTYPE` and `SKF_AD_IFINDEX` of `<linux/filter.h>`, relative to `SKF_AD_OFF`.
const PACKET_TYPE: u32 = 0xffff_f004;
const INTERFACE: u32 = 0xffff_f008;
/// `PACKET_HOST`, `PACKET_BROADCAST` and `PACKET_MULTICAST` are at most this. Above are
/// `PACKET_OTHERHOST` (other destinations in promiscuous mode, unknown VLANs) and
/// `PACKET_OUTGOING`.
const PACKET_MULTICAST: u32 = 2;

/// A step of a filter: a load, or a condition that drops the frame if it is false.
#[derive(Clone, Copy, Debug)]
enum Step {
    Load(u16, u32),
    Equal(u32),
    AtLeast(u32),
    AtMost(u32),
    NoBit(u32),
}

impl Traffic {
    /// All kinds. Hellos are first: they are read first.
    pub(super) const ALL: [Self; 4] = [Self::Hello4, Self::Hello6, Self::Arp, Self::Ndp];

    /// The kind of a frame that is sent. None for a frame that this process never sends.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let ether_type = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
        match ether_type {
            ETHER_TYPE_ARP => Some(Self::Arp),
            ETHER_TYPE_IPV4 => Some(Self::Hello4),
            // The Next Header field.
            ETHER_TYPE_IPV6 if u32::from(*frame.get(20)?) == ICMPV6 => Some(Self::Ndp),
            ETHER_TYPE_IPV6 => Some(Self::Hello6),
            _ => None,
        }
    }

    /// Whether frames of this kind are hellos.
    pub(super) fn is_hello(self) -> bool {
        matches!(self, Self::Hello4 | Self::Hello6)
    }

    pub(super) fn ether_type(self) -> u16 {
        match self {
            Self::Hello4 => ETHER_TYPE_IPV4,
            Self::Hello6 | Self::Ndp => ETHER_TYPE_IPV6,
            Self::Arp => ETHER_TYPE_ARP,
        }
    }

    /// The filter of a socket of this kind.
    pub(super) fn filter(self, interface: IfIndex) -> Vec<SockFilter> {
        filter(interface, self.content())
    }

    /// The conditions on the content of a frame.
    fn content(self) -> Vec<Step> {
        match self {
            Self::Arp => vec![
                // The operation: request or reply.
                Step::Load(LOAD_HALF, ETHERNET + 6),
                Step::AtLeast(1),
                Step::AtMost(2),
            ],
            Self::Hello4 => vec![
                Step::Load(LOAD_WORD, ETHERNET + 16),
                Step::Equal(hello_frame::GROUP_IPV4.to_bits()),
                Step::Load(LOAD_OCTET, ETHERNET + 9),
                Step::Equal(UDP),
                // More fragments, or not the first one.
                Step::Load(LOAD_HALF, ETHERNET + 6),
                Step::NoBit(0x3fff),
                // Version 4, a header of 20 octets: without options.
                Step::Load(LOAD_OCTET, ETHERNET),
                Step::Equal(0x45),
                Step::Load(LOAD_HALF, ETHERNET + 22),
                Step::Equal(hello_frame::PORT.into()),
            ],
            Self::Hello6 => {
                let mut steps = Vec::new();
                let group = hello_frame::GROUP_IPV6.octets();
                for (word, at) in group.as_chunks().0.iter().zip([24, 28, 32, 36]) {
                    steps.push(Step::Load(LOAD_WORD, ETHERNET + at));
                    steps.push(Step::Equal(u32::from_be_bytes(*word)));
                }
                steps.extend([
                    Step::Load(LOAD_OCTET, ETHERNET + 6),
                    Step::Equal(UDP),
                    Step::Load(LOAD_HALF, ETHERNET + 42),
                    Step::Equal(hello_frame::PORT.into()),
                ]);
                steps
            }
            // Neighbor Solicitation or Advertisement.
            Self::Ndp => icmpv6(135..=136),
        }
    }
}

/// The filter of a socket for Router Solicitations and Advertisements.
pub(super) fn router_discovery(interface: IfIndex) -> Vec<SockFilter> {
    filter(interface, icmpv6(133..=134))
}

/// Messages of Neighbor Discovery of these types.
fn icmpv6(types: RangeInclusive<u32>) -> Vec<Step> {
    vec![
        Step::Load(LOAD_OCTET, ETHERNET + 6),
        Step::Equal(ICMPV6),
        Step::Load(LOAD_OCTET, ETHERNET + 7),
        Step::Equal(255),
        Step::Load(LOAD_OCTET, ETHERNET + 40),
        Step::AtLeast(*types.start()),
        Step::AtMost(*types.end()),
    ]
}

/// The filter of a socket for frames with this content.
fn filter(interface: IfIndex, content: Vec<Step>) -> Vec<SockFilter> {
    // The kernel passes frames of `eth0.100` and of bonds to sockets of the lower interface too.
    // They are of another segment.
    let mut steps = vec![
        Step::Load(LOAD_WORD, INTERFACE),
        Step::Equal(interface.0),
        Step::Load(LOAD_WORD, PACKET_TYPE),
        Step::AtMost(PACKET_MULTICAST),
    ];
    steps.extend(content);
    program(&steps)
}

/// The steps as a program that ends with "accept", "drop". Jumps have eight bits: at most 250
/// steps.
fn program(steps: &[Step]) -> Vec<SockFilter> {
    let mut program = Vec::with_capacity(steps.len() + 2);
    for (index, step) in steps.iter().enumerate() {
        // "drop" is behind the remaining steps and "accept".
        let to_drop = u8::try_from(steps.len() - index).unwrap_or(u8::MAX);
        program.push(match *step {
            Step::Load(code, at) => SockFilter::new(code, 0, 0, at),
            Step::Equal(value) => SockFilter::new(0x15, 0, to_drop, value),
            Step::AtLeast(value) => SockFilter::new(0x35, 0, to_drop, value),
            Step::AtMost(value) => SockFilter::new(0x25, to_drop, 0, value),
            Step::NoBit(mask) => SockFilter::new(0x45, to_drop, 0, mask),
        });
    }
    // The number of octets to keep: any frame is shorter.
    program.push(SockFilter::new(RETURN, 0, 0, 0x4_0000));
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::os::unix::net::UnixDatagram;

    use socket2::SockRef;

    use super::*;
    use crate::mac::Mac;
    use crate::wire::arp::{Arp, Operation};
    use crate::wire::ndp::{Ndp, solicited_node};

    /// Whether the kernel accepts a frame by the content filter. Any datagram socket has filters.
    fn accepts(traffic: Traffic, frame: &[u8]) -> bool {
        passes_filter(traffic.content(), frame)
    }

    fn passes_filter(content: Vec<Step>, frame: &[u8]) -> bool {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        SockRef::from(&receiver)
            .attach_filter(&program(&content))
            .unwrap();
        receiver.set_nonblocking(true).unwrap();
        sender.send(frame).unwrap();
        let mut buffer = [0; 256];
        let received = receiver.recv(&mut buffer);
        received.is_ok_and(|length| length == frame.len())
    }

    const MAC: Mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);
    const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
    const HOST6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    fn arp(operation: Operation) -> Vec<u8> {
        let arp = Arp {
            operation,
            sender_mac: MAC,
            sender: HOST4,
            target_mac: Mac::ZERO,
            target: HOST4,
        };
        arp.frame(MAC, Mac::BROADCAST)
    }

    fn hello4() -> Vec<u8> {
        hello_frame::encapsulate(MAC, HOST4.into(), b"hello")
    }

    fn hello6() -> Vec<u8> {
        hello_frame::encapsulate(MAC, HOST6.into(), b"hello")
    }

    fn solicitation() -> Vec<u8> {
        let solicitation = Ndp::Solicitation {
            source: HOST6,
            destination: solicited_node(HOST6),
            target: HOST6,
            source_mac: Some(MAC),
        };
        solicitation.frame(MAC)
    }

    fn frames() -> [Vec<u8>; 4] {
        [hello4(), hello6(), arp(Operation::Request), solicitation()]
    }

    /// The frame with another octet.
    fn with(mut frame: Vec<u8>, at: usize, octet: u8) -> Vec<u8> {
        frame[at] = octet;
        frame
    }

    #[test]
    fn each_socket_receives_its_own_kind_only() {
        for (traffic, own) in Traffic::ALL.into_iter().zip(&frames()) {
            for frame in &frames() {
                assert_eq!(accepts(traffic, frame), frame == own, "{traffic:?}");
            }
            assert_eq!(Traffic::of(own), Some(traffic));
        }
        assert_eq!(Traffic::of(&[0; 60]), None);
        assert_eq!(Traffic::of(&[]), None);
    }

    #[test]
    fn arp_replies_pass_and_other_operations_do_not() {
        let reply = arp(Operation::Reply);
        assert!(accepts(Traffic::Arp, &reply));
        assert!(!accepts(Traffic::Arp, &with(reply.clone(), 21, 0)));
        assert!(!accepts(Traffic::Arp, &with(reply, 21, 3)));
    }

    #[test]
    fn ndp_passes_with_hop_limit_255_only() {
        // Neighbor Advertisement, Router Advertisement, Redirect.
        for (kind, passes) in [(136, true), (134, false), (137, false)] {
            assert_eq!(
                accepts(Traffic::Ndp, &with(solicitation(), 54, kind)),
                passes
            );
        }
        assert!(!accepts(Traffic::Ndp, &with(solicitation(), 21, 254)));
    }

    #[test]
    fn router_discovery_has_a_filter_of_its_own() {
        let passes = |kind| passes_filter(icmpv6(133..=134), &with(solicitation(), 54, kind));
        let passing: Vec<u8> = (0..=255).filter(|kind| passes(*kind)).collect();
        assert_eq!(passing, [133, 134]);
    }

    #[test]
    fn hellos_do_not_pass_with_ipv4_options_or_as_fragments() {
        let mut options = hello4();
        options[14] = 0x46;
        options.splice(34..34, [0x94, 4, 0, 0]);
        assert!(!accepts(Traffic::Hello4, &options));
        // More fragments, a fragment offset, "don't fragment".
        assert!(!accepts(Traffic::Hello4, &with(hello4(), 20, 0x20)));
        assert!(!accepts(Traffic::Hello4, &with(hello4(), 21, 1)));
        assert!(accepts(Traffic::Hello4, &with(hello4(), 20, 0x40)));
    }

    #[test]
    fn hellos_to_other_ports_and_groups_are_dropped() {
        assert!(!accepts(Traffic::Hello4, &with(hello4(), 37, 0)));
        assert!(!accepts(Traffic::Hello4, &with(hello4(), 33, 251)));
        assert!(!accepts(Traffic::Hello6, &with(hello6(), 57, 0)));
        assert!(!accepts(Traffic::Hello6, &with(hello6(), 53, 1)));
    }

    #[test]
    fn truncated_frames_are_dropped() {
        for (traffic, frame) in Traffic::ALL.into_iter().zip(frames()) {
            assert!(!accepts(traffic, &frame[..20]));
        }
    }
}
