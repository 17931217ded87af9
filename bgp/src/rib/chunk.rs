//! Encoded stretches of a batch, kept for the other sessions that are to get the same.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;

use super::batch::{Batch, Run};
use super::peer_set::PeerSet;
use super::table::{State, Table};
use super::{DEFAULT_LOCAL_PREF, PeerIndex, RouteAttributes, SessionEncoding};
use crate::wire::{AsPath, EncodeContext, PathAttributes, UpdateBuilder};

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
    /// The first of these.
    pub(super) first_left_out: Option<IpNet>,
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

/// A chunk in the making.
struct Encoder<'a> {
    table: &'a Table,
    request: &'a Request<'a>,
    context: EncodeContext,
    octets: BytesMut,
    chunk: Chunk,
}

impl Encoder<'_> {
    /// Whether there may be no room for another message.
    fn is_full(&self) -> bool {
        self.octets.len() + self.context.max_length > self.request.max
    }

    /// The messages out of the run at `index`, from `chunk.next` on and as far as they fit.
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

    /// Whether the peer is to be told of a prefix in `state`, `known` being the last one asked for
    /// in this run; the chunk is for the peers of which the same is true.
    fn needs(&mut self, run: &Run, state: State, known: &mut Option<(State, bool)>) -> bool {
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

    /// `None` if the attributes leave no room for a prefix.
    fn builder(&self, run: &Run) -> Option<UpdateBuilder> {
        let Some(route) = &run.route else {
            return UpdateBuilder::withdraw(run.family, &self.context).ok();
        };
        let attributes = path_attributes(route, self.request.encoding);
        let next_hop = self.request.encoding.next_hop(run.family)?;
        UpdateBuilder::announce(run.family, &attributes, &next_hop, &self.context).ok()
    }

    /// Passes over the rest of a run that nothing can be sent of.
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

/// The attributes as they go to a session (RFC 4271 §5.1.2, §5.1.5).
fn path_attributes(route: &RouteAttributes, encoding: &SessionEncoding) -> PathAttributes {
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
