//! Prometheus metrics, with MetalLB's names and labels where it has them. Every scrape is rendered
//! from the current status; there are no separate counters.

mod convergence;
mod layer2;

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_allocator::Family;
use ferrolb_bgp::fsm::{PeerStatus, State};
use ferrolb_bgp::speaker::{Convergence, Handle};
use ferrolb_layer2::status::Status;
use prometheus::core::Collector;
use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::core::allocate::pool_status::assigned;
use crate::runtime::status::DaemonStatus;

/// Name, type, labels and help text of a metric.
#[derive(Clone, Debug)]
pub struct Described {
    /// Such as `metallb_bgp_session_up`.
    pub name: String,
    /// `gauge`, `counter` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// Help text.
    pub help: String,
}

/// What the BGP engine counts for all peers together.
#[derive(Clone, Copy, Debug, Default)]
pub struct BgpEngine {
    /// BFD packets that matched no session.
    pub bfd_packets_without_session: u64,
    /// How long changes took to reach the routers.
    pub convergence: Convergence,
}

impl BgpEngine {
    /// The present values.
    pub(crate) fn of(engine: &Handle) -> Self {
        Self {
            bfd_packets_without_session: engine.bfd_packets_without_session(),
            convergence: engine.convergence(),
        }
    }
}

/// Renders all metrics in Prometheus' text format.
///
/// # Errors
///
/// The prometheus crate rejects a metric: a bug in this file.
pub fn render(
    status: &DaemonStatus,
    node: &str,
    peers: &[PeerStatus],
    bgp: Option<&BgpEngine>,
    layer2: Option<&Status>,
) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::new();
    let metrics = all(status, node, peers, bgp, layer2)?;
    TextEncoder::new().encode(&metrics.registry.gather(), &mut text)?;
    Ok(text)
}

/// All metrics, for the documentation.
///
/// # Errors
///
/// The prometheus crate rejects a metric: a bug in this file.
pub fn describe() -> prometheus::Result<Vec<Described>> {
    Ok(all(&DaemonStatus::default(), "", &[], None, None)?.described)
}

fn all(
    status: &DaemonStatus,
    node: &str,
    peers: &[PeerStatus],
    bgp: Option<&BgpEngine>,
    layer2: Option<&Status>,
) -> prometheus::Result<Metrics> {
    let mut metrics = Metrics {
        registry: Registry::new(),
        described: Vec::new(),
    };
    configuration(&mut metrics, status)?;
    allocator(&mut metrics, status)?;
    announced(&mut metrics, status, node, layer2)?;
    withheld(&mut metrics, status)?;
    first_announcements(&mut metrics, status)?;
    beside_metallb(&mut metrics, status)?;
    sessions(&mut metrics, status, peers)?;
    let without_session = metrics.counter(
        "ferrolb_bfd_packets_without_session_total",
        "BFD packets received without a session: the sender runs BFD, but no BGPPeer for it does.",
        &[],
    )?;
    without_session
        .with_label_values::<&str>(&[])
        .inc_by(bgp.map_or(0, |bgp| bgp.bfd_packets_without_session));
    convergence::add(&mut metrics, bgp.map(|bgp| &bgp.convergence))?;
    layer2::add(&mut metrics, layer2)?;
    Ok(metrics)
}

struct Metrics {
    registry: Registry,
    described: Vec<Described>,
}

impl Metrics {
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.add(&gauge, "gauge")?;
        Ok(gauge)
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.add(&counter, "counter")?;
        Ok(counter)
    }

    fn add<T: Collector + Clone + 'static>(
        &mut self,
        metric: &T,
        kind: &'static str,
    ) -> prometheus::Result<()> {
        self.described
            .extend(metric.desc().into_iter().map(|desc| Described {
                name: desc.fq_name.clone(),
                kind,
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
            }));
        self.registry.register(Box::new(metric.clone()))
    }
}

