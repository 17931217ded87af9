//! Keys that authenticate hellos.

use std::fmt;

use ring::hmac;

use super::TAG;

/// A key and its public number.
#[derive(Clone)]
pub struct Key {
    id: u32,
    key: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key itself.
        write!(f, "Key({:08x})", self.id)
    }
}

impl Key {
    /// A key of any length. HMAC-SHA-256 needs 32 random octets for its full strength.
    pub fn new(octets: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, octets);
        let digest = hmac::sign(&key, b"ferrolb key id");
        let id = digest.as_ref().first_chunk().copied().unwrap_or_default();
        Self {
            id: u32::from_be_bytes(id),
            key,
        }
    }

    /// The number that hellos carry, so that a receiver finds the key and recognizes a foreign one.
    /// It doesn't reveal the key.
    pub const fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn authenticate(&self, octets: &[u8]) -> [u8; TAG] {
        let tag = hmac::sign(&self.key, octets);
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// In constant time.
    pub(super) fn verify(&self, octets: &[u8], tag: &[u8]) -> bool {
        let expected = self.authenticate(octets);
        let differences = expected.iter().zip(tag).map(|(a, b)| a ^ b);
        tag.len() == TAG && differences.fold(0, |all, one| all | one) == 0
    }
}
