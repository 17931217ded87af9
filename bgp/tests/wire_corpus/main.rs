//! Public recordings through the decoder: updates that real routers sent, and captures made to
//! break parsers.
//!
//! They lie beside the repository, at `FERROLB_CORPUS` (default `../shared/corpus`). Where they
//! are missing the tests say so and check nothing, except in CI, where that is a failure.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml spares only functions marked as tests"
)]

mod canonical;
mod differential;
#[path = "../../examples/mrt/reader.rs"]
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use canonical::{canonical, emitted, is_for_reading_only};
use ferrolb_bgp::wire::{AttributeErrorKind, DecodeContext, Family, Message};
use reader::{Content, Records};

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

fn unpacked(path: &Path) -> Vec<u8> {
    let output = Command::new("gzip")
        .arg("-dc")
        .arg(path)
        .output()
        .expect("gzip is there");
    assert!(output.status.success(), "{}", path.display());
    output.stdout
}

/// Every message of a recording, and an UPDATE for every path of a table.
fn for_each_message(recording: &[u8], mut each: impl FnMut(&[u8], &DecodeContext)) {
    for record in Records::new(recording) {
        match record.unwrap().content {
            Content::Message(recorded) => each(recorded.octets, &recorded.context),
            Content::Rib(rib) => {
                for entry in &rib.entries {
                    if let Some(octets) = rib.update(entry) {
                        each(&octets, &rib.context(entry));
                    }
                }
            }
            Content::StateChange { .. } | Content::Other { .. } => {}
        }
    }
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
    /// Written again to the octet, or in the canonical form where they were not in it.
    verbatim: usize,
    canonical: usize,
}

