//! Capabilities in OPEN messages (RFC 5492).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use nom::Parser;
use nom::number::complete::{be_u8, be_u16};

use super::Parsed;
use super::asn::Asn;
use super::error::DecodeError;
use super::family::{Afi, Family, Safi};

/// Code of a capability (IANA registry "Capability Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CapabilityCode(pub u8);

/// Declares each named code once: its constant and its name.
macro_rules! capability_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl CapabilityCode {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The name of a registered capability.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

capability_codes! {
    /// RFC 4760 §8.
    MULTIPROTOCOL = 1, "multiprotocol";
    /// RFC 2918 §2.
    ROUTE_REFRESH = 2, "route refresh";
    /// RFC 5291.
    OUTBOUND_ROUTE_FILTERING = 3, "outbound route filtering";
    /// RFC 8950 §4.
    EXTENDED_NEXT_HOP = 5, "extended next hop";
    /// RFC 8654 §3.
    EXTENDED_MESSAGE = 6, "extended message";
    /// RFC 8205.
    BGPSEC = 7, "BGPsec";
    /// RFC 8277.
    MULTIPLE_LABELS = 8, "multiple labels";
    /// RFC 9234 §4.
    ROLE = 9, "role";
    /// RFC 4724 §3.
    GRACEFUL_RESTART = 64, "graceful restart";
    /// RFC 6793 §3.
    FOUR_OCTET_ASN = 65, "four-octet AS";
    /// draft-ietf-idr-dynamic-cap.
    DYNAMIC = 67, "dynamic capability";
    /// draft-ietf-idr-bgp-multisession.
    MULTISESSION = 68, "multisession";
    /// RFC 7911 §4.
    ADD_PATH = 69, "ADD-PATH";
    /// RFC 7313 §3.1.
    ENHANCED_ROUTE_REFRESH = 70, "enhanced route refresh";
    /// RFC 9494 §3.
    LONG_LIVED_GRACEFUL_RESTART = 71, "long-lived graceful restart";
    /// draft-walton-bgp-hostname-capability.
    FQDN = 73, "host name";
    /// draft-ietf-idr-bgp-bfd-strict-mode.
    BFD_STRICT_MODE = 74, "BFD strict mode";
    /// draft-abraitis-bgp-version-capability.
    SOFTWARE_VERSION = 75, "software version";
    /// draft-abraitis-idr-addpath-paths-limit.
    PATHS_LIMIT = 76, "paths limit";
    /// Route refresh before RFC 2918 (deprecated).
    OLD_ROUTE_REFRESH = 128, "old route refresh";
}

/// For example `ADD-PATH` or `capability 200`.
impl fmt::Display for CapabilityCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "capability {}", self.0),
        }
    }
}

/// A capability of a speaker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Routes of a family (RFC 4760 §8).
    Multiprotocol(Family),
    /// Accepts ROUTE-REFRESH (RFC 2918 §2).
    RouteRefresh,
    /// Accepts next hops of another address family (RFC 8950 §4).
    ExtendedNextHop(Vec<ExtendedNextHop>),
    /// Accepts messages of up to 65,535 octets, OPEN and KEEPALIVE excepted (RFC 8654 §3).
    ExtendedMessage,
    /// Graceful restart: restarts so itself, or supports peers that do (RFC 4724 §3).
    GracefulRestart(GracefulRestartCapability),
    /// Accepts four-octet AS numbers, and has this one (RFC 6793 §3).
    FourOctetAsn(Asn),
    /// Several paths per prefix, distinguished by path identifiers (RFC 7911 §4). Never offered.
    AddPath(Vec<(Family, AddPath)>),
    /// Marks the beginning and end of a route refresh (RFC 7313 §3.1).
    EnhancedRouteRefresh,
    /// Any other capability, or one of the above with a malformed value.
    Unknown {
        /// The code.
        code: CapabilityCode,
        /// The value, at most 255 octets.
        value: Bytes,
    },
}

/// Routes of `family` may have next hops of another address family (RFC 8950 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ExtendedNextHop {
    /// The family of the routes.
    pub family: Family,
    /// The address family of their next hops.
    pub next_hop: Afi,
}

impl ExtendedNextHop {
    /// IPv4 unicast with IPv6 next hops.
    pub const IPV4_OVER_IPV6: Self = Self {
        family: Family::IPV4_UNICAST,
        next_hop: Afi::IPV6,
    };
}

/// The graceful restart capability (RFC 4724 §3, RFC 8538 §2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GracefulRestartCapability {
    /// The R bit: the sender has restarted; don't wait for its End-of-RIB before sending routes.
    pub restarted: bool,
    /// The N bit: NOTIFICATIONs and hold timer expiry also preserve routes (RFC 8538 §2).
    pub notification: bool,
    /// The time to re-establish the session, in seconds, at most
    /// [`MAX_RESTART_TIME`](Self::MAX_RESTART_TIME).
    pub restart_time: u16,
    /// The families whose routes are preserved, each with the F bit: the sender preserved its
    /// forwarding state.
    pub families: Vec<(Family, bool)>,
}

