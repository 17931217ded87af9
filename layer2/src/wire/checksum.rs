//! The Internet checksum (RFC 1071).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The ones' complement sum of 16-bit words.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checksum(u32);

impl Checksum {
    /// The pseudo-header of IPv4 (RFC 768).
    pub(super) fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Self {
        Self::default()
            .add(&source.octets())
            .add(&destination.octets())
            .add(&[0, protocol])
            .add(&length.to_be_bytes())
    }

    /// The pseudo-header of IPv6 (RFC 8200 §8.1).
    pub(super) fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, length: u16) -> Self {
        Self::default()
            .add(&source.octets())
            .add(&destination.octets())
            .add(&u32::from(length).to_be_bytes())
            .add(&[0, 0, 0, next])
    }

    /// Adds octets. All but the last call must add an even number of them.
    pub(super) fn add(mut self, octets: &[u8]) -> Self {
        for word in octets.chunks(2) {
            let word = match *word {
                [high, low] => u16::from_be_bytes([high, low]),
                [high] => u16::from_be_bytes([high, 0]),
                _ => 0,
            };
            // At most 65,535 octets, so this does not overflow.
            self.0 += u32::from(word);
        }
        self
    }

    /// The checksum of all octets: zero if they include a correct one.
    pub(super) const fn finish(self) -> u16 {
        let folded = (self.0 & 0xffff) + (self.0 >> 16);
        let [_, _, high, low] = (folded + (folded >> 16)).to_be_bytes();
        !u16::from_be_bytes([high, low])
    }
}
