//! The messages of Neighbor Discovery in IPv6 packets: what all of them have in common (RFC 4861).

use std::net::Ipv6Addr;

use super::checksum::Checksum;
use super::reader::Reader;
use crate::mac::Mac;

const ICMPV6: u8 = 58;
/// A packet of Neighbor Discovery was never forwarded (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;
/// Option Source Link-Layer Address (RFC 4861 §4.6.1).
pub(super) const SOURCE_LINK_LAYER: u8 = 1;
/// Option Target Link-Layer Address.
pub(super) const TARGET_LINK_LAYER: u8 = 2;
/// `ff02::1`.
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// `ff02::2`.
pub(super) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// A message whose packet passed the checks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) kind: u8,
    /// What follows the checksum.
    pub(super) body: Reader<'a>,
}

/// Decodes an IPv6 packet with an ICMPv6 message of code 0. None for other packets, and if hop
/// limit or checksum are wrong. Octets after the packet are padding.
pub(super) fn decode(packet: &[u8]) -> Option<Message<'_>> {
    let mut reader = Reader(packet);
    let version = reader.u32()? >> 28;
    let length = reader.u16()?;
    let (next_header, hop_limit) = (reader.u8()?, reader.u8()?);
    let (source, destination) = (reader.ipv6()?, reader.ipv6()?);
    if (version, next_header, hop_limit) != (6, ICMPV6, HOP_LIMIT) {
        return None;
    }
    let message = reader.take(usize::from(length))?;
    let sum = Checksum::ipv6(source, destination, ICMPV6, length).add(message);
    if sum.finish() != 0 {
        return None;
    }
    let mut body = Reader(message);
    let (kind, code) = (body.u8()?, body.u8()?);
    let _checksum = body.u16()?;
    // A group is never a source (RFC 4291 §2.7).
    (code == 0 && !source.is_multicast()).then_some(Message {
        source,
        destination,
        kind,
        body,
    })
}

/// The IPv6 packet of a message: `fixed` is what follows the checksum, before the option.
pub(super) fn packet(
    [source, destination]: [Ipv6Addr; 2],
    kind: u8,
    fixed: &[u8],
    option: Option<(u8, Mac)>,
) -> Vec<u8> {
    let mut body = fixed.to_vec();
    if let Some((kind, mac)) = option {
        body.extend_from_slice(&[kind, 1]);
        body.extend_from_slice(&mac.0);
    }
    let head = [kind, 0];
    // Some ten octets.
    let length = u16::try_from(body.len() + 4).unwrap_or(u16::MAX);
    let sum = Checksum::ipv6(source, destination, ICMPV6, length);
    let sum = sum.add(&head).add(&body).finish();
    let mut packet = Vec::with_capacity(40 + usize::from(length));
    packet.extend_from_slice(&[0x60, 0, 0, 0]);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[ICMPV6, HOP_LIMIT]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(&head);
    packet.extend_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&body);
    packet
}

/// The Ethernet address in the first option of a kind, if there is one. None if an option has
/// length 0 or is incomplete: the packet must be discarded (RFC 4861 §4.6).
pub(super) fn link_layer_option(mut options: Reader<'_>, wanted: u8) -> Option<Option<Mac>> {
    let mut found = None;
    while !options.0.is_empty() {
        let (kind, units) = (options.u8()?, options.u8()?);
        let value = options.take((usize::from(units) * 8).checked_sub(2)?)?;
        if kind == wanted && found.is_none() {
            found = Reader(value).mac();
        }
    }
    Some(found)
}

#[cfg(test)]
pub(super) mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr, Ipv6Packet, NdiscRepr,
    };

    /// The message as smoltcp reads it, with the checksum verified.
    pub(in crate::wire) fn check_with_smoltcp(
        frame: &[u8],
        check: impl FnOnce(NdiscRepr<'_>, &Ipv6Packet<&[u8]>),
    ) {
        let frame = EthernetFrame::new_checked(frame).unwrap();
        assert_eq!(frame.ethertype(), EthernetProtocol::Ipv6);
        let ip = Ipv6Packet::new_checked(frame.payload()).unwrap();
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        let (source, destination) = (ip.src_addr(), ip.dst_addr());
        let capabilities = ChecksumCapabilities::default();
        let repr = Icmpv6Repr::parse(&source, &destination, &icmp, &capabilities).unwrap();
        let Icmpv6Repr::Ndisc(ndisc) = repr else {
            panic!("not Neighbor Discovery: {repr:?}");
        };
        check(ndisc, &ip);
    }
}
