//! Extended communities (RFC 4360), their IPv6 form (RFC 5701), and the link bandwidth community
//! (RFC 10005).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

use super::community::CommunityParseError;

/// Types: the format of the other seven octets (RFC 4360 §3, RFC 5668 §2).
const TWO_OCTET_AS: u8 = 0x00;
const IPV4_ADDRESS: u8 = 0x01;
const FOUR_OCTET_AS: u8 = 0x02;
/// The bit in the type of a community that is non-transitive across ASes (RFC 4360 §2).
const NON_TRANSITIVE: u8 = 0x40;
/// Subtypes (RFC 4360 §4, §5; RFC 10005).
const ROUTE_TARGET: u8 = 0x02;
const ROUTE_ORIGIN: u8 = 0x03;
const LINK_BANDWIDTH: u8 = 0x04;

/// An extended community: a type, usually a subtype, and a value (RFC 4360 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ExtendedCommunity(pub [u8; 8]);

/// An IPv6 address specific extended community (RFC 5701 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ipv6ExtendedCommunity(pub [u8; 20]);

/// The bandwidth of the link behind a route, for weighted load balancing (RFC 10005).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkBandwidth {
    /// The AS that sets it; [`Asn::TRANS`](super::Asn::TRANS) if it needs four octets.
    pub asn: u16,
    /// Octets per second, as encoded: a received value may be negative or not a number.
    pub octets_per_second: f32,
    /// Transitive across ASes (type 0x00), or the classic non-transitive form (type 0x40).
    pub transitive: bool,
}

/// The error for an extended community that isn't a link bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} is not a link bandwidth")]
pub struct NotLinkBandwidth(pub ExtendedCommunity);

impl From<LinkBandwidth> for ExtendedCommunity {
    fn from(link: LinkBandwidth) -> Self {
        let kind = if link.transitive { 0 } else { NON_TRANSITIVE };
        let [a, b] = link.asn.to_be_bytes();
        let [c, d, e, f] = link.octets_per_second.to_be_bytes();
        Self([kind | TWO_OCTET_AS, LINK_BANDWIDTH, a, b, c, d, e, f])
    }
}

impl TryFrom<ExtendedCommunity> for LinkBandwidth {
    type Error = NotLinkBandwidth;

    fn try_from(community: ExtendedCommunity) -> Result<Self, Self::Error> {
        let [kind, subtype, a, b, value @ ..] = community.0;
        if kind & !NON_TRANSITIVE != TWO_OCTET_AS || subtype != LINK_BANDWIDTH {
            return Err(NotLinkBandwidth(community));
        }
        Ok(Self {
            asn: u16::from_be_bytes([a, b]),
            octets_per_second: f32::from_be_bytes(value),
            transitive: kind & NON_TRANSITIVE == 0,
        })
    }
}

/// The names of subtypes that have the same meaning in all three types.
fn word(subtype: u8) -> Option<&'static str> {
    match subtype {
        ROUTE_TARGET => Some("rt"),
        ROUTE_ORIGIN => Some("soo"),
        _ => None,
    }
}

fn subtype(word: &str) -> Option<u8> {
    [ROUTE_TARGET, ROUTE_ORIGIN]
        .into_iter()
        .find(|&subtype| self::word(subtype) == Some(word))
}

/// Route target and origin as in `rt:65001:1`, `soo:192.0.2.1:1`, `rt:4200000000:1`; bandwidth in
/// octets per second as in `lb:65001:125000000`, `transitive-lb:65001:125000000`; any other in hex
/// as in `0x4004fde94cee6b28`. Every text parses back to the same octets.
impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, code, a, b, c, d, e, g] = self.0;
        if let Ok(link) = LinkBandwidth::try_from(*self)
            && link.octets_per_second.is_finite()
            && link.octets_per_second.is_sign_positive()
        {
            return link.fmt(f);
        }
        let short = u16::from_be_bytes([e, g]);
        let four = u32::from_be_bytes([a, b, c, d]);
        match (kind, word(code)) {
            (TWO_OCTET_AS, Some(word)) => {
                let asn = u16::from_be_bytes([a, b]);
                write!(f, "{word}:{asn}:{}", u32::from_be_bytes([c, d, e, g]))
            }
            (IPV4_ADDRESS, Some(word)) => write!(f, "{word}:{}:{short}", Ipv4Addr::from(four)),
            // A smaller number would parse as a two-octet AS.
            (FOUR_OCTET_AS, Some(word)) if four > u16::MAX.into() => {
                write!(f, "{word}:{four}:{short}")
            }
            _ => write_hex(f, &self.0),
        }
    }
}

