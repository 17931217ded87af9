//! The sections of a hello.

use std::net::IpAddr;
use std::sync::Arc;

use super::super::reader::Reader;
use super::{name, put_address, put_name};
use crate::mac::Mac;

/// The claim of a node: it owns an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// Of two claims the one with the higher epoch is valid.
    pub epoch: u64,
}

/// A part of a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// The sender owns these and answers for them.
    Claims(Vec<Claim>),
    /// The sender is about to own these: it probes them.
    Intents(Vec<Claim>),
    /// The sender owns these no longer.
    Released(Vec<Claim>),
    /// The sender hands these over to a node.
    Successors {
        /// The node that must claim them.
        node: Arc<str>,
        /// What the sender owns until then.
        claims: Vec<Claim>,
    },
    /// What a node owned before its process ended. It resumes exactly these.
    Remembered {
        /// The node.
        node: Arc<str>,
        /// Its last claims.
        claims: Vec<Claim>,
    },
    /// Asks a node to send all its claims.
    RequestClaims {
        /// The node.
        node: Arc<str>,
    },
    /// Asks the owners of these to hand them over to a node.
    Move {
        /// The node that is to own them.
        node: Arc<str>,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Asks a node to resolve these.
    TestRequest {
        /// The node that resolves them.
        node: Arc<str>,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Which Ethernet addresses answered for these.
    TestResult {
        /// The node that asked.
        node: Arc<str>,
        /// The answers, none if no host answered. At most 255 for each address.
        answers: Vec<(IpAddr, Vec<Mac>)>,
    },
}

const CLAIMS: u8 = 1;
const INTENTS: u8 = 2;
const RELEASED: u8 = 3;
const SUCCESSORS: u8 = 4;
const REMEMBERED: u8 = 5;
const REQUEST_CLAIMS: u8 = 6;
const MOVE: u8 = 7;
const TEST_REQUEST: u8 = 8;
const TEST_RESULT: u8 = 9;

impl Section {
    /// Appends the section. Its body must not exceed 65,535 octets: see [`super::Hello::split`].
    pub(super) fn encode(&self, octets: &mut Vec<u8>) {
        let mut body = Vec::new();
        let kind = match self {
            Self::Claims(claims) => put_claims(CLAIMS, claims, &mut body),
            Self::Intents(claims) => put_claims(INTENTS, claims, &mut body),
            Self::Released(claims) => put_claims(RELEASED, claims, &mut body),
            Self::Successors { node, claims } => {
                put_name(&mut body, node);
                put_claims(SUCCESSORS, claims, &mut body)
            }
            Self::Remembered { node, claims } => {
                put_name(&mut body, node);
                put_claims(REMEMBERED, claims, &mut body)
            }
            Self::RequestClaims { node } => {
                put_name(&mut body, node);
                REQUEST_CLAIMS
            }
            Self::Move { node, addresses } => put_addresses(MOVE, node, addresses, &mut body),
            Self::TestRequest { node, addresses } => {
                put_addresses(TEST_REQUEST, node, addresses, &mut body)
            }
            Self::TestResult { node, answers } => {
                put_name(&mut body, node);
                for (address, macs) in answers {
                    put_address(&mut body, *address);
                    let macs = macs.get(..255).unwrap_or(macs);
                    body.push(u8::try_from(macs.len()).unwrap_or_default());
                    for mac in macs {
                        body.extend_from_slice(&mac.0);
                    }
                }
                TEST_RESULT
            }
        };
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
        octets.push(kind);
        octets.extend_from_slice(&length.to_be_bytes());
        octets.extend_from_slice(&body);
    }

    /// The next section. The outer None: it is malformed. The inner None: its kind is unknown, and
    /// it was skipped.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Option<Self>> {
        let (kind, length) = (reader.u8()?, reader.u16()?);
        let mut body = Reader(reader.take(length.into())?);
        Some(Some(match kind {
            CLAIMS => Self::Claims(claims(&mut body)?),
            INTENTS => Self::Intents(claims(&mut body)?),
            RELEASED => Self::Released(claims(&mut body)?),
            SUCCESSORS => Self::Successors {
                node: name(&mut body)?.into(),
                claims: claims(&mut body)?,
            },
            REMEMBERED => Self::Remembered {
                node: name(&mut body)?.into(),
                claims: claims(&mut body)?,
            },
            REQUEST_CLAIMS => Self::RequestClaims {
                node: name(&mut body)?.into(),
            },
            MOVE => Self::Move {
                node: name(&mut body)?.into(),
                addresses: addresses(&mut body)?,
            },
            TEST_REQUEST => Self::TestRequest {
                node: name(&mut body)?.into(),
                addresses: addresses(&mut body)?,
            },
            TEST_RESULT => Self::TestResult {
                node: name(&mut body)?.into(),
                answers: answers(&mut body)?,
            },
            _ => return Some(None),
        }))
    }
}

fn put_claims(kind: u8, claims: &[Claim], body: &mut Vec<u8>) -> u8 {
    for claim in claims {
        put_address(body, claim.address);
        body.extend_from_slice(&claim.epoch.to_be_bytes());
    }
    kind
}

fn put_addresses(kind: u8, node: &str, addresses: &[IpAddr], body: &mut Vec<u8>) -> u8 {
    put_name(body, node);
    for address in addresses {
        put_address(body, *address);
    }
    kind
}

fn claims(body: &mut Reader<'_>) -> Option<Vec<Claim>> {
    list(body, |body| {
        Some(Claim {
            address: body.address()?,
            epoch: body.u64()?,
        })
    })
}

fn addresses(body: &mut Reader<'_>) -> Option<Vec<IpAddr>> {
    list(body, Reader::address)
}

fn answers(body: &mut Reader<'_>) -> Option<Vec<(IpAddr, Vec<Mac>)>> {
    list(body, |body| {
        let (address, count) = (body.address()?, body.u8()?);
        let macs = (0..count).map(|_| body.mac()).collect::<Option<_>>()?;
        Some((address, macs))
    })
}

/// The entries up to the end of the section.
fn list<'a, T>(
    body: &mut Reader<'a>,
    entry: impl Fn(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut entries = Vec::new();
    while !body.0.is_empty() {
        entries.push(entry(body)?);
    }
    Some(entries)
}
