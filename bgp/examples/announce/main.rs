//! Announces prefixes to a router until Ctrl-C.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ferrolb_bgp::bfd::{self, Interval, SessionConfig};
use ferrolb_bgp::config::{
    BfdOptions, GracefulRestart, HoldTime, NextHops, PeerConfig, Remote, RemoteAsn, Secret, Timers,
    Transport,
};
use ferrolb_bgp::fsm::{Event, PeerRoutes, ShutdownMode, SpeakerConfig};
use ferrolb_bgp::rib::RouteAttributes;
use ferrolb_bgp::speaker::{self, SpeakerOptions};
use ferrolb_bgp::wire::{
    Asn, Community, ExtendedCommunity, Ipv6ExtendedCommunity, LargeCommunity, Update,
};
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};

/// Announce prefixes to a BGP router until Ctrl-C, then withdraw them.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  One address over eBGP to a router on the usual port:
    announce --peer 192.0.2.1 --local-asn 65001 --peer-asn 65002 --prefix 203.0.113.10/32

  IPv4 and IPv6 over one IPv4 session, with a password and communities:
    announce --peer 192.0.2.1:1790 --local-asn 65001 --peer-asn 65002 \\
      --password-file /etc/bgp.key --next-hop6 2001:db8::5 --community 64700:120 \\
      --prefix 203.0.113.10/32 --prefix 2001:db8:1::10/128

  Only listen, and print what the peer sends:
    announce --peer 192.0.2.1 --passive --listen 0.0.0.0:179 --receive \\
      --local-asn 65001 --peer-asn 65002"
)]
struct Options {
    /// The router: address, or address:port (179 if not given); or a network such as 192.0.2.0/24, to which
    /// we listen and never dial
    #[arg(long, value_parser = remote)]
    peer: Remote,
    /// Our AS number
    #[arg(long)]
    local_asn: Asn,
    /// The router's AS number, the same as ours for iBGP; or one of internal, external, auto
    #[arg(long, value_parser = remote_asn)]
    peer_asn: RemoteAsn,
    /// A prefix to announce (repeat for more)
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<IpNet>,
    /// A file with prefixes to announce, one per line
    #[arg(long, value_name = "FILE")]
    prefix_file: Option<PathBuf>,
    /// A community for every prefix, such as 64700:120 (repeat for more)
    #[arg(long = "community", value_name = "COMMUNITY")]
    communities: Vec<Community>,
    /// A large community for every prefix, such as 64700:1:2 (repeat for more)
    #[arg(long = "large-community", value_name = "COMMUNITY")]
    large_communities: Vec<LargeCommunity>,
    /// An extended community for every prefix, such as rt:64700:1, or lb:64700:125000000 for a link of
    /// 1 Gb/s (repeat for more)
    #[arg(long = "extended-community", value_name = "COMMUNITY")]
    extended_communities: Vec<ExtendedCommunity>,
    /// An IPv6 extended community for every prefix, such as rt:[2001:db8::1]:7 (repeat for more)
    #[arg(long = "ipv6-extended-community", value_name = "COMMUNITY")]
    ipv6_extended_communities: Vec<Ipv6ExtendedCommunity>,
    /// LOCAL_PREF, for iBGP
    #[arg(long)]
    local_pref: Option<u32>,
    /// Address to dial from; also the next hop of its family
    #[arg(long)]
    source: Option<IpAddr>,
    /// Next hop of IPv4 prefixes on an IPv6 session
    #[arg(long)]
    next_hop4: Option<Ipv4Addr>,
    /// Next hop of IPv6 prefixes on an IPv4 session
    #[arg(long)]
    next_hop6: Option<Ipv6Addr>,
    /// BGP identifier, which no other speaker may have [default: --source or --next-hop4 if it is IPv4,
    /// or else the same number wherever this runs]
    #[arg(long)]
    router_id: Option<Ipv4Addr>,
    /// Hold time in seconds: 0, or 3 and more
    #[arg(long, default_value_t = 90)]
    hold_time: u16,
    /// File with the TCP MD5 password (its last line end is not part of it); SIGHUP reads it anew
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The interface to dial over
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// GTSM: how many hops away the router may be, 1 for the same link (the router needs it too)
    #[arg(long, value_name = "HOPS")]
    gtsm: Option<u8>,
    /// The router is behind other routers
    #[arg(long)]
    multihop: bool,
    /// BFD beside the session
    #[arg(long)]
    bfd: bool,
    /// BFD's interval in both directions, in milliseconds
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 300,
        requires = "bfd"
    )]
    bfd_interval: u32,
    /// After how many lost packets the path counts as lost
    #[arg(long, value_name = "PACKETS", default_value = "3", requires = "bfd")]
    bfd_multiplier: NonZeroU8,
    /// The least TTL that BFD packets of a router behind others may have
    #[arg(long, value_name = "TTL", default_value_t = 254, requires = "multihop")]
    bfd_min_ttl: u8,
    /// No session before BFD is up
    #[arg(long, requires = "bfd")]
    bfd_strict: bool,
    /// Graceful restart: the router keeps our routes for that long while we are away
    #[arg(long, value_name = "SECONDS")]
    graceful_restart: Option<u16>,
    /// Graceful restart also after a NOTIFICATION or an expired hold timer (RFC 8538)
    #[arg(long, requires = "graceful_restart")]
    notification_restart: bool,
    /// On Ctrl-C leave the routes to graceful restart, don't withdraw them
    #[arg(long, requires = "graceful_restart")]
    preserve: bool,
    /// Don't dial; wait for the router. Needs --listen
    #[arg(long, requires = "listen")]
    passive: bool,
    /// Take the router's connections on this address and port
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Print what the router announces, and when its session comes and goes
    #[arg(long)]
    receive: bool,
    /// What the router's operator reads when we leave (RFC 9003)
    #[arg(long, default_value = "announce was interrupted")]
    shutdown_text: String,
    /// Say more (RUST_LOG says it finer)
    #[arg(long, short)]
    verbose: bool,
}

