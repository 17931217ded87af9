//! A digest of claims, by which a receiver knows whether it missed one.

use std::net::IpAddr;

use super::nodes::mix;

/// The number of claims and the XOR of their hashes. Adding and removing are cheap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    /// The number of claims.
    pub(crate) count: u32,
    /// The XOR of their hashes.
    pub(crate) hash: u64,
}

impl Digest {
    /// Adds a claim that is not contained.
    pub(crate) fn add(&mut self, address: IpAddr, epoch: u64) {
        self.count = self.count.wrapping_add(1);
        self.hash ^= claim_hash(address, epoch);
    }

    /// Removes a claim that is contained.
    pub(crate) fn remove(&mut self, address: IpAddr, epoch: u64) {
        self.count = self.count.wrapping_sub(1);
        self.hash ^= claim_hash(address, epoch);
    }
}

fn claim_hash(address: IpAddr, epoch: u64) -> u64 {
    mix(address_hash(address) ^ mix(epoch))
}

/// A hash of an address, equal on all nodes.
pub(crate) fn address_hash(address: IpAddr) -> u64 {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) | 1 << 32,
        IpAddr::V6(address) => address.to_bits(),
    };
    let octets = bits.to_be_bytes();
    let (high, low) = octets.split_at(8);
    let word = |part: &[u8]| {
        part.iter()
            .fold(0, |word, octet| word << 8 | u64::from(*octet))
    };
    mix(mix(word(high)) ^ word(low))
}