impl GracefulRestartCapability {
    /// The longest [`restart_time`](Self::restart_time) in seconds; longer times are shortened.
    pub const MAX_RESTART_TIME: u16 = 0x0fff;
    const RESTARTED: u16 = 0x8000;
    const NOTIFICATION: u16 = 0x4000;
    const FORWARDING: u8 = 0x80;
}

/// The direction of ADD-PATH, as seen by the sender of the capability (RFC 7911 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AddPath {
    /// Receives several paths.
    Receive,
    /// Sends several paths.
    Send,
    /// Both.
    Both,
}

impl AddPath {
    fn code(self) -> u8 {
        match self {
            Self::Receive => 1,
            Self::Send => 2,
            Self::Both => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Receive),
            2 => Some(Self::Send),
            3 => Some(Self::Both),
            _ => None,
        }
    }
}

/// For example `ipv4-unicast`, `four-octet AS 65001` or `ADD-PATH ipv4-unicast receive`.
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multiprotocol(family) => write!(f, "{family}"),
            Self::FourOctetAsn(asn) => write!(f, "four-octet AS {asn}"),
            Self::ExtendedNextHop(list) => {
                self.code().fmt(f)?;
                list.iter()
                    .try_for_each(|one| write!(f, " {} over {}", one.family, one.next_hop))
            }
            Self::GracefulRestart(restart) => restart.fmt(f),
            Self::AddPath(list) => {
                self.code().fmt(f)?;
                list.iter().try_for_each(|(family, direction)| {
                    let direction = match direction {
                        AddPath::Receive => "receive",
                        AddPath::Send => "send",
                        AddPath::Both => "both",
                    };
                    write!(f, " {family} {direction}")
                })
            }
            _ => self.code().fmt(f),
        }
    }
}

/// For example `graceful restart 20 s, restarted, ipv4-unicast (forwarding)`.
impl fmt::Display for GracefulRestartCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = CapabilityCode::GRACEFUL_RESTART;
        write!(f, "{code} {} s", self.restart_time)?;
        if self.restarted {
            f.write_str(", restarted")?;
        }
        if self.notification {
            f.write_str(", with notification")?;
        }
        self.families.iter().try_for_each(|(family, forwarding)| {
            write!(
                f,
                ", {family}{}",
                if *forwarding { " (forwarding)" } else { "" }
            )
        })
    }
}