fn configuration(metrics: &mut Metrics, status: &DaemonStatus) -> prometheus::Result<()> {
    let loaded = metrics.gauge(
        "metallb_k8s_client_config_loaded_bool",
        "1 once a complete configuration is loaded.",
        &[],
    )?;
    loaded
        .with_label_values::<&str>(&[])
        .set(i64::from(status.config.is_some()));
    let stale = metrics.gauge(
        "metallb_k8s_client_config_stale_bool",
        "1 while an object is rejected; its last valid version, if any, stays in use.",
        &[],
    )?;
    stale.with_label_values::<&str>(&[]).set(i64::from(
        status.errors().next().is_some() || !status.source_errors.is_empty(),
    ));
    let updates = metrics.counter(
        "metallb_k8s_client_updates_total",
        "Changes of Kubernetes objects processed.",
        &[],
    )?;
    updates
        .with_label_values::<&str>(&[])
        .inc_by(status.updates);
    let refused = metrics.gauge(
        "ferrolb_object_refused_bool",
        "1 for each rejected object.",
        &["kind", "namespace", "name"],
    )?;
    let unreadable = metrics.gauge(
        "ferrolb_source_errors",
        "Errors of the source, such as files that are not valid YAML.",
        &[],
    )?;
    let errors = i64::try_from(status.source_errors.len()).unwrap_or(i64::MAX);
    unreadable.with_label_values::<&str>(&[]).set(errors);
    for problem in status.errors() {
        let name = &problem.object.name;
        refused
            .with_label_values(&[problem.object.kind.full_name(), &name.namespace, &name.name])
            .set(1);
    }
    Ok(())
}

fn allocator(metrics: &mut Metrics, status: &DaemonStatus) -> prometheus::Result<()> {
    let help = "Usable addresses of a pool.";
    let total = family_gauges(metrics, "addresses_total", help)?;
    let used = family_gauges(
        metrics,
        "addresses_in_use_total",
        "Addresses of a pool in use.",
    )?;
    let leader = metrics.gauge(
        "ferrolb_allocator_leader_bool",
        "1 on the allocator that is the leader, 0 on the others. Without a leader no Service gets \
         an address.",
        &[],
    )?;
    let without_address = metrics.gauge(
        "ferrolb_allocator_services_without_address",
        "Services of type LoadBalancer that have no address and should get one.",
        &[],
    )?;
    let below = metrics.gauge(
        "ferrolb_services_below_min_announcers",
        "Services that fewer nodes announce than minAnnouncers of their BGPAdvertisements says. \
         The leader counts them, the others have 0.",
        &[],
    )?;
    let Some(addresses) = &status.allocated else {
        return Ok(());
    };
    below
        .with_label_values::<&str>(&[])
        .set(i64::try_from(status.below_floor).unwrap_or(i64::MAX));
    leader
        .with_label_values::<&str>(&[])
        .set(i64::from(status.leading));
    let waiting = i64::try_from(status.without_address).unwrap_or(i64::MAX);
    without_address.with_label_values::<&str>(&[]).set(waiting);
    let Some(config) = &status.config else {
        return Ok(());
    };
    for pool in config.pools.iter() {
        let set = |gauges: &[IntGaugeVec; 3], v4: i64, v6: i64| {
            for (gauge, value) in gauges.iter().zip([v4.saturating_add(v6), v4, v6]) {
                gauge.with_label_values(&[pool.name()]).set(value);
            }
        };
        let saturate = |value: u128| i64::try_from(value).unwrap_or(i64::MAX);
        set(
            &total,
            saturate(pool.capacity(Family::V4)),
            saturate(pool.capacity(Family::V6)),
        );
        let count = |family| i64::try_from(assigned(pool, family, addresses)).unwrap_or(i64::MAX);
        set(&used, count(Family::V4), count(Family::V6));
    }
    Ok(())
}

