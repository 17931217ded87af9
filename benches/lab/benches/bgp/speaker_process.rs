//! ferrolb's engine as a separate process: this program, started with `--speaker`.
//!
//! It reads commands from a FIFO: `+ FIRST COUNT` announces prefixes, `- FIRST COUNT` withdraws
//! them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ferrolb_bgp::bfd::SessionConfig;
use ferrolb_bgp::config::{BfdOptions, HoldTime, PeerConfig};
use ferrolb_bgp::fsm::{PeerRoutes, SpeakerConfig};
use ferrolb_bgp::rib::{Route, RouteAttributes};
use ferrolb_bgp::speaker::{self, Handle, SpeakerOptions};
use ferrolb_bgp::wire::{Asn, Family};
use ipnet::IpNet;

use super::load::{BfdLoad, DAEMON_ASN, Load, changed};
use super::{responder, sink};

/// Prefixes per call while the table is loaded.
const BATCH: usize = 10_000;

/// Runs the speaker. Arguments: `FIFO PEERS ROUTES 4|6 BFD-SESSIONS`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let [fifo, peers, routes, version, sessions] = arguments else {
        anyhow::bail!("usage: --speaker FIFO PEERS ROUTES 4|6 BFD-SESSIONS");
    };
    let load = Load {
        peers: peers.parse()?,
        routes: routes.parse()?,
        family: if version == "4" {
            Family::IPV4_UNICAST
        } else {
            Family::IPV6_UNICAST
        },
        bfd: Some(BfdLoad {
            sessions: sessions.parse()?,
            // Not used here: the parent process has dropped the capability or left it.
            real_time: true,
        }),
    };
    let speaker = SpeakerConfig {
        router_id_fallback: Ipv4Addr::new(10, 255, 0, 1),
        seed: 1,
        host_uptime: None,
    };
    let (handle, events) = speaker::spawn(SpeakerOptions {
        speaker,
        listen: Vec::new(),
    })?;
    drop(events);
    let mut names = Vec::new();
    for address in load.addresses() {
        handle.set_peer(peer(load, address)?)?;
        names.push(address.to_string());
    }
    for address in load.bfd_addresses() {
        let mut peer = peer(load, address)?;
        peer.bfd = Some(BfdOptions {
            session: SessionConfig {
                timers: responder::TIMERS,
                ..SessionConfig::default()
            },
            strict: false,
        });
        handle.set_peer(peer)?;
    }
    let route: Route = Arc::new(RouteAttributes::default());
    let table: Vec<IpNet> = load.prefixes().collect();
    for prefixes in table.chunks(BATCH) {
        send(&handle, &names, prefixes, Some(&route));
    }
    drop(table);
    handle.open_gate();
    execute(&handle, &names, load, fifo, &route)
}

fn peer(load: Load, address: IpAddr) -> Result<PeerConfig> {
    let remote = SocketAddr::new(address, 179);
    let mut peer = PeerConfig::new(address.to_string(), remote, Asn(DAEMON_ASN), sink::ASN);
    peer.families = vec![load.family];
    peer.timers.hold_time = HoldTime::from_secs(sink::HOLD_TIME)?;
    peer.timers.connect_retry = Some(Duration::from_secs(1));
    Ok(peer)
}

fn execute(handle: &Handle, names: &[String], load: Load, fifo: &str, route: &Route) -> Result<()> {
    // Also opened for writing, so that reading never reaches the end of the file.
    let commands = File::options().read(true).write(true).open(fifo)?;
    for line in BufReader::new(commands).lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let [sign, first, count] = words[..] else {
            anyhow::bail!("invalid command: {line}");
        };
        let first: u32 = first.parse().context("FIRST")?;
        let count: u32 = count.parse().context("COUNT")?;
        let prefixes: Vec<IpNet> = changed(load.is_ipv4(), first..first + count).collect();
        send(
            handle,
            names,
            &prefixes,
            Some(route).filter(|_| sign == "+"),
        );
    }
    Ok(())
}

fn send(handle: &Handle, names: &[String], prefixes: &[IpNet], route: Option<&Route>) {
    let changes = || {
        prefixes
            .iter()
            .map(|prefix| (*prefix, route.cloned()))
            .collect()
    };
    let routes = names.iter().map(|name| PeerRoutes {
        peer: name.clone(),
        changes: changes(),
    });
    handle.routes(routes.collect());
}
