//! Routes and addresses stay while the API server is down, while there is no leader, while watches
//! are refused, and while MetalLB's CRDs are missing.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{Load, Metallb, Rack};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::router::{RouteEntry, Router, await_sessions, check_table};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;

const TIMEOUT: Duration = Duration::from_secs(30);
const OUTAGE: Duration = Duration::from_secs(60);

/// MetalLB's resources: peer, advertisement and [`pool`].
fn configuration() -> String {
    manifest::join(&[
        &manifest::metallb_peer(""),
        &manifest::advertisement(""),
        &pool(),
    ])
}

fn pool() -> String {
    manifest::pool("192.0.2.0/28")
}

const NO_POOL_CRD: &str =
    r#"ferrolb_object_refused_bool{kind="IPAddressPool",name="*",namespace=""}"#;

/// A Service for the Pods on all nodes.
fn service(name: &str) -> String {
    manifest::service(name, "", "externalTrafficPolicy: Local,")
}

#[test]
fn routes_and_sessions_stay_during_an_outage_of_the_api_server() {
    scenario("outage", |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let mut rack = Rack::start(scratch, &topology, "ebgp", &configuration())?;
        rack.cp.apply(&service("web"))?;
        // The controller creates EndpointSlices up to half a minute after an outage, so this
        // Service exists before.
        rack.cp.apply(
            &service("next")
                .replace("type: LoadBalancer,", "")
                .replace("externalTrafficPolicy: Local,", ""),
        )?;
        let address = rack.await_addresses("web")?[0];
        let routes = rack.routes(&format!("{address}/32"), &[0, 1])?;
        rack.await_routes(&routes)?;
        rack.await_answers(address, &[0, 1])?;

        let target = SocketAddr::new(address, 80);
        let load = Load::start(topology.client()?, target, 50, 10)?;
        let sessions = rack.router.sessions()?;
        rack.cp.stop_api_server()?;
        let stopped = Instant::now();
        consistently("sessions and routes", Duration::from_secs(35), || {
            ensure!(rack.router.sessions()? == sessions, "a session flapped");
            check_table(&rack.router, &routes)
        })?;
        for announcer in &mut rack.announcers {
            announcer.await_log(&["the API server does not answer"], TIMEOUT)?;
            // The node still serves traffic, so it stays ready.
            announcer.get("/readyz")?;
        }
        no_request_was_lost(load)?;

        a_restarted_announcer_announces_again(&mut rack, &routes)?;
        ensure!(
            stopped.elapsed() < OUTAGE,
            "the restart must be complete before the outage ends"
        );
        rack.await_answers(address, &[0, 1])?;
        let load = Load::start(topology.client()?, target, 50, 10)?;
        let sessions = rack.router.sessions()?;
        std::thread::sleep(OUTAGE.saturating_sub(stopped.elapsed()));

        rack.cp.start_api_server()?;
        rack.cp.apply(&service("next"))?;
        let next = rack.await_addresses("next")?[0];
        let mut routes = routes;
        routes.extend(rack.routes(&format!("{next}/32"), &[0, 1])?);
        rack.await_routes(&routes)?;
        ensure!(rack.router.sessions()? == sessions, "a session flapped");
        ensure!(rack.cp.service_addresses("default", "web")? == [address]);
        no_request_was_lost(load)
    });
}

fn no_request_was_lost(load: Load) -> Result<()> {
    let report = load.stop()?;
    ensure!(
        (report.failed, report.broken, report.long_lived) == (0, 0, 10),
        "{report:?}"
    );
    ensure!(
        report.answered.len() == 2 && report.total_answered() > 50,
        "{report:?}"
    );
    Ok(())
}