fn family_gauges(
    metrics: &mut Metrics,
    name: &str,
    help: &str,
) -> prometheus::Result<[IntGaugeVec; 3]> {
    let mut make = |family: &str| {
        metrics.gauge(
            &format!("metallb_allocator_{family}{name}"),
            help,
            &["pool"],
        )
    };
    Ok([make("")?, make("ipv4_")?, make("ipv6_")?])
}

fn announced(
    metrics: &mut Metrics,
    status: &DaemonStatus,
    node: &str,
    layer2: Option<&Status>,
) -> prometheus::Result<()> {
    let announced = metrics.gauge(
        "metallb_speaker_announced",
        "1 for each address of a Service that this node announces.",
        &["service", "protocol", "node", "ip"],
    )?;
    for (service, addresses) in status.announced.services() {
        for address in &addresses {
            announced
                .with_label_values(&[&*service.to_string(), "bgp", node, &address.to_string()])
                .set(1);
        }
    }
    let services = metrics.gauge(
        "ferrolb_services_announced",
        "Services of which this node announces an address.",
        &["protocol"],
    )?;
    let set = |protocol: &str, count: usize| {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        services.with_label_values(&[protocol]).set(count);
    };
    set("bgp", status.announced.count());
    let undiscarded = metrics.gauge(
        "ferrolb_bgp_undiscarded_aggregates",
        "Prefixes of aggregates for which the kernel refuses a discard route: packets to their \
         unused addresses return to the router until their TTL expires.",
        &[],
    )?;
    let count = i64::try_from(status.undiscarded).unwrap_or(i64::MAX);
    undiscarded.with_label_values::<&str>(&[]).set(count);
    let mut by_layer2 = BTreeSet::new();
    for address in layer2.into_iter().flat_map(Status::owned) {
        for service in &*status.layer2_services.of(address) {
            by_layer2.insert(service.name.clone());
            let service = service.name.to_string();
            announced
                .with_label_values(&[&*service, "layer2", node, &address.to_string()])
                .set(1);
        }
    }
    set("layer2", by_layer2.len());
    Ok(())
}

/// Why services are not announced, by this node and by any node.
fn withheld(metrics: &mut Metrics, status: &DaemonStatus) -> prometheus::Result<()> {
    let here = metrics.gauge(
        "ferrolb_services_withheld",
        "Services of which this node announces no address over BGP, by the first reason \
         (docs/reasons.md).",
        &["reason"],
    )?;
    let everywhere = metrics.gauge(
        "ferrolb_services_unannounced",
        "Services that have an address and that no node announces, by the reason \
         (docs/reasons.md). Only the leader has it. Sessions have no part in it.",
        &["reason"],
    )?;
    let saturate = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    for (reason, count) in status.announced.withheld() {
        let gauge = here.with_label_values(&[reason.code()]);
        gauge.set(saturate(count));
    }
    for (reason, count) in &status.unannounced {
        let gauge = everywhere.with_label_values(&[*reason]);
        gauge.set(saturate(*count));
    }
    Ok(())
}

fn first_announcements(metrics: &mut Metrics, status: &DaemonStatus) -> prometheus::Result<()> {
    let delayed = metrics.gauge(
        "ferrolb_announcements_delayed_bool",
        "1 while this node announces nothing yet, for this reason: ServiceProxyNotReady or \
         MetallbSpeaker.",
        &["reason"],
    )?;
    let services = metrics.gauge(
        "ferrolb_services_delayed",
        "Services whose first announcement by this node waits for its service proxy.",
        &[],
    )?;
    for one in status.withheld.iter().filter(|one| one.service.is_none()) {
        delayed.with_label_values(&[one.reason.code()]).set(1);
    }
    let waiting = status.withheld.iter().filter(|one| one.service.is_some());
    services
        .with_label_values::<&str>(&[])
        .set(i64::try_from(waiting.count()).unwrap_or(i64::MAX));
    Ok(())
}