impl Capability {
    /// The code on the wire.
    pub fn code(&self) -> CapabilityCode {
        match self {
            Self::Multiprotocol(_) => CapabilityCode::MULTIPROTOCOL,
            Self::RouteRefresh => CapabilityCode::ROUTE_REFRESH,
            Self::ExtendedNextHop(_) => CapabilityCode::EXTENDED_NEXT_HOP,
            Self::ExtendedMessage => CapabilityCode::EXTENDED_MESSAGE,
            Self::GracefulRestart(_) => CapabilityCode::GRACEFUL_RESTART,
            Self::FourOctetAsn(_) => CapabilityCode::FOUR_OCTET_ASN,
            Self::AddPath(_) => CapabilityCode::ADD_PATH,
            Self::EnhancedRouteRefresh => CapabilityCode::ENHANCED_ROUTE_REFRESH,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Appends code, length and value; nothing if the value exceeds 255 octets.
    pub(super) fn put(&self, buffer: &mut BytesMut) {
        let value = self.value();
        if let Ok(length) = u8::try_from(value.len()) {
            buffer.put_u8(self.code().0);
            buffer.put_u8(length);
            buffer.put_slice(&value);
        }
    }

    fn value(&self) -> BytesMut {
        let mut value = BytesMut::new();
        match self {
            Self::Multiprotocol(Family { afi, safi }) => {
                value.put_u16(afi.0);
                value.put_u8(0);
                value.put_u8(safi.0);
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::ExtendedNextHop(list) => {
                for one in list {
                    value.put_u16(one.family.afi.0);
                    value.put_u16(one.family.safi.0.into());
                    value.put_u16(one.next_hop.0);
                }
            }
            Self::GracefulRestart(restart) => put_graceful_restart(&mut value, restart),
            Self::FourOctetAsn(asn) => value.put_u32(asn.0),
            Self::AddPath(list) => {
                for (family, direction) in list {
                    value.put_u16(family.afi.0);
                    value.put_slice(&[family.safi.0, direction.code()]);
                }
            }
            Self::Unknown { value: octets, .. } => value.put_slice(octets),
        }
        value
    }

    /// Decodes a value.
    ///
    /// A wrong length of multiprotocol, route refresh or four-octet AS is an error
    /// (RFC 4271 §6.2). Another malformed capability is kept as octets, as if the speaker didn't
    /// offer it, since that is no reason to reject the session (RFC 5492 §3, RFC 7911 §4).
    pub(super) fn decode(code: CapabilityCode, value: &[u8]) -> Result<Self, DecodeError> {
        let known = match code {
            CapabilityCode::MULTIPROTOCOL => multiprotocol(value)
                .map(Some)
                .ok_or(DecodeError::MalformedOpen)?,
            CapabilityCode::ROUTE_REFRESH if value.is_empty() => Some(Self::RouteRefresh),
            CapabilityCode::ROUTE_REFRESH => return Err(DecodeError::MalformedOpen),
            CapabilityCode::FOUR_OCTET_ASN => {
                let number: [u8; 4] = value.try_into().map_err(|_| DecodeError::MalformedOpen)?;
                Some(Self::FourOctetAsn(Asn(u32::from_be_bytes(number))))
            }
            CapabilityCode::EXTENDED_NEXT_HOP => {
                list(value, extended_next_hop).map(Self::ExtendedNextHop)
            }
            CapabilityCode::EXTENDED_MESSAGE => value.is_empty().then_some(Self::ExtendedMessage),
            CapabilityCode::GRACEFUL_RESTART => graceful_restart(value).map(Self::GracefulRestart),
            CapabilityCode::ADD_PATH => list(value, add_path).map(Self::AddPath),
            CapabilityCode::ENHANCED_ROUTE_REFRESH => {
                value.is_empty().then_some(Self::EnhancedRouteRefresh)
            }
            _ => None,
        };
        Ok(known.unwrap_or_else(|| Self::Unknown {
            code,
            value: Bytes::copy_from_slice(value),
        }))
    }
}

fn put_graceful_restart(value: &mut BytesMut, restart: &GracefulRestartCapability) {
    type Restart = GracefulRestartCapability;
    let mut flags = restart.restart_time.min(Restart::MAX_RESTART_TIME);
    if restart.restarted {
        flags |= Restart::RESTARTED;
    }
    if restart.notification {
        flags |= Restart::NOTIFICATION;
    }
    value.put_u16(flags);
    for (family, forwarding) in &restart.families {
        value.put_u16(family.afi.0);
        value.put_u8(family.safi.0);
        value.put_u8(if *forwarding { Restart::FORWARDING } else { 0 });
    }
}

fn multiprotocol(value: &[u8]) -> Option<Capability> {
    let [high, low, _reserved, safi] = *value else {
        return None;
    };
    let afi = Afi(u16::from_be_bytes([high, low]));
    let safi = Safi(safi);
    Some(Capability::Multiprotocol(Family { afi, safi }))
}

/// Decodes a list of elements; `None` if one is malformed or octets remain.
fn list<T>(mut value: &[u8], element: impl Fn(&[u8]) -> Parsed<'_, T>) -> Option<Vec<T>> {
    let mut list = Vec::new();
    while !value.is_empty() {
        let (tail, one) = element(value).ok()?;
        list.push(one);
        value = tail;
    }
    Some(list)
}

/// RFC 8950 §4. The SAFI has two octets here; the first is zero.
fn extended_next_hop(input: &[u8]) -> Parsed<'_, ExtendedNextHop> {
    let (tail, (afi, safi, next_hop)) = (be_u16, be_u16, be_u16).parse(input)?;
    let safi = u8::try_from(safi).map_err(|_| nom::Err::Error(()))?;
    let family = Family {
        afi: Afi(afi),
        safi: Safi(safi),
    };
    let next_hop = Afi(next_hop);
    Ok((tail, ExtendedNextHop { family, next_hop }))
}

/// A family and one octet of flags.
fn family_and_octet(input: &[u8]) -> Parsed<'_, (Family, u8)> {
    let (tail, (afi, safi, octet)) = (be_u16, be_u8, be_u8).parse(input)?;
    let family = Family {
        afi: Afi(afi),
        safi: Safi(safi),
    };
    Ok((tail, (family, octet)))
}

/// RFC 7911 §4.
fn add_path(input: &[u8]) -> Parsed<'_, (Family, AddPath)> {
    let (tail, (family, direction)) = family_and_octet(input)?;
    let direction = AddPath::from_code(direction).ok_or(nom::Err::Error(()))?;
    Ok((tail, (family, direction)))
}

/// RFC 4724 §3, RFC 8538 §2.
fn graceful_restart(value: &[u8]) -> Option<GracefulRestartCapability> {
    type Restart = GracefulRestartCapability;
    let (flags, families) = value.split_first_chunk::<2>()?;
    let flags = u16::from_be_bytes(*flags);
    let families = list(families, family_and_octet)?;
    let kept = |(family, flags)| (family, flags & Restart::FORWARDING != 0);
    Some(Restart {
        restarted: flags & Restart::RESTARTED != 0,
        notification: flags & Restart::NOTIFICATION != 0,
        restart_time: flags & Restart::MAX_RESTART_TIME,
        families: families.into_iter().map(kept).collect(),
    })
}

#[cfg(test)]
mod tests;
