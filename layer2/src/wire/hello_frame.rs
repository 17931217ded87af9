//! The frame around a hello: UDP to a group that is reserved for experiments, so that neither a
//! socket nor a rule of the host's firewall is needed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::Checksum;
use super::ethernet::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Header};
use super::reader::Reader;
use crate::mac::Mac;

/// The IPv4 group (RFC 4727 §2.4.2). Switches flood 224.0.0.0/24 to all ports (RFC 4541).
pub const GROUP_IPV4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 254);
/// The IPv6 group (RFC 4727 §3.3.2).
pub const GROUP_IPV6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x114);
/// The UDP port, source and destination (RFC 4727 §6.1).
pub const PORT: u16 = 1021;

const UDP: u8 = 17;
/// A hello was never forwarded: receivers check it, as in RFC 5082.
const HOP_LIMIT: u8 = 255;
const IPV4_HEADER: u16 = 20;
const UDP_HEADER: u16 = 8;

/// The octets of the headers between the interface's MTU and a hello: IPv6 and UDP.
pub const OVERHEAD: usize = 48;

/// The Ethernet frame with a hello, in the IP version of `source`. `payload` must have at most
/// 65,000 octets.
pub fn encapsulate(source_mac: Mac, source: IpAddr, payload: &[u8]) -> Vec<u8> {
    let udp_length = UDP_HEADER.saturating_add(u16::try_from(payload.len()).unwrap_or(u16::MAX));
    let mut udp = Vec::with_capacity(usize::from(udp_length));
    udp.extend_from_slice(&PORT.to_be_bytes());
    udp.extend_from_slice(&PORT.to_be_bytes());
    udp.extend_from_slice(&udp_length.to_be_bytes());
    let pseudo_header = match source {
        IpAddr::V4(source) => Checksum::ipv4(source, GROUP_IPV4, UDP, udp_length),
        IpAddr::V6(source) => Checksum::ipv6(source, GROUP_IPV6, UDP, udp_length),
    };
    // Zero means "no checksum", so that value is sent as its complement (RFC 768).
    let sum = match pseudo_header.add(&udp).add(payload).finish() {
        0 => u16::MAX,
        sum => sum,
    };
    udp.extend_from_slice(&sum.to_be_bytes());
    udp.extend_from_slice(payload);
    let (destination, ether_type, mut packet) = match source {
        IpAddr::V4(source) => (
            Mac::of_ipv4_group(GROUP_IPV4),
            ETHER_TYPE_IPV4,
            ipv4_header(source, udp_length),
        ),
        IpAddr::V6(source) => (
            Mac::of_ipv6_group(GROUP_IPV6),
            ETHER_TYPE_IPV6,
            ipv6_header(source, udp_length),
        ),
    };
    packet.extend_from_slice(&udp);
    let header = Header {
        destination,
        source: source_mac,
        ether_type,
    };
    header.frame(&packet)
}

fn ipv4_header(source: Ipv4Addr, udp_length: u16) -> Vec<u8> {
    let total = IPV4_HEADER.saturating_add(udp_length).to_be_bytes();
    // Class selector 6, network control (RFC 2474), and "don't fragment".
    let mut header = vec![
        0x45, 0xc0, total[0], total[1], 0, 0, 0x40, 0, HOP_LIMIT, UDP, 0, 0,
    ];
    header.extend_from_slice(&source.octets());
    header.extend_from_slice(&GROUP_IPV4.octets());
    let sum = Checksum::default().add(&header).finish().to_be_bytes();
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&sum);
    }
    header
}

fn ipv6_header(source: Ipv6Addr, udp_length: u16) -> Vec<u8> {
    let length = udp_length.to_be_bytes();
    let mut header = vec![0x6c, 0, 0, 0, length[0], length[1], UDP, HOP_LIMIT];
    header.extend_from_slice(&source.octets());
    header.extend_from_slice(&GROUP_IPV6.octets());
    header
}

/// The Ethernet source and the hello in a frame. None for all other frames.
pub fn decapsulate(frame: &[u8]) -> Option<(Mac, &[u8])> {
    let (header, packet) = Header::decode(frame)?;
    let (pseudo_header, udp) = match header.ether_type {
        ETHER_TYPE_IPV4 => decode_ipv4(packet)?,
        ETHER_TYPE_IPV6 => decode_ipv6(packet)?,
        _ => return None,
    };
    if pseudo_header.add(udp).finish() != 0 {
        return None;
    }
    let mut reader = Reader(udp);
    let ports = (reader.u16()?, reader.u16()?);
    let length = reader.u16()?;
    let checksum = reader.u16()?;
    let sound = ports == (PORT, PORT) && usize::from(length) == udp.len() && checksum != 0;
    sound.then_some((header.source, reader.0))
}

