//! Replays 146 inputs that were once sent to four BGP engines (UPDATEs, headers, OPENs) to a speaker,
//! compares its reaction with the one stated in `fixtures/wire_cases.tsv`, and writes
//! `docs/bgp-errors.md` from it.
//!
//! Columns of the fixture: kind; name; type octet of the message; octets; our reaction; why, where
//! the RFCs leave a choice or most engines do otherwise; what the RFCs say; the engines' reactions.
//! Octets are hex in groups, `XX*N` is N times XX. Reactions: `keep`, `discard` (something is left
//! out, the route stands), `TaW` (treat-as-withdraw, RFC 7606 §2), `ok` and `ignored` (nothing
//! happens), or a NOTIFICATION as code/subcode and data.

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
fn every_recorded_case_gets_the_stated_reaction() {
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

/// Octets shortened anywhere, with the header's length made to fit, are still only data.
#[test]
fn every_case_cut_anywhere_is_survived() {
    for case in cases() {
        let whole = case.message();
        for end in (19..whole.len().min(300)).rev() {
            let mut cut = whole[..end].to_vec();
            cut[16..18].copy_from_slice(&u16::try_from(end).unwrap().to_be_bytes());
            let decoded = Message::decode(&cut, &context()).expect("as long as its header says");
            if let Err(error) = decoded {
                // A NOTIFICATION must itself be a message, and say no more than was received.
                let notification = error.notification();
                assert!(notification.data.len() <= cut.len().max(2), "{}", case.name);
                let again = Message::decode(&notification.encode(), &context());
                assert_eq!(again, Some(Ok(Message::Notification(notification))));
            }
        }
    }
}

/// The row "NLRI host bits set" has none set (its octets are a clean prefix): here they are.
#[test]
fn u3_stray_host_bits_are_cleared() {
    let body = "00000014 40010100 40020602010000fde9 4003040a630101 17c63365";
    let decoded = Message::decode(&message("02", body), &context());
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