/// Restarts the announcer of the second node during the outage.
fn a_restarted_announcer_announces_again(
    rack: &mut Rack<'_>,
    routes: &BTreeSet<RouteEntry>,
) -> Result<()> {
    let before = rack.router.sessions()?;
    let node: IpAddr = rack.topology.nodes[1].ipv4.into();
    rack.announcers[1].process().kill()?;
    eventually(
        "the routes of the killed announcer are gone",
        TIMEOUT,
        || {
            let table = rack.router.table()?;
            ensure!(
                table.iter().all(|route| route.next_hop != node),
                "{table:?}"
            );
            Ok(())
        },
    )?;
    rack.announcers[1].start_again()?;
    rack.await_routes(routes)?;
    let answer = rack.cp.kubectl(&["get", "nodes"]);
    ensure!(answer.is_err(), "the API server is back: {answer:?}");
    let mut after = rack.router.sessions()?;
    ensure!(
        after.len() == 2 && after[&node] != before[&node],
        "{after:?}"
    );
    after.insert(node, before[&node].clone());
    ensure!(
        after == before,
        "another session flapped: {before:?} {after:?}"
    );
    Ok(())
}

/// Until an announcer reports a refused list: 10 s of refusals, and the delays between its retries.
const REFUSAL_CONFIRMED: Duration = Duration::from_secs(60);

#[test]
fn routes_stay_without_a_leader_and_while_every_watch_is_refused() {
    scenario("refused", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::start(scratch, &topology, "ebgp", &configuration())?;
        rack.cp.apply(&service("web"))?;
        let address = rack.await_addresses("web")?[0];
        let routes = rack.routes(&format!("{address}/32"), &[0, 1])?;
        rack.await_routes(&routes)?;
        let sessions = rack.router.sessions()?;
        let unchanged = |rack: &Rack<'_>| {
            ensure!(rack.router.sessions()? == sessions, "a session flapped");
            check_table(&rack.router, &routes)
        };

        // Longer than the leader's Lease.
        rack.allocators[0].process().kill()?;
        consistently("routes without a leader", Duration::from_secs(20), || {
            unchanged(&rack)
        })?;

        // The API server checks rights only when a watch starts.
        let binding = "clusterrolebinding/ferrolb-announcer";
        rack.cp.kubectl(&["delete", binding])?;
        let binding = "rolebinding/ferrolb-announcer-config";
        rack.cp
            .kubectl(&["delete", binding, "-n", manifest::NAMESPACE])?;
        rack.cp.stop_api_server()?;
        rack.cp.start_api_server()?;
        for kind in [
            "Service",
            "EndpointSlice",
            "Node",
            "BGPPeer",
            "BGPAdvertisement",
        ] {
            let refused =
                format!("ferrolb_object_refused_bool{{kind=\"{kind}\",name=\"*\",namespace=\"\"}}");
            for announcer in &rack.announcers {
                eventually(format!("{kind} is refused"), REFUSAL_CONFIRMED, || {
                    let value = announcer.metric(&refused)?;
                    ensure!(value == 1.0, "{value}");
                    Ok(())
                })?;
            }
        }
        consistently("routes without rights", Duration::from_secs(5), || {
            unchanged(&rack)
        })?;

        // A process that may list nothing announces what was saved.
        rack.announcers[1].process().kill()?;
        rack.announcers[1].start_again()?;
        let saved = ["announcing the routes saved before the restart"];
        rack.announcers[1].await_log(&saved, TIMEOUT)?;
        rack.await_routes(&routes)
    });
}

#[test]
fn missing_crds_are_reported_and_a_deleted_crd_freezes_its_pools() {
    scenario("crds", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        rack.start_ferrolb()?;
        rack.cp.apply(&service("web"))?;
        missing_crds_are_reported(&mut rack)?;

        rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
        rack.cp.apply(&configuration())?;
        let address = rack.await_addresses("web")?[0];
        let routes = rack.routes(&format!("{address}/32"), &[0, 1])?;
        rack.await_routes(&routes)?;

        pools_without_a_crd_are_frozen(&mut rack, address, &routes)?;
        a_restored_pool_allocates_again(&rack, address)?;
        a_deleted_pool_releases_its_addresses(&rack)
    });
}

