//! Which of two connections to the same peer stays (RFC 4271 §6.8, RFC 6286 §2.3).

use std::net::Ipv4Addr;

use crate::wire::Asn;

/// Who dialled the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We did.
    Ours,
    /// The peer did.
    Theirs,
}

/// One end of the session, as far as a collision asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// BGP identifier, compared as a number in host order. Compared first.
    pub router_id: Ipv4Addr,
    /// AS number: between different ASes equal identifiers are legal, and then the larger AS wins.
    pub asn: Asn,
}

/// Whose connection stays: that of the side with the higher identifier, or else the higher AS.
///
/// Both ends come to the same answer, each from its own view.
#[must_use]
pub fn winner(ours: Identity, theirs: Identity) -> Side {
    if ours > theirs {
        Side::Ours
    } else {
        Side::Theirs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(router_id: [u8; 4], asn: u32) -> Identity {
        Identity {
            router_id: router_id.into(),
            asn: Asn(asn),
        }
    }

    #[test]
    fn the_higher_router_id_keeps_its_own_connection() {
        let low = identity([9, 255, 255, 255], 65001);
        let high = identity([10, 0, 0, 1], 65000);
        assert_eq!(winner(low, high), Side::Theirs);
        assert_eq!(winner(high, low), Side::Ours);
        // As numbers, not octet-swapped: 1.0.0.2 > 1.0.0.1, 2.0.0.1 > 1.0.0.2.
        assert_eq!(
            winner(identity([2, 0, 0, 1], 1), identity([1, 0, 0, 2], 1)),
            Side::Ours
        );
        assert_eq!(
            winner(identity([200, 0, 0, 1], 1), identity([100, 0, 0, 1], 1)),
            Side::Ours
        );
    }

    #[test]
    fn equal_router_ids_are_told_apart_by_as_number() {
        let low = identity([10, 0, 0, 1], 65001);
        let high = identity([10, 0, 0, 1], 4_200_000_000);
        assert_eq!(winner(low, high), Side::Theirs);
        assert_eq!(winner(high, low), Side::Ours);
    }
}
