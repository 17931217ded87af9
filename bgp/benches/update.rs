//! Benchmark of UPDATEs: prefixes and octets per second, and memory per prefix. Prints one line of
//! JSON per measurement.
//!
//! * `encode`: sends a table to peers whose sessions were just established. Each prefix counts once
//!   per peer.
//! * `decode`: decodes the octets of `encode`.
//! * `memory`: the memory of a million prefixes after they were sent to a peer, and its maximum.
//!
//! `cargo bench -p ferrolb-bgp --bench update [-- PREFIXES [ROUNDS]]`

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrolb_bgp::rib::{AdjRibOut, PeerIndex, Route, SessionEncoding};
use ferrolb_bgp::wire::{Asn, DecodeContext, Family, Framer, Message, NextHop};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Octets per write, about as many as a socket accepts.
const POLL: usize = 65_536;

fn main() {
    // Skip the flags that cargo adds, such as --bench.
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok());
    let prefixes = numbers.next().unwrap_or(100_000);
    let rounds = numbers.next().unwrap_or(5);
    for family in [Family::IPV4_UNICAST, Family::IPV6_UNICAST] {
        memory(family, 1_000_000);
    }
    for family in [Family::IPV4_UNICAST, Family::IPV6_UNICAST] {
        for peers in [1, 100] {
            let measured = (0..rounds).map(|_| encode(family, prefixes, peers).0);
            report(
                "encode",
                family,
                prefixes,
                peers,
                measured,
                octets(family, prefixes),
            );
        }
        let stream = encode(family, prefixes, 1).1;
        let measured = (0..rounds).map(|_| decode(&stream, family, prefixes));
        report(
            "decode",
            family,
            prefixes,
            1,
            measured,
            octets(family, prefixes),
        );
    }
}

/// The number of octets that one peer receives.
fn octets(family: Family, prefixes: u32) -> u64 {
    encode(family, prefixes, 1)
        .1
        .iter()
        .map(|octets| octets.len() as u64)
        .sum()
}

/// Prints the fastest run, which is the least disturbed one.
fn report(
    what: &str,
    family: Family,
    prefixes: u32,
    peers: u32,
    measured: impl Iterator<Item = Duration>,
    octets: u64,
) {
    let seconds = measured.min().unwrap_or_default().as_secs_f64();
    let prefix_rate = f64::from(prefixes) * f64::from(peers) / seconds;
    let octet_rate = octets as f64 * f64::from(peers) / seconds;
    println!(
        "{{\"benchmark\":\"update_{what}\",\"family\":\"{family}\",\"peers\":{peers},\
         \"prefixes\":{prefixes},\"seconds\":{seconds:.6},\
         \"prefixes_per_second\":{prefix_rate:.0},\"octets_per_second\":{octet_rate:.0}}}"
    );
}

/// Sends a table to the peers in turn, as for sockets that are always writable. Returns the
/// duration and the octets for the first peer.
fn encode(family: Family, prefixes: u32, peers: u32) -> (Duration, Vec<Bytes>) {
    let mut rib = AdjRibOut::new();
    let route = Route::default();
    for peer in 0..peers {
        for index in 0..prefixes {
            rib.set(
                PeerIndex(peer),
                prefix(family, index),
                Some(Route::clone(&route)),
            );
        }
    }
    rib.open_gate();
    for peer in 0..peers {
        rib.session_up(PeerIndex(peer), encoding(family));
    }
    let mut first = Vec::new();
    let start = Instant::now();
    let mut busy = true;
    while busy {
        busy = false;
        for peer in 0..peers {
            if let Some(octets) = rib.poll_transmit(Instant::now(), PeerIndex(peer), POLL) {
                busy = true;
                if peer == 0 {
                    first.push(octets);
                } else {
                    black_box(octets);
                }
            }
        }
    }
    let elapsed = start.elapsed();
    let expected = u64::from(prefixes);
    assert!((0..peers).all(|peer| rib.counters(PeerIndex(peer)).prefixes == expected));
    (elapsed, first)
}

/// Prints the growth of the process's resident memory.
fn memory(family: Family, prefixes: u32) {
    let (before, _) = resident();
    let mut rib = AdjRibOut::new();
    let route = Route::default();
    for index in 0..prefixes {
        let route = Route::clone(&route);
        rib.set(PeerIndex(0), prefix(family, index), Some(route));
    }
    rib.open_gate();
    rib.session_up(PeerIndex(0), encoding(family));
    while let Some(octets) = rib.poll_transmit(Instant::now(), PeerIndex(0), POLL) {
        black_box(octets);
    }
    let (after, most) = resident();
    let each = |octets: u64| octets.saturating_sub(before) as f64 / f64::from(prefixes);
    println!(
        "{{\"benchmark\":\"update_memory\",\"family\":\"{family}\",\"prefixes\":{prefixes},\
         \"octets_per_prefix\":{:.1},\"most_octets_per_prefix\":{:.1}}}",
        each(after),
        each(most)
    );
}

/// The current and the maximum resident memory of this process in octets.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0) * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn decode(stream: &[Bytes], family: Family, prefixes: u32) -> Duration {
    let context = DecodeContext {
        four_octet_asn: true,
        ibgp: false,
        families: vec![family],
        ..DecodeContext::default()
    };
    let mut framer = Framer::default();
    let mut seen = 0;
    let start = Instant::now();
    for octets in stream {
        framer.push(octets);
        while let Some(message) = framer.next(&context) {
            match message {
                Ok(Message::Update(update)) => seen += update.announced().count(),
                other => panic!("not an UPDATE: {other:?}"),
            }
        }
    }
    let elapsed = start.elapsed();
    assert_eq!(seen, prefixes as usize);
    elapsed
}

const LOCAL: Asn = Asn(64512);

fn encoding(family: Family) -> SessionEncoding {
    SessionEncoding {
        families: vec![family],
        ebgp: Some(LOCAL),
        four_octet_asn: true,
        max_length: 4096,
        ipv4_next_hop: Some(NextHop::V4(Ipv4Addr::new(192, 0, 2, 1))),
        ipv6_next_hop: Some(NextHop::global_v6(Ipv6Addr::new(
            0x2001, 0xdb8, 0, 0, 0, 0, 0, 1,
        ))),
        enhanced_route_refresh: false,
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
