//! Distributes the sections of a hello over several hellos.

use super::{Hello, MAX_NAME, MAX_NETWORKS, Section, TAG};

/// The octets of a hello before its sections, apart from names and networks.
const FIXED: usize = 4 + 1 + 4 + 8 + 1 + 3 * 8 + 1 + 2 + 1 + 4 + 8 + 6 + 1;
/// The octets of a section before its body.
const SECTION_HEADER: usize = 3;
/// The octets of a section with the longest name and one claim. Networks leave as many free.
const LARGEST_SECTION: usize = SECTION_HEADER + 1 + MAX_NAME + 17 + 8;

impl Hello {
    /// Splits it into hellos of at most `max` octets, with ascending sequence numbers. A single
    /// entry is never split: networks are left out if `max` is too small for a large one.
    pub fn split(mut self, max: usize) -> Vec<Self> {
        let fixed = FIXED + self.node.len() + TAG;
        let mut room = max.saturating_sub(fixed + LARGEST_SECTION);
        self.networks.truncate(MAX_NETWORKS);
        self.networks.retain(|network| {
            let needed = address_len(network.addr()) + 1;
            let fits = needed <= room;
            room -= if fits { needed } else { room };
            fits
        });
        let networks = self
            .networks
            .iter()
            .map(|network| address_len(network.addr()) + 1);
        let base = fixed + networks.sum::<usize>();
        let room = max.saturating_sub(base);
        let mut parts: Vec<Vec<Section>> = vec![Vec::new()];
        let mut used = 0;
        for piece in self.sections.iter().flat_map(pieces) {
            let joins = parts.last().and_then(|part| part.last());
            let joins = joins.is_some_and(|last| same_kind(last, &piece));
            let mut needed = if joins {
                entries_len(&piece)
            } else {
                section_len(&piece)
            };
            if used + needed > room && used > 0 {
                parts.push(Vec::new());
                used = 0;
                needed = section_len(&piece);
            }
            used += needed;
            if let Some(part) = parts.last_mut() {
                append(part, piece);
            }
        }
        let hellos = parts.into_iter().zip(0..);
        hellos
            .map(|(sections, offset)| Self {
                sequence: self.sequence + offset,
                sections,
                node: self.node.clone(),
                networks: self.networks.clone(),
                ..self
            })
            .collect()
    }
}

/// The section as sections of one entry each.
fn pieces(section: &Section) -> Vec<Section> {
    match section {
        Section::Claims(claims) => claims.iter().map(|c| Section::Claims(vec![*c])).collect(),
        Section::Intents(claims) => claims.iter().map(|c| Section::Intents(vec![*c])).collect(),
        Section::Released(claims) => claims.iter().map(|c| Section::Released(vec![*c])).collect(),
        Section::Successors { node, claims } => {
            let piece = |claim: &_| Section::Successors {
                node: node.clone(),
                claims: vec![*claim],
            };
            claims.iter().map(piece).collect()
        }
        Section::Remembered { node, claims } => {
            let piece = |claim: &_| Section::Remembered {
                node: node.clone(),
                claims: vec![*claim],
            };
            claims.iter().map(piece).collect()
        }
        Section::RequestClaims { .. } => vec![section.clone()],
        Section::Move { node, addresses } => {
            let piece = |address: &_| Section::Move {
                node: node.clone(),
                addresses: vec![*address],
            };
            addresses.iter().map(piece).collect()
        }
        Section::TestRequest { node, addresses } => {
            let piece = |address: &_| Section::TestRequest {
                node: node.clone(),
                addresses: vec![*address],
            };
            addresses.iter().map(piece).collect()
        }
        Section::TestResult { node, answers } => {
            let piece = |answer: &(_, Vec<_>)| Section::TestResult {
                node: node.clone(),
                answers: vec![answer.clone()],
            };
            answers.iter().map(piece).collect()
        }
    }
}

/// Whether the entries of both can be in one section.
fn same_kind(a: &Section, b: &Section) -> bool {
    let mergeable = !matches!(a, Section::RequestClaims { .. });
    mergeable && std::mem::discriminant(a) == std::mem::discriminant(b) && name(a) == name(b)
}

fn name(section: &Section) -> Option<&str> {
    match section {
        Section::Claims(_) | Section::Intents(_) | Section::Released(_) => None,
        Section::Successors { node, .. }
        | Section::Remembered { node, .. }
        | Section::RequestClaims { node }
        | Section::Move { node, .. }
        | Section::TestRequest { node, .. }
        | Section::TestResult { node, .. } => Some(node),
    }
}

fn section_len(section: &Section) -> usize {
    SECTION_HEADER + name_len(section) + entries_len(section)
}

fn name_len(section: &Section) -> usize {
    name(section).map_or(0, |name| 1 + name.len())
}

fn entries_len(section: &Section) -> usize {
    match section {
        Section::Claims(claims)
        | Section::Intents(claims)
        | Section::Released(claims)
        | Section::Successors { claims, .. }
        | Section::Remembered { claims, .. } => claims
            .iter()
            .map(|claim| address_len(claim.address) + 8)
            .sum(),
        Section::RequestClaims { .. } => 0,
        Section::Move { addresses, .. } | Section::TestRequest { addresses, .. } => {
            addresses.iter().map(|address| address_len(*address)).sum()
        }
        Section::TestResult { answers, .. } => {
            let answers = answers.iter();
            answers
                .map(|(address, macs)| address_len(*address) + 1 + 6 * macs.len())
                .sum()
        }
    }
}

const fn address_len(address: std::net::IpAddr) -> usize {
    if address.is_ipv4() { 5 } else { 17 }
}

/// Adds a piece to the last section, or as a new one.
fn append(part: &mut Vec<Section>, piece: Section) {
    let last = part.last_mut().filter(|last| same_kind(last, &piece));
    match (last, piece) {
        (Some(Section::Claims(into)), Section::Claims(more))
        | (Some(Section::Intents(into)), Section::Intents(more))
        | (Some(Section::Released(into)), Section::Released(more))
        | (
            Some(Section::Successors { claims: into, .. }),
            Section::Successors { claims: more, .. },
        )
        | (
            Some(Section::Remembered { claims: into, .. }),
            Section::Remembered { claims: more, .. },
        ) => into.extend(more),
        (
            Some(Section::Move {
                addresses: into, ..
            }),
            Section::Move {
                addresses: more, ..
            },
        )
        | (
            Some(Section::TestRequest {
                addresses: into, ..
            }),
            Section::TestRequest {
                addresses: more, ..
            },
        ) => into.extend(more),
        (
            Some(Section::TestResult { answers: into, .. }),
            Section::TestResult { answers: more, .. },
        ) => into.extend(more),
        (_, piece) => part.push(piece),
    }
}