fn beside_metallb(metrics: &mut Metrics, status: &DaemonStatus) -> prometheus::Result<()> {
    let speaker = metrics.gauge(
        "ferrolb_metallb_speaker_bool",
        "1 while MetalLB's speaker runs on this node.",
        &[],
    )?;
    let controller = metrics.gauge(
        "ferrolb_metallb_controller_bool",
        "1 on an allocator while MetalLB's controller runs and serves the same Services: no \
         Service gets an address from ferrolb.",
        &[],
    )?;
    for (gauge, pod) in [
        (speaker, &status.metallb_speaker),
        (controller, &status.metallb_controller),
    ] {
        let gauge = gauge.with_label_values::<&str>(&[]);
        gauge.set(i64::from(pod.is_some()));
    }
    Ok(())
}

type PeerCount = fn(&PeerStatus) -> u64;

/// Counters by peer: name, help text, value.
const PEER_COUNTERS: &[(&str, &str, PeerCount)] = &[
    (
        "metallb_bgp_updates_total",
        "UPDATE messages sent.",
        |peer| peer.sent.update,
    ),
    (
        "metallb_bgp_updates_total_received",
        "UPDATE messages received.",
        |peer| peer.received.update,
    ),
    ("metallb_bgp_opens_sent", "OPEN messages sent.", |peer| {
        peer.sent.open
    }),
    (
        "metallb_bgp_opens_received",
        "OPEN messages received.",
        |peer| peer.received.open,
    ),
    (
        "metallb_bgp_notifications_sent",
        "NOTIFICATION messages sent.",
        |peer| peer.sent.notification,
    ),
    (
        "metallb_bgp_keepalives_sent",
        "KEEPALIVE messages sent.",
        |peer| peer.sent.keepalive,
    ),
    (
        "metallb_bgp_keepalives_received",
        "KEEPALIVE messages received.",
        |peer| peer.received.keepalive,
    ),
    (
        "metallb_bgp_route_refresh_sent",
        "ROUTE-REFRESH messages sent.",
        |peer| peer.sent.route_refresh,
    ),
    ("metallb_bgp_total_sent", "Messages sent.", |peer| {
        peer.sent.total()
    }),
    ("metallb_bgp_total_received", "Messages received.", |peer| {
        peer.received.total()
    }),
    (
        "ferrolb_bgp_notifications_received",
        "NOTIFICATION messages received.",
        |peer| peer.received.notification,
    ),
    (
        "ferrolb_bgp_sessions_established_total",
        "Sessions established; more than one means that a session was lost.",
        |peer| peer.established_count,
    ),
    (
        "ferrolb_bgp_announcements_left_out_total",
        "Routes not sent, because their attributes alone exceed the peer's maximum message size.",
        |peer| peer.announcements_left_out,
    ),
    (
        "ferrolb_bgp_updates_treated_as_withdraw_total",
        "UPDATE messages received with an error and treated as withdraw (RFC 7606).",
        |peer| peer.update_errors.treated_as_withdraw,
    ),
    (
        "ferrolb_bgp_attributes_discarded_total",
        "Attributes of received UPDATE messages that were discarded due to an error (RFC 7606).",
        |peer| peer.update_errors.attributes_discarded,
    ),
    (
        "ferrolb_bgp_prefixes_ineligible_total",
        "Prefixes received and rejected as looped: our own AS is in the path, or our own address \
         is the next hop (RFC 4271 §9.1.2).",
        |peer| peer.update_errors.looped,
    ),
];

/// A peer with its value of the label `peer`.
type Labelled<'a> = (String, &'a PeerStatus);

