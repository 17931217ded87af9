//! Benchmark of the codecs of ferrolb-bgp, bgpkit-parser, NetGauze, routecore and zettabgp with the
//! same UPDATEs, on one thread and without sockets. Prints one line of JSON per measurement.
//!
//! `cargo xtask bench codec`, or in this package `cargo bench [-- PREFIXES [ROUNDS]]`.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use bgpkit_parser::models::{AsnLength, BgpMessage as BgpkitMessage};
use bytes::Bytes;
use ferrolb_bgp::wire::{
    AsPath, Asn, Community, DecodeContext, EncodeContext, Family, Framer, Message, NextHop, Origin,
    PathAttributes, Update, UpdateBuilder,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netgauze_bgp_pkt::BgpMessage as NetgauzeMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use routecore::bgp::message::{SessionConfig, UpdateMessage};
use zettabgp::prelude::{BgpAddrs, BgpAttrItem, BgpUpdateMessage};
use zettabgp::prelude::{BgpCapability, BgpMessage, BgpSessionParams, BgpTransportMode};

const HEADER: usize = 19;
const NEXT_HOP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NEXT_HOP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

fn main() {
    // Skip the flags that cargo adds, such as --bench.
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse::<u32>().ok());
    let prefixes = numbers.next().unwrap_or(100_000);
    let rounds = numbers.next().map_or(9, |rounds| rounds as usize);
    for family in [Family::IPV4_UNICAST, Family::IPV6_UNICAST] {
        let table: Vec<IpNet> = (0..prefixes).map(|index| prefix(family, index)).collect();
        Comparison::new(family, table, rounds).run();
    }
}

fn prefix(family: Family, index: u32) -> IpNet {
    if family == Family::IPV4_UNICAST {
        Ipv4Net::new_assert(Ipv4Addr::from(0x0a00_0000 + index), 32).into()
    } else {
        let address = 0x2001_0db8_0113_0000_0000_0000_0000_0000 + u128::from(index);
        Ipv6Net::new_assert(Ipv6Addr::from(address), 128).into()
    }
}

/// The attributes of every UPDATE: few, as from an originator.
fn attributes() -> PathAttributes {
    PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath(vec![Asn(65001)])),
        communities: vec![Community(65001 << 16 | 1), Community(65001 << 16 | 2)],
        ..PathAttributes::default()
    }
}

struct Comparison {
    family: Family,
    table: Vec<IpNet>,
    messages: Vec<Bytes>,
    octets: usize,
    rounds: usize,
}

impl Comparison {
    fn new(family: Family, table: Vec<IpNet>, rounds: usize) -> Self {
        let mut messages = Vec::new();
        pack(family, &table, |message| messages.push(message));
        let octets = messages.iter().map(Bytes::len).sum();
        Self {
            family,
            table,
            messages,
            octets,
            rounds,
        }
    }

    fn run(&self) {
        self.ferrolb();
        self.bgpkit();
        self.netgauze();
        self.routecore();
        self.zettabgp();
    }

    /// Prints the fastest round, which is the least disturbed one. `work` returns the number of
    /// prefixes that it processed.
    fn measure(&self, krate: &str, what: &str, mut work: impl FnMut() -> usize) {
        let fastest = (0..self.rounds)
            .map(|_| {
                let start = Instant::now();
                let seen = work();
                let elapsed = start.elapsed();
                assert_eq!(seen, self.table.len(), "{krate} {what}");
                elapsed
            })
            .min();
        let seconds = fastest.unwrap_or_default().as_secs_f64();
        println!(
            "{{\"benchmark\":\"codec_{what}\",\"crate\":\"{krate}\",\"family\":\"{}\",\
             \"prefixes\":{},\"nanoseconds_per_prefix\":{:.2},\"megabytes_per_second\":{:.1}}}",
            self.family,
            self.table.len(),
            seconds * 1e9 / self.table.len() as f64,
            self.octets as f64 / seconds / 1e6,
        );
    }

