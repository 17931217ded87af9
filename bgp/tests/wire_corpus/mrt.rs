//! Reads MRT files (RFC 6396, RFC 8050): recorded BGP messages, and dumps of routing tables.
//!
//! Records borrow from the file. Records that are not about BGP-4 have only type and subtype. Those
//! with ADD-PATH messages are skipped too; in dumps, the path identifiers are skipped.

use std::net::IpAddr;

use ferrolb_bgp::wire::{Asn, DecodeContext, Family, MAX_EXTENDED_LENGTH};
use thiserror::Error;

use super::attributes::attributes;

/// The length of a record's header in octets (RFC 6396 §2).
const HEADER_LENGTH: usize = 12;
/// Record types (RFC 6396 §4).
const TABLE_DUMP_V2: u16 = 13;
const BGP4MP: u16 = 16;
const BGP4MP_ET: u16 = 17;

/// A truncated file, or a record whose fields exceed it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum MrtError {
    /// The file ends inside a record.
    #[error("the file ends inside the record at octet {at}")]
    Truncated {
        /// The offset of the record in octets.
        at: usize,
    },
    /// The fields of a record exceed it.
    #[error("the record at octet {at} is malformed (type {kind}, subtype {subtype})")]
    Malformed {
        /// The offset of the record in octets.
        at: usize,
        /// The type.
        kind: u16,
        /// The subtype.
        subtype: u16,
    },
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// The time in seconds since 1970.
    pub(crate) seconds: u32,
    /// The content.
    pub(crate) content: Content<'a>,
}

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// A BGP message as received or sent.
    Message(Recorded<'a>),
    /// A change of a session's state.
    StateChange {
        /// The old state (RFC 6396 §4.4.1: 1 Idle to 6 Established).
        old: u16,
        /// The new state.
        new: u16,
    },
    /// The routes of one prefix.
    Rib(Rib<'a>),
    /// Any other record.
    Other {
        /// The type.
        kind: u16,
        /// The subtype.
        subtype: u16,
    },
}

/// A recorded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded<'a> {
    /// The peer's AS.
    pub(crate) peer_asn: Asn,
    /// The peer's address.
    pub(crate) peer: IpAddr,
    /// The decode context. Parameters that the record lacks are permissive.
    pub(crate) context: DecodeContext,
    /// The message, header included.
    pub(crate) octets: &'a [u8],
}

/// All paths of one prefix (RFC 6396 §4.3.2, RFC 8050 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rib<'a> {
    /// The family.
    pub(crate) family: Family,
    /// The prefix as in an UPDATE.
    pub(crate) prefix: &'a [u8],
    /// The paths.
    pub(crate) entries: Vec<RibEntry<'a>>,
}

/// A path (RFC 6396 §4.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RibEntry<'a> {
    /// The attributes; MP_REACH_NLRI has only the next hop.
    pub(crate) attributes: &'a [u8],
}

/// Iterates over the records of a file, up to the first error.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// Starts at the beginning of a file.
    pub(crate) fn new(file: &'a [u8]) -> Self {
        Self { file, at: 0 }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, MrtError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let mut rest = Cursor(self.file.get(at..).filter(|rest| !rest.is_empty())?);
        let header = rest
            .u32()
            .and_then(|seconds| Some((seconds, rest.u16()?, rest.u16()?, rest.u32()?)));
        let body = header.and_then(|(.., length)| rest.take(usize::try_from(length).ok()?));
        let (Some((seconds, kind, subtype, _)), Some(body)) = (header, body) else {
            self.at = self.file.len();
            return Some(Err(MrtError::Truncated { at }));
        };
        self.at = at + HEADER_LENGTH + body.len();
        let content = content(kind, subtype, Cursor(body));
        Some(match content {
            Some(content) => Ok(Record { seconds, content }),
            None => Err(MrtError::Malformed { at, kind, subtype }),
        })
    }
}

/// The rest of the input. Each read returns `None` if the input is too short.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn asn(&mut self, four_octet: bool) -> Option<Asn> {
        if four_octet {
            self.u32().map(Asn)
        } else {
            self.u16().map(|asn| Asn(asn.into()))
        }
    }

    fn address(&mut self, afi: u16) -> Option<IpAddr> {
        match afi {
            1 => self.array::<4>().map(IpAddr::from),
            2 => self.array::<16>().map(IpAddr::from),
            _ => None,
        }
    }
}

