//! The wire format of netlink messages: headers and attributes (RFC 3549 §2.2, §2.3.2).

/// A netlink message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The octets of the header of a message, and of an attribute.
const MESSAGE_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;

/// The messages of a datagram. Ends at the first malformed one.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let message = Message {
            kind: u16_at(datagram, 4)?,
            flags: u16_at(datagram, 6)?,
            sequence: u32_at(datagram, 8)?,
            payload: datagram.get(MESSAGE_HEADER..length)?,
        };
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes behind the fixed part of a message: kind and value. Ends at the first malformed
/// one.
pub(super) fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(octets, 0)?);
        // The two highest bits are flags.
        let kind = u16_at(octets, 2)? & 0x3fff;
        let value = octets.get(ATTRIBUTE_HEADER..length)?;
        octets = octets.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Messages and attributes begin at multiples of four octets.
pub(super) fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// An integer in the byte order of the host.
pub(super) fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    octets
        .get(at..)?
        .first_chunk()
        .map(|octets| u32::from_ne_bytes(*octets))
}

/// An integer in the byte order of the host.
pub(super) fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets
        .get(at..)?
        .first_chunk()
        .map(|octets| u16::from_ne_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_lengths_end_the_list() {
        // A message header with the length 15, below its own.
        let mut datagram = [0; 16];
        datagram[0] = 15;
        assert_eq!(messages(&datagram).count(), 0);
        datagram[0] = 17;
        assert_eq!(messages(&datagram).count(), 0);
        datagram[0] = 16;
        assert_eq!(messages(&datagram).count(), 1);
        // An attribute with the length 0 would repeat for ever.
        assert_eq!(attributes(&[0, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[]).count(), 0);
    }

    #[test]
    fn attributes_are_padded_and_their_flags_are_not_part_of_the_kind() {
        let nested = 0x8000u16 | 18;
        let mut octets = vec![5, 0, 3, 0, b'x', 0, 0, 0, 4, 0];
        octets.extend(nested.to_ne_bytes());
        let list: Vec<_> = attributes(&octets).collect();
        // Lengths are written for a little-endian host, the tests' only one.
        assert_eq!(list, [(3, &b"x"[..]), (18, &b""[..])]);
    }
}
