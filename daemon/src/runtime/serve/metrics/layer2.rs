//! Metrics of layer 2.

use std::time::Duration;

use ferrolb_layer2::status::{SegmentStatus, Status, Traffic};

use super::Metrics;

/// Age of the oldest change of an owner that counts as recent.
const RECENT: Duration = Duration::from_secs(600);

type TrafficCount = fn(&Traffic) -> u64;

/// Counters by address: name, help text, value.
const ADDRESS_COUNTERS: [(&str, &str, TrafficCount); 3] = [
    (
        "metallb_layer2_requests_received",
        "ARP requests and Neighbor Solicitations received for an address of this node.",
        |traffic| traffic.requests,
    ),
    (
        "metallb_layer2_responses_sent",
        "ARP replies and Neighbor Advertisements sent in answer to requests for an address.",
        |traffic| traffic.responses,
    ),
    (
        "metallb_layer2_gratuitous_sent",
        "Unsolicited ARP packets and Neighbor Advertisements sent for an address.",
        |traffic| traffic.gratuitous,
    ),
];

type AddressCount = fn(&Status) -> usize;

/// Numbers of addresses: name, help text, value.
const ADDRESSES: [(&str, &str, AddressCount); 3] = [
    (
        "ferrolb_layer2_addresses",
        "Addresses of services that an L2Advertisement selects.",
        |status| status.addresses.len(),
    ),
    (
        "ferrolb_layer2_addresses_owned",
        "Addresses that this node announces by layer 2.",
        |status| status.owned().count(),
    ),
    (
        "ferrolb_layer2_addresses_without_owner",
        "Addresses that no node announces by layer 2, as far as this node knows.",
        |status| {
            let addresses = status.addresses.values();
            addresses.filter(|found| found.owner.is_none()).count()
        },
    ),
];

type SegmentCount = fn(&SegmentStatus) -> usize;

/// Gauges by interface: name, help text, value.
const INTERFACES: [(&str, &str, SegmentCount); 4] = [
    (
        "ferrolb_layer2_interface_carrier_bool",
        "1 while a usable interface has a carrier.",
        |segment| usize::from(segment.carrier),
    ),
    (
        "ferrolb_layer2_peers",
        "Other nodes whose hellos arrived on an interface.",
        |segment| segment.peers.len(),
    ),
    (
        "ferrolb_layer2_peers_alive",
        "Other nodes whose hellos arrive on an interface in time.",
        |segment| segment.peers.iter().filter(|peer| peer.alive).count(),
    ),
    (
        "ferrolb_layer2_peers_rejected",
        "Other nodes whose hellos are rejected, for instance because of another key.",
        |segment| {
            let rejected = segment.peers.iter().filter(|peer| peer.rejected.is_some());
            rejected.count()
        },
    ),
];

/// Adds the metrics. Without a status, only their descriptions.
pub(super) fn add(metrics: &mut Metrics, status: Option<&Status>) -> prometheus::Result<()> {
    let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    for (name, help, count) in ADDRESS_COUNTERS {
        let counter = metrics.counter(name, help, &["ip"])?;
        let addresses = status.into_iter().flat_map(|status| &status.addresses);
        for (address, found) in addresses.filter(|(_, found)| found.traffic != Traffic::default()) {
            let label = [address.to_string()];
            counter
                .with_label_values(&label)
                .inc_by(count(&found.traffic));
        }
    }
    for (name, help, count) in ADDRESSES {
        let addresses = metrics.gauge(name, help, &[])?;
        if let Some(status) = status {
            let addresses = addresses.with_label_values::<&str>(&[]);
            addresses.set(gauge(count(status)));
        }
    }
    for (name, help, count) in INTERFACES {
        let interfaces = metrics.gauge(name, help, &["interface"])?;
        for segment in status.into_iter().flat_map(|status| &status.segments) {
            let label = [&*segment.interface];
            interfaces
                .with_label_values(&label)
                .set(gauge(count(segment)));
        }
    }
    recent_changes(metrics, status)?;
    results(metrics, status)?;
    let counters = status.map(|status| status.counters);
    for (name, help, count) in counters.unwrap_or_default().all() {
        let name = format!("ferrolb_layer2_{name}_total");
        let counter = metrics.counter(&name, help.trim(), &[])?;
        if status.is_some() {
            counter.with_label_values::<&str>(&[]).inc_by(count);
        }
    }
    Ok(())
}

/// How often the addresses of this node changed their owner lately.
fn recent_changes(metrics: &mut Metrics, status: Option<&Status>) -> prometheus::Result<()> {
    let changes = metrics.gauge(
        "ferrolb_layer2_owner_changes_recent",
        "Changes of the owner of an address in the last 10 minutes, at most 8; only of addresses \
         that this node announces.",
        &["ip"],
    )?;
    let Some(status) = status else {
        return Ok(());
    };
    for address in status.owned() {
        let moves = status.addresses.get(&address).map(|found| &found.moves);
        let recent = moves
            .into_iter()
            .flatten()
            .filter(|change| change.to.is_some() && status.now.saturating_sub(change.at) <= RECENT);
        changes
            .with_label_values(&[address.to_string()])
            .set(i64::try_from(recent.count()).unwrap_or(i64::MAX));
    }
    Ok(())
}

/// What other hosts were seen to answer.
fn results(metrics: &mut Metrics, status: Option<&Status>) -> prometheus::Result<()> {
    let conflict = metrics.gauge(
        "ferrolb_layer2_address_conflict_bool",
        "1 for each address for which another host answers.",
        &["ip", "mac"],
    )?;
    let test = metrics.gauge(
        "ferrolb_layer2_self_test_passed_bool",
        "1 if the last self-test of an address passed: another node resolved it, and only the \
         owner's Ethernet address answered.",
        &["ip"],
    )?;
    for (address, found) in status.into_iter().flat_map(|status| &status.addresses) {
        let address = address.to_string();
        if let Some(mac) = found.conflict {
            conflict
                .with_label_values(&[&address, &mac.to_string()])
                .set(1);
        }
        if let Some(result) = &found.self_test {
            test.with_label_values(&[&address])
                .set(i64::from(result.passed));
        }
    }
    Ok(())
}