    fn ferrolb(&self) {
        let context = DecodeContext {
            four_octet_asn: true,
            families: vec![self.family],
            ..DecodeContext::default()
        };
        let stream = self.messages.concat();
        self.measure("ferrolb-bgp", "decode", || {
            let mut framer = Framer::default();
            let mut seen = 0;
            for octets in stream.chunks(65_536) {
                framer.push(octets);
                while let Some(message) = framer.next(&context) {
                    let Ok(Message::Update(update)) = black_box(message) else {
                        panic!("not an UPDATE");
                    };
                    seen += update.announced().count();
                }
            }
            seen
        });
        let decode = |message: &Bytes| match Message::decode(message, &context) {
            Some(Ok(Message::Update(update))) => update,
            _ => panic!("not an UPDATE"),
        };
        let updates: Vec<Update> = self.messages.iter().map(decode).collect();
        self.measure("ferrolb-bgp", "encode", || {
            let encode = |update: &Update| {
                let octets = encode_ours(self.family, update);
                assert!(black_box(octets).len() > HEADER);
                update.announced().count()
            };
            updates.iter().map(encode).sum()
        });
        // The other crates do not pack prefixes into messages.
        self.measure("ferrolb-bgp", "pack", || {
            let mut messages = 0;
            pack(self.family, &self.table, |message| {
                black_box(message);
                messages += 1;
            });
            assert_eq!(messages, self.messages.len());
            self.table.len()
        });
    }

    fn bgpkit(&self) {
        let parse = |message: &Bytes| {
            let mut octets = message.clone();
            let parsed = bgpkit_parser::parser::bgp::messages::parse_bgp_message(
                &mut octets,
                false,
                &AsnLength::Bits32,
            );
            black_box(parsed.expect("bgpkit-parser decodes it"))
        };
        let count = |message: &BgpkitMessage| {
            let BgpkitMessage::Update(update) = message else {
                return 0;
            };
            let mp = update
                .attributes
                .get_reachable_nlri()
                .map_or(0, |nlri| nlri.prefixes.len());
            update.announced_prefixes.len() + mp
        };
        self.measure("bgpkit-parser", "decode", || {
            self.messages
                .iter()
                .map(|message| count(&parse(message)))
                .sum()
        });
        let parsed: Vec<BgpkitMessage> = self.messages.iter().map(parse).collect();
        self.measure("bgpkit-parser", "encode", || {
            let encode = |message: &BgpkitMessage| {
                let octets = message
                    .encode(AsnLength::Bits32)
                    .expect("bgpkit-parser encodes it");
                assert!(black_box(octets).len() > HEADER);
                count(message)
            };
            parsed.iter().map(encode).sum()
        });
    }

    fn netgauze(&self) {
        let parse = |message: &Bytes| {
            let none = HashMap::new;
            let mut context =
                BgpParsingContext::new(true, none(), HashMap::new(), false, false, false, false);
            let parsed = NetgauzeMessage::parse(&mut SliceReader::new(message), &mut context);
            black_box(parsed.expect("netgauze decodes it"))
        };
        self.measure("netgauze-bgp-pkt", "decode", || {
            self.messages
                .iter()
                .map(|message| netgauze_count(&parse(message)))
                .sum()
        });
        let parsed: Vec<NetgauzeMessage> = self.messages.iter().map(parse).collect();
        self.measure("netgauze-bgp-pkt", "encode", || {
            let encode = |message: &NetgauzeMessage| {
                let mut octets = Vec::with_capacity(4096);
                message.write(&mut octets).expect("netgauze encodes it");
                assert!(black_box(octets).len() > HEADER);
                netgauze_count(message)
            };
            parsed.iter().map(encode).sum()
        });
    }

    /// routecore decodes lazily, so prefixes, ORIGIN and AS_PATH are read explicitly. Its encoding
    /// is not measured, since it encodes IPv4 only in MP_REACH_NLRI.
    fn routecore(&self) {
        let config = SessionConfig::modern();
        self.measure("routecore", "decode", || {
            let count = |message: &Bytes| {
                let update = UpdateMessage::from_octets(message.clone(), &config);
                let update = update.expect("routecore decodes it");
                black_box((
                    update.origin().expect("ORIGIN"),
                    update.aspath().expect("AS_PATH"),
                ));
                let announced = update.announcements().expect("prefixes");
                announced.filter(|nlri| black_box(nlri).is_ok()).count()
            };
            self.messages.iter().map(count).sum()
        });
    }

