//! Encodes a table from the beginning, without a session: for monitoring (RFC 7854 §5).

use bytes::Bytes;
use ipnet::IpNet;

use super::chunk::path_attributes;
use super::{Route, SessionEncoding};
use crate::wire::{EncodeContext, Family, UpdateBuilder, end_of_rib};

/// The UPDATEs with which a peer gets these routes, and End-of-RIB for each family. Routes that it
/// can't get, for want of a next hop or because of their length, are left out.
#[must_use]
pub fn table_updates(encoding: &SessionEncoding, mut routes: Vec<(IpNet, Route)>) -> Vec<Bytes> {
    let context = EncodeContext {
        four_octet_asn: encoding.four_octet_asn,
        max_length: encoding.max_length,
    };
    routes.sort_unstable_by(|(a, a_route), (b, b_route)| {
        let families = a.addr().is_ipv6().cmp(&b.addr().is_ipv6());
        families
            .then_with(|| a_route.cmp(b_route))
            .then_with(|| a.cmp(b))
    });
    let mut messages = Vec::new();
    let same = |(a, a_route): &(IpNet, Route), (b, b_route): &(IpNet, Route)| {
        Family::of(a) == Family::of(b) && a_route == b_route
    };
    for run in routes.chunk_by(same) {
        let Some((prefix, route)) = run.first() else {
            continue;
        };
        let family = Family::of(prefix);
        let attributes = path_attributes(route, encoding);
        let next_hop = encoding.next_hop(family);
        let builder = next_hop.and_then(|next_hop| {
            UpdateBuilder::announce(family, &attributes, &next_hop, &context).ok()
        });
        let Some(mut builder) = builder else {
            continue;
        };
        for (prefix, _) in run {
            if !builder.push(prefix) {
                messages.push(builder.finish());
                // An empty message has room for any prefix.
                builder.push(prefix);
            }
        }
        messages.push(builder.finish());
    }
    messages.extend(encoding.families.iter().map(|family| end_of_rib(*family)));
    messages
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::rib::RouteAttributes;
    use crate::wire::{Asn, DecodeContext, Message, NextHop, Update};

    fn encoding() -> SessionEncoding {
        SessionEncoding {
            families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
            ebgp: Some(Asn(64512)),
            four_octet_asn: true,
            max_length: 4096,
            ipv4_next_hop: Some(NextHop::V4(Ipv4Addr::new(10, 0, 0, 11))),
            ipv6_next_hop: None,
            enhanced_route_refresh: false,
        }
    }

    fn decode(octets: &Bytes) -> Update {
        let context = DecodeContext {
            four_octet_asn: true,
            families: encoding().families,
            ..DecodeContext::default()
        };
        match Message::decode(octets, &context) {
            Some(Ok(Message::Update(update))) => update,
            other => panic!("{other:?}"),
        }
    }

    /// 3,000 prefixes with two routes in turn. IPv6 has no next hop.
    #[test]
    fn a_table_takes_few_messages_and_ends_with_the_end_of_each_family() {
        let route = |med| {
            Arc::new(RouteAttributes {
                med: Some(med),
                ..RouteAttributes::default()
            })
        };
        let prefix = |number: u32| {
            let address = Ipv4Addr::from(0x0a00_0000 + number);
            IpNet::new(address.into(), 32).unwrap()
        };
        let mut routes: Vec<_> = (0..3000).map(|n| (prefix(n), route(n % 2))).collect();
        routes.push(("2001:db8::1/128".parse().unwrap(), route(0)));
        let messages = table_updates(&encoding(), routes);
        let (ends, updates) = messages
            .split_last_chunk::<2>()
            .map(|(a, b)| (b, a))
            .unwrap();
        assert_eq!(
            ends.clone(),
            [Family::IPV4_UNICAST, Family::IPV6_UNICAST].map(end_of_rib)
        );
        assert!(updates.len() < 10, "{}", updates.len());
        let mut found = BTreeMap::new();
        for update in updates.iter().map(decode) {
            for announced in update.announced() {
                assert!(found.insert(announced, update.attributes.med).is_none());
            }
        }
        let expected = (0..3000).map(|n| (prefix(n), Some(n % 2)));
        assert_eq!(found, expected.collect());
    }
}
