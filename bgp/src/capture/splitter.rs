//! Splits a stream of octets into messages without reading them.

use bytes::{Bytes, BytesMut};

use crate::wire::HEADER_LENGTH;

/// Collects the octets of one direction of a connection.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
}

impl Splitter {
    /// Appends octets.
    pub fn push(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// Takes the next whole message. After a header with an impossible length, which ends the
    /// session, it is everything that is left.
    pub fn take_message(&mut self) -> Option<Bytes> {
        let length = self.buffer.get(16..HEADER_LENGTH)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length < HEADER_LENGTH {
            return Some(self.buffer.split().freeze());
        }
        if self.buffer.len() < length {
            return None;
        }
        Some(self.buffer.split_to(length).freeze())
    }
}
