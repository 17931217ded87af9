//! Counts messages and prefixes in a stream of BGP messages without decoding them.

use std::io;
use std::ops::AddAssign;

/// Totals of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) octets: usize,
    pub(crate) keepalives: usize,
    pub(crate) updates: usize,
    /// Announced and withdrawn prefixes.
    pub(crate) prefixes: usize,
    pub(crate) end_of_rib: usize,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.octets += other.octets;
        self.keepalives += other.keepalives;
        self.updates += other.updates;
        self.prefixes += other.prefixes;
        self.end_of_rib += other.end_of_rib;
    }
}

const HEADER: usize = 19;
const MP_REACH: u8 = 14;
const MP_UNREACH: u8 = 15;

/// Counts the complete messages at the beginning and returns their length in octets.
///
/// # Errors
/// When the octets aren't BGP, or contain a NOTIFICATION.
pub(crate) fn count_messages(octets: &[u8], count: &mut Count) -> io::Result<usize> {
    let mut at = 0;
    while let Some(header) = octets.get(at..at + HEADER) {
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        if length < HEADER {
            return Err(io::Error::other("not BGP"));
        }
        let Some(body) = octets.get(at + HEADER..at + length) else {
            break;
        };
        match header[18] {
            2 => count_update(body, count).ok_or_else(|| io::Error::other("bad UPDATE"))?,
            3 => return Err(io::Error::other(format!("NOTIFICATION {body:02x?}"))),
            4 => count.keepalives += 1,
            _ => {}
        }
        at += length;
    }
    Ok(at)
}

fn count_update(body: &[u8], count: &mut Count) -> Option<()> {
    count.updates += 1;
    let before = count.prefixes;
    let (withdrawn, rest) = length_prefixed(body)?;
    count.prefixes += prefixes(withdrawn);
    let (mut attributes, nlri) = length_prefixed(rest)?;
    count.prefixes += prefixes(nlri);
    let empty = attributes.is_empty();
    let mut unreach = false;
    while let [flags, kind, rest @ ..] = attributes {
        let (value, tail) = if flags & 0x10 == 0 {
            let (length, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(*length))?
        } else {
            length_prefixed(rest)?
        };
        match *kind {
            // AFI, SAFI, length and next hop, a reserved octet, NLRI (RFC 4760 §3).
            MP_REACH => count.prefixes += prefixes(value.get(5 + usize::from(*value.get(3)?)..)?),
            MP_UNREACH => {
                unreach = true;
                count.prefixes += prefixes(value.get(3..)?);
            }
            _ => {}
        }
        attributes = tail;
    }
    if count.prefixes == before && (empty || unreach) {
        count.end_of_rib += 1;
    }
    Some(())
}

/// Splits off a field with a length of two octets; returns the field and the rest.
fn length_prefixed(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn prefixes(mut octets: &[u8]) -> usize {
    let mut count = 0;
    while let [length, rest @ ..] = octets {
        let length = usize::from(*length).div_ceil(8);
        octets = rest.get(length..).unwrap_or_default();
        count += 1;
    }
    count
}
