//! Many BFD sessions beside BGP under load: counts false downs. Two of it, in two network namespaces:
//!
//! ```text
//! bfd_load left  --peers 64 --routes 1000000    # announces, from 10.1.0.1 …
//! bfd_load right --peers 64                     # takes, at 10.1.1.1 …
//! ```
//!
//! Nothing cuts the path, so every loss it prints is a false one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use ferrolb_bgp::bfd::{self, Interval, SessionConfig};
use ferrolb_bgp::config::{BfdOptions, PeerConfig, Transport};
use ferrolb_bgp::fsm::{Event, PeerRoutes, SpeakerConfig};
use ferrolb_bgp::rib::RouteAttributes;
use ferrolb_bgp::speaker::{self, Handle, SpeakerOptions};
use ferrolb_bgp::wire::{Asn, Family};
use ipnet::IpNet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    Left,
    Right,
}

/// Count the BFD sessions that are lost while both ends are busy.
#[derive(Debug, Parser)]
struct Options {
    /// Which end this is
    side: Side,
    /// Sessions, at most 250
    #[arg(long, default_value_t = 64)]
    peers: u8,
    /// Routes announced to each of them
    #[arg(long, default_value_t = 0)]
    routes: u32,
    /// BFD's interval in milliseconds
    #[arg(long, default_value_t = 50)]
    interval: u32,
    /// After how many lost packets the path counts as lost
    #[arg(long, default_value = "3")]
    multiplier: NonZeroU8,
    /// How long to run, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

fn peer(options: &Options, index: u8) -> PeerConfig {
    let [left, right] = [0, 1].map(|side| Ipv4Addr::new(10, 1, side, index));
    let (local, remote, asns) = match options.side {
        Side::Left => (left, right, [65001, 65002]),
        Side::Right => (right, left, [65002, 65001]),
    };
    let interval = Interval::from_millis(options.interval);
    let timers = bfd::Timers {
        desired_min_tx: interval,
        required_min_rx: interval,
        detect_mult: options.multiplier,
    };
    PeerConfig {
        transport: Transport {
            source_address: Some(IpAddr::from(local)),
            passive: options.side == Side::Right,
            ..Transport::default()
        },
        families: vec![Family::IPV4_UNICAST],
        bfd: Some(BfdOptions {
            session: SessionConfig {
                timers,
                ..SessionConfig::default()
            },
            strict: false,
        }),
        ..PeerConfig::new(
            index.to_string(),
            SocketAddr::new(remote.into(), 179),
            Asn(asns[0]),
            Asn(asns[1]),
        )
    }
}

/// In portions, so that sessions and their keepalives have their turn in between.
fn announce(handle: &Handle, options: &Options) {
    const PORTION: u32 = 10_000;
    let route = Arc::new(RouteAttributes::default());
    for first in (0..options.routes).step_by(PORTION as usize) {
        let changes = (first..options.routes.min(first + PORTION)).map(|number| {
            let prefix = IpNet::from(IpAddr::from(Ipv4Addr::from(0x2000_0000 + number)));
            (prefix, Some(route.clone()))
        });
        let changes: Vec<_> = changes.collect();
        let all = (1..=options.peers).map(|index| PeerRoutes {
            peer: index.to_string(),
            changes: changes.clone(),
        });
        handle.routes(all.collect());
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let (handle, mut events) = speaker::spawn(SpeakerOptions {
        speaker: SpeakerConfig {
            router_id_fallback: Ipv4Addr::LOCALHOST,
            seed: 1,
            host_uptime: None,
        },
        listen: (options.side == Side::Right)
            .then(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 179))
            .into_iter()
            .collect(),
    })?;
    for index in 1..=options.peers {
        handle.set_peer(peer(&options, index))?;
    }
    // First all sessions, then the load.
    tokio::time::sleep(Duration::from_secs(5)).await;
    handle.open_gate();
    announce(&handle, &options);
    let begun = Instant::now();
    let end = tokio::time::sleep(Duration::from_secs(options.seconds));
    tokio::pin!(end);
    let (mut ups, mut downs, mut sessions_lost) = (0, 0, 0);
    loop {
        tokio::select! {
            () = &mut end => break,
            event = events.recv() => match event {
                Some(Event::Bfd { state: bfd::State::Up, .. }) => ups += 1,
                Some(Event::Bfd { peer, state: bfd::State::Down, reason }) => {
                    println!("{:.3} s: {peer} lost: {reason}", begun.elapsed().as_secs_f64());
                    downs += 1;
                }
                Some(Event::Down { was_established: true, .. }) => sessions_lost += 1,
                Some(_) => {}
                None => return Err("the speaker ended by itself".into()),
            }
        }
    }
    let status = handle.snapshot().await;
    let told: u64 = status.iter().map(|peer| peer.prefixes_advertised).sum();
    let heard: u64 = status.iter().map(|peer| peer.announcements_received).sum();
    println!(
        "{:?}: {ups} × up, {downs} × lost, {sessions_lost} sessions lost; {told} routes told, {heard} heard",
        options.side
    );
    Ok(())
}
