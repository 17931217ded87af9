//! A complete speaker: announces prefixes to a router until Ctrl-C, then withdraws them.
//!
//! `main` shows the life of a speaker: spawn it, add a peer, hand over routes, open the gate, read
//! events, shut it down. `options.rs` builds the configuration.

mod options;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use clap::Parser;
use ferrolb_bgp::config::Remote;
use ferrolb_bgp::fsm::{Event, ShutdownMode, SpeakerConfig};
use ferrolb_bgp::speaker::{self, SpeakerOptions};
use ferrolb_bgp::wire::{PathAttributes, Update};
use options::Options;
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let level = if options.verbose { "debug" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).init();

    let (handle, mut events) = speaker::spawn(SpeakerOptions {
        speaker: SpeakerConfig {
            router_id_fallback: local_address(options.peer, options.source)
                .unwrap_or(Ipv4Addr::from(u32::from_be_bytes(*b"frlb"))),
            seed: std::process::id().into(),
            host_uptime: uptime(),
        },
        listen: options.listen.into_iter().collect(),
    })?;
    handle.set_peer(options.peer_config()?)?;
    handle.routes(vec![options.routes()?]);
    // The set of routes is complete: now UPDATEs and End-of-RIB may be sent.
    handle.open_gate();

    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            // Changing the password does not reset the session.
            Some(()) = hangup.recv() => handle.set_peer(options.peer_config()?)?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                let mode = if options.preserve {
                    ShutdownMode::GracefulRestart
                } else {
                    ShutdownMode::Withdraw
                };
                handle.shutdown(options.shutdown_text, mode).await;
                return Ok(());
            }
            event = events.recv() => match event {
                Some(event) if options.receive => print(&event),
                Some(_) => {} // The speaker logs events.
                None => return Err("the speaker terminated unexpectedly".into()),
            },
        }
    }
}

/// The IPv4 address from which the kernel would reach the peer. Sends no packet.
fn local_address(peer: Remote, source: Option<IpAddr>) -> Option<Ipv4Addr> {
    let source = source.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let socket = UdpSocket::bind((source, 0)).ok()?;
    socket.connect(peer.router()?).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(local) => Some(local),
        IpAddr::V6(_) => None,
    }
}

/// Uptime of the host; `None` without `/proc`.
fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn print(event: &Event) {
    match event {
        Event::Established { peer, .. } => println!("{peer} up"),
        Event::Down {
            peer,
            was_established: true,
            ..
        } => println!("{peer} down"),
        Event::Received { peer, update } => print_update(peer, update),
        _ => {}
    }
}

/// Prints one line per prefix.
fn print_update(peer: &str, update: &Update) {
    if let Some(family) = update.end_of_rib() {
        println!("{peer} End-of-RIB {family}");
    }
    for prefix in update.withdrawn_prefixes() {
        println!("{peer} - {prefix}");
    }
    let attributes = describe(&update.attributes);
    for prefix in update.announced() {
        let reach = update.mp_reach.as_ref();
        let reach = reach.filter(|reach| reach.nlri.contains(&prefix));
        let next_hop = match (reach, update.attributes.next_hop) {
            (Some(reach), _) => reach.next_hop.to_string(),
            (None, Some(next_hop)) => next_hop.to_string(),
            (None, None) => "nowhere".to_owned(),
        };
        println!("{peer} + {prefix} via {next_hop}{attributes}");
    }
}

fn describe(attributes: &PathAttributes) -> String {
    let mut text = String::new();
    for community in &attributes.communities {
        text += &format!(" community {community}");
    }
    for community in &attributes.large_communities {
        text += &format!(" large-community {community}");
    }
    for community in &attributes.extended_communities {
        text += &format!(" extended-community {community}");
    }
    for community in &attributes.ipv6_extended_communities {
        text += &format!(" ipv6-extended-community {community}");
    }
    if let Some(local_pref) = attributes.local_pref {
        text += &format!(" local-pref {local_pref}");
    }
    text
}
