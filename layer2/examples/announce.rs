//! The engine without Kubernetes: hosts with the same key announce addresses by ARP and NDP, each
//! address by one of them.
//!
//! `main` shows the life of an engine: spawn it, give it a key and addresses, read events, leave.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use ferrolb_layer2::config::{
    AddressSpec, Candidate, Command, ConflictDetection, Identity, Interfaces, Keys, Settings,
};
use ferrolb_layer2::driver::{self, Handle};
use ferrolb_layer2::limits;
use ferrolb_layer2::status::Event;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error>;

/// Announce addresses by ARP and NDP until Ctrl-C, then hand them over
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Example: two hosts share two addresses. Run on both, with --node h1 and --node h2:
    announce --node h1 --candidate h1 --candidate h2 --key secret --address 192.0.2.50/31"
)]
struct Options {
    /// Name of this host
    #[arg(long, default_value = "host")]
    node: Arc<str>,
    /// Hosts that may announce the addresses (repeatable; default: this one)
    #[arg(long = "candidate", value_name = "NODE")]
    candidates: Vec<Arc<str>>,
    /// An address, or a prefix for all of its addresses (repeatable)
    #[arg(long = "address", value_name = "ADDRESS", required = true)]
    addresses: Vec<String>,
    /// Interfaces on which to announce (repeatable; default: all)
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<Box<str>>,
    /// Interfaces not to use at all, by the beginning of their names (repeatable)
    #[arg(long = "exclude", value_name = "PREFIX")]
    excluded: Vec<String>,
    /// The key of all hosts
    #[arg(long)]
    key: String,
    /// Don't search for other hosts with the addresses before their first use
    #[arg(long)]
    no_conflict_detection: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).init();

    let (handle, mut events) = driver::spawn(options.driver()?)?;
    handle.send(Command::Keys(Keys {
        current: Some(options.key.as_bytes().into()),
        accepted: Vec::new(),
    }));
    let spec = options.spec();
    for address in options.addresses()? {
        handle.send(Command::SetAddress(address, spec.clone()));
    }
    handle.send(Command::AddressesComplete);

    let mut segments = BTreeMap::new();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminated.recv() => handle.send(Command::Leave { restarting: false }),
            _ = interrupted.recv() => handle.send(Command::Leave { restarting: false }),
            _ = tick.tick() => print_segments(&handle, &mut segments).await,
            event = events.recv() => match event {
                Some(Event::Left) => return Ok(()),
                Some(event) => println!("{event:?}"),
                None => return Err("the engine ended unexpectedly".into()),
            },
        }
    }
}

impl Options {
    fn driver(&self) -> Result<driver::Options, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let mut hasher = DefaultHasher::new();
        (&self.node, std::process::id()).hash(&mut hasher);
        let excluded = self.excluded.clone();
        Ok(driver::Options {
            identity: Identity {
                node: self.node.clone(),
                instance: u64::try_from(now.as_millis())?,
                seed: hasher.finish(),
            },
            settings: Settings {
                cluster: 1,
                hello_interval: limits::HELLO_INTERVAL,
                gratuitous_rate: limits::GRATUITOUS_RATE,
            },
            excluded: Box::new(move |name| excluded.iter().any(|prefix| name.starts_with(prefix))),
        })
    }

    fn addresses(&self) -> Result<BTreeSet<IpAddr>, Failure> {
        let mut addresses = BTreeSet::new();
        for text in &self.addresses {
            match text.parse::<IpNet>() {
                // Without the network and broadcast addresses of IPv4.
                Ok(prefix) => addresses.extend(prefix.hosts()),
                Err(_) => addresses.extend([text.parse::<IpAddr>()?]),
            }
        }
        Ok(addresses)
    }

    fn spec(&self) -> AddressSpec {
        let mut candidates: BTreeSet<_> = self.candidates.iter().cloned().collect();
        candidates.insert(self.node.clone());
        let candidates = candidates.into_iter();
        AddressSpec {
            created: 0,
            candidates: candidates
                .map(|node| Candidate { node, weight: 0 })
                .collect(),
            interfaces: Arc::new(if self.interfaces.is_empty() {
                Interfaces::All
            } else {
                Interfaces::Named(self.interfaces.iter().cloned().collect())
            }),
            conflict_detection: if self.no_conflict_detection {
                ConflictDetection::Off
            } else {
                ConflictDetection::Fast
            },
            sticky: true,
        }
    }
}

/// Prints the usable interfaces when they change.
async fn print_segments(handle: &Handle, before: &mut BTreeMap<Box<str>, String>) {
    let Some(status) = handle.status().await else {
        return;
    };
    let segments = status.segments.into_iter().map(|segment| {
        let carrier = if segment.carrier { "up" } else { "no carrier" };
        let text = format!("{carrier}, {}, {:?}", segment.mac, segment.networks);
        (segment.interface, text)
    });
    let segments = segments.collect();
    if *before != segments {
        println!("segments: {segments:?}");
        *before = segments;
    }
}
