//! Command-line options of `announce`, and their conversion to the configuration of a peer and to
//! routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ferrolb_bgp::bfd::{Interval, SessionConfig};
use ferrolb_bgp::config::{
    BfdOptions, GracefulRestart, HoldTime, NextHops, PeerConfig, Remote, RemoteAsn, Secret, Timers,
    Transport,
};
use ferrolb_bgp::fsm::PeerRoutes;
use ferrolb_bgp::rib::RouteAttributes;
use ferrolb_bgp::wire::{Asn, Community, ExtendedCommunity, Ipv6ExtendedCommunity, LargeCommunity};
use ipnet::IpNet;

use crate::Failure;

/// Announce prefixes to a BGP router until Ctrl-C, then withdraw them.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  One address over eBGP to a router on the default port:
    announce --peer 192.0.2.1 --local-asn 65001 --peer-asn 65002 --prefix 203.0.113.10/32

  IPv4 and IPv6 over one IPv4 session, with a password and communities:
    announce --peer 192.0.2.1:1790 --local-asn 65001 --peer-asn 65002 \\
      --password-file /etc/bgp.key --next-hop6 2001:db8::5 --community 64700:120 \\
      --prefix 203.0.113.10/32 --prefix 2001:db8:1::10/128

  Only listen, and print received routes:
    announce --peer 192.0.2.1 --passive --listen 0.0.0.0:179 --receive \\
      --local-asn 65001 --peer-asn 65002"
)]
pub(crate) struct Options {
    /// The router as address or address:port (default port: 179), or a network such as 192.0.2.0/24
    /// whose routers may connect (needs --listen)
    #[arg(long, value_parser = remote)]
    pub(crate) peer: Remote,
    /// Local AS number
    #[arg(long)]
    local_asn: Asn,
    /// AS number of the router (equal to --local-asn for iBGP), or internal, external, auto
    #[arg(long, value_parser = remote_asn)]
    peer_asn: RemoteAsn,
    /// Prefix to announce (repeatable)
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<IpNet>,
    /// File with prefixes to announce, one per line
    #[arg(long, value_name = "FILE")]
    prefix_file: Option<PathBuf>,
    /// Community of all prefixes, such as 64700:120 (repeatable)
    #[arg(long = "community", value_name = "COMMUNITY")]
    communities: Vec<Community>,
    /// Large community of all prefixes, such as 64700:1:2 (repeatable)
    #[arg(long = "large-community", value_name = "COMMUNITY")]
    large_communities: Vec<LargeCommunity>,
    /// Extended community of all prefixes, such as rt:64700:1, or lb:64700:125000000 for a link
    /// bandwidth of 1 Gb/s (repeatable)
    #[arg(long = "extended-community", value_name = "COMMUNITY")]
    extended_communities: Vec<ExtendedCommunity>,
    /// IPv6 extended community of all prefixes, such as rt:[2001:db8::1]:7 (repeatable)
    #[arg(long = "ipv6-extended-community", value_name = "COMMUNITY")]
    ipv6_extended_communities: Vec<Ipv6ExtendedCommunity>,
    /// LOCAL_PREF, for iBGP
    #[arg(long)]
    local_pref: Option<u32>,
    /// Source address of the session; also the next hop of its family
    #[arg(long)]
    pub(crate) source: Option<IpAddr>,
    /// Next hop of IPv4 prefixes on an IPv6 session
    #[arg(long)]
    next_hop4: Option<Ipv4Addr>,
    /// Next hop of IPv6 prefixes on an IPv4 session
    #[arg(long)]
    next_hop6: Option<Ipv6Addr>,
    /// BGP identifier, unique among all speakers [default: --source or --next-hop4 if IPv4,
    /// otherwise the local IPv4 address of the session]
    #[arg(long)]
    router_id: Option<Ipv4Addr>,
    /// Hold time in seconds: 0, or at least 3
    #[arg(long, default_value_t = 90)]
    hold_time: u16,
    /// File with the TCP MD5 password, without its last line break. SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Interface of the session
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// GTSM: maximum distance of the router in hops, 1 for the same link (enable it on the router
    /// too)
    #[arg(long, value_name = "HOPS")]
    gtsm: Option<u8>,
    /// The router is not on the same link
    #[arg(long)]
    multihop: bool,
    /// Run BFD with the router
    #[arg(long)]
    bfd: bool,
    /// BFD interval in both directions, in milliseconds
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 300,
        requires = "bfd"
    )]
    bfd_interval: u32,
    /// Minimum TTL of received BFD packets, for a router that is not on the same link
    #[arg(long, value_name = "TTL", default_value_t = 254, requires = "multihop")]
    bfd_min_ttl: u8,
    /// Establish the session only while BFD is up
    #[arg(long, requires = "bfd")]
    bfd_strict: bool,
    /// Graceful restart: time for which the router retains our routes after a failure
    #[arg(long, value_name = "SECONDS")]
    graceful_restart: Option<u16>,
    /// Graceful restart also after a NOTIFICATION or an expired hold timer (RFC 8538)
    #[arg(long, requires = "graceful_restart")]
    notification_restart: bool,
    /// On Ctrl-C start a graceful restart instead of withdrawing the routes
    #[arg(long, requires = "graceful_restart")]
    pub(crate) preserve: bool,
    /// Wait for the router to connect instead of dialing
    #[arg(long, requires = "listen")]
    passive: bool,
    /// Address and port on which to accept connections of the router
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Print received routes and the state of the session
    #[arg(long)]
    pub(crate) receive: bool,
    /// Shutdown communication to the router's operator (RFC 9003)
    #[arg(long, default_value = "announce was interrupted")]
    pub(crate) shutdown_text: String,
    /// Log at level debug (RUST_LOG takes precedence)
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

