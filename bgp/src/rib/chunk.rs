//! Chunks: encoded messages for a part of a batch, cached for all sessions that need the same.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;

use super::batch::{Batch, Run};
use super::peer_set::PeerSet;
use super::table::{PrefixState, Table};
use super::{DEFAULT_LOCAL_PREF, PeerIndex, RouteAttributes, SessionEncoding};
use crate::wire::{AsPath, EncodeContext, PathAttributes, UpdateBuilder};

/// Maximum size of the cache in octets: three million IPv4 or one million IPv6 prefixes.
const CACHE_LIMIT: usize = 16 << 20;

/// Approximate memory of a chunk in addition to its octets. Most chunks of a stable table are tiny.
const CHUNK_OVERHEAD: usize = 256;

/// Complete messages for a part of a batch.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Empty if the part contains nothing for the peers in `valid_for`.
    pub(super) octets: Bytes,
    /// Position in the batch at which the next chunk starts.
    pub(super) next: usize,
    /// Number of messages in `octets`.
    pub(super) updates: u64,
    /// Run and positions of each message.
    pub(super) messages: Vec<(usize, Range<usize>)>,
    /// Number of skipped prefixes whose attributes exceed the maximum message length.
    pub(super) left_out: u64,
    /// The first skipped prefix.
    pub(super) first_left_out: Option<IpNet>,
    /// Invariant: for every prefix in the part, these peers need the same change.
    valid_for: PeerSet,
}

/// Parameters of a chunk.
#[derive(Debug)]
pub(super) struct ChunkRequest<'a> {
    pub(super) peer: PeerIndex,
    pub(super) encoding: &'a Arc<SessionEncoding>,
    pub(super) batch: &'a Batch,
    pub(super) position: usize,
    /// Maximum length of the chunk in octets.
    pub(super) max: usize,
    /// One more than the highest peer index.
    pub(super) peers: u32,
}

impl Chunk {
    /// Encodes changes from the requested position until the batch ends or the chunk is full.
    fn encode(table: &Table, request: &ChunkRequest<'_>) -> Self {
        let mut encoder = Encoder {
            table,
            request,
            context: EncodeContext {
                four_octet_asn: request.encoding.four_octet_asn,
                max_length: request.encoding.max_length.min(request.max),
            },
            octets: BytesMut::new(),
            chunk: Self {
                octets: Bytes::new(),
                next: request.position,
                updates: 0,
                messages: Vec::new(),
                left_out: 0,
                first_left_out: None,
                valid_for: PeerSet::below(request.peers),
            },
        };
        let runs = &request.batch.runs;
        for index in request.batch.run_at(request.position)..runs.len() {
            if encoder.is_full() {
                break;
            }
            encoder.encode_run(index);
        }
        encoder.chunk.octets = encoder.octets.freeze();
        encoder.chunk
    }
}

/// Builds a chunk.
struct Encoder<'a> {
    table: &'a Table,
    request: &'a ChunkRequest<'a>,
    context: EncodeContext,
    octets: BytesMut,
    chunk: Chunk,
}

