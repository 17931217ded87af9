//! The session parameters that the codec depends on.

use super::MAX_LENGTH;
use super::family::Family;

/// Session parameters that change the decoding of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeContext {
    /// AS numbers in AS_PATH and AGGREGATOR have four octets (RFC 6793).
    pub four_octet_asn: bool,
    /// The peer is in our AS.
    pub ibgp: bool,
    /// The negotiated families; routes of other families are discarded (RFC 4760 §6).
    pub families: Vec<Family>,
    /// The session runs over the loopback. Only there are 127.0.0.0/8 and `::1` valid next hops
    /// (RFC 4271 §6.3).
    pub loopback: bool,
    /// The longest message in octets. OPEN and KEEPALIVE never exceed 4096 (RFC 8654 §4).
    pub max_length: usize,
    /// IPv4 unicast routes may have IPv6 next hops (RFC 8950).
    pub ipv4_next_hop_v6: bool,
    /// ROUTE-REFRESH has the subtypes and errors of RFC 7313.
    pub enhanced_route_refresh: bool,
}

/// Before negotiation: an external peer, two-octet AS numbers, IPv4 unicast.
impl Default for DecodeContext {
    fn default() -> Self {
        Self {
            four_octet_asn: false,
            ibgp: false,
            families: vec![Family::IPV4_UNICAST],
            loopback: false,
            max_length: MAX_LENGTH,
            ipv4_next_hop_v6: false,
            enhanced_route_refresh: false,
        }
    }
}

/// Session parameters that change the encoding of UPDATEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodeContext {
    /// AS numbers in AS_PATH and AGGREGATOR have four octets (RFC 6793).
    pub four_octet_asn: bool,
    /// The longest message in octets.
    pub max_length: usize,
}

/// Four-octet AS numbers, messages of up to 4096 octets.
impl Default for EncodeContext {
    fn default() -> Self {
        Self {
            four_octet_asn: true,
            max_length: MAX_LENGTH,
        }
    }
}
