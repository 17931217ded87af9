//! Prefixes on the wire: a length in bits and as many octets as those need (RFC 4271 §4.3).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Octets that a prefix of `length` bits takes after its length.
#[inline]
fn octets(length: u8) -> usize {
    usize::from(length.div_ceil(8))
}

/// Octets of the longest prefix on the wire.
pub(super) const LONGEST_PREFIX: usize = 17;

/// Octets that a prefix of `length` bits takes on the wire.
#[inline]
pub(super) fn encoded_length(length: u8) -> usize {
    1 + octets(length)
}

/// One prefix: its length and `N` octets of address, of which those beyond the length are anything;
/// and what comes after it. A length of more than `N` octets is refused.
#[inline]
fn prefix<const N: usize>(input: &[u8]) -> Option<(u8, [u8; N], &[u8])> {
    let (&length, input) = input.split_first()?;
    // All but the last prefixes have a whole address behind them, which is quicker to take whole;
    // of single addresses, the most usual, nothing is left over.
    if let Some((address, tail)) = input.split_first_chunk()
        && usize::from(length) == N * 8
    {
        return Some((length, *address, tail));
    }
    if usize::from(length) > N * 8 {
        return None;
    }
    let (given, tail) = input.split_at_checked(octets(length))?;
    let address = input.first_chunk().copied().unwrap_or_else(|| {
        let mut address = [0; N];
        address[..given.len()].copy_from_slice(given);
        address
    });
    Some((length, address, tail))
}

/// Every prefix of an IPv4 field, host bits cleared; none if one of them cannot be delimited. With
/// `ids` each comes after a path identifier, which goes there (RFC 7911 §3).
pub(super) fn ipv4_prefixes<P: From<Ipv4Net>>(
    input: &[u8],
    ids: Option<&mut Vec<u32>>,
) -> Option<Vec<P>> {
    prefixes(input, ids, |length, address: [u8; 4]| {
        let prefix = Ipv4Net::new(Ipv4Addr::from(address), length).ok()?;
        // Single addresses are the most usual and have no host bits.
        let prefix = if length == 32 { prefix } else { prefix.trunc() };
        Some(prefix.into())
    })
}

/// Every prefix of an IPv6 field, likewise.
pub(super) fn ipv6_prefixes(input: &[u8], ids: Option<&mut Vec<u32>>) -> Option<Vec<IpNet>> {
    prefixes(input, ids, |length, address: [u8; 16]| {
        let prefix = Ipv6Net::new(Ipv6Addr::from(address), length).ok()?;
        let prefix = if length == 128 {
            prefix
        } else {
            prefix.trunc()
        };
        Some(prefix.into())
    })
}

fn prefixes<const N: usize, P>(
    mut input: &[u8],
    mut ids: Option<&mut Vec<u32>>,
    make: impl Fn(u8, [u8; N]) -> Option<P>,
) -> Option<Vec<P>> {
    // What single addresses need; the guess never exceeds what arrived.
    let mut prefixes = Vec::with_capacity(input.len() / (N + 1));
    while !input.is_empty() {
        if let Some(ids) = &mut ids {
            let (id, tail) = input.split_first_chunk()?;
            ids.push(u32::from_be_bytes(*id));
            input = tail;
        }
        let (length, address, tail) = prefix(input)?;
        prefixes.push(make(length, address)?);
        input = tail;
    }
    Some(prefixes)
}

/// Whether hosts can have addresses of the prefix: not multicast, not reserved, not link-local.
pub(super) fn is_unicast(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(prefix) => is_ipv4_unicast(prefix),
        IpNet::V6(prefix) => {
            !prefix.addr().is_multicast() && !prefix.addr().is_unicast_link_local()
        }
    }
}

/// The same of an IPv4 prefix.
pub(super) fn is_ipv4_unicast(prefix: &Ipv4Net) -> bool {
    prefix.addr().octets()[0] < 224
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_cleared() {
        let read: Vec<IpNet> = ipv4_prefixes(&[0x17, 0xc6, 0x33, 0x65], None).unwrap();
        assert_eq!(read, ["198.51.100.0/23".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn lengths_at_the_edges() {
        assert_eq!(
            ipv4_prefixes::<IpNet>(&[0], None),
            Some(vec!["0.0.0.0/0".parse().unwrap()])
        );
        assert_eq!(ipv4_prefixes::<IpNet>(&[33, 1, 2, 3, 4, 5], None), None);
        assert_eq!(ipv4_prefixes::<IpNet>(&[32, 1, 2, 3], None), None);
        assert_eq!(
            ipv6_prefixes(&[0], None),
            Some(vec!["::/0".parse().unwrap()])
        );
        assert_eq!(ipv6_prefixes(&[129; 18], None), None);
        assert_eq!(ipv6_prefixes(&[128; 16], None), None);
        assert_eq!(
            ipv6_prefixes(&[128; 17], None).map(|prefixes| prefixes.len()),
            Some(1)
        );
    }

    /// RFC 7911 §3.
    #[test]
    fn path_identifiers_stand_before_their_prefixes() {
        let mut ids = Vec::new();
        let read: Option<Vec<IpNet>> =
            ipv4_prefixes(&[0, 0, 0, 7, 8, 10, 1, 0, 0, 0, 8, 10], Some(&mut ids));
        assert_eq!(read, Some(vec!["10.0.0.0/8".parse().unwrap(); 2]));
        assert_eq!(ids, [7, 0x0100_0000]);
        for cut in [&[0, 0, 0][..], &[0, 0, 0, 7], &[0, 0, 0, 7, 8]] {
            assert_eq!(ipv6_prefixes(cut, Some(&mut Vec::new())), None);
        }
    }
}
