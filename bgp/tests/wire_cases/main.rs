//! Replays 146 messages that were recorded with four BGP engines (UPDATEs, headers, OPENs) to a
//! speaker, compares its reactions with `fixtures/wire_cases.tsv`, and generates
//! `docs/bgp-errors.md` from them.
//!
//! Columns of the fixture: kind; name; message type; octets; our reaction; the reason, if the RFCs
//! leave a choice or most engines react differently; the requirement of the RFCs; the reactions of
//! the engines. Octets are groups of hex digits, `XX*N` repeats XX N times. Reactions: `keep`,
//! `discard` (something is ignored, the route stays), `TaW` (treat-as-withdraw, RFC 7606 §2), `ok`,
//! `ignored`, or a NOTIFICATION as code/subcode and data.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml spares only functions marked as tests"
)]

mod page;
mod replay;

use std::fmt::Write;

use ferrolb_bgp::wire::{
    Agreement, Asn, BGP_VERSION, Capability, DecodeContext, Family, Message, Open,
};
use ipnet::IpNet;
use replay::{cases, message, reaction};

fn context() -> DecodeContext {
    DecodeContext {
        four_octet_asn: true,
        ibgp: false,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ..DecodeContext::default()
    }
}

#[test]
fn every_recorded_case_has_the_stated_reaction() {
    let mut differences = String::new();
    for case in cases() {
        let got = reaction(&case);
        if got != case.ours {
            let (kind, name, stated) = (case.kind, case.name, case.ours);
            writeln!(differences, "{kind} {name}: stated {stated}, got {got}").unwrap();
        }
    }
    assert_eq!(differences, "");
}

/// The length in the header is adjusted.
#[test]
fn every_case_truncated_anywhere_is_decoded_or_rejected() {
    for case in cases() {
        let whole = case.message();
        for end in (19..whole.len().min(300)).rev() {
            let mut cut = whole[..end].to_vec();
            cut[16..18].copy_from_slice(&u16::try_from(end).unwrap().to_be_bytes());
            let decoded = Message::decode(&cut, &context()).expect("as long as its header says");
            if let Err(error) = decoded {
                // The NOTIFICATION must be a valid message, with no more data than was received.
                let notification = error.notification();
                assert!(notification.data.len() <= cut.len().max(2), "{}", case.name);
                let again = Message::decode(&notification.encode(), &context());
                assert_eq!(again, Some(Ok(Message::Notification(notification))));
            }
        }
    }
}

/// The case "NLRI host bits set" has none set.
#[test]
fn u3_host_bits_are_cleared_rfc4271_4_3() {
    let body = "00000014 40010100 40020602010000fde9 4003040a630101 17c63365";
    let decoded = Message::decode(&message("02", body), &context());
    let Some(Ok(Message::Update(update))) = decoded else {
        panic!("{decoded:?}")
    };
    let announced: Vec<IpNet> = update.announced().collect();
    assert_eq!(announced, ["198.51.100.0/23".parse().unwrap()]);
}

/// The case "software-version cap inner len 10 of 9" is rejected for its AS; this one has the right
/// AS.
#[test]
fn an_unknown_capability_with_inconsistent_lengths_is_ignored_rfc5492_3() {
    let body = "04 fde9 005a c0a80a05 0b 0209 4b07 0a000000000000";
    let decoded = Message::decode(&message("01", body), &context());
    let Some(Ok(Message::Open(open))) = decoded else {
        panic!("{decoded:?}")
    };
    assert_eq!(open.version, BGP_VERSION);
    assert!(
        matches!(&open.capabilities[..], [Capability::Unknown { value, .. }] if value.len() == 7)
    );
    let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    let ours = Open::new(Asn(65002), 90, [10, 255, 0, 2].into(), &families);
    assert_eq!(
        Agreement::negotiate(&ours, &open, Some(Asn(65001))).map(|agreed| agreed.families),
        Ok(vec![Family::IPV4_UNICAST])
    );
}