fn missing_crds_are_reported(rack: &mut Rack<'_>) -> Result<()> {
    const REMEDY: &str = "apply MetalLB's CRDs";
    rack.allocators[0].await_log(&["IPAddressPool", REMEDY], TIMEOUT)?;
    for announcer in &rack.announcers {
        for kind in ["BGPPeer", "BGPAdvertisement"] {
            announcer.await_log(&[kind, REMEDY], TIMEOUT)?;
        }
    }
    for process in rack.announcers.iter_mut().chain(&mut rack.allocators) {
        process.process().ensure_running()?;
        eventually("the missing CRD in the metrics", TIMEOUT, || {
            let value = process.metric(NO_POOL_CRD)?;
            ensure!(value == 1.0, "{value}");
            Ok(())
        })?;
    }
    ensure!(rack.cp.service_addresses("default", "web")?.is_empty());
    ensure!(rack.router.sessions()?.is_empty());
    Ok(())
}

fn pools_without_a_crd_are_frozen(
    rack: &mut Rack<'_>,
    address: IpAddr,
    routes: &BTreeSet<RouteEntry>,
) -> Result<()> {
    let sessions = rack.router.sessions()?;
    rack.cp
        .kubectl(&["delete", "crd", "ipaddresspools.metallb.io"])?;
    // The allocator waits until it is certain that the CRD, and not the pool, was deleted.
    eventually(
        "the missing CRD in the allocator's metrics",
        TIMEOUT,
        || {
            let unreadable = rack.allocators[0].metric(NO_POOL_CRD)?;
            ensure!(unreadable == 1.0, "{unreadable}");
            Ok(())
        },
    )?;
    rack.cp.apply(&service("late"))?;
    let unchanged = |rack: &Rack<'_>| {
        check_table(&rack.router, routes)?;
        ensure!(
            rack.cp.service_addresses("default", "web")? == [address],
            "web"
        );
        ensure!(
            rack.cp.service_addresses("default", "late")?.is_empty(),
            "late"
        );
        Ok(())
    };
    consistently("addresses and routes", Duration::from_secs(5), || {
        unchanged(rack)
    })?;
    ensure!(rack.router.sessions()? == sessions, "a session flapped");

    // Also after a restart, when no process has the pool in memory.
    let allocator = &mut rack.allocators[0];
    allocator.process().terminate(TIMEOUT)?;
    allocator.start_again()?;
    let writes = rack.cp.writes()?.len();
    eventually("it is the leader again", TIMEOUT, || {
        // Its first write of the Lease, and the list after it, take a moment.
        let text = std::fs::read_to_string(rack.allocators[0].log())?;
        let terms = text.matches("acquired the lease").count();
        ensure!(terms == 2, "{terms} terms");
        ensure!(rack.cp.writes()?.len() > writes, "no write");
        Ok(())
    })?;
    let announcer = &mut rack.announcers[1];
    announcer.process().terminate(TIMEOUT)?;
    announcer.start_again()?;
    announcer.await_ready()?;
    let peers = sessions.into_keys().collect();
    await_sessions(&rack.router, &peers, TIMEOUT)?;
    rack.await_routes(routes)?;
    consistently("addresses and routes", Duration::from_secs(3), || {
        unchanged(rack)
    })
}

fn a_restored_pool_allocates_again(rack: &Rack<'_>, address: IpAddr) -> Result<()> {
    rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
    rack.cp.apply(&pool())?;
    let late = rack.await_addresses("late")?[0];
    ensure!(late != address, "{late} is allocated twice");
    let mut routes = rack.routes(&format!("{address}/32"), &[0, 1])?;
    routes.extend(rack.routes(&format!("{late}/32"), &[0, 1])?);
    rack.await_routes(&routes)?;
    ensure!(rack.cp.service_addresses("default", "web")? == [address]);
    Ok(())
}

fn a_deleted_pool_releases_its_addresses(rack: &Rack<'_>) -> Result<()> {
    let delete = ["delete", "ipaddresspool", "pool", "-n", "metallb-system"];
    rack.cp.kubectl(&delete)?;
    rack.await_routes(&BTreeSet::new())?;
    eventually("no addresses", TIMEOUT, || {
        for name in ["web", "late"] {
            let addresses = rack.cp.service_addresses("default", name)?;
            ensure!(addresses.is_empty(), "{name} has {addresses:?}");
        }
        Ok(())
    })
}
