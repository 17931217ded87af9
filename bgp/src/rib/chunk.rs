//! Encoded stretches of a batch, kept for the other sessions that are to get the same.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::batch::{Batch, Run};
use super::peer_set::PeerSet;
use super::table::{Change, Table};
use super::{PeerIndex, RouteAttributes, SessionEncoding};
use crate::wire::{AsPath, EncodeContext, Family, PathAttributes, UpdateBuilder};

/// LOCAL_PREF where nobody asked for another: the value every implementation assumes.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// How many octets of chunks are kept: three million IPv4 prefixes, or one million IPv6 ones.
const CACHE_LIMIT: usize = 16 << 20;

/// What a chunk costs beside its octets, roughly; most chunks of a quiet table are tiny.
const CHUNK_OVERHEAD: usize = 256;

/// Whole messages for a stretch of a batch.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Empty when the stretch holds nothing for the peers in `valid_for`.
    pub(super) octets: Bytes,
    /// Where in the batch the stretch ends.
    pub(super) next: usize,
    /// How many messages `octets` are.
    pub(super) updates: u64,
    /// The positions each message was made from, and their run.
    pub(super) messages: Vec<(usize, Range<usize>)>,
    /// Prefixes left out since their attributes fill a message alone.
    pub(super) left_out: u64,
    /// The peers that need the same of each prefix in the stretch.
    valid_for: PeerSet,
}

/// Who asks for a chunk, of what.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) peer: PeerIndex,
    pub(super) encoding: &'a Arc<SessionEncoding>,
    pub(super) batch: &'a Batch,
    pub(super) position: usize,
    /// The most octets a chunk may have.
    pub(super) max: usize,
    /// One more than the highest peer index.
    pub(super) peers: u32,
}

impl Chunk {
    /// Encodes from the request's position to the end of the batch, or as far as fits.
    fn encode(table: &Table, request: &Request<'_>) -> Self {
        let batch = request.batch;
        let context = EncodeContext {
            four_octet_asn: request.encoding.four_octet_asn,
            max_length: request.encoding.max_length.min(request.max),
        };
        let mut octets = BytesMut::new();
        let mut chunk = Self {
            octets: Bytes::new(),
            next: request.position,
            updates: 0,
            messages: Vec::new(),
            left_out: 0,
            valid_for: PeerSet::below(request.peers),
        };
        let mut index = batch.run_at(request.position);
        while let Some(run) = batch.runs.get(index) {
            if octets.len() + context.max_length > request.max {
                break;
            }
            if let Some(message) = chunk.encode_message(table, request, index, &context) {
                octets.extend_from_slice(&message);
                chunk.updates += 1;
            }
            if chunk.next == run.end {
                index += 1;
            }
        }
        chunk.octets = octets.freeze();
        chunk
    }

    /// One message out of the run at `index`, from `self.next` on.
    fn encode_message(
        &mut self,
        table: &Table,
        request: &Request<'_>,
        index: usize,
        context: &EncodeContext,
    ) -> Option<Bytes> {
        let batch = request.batch;
        let run = &batch.runs[index];
        let mut message = None;
        let first = self.next;
        if request.encoding.next_hop(run.family).is_none() {
            self.next = run.end;
            return None;
        }
        while self.next < run.end {
            let slot = batch.slots[self.next];
            if let Some(entry) = table.entry_as_of(slot, batch.to) {
                let needs = entry.needs(request.peer, &run.change);
                if needs {
                    if message.is_none() {
                        message = begin_message(run, request.encoding, context);
                    }
                    let Some(message) = &mut message else {
                        self.left_out += u64::try_from(run.end - self.next).unwrap_or(u64::MAX);
                        self.next = run.end;
                        return None;
                    };
                    if !message.push(entry.prefix) {
                        break;
                    }
                }
                entry.retain_needing(&mut self.valid_for, &run.change, needs);
            }
            self.next += 1;
        }
        let message = message?;
        self.messages.push((index, first..self.next));
        Some(message.finish())
    }
}

/// A message that has room for at least one prefix, or `None` when the attributes alone fill it.
fn begin_message(
    run: &Run,
    encoding: &SessionEncoding,
    context: &EncodeContext,
) -> Option<UpdateBuilder> {
    let begin = || match &run.change {
        Change::Withdraw => Some(UpdateBuilder::withdraw(run.family, context)),
        Change::Announce(route) => {
            let attributes = path_attributes(route, encoding);
            let next_hop = encoding.next_hop(run.family)?;
            Some(UpdateBuilder::announce(
                run.family,
                &attributes,
                &next_hop,
                context,
            ))
        }
    };
    // Tried with the longest prefix, so that the answer is the same for a whole run.
    begin()?.push(longest_prefix(run.family)).then(begin)?
}

fn longest_prefix(family: Family) -> IpNet {
    if family == Family::IPV4_UNICAST {
        IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::BROADCAST, 32))
    } else {
        IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128))
    }
}

/// The attributes as they go to a session (RFC 4271 §5.1.2, §5.1.5).
fn path_attributes(route: &RouteAttributes, encoding: &SessionEncoding) -> PathAttributes {
    let RouteAttributes {
        origin,
        med,
        local_pref,
        communities,
        large_communities,
    } = route;
    let local_pref = local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
    PathAttributes {
        origin: Some(*origin),
        as_path: Some(
            encoding
                .ebgp
                .map_or_else(AsPath::default, |asn| AsPath(vec![asn])),
        ),
        med: *med,
        local_pref: encoding.ebgp.is_none().then_some(local_pref),
        communities: communities.clone(),
        large_communities: large_communities.clone(),
        ..PathAttributes::default()
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    batch: u64,
    position: usize,
    max: usize,
    encoding: Arc<SessionEncoding>,
}

/// The chunks made since the table changed last.
#[derive(Debug, Default)]
pub(super) struct ChunkCache {
    /// Several per key, when peers with the same encoding are to be told different things.
    chunks: HashMap<Key, Vec<Chunk>>,
    /// What they cost, in octets.
    size: usize,
    encoded: u64,
}

impl ChunkCache {
    /// The chunk that answers `request`, encoded only if there is none yet.
    pub(super) fn get(&mut self, table: &Table, request: &Request<'_>) -> &Chunk {
        if self.size > CACHE_LIMIT {
            self.clear();
        }
        let key = Key {
            batch: request.batch.id,
            position: request.position,
            max: request.max,
            encoding: Arc::clone(request.encoding),
        };
        let held = self.chunks.entry(key).or_default();
        let valid = held
            .iter()
            .position(|chunk| chunk.valid_for.contains(request.peer));
        let index = valid.unwrap_or_else(|| {
            let chunk = Chunk::encode(table, request);
            self.encoded += chunk.updates;
            self.size += chunk.octets.len() + CHUNK_OVERHEAD;
            held.push(chunk);
            held.len() - 1
        });
        &held[index]
    }

    /// What `peer` was told is not what it was when the chunks were made: they aren't for it.
    pub(super) fn forget(&mut self, peer: PeerIndex) {
        for chunk in self.chunks.values_mut().flatten() {
            chunk.valid_for.remove(peer);
        }
    }

    /// Drops all chunks: the table changed.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.size = 0;
    }

    /// How many messages were encoded, ever.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded
    }

    /// How many octets the chunks cost.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}
