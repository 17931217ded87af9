//! The decoder's reaction to each rule of `docs/bgp-errors.md`. The name of a test begins with the
//! rule: U for the message, F for any attribute, A and the type code for one attribute.

mod as_path;
mod basic_attributes;
mod flags;
mod message;
mod multiprotocol;
mod other_attributes;

use super::*;
use crate::wire::{
    AsPath, Asn, AttributeErrorKind, AttributeType, Community, DecodeContext, DecodeError,
    ExtendedCommunity, LargeCommunity, MAX_EXTENDED_LENGTH, Message, NextHop, Origin,
};

const ORIGIN: &str = "40010100";
const AS_PATH: &str = "40020602010000fde9";
const NEXT_HOP: &str = "4003040a630101";
/// The mandatory attributes: ORIGIN, AS_PATH and NEXT_HOP.
const BASE: &str = "40010100 40020602010000fde9 4003040a630101";
/// 198.51.1.0/24.
const P: &str = "18c63301";
/// 2001:db8:a::9/128 with next hop fd99:1::1.
const REACH: &str = "800e26 0002 01 10 fd990001000000000000000000000001 00 \
                     80 20010db8000a00000000000000000009";

fn octets(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn ebgp() -> DecodeContext {
    DecodeContext {
        four_octet_asn: true,
        ibgp: false,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ..DecodeContext::default()
    }
}

fn ibgp() -> DecodeContext {
    DecodeContext {
        ibgp: true,
        ..ebgp()
    }
}

fn two_octet() -> DecodeContext {
    DecodeContext {
        four_octet_asn: false,
        ..ebgp()
    }
}

fn decode_body(body: &[u8], context: &DecodeContext) -> Result<Update, DecodeError> {
    let length = u16::try_from(19 + body.len()).unwrap();
    let message = [&[0xff; 16][..], &length.to_be_bytes(), &[2], body].concat();
    match Message::decode(&message, context) {
        Some(Ok(Message::Update(update))) => Ok(update),
        Some(Err(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn fields(withdrawn: &str, attributes: &str, nlri: &str) -> Vec<u8> {
    let field = |hex| {
        let octets = octets(hex);
        let length = u16::try_from(octets.len()).unwrap().to_be_bytes();
        [&length[..], &octets].concat()
    };
    [field(withdrawn), field(attributes), octets(nlri)].concat()
}

fn decode_with(context: &DecodeContext, attributes: &str, nlri: &str) -> Update {
    decode_body(&fields("", attributes, nlri), context).expect("the session survives")
}

/// Announces P with `attributes` to an external peer.
fn decode(attributes: &str) -> Update {
    decode_with(&ebgp(), attributes, P)
}

/// Announces P with the mandatory attributes and `extra`.
fn with(extra: &str) -> Update {
    decode(&format!("{BASE} {extra}"))
}

/// Code, subcode and data of the NOTIFICATION that resets the session.
fn rejection(withdrawn: &str, attributes: &str, nlri: &str) -> (u8, u8, Vec<u8>) {
    let error = decode_body(&fields(withdrawn, attributes, nlri), &ebgp());
    let notification = error.expect_err("the session ends").notification();
    (
        notification.code.0,
        notification.subcode,
        notification.data.to_vec(),
    )
}

fn names(prefixes: impl Iterator<Item = IpNet>) -> Vec<String> {
    prefixes.map(|prefix| prefix.to_string()).collect()
}

#[track_caller]
fn assert_error(update: &Update, attribute: u8, kind: AttributeErrorKind, treatment: Treatment) {
    let error = AttributeError {
        attribute: Some(AttributeType(attribute)),
        kind,
        treatment,
    };
    assert_eq!(update.errors, [error]);
    assert!(update.malformed.is_some(), "kept for the log");
}

/// P is withdrawn, with exactly this error.
#[track_caller]
fn assert_withdrawn(update: &Update, attribute: u8, kind: AttributeErrorKind) {
    assert_error(update, attribute, kind, Treatment::TreatAsWithdraw);
    assert_eq!(names(update.announced()), [""; 0]);
    assert_eq!(names(update.withdrawn_prefixes()), ["198.51.1.0/24"]);
}

/// P is announced, and the attribute is discarded with exactly this error.
#[track_caller]
fn assert_discarded(update: &Update, attribute: u8, kind: AttributeErrorKind) {
    assert_error(update, attribute, kind, Treatment::Discard);
    assert_eq!(names(update.announced()), ["198.51.1.0/24"]);
    assert_eq!(names(update.withdrawn_prefixes()), [""; 0]);
}

/// P is announced without errors.
#[track_caller]
fn assert_accepted(update: &Update) {
    assert_eq!(update.errors, []);
    assert_eq!(update.malformed, None);
    assert_eq!(names(update.announced()), ["198.51.1.0/24"]);
}

fn from_ibgp(extra: &str) -> Update {
    decode_with(&ibgp(), &format!("{BASE} 40050400000064 {extra}"), P)
}

fn from_two_octet_peer(extra: &str) -> Update {
    // AS_PATH 23456 64512.
    decode_with(
        &two_octet(),
        &format!("{ORIGIN} 4002060202 5ba0 fc00 {NEXT_HOP} {extra}"),
        P,
    )
}
