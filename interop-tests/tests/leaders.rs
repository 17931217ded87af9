//! Two allocators and one Lease: a leader that dies, one that sleeps and wakes, one that leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb, Metallb, Nodes, Write};
use ferrolb_interop_tests::process::scenario;

/// A dead or suspended leader is replaced within this.
const TAKEOVER: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(20);

const POOL: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.0.2.0/24]}
";

/// Applies so many Services at once: `PREFIX-0`, `PREFIX-1`, …
fn create(cp: &ControlPlane<'_>, prefix: &str, count: usize) -> Result<()> {
    let mut manifests = String::new();
    for number in 0..count {
        writeln!(
            manifests,
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {prefix}-{number}, namespace: default}}, \
             spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}}}"
        )?;
    }
    cp.apply(&manifests)
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
        let held: Result<Vec<IpAddr>> = ingress
            .into_iter()
            .flatten()
            .map(|entry| Ok(entry["ip"].as_str().context("no ip")?.parse()?))
            .collect();
        let name = service["metadata"]["name"].as_str().context("no name")?;
        found.insert(name.to_owned(), held?);
    }
    Ok(found)
}

/// Waits until every Service has one address, and checks that no two have the same and that nobody lost what he had.
fn await_all(
    cp: &ControlPlane<'_>,
    before: &BTreeMap<String, Vec<IpAddr>>,
    timeout: Duration,
) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    let all = eventually("an address for everybody", timeout, || {
        let all = addresses(cp)?;
        let waiting: Vec<_> = all.iter().filter(|(_, held)| held.len() != 1).collect();
        ensure!(waiting.is_empty(), "{waiting:?}");
        Ok(all)
    })?;
    let distinct: BTreeSet<&IpAddr> = all.values().flatten().collect();
    ensure!(
        distinct.len() == all.len(),
        "an address is given twice: {all:?}"
    );
    for (name, had) in before {
        ensure!(
            had.is_empty() || all.get(name) == Some(had),
            "{name} had {had:?}: {all:?}"
        );
    }
    Ok(all)
}

/// Waits until the Lease is held by this process.
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

/// Writes of one process that the API server accepted.
fn accepted<'w>(writes: &'w [Write], process: &Ferrolb<'_>, resource: &str) -> Vec<&'w Write> {
    writes
        .iter()
        .filter(|write| write.from == IpAddr::V4(process.address()) && write.resource == resource)
        .filter(|write| write.status < 300)
        .collect()
}

#[test]
fn addresses_survive_every_change_of_leader() {
    scenario("leaders", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_rbac()?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.apply(POOL)?;
        let mut first = Ferrolb::allocator(&cp, "first")?;
        await_leader(&cp, "first", SOON)?;
        let mut second = Ferrolb::allocator(&cp, "second")?;
        second.await_ready()?;
        create(&cp, "early", 3)?;
        let held = await_all(&cp, &BTreeMap::new(), SOON)?;

        let held = a_killed_leader_is_replaced(&cp, &mut first, &held)?;
        first.start_again()?;
        first.await_ready()?;
        let held = a_leader_that_slept_gives_nothing_twice(&cp, &mut second, &first, &held)?;
        a_leader_that_leaves_is_replaced_at_once(&cp, &mut first, &held)
    });
}

fn a_killed_leader_is_replaced(
    cp: &ControlPlane<'_>,
    leader: &mut Ferrolb<'_>,
    held: &BTreeMap<String, Vec<IpAddr>>,
) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    leader.daemon().kill()?;
    let killed = Instant::now();
    create(cp, "orphan", 3)?;
    let held = await_all(cp, held, TAKEOVER)?;
    ensure!(killed.elapsed() < TAKEOVER, "{:?}", killed.elapsed());
    await_leader(cp, "second", Duration::ZERO)?;
    Ok(held)
}

/// `sleeper` leads, `other` waits.
fn a_leader_that_slept_gives_nothing_twice(
    cp: &ControlPlane<'_>,
    sleeper: &mut Ferrolb<'_>,
    other: &Ferrolb<'_>,
    held: &BTreeMap<String, Vec<IpAddr>>,
) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    // In the middle of its work.
    create(cp, "burst", 20)?;
    sleeper.daemon().suspend()?;
    let before = addresses(cp)?;
    cp.kubectl(&["delete", "svc", "early-0"])?;
    create(cp, "asleep", 5)?;
    await_leader(cp, "first", TAKEOVER)?;
    // The sleeper's picture of the world is wrong by now: what it believes free is taken, and the other way round.
    create(cp, "takeover", 5)?;
    let mut before: BTreeMap<_, _> = held.clone().into_iter().chain(before).collect();
    before.remove("early-0");
    let held = await_all(cp, &before, SOON)?;

    sleeper.daemon().resume()?;
    create(cp, "awake", 20)?;
    let held = await_all(cp, &held, SOON)?;
    sleeper.await_log(&["lost the lease"], SOON)?;
    create(cp, "settled", 5)?;
    let held = await_all(cp, &held, SOON)?;

    let writes = cp.writes()?;
    let leases = accepted(&writes, other, "leases");
    // The other one led before it was killed, too: its present term begins after the sleeper's last accepted renewal.
    let last_renewal = accepted(&writes, sleeper, "leases")
        .last()
        .context("no renewal")?
        .at
        .clone();
    let begins = leases.iter().find(|write| write.at > last_renewal);
    let begins = &begins.context("no write of the lease")?.at;
    for late in accepted(&writes, sleeper, "services/status") {
        ensure!(late.at < *begins, "written after {begins}: {late:?}");
    }
    ensure!(
        !accepted(&writes, other, "services/status").is_empty(),
        "{writes:?}"
    );
    Ok(held)
}

fn a_leader_that_leaves_is_replaced_at_once(
    cp: &ControlPlane<'_>,
    leader: &mut Ferrolb<'_>,
    held: &BTreeMap<String, Vec<IpAddr>>,
) -> Result<()> {
    let status = leader.daemon().terminate(SOON)?;
    ensure!(status.success(), "{status}");
    // Nobody has to wait for a Lease that was given up.
    await_leader(cp, "second", Duration::from_secs(5))?;
    create(cp, "late", 3)?;
    await_all(cp, held, SOON).map(drop)
}