impl Encoder<'_> {
    /// Whether another message may not fit.
    fn is_full(&self) -> bool {
        self.octets.len() + self.context.max_length > self.request.max
    }

    /// Encodes the run at `index` from `chunk.next` on until the chunk is full.
    fn encode_run(&mut self, index: usize) {
        let batch = self.request.batch;
        let run = &batch.runs[index];
        let mut known = None;
        if self.request.encoding.next_hop(run.family).is_none() {
            self.chunk.next = run.end;
            return;
        }
        let mut builder = None;
        let mut first = self.chunk.next;
        while self.chunk.next < run.end {
            let slot = batch.slots[self.chunk.next];
            if let Some(state) = self.table.state_as_of(slot, batch.to)
                && self.needs(run, state, &mut known)
            {
                if builder.is_none() {
                    builder = self.builder(run);
                }
                let Some(builder) = &mut builder else {
                    self.leave_out(run);
                    return;
                };
                if !builder.push(self.table.prefix(slot)) {
                    self.end_message(builder, index, first);
                    first = self.chunk.next;
                    if self.is_full() {
                        return;
                    }
                    // An empty message has room for any prefix.
                    builder.push(self.table.prefix(slot));
                }
            }
            self.chunk.next += 1;
        }
        if let Some(builder) = &mut builder {
            self.end_message(builder, index, first);
        }
    }

    /// Whether the peer needs this run's change for a prefix in `state`. Restricts the chunk to the
    /// peers with the same answer. `known` caches the last state and answer of the run.
    fn needs(
        &mut self,
        run: &Run,
        state: PrefixState,
        known: &mut Option<(PrefixState, bool)>,
    ) -> bool {
        if let Some((_, needs)) = known.filter(|(known, _)| *known == state) {
            return needs;
        }
        let (peer, repeat) = (self.request.peer, self.request.batch.repeat);
        let needs = self.table.needs(state, peer, &run.change, repeat);
        let valid_for = &mut self.chunk.valid_for;
        self.table
            .retain_needing(state, valid_for, &run.change, repeat, needs);
        *known = Some((state, needs));
        needs
    }

    fn end_message(&mut self, builder: &mut UpdateBuilder, run: usize, first: usize) {
        self.octets.extend_from_slice(&builder.finish());
        self.chunk.updates += 1;
        self.chunk.messages.push((run, first..self.chunk.next));
    }

    /// Starts a message; `None` if its attributes leave no room for a prefix.
    fn builder(&self, run: &Run) -> Option<UpdateBuilder> {
        let Some(route) = &run.route else {
            return UpdateBuilder::withdraw(run.family, &self.context).ok();
        };
        let attributes = path_attributes(route, self.request.encoding);
        let next_hop = self.request.encoding.next_hop(run.family)?;
        UpdateBuilder::announce(run.family, &attributes, &next_hop, &self.context).ok()
    }

    /// Skips and counts the rest of a run whose attributes are too long.
    fn leave_out(&mut self, run: &Run) {
        let batch = self.request.batch;
        let mut known = None;
        for slot in &batch.slots[self.chunk.next..run.end] {
            if let Some(state) = self.table.state_as_of(*slot, batch.to)
                && self.needs(run, state, &mut known)
            {
                self.chunk.left_out += 1;
                let first = &mut self.chunk.first_left_out;
                first.get_or_insert_with(|| *self.table.prefix(*slot));
            }
        }
        self.chunk.next = run.end;
    }
}

/// Adds the session's attributes (RFC 4271 §5.1.2, §5.1.5).
pub(super) fn path_attributes(
    route: &RouteAttributes,
    encoding: &SessionEncoding,
) -> PathAttributes {
    let RouteAttributes {
        origin,
        med,
        local_pref,
        prepend,
        atomic_aggregate,
        aggregator,
        communities,
        large_communities,
        extended_communities,
        ipv6_extended_communities,
    } = route;
    let local_pref = local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
    PathAttributes {
        origin: Some(*origin),
        as_path: Some(encoding.ebgp.map_or_else(AsPath::default, |asn| {
            AsPath(vec![asn; 1 + usize::from(*prepend)])
        })),
        med: *med,
        local_pref: encoding.ebgp.is_none().then_some(local_pref),
        atomic_aggregate: *atomic_aggregate,
        aggregator: *aggregator,
        communities: communities.clone(),
        large_communities: large_communities.clone(),
        extended_communities: extended_communities.clone(),
        ipv6_extended_communities: ipv6_extended_communities.clone(),
        ..PathAttributes::default()
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ChunkKey {
    batch: u64,
    position: usize,
    max: usize,
    encoding: Arc<SessionEncoding>,
}

/// The chunks encoded since the last change of the table.
#[derive(Debug, Default)]
pub(super) struct ChunkCache {
    /// Several chunks per key if peers with the same encoding need different changes.
    chunks: HashMap<ChunkKey, Vec<Chunk>>,
    /// Memory of the chunks in octets.
    size: usize,
    encoded: u64,
}

impl ChunkCache {
    /// Returns the chunk for `request`. Encodes it unless it is in the cache.
    pub(super) fn get(&mut self, table: &Table, request: &ChunkRequest<'_>) -> &Chunk {
        if self.size > CACHE_LIMIT {
            self.clear();
        }
        let key = ChunkKey {
            batch: request.batch.id,
            position: request.position,
            max: request.max,
            encoding: Arc::clone(request.encoding),
        };
        let chunks = self.chunks.entry(key).or_default();
        let valid = chunks
            .iter()
            .position(|chunk| chunk.valid_for.contains(request.peer));
        let index = valid.unwrap_or_else(|| {
            let chunk = Chunk::encode(table, request);
            self.encoded += chunk.updates;
            self.size += chunk.octets.len() + CHUNK_OVERHEAD;
            chunks.push(chunk);
            chunks.len() - 1
        });
        &chunks[index]
    }

    /// Excludes `peer` from all chunks, because its sent routes have changed since they were
    /// encoded.
    pub(super) fn invalidate_for(&mut self, peer: PeerIndex) {
        for chunk in self.chunks.values_mut().flatten() {
            chunk.valid_for.remove(peer);
        }
    }

    /// Drops all chunks.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.size = 0;
    }

    /// Number of messages encoded so far.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded
    }

    /// Memory of the chunks in octets.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}
