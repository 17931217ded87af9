//! Leader election with two allocators: the leader is killed, is suspended and resumed, and stops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::document::{Row, publish};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb, Metallb, Nodes, Write};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::scenario::scenario;

/// UPDATE_DOCS=1 writes the seconds that new Services wait into it.
const DOCUMENT: &str = "docs/failures.md";

/// A dead or suspended leader is replaced within this.
const TAKEOVER: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(20);

/// Applies `count` Services at once: `PREFIX-0`, `PREFIX-1`, …
fn create(cp: &ControlPlane<'_>, prefix: &str, count: usize) -> Result<()> {
    let services: Vec<String> = (0..count)
        .map(|number| manifest::service(&format!("{prefix}-{number}"), "", ""))
        .collect();
    cp.apply(&services.join("---\n"))
}

/// The addresses of all Services of type LoadBalancer.
fn addresses(cp: &ControlPlane<'_>) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    let services = cp.get(&["services", "-n", "default"])?;
    let mut found = BTreeMap::new();
    for service in services["items"].as_array().into_iter().flatten() {
        if service["spec"]["type"] != "LoadBalancer" {
            continue;
        }
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
        let own: Result<Vec<IpAddr>> = ingress
            .into_iter()
            .flatten()
            .map(|entry| Ok(entry["ip"].as_str().context("no ip")?.parse()?))
            .collect();
        let name = service["metadata"]["name"].as_str().context("no name")?;
        found.insert(name.to_owned(), own?);
    }
    Ok(found)
}

/// Waits until every Service has one address; checks that no address is allocated twice and that no
/// Service has lost the address it had before.
fn await_all(
    cp: &ControlPlane<'_>,
    before: &BTreeMap<String, Vec<IpAddr>>,
    timeout: Duration,
) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    let all = eventually("an address for every Service", timeout, || {
        let all = addresses(cp)?;
        let waiting: Vec<_> = all.iter().filter(|(_, own)| own.len() != 1).collect();
        ensure!(waiting.is_empty(), "{waiting:?}");
        Ok(all)
    })?;
    let distinct: BTreeSet<&IpAddr> = all.values().flatten().collect();
    ensure!(
        distinct.len() == all.len(),
        "an address is allocated twice: {all:?}"
    );
    for (name, had) in before {
        ensure!(
            had.is_empty() || all.get(name) == Some(had),
            "{name} had {had:?}: {all:?}"
        );
    }
    Ok(all)
}

/// Waits until this process holds the Lease.
fn await_leader(cp: &ControlPlane<'_>, name: &str, timeout: Duration) -> Result<()> {
    eventually(format!("{name} holds the Lease"), timeout, || {
        let lease = cp.get(&["lease", "ferrolb-allocator", "-n", "metallb-system"])?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        ensure!(
            holder.starts_with(&format!("{name}_")),
            "held by {holder:?}"
        );
        Ok(())
    })
}

/// The accepted writes of one process.
fn accepted<'w>(writes: &'w [Write], process: &Ferrolb<'_>, resource: &str) -> Vec<&'w Write> {
    writes
        .iter()
        .filter(|write| write.from == IpAddr::V4(process.address()) && write.resource == resource)
        .filter(|write| write.status < 300)
        .collect()
}

#[test]
fn allocated_addresses_are_stable_across_changes_of_the_leader() {
    scenario("leaders", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_rbac()?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.apply(&manifest::pool("192.0.2.0/24"))?;
        let mut first = Ferrolb::allocator(&cp, "first")?;
        await_leader(&cp, "first", TIMEOUT)?;
        let mut second = Ferrolb::allocator(&cp, "second")?;
        second.await_ready()?;
        create(&cp, "early", 3)?;
        let allocated = await_all(&cp, &BTreeMap::new(), TIMEOUT)?;

        // The standby sees the deletion as well.
        let (gone, mut allocated) = ("early-1", allocated);
        let address = allocated.remove(gone).context("no early-1")?;
        cp.kubectl(&["delete", "svc", gone])?;

        let begin = Instant::now();
        let allocated = a_killed_leader_is_replaced(&cp, &mut first, &allocated)?;
        publish(
            DOCUMENT,
            &[waited("the leading allocator is killed", begin)],
        )?;
        cp.apply(&manifest::service(gone, "", ""))?;
        let allocated = await_all(&cp, &allocated, TIMEOUT)?;
        ensure!(allocated[gone] == address, "{allocated:?}");
        first.start_again()?;
        first.await_ready()?;
        let allocated =
            a_resumed_leader_allocates_no_address_twice(&cp, &mut second, &first, &allocated)?;
        let begin = Instant::now();
        a_stopped_leader_is_replaced_at_once(&cp, &mut first, &allocated)?;
        let stopped = "the leading allocator is stopped: rollout, drain";
        publish(DOCUMENT, &[waited(stopped, begin)])?;
        allocators_alone_report_no_service(&cp, &second)
    });
}

