//! Prefixes on the wire: the length in bits, then as many octets as it needs (RFC 4271 §4.3).

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

/// Splits off one prefix: returns its length, `N` octets of address (undefined beyond the length)
/// and the remaining input. `None` for a length of more than `N` octets and for truncated input.
#[inline]
fn prefix<const N: usize>(input: &[u8]) -> Option<(u8, [u8; N], &[u8])> {
    let (&length, input) = input.split_first()?;
    // Fast path: a host route, the most common prefix.
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

/// All prefixes of an IPv4 field, host bits cleared; `None` if one is too long or truncated.
pub(super) fn ipv4_prefixes<P: From<Ipv4Net>>(input: &[u8]) -> Option<Vec<P>> {
    prefixes(input, |length, address: [u8; 4]| {
        let prefix = Ipv4Net::new(Ipv4Addr::from(address), length).ok()?;
        // Host routes, the most common prefixes, have no host bits.
        let prefix = if length == 32 { prefix } else { prefix.trunc() };
        Some(prefix.into())
    })
}

/// All prefixes of an IPv6 field, likewise.
pub(super) fn ipv6_prefixes(input: &[u8]) -> Option<Vec<IpNet>> {
    prefixes(input, |length, address: [u8; 16]| {
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
    make: impl Fn(u8, [u8; N]) -> Option<P>,
) -> Option<Vec<P>> {
    // The capacity for host routes, the most common; it never exceeds the length of the input.
    let mut prefixes = Vec::with_capacity(input.len() / (N + 1));
    while !input.is_empty() {
        let (length, address, tail) = prefix(input)?;
        prefixes.push(make(length, address)?);
        input = tail;
    }
    Some(prefixes)
}

/// Whether the prefix contains addresses of hosts: not multicast, reserved or link-local.
pub(super) fn is_unicast(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(prefix) => is_ipv4_unicast(prefix),
        IpNet::V6(prefix) => {
            !prefix.addr().is_multicast() && !prefix.addr().is_unicast_link_local()
        }
    }
}

/// [`is_unicast`] for an IPv4 prefix.
pub(super) fn is_ipv4_unicast(prefix: &Ipv4Net) -> bool {
    prefix.addr().octets()[0] < 224
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_cleared() {
        let read: Vec<IpNet> = ipv4_prefixes(&[0x17, 0xc6, 0x33, 0x65]).unwrap();
        assert_eq!(read, ["198.51.100.0/23".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn prefix_lengths_beyond_the_address_are_rejected() {
        assert_eq!(
            ipv4_prefixes::<IpNet>(&[0]),
            Some(vec!["0.0.0.0/0".parse().unwrap()])
        );
        assert_eq!(ipv4_prefixes::<IpNet>(&[33, 1, 2, 3, 4, 5]), None);
        assert_eq!(ipv4_prefixes::<IpNet>(&[32, 1, 2, 3]), None);
        assert_eq!(ipv6_prefixes(&[0]), Some(vec!["::/0".parse().unwrap()]));
        assert_eq!(ipv6_prefixes(&[129; 18]), None);
        assert_eq!(ipv6_prefixes(&[128; 16]), None);
        assert_eq!(
            ipv6_prefixes(&[128; 17]).map(|prefixes| prefixes.len()),
            Some(1)
        );
    }
}