fn decode_ipv4(packet: &[u8]) -> Option<(Checksum, &[u8])> {
    let mut reader = Reader(packet);
    let header = reader.take(usize::from(IPV4_HEADER))?;
    let mut fields = Reader(header);
    // Version 4 without options: that is how it is sent.
    let [0x45, _] = fields.array()? else {
        return None;
    };
    let total = fields.u16()?;
    let _identification = fields.u16()?;
    let fragment = fields.u16()? & 0x3fff;
    let (ttl, protocol) = (fields.u8()?, fields.u8()?);
    let _checksum = fields.u16()?;
    let (source, destination) = (fields.ipv4()?, fields.ipv4()?);
    let length = total.checked_sub(IPV4_HEADER)?;
    let sound = Checksum::default().add(header).finish() == 0
        && (fragment, ttl, protocol, destination) == (0, HOP_LIMIT, UDP, GROUP_IPV4);
    let udp = reader.take(usize::from(length))?;
    sound.then_some((Checksum::ipv4(source, destination, UDP, length), udp))
}

fn decode_ipv6(packet: &[u8]) -> Option<(Checksum, &[u8])> {
    let mut reader = Reader(packet);
    let version = reader.u32()? >> 28;
    let length = reader.u16()?;
    let (next_header, hop_limit) = (reader.u8()?, reader.u8()?);
    let (source, destination) = (reader.ipv6()?, reader.ipv6()?);
    let udp = reader.take(usize::from(length))?;
    let sound = (version, next_header, hop_limit, destination) == (6, UDP, HOP_LIMIT, GROUP_IPV6);
    sound.then_some((Checksum::ipv6(source, destination, UDP, length), udp))
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const MAC: Mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);
    const PAYLOAD: &[u8] = b"the octets of a hello, an odd number of them";

    fn sources() -> [IpAddr; 2] {
        ["192.0.2.11", "fe80::11"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn etherparse_reads_the_frame() {
        for source in sources() {
            let frame = encapsulate(MAC, source, PAYLOAD);
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(TransportSlice::Udp(udp)) = packet.transport else {
                panic!("not UDP");
            };
            assert_eq!((udp.source_port(), udp.destination_port()), (PORT, PORT));
            assert_eq!(udp.payload(), PAYLOAD);
            let expected = match packet.net.unwrap() {
                NetSlice::Ipv4(ip) => {
                    let header = ip.header().to_header();
                    assert_eq!(header.calc_header_checksum(), header.header_checksum);
                    assert_eq!(
                        (header.time_to_live, header.destination),
                        (255, [224, 0, 0, 254])
                    );
                    udp.to_header().calc_checksum_ipv4(&header, PAYLOAD)
                }
                NetSlice::Ipv6(ip) => {
                    let header = ip.header().to_header();
                    assert_eq!(header.hop_limit, 255);
                    assert_eq!(header.destination, GROUP_IPV6.octets());
                    udp.to_header().calc_checksum_ipv6(&header, PAYLOAD)
                }
                NetSlice::Arp(_) => panic!("ARP"),
            };
            assert_eq!(udp.checksum(), expected.unwrap());
        }
    }

    #[test]
    fn decapsulating_reverses_encapsulating() {
        for source in sources() {
            for payload in [PAYLOAD, b"", b"x"] {
                let frame = encapsulate(MAC, source, payload);
                assert_eq!(decapsulate(&frame), Some((MAC, payload)));
            }
        }
    }

    #[test]
    fn a_frame_with_a_changed_octet_is_no_hello() {
        for source in sources() {
            let frame = encapsulate(MAC, source, PAYLOAD);
            // Traffic class and flow label of IPv6 are not covered by a checksum.
            let start = if source.is_ipv4() { 14 } else { 18 };
            for position in start..frame.len() {
                let mut changed = frame.clone();
                changed[position] ^= 0x01;
                assert_eq!(decapsulate(&changed), None, "{source}: octet {position}");
            }
            for length in 0..frame.len() {
                assert_eq!(
                    decapsulate(&frame[..length]),
                    None,
                    "{source}: {length} octets"
                );
            }
        }
    }
}