fn content(kind: u16, subtype: u16, mut body: Cursor<'_>) -> Option<Content<'_>> {
    if kind == BGP4MP_ET {
        // Microseconds (RFC 6396 §3).
        body.u32()?;
    }
    match (kind, subtype) {
        (BGP4MP | BGP4MP_ET, 0 | 5) => state_change(body, subtype == 5),
        (BGP4MP | BGP4MP_ET, 1 | 4 | 6 | 7) => message(body, subtype),
        (TABLE_DUMP_V2, 2 | 8) => rib(body, Family::IPV4_UNICAST, subtype == 8),
        (TABLE_DUMP_V2, 4 | 10) => rib(body, Family::IPV6_UNICAST, subtype == 10),
        _ => Some(Content::Other { kind, subtype }),
    }
}

/// The two ends of a session (RFC 6396 §4.4.1): AS and address of the peer, AS of the collector.
fn ends(body: &mut Cursor<'_>, four_octet: bool) -> Option<(Asn, IpAddr, Asn)> {
    let (peer_asn, local_asn) = (body.asn(four_octet)?, body.asn(four_octet)?);
    let _interface = body.u16()?;
    let afi = body.u16()?;
    let (peer, _local) = (body.address(afi)?, body.address(afi)?);
    Some((peer_asn, peer, local_asn))
}

fn state_change(mut body: Cursor<'_>, four_octet: bool) -> Option<Content<'_>> {
    ends(&mut body, four_octet)?;
    let (old, new) = (body.u16()?, body.u16()?);
    Some(Content::StateChange { old, new })
}

/// RFC 6396 §4.4.2, §4.4.3, §4.4.5.
fn message(mut body: Cursor<'_>, subtype: u16) -> Option<Content<'_>> {
    let four_octet_asn = matches!(subtype, 4 | 7);
    let (peer_asn, peer, local_asn) = ends(&mut body, four_octet_asn)?;
    let context = DecodeContext {
        four_octet_asn,
        ibgp: peer_asn == local_asn,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        max_length: MAX_EXTENDED_LENGTH,
        ipv4_next_hop_v6: true,
        enhanced_route_refresh: true,
        ..DecodeContext::default()
    };
    Some(Content::Message(Recorded {
        peer_asn,
        peer,
        context,
        octets: body.0,
    }))
}

fn rib(mut body: Cursor<'_>, family: Family, add_path: bool) -> Option<Content<'_>> {
    let _sequence = body.u32()?;
    let length = usize::from(*body.0.first()?);
    let prefix = body.take(1 + length.div_ceil(8))?;
    let mut entries = Vec::new();
    for _ in 0..body.u16()? {
        let _peer = body.u16()?;
        let _originated = body.u32()?;
        if add_path {
            body.u32()?;
        }
        let length = body.u16()?;
        let attributes = body.take(length.into())?;
        entries.push(RibEntry { attributes });
    }
    Some(Content::Rib(Rib {
        family,
        prefix,
        entries,
    }))
}

impl Rib<'_> {
    /// The decode context for [`update`](Self::update): four-octet AS numbers (RFC 6396 §4.3.4),
    /// and an iBGP session if LOCAL_PREF is present.
    pub(crate) fn context(&self, entry: &RibEntry<'_>) -> DecodeContext {
        let attributes = attributes(entry.attributes).unwrap_or_default();
        DecodeContext {
            four_octet_asn: true,
            ibgp: attributes.iter().any(|one| one.code == LOCAL_PREF),
            families: vec![self.family],
            max_length: MAX_EXTENDED_LENGTH,
            ipv4_next_hop_v6: true,
            ..DecodeContext::default()
        }
    }

    /// An UPDATE that announces the path; `None` if its attributes are malformed, too long, or lack
    /// an IPv6 next hop.
    pub(crate) fn update(&self, entry: &RibEntry<'_>) -> Option<Vec<u8>> {
        let (attributes, nlri) = if self.family == Family::IPV4_UNICAST {
            (entry.attributes.to_vec(), self.prefix)
        } else {
            (self.with_mp_reach(entry.attributes, self.prefix)?, &[][..])
        };
        let length = u16::try_from(23 + attributes.len() + nlri.len()).ok()?;
        let attributes_length = u16::try_from(attributes.len()).ok()?;
        Some(
            [
                &[0xff; 16][..],
                &length.to_be_bytes(),
                &[2, 0, 0],
                &attributes_length.to_be_bytes(),
                &attributes,
                nlri,
            ]
            .concat(),
        )
    }

    /// Restores family and prefix in MP_REACH_NLRI, which dumps omit (RFC 6396 §4.3.4). Some
    /// collectors don't omit them.
    fn with_mp_reach(&self, all: &[u8], nlri: &[u8]) -> Option<Vec<u8>> {
        let (reach, others): (Vec<_>, Vec<_>) = attributes(all)?
            .into_iter()
            .partition(|one| one.code == MP_REACH_NLRI);
        let [reach] = &reach[..] else {
            return None;
        };
        let afi = self.family.afi.0.to_be_bytes();
        // The full form starts with the family; a next hop length is never zero.
        let value = match reach.value {
            [0, ..] => reach.value.to_vec(),
            next_hop => [&afi, &[self.family.safi.0][..], next_hop, &[0], nlri].concat(),
        };
        let length = u16::try_from(value.len()).ok()?.to_be_bytes();
        let mut update = [&[0x90, MP_REACH_NLRI][..], &length, &value].concat();
        others
            .iter()
            .for_each(|one| update.extend_from_slice(one.octets));
        Some(update)
    }
}

const LOCAL_PREF: u8 = 5;
const MP_REACH_NLRI: u8 = 14;