/// For example `lb:65001:125000000` or `transitive-lb:65001:125000000`.
impl fmt::Display for LinkBandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.transitive {
            "transitive-lb"
        } else {
            "lb"
        };
        write!(f, "{word}:{}:{}", self.asn, self.octets_per_second)
    }
}

/// Route target and origin as in `rt:[2001:db8::1]:1`; any other in hex. Every text parses back to
/// the same octets.
impl fmt::Display for Ipv6ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(([kind, code], rest)), Some(number)) =
            (self.0.split_first_chunk::<2>(), self.0.last_chunk::<2>())
        else {
            return Ok(());
        };
        match (word(*code), rest.first_chunk::<16>()) {
            (Some(word), Some(address)) if *kind == 0 => {
                let address = Ipv6Addr::from(*address);
                write!(f, "{word}:[{address}]:{}", u16::from_be_bytes(*number))
            }
            _ => write_hex(f, &self.0),
        }
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    f.write_str("0x")?;
    octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
}

/// Parses `0x` and two hex digits per octet.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    let mut octets = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let digit = char::from(*digit).to_digit(16)?;
            *octet = *octet << 4 | u8::try_from(digit).ok()?;
        }
    }
    Some(octets)
}

/// Parses a number without a sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Parses a [`LinkBandwidth`] without its prefix.
fn link_bandwidth(transitive: bool, asn: &str, bandwidth: &str) -> Option<ExtendedCommunity> {
    let plain = |octet: u8| octet.is_ascii_digit() || octet == b'.';
    let octets_per_second: f32 = bandwidth.parse().ok()?;
    if !bandwidth.bytes().all(plain) || !octets_per_second.is_finite() {
        return None;
    }
    let asn = number(asn)?;
    let link = LinkBandwidth {
        asn,
        octets_per_second,
        transitive,
    };
    Some(link.into())
}

fn extended(text: &str) -> Option<ExtendedCommunity> {
    let (word, rest) = text.split_once(':')?;
    let (global, local) = rest.split_once(':')?;
    match word {
        "lb" => return link_bandwidth(false, global, local),
        "transitive-lb" => return link_bandwidth(true, global, local),
        _ => {}
    }
    let code = subtype(word)?;
    let community = if let Some(asn) = number::<u16>(global) {
        let [a, b] = asn.to_be_bytes();
        let [c, d, e, f] = number::<u32>(local)?.to_be_bytes();
        [TWO_OCTET_AS, code, a, b, c, d, e, f]
    } else {
        let (kind, [a, b, c, d]) = match number::<u32>(global) {
            Some(asn) => (FOUR_OCTET_AS, asn.to_be_bytes()),
            None => (IPV4_ADDRESS, global.parse::<Ipv4Addr>().ok()?.octets()),
        };
        let [e, f] = number::<u16>(local)?.to_be_bytes();
        [kind, code, a, b, c, d, e, f]
    };
    Some(ExtendedCommunity(community))
}

fn ipv6_extended(text: &str) -> Option<Ipv6ExtendedCommunity> {
    let (word, rest) = text.split_once(":[")?;
    let (address, local) = rest.split_once("]:")?;
    let address: Ipv6Addr = address.parse().ok()?;
    let head = [0, subtype(word)?];
    let local = number::<u16>(local)?.to_be_bytes();
    let octets = [&head[..], &address.octets(), &local].concat();
    octets.try_into().ok().map(Ipv6ExtendedCommunity)
}

impl FromStr for ExtendedCommunity {
    type Err = CommunityParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex(text)
            .map(Self)
            .or_else(|| extended(text))
            .ok_or_else(|| CommunityParseError {
                text: text.to_owned(),
                expected: "an extended community like rt:64700:1, soo:192.0.2.1:1, \
                           lb:64700:125000000 (octets per second) or 0x4004fde94cee6b28",
            })
    }
}

impl FromStr for Ipv6ExtendedCommunity {
    type Err = CommunityParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex(text)
            .map(Self)
            .or_else(|| ipv6_extended(text))
            .ok_or_else(|| CommunityParseError {
                text: text.to_owned(),
                expected: "an IPv6 extended community like rt:[2001:db8::1]:1, or 0x and 40 hex \
                           digits",
            })
    }
}

#[cfg(test)]
mod tests;