    fn zettabgp(&self) {
        let capability = if self.family == Family::IPV4_UNICAST {
            BgpCapability::SafiIPv4u
        } else {
            BgpCapability::SafiIPv6u
        };
        let capabilities = vec![capability, BgpCapability::CapASN32(65002)];
        let mode = BgpTransportMode::IPv4;
        let params = BgpSessionParams::new(65002, 180, mode, NEXT_HOP4, capabilities);
        let parse = |message: &Bytes| {
            let mut update = BgpUpdateMessage::new();
            let outcome = update.decode_from(&params, &message[HEADER..]);
            outcome.expect("zettabgp decodes it");
            black_box(update)
        };
        self.measure("zettabgp", "decode", || {
            self.messages
                .iter()
                .map(|message| zettabgp_count(&parse(message)))
                .sum()
        });
        let parsed: Vec<BgpUpdateMessage> = self.messages.iter().map(parse).collect();
        self.measure("zettabgp", "encode", || {
            let mut buffer = vec![0; 65_536];
            let mut encode = |update: &BgpUpdateMessage| {
                let body = update.encode_to(&params, &mut buffer[HEADER..]);
                assert!(black_box(body.expect("zettabgp encodes it")) > 0);
                zettabgp_count(update)
            };
            parsed.iter().map(&mut encode).sum()
        });
    }
}

/// Encodes a decoded UPDATE.
fn encode_ours(family: Family, update: &Update) -> Bytes {
    let attributes = &update.attributes;
    let reach = update.mp_reach.as_ref().map(|reach| reach.next_hop);
    let next_hop = reach.or(attributes.next_hop.map(NextHop::V4));
    let next_hop = next_hop.expect("a next hop");
    let context = EncodeContext::default();
    let builder = UpdateBuilder::announce(family, attributes, &next_hop, &context);
    let mut builder = builder.expect("a prefix fits");
    for &prefix in &update.nlri {
        assert!(builder.push(&prefix.into()));
    }
    if let Some(reach) = &update.mp_reach {
        for prefix in &reach.nlri {
            assert!(builder.push(prefix));
        }
    }
    builder.finish()
}

/// Packs single prefixes into messages of the maximum length.
fn pack(family: Family, table: &[IpNet], mut send: impl FnMut(Bytes)) {
    let next_hop = if family == Family::IPV4_UNICAST {
        NextHop::V4(NEXT_HOP4)
    } else {
        NextHop::V6 {
            global: NEXT_HOP6,
            link_local: None,
        }
    };
    let context = EncodeContext::default();
    let builder = UpdateBuilder::announce(family, &attributes(), &next_hop, &context);
    let mut builder = builder.expect("a prefix fits");
    for prefix in table {
        if !builder.push(prefix) {
            send(builder.finish());
            assert!(builder.push(prefix));
        }
    }
    send(builder.finish());
}

fn netgauze_count(message: &NetgauzeMessage) -> usize {
    use netgauze_bgp_pkt::path_attribute::{MpReach, PathAttributeValue};
    let NetgauzeMessage::Update(update) = message else {
        return 0;
    };
    let mp = update
        .path_attributes()
        .iter()
        .map(|attribute| match attribute.value() {
            PathAttributeValue::MpReach(MpReach::Ipv6Unicast { nlri, .. }) => nlri.len(),
            _ => 0,
        });
    update.nlri().len() + mp.sum::<usize>()
}

fn zettabgp_count(update: &BgpUpdateMessage) -> usize {
    let count = |addresses: &BgpAddrs| match addresses {
        BgpAddrs::IPV4U(list) => list.len(),
        BgpAddrs::IPV6U(list) => list.len(),
        _ => 0,
    };
    let mp = update.attrs.iter().map(|attribute| match attribute {
        BgpAttrItem::MPUpdates(updates) => count(&updates.addrs),
        _ => 0,
    });
    count(&update.updates) + mp.sum::<usize>()
}