/// This cluster has pools only, as beside another program that announces.
fn allocators_alone_report_no_service(cp: &ControlPlane<'_>, leader: &Ferrolb<'_>) -> Result<()> {
    let services = cp.get(&["services", "-A"])?;
    for service in services["items"].as_array().into_iter().flatten() {
        ensure!(service["status"]["conditions"].is_null(), "{service}");
    }
    let selector = "--field-selector=reason=NotAnnounced";
    let events = cp.get(&["events", "-A", selector])?;
    ensure!(events["items"] == serde_json::json!([]), "{events}");
    let metrics = leader.get("/metrics")?;
    let has_series = metrics.contains("ferrolb_services_unannounced{");
    ensure!(!has_series, "{metrics}");
    Ok(())
}

/// The row about an end of the leader: until new Services have addresses.
fn waited(name: &str, begin: Instant) -> Row {
    let seconds = begin.elapsed().as_secs_f64();
    Row::new(name, &[&format!("{seconds:.1} s")])
}

fn a_killed_leader_is_replaced(
    cp: &ControlPlane<'_>,
    leader: &mut Ferrolb<'_>,
    allocated: &BTreeMap<String, Vec<IpAddr>>,
) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    leader.process().kill()?;
    let killed = Instant::now();
    create(cp, "orphan", 3)?;
    let allocated = await_all(cp, allocated, TAKEOVER)?;
    ensure!(killed.elapsed() < TAKEOVER, "{:?}", killed.elapsed());
    await_leader(cp, "second", Duration::ZERO)?;
    Ok(allocated)
}

/// `suspended` is the leader, `other` is not.
fn a_resumed_leader_allocates_no_address_twice(
    cp: &ControlPlane<'_>,
    suspended: &mut Ferrolb<'_>,
    other: &Ferrolb<'_>,
    allocated: &BTreeMap<String, Vec<IpAddr>>,
) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    // Suspended while it allocates.
    create(cp, "burst", 20)?;
    suspended.process().suspend()?;
    let before = addresses(cp)?;
    cp.kubectl(&["delete", "svc", "early-0"])?;
    create(cp, "suspended", 5)?;
    await_leader(cp, "first", TAKEOVER)?;
    // The suspended leader's view is outdated: addresses that are free in it are allocated, and
    // vice versa.
    create(cp, "takeover", 5)?;
    let mut before: BTreeMap<_, _> = allocated.clone().into_iter().chain(before).collect();
    before.remove("early-0");
    let allocated = await_all(cp, &before, TIMEOUT)?;

    suspended.process().resume()?;
    create(cp, "resumed", 20)?;
    let allocated = await_all(cp, &allocated, TIMEOUT)?;
    suspended.await_log(&["lost the lease"], TIMEOUT)?;
    create(cp, "settled", 5)?;
    let allocated = await_all(cp, &allocated, TIMEOUT)?;

    let writes = cp.writes()?;
    let leases = accepted(&writes, other, "leases");
    // `other` was the leader before it was killed, too: its current term begins after the last
    // accepted renewal of the suspended leader.
    let last_renewal = accepted(&writes, suspended, "leases")
        .last()
        .context("no renewal")?
        .at
        .clone();
    let begins = leases.iter().find(|write| write.at > last_renewal);
    let begins = &begins.context("no write of the lease")?.at;
    for late in accepted(&writes, suspended, "services/status") {
        ensure!(late.at < *begins, "written after {begins}: {late:?}");
    }
    ensure!(
        !accepted(&writes, other, "services/status").is_empty(),
        "{writes:?}"
    );
    Ok(allocated)
}

fn a_stopped_leader_is_replaced_at_once(
    cp: &ControlPlane<'_>,
    leader: &mut Ferrolb<'_>,
    allocated: &BTreeMap<String, Vec<IpAddr>>,
) -> Result<()> {
    let status = leader.process().terminate(TIMEOUT)?;
    ensure!(status.success(), "{status}");
    // A released Lease needs no timeout.
    await_leader(cp, "second", Duration::from_secs(5))?;
    create(cp, "late", 3)?;
    await_all(cp, allocated, TIMEOUT).map(drop)
}
