//! Converts a message to the canonical form, the one that this crate sends, from its octets alone
//! and without the decoder.
//!
//! The canonical form of an UPDATE is up to four UPDATEs, one for each field with prefixes
//! (RFC 7606 §5.1): attributes in the order of their type codes, MP_REACH_NLRI first, with the
//! specified flags and the short length if it fits; AS_PATH in as few segments as possible;
//! communities sorted; no non-transitive attributes; no host bits.

use std::collections::BTreeSet;

use ferrolb_bgp::wire::{
    DecodeContext, EncodeContext, Family, Message, NextHop, Update, UpdateBuilder, end_of_rib,
    keepalive,
};
use ipnet::IpNet;

use super::attributes::attributes;

/// The canonical messages; `None` if the decoder changes the meaning (it merges AS4_PATH).
fn canonical(message: &[u8], context: &DecodeContext) -> Option<Vec<Vec<u8>>> {
    match message[18] {
        1 => Some(vec![open(message)]),
        2 => update(&message[19..], context),
        _ => Some(vec![message.to_vec()]),
    }
}

/// All capabilities in one parameter, reserved bits cleared.
fn open(message: &[u8]) -> Vec<u8> {
    let (fixed, parameters) = message[19..].split_at(9);
    let (wide, mut rest) = match parameters {
        [length, 255, _, _, rest @ ..] if *length > 0 => (true, rest),
        parameters => (false, &parameters[1..]),
    };
    let mut capabilities = Vec::new();
    while let [_, tail @ ..] = rest {
        let (length, tail) = match wide {
            true => (usize::from(tail[0]) << 8 | usize::from(tail[1]), &tail[2..]),
            false => (usize::from(tail[0]), &tail[1..]),
        };
        capabilities.extend_from_slice(&tail[..length]);
        rest = &tail[length..];
    }
    let mut at = 0;
    while at < capabilities.len() {
        let (code, length) = (capabilities[at], usize::from(capabilities[at + 1]));
        let value = &mut capabilities[at + 2..at + 2 + length];
        match code {
            1 => value[2] = 0,
            64 if length >= 2 && length % 4 == 2 => {
                value[0] &= 0xcf;
                (5..length).step_by(4).for_each(|at| value[at] &= 0x80);
            }
            _ => {}
        }
        at += 2 + length;
    }
    let short = |length: usize| u8::try_from(length).ok();
    let head = match (short(capabilities.len() + 2), short(capabilities.len())) {
        _ if capabilities.is_empty() => vec![0],
        (Some(outer), Some(inner)) => vec![outer, 2, inner],
        _ => {
            let length = u16::try_from(capabilities.len()).unwrap();
            let [a, b] = (length + 3).to_be_bytes();
            let [c, d] = length.to_be_bytes();
            vec![255, 255, a, b, 2, c, d]
        }
    };
    whole(1, &[fixed, &head, &capabilities])
}

fn whole(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u16::try_from(19 + body.len()).unwrap().to_be_bytes();
    [&[0xff; 16][..], &length, &[kind], &body].concat()
}

fn with_length(field: &[u8]) -> Vec<u8> {
    let length = u16::try_from(field.len()).unwrap().to_be_bytes();
    [&length, field].concat()
}

/// One UPDATE from its three fields.
fn put_update(withdrawn: &[u8], attributes: &[Attribute], nlri: &[u8]) -> Vec<u8> {
    let attributes: Vec<u8> = attributes.iter().flat_map(Attribute::octets).collect();
    whole(
        2,
        &[&with_length(withdrawn), &with_length(&attributes), nlri],
    )
}

struct Attribute(u8, u8, Vec<u8>);

impl Attribute {
    fn octets(&self) -> Vec<u8> {
        let Self(flags, code, value) = self;
        match u8::try_from(value.len()) {
            Ok(length) => [&[*flags, *code, length], &value[..]].concat(),
            Err(_) => [vec![flags | 0x10, *code], with_length(value)].concat(),
        }
    }
}

/// The prefixes of a field with their host bits cleared.
fn prefixes(mut field: &[u8]) -> Vec<Vec<u8>> {
    let mut prefixes = Vec::new();
    while let [length, tail @ ..] = field {
        let (address, tail) = tail.split_at(usize::from(length.div_ceil(8)));
        let mut prefix = [&[*length], address].concat();
        if let (Some(last), bits @ 1..) = (prefix.last_mut(), length % 8) {
            *last &= 0xff << (8 - bits);
        }
        prefixes.push(prefix);
        field = tail;
    }
    prefixes
}

