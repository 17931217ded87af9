//! The Ethernet header.

use super::reader::Reader;
use crate::mac::Mac;

/// The EtherType of IPv4 (RFC 894).
pub const ETHER_TYPE_IPV4: u16 = 0x0800;
/// The EtherType of ARP (RFC 826).
pub const ETHER_TYPE_ARP: u16 = 0x0806;
/// The EtherType of IPv6 (RFC 2464 §3).
pub const ETHER_TYPE_IPV6: u16 = 0x86dd;

/// The minimum length of a frame without its check sequence (IEEE 802.3). Shorter frames are padded
/// with zeros.
const MIN_LENGTH: usize = 60;

/// The header of an Ethernet frame without a VLAN tag: the kernel removes the tag before it passes
/// a frame to the interface of the VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The receiver, or a group.
    pub destination: Mac,
    /// The sender.
    pub source: Mac,
    /// The protocol of the payload.
    pub ether_type: u16,
}

impl Header {
    /// Splits a frame into header and payload. The payload may end in padding.
    pub fn decode(frame: &[u8]) -> Option<(Self, &[u8])> {
        let mut reader = Reader(frame);
        let header = Self {
            destination: reader.mac()?,
            source: reader.mac()?,
            ether_type: reader.u16()?,
        };
        Some((header, reader.0))
    }

    /// The frame with a payload.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(MIN_LENGTH.max(14 + payload.len()));
        frame.extend_from_slice(&self.destination.0);
        frame.extend_from_slice(&self.source.0);
        frame.extend_from_slice(&self.ether_type.to_be_bytes());
        frame.extend_from_slice(payload);
        if frame.len() < MIN_LENGTH {
            frame.resize(MIN_LENGTH, 0);
        }
        frame
    }
}
