//! Public recordings through the decoder: updates that real routers sent, and captures made to
//! break parsers.
//!
//! They lie beside the repository, at `FERROLB_CORPUS` (default `../shared/corpus`). Where they
//! are missing the tests say so and check nothing, except in CI, where that is a failure.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml spares only functions marked as tests"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use ferrolb_bgp::wire::{AttributeErrorKind, DecodeContext, Family, Message};

fn corpus(folder: &str) -> Option<Vec<PathBuf>> {
    let root = std::env::var_os("FERROLB_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"),
        PathBuf::from,
    );
    let folder = root.join(folder);
    let Ok(entries) = folder.read_dir() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "{} is missing",
            folder.display()
        );
        eprintln!(
            "LEFT OUT: {} is missing, nothing was checked",
            folder.display()
        );
        return None;
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    Some(files)
}

fn context(four_octet_asn: bool, ibgp: bool) -> DecodeContext {
    let families = vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    DecodeContext {
        four_octet_asn,
        ibgp,
        families,
        ..DecodeContext::default()
    }
}

fn unpacked(path: &Path) -> Vec<u8> {
    let output = Command::new("gzip")
        .arg("-dc")
        .arg(path)
        .output()
        .expect("gzip is there");
    assert!(output.status.success(), "{}", path.display());
    output.stdout
}

fn number(octets: &[u8]) -> usize {
    octets
        .iter()
        .fold(0, |number, &octet| (number << 8) | usize::from(octet))
}

/// The BGP message in an MRT record and how to read it: with the AS numbers the record says, as
/// from a peer of the collector's own AS or another (RFC 6396 §4.4).
fn bgp_message(kind: usize, subtype: usize, record: &[u8]) -> Option<(DecodeContext, &[u8])> {
    let record = match kind {
        16 => record,
        17 => &record[4..],
        _ => return None,
    };
    let four_octet = match subtype {
        1 => false,
        4 => true,
        _ => return None,
    };
    let width = if four_octet { 4 } else { 2 };
    let ibgp = record[..width] == record[width..2 * width];
    let record = &record[2 * width..];
    let addresses = if number(&record[2..4]) == 1 { 8 } else { 32 };
    Some((context(four_octet, ibgp), &record[4 + addresses..]))
}

/// What became of the messages of a recording.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    updates: usize,
    announced: usize,
    withdrawn: usize,
    /// How often what was wrong, but for routes left out because of their family.
    errors: BTreeMap<String, usize>,
    refused: Vec<String>,
}

fn tally(recording: &[u8]) -> Tally {
    let mut tally = Tally::default();
    let mut rest = recording;
    while rest.len() >= 12 {
        let (kind, subtype) = (number(&rest[4..6]), number(&rest[6..8]));
        let (record, tail) = rest[12..].split_at(number(&rest[8..12]).min(rest.len() - 12));
        rest = tail;
        let Some((context, message)) = bgp_message(kind, subtype, record) else {
            continue;
        };
        match Message::decode(message, &context) {
            Some(Ok(Message::Update(update))) => {
                tally.updates += 1;
                tally.announced += update.announced().count();
                tally.withdrawn += update.withdrawn_prefixes().count();
                for error in update.errors {
                    if !matches!(error.kind, AttributeErrorKind::FamilyNotNegotiated(_)) {
                        *tally.errors.entry(error.to_string()).or_default() += 1;
                    }
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => tally.refused.push(error.to_string()),
            None => tally
                .refused
                .push("record and message differ in length".to_owned()),
        }
    }
    tally
}

/// Numbers counted once and looked into where they are errors: AS_SETs and AS 0 really are there,
/// one message is longer than any may be, and one NLRI field really ends inside a prefix.
#[test]
fn recorded_updates_are_read() {
    let Some(files) = corpus("mrt") else { return };
    let errors = |errors: &[(&str, usize)]| {
        errors
            .iter()
            .map(|(text, count)| ((*text).to_owned(), *count))
            .collect()
    };
    let as_set = "AS_PATH has an AS_SET: treat-as-withdraw";
    let as_zero = "AS_PATH has AS 0: treat-as-withdraw";
    let aggregator_zero = "AGGREGATOR has AS 0: discard";
    let refused = |text: &str| Tally {
        refused: vec![text.to_owned()],
        ..Tally::default()
    };
    let mut expected = BTreeMap::from([
        (
            "updates.20070211.0141.gz",
            Tally {
                updates: 23394,
                announced: 51198,
                withdrawn: 2308,
                errors: errors(&[(as_set, 38)]),
                refused: Vec::new(),
            },
        ),
        (
            "updates.20160811.1600.gz",
            Tally {
                updates: 17216,
                announced: 39256,
                withdrawn: 1956,
                ..Tally::default()
            },
        ),
        (
            "updates.et-header.2015.gz",
            Tally {
                updates: 89679,
                announced: 577_556,
                withdrawn: 184,
                errors: errors(&[(as_set, 136), (as_zero, 1), (aggregator_zero, 3)]),
                refused: Vec::new(),
            },
        ),
        (
            "updates.long_withdrawal.gz",
            refused("UPDATE cannot be 36894 octets long"),
        ),
        (
            "updates.nlri_mask_trailing_bits.gz",
            refused("the UPDATE has a prefix that cannot be delimited"),
        ),
    ]);
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap();
        if let Some(expected) = expected.remove(name) {
            assert_eq!(tally(&unpacked(&file)), expected, "{name}");
        }
    }
    assert!(expected.is_empty(), "missing: {expected:?}");
}

/// Whatever looks like the start of a message in a capture is read as if it were one.
#[test]
fn captures_are_survived() {
    let Some(files) = corpus("pcap") else { return };
    let (mut read, mut texts) = (0, Vec::new());
    for file in files {
        let octets = std::fs::read(&file).unwrap();
        let starts = octets
            .windows(16)
            .enumerate()
            .filter(|(_, window)| *window == [0xff; 16]);
        for (start, _) in starts {
            let rest = &octets[start..];
            let message = &rest[..rest.get(16..18).map_or(0, number).min(rest.len())];
            for context in [false, true].map(|ibgp| context(true, ibgp)) {
                match Message::decode(message, &context) {
                    Some(Err(error)) => {
                        let notification = error.notification();
                        let again = Message::decode(&notification.encode(), &context);
                        assert_eq!(again, Some(Ok(Message::Notification(notification))));
                    }
                    Some(Ok(Message::Notification(notification))) => {
                        texts.extend(notification.shutdown_text());
                    }
                    Some(Ok(_)) => read += 1,
                    None => {}
                }
            }
        }
    }
    assert!(
        read > 1000,
        "most of what is in there are good messages: {read}"
    );
    for text in [
        "This is a test of the shutdown communication system.",
        "0123456789",
    ] {
        assert!(texts.iter().any(|read| read == text), "{text}");
    }
}
