//! Seeds of the targets: the wire cases, messages of real routers and past incidents (as text in
//! `bgp/tests/fixtures` and `fuzz/seeds`), and a public corpus if one is configured.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::codec::message;

const CASES: &str = include_str!("../../fixtures/wire_cases.tsv");
const RECORDED: &str = include_str!("../../fixtures/corpus.tsv");
const INCIDENTS: &str = include_str!("../../../../fuzz/seeds/incidents.tsv");
const STORIES: &str = include_str!("../../../../fuzz/seeds/stories.tsv");

/// The maximum number of messages of each type from the public corpus, and their maximum length.
const FROM_CORPUS: usize = 100;
const LONGEST: usize = 1024;

/// One seed.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The target's name.
    pub target: &'static str,
    /// The input of the target.
    pub octets: Vec<u8>,
}

/// The seeds in this repository.
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
        // One message per type and length is enough.
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

/// Adds a message for the target of its type, and as a stream for framing.
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

/// Messages of the public recordings in the folder that `FERROLB_CORPUS` names, found by their
/// markers.
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
            let octets = uncompressed(&file);
            for whole in messages(&octets) {
                let count = &mut counts[usize::from(whole[18])];
                // One message per type and length is enough.
                if *count < FROM_CORPUS && seen.insert((whole[18], whole.len())) {
                    *count += 1;
                    add_message(&mut seeds, whole);
                }
            }
        }
    }
    seeds
}

/// All octets that start with a marker and a valid length.
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

fn uncompressed(file: &Path) -> Vec<u8> {
    if file.extension().is_some_and(|extension| extension == "gz") {
        let output = Command::new("gzip").arg("-dc").arg(file).output();
        output.expect("gzip runs").stdout
    } else {
        std::fs::read(file).unwrap()
    }
}

/// Decodes hexadecimal groups, each optionally followed by `*` and a number of repetitions.
fn octets(text: &str) -> Vec<u8> {
    let group = |group: &str| {
        let (hex, times) = group.split_once('*').unwrap_or((group, "1"));
        let octet = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let octets: Vec<u8> = (0..hex.len()).step_by(2).map(octet).collect();
        octets.repeat(times.parse().unwrap())
    };
    text.split_whitespace().flat_map(group).collect()
}
