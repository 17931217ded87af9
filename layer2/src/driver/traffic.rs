//! The kinds of frames that are received, and the kernel's filter for each.

use std::net::Ipv4Addr;

use socket2::SockFilter;

use crate::interface::IfIndex;

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

/// The destinations of hellos (RFC 4727): 224.0.0.254, ff02::114, UDP port 1021.
const HELLO_GROUP4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 254);
const HELLO_GROUP6: [u32; 4] = [0xff02_0000, 0, 0, 0x114];
const HELLO_PORT: u32 = 1021;

const ETHERNET: u32 = 14;
const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_ARP: u16 = 0x0806;
const ETHER_TYPE_IPV6: u16 = 0x86dd;
const UDP: u32 = 17;
const ICMPV6: u32 = 58;

// Instructions of `<linux/bpf_common.h>`.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_OCTET: u16 = 0x30;
const LOAD_HALF_INDEXED: u16 = 0x48;
/// X = 4 × the low four bits of an octet: the length of an IPv4 header.
const LOAD_HEADER_LENGTH: u16 = 0xb1;
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
        // The kernel passes frames of `eth0.100` and of bonds to sockets of the lower interface
        // too. They are of another segment.
        let mut steps = vec![
            Step::Load(LOAD_WORD, INTERFACE),
            Step::Equal(interface.0),
            Step::Load(LOAD_WORD, PACKET_TYPE),
            Step::AtMost(PACKET_MULTICAST),
        ];
        steps.extend(self.content());
        program(&steps)
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
                Step::Equal(HELLO_GROUP4.to_bits()),
                Step::Load(LOAD_OCTET, ETHERNET + 9),
                Step::Equal(UDP),
                // More fragments, or not the first one.
                Step::Load(LOAD_HALF, ETHERNET + 6),
                Step::NoBit(0x3fff),
                Step::Load(LOAD_HEADER_LENGTH, ETHERNET),
                Step::Load(LOAD_HALF_INDEXED, ETHERNET + 2),
                Step::Equal(HELLO_PORT),
            ],
            Self::Hello6 => {
                let mut steps = Vec::new();
                for (word, at) in HELLO_GROUP6.into_iter().zip([24, 28, 32, 36]) {
                    steps.push(Step::Load(LOAD_WORD, ETHERNET + at));
                    steps.push(Step::Equal(word));
                }
                steps.extend([
                    Step::Load(LOAD_OCTET, ETHERNET + 6),
                    Step::Equal(UDP),
                    Step::Load(LOAD_HALF, ETHERNET + 42),
                    Step::Equal(HELLO_PORT),
                ]);
                steps
            }
            Self::Ndp => vec![
                Step::Load(LOAD_OCTET, ETHERNET + 6),
                Step::Equal(ICMPV6),
                Step::Load(LOAD_OCTET, ETHERNET + 7),
                Step::Equal(255),
                // Neighbor Solicitation or Advertisement.
                Step::Load(LOAD_OCTET, ETHERNET + 40),
                Step::AtLeast(135),
                Step::AtMost(136),
            ],
        }
    }
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
    use std::os::unix::net::UnixDatagram;

    use socket2::SockRef;

    use super::*;

    /// Whether the kernel accepts a frame by the content filter. Any datagram socket has filters.
    fn accepts(traffic: Traffic, frame: &[u8]) -> bool {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        SockRef::from(&receiver)
            .attach_filter(&program(&traffic.content()))
            .unwrap();
        receiver.set_nonblocking(true).unwrap();
        sender.send(frame).unwrap();
        let mut buffer = [0; 256];
        let received = receiver.recv(&mut buffer);
        received.is_ok_and(|length| length == frame.len())
    }

    fn arp(operation: u8) -> Vec<u8> {
        let mut frame = vec![0; 42];
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
        frame
    }

    fn hello4() -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[23] = 17;
        frame[30..34].copy_from_slice(&[224, 0, 0, 254]);
        frame[36..38].copy_from_slice(&1021u16.to_be_bytes());
        frame
    }

    fn hello6() -> Vec<u8> {
        let mut frame = vec![0; 80];
        frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        frame[20] = 17;
        frame[38..40].copy_from_slice(&[0xff, 2]);
        frame[52..54].copy_from_slice(&[1, 0x14]);
        frame[56..58].copy_from_slice(&1021u16.to_be_bytes());
        frame
    }

    fn ndp(hop_limit: u8, kind: u8) -> Vec<u8> {
        let mut frame = vec![0; 86];
        frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        frame[20..22].copy_from_slice(&[58, hop_limit]);
        frame[54] = kind;
        frame
    }

    #[test]
    fn each_socket_receives_its_own_kind_only() {
        let frames = [hello4(), hello6(), arp(1), ndp(255, 135)];
        for (traffic, own) in Traffic::ALL.into_iter().zip(&frames) {
            for frame in &frames {
                assert_eq!(accepts(traffic, frame), frame == own, "{traffic:?}");
            }
            assert_eq!(Traffic::of(own), Some(traffic));
        }
        assert_eq!(Traffic::of(&[0; 60]), None);
        assert_eq!(Traffic::of(&[]), None);
    }

    #[test]
    fn arp_replies_pass_and_other_operations_do_not() {
        assert!(accepts(Traffic::Arp, &arp(2)));
        assert!(!accepts(Traffic::Arp, &arp(0)));
        assert!(!accepts(Traffic::Arp, &arp(3)));
    }

    #[test]
    fn ndp_passes_with_hop_limit_255_only() {
        assert!(accepts(Traffic::Ndp, &ndp(255, 136)));
        assert!(!accepts(Traffic::Ndp, &ndp(254, 136)));
        // Router Advertisement and Redirect.
        assert!(!accepts(Traffic::Ndp, &ndp(255, 134)));
        assert!(!accepts(Traffic::Ndp, &ndp(255, 137)));
    }

    #[test]
    fn hellos_pass_with_ipv4_options_and_not_as_fragments() {
        let mut options = hello4();
        options[14] = 0x46;
        options[36..40].copy_from_slice(&[0x94, 4, 0, 0]);
        options[40..42].copy_from_slice(&1021u16.to_be_bytes());
        assert!(accepts(Traffic::Hello4, &options));
        let mut first = hello4();
        first[20] = 0x20;
        assert!(!accepts(Traffic::Hello4, &first));
        let mut second = hello4();
        second[21] = 1;
        assert!(!accepts(Traffic::Hello4, &second));
        let mut fixed = hello4();
        fixed[20] = 0x40; // don't fragment
        assert!(accepts(Traffic::Hello4, &fixed));
    }

    #[test]
    fn truncated_frames_are_dropped() {
        for (traffic, frame) in
            Traffic::ALL
                .into_iter()
                .zip([hello4(), hello6(), arp(1), ndp(255, 135)])
        {
            assert!(!accepts(traffic, &frame[..20]));
        }
    }
}
