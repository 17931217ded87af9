//! Decodes messages of real routers and of ferrolb, recorded in the lab
//! (`interop-tests/tests/corpus`). Each line of the fixture names the scenario and the sender.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml spares only functions marked as tests"
)]

mod attributes;
mod canonical;
mod differential;
mod remarks;

use std::collections::{BTreeMap, BTreeSet};

use canonical::checked;
use differential::{differences, likely_context};
use ferrolb_bgp::wire::Message;
use remarks::remarks;

/// `::1`.
const LOOPBACK: [u8; 16] = std::net::Ipv6Addr::LOCALHOST.octets();
const CORPUS: &str = include_str!("../fixtures/corpus.tsv");

struct Recorded {
    scenario: &'static str,
    /// The product, without its version.
    sender: &'static str,
    octets: Vec<u8>,
}

fn recorded() -> Vec<Recorded> {
    let messages = CORPUS.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [scenario, sender, "BGP", hex] = columns[..] else {
            return None;
        };
        let octet = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        Some(Recorded {
            scenario,
            sender: sender.split(' ').next().unwrap(),
            octets: (0..hex.len()).step_by(2).map(octet).collect(),
        })
    });
    messages.collect()
}

fn decoded(one: &Recorded) -> Message {
    let context = likely_context(&one.octets).expect("a whole message");
    let message = Message::decode(&one.octets, &context).unwrap();
    message.unwrap_or_else(|error| panic!("{} of {}: {error}", one.scenario, one.sender))
}

#[test]
fn messages_of_real_routers_decode_without_errors() {
    let mut types: BTreeMap<&str, BTreeSet<u8>> = BTreeMap::new();
    for one in recorded() {
        let message = decoded(&one);
        if let Message::Update(update) = &message {
            let (scenario, sender) = (one.scenario, one.sender);
            let errors: Vec<_> = update.errors.iter().map(ToString::to_string).collect();
            // On Linux, OpenBGPD sends IPv6 routes with next hop `::1`.
            if one.octets.windows(16).any(|octets| octets == LOOPBACK) {
                assert_eq!(sender, "OpenBGPD");
                let error =
                    "MP_REACH_NLRI has a next hop that is not a host address: treat-as-withdraw";
                assert!(errors.iter().any(|found| found == error), "{errors:?}");
            } else {
                assert_eq!(errors, [""; 0], "{scenario} of {sender}");
            }
        }
        types.entry(one.sender).or_default().insert(one.octets[18]);
    }
    let all = [1, 2, 3, 4, 5].into();
    assert_eq!(types["ferrolb"], all);
    assert_eq!(types["FRR"], all);
    assert_eq!(types["BIRD"], all);
    assert_eq!(types["OpenBGPD"], all);
    assert_eq!(types["ExaBGP"], all);
    // GoBGP has no command for a route refresh.
    assert_eq!(types["GoBGP"], [1, 2, 3, 4].into());
}

/// ferrolb's own messages have the canonical form.
#[test]
fn messages_of_real_routers_encode_to_the_canonical_form() {
    let (mut verbatim, mut canonical) = (0, 0);
    for one in recorded() {
        let context = likely_context(&one.octets).unwrap();
        match checked(&one.octets, &context) {
            Some(true) => verbatim += 1,
            Some(false) => {
                assert_ne!(one.sender, "ferrolb", "{}", one.scenario);
                canonical += 1;
            }
            None => {}
        }
    }
    assert!(verbatim > 300 && canonical > 20, "{verbatim}, {canonical}");
}

#[test]
fn another_parser_decodes_the_same() {
    for one in recorded() {
        let context = likely_context(&one.octets).unwrap();
        let found = differences(&one.octets, &context);
        assert_eq!(found, [""; 0], "{} of {}", one.scenario, one.sender);
    }
}

#[test]
fn a_truncated_message_is_incomplete() {
    for one in recorded() {
        let context = likely_context(&one.octets).unwrap();
        for length in 0..one.octets.len() {
            let cut = Message::decode(&one.octets[..length], &context);
            assert!(!matches!(cut, Some(Ok(_))), "{} at {length}", one.scenario);
        }
    }
}

#[test]
fn features_of_single_routers_are_decoded() {
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for one in recorded() {
        let remarks = remarks(&decoded(&one));
        seen.entry(one.sender).or_default().extend(remarks);
    }
    for (sender, remark) in [
        ("FRR", "ADD-PATH ipv4-unicast both ipv6-unicast both"),
        (
            "FRR",
            "graceful restart 120 s, restarted, with notification",
        ),
        ("FRR", "long-lived graceful restart"),
        ("FRR", "by fd99::1 (fe80::ff:fe00:1)"),
        ("FRR", "new line card"),
        ("BIRD", "extended message"),
        ("BIRD", "enhanced route refresh"),
        ("GoBGP", "rt:64700:7"),
        ("OpenBGPD", "Cease/Administrative Shutdown (6/2)"),
        ("ExaBGP", "Cease/Administrative Shutdown (6/2)"),
        ("ferrolb", "announce was interrupted"),
        ("ferrolb", "refresh 1"),
        ("ferrolb", "four-octet AS 4200000700"),
    ] {
        assert!(
            seen[sender].contains(remark),
            "{sender}: {:?}",
            seen[sender]
        );
    }
}
