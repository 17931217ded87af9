//! Metrics, with MetalLB's names and labels where it has them. Every scrape reads the present state: there is no second
//! set of books.

use std::net::SocketAddr;

use ferrolb_allocator::Family;
use ferrolb_bgp::fsm::{PeerStatus, State};
use prometheus::core::Collector;
use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::report::Report;

/// Renders everything in Prometheus' text format.
///
/// # Errors
/// A metric that the prometheus crate refuses: a mistake in this file.
pub fn render(report: &Report, node: &str, peers: &[PeerStatus]) -> prometheus::Result<Vec<u8>> {
    let registry = Registry::new();
    configuration(&registry, report)?;
    allocator(&registry, report)?;
    announced(&registry, report, node)?;
    sessions(&registry, peers)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn registered<T: Collector + Clone + 'static>(registry: &Registry, metric: T) -> prometheus::Result<T> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn configuration(registry: &Registry, report: &Report) -> prometheus::Result<()> {
    let loaded = gauge(
        registry,
        "metallb_k8s_client_config_loaded_bool",
        "1 once a complete configuration was loaded.",
        &[],
    )?;
    loaded.with_label_values::<&str>(&[]).set(i64::from(report.config.is_some()));
    let stale = gauge(
        registry,
        "metallb_k8s_client_config_stale_bool",
        "1 while an object is refused and its last good value runs instead, if it had one.",
        &[],
    )?;
    stale.with_label_values::<&str>(&[]).set(i64::from(report.errors().next().is_some()));
    let updates =
        counter(registry, "metallb_k8s_client_updates_total", "Changes of objects taken in.", &[])?;
    updates.with_label_values::<&str>(&[]).inc_by(report.updates);
    let refused = gauge(
        registry,
        "ferrolb_object_refused_bool",
        "1 for each object that is refused as it stands.",
        &["kind", "namespace", "name"],
    )?;
    for problem in report.errors() {
        let name = &problem.object.name;
        refused.with_label_values(&[problem.object.kind.name(), &name.namespace, &name.name]).set(1);
    }
    Ok(())
}

fn allocator(registry: &Registry, report: &Report) -> prometheus::Result<()> {
    let help = "Usable addresses of a pool.";
    let total = family_gauges(registry, "addresses_total", help)?;
    let used = family_gauges(registry, "addresses_in_use_total", "Addresses of a pool in use.")?;
    let Some(config) = &report.config else { return Ok(()) };
    for pool in config.pools.iter() {
        let held = |family: Family| {
            let of_family = report.held.iter().filter(|address| Family::of(**address) == family);
            of_family.filter(|address| pool.contains(**address)).count()
        };
        let set = |gauges: &[IntGaugeVec; 3], v4: i64, v6: i64| {
            for (gauge, value) in gauges.iter().zip([v4.saturating_add(v6), v4, v6]) {
                gauge.with_label_values(&[pool.name()]).set(value);
            }
        };
        let saturate = |value: u128| i64::try_from(value).unwrap_or(i64::MAX);
        set(&total, saturate(pool.capacity(Family::V4)), saturate(pool.capacity(Family::V6)));
        let count = |family| i64::try_from(held(family)).unwrap_or(i64::MAX);
        set(&used, count(Family::V4), count(Family::V6));
    }
    Ok(())
}

fn family_gauges(registry: &Registry, name: &str, help: &str) -> prometheus::Result<[IntGaugeVec; 3]> {
    let make = |family: &str| {
        gauge(registry, &format!("metallb_allocator_{family}{name}"), help, &["pool"])
    };
    Ok([make("")?, make("ipv4_")?, make("ipv6_")?])
}

fn announced(registry: &Registry, report: &Report, node: &str) -> prometheus::Result<()> {
    let announced = gauge(
        registry,
        "metallb_speaker_announced",
        "1 for each address of a service that this node announces.",
        &["service", "protocol", "node", "ip"],
    )?;
    for (service, addresses) in &report.announced {
        for address in addresses {
            announced.with_label_values(&[&*service.to_string(), "bgp", node, &address.to_string()]).set(1);
        }
    }
    Ok(())
}

type PeerCount = fn(&PeerStatus) -> u64;

/// Counters by peer: name, help, where it stands.
const PEER_COUNTERS: &[(&str, &str, PeerCount)] = &[
    ("metallb_bgp_updates_total", "UPDATE messages sent.", |peer| peer.sent.update),
    ("metallb_bgp_updates_total_received", "UPDATE messages received.", |peer| peer.received.update),
    ("metallb_bgp_opens_sent", "OPEN messages sent.", |peer| peer.sent.open),
    ("metallb_bgp_opens_received", "OPEN messages received.", |peer| peer.received.open),
    ("metallb_bgp_notifications_sent", "NOTIFICATION messages sent.", |peer| peer.sent.notification),
    ("metallb_bgp_keepalives_sent", "KEEPALIVE messages sent.", |peer| peer.sent.keepalive),
    ("metallb_bgp_keepalives_received", "KEEPALIVE messages received.", |peer| peer.received.keepalive),
    ("metallb_bgp_route_refresh_sent", "ROUTE-REFRESH messages sent.", |peer| peer.sent.route_refresh),
    ("metallb_bgp_total_sent", "Messages sent.", |peer| peer.sent.total()),
    ("metallb_bgp_total_received", "Messages received.", |peer| peer.received.total()),
];

fn sessions(registry: &Registry, peers: &[PeerStatus]) -> prometheus::Result<()> {
    let up = gauge(registry, "metallb_bgp_session_up", "1 while the session is Established.", &["peer"])?;
    let prefixes = gauge(
        registry,
        "metallb_bgp_announced_prefixes_total",
        "Prefixes that the peer holds from us.",
        &["peer"],
    )?;
    for peer in peers {
        let label = label(peer.address);
        up.with_label_values(&[&label]).set(i64::from(peer.state == State::Established));
        let count = i64::try_from(peer.prefixes_advertised).unwrap_or(i64::MAX);
        prefixes.with_label_values(&[&label]).set(count);
    }
    for (name, help, count) in PEER_COUNTERS {
        let metric = counter(registry, name, help, &["peer"])?;
        for peer in peers {
            metric.with_label_values(&[label(peer.address)]).inc_by(count(peer));
        }
    }
    Ok(())
}

/// MetalLB's label: address and port.
fn label(address: SocketAddr) -> String {
    address.to_string()
}
