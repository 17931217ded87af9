//! Messages as a pcap file: IP packets of a TCP connection that has only these octets. Addresses
//! and ports are the real ones, the rest of the headers is made up.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};

use super::CapturedMessage;

/// Octets of a message in one packet. An IPv4 packet has at most 65,535.
const SEGMENT_MAX: usize = 32 * 1024;
/// Packets start with the IP header (LINKTYPE_RAW).
const LINK_TYPE: u32 = 101;
/// Longer than any packet.
const SNAP_LENGTH: u32 = 262_144;
const TCP: u8 = 6;
const TCP_HEADER: usize = 20;
const ACK_PUSH: u8 = 0x18;
/// The number of the first octet of a connection.
const FIRST_NUMBER: u32 = 1;

/// Writes messages as packets, with TCP sequence numbers that continue.
#[derive(Debug, Default)]
pub struct Pcap {
    /// The number of the next octet by sender and receiver.
    next: HashMap<(SocketAddr, SocketAddr), u32>,
}

impl Pcap {
    /// What the file starts with: times have microseconds.
    #[must_use]
    pub fn header() -> Bytes {
        let mut header = BytesMut::new();
        header.put_u32(0xa1b2_c3d4);
        // Version 2.4.
        header.put_u16(2);
        header.put_u16(4);
        // Time zone and accuracy, always zero.
        header.put_u64(0);
        header.put_u32(SNAP_LENGTH);
        header.put_u32(LINK_TYPE);
        header.freeze()
    }

    /// The message as one packet, or several if it is long.
    pub fn packets(&mut self, message: &CapturedMessage) -> Bytes {
        let session = &message.session;
        let (from, to) = if message.sent {
            (session.local, session.remote)
        } else {
            (session.remote, session.local)
        };
        let mut packets = BytesMut::new();
        for octets in message.octets.chunks(SEGMENT_MAX) {
            let acknowledged = *self.next.entry((to, from)).or_insert(FIRST_NUMBER);
            let next = self.next.entry((from, to)).or_insert(FIRST_NUMBER);
            let segment = segment(from, to, (*next, acknowledged), octets);
            // Wraps, as in TCP.
            *next = next.wrapping_add(u32::try_from(octets.len()).unwrap_or_default());
            let packet = packet(from.ip(), to.ip(), &segment);
            let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
            packets.put_u32(u32::try_from(message.at.as_secs()).unwrap_or(u32::MAX));
            packets.put_u32(message.at.subsec_micros());
            packets.put_u32(length);
            packets.put_u32(length);
            packets.put_slice(&packet);
        }
        packets.freeze()
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A TCP segment with these sequence and acknowledgement numbers (RFC 9293 §3.1).
fn segment(from: SocketAddr, to: SocketAddr, numbers: (u32, u32), payload: &[u8]) -> BytesMut {
    let mut segment = BytesMut::new();
    segment.put_u16(from.port());
    segment.put_u16(to.port());
    segment.put_u32(numbers.0);
    segment.put_u32(numbers.1);
    // Five words of header.
    segment.put_u8(5 << 4);
    segment.put_u8(ACK_PUSH);
    segment.put_u16(u16::MAX);
    // Checksum and urgent pointer.
    segment.put_u32(0);
    segment.put_slice(payload);
    let mut sum = Checksum::default();
    sum.add(&octets(from.ip()));
    sum.add(&octets(to.ip()));
    sum.add(&u32::from(TCP).to_be_bytes());
    sum.add(
        &u32::try_from(segment.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    sum.add(&segment);
    segment[16..18].copy_from_slice(&sum.finish());
    segment
}

/// The IP packet with this segment (RFC 791 §3.1, RFC 8200 §3).
fn packet(from: IpAddr, to: IpAddr, segment: &[u8]) -> BytesMut {
    // The segment has at most TCP_HEADER + SEGMENT_MAX octets.
    let length = |header: usize| u16::try_from(header + segment.len()).unwrap_or(u16::MAX);
    let mut packet = BytesMut::new();
    if from.is_ipv4() {
        packet.put_slice(&[0x45, 0xc0]);
        packet.put_u16(length(20));
        // Identification; not to be fragmented.
        packet.put_slice(&[0, 0, 0x40, 0]);
        packet.put_slice(&[64, TCP, 0, 0]);
        packet.put_slice(&octets(from));
        packet.put_slice(&octets(to));
        let mut sum = Checksum::default();
        sum.add(&packet);
        packet[10..12].copy_from_slice(&sum.finish());
    } else {
        packet.put_slice(&[0x6c, 0, 0, 0]);
        packet.put_u16(length(0));
        packet.put_slice(&[TCP, 64]);
        packet.put_slice(&octets(from));
        packet.put_slice(&octets(to));
    }
    packet.put_slice(segment);
    packet
}

/// The checksum of IP and TCP (RFC 1071).
#[derive(Debug, Default)]
struct Checksum(u64);

impl Checksum {
    /// Adds octets, an even number of them except at the end.
    fn add(&mut self, octets: &[u8]) {
        for pair in octets.chunks(2) {
            let high = u64::from(pair[0]) << 8;
            self.0 += high + pair.get(1).map_or(0, |low| u64::from(*low));
        }
    }

    fn finish(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let folded = u16::try_from(sum).unwrap_or_default();
        (!folded).to_be_bytes()
    }
}

const _: () = assert!(40 + TCP_HEADER + SEGMENT_MAX <= 65_535);
