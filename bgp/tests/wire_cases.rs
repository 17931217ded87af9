//! Replays 146 inputs that were once sent to four BGP engines (UPDATEs, headers, OPENs) and
//! compares our reaction with the one stated in `fixtures/wire_cases.tsv`.
//!
//! Columns of the fixture: kind; name; type octet of the message; octets; our reaction; and, where
//! the RFCs leave a choice or the reaction is not the codec's, which section decided.
//! Octets are hex in groups, `XX*N` is N times XX. Reactions: `accept`, `discard` (something is
//! left out, the routes stand), `withdraw` (RFC 7606 §2), or a NOTIFICATION as code/subcode and
//! data.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml spares only functions marked as tests"
)]

use std::fmt::Write;

use ferrolb_bgp::wire::{
    Asn, BGP_VERSION, Capability, DecodeContext, DecodeError, Family, Framer, Message, Open,
    Treatment, Update,
};
use ipnet::IpNet;

const CASES: &str = include_str!("fixtures/wire_cases.tsv");
/// What every UPDATE case that ends no session announces or withdraws.
const P: &str = "198.51.1.0/24";

/// The injector, an external peer.
const PEER: Asn = Asn(65001);

fn ours() -> Open {
    let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    Open::new(Asn(65002), 90, [10, 255, 0, 2].into(), &families)
}

fn context() -> DecodeContext {
    DecodeContext {
        four_octet_asn: true,
        ibgp: false,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        first_asn: Some(PEER),
        ..DecodeContext::default()
    }
}

fn octets(text: &str) -> Vec<u8> {
    let group = |group: &str| {
        let (hex, times) = match group.split_once('*') {
            Some((hex, times)) => (hex, times.parse().unwrap()),
            None => (group, 1),
        };
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len())
            .step_by(2)
            .map(digit)
            .collect::<Vec<u8>>()
            .repeat(times)
    };
    text.split_whitespace().flat_map(group).collect()
}

fn message(kind: &str, message_type: &str, body: &str) -> Vec<u8> {
    let body = octets(body);
    if kind == "HEADER" {
        return body;
    }
    let length = u16::try_from(19 + body.len()).unwrap();
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.extend(octets(message_type));
    message.extend(body);
    message
}

fn refusal(error: &DecodeError) -> String {
    let notification = error.notification();
    let mut text = format!("{}/{}", notification.code.0, notification.subcode);
    if !notification.data.is_empty() {
        text.push(' ');
    }
    for octet in &notification.data {
        write!(text, "{octet:02x}").unwrap();
    }
    text
}

fn reaction_to_update(case: &str, update: &Update) -> String {
    let p: IpNet = P.parse().unwrap();
    let announced = update.announced().any(|prefix| prefix == p);
    let withdrawn = update.withdrawn_prefixes().any(|prefix| prefix == p);
    assert_ne!(announced, withdrawn, "{case}: P is either there or gone");
    assert_eq!(
        update.errors.is_empty(),
        update.malformed.is_none(),
        "{case}"
    );
    assert_eq!(update.end_of_rib(), None, "{case}");
    match update.treatment() {
        None => "accept",
        Some(Treatment::Discard) => "discard",
        Some(Treatment::TreatAsWithdraw) => "withdraw",
    }
    .to_owned()
}

fn reaction(case: &str, message: &[u8]) -> String {
    let mut framer = Framer::default();
    framer.push(message);
    match framer.next(&context()) {
        None => panic!("{case}: incomplete"),
        Some(Err(error)) => refusal(&error),
        Some(Ok(Message::Update(update))) => reaction_to_update(case, &update),
        Some(Ok(Message::Open(open))) => match open.validate(Some(PEER), &ours()) {
            Ok(_) => "accept".to_owned(),
            Err(error) => refusal(&error),
        },
        Some(Ok(_)) => "accept".to_owned(),
    }
}

#[test]
fn every_recorded_case_gets_the_stated_reaction() {
    let mut differences = String::new();
    let mut count = 0;
    for line in CASES.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, case, message_type, body, expected, _why] = columns[..] else {
            panic!("not six columns: {line}");
        };
        let got = reaction(case, &message(kind, message_type, body));
        if got != expected {
            writeln!(differences, "{kind} {case}: expected {expected}, got {got}").unwrap();
        }
        count += 1;
    }
    assert_eq!(count, 146);
    assert_eq!(differences, "");
}

/// Octets shortened anywhere, with the header's length made to fit, are still only data.
#[test]
fn every_case_cut_anywhere_is_survived() {
    for line in CASES.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let whole = message(columns[0], columns[2], columns[3]);
        for end in (19..whole.len().min(300)).rev() {
            let mut cut = whole[..end].to_vec();
            cut[16..18].copy_from_slice(&u16::try_from(end).unwrap().to_be_bytes());
            let decoded = Message::decode(&cut, &context()).expect("as long as its header says");
            if let Err(error) = decoded {
                // A NOTIFICATION must itself be a message, and say no more than was received.
                let notification = error.notification();
                assert!(
                    notification.data.len() <= cut.len().max(2),
                    "{}",
                    columns[1]
                );
                let again = Message::decode(&notification.encode(), &context());
                assert_eq!(again, Some(Ok(Message::Notification(notification))));
            }
        }
    }
}

/// The row "NLRI host bits set" has none set (its octets are a clean prefix): here they are.
#[test]
fn stray_host_bits_are_cleared() {
    let body = "00000014 40010100 40020602010000fde9 4003040a630101 17c63365";
    let decoded = Message::decode(&message("UPDATE", "02", body), &context());
    let Some(Ok(Message::Update(update))) = decoded else {
        panic!("{decoded:?}")
    };
    let announced: Vec<IpNet> = update.announced().collect();
    assert_eq!(announced, ["198.51.100.0/23".parse().unwrap()]);
}

/// The row "software-version cap inner len 10 of 9" is refused for its AS: here with the right one.
#[test]
fn a_capability_that_lies_about_its_inside_is_a_value() {
    let body = "04 fde9 005a c0a80a05 0b 0209 4b07 0a000000000000";
    let decoded = Message::decode(&message("OPEN", "01", body), &context());
    let Some(Ok(Message::Open(open))) = decoded else {
        panic!("{decoded:?}")
    };
    assert_eq!(open.version, BGP_VERSION);
    assert!(
        matches!(&open.capabilities[..], [Capability::Unknown { value, .. }] if value.len() == 7)
    );
    assert_eq!(
        open.validate(Some(PEER), &ours())
            .map(|agreed| agreed.families),
        Ok(vec![Family::IPV4_UNICAST])
    );
}
