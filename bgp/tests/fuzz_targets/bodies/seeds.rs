//! Where the targets start: the recorded cases, messages of real routers, incidents of the past (in
//! text, below `bgp/tests/fixtures` and `fuzz/seeds`), and the public corpus where one is named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::codec::message;

const CASES: &str = include_str!("../../fixtures/wire_cases.tsv");
const RECORDED: &str = include_str!("../../fixtures/corpus.tsv");
const INCIDENTS: &str = include_str!("../../../../fuzz/seeds/incidents.tsv");
const STORIES: &str = include_str!("../../../../fuzz/seeds/stories.tsv");

/// Messages of each type that are taken from the corpus, and none longer than this.
const FROM_CORPUS: usize = 100;
const LONGEST: usize = 1024;

/// Where a target starts.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The target's name.
    pub target: &'static str,
    /// What it gets.
    pub octets: Vec<u8>,
}

/// The ones of this repository.
pub fn own() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for line in CASES.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let whole = match columns[0] {
            "HEADER" => octets(columns[3]),
            _ => message(octets(columns[2])[0], &octets(columns[3])),
        };
        add_message(&mut seeds, &whole);
    }
    let mut seen = BTreeSet::new();
    for line in RECORDED.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let whole = octets(columns[3]);
        // Those of one type and length look alike.
        if columns[2] == "BGP" && seen.insert((whole[18], whole.len())) {
            add_message(&mut seeds, &whole);
        }
    }
    for line in INCIDENTS.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let whole = match columns[1] {
            "attributes" => {
                let attributes = octets(columns[2]);
                let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
                let nlri = [24, 198, 51, 100];
                message(2, &[&[0, 0][..], &length, &attributes, &nlri].concat())
            }
            "message" => octets(columns[2]),
            kind => message(kind.parse().unwrap(), &octets(columns[2])),
        };
        add_message(&mut seeds, &whole);
    }
    for line in STORIES.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let target = super::TARGETS
            .iter()
            .find(|target| target.name == columns[0]);
        seeds.push(Seed {
            target: target.unwrap().name,
            octets: octets(columns[2]),
        });
    }
    seeds
}

/// One message for the target of its type and as a stream for framing.
fn add_message(seeds: &mut Vec<Seed>, whole: &[u8]) {
    let target = match whole.get(18) {
        Some(1) => "open",
        Some(2) => "update",
        Some(3) => "notification",
        Some(5) => "route_refresh",
        _ => "framing",
    };
    let body = whole.get(19..).unwrap_or_default();
    match target {
        "notification" | "route_refresh" => seeds.push(Seed {
            target,
            octets: body.to_vec(),
        }),
        "open" | "update" => seeds.push(Seed {
            target,
            octets: [&[0], body].concat(),
        }),
        _ => {}
    }
    seeds.push(Seed {
        target: "framing",
        octets: [&[0, 63], whole].concat(),
    });
}

/// Messages of the public recordings, found by their markers. None unless `FERROLB_CORPUS` names
/// their folder.
pub fn public() -> Vec<Seed> {
    let Some(root) = std::env::var_os("FERROLB_CORPUS").map(PathBuf::from) else {
        return Vec::new();
    };
    let mut seeds = Vec::new();
    let mut seen = BTreeSet::new();
    let mut counts = [0; 256];
    for folder in ["pcap", "mrt"] {
        let Ok(entries) = root.join(folder).read_dir() else {
            continue;
        };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let octets = unpacked(&file);
            for whole in messages(&octets) {
                let count = &mut counts[usize::from(whole[18])];
                // Those of one type and length look alike.
                if *count < FROM_CORPUS && seen.insert((whole[18], whole.len())) {
                    *count += 1;
                    add_message(&mut seeds, whole);
                }
            }
        }
    }
    seeds
}

/// Whatever begins with a marker and says how long it is.
fn messages(recording: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = recording.windows(16).enumerate();
    starts.filter_map(|(start, window)| {
        let rest = recording.get(start..).filter(|_| window == [0xff; 16])?;
        let length = rest.get(16..18)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        rest.get(..length)
            .filter(|_| (19..=LONGEST).contains(&length))
    })
}

fn unpacked(file: &Path) -> Vec<u8> {
    if file.extension().is_some_and(|extension| extension == "gz") {
        let output = Command::new("gzip").arg("-dc").arg(file).output();
        output.expect("gzip is there").stdout
    } else {
        std::fs::read(file).unwrap()
    }
}

/// Hex in groups, each repeated where a `*` says how often.
fn octets(text: &str) -> Vec<u8> {
    let group = |group: &str| {
        let (hex, times) = group.split_once('*').unwrap_or((group, "1"));
        let octet = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let octets: Vec<u8> = (0..hex.len()).step_by(2).map(octet).collect();
        octets.repeat(times.parse().unwrap())
    };
    text.split_whitespace().flat_map(group).collect()
}
