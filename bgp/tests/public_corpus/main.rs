//! Decodes public recordings: updates of real routers, and captures made to break parsers. They are
//! not in the repository: `cargo xtask test corpus --from FOLDER` sets the folder in
//! `FERROLB_CORPUS` and runs these tests, which `cargo test` skips.

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

/// The files in one folder of the corpus, sorted.
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

/// Calls `each` for every message of a recording, and with an UPDATE for every path of a dump.
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

/// The results of decoding a recording.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    updates: usize,
    announced: usize,
    withdrawn: usize,
    /// The number of each error, except for routes of other families.
    errors: BTreeMap<String, usize>,
    rejected: Vec<String>,
    /// Messages that encode to the same octets, and to another, the canonical form.
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
            Some(Err(error)) => tally.rejected.push(error.to_string()),
            None => tally
                .rejected
                .push("record and message differ in length".to_owned()),
        }
    });
    tally
}

/// The errors were checked by hand: the AS_SETs and AS 0 are in the recordings, two paths of a dump
/// have no attributes, and one NLRI field ends inside a prefix. In 2015 the collector's peers sent
/// nearly every AS_PATH with the extended length.
#[test]
fn recorded_updates_are_decoded() {
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
    let rejected = |text: &str| Tally {
        rejected: vec![text.to_owned()],
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
        // Its paths have no next hop.
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
            rejected("invalid prefix in the UPDATE: too long or truncated"),
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

#[test]
fn an_extended_message_without_the_capability_is_rejected_rfc8654_4() {
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

/// Everything in a file that looks like the start of a message.
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

/// All decode contexts, for messages of unknown sessions.
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

#[test]
fn captures_decode_or_are_rejected_in_every_context() {
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

/// The accepted differences, and their reasons.
const EXPLAINED: &[(&str, &str)] = &[
    (
        "next_hop differs",
        "they report NEXT_HOP as received; we ignore it if all routes are in MP_REACH_NLRI \
         (RFC 4760 §3)",
    ),
    (
        "only we reject: an attribute error without routes",
        "they warn and continue; no route can be withdrawn, so the session is reset \
         (RFC 7606 §5.2, §5.3)",
    ),
    (
        "only we reject: invalid prefix in the UPDATE: too long or truncated",
        "they warn and report the other fields; the session is reset (RFC 7606 §3 (j), §5.3)",
    ),
    (
        "only we reject: invalid ROUTE-REFRESH length: 28 octets",
        "outbound route filters (RFC 5291), which we don't negotiate",
    ),
    (
        "only we reject: invalid ROUTE-REFRESH length: 51 octets",
        "likewise",
    ),
];

#[test]
fn another_parser_decodes_the_same() {
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
    assert_eq!(gone, [""; 0], "explained, but no longer found");
}