fn without(prefixes: Vec<Vec<u8>>, others: &[Vec<u8>]) -> Vec<u8> {
    let others: BTreeSet<_> = others.iter().collect();
    let kept = prefixes.iter().filter(|prefix| !others.contains(prefix));
    kept.flatten().copied().collect()
}

fn update(body: &[u8], context: &DecodeContext) -> Option<Vec<Vec<u8>>> {
    let cut = |body: &[u8]| {
        let length = usize::from(body[0]) << 8 | usize::from(body[1]);
        let (field, rest) = body[2..].split_at(length);
        (field.to_vec(), rest.to_vec())
    };
    let (withdrawn, rest) = cut(body);
    let (field, nlri) = cut(&rest);
    let all = attributes(&field)?;
    if all.iter().any(|one| matches!(one.code, 17 | 18)) {
        return None;
    }
    let value = |code| all.iter().find(|one| one.code == code).map(|one| one.value);
    let mut shared: Vec<_> = all
        .iter()
        .filter(|one| !matches!(one.code, 14 | 15))
        .filter_map(|one| attribute(one.octets[0], one.code, one.value, context))
        .collect();
    shared.sort_by_key(|one| one.1);
    let reach = value(14).map(|value| {
        let (next_hop, nlri) = value[4..].split_at(value[3].into());
        (value[1], next_hop, prefixes(&nlri[1..]))
    });
    let (withdrawn, nlri) = (prefixes(&withdrawn), prefixes(&nlri));
    let mut messages = Vec::new();
    let mut add = |withdrawn: &[u8], attributes: &[Attribute], nlri: &[u8]| {
        messages.push(put_update(withdrawn, attributes, nlri));
    };
    let gone = without(withdrawn, &nlri);
    if !gone.is_empty() {
        add(&gone, &[], &[]);
    }
    if !nlri.is_empty() {
        add(&[], &shared, &nlri.concat());
    }
    if let Some([_, afi, safi, gone @ ..]) = value(15) {
        let others = reach.as_ref().map_or(&[][..], |(.., nlri)| nlri);
        let gone = without(prefixes(gone), others);
        match (afi, gone.is_empty()) {
            (1, false) => add(&gone, &[], &[]),
            (_, false) => {
                let value = [&[0, *afi, *safi][..], &gone].concat();
                add(&[], &[Attribute(0x80, 15, value)], &[]);
            }
            (1, true) if all.len() == 1 => {
                return Some(vec![end_of_rib(Family::IPV4_UNICAST).to_vec()]);
            }
            (_, true) if all.len() == 1 => {
                add(&[], &[Attribute(0x80, 15, vec![0, *afi, *safi])], &[])
            }
            _ => {}
        }
    }
    if let Some((afi, next_hop, nlri)) = reach
        && !nlri.is_empty()
    {
        shared.retain(|one| one.1 != 3);
        let nlri = nlri.concat();
        if next_hop.len() == 4 {
            shared.push(Attribute(0x40, 3, next_hop.to_vec()));
            shared.sort_by_key(|one| one.1);
            add(&[], &shared, &nlri);
        } else {
            // The second address is used if it is link-local.
            let both =
                matches!(next_hop.get(16..18), Some([0xfe, second]) if second & 0xc0 == 0x80);
            let next_hop = &next_hop[..if both { 32 } else { 16 }];
            let length = u8::try_from(next_hop.len()).unwrap();
            let value = [&[0, afi, 1, length][..], next_hop, &[0], &nlri].concat();
            shared.insert(0, Attribute(0x80, 14, value));
            add(&[], &shared, &[]);
        }
    }
    if body == [0; 4] {
        messages.push(put_update(&[], &[], &[]));
    }
    Some(messages)
}

