//! The AS_PATH attribute (RFC 4271 §4.3, §5.1.2; RFC 6793).

use std::fmt;

use bytes::BufMut;
use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::be_u8;

use super::Parsed;
use super::asn::Asn;
use super::error::AttributeErrorKind;

/// Segment types (RFC 4271 §4.3, RFC 5065 §3).
const AS_SET: u8 = 1;
const AS_SEQUENCE: u8 = 2;
const AS_CONFED_SEQUENCE: u8 = 3;
const AS_CONFED_SET: u8 = 4;
/// The most AS numbers in one segment.
const LONGEST_SEGMENT: usize = 255;

/// The autonomous systems that a route has passed through, the nearest first.
///
/// A single sequence: the decoder rejects sets (RFC 9774) and confederation segments (RFC 5065 §5)
/// with treat-as-withdraw.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPath(pub Vec<Asn>);

impl AsPath {
    /// Whether the path contains `asn` (loop detection, RFC 4271 §9.1.2).
    pub(crate) fn contains(&self, asn: Asn) -> bool {
        self.0.contains(&asn)
    }
}

impl FromIterator<Asn> for AsPath {
    fn from_iter<I: IntoIterator<Item = Asn>>(asns: I) -> Self {
        Self(asns.into_iter().collect())
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, asn) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            asn.fmt(f)?;
        }
        Ok(())
    }
}

/// The treatment of confederation segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confederation {
    /// An error (RFC 5065 §5).
    Reject,
    /// Ignored, in AS4_PATH (RFC 6793 §6).
    Skip,
}

/// Decodes the value of AS_PATH or AS4_PATH. Of several errors it returns the first, but malformed
/// segments take precedence.
pub(super) fn decode(
    mut value: &[u8],
    four_octet: bool,
    confederation: Confederation,
) -> Result<AsPath, AttributeErrorKind> {
    let width = if four_octet { 4 } else { 2 };
    let mut path = Vec::with_capacity(value.len() / width);
    let mut fault = None;
    while !value.is_empty() {
        let (tail, (kind, octets)) =
            segment(value, width).map_err(|_| AttributeErrorKind::AsPath)?;
        value = tail;
        match (kind, confederation) {
            (AS_SEQUENCE, _) => {
                let start = path.len();
                path.extend(octets.chunks_exact(width).map(asn));
                if path[start..].contains(&Asn::ZERO) {
                    fault.get_or_insert(AttributeErrorKind::AsZero);
                }
            }
            (AS_CONFED_SEQUENCE | AS_CONFED_SET, Confederation::Skip) => {}
            (AS_SET | AS_CONFED_SET, _) => {
                fault.get_or_insert(AttributeErrorKind::AsSet);
            }
            (AS_CONFED_SEQUENCE, Confederation::Reject) => {
                fault.get_or_insert(AttributeErrorKind::Confederation);
            }
            _ => return Err(AttributeErrorKind::AsPath),
        }
    }
    fault.map_or(Ok(AsPath(path)), Err)
}

/// Splits off one segment: type and AS numbers. It has at least one AS number (RFC 7606 §7.2).
fn segment(input: &[u8], width: usize) -> Parsed<'_, (u8, &[u8])> {
    let (input, (kind, count)) = (be_u8, be_u8).parse(input)?;
    if count == 0 {
        return Err(nom::Err::Error(()));
    }
    let (input, octets) = take(usize::from(count) * width).parse(input)?;
    Ok((input, (kind, octets)))
}

/// A big-endian AS number of two or four octets.
fn asn(octets: &[u8]) -> Asn {
    Asn(octets
        .iter()
        .fold(0, |number, &octet| (number << 8) | u32::from(octet)))
}

/// The length of the value of AS_PATH or AS4_PATH in octets.
pub(super) fn encoded_length(path: &AsPath, four_octet: bool) -> usize {
    let width = if four_octet { 4 } else { 2 };
    path.0.len().div_ceil(LONGEST_SEGMENT) * 2 + path.0.len() * width
}

/// Appends the value of AS_PATH or AS4_PATH, in as many sequences as needed.
pub(super) fn put(path: &AsPath, buffer: &mut impl BufMut, four_octet: bool) {
    for segment in path.0.chunks(LONGEST_SEGMENT) {
        buffer.put_u8(AS_SEQUENCE);
        buffer.put_u8(u8::try_from(segment.len()).unwrap_or(u8::MAX));
        for asn in segment {
            asn.put(buffer, four_octet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_contains_its_as_numbers() {
        let path: AsPath = [Asn(65001), Asn(4_200_000_000)].into_iter().collect();
        assert_eq!(path.to_string(), "65001 4200000000");
        assert!(path.contains(Asn(4_200_000_000)) && !path.contains(Asn(1)));
    }
}