impl Options {
    /// The name by which the speaker knows the router.
    pub(crate) fn peer_name(&self) -> String {
        match self.peer {
            Remote::Router(address) => address.ip().to_string(),
            Remote::Network(_) | Remote::Link(_) => self.peer.to_string(),
        }
    }

    /// Reads the password file, so that a repeated call picks up a new password.
    pub(crate) fn peer_config(&self) -> Result<PeerConfig, Failure> {
        let password = self.password_file.as_deref().map(read).transpose()?;
        let password = password.map(|text| Secret::new(text.strip_suffix(b"\n").unwrap_or(&text)));
        let source = match self.source {
            Some(IpAddr::V4(source)) => Some(source),
            _ => None,
        };
        let graceful_restart = self.graceful_restart.map(|restart_time| GracefulRestart {
            restart_time,
            notification: self.notification_restart,
        });
        Ok(PeerConfig {
            timers: Timers {
                hold_time: HoldTime::from_secs(self.hold_time)?,
                connect_retry: Some(Duration::from_secs(20)),
                ..Timers::default()
            },
            transport: Transport {
                source_address: self.source,
                password,
                passive: self.passive,
                source_interface: self.interface.clone(),
                ttl_security: self.gtsm,
                multihop: self.multihop,
            },
            router_id: self.router_id.or(source).or(self.next_hop4),
            next_hops: NextHops {
                v4: self.next_hop4,
                v6: self.next_hop6,
            },
            bfd: self.bfd.then(|| self.bfd_options()),
            graceful_restart,
            receive: self.receive,
            remote: self.peer,
            ..PeerConfig::new(
                self.peer_name(),
                SocketAddr::new(self.peer.network().addr(), 0),
                self.local_asn,
                self.peer_asn,
            )
        })
    }

    fn bfd_options(&self) -> BfdOptions {
        let mut session = SessionConfig {
            min_ttl: self.bfd_min_ttl,
            ..SessionConfig::default()
        };
        let interval = Interval::from_millis(self.bfd_interval);
        session.timers.desired_min_tx = interval;
        session.timers.required_min_rx = interval;
        BfdOptions {
            session,
            strict: self.bfd_strict,
        }
    }

    /// All prefixes with the same attributes.
    pub(crate) fn routes(&self) -> Result<PeerRoutes, Failure> {
        let mut attributes = RouteAttributes {
            local_pref: self.local_pref,
            communities: self.communities.clone(),
            large_communities: self.large_communities.clone(),
            extended_communities: self.extended_communities.clone(),
            ipv6_extended_communities: self.ipv6_extended_communities.clone(),
            ..RouteAttributes::default()
        };
        attributes.communities.sort();
        attributes.large_communities.sort();
        attributes.extended_communities.sort();
        attributes.ipv6_extended_communities.sort();
        let route = Arc::new(attributes);
        let mut prefixes = self.prefixes.clone();
        if let Some(file) = &self.prefix_file {
            for line in String::from_utf8(read(file)?)?.lines() {
                prefixes.push(line.parse().map_err(|e| format!("{line}: {e}"))?);
            }
        }
        let changes = prefixes
            .iter()
            .map(|prefix| (prefix.trunc(), Some(route.clone())));
        Ok(PeerRoutes {
            peer: self.peer_name(),
            changes: changes.collect(),
        })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn remote(text: &str) -> Result<Remote, String> {
    if let Ok(network) = text.parse() {
        return Ok(Remote::Network(network));
    }
    let with_port = text.parse();
    let default_port = |_| {
        text.parse::<IpAddr>()
            .map(|address| SocketAddr::new(address, 179))
    };
    let router = with_port.or_else(default_port).map(Remote::Router);
    router.map_err(|_| {
        "expected an address such as 192.0.2.1, 192.0.2.1:1790 or [2001:db8::1]:1790, or a network"
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
            .map_err(|_| "expected a number, or one of internal, external, auto".to_owned()),
    }
}
