//! Attributes in any order, omitted, repeated, with any flags, and a malformed one at any position:
//! none of it resets the session, and the other attributes are still decoded.
#![allow(clippy::unwrap_used)] // a failure fails the test

use ferrolb_bgp::wire::{DecodeContext, Message, Treatment, Update};

/// ORIGIN, AS_PATH, NEXT_HOP, MED, COMMUNITIES, LARGE_COMMUNITIES.
const GOOD: [&[u8]; 6] = [
    &[0x40, 1, 1, 0],
    &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9],
    &[0x40, 3, 4, 10, 99, 1, 1],
    &[0x80, 4, 4, 0, 0, 0, 5],
    &[0xc0, 8, 4, 0xfd, 0xe9, 0, 1],
    &[0xc0, 32, 12, 0, 0, 0xfd, 0xe9, 0, 0, 0, 1, 0, 0, 0, 2],
];
const MANDATORY: usize = 3;
const NLRI: [u8; 4] = [24, 198, 51, 100];

/// `None` if the session would be reset.
fn decode(attributes: &[&[u8]]) -> Option<Update> {
    let attributes = attributes.concat();
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    let body = [&[0, 0][..], &length, &attributes, &NLRI].concat();
    let length = u16::try_from(19 + body.len()).unwrap().to_be_bytes();
    let message = [&[0xff; 16][..], &length, &[2], &body].concat();
    let context = DecodeContext {
        four_octet_asn: true,
        ..DecodeContext::default()
    };
    match Message::decode(&message, &context).unwrap() {
        Ok(Message::Update(update)) => Some(update),
        _ => None,
    }
}

fn permutations(of: &[&'static [u8]]) -> Vec<Vec<&'static [u8]>> {
    let Some((first, rest)) = of.split_first() else {
        return vec![Vec::new()];
    };
    let places = 0..of.len();
    let insert = |rest: Vec<&'static [u8]>| {
        places.clone().map(move |place| {
            let mut all = rest.clone();
            all.insert(place, first);
            all
        })
    };
    permutations(rest).into_iter().flat_map(insert).collect()
}

#[test]
fn attributes_are_accepted_in_any_order_rfc4271_5() {
    let expected = decode(&GOOD).unwrap();
    assert_eq!(expected.announced().count(), 1);
    assert!(expected.errors.is_empty());
    let all = permutations(&GOOD);
    assert_eq!(all.len(), 720);
    for attributes in all {
        assert_eq!(decode(&attributes).as_ref(), Some(&expected));
    }
}

#[test]
fn only_mandatory_attributes_are_required_and_the_first_of_two_counts_rfc7606_3() {
    let expected = decode(&GOOD).unwrap();
    for left_out in 0..GOOD.len() {
        let mut attributes = GOOD.to_vec();
        let one = attributes.remove(left_out);
        let update = decode(&attributes).unwrap();
        let withdraws = update.treatment() == Some(Treatment::TreatAsWithdraw);
        assert_eq!(withdraws, left_out < MANDATORY, "{left_out}");
        assert_eq!(update.announced().count(), usize::from(!withdraws));

        let twice = decode(&[&GOOD[..], &[one]].concat()).unwrap();
        assert_eq!(twice.attributes, expected.attributes);
        assert_eq!(twice.treatment(), Some(Treatment::Discard));
        assert_eq!(twice.announced().count(), 1);
    }
}

#[test]
fn no_flags_reset_the_session_rfc7606_3() {
    for place in 0..GOOD.len() {
        for bit in 0..8 {
            let mut attribute = GOOD[place].to_vec();
            attribute[0] ^= 1 << bit;
            let mut attributes = GOOD.to_vec();
            attributes[place] = &attribute;
            let update = decode(&attributes).expect("the session lives");
            // The four low bits are ignored (RFC 4271 §4.3).
            assert!(bit >= 4 || update.errors.is_empty(), "{place} {bit}");
        }
    }
}

/// CVE-2023-38283: a malformed attribute that was not consumed made the next one malformed too.
#[test]
fn a_malformed_attribute_has_the_same_effect_at_any_position() {
    let bad: [&[u8]; 7] = [
        &[0x40, 1, 2, 0, 0],
        &[0x40, 2, 3, 2, 1, 0],
        &[0x40, 3, 3, 10, 99, 1],
        &[0x80, 4, 3, 0, 0, 5],
        &[0xc0, 8, 5, 0xfd, 0xe9, 0, 1, 0],
        &[0xc0, 32, 11, 0, 0, 0xfd, 0xe9, 0, 0, 0, 1, 0, 0, 0],
        &[0xc0, 16, 7, 0, 2, 0, 0, 0, 0, 0],
    ];
    for bad in bad {
        let others: Vec<&[u8]> = GOOD.into_iter().filter(|good| good[1] != bad[1]).collect();
        let alone = decode(&others).unwrap().attributes;
        for place in 0..=others.len() {
            let mut attributes = others.clone();
            attributes.insert(place, bad);
            let update = decode(&attributes).expect("the session lives");
            assert_eq!(update.treatment(), Some(Treatment::TreatAsWithdraw));
            assert_eq!(update.announced().count(), 0);
            assert_eq!(update.withdrawn_prefixes().count(), 1);
            assert_eq!(update.attributes, alone, "{bad:?} at {place}");
        }
    }
}