fn remote(text: &str) -> Result<Remote, String> {
    if let Ok(network) = text.parse() {
        return Ok(Remote::Network(network));
    }
    let with_port = text.parse();
    let alone = |_| {
        text.parse::<IpAddr>()
            .map(|address| SocketAddr::new(address, 179))
    };
    with_port.or_else(alone).map(Remote::Router).map_err(|_| {
        "give an address such as 192.0.2.1, 192.0.2.1:1790 or [2001:db8::1]:1790, or a network"
            .to_owned()
    })
}

fn remote_asn(text: &str) -> Result<RemoteAsn, String> {
    match text {
        "internal" => Ok(RemoteAsn::Internal),
        "external" => Ok(RemoteAsn::External),
        "auto" => Ok(RemoteAsn::Auto),
        number => number
            .parse()
            .map(RemoteAsn::Number)
            .map_err(|_| "give a number, or one of internal, external, auto".to_owned()),
    }
}

/// The IPv4 address that the kernel would talk to the peer from: no packet leaves.
fn own_address(peer: Remote, source: Option<IpAddr>) -> Option<Ipv4Addr> {
    let source = source.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let socket = UdpSocket::bind((source, 0)).ok()?;
    socket.connect(peer.router()?).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(own) => Some(own),
        IpAddr::V6(_) => None,
    }
}

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
            router_id_fallback: own_address(options.peer, options.source)
                .unwrap_or(Ipv4Addr::from(u32::from_be_bytes(*b"frlb"))),
            seed: std::process::id().into(),
            host_uptime: uptime(),
        },
        listen: options.listen.into_iter().collect(),
    })?;
    let name = match options.peer {
        Remote::Router(address) => address.ip().to_string(),
        Remote::Network(network) => network.to_string(),
    };
    handle.set_peer(peer(&options, &name)?)?;
    handle.routes(vec![routes(&options, name.clone())?]);
    handle.open_gate();

    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            Some(()) = hangup.recv() => handle.set_peer(peer(&options, &name)?)?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                let mode = if options.preserve { ShutdownMode::GracefulRestart } else { ShutdownMode::Withdraw };
                handle.shutdown(options.shutdown_text, mode).await;
                return Ok(());
            }
            event = events.recv() => match event {
                Some(event) if options.receive => print(&event),
                Some(_) => {} // the log has it
                None => return Err("the speaker ended by itself".into()),
            },
        }
    }
}