/// Values of the label `peer`: address and port as in MetalLB, with the BGPPeer's name appended
/// where several go to one router. Of an unnumbered peer it is the interface, since its address
/// changes. A `peerNetwork` has no session and is left out; its dynamic neighbors are included.
fn labelled(peers: &[PeerStatus]) -> Vec<Labelled<'_>> {
    let peers = || {
        let sessions = peers.iter();
        sessions.filter(|peer| peer.remote.is_one_router())
    };
    let remote_text = |peer: &PeerStatus| match &peer.link {
        Some(link) => link.interface.clone(),
        None => peer.remote.to_string(),
    };
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for peer in peers() {
        *count.entry(remote_text(peer)).or_default() += 1;
    }
    let label = |peer: &PeerStatus| {
        let remote = remote_text(peer);
        match count.get(&remote) {
            Some(2..) => format!("{remote}@{}", peer.name),
            _ => remote,
        }
    };
    peers().map(|peer| (label(peer), peer)).collect()
}

fn sessions(
    metrics: &mut Metrics,
    status: &DaemonStatus,
    peers: &[PeerStatus],
) -> prometheus::Result<()> {
    let up = metrics.gauge(
        "metallb_bgp_session_up",
        "1 while the session is Established.",
        &["peer"],
    )?;
    let help = "Prefixes announced to the peer.";
    let prefixes = metrics.gauge("metallb_bgp_announced_prefixes_total", help, &["peer"])?;
    let help = "Prefixes to be announced to the peer that were not sent yet.";
    let pending = metrics.gauge("metallb_bgp_pending_prefixes_total", help, &["peer"])?;
    let help =
        "Maximum number of prefixes accepted from the peer per family; only with a prefixLimit.";
    let limit = metrics.gauge("ferrolb_bgp_prefix_limit", help, &["peer"])?;
    let help = "Prefixes received from the peer, in the family with most; only with a prefixLimit.";
    let held = metrics.gauge("ferrolb_bgp_prefix_limit_used", help, &["peer"])?;
    let saturate = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let peers = labelled(peers);
    for (label, peer) in &peers {
        let label = [label];
        up.with_label_values(&label)
            .set(i64::from(peer.state == State::Established));
        let advertised = saturate(peer.prefixes_advertised);
        prefixes.with_label_values(&label).set(advertised);
        let desired = i64::try_from(status.routes_of(peer)).unwrap_or(i64::MAX);
        pending
            .with_label_values(&label)
            .set((desired - advertised).max(0));
        if let Some(allowed) = peer.prefix_limit {
            limit
                .with_label_values(&label)
                .set(i64::from(allowed.limit));
            held.with_label_values(&label)
                .set(saturate(allowed.received));
        }
    }
    bfd(metrics, &peers)?;
    for (name, help, count) in PEER_COUNTERS {
        let metric = metrics.counter(name, help, &["peer"])?;
        for (label, peer) in &peers {
            metric.with_label_values(&[label]).inc_by(count(peer));
        }
    }
    Ok(())
}

fn bfd(metrics: &mut Metrics, peers: &[Labelled<'_>]) -> prometheus::Result<()> {
    let up = metrics.gauge(
        "metallb_bfd_session_up",
        "1 while BFD is up; only for peers with BFD.",
        &["peer"],
    )?;
    let sent = metrics.counter(
        "metallb_bfd_control_packet_output",
        "BFD packets sent.",
        &["peer"],
    )?;
    let received = metrics.counter(
        "metallb_bfd_control_packet_input",
        "BFD packets received and accepted.",
        &["peer"],
    )?;
    let lost = metrics.counter(
        "metallb_bfd_session_down_events",
        "Number of times that BFD went down.",
        &["peer"],
    )?;
    for (label, peer) in peers {
        let Some(bfd) = &peer.bfd else { continue };
        let label = [label];
        up.with_label_values(&label)
            .set(i64::from(bfd.state == ferrolb_bgp::bfd::State::Up));
        sent.with_label_values(&label).inc_by(bfd.sent);
        received.with_label_values(&label).inc_by(bfd.received);
        lost.with_label_values(&label).inc_by(bfd.flaps);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
