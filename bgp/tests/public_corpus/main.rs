//! Public recordings through the decoder: updates that real routers sent, and captures made to
//! break parsers. They lie outside of the repository: `cargo xtask test corpus --from FOLDER` names
//! the folder in `FERROLB_CORPUS` and runs these tests, which `cargo test` leaves out.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml spares only functions marked as tests"
)]

#[path = "../wire_corpus/attributes.rs"]
mod attributes;
mod bfd;
#[path = "../wire_corpus/canonical.rs"]
mod canonical;
#[path = "../wire_corpus/differential.rs"]
mod differential;
#[path = "../wire_corpus/mrt.rs"]
mod mrt;
#[path = "../wire_corpus/remarks.rs"]
mod remarks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use canonical::checked;
use differential::{differences, likely_context};
use ferrolb_bgp::wire::{AttributeErrorKind, DecodeContext, Family, Message};
use mrt::{Content, Records};
use remarks::remarks;

/// The files of one folder of the corpus, in order.
fn corpus(folder: &str) -> Vec<PathBuf> {
    let root = std::env::var_os("FERROLB_CORPUS");
    let root = root.expect("FERROLB_CORPUS is unset: cargo xtask test corpus --from FOLDER");
    let folder = Path::new(&root).join(folder);
    let entries = folder.read_dir();
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
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

/// Numbers counted once and looked into where they are errors: AS_SETs and AS 0 really are there,
/// two paths of a table have no attributes at all, and one NLRI field really ends inside a prefix.
/// In 2015 the collector's peers wrote nearly every AS_PATH with a length of two octets.
#[test]
fn recorded_updates_are_read() {
    let files = corpus("mrt");
    let errors = |errors: &[(&str, usize)]| {
        errors
            .iter()
            .map(|(text, count)| ((*text).to_owned(), *count))
            .collect()
    };
    let missing = |name: &str| format!("{name} is missing: treat-as-withdraw");
    let as_set = "AS_PATH contains an AS_SET: treat-as-withdraw";
    let as_zero = "AS_PATH contains AS 0: treat-as-withdraw";
    let aggregator_zero = "AGGREGATOR contains AS 0: discard";
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
                verbatim: 60,
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
            refused("invalid prefix in the UPDATE: too long or truncated"),
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
    let files = corpus("mrt");
    let file = files
        .iter()
        .find(|file| file.ends_with("updates.long_withdrawal.gz"));
    for_each_message(&unpacked(file.unwrap()), |octets, _| {
        let error = Message::decode(octets, &DecodeContext::default());
        let text = error.unwrap().unwrap_err().to_string();
        assert_eq!(text, "invalid UPDATE length: 36894 octets");
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
    (0..16u8).map(move |bits| {
        let bit = |position: u8| bits >> position & 1 == 1;
        DecodeContext {
            four_octet_asn: bit(0),
            ibgp: bit(1),
            families: families.to_vec(),
            max_length: if bit(2) { 65_535 } else { 4096 },
            ipv4_next_hop_v6: bit(2),
            enhanced_route_refresh: bit(3),
            ..DecodeContext::default()
        }
    })
}

/// Read in every way there is; good ones are written again, bad ones are errors.
#[test]
fn captures_are_read_or_refused() {
    let files = corpus("pcap");
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

/// Every way in which the two differ, and why that is as it should be.
const EXPLAINED: &[(&str, &str)] = &[
    (
        "next_hop differs",
        "they give NEXT_HOP as it came; beside nothing but MP_REACH_NLRI it means nothing \
         (RFC 4760 §3)",
    ),
    (
        "only we refuse: an attribute beside no routes",
        "they warn of it and go on; nothing can be withdrawn, so the session ends \
         (RFC 7606 §5.2, §5.3)",
    ),
    (
        "only we refuse: invalid prefix in the UPDATE: too long or truncated",
        "they warn and give the other fields; the session ends (RFC 7606 §3 (j), §5.3)",
    ),
    (
        "only we refuse: invalid ROUTE-REFRESH length: 28 octets",
        "outbound route filters (RFC 5291), which would have to be negotiated and aren't by us",
    ),
    (
        "only we refuse: invalid ROUTE-REFRESH length: 51 octets",
        "likewise",
    ),
];

#[test]
fn another_parser_reads_the_same() {
    let mut messages = 0;
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut compare = |file: &Path, octets: &[u8], context: &DecodeContext| {
        messages += 1;
        for difference in differences(octets, context) {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap();
            found.entry(difference).or_default().insert(name.to_owned());
        }
    };
    for file in corpus("mrt") {
        for_each_message(&unpacked(&file), |octets, context| {
            compare(&file, octets, context);
        });
    }
    for file in corpus("pcap") {
        for octets in candidates(&std::fs::read(&file).unwrap()) {
            if let Some(context) = likely_context(octets) {
                compare(&file, octets, &context);
            }
        }
    }
    assert!(messages > 130_000, "{messages}");
    let explained: BTreeSet<_> = EXPLAINED
        .iter()
        .map(|(difference, _)| *difference)
        .collect();
    let unexplained: Vec<_> = found
        .iter()
        .filter(|(difference, _)| !explained.contains(&difference[..]))
        .collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let gone: Vec<_> = explained
        .into_iter()
        .filter(|difference| !found.contains_key(*difference))
        .collect();
    assert_eq!(gone, [""; 0], "explained, but not found any more");
}