/// The canonical attribute; `None` if it is not passed on.
fn attribute(flags: u8, code: u8, value: &[u8], context: &DecodeContext) -> Option<Attribute> {
    let set = |width| {
        let elements: BTreeSet<_> = value.chunks(width).collect();
        elements.into_iter().flatten().copied().collect()
    };
    let value = match code {
        2 => as_path(value, if context.four_octet_asn { 4 } else { 2 }),
        8 => set(4),
        16 => set(8),
        25 => set(20),
        32 => set(12),
        _ => value.to_vec(),
    };
    let flags = match code {
        1..=3 | 5 | 6 => 0x40,
        4 => 0x80,
        7 | 8 | 16 | 25 | 32 => 0xc0,
        9 | 10 => flags & 0xef,
        _ if flags & 0x40 == 0 => return None,
        _ => flags & 0xef,
    };
    Some(Attribute(flags, code, value))
}

fn as_path(mut value: &[u8], width: usize) -> Vec<u8> {
    let mut asns = Vec::new();
    while let [_sequence, count, tail @ ..] = value {
        let (segment, tail) = tail.split_at(usize::from(*count) * width);
        asns.extend(segment.chunks(width));
        value = tail;
    }
    let segment = |asns: &[&[u8]]| {
        let count = u8::try_from(asns.len()).unwrap();
        [&[2, count][..], &asns.concat()].concat()
    };
    asns.chunks(255).flat_map(segment).collect()
}

/// The messages that this crate encodes for a decoded message.
fn emitted(message: &Message, context: &DecodeContext) -> Vec<Vec<u8>> {
    match message {
        Message::Open(open) => vec![open.encode().to_vec()],
        Message::Update(update) => emitted_update(update, context),
        Message::Notification(notification) => vec![notification.encode().to_vec()],
        Message::Keepalive => vec![keepalive().to_vec()],
        Message::RouteRefresh(refresh) => vec![refresh.encode().to_vec()],
    }
}

fn emitted_update(update: &Update, context: &DecodeContext) -> Vec<Vec<u8>> {
    let encode = EncodeContext {
        four_octet_asn: context.four_octet_asn,
        max_length: 65_535,
    };
    if let Some(family) = update.end_of_rib() {
        return vec![end_of_rib(family).to_vec()];
    }
    let mut messages = Vec::new();
    let mut pack = |mut builder: UpdateBuilder, prefixes: &[IpNet]| {
        assert!(prefixes.iter().all(|prefix| builder.push(prefix)));
        if !prefixes.is_empty() {
            messages.push(builder.finish().to_vec());
        }
    };
    let v4 = |prefixes: &[ipnet::Ipv4Net]| -> Vec<IpNet> {
        prefixes.iter().copied().map(IpNet::V4).collect()
    };
    let withdraw = |family| UpdateBuilder::withdraw(family, &encode).unwrap();
    let announce = |family, next_hop: &NextHop| {
        UpdateBuilder::announce(family, &update.attributes, next_hop, &encode).unwrap()
    };
    pack(withdraw(Family::IPV4_UNICAST), &v4(&update.withdrawn));
    if let Some(next_hop) = update.attributes.next_hop {
        let builder = announce(Family::IPV4_UNICAST, &NextHop::V4(next_hop));
        pack(builder, &v4(&update.nlri));
    }
    if let Some(unreach) = &update.mp_unreach {
        pack(withdraw(unreach.family), &unreach.nlri);
    }
    if let Some(reach) = &update.mp_reach {
        pack(announce(reach.family, &reach.next_hop), &reach.nlri);
    }
    messages
}

/// Whether the message has no encoder here: ROUTE-REFRESH of an ignored subtype and length.
fn has_no_encoder(message: &Message, octets: &[u8]) -> bool {
    matches!(message, Message::RouteRefresh(_)) && octets.len() != 23
}

/// Decodes a message and checks that it encodes to the canonical form. Returns whether the message
/// had that form; `None` if it is malformed or has no encoder.
pub(super) fn checked(octets: &[u8], context: &DecodeContext) -> Option<bool> {
    match Message::decode(octets, context)? {
        Ok(message) => {
            let faulty = matches!(&message, Message::Update(update) if !update.errors.is_empty());
            if faulty || has_no_encoder(&message, octets) {
                return None;
            }
            let expected = canonical(octets, context)?;
            assert_eq!(emitted(&message, context), expected, "{message:?}");
            Some(expected == [octets])
        }
        Err(error) => {
            let notification = error.notification().encode();
            let again = Message::decode(&notification, context);
            assert!(
                matches!(again, Some(Ok(Message::Notification(_)))),
                "{error}"
            );
            None
        }
    }
}