fn tally(recording: &[u8]) -> Tally {
    let mut tally = Tally::default();
    for_each_message(recording, |octets, context| {
        match checked(octets, context) {
            Some(true) => tally.verbatim += 1,
            Some(false) => tally.canonical += 1,
            None => {}
        }
        match Message::decode(octets, context) {
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
    });
    tally
}

/// Decodes what may be a message. A good one must be written again in the canonical form: true if
/// that is the form it had. None for a bad one and for what isn't written at all.
fn checked(octets: &[u8], context: &DecodeContext) -> Option<bool> {
    match Message::decode(octets, context)? {
        Ok(message) => {
            let faulty = matches!(&message, Message::Update(update) if !update.errors.is_empty());
            if faulty || is_for_reading_only(&message, octets) {
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

/// Numbers counted once and looked into where they are errors: AS_SETs and AS 0 really are there,
/// two paths of a table have no attributes at all, and one NLRI field really ends inside a prefix.
/// In 2015 the collector's peers wrote nearly every AS_PATH with a length of two octets.
#[test]
fn recorded_updates_are_read() {
    let Some(files) = corpus("mrt") else { return };
    let errors = |errors: &[(&str, usize)]| {
        errors
            .iter()
            .map(|(text, count)| ((*text).to_owned(), *count))
            .collect()
    };
    let missing = |name: &str| format!("{name} is missing: treat-as-withdraw");
    let as_set = "AS_PATH has an AS_SET: treat-as-withdraw";
    let as_zero = "AS_PATH has AS 0: treat-as-withdraw";
    let aggregator_zero = "AGGREGATOR has AS 0: discard";
    let refused = |text: &str| Tally {
        refused: vec![text.to_owned()],
        ..Tally::default()
    };
    let mut expected = BTreeMap::from([
        (
            "bview.64k_stream_overflow.gz",
            Tally {
                updates: 23,
                announced: 9765,
                verbatim: 16,
                canonical: 7,
                ..Tally::default()
            },
        ),
        (
            "bview.ipv4_unicast_add_path.gz",
            Tally {
                updates: 62,
                announced: 60,
                withdrawn: 2,
                errors: errors(&[
                    (&missing("AS_PATH"), 2),
                    (&missing("NEXT_HOP"), 2),
                    (&missing("ORIGIN"), 2),
                ]),
                ..Tally::default()
            },
        ),
        // Its paths have no next hop, so there is nothing to read.
        ("bview.ipv6_unicast_add_path.gz", Tally::default()),
        (
            "updates.20070211.0141.gz",
            Tally {
                updates: 23394,
                announced: 51198,
                withdrawn: 2308,
                errors: errors(&[(as_set, 38)]),
                verbatim: 19115,
                canonical: 4090,
                ..Tally::default()
            },
        ),
        (
            "updates.20160811.1600.gz",
            Tally {
                updates: 17216,
                announced: 39256,
                withdrawn: 1956,
                verbatim: 10944,
                canonical: 6440,
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
                verbatim: 6,
                canonical: 89536,
                ..Tally::default()
            },
        ),
        (
            "updates.long_withdrawal.gz",
            Tally {
                updates: 1,
                withdrawn: 4096,
                verbatim: 1,
                ..Tally::default()
            },
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

/// One that needs RFC 8654 is refused without.
#[test]
fn a_message_longer_than_agreed_is_refused() {
    let Some(files) = corpus("mrt") else { return };
    let file = files
        .iter()
        .find(|file| file.ends_with("updates.long_withdrawal.gz"));
    for_each_message(&unpacked(file.unwrap()), |octets, _| {
        let error = Message::decode(octets, &DecodeContext::default());
        let text = error.unwrap().unwrap_err().to_string();
        assert_eq!(text, "UPDATE cannot be 36894 octets long");
    });
}

/// Whatever looks like the start of a message in a file.
fn candidates(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = octets.windows(18).enumerate();
    starts
        .filter(|(_, window)| window[..16] == [0xff; 16])
        .map(|(start, window)| {
            let length = usize::from(window[16]) << 8 | usize::from(window[17]);
            let rest = &octets[start..];
            &rest[..length.min(rest.len())]
        })
}

/// Every way to read a message whose session we know nothing of.
fn contexts() -> impl Iterator<Item = DecodeContext> {
    let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    (0..32u8).map(move |bits| {
        let bit = |position: u8| bits >> position & 1 == 1;
        DecodeContext {
            four_octet_asn: bit(0),
            ibgp: bit(1),
            families: families.to_vec(),
            max_length: if bit(2) { 65_535 } else { 4096 },
            ipv4_next_hop_v6: bit(2),
            enhanced_route_refresh: bit(3),
            add_path: if bit(4) { families.to_vec() } else { vec![] },
            ..DecodeContext::default()
        }
    })
}

/// What is told of a message that is special to a capture.
fn remarks(message: &Message) -> Vec<String> {
    match message {
        Message::Open(open) => {
            let capabilities = open.capabilities.iter();
            capabilities.map(ToString::to_string).collect()
        }
        Message::Notification(notification) => {
            let mut remarks = vec![notification.to_string()];
            remarks.extend(notification.shutdown_text());
            remarks.extend(notification.data_in_words());
            remarks
        }
        Message::RouteRefresh(refresh) => vec![format!("refresh {}", refresh.subtype)],
        Message::Update(update) => {
            let attributes = &update.attributes;
            let large = attributes.large_communities.iter();
            let extended = attributes.extended_communities.iter();
            let ids = update.nlri_ids.iter().zip(&update.nlri);
            large
                .map(ToString::to_string)
                .chain(extended.map(ToString::to_string))
                .chain(
                    update
                        .mp_reach
                        .iter()
                        .map(|reach| format!("by {}", reach.next_hop)),
                )
                .chain(ids.map(|(id, prefix)| format!("{prefix} id {id}")))
                .collect()
        }
        Message::Keepalive => vec![],
    }
}

/// Read in every way there is; good ones are written again, bad ones are errors.
#[test]
fn captures_are_read_or_refused() {
    let Some(files) = corpus("pcap") else { return };
    let (mut verbatim, mut seen) = (0, BTreeMap::<String, BTreeSet<String>>::new());
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str()).unwrap();
        let seen = seen.entry(name.to_owned()).or_default();
        for octets in candidates(&std::fs::read(&file).unwrap()) {
            for context in contexts() {
                verbatim += usize::from(checked(octets, &context) == Some(true));
                if let Some(Ok(message)) = Message::decode(octets, &context) {
                    seen.extend(remarks(&message));
                }
            }
        }
    }
    assert!(verbatim > 1000, "{verbatim}");
    for (name, remark) in [
        ("bgp-4byte-asn", "four-octet AS 2764334674"),
        ("bgp-4byte-asn", "Cease/Other Configuration Change (6/6)"),
        ("bgp-bfd-cease", "Cease/BFD Down (6/10)"),
        ("bgp-bgpsec", "BGPsec"),
        (
            "bgp-cease-hard-reset",
            "graceful restart 60 s, with notification, ipv4-unicast (forwarding)",
        ),
        (
            "bgp-cease-hard-reset",
            "Cease/Hard Reset (6/9), Cease/Peer De-configured (6/3)",
        ),
        ("bgp-encap", "rt:65000:101"),
        ("bgp-encap", "0x030c000000000008"),
        ("bgp-enhanced-route-refresh", "enhanced route refresh"),
        ("bgp-enhanced-route-refresh-subtype", "refresh 1"),
        ("bgp-enhanced-route-refresh-subtype", "refresh 2"),
        ("bgp-extended-msg", "extended message"),
        (
            "bgp-extended-optional-parameters-length",
            "ADD-PATH ipv4-unicast receive ipv6-unicast receive",
        ),
        ("bgp-large-community", "65536:1:3"),
        ("bgp-link-bw-extcommunity", "lb:65000:125000"),
        ("bgp-malformed-hard-reset", "Cease/Hard Reset (6/9)"),
        (
            "bgp_notification_rr_msg_error",
            "ROUTE-REFRESH Message Error/Invalid Message Length (7/1)",
        ),
        ("bgp-role", "role"),
        (
            "mpbgp-linklocal-nexthop",
            "by dead:beef::1 (fe80::1ff:fe01:0)",
        ),
        (
            "bgp-shutdown-communication",
            "This is a test of the shutdown communication system.",
        ),
        ("bgp-shutdown-msg-variations", "0123456789"),
    ] {
        assert!(seen[name].contains(remark), "{name}: {:?}", seen[name]);
    }
}