/// How long the host has been up; unknown where there is no `/proc`.
fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn peer(options: &Options, name: &str) -> Result<PeerConfig, Failure> {
    let password = options.password_file.as_ref().map(|file| {
        let text = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok::<_, Failure>(Secret::new(text.strip_suffix(b"\n").unwrap_or(&text)))
    });
    let hold_time = HoldTime::from_secs(options.hold_time)?;
    let source = match options.source {
        Some(IpAddr::V4(source)) => Some(source),
        _ => None,
    };
    Ok(PeerConfig {
        timers: Timers {
            hold_time,
            connect_retry: Some(Duration::from_secs(20)),
            ..Timers::default()
        },
        transport: Transport {
            source_address: options.source,
            password: password.transpose()?,
            passive: options.passive,
            source_interface: options.interface.clone(),
            ttl_security: options.gtsm,
            multihop: options.multihop,
        },
        router_id: options.router_id.or(source).or(options.next_hop4),
        next_hops: NextHops {
            v4: options.next_hop4,
            v6: options.next_hop6,
        },
        bfd: bfd(options)?,
        graceful_restart: options
            .graceful_restart
            .map(|restart_time| GracefulRestart {
                restart_time,
                notification: options.notification_restart,
            }),
        receive: options.receive,
        remote: options.peer,
        ..PeerConfig::new(
            name,
            SocketAddr::new(options.peer.network().addr(), 0),
            options.local_asn,
            options.peer_asn,
        )
    })
}

fn bfd(options: &Options) -> Result<Option<BfdOptions>, Failure> {
    if !options.bfd {
        return Ok(None);
    }
    let interval = Interval::from_millis(options.bfd_interval);
    let timers = bfd::Timers {
        desired_min_tx: interval,
        required_min_rx: interval,
        detect_mult: options.bfd_multiplier,
    };
    timers.check()?;
    Ok(Some(BfdOptions {
        session: SessionConfig {
            timers,
            min_ttl: options.bfd_min_ttl,
            ..SessionConfig::default()
        },
        strict: options.bfd_strict,
    }))
}

fn routes(options: &Options, peer: String) -> Result<PeerRoutes, Failure> {
    let mut attributes = RouteAttributes {
        local_pref: options.local_pref,
        communities: options.communities.clone(),
        large_communities: options.large_communities.clone(),
        extended_communities: options.extended_communities.clone(),
        ipv6_extended_communities: options.ipv6_extended_communities.clone(),
        ..RouteAttributes::default()
    };
    attributes.communities.sort();
    attributes.large_communities.sort();
    attributes.extended_communities.sort();
    attributes.ipv6_extended_communities.sort();
    let route = Arc::new(attributes);
    let mut prefixes = options.prefixes.clone();
    if let Some(file) = &options.prefix_file {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        for line in text.lines() {
            prefixes.push(line.parse().map_err(|e| format!("{line}: {e}"))?);
        }
    }
    let changes = prefixes
        .iter()
        .map(|prefix| (prefix.trunc(), Some(route.clone())));
    Ok(PeerRoutes {
        peer,
        changes: changes.collect(),
    })
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
        _ => {} // the log has it
    }
}

/// One line per prefix, with what matters of its attributes.
fn print_update(peer: &str, update: &Update) {
    if let Some(family) = update.end_of_rib() {
        println!("{peer} End-of-RIB {family}");
    }
    for prefix in update.withdrawn_prefixes() {
        println!("{peer} - {prefix}");
    }
    let attributes = &update.attributes;
    let mut words = String::new();
    for community in &attributes.communities {
        words += &format!(" community {community}");
    }
    for community in &attributes.large_communities {
        words += &format!(" large-community {community}");
    }
    for community in &attributes.extended_communities {
        words += &format!(" extended-community {community}");
    }
    for community in &attributes.ipv6_extended_communities {
        words += &format!(" ipv6-extended-community {community}");
    }
    if let Some(local_pref) = attributes.local_pref {
        words += &format!(" local-pref {local_pref}");
    }
    let reach = update.mp_reach.as_ref();
    for prefix in update.announced() {
        let by_reach = reach.filter(|reach| reach.nlri.contains(&prefix));
        let next_hop = match (by_reach, attributes.next_hop) {
            (Some(reach), _) => reach.next_hop.to_string(),
            (None, Some(next_hop)) => next_hop.to_string(),
            (None, None) => "nowhere".to_owned(),
        };
        println!("{peer} + {prefix} via {next_hop}{words}");
    }
}
