//! What was announced stays announced: while the API server is away, and while MetalLB's CRDs are.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{Load, Metallb, Rack};
use ferrolb_interop_tests::process::scenario;
use ferrolb_interop_tests::router::{RouteEntry, Router, await_sessions, check_table};
use ferrolb_interop_tests::topology::Topology;

const SOON: Duration = Duration::from_secs(30);
const OUTAGE: Duration = Duration::from_secs(60);

const PEER: &str = "
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.1}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
";

const POOL: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28]}
";

const NO_POOL_CRD: &str =
    r#"ferrolb_object_refused_bool{kind="IPAddressPool",name="*",namespace=""}"#;

/// A Service of the Pods on all nodes.
fn service(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}}, spec: {{type: LoadBalancer, \
         externalTrafficPolicy: Local, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}}}"
    )
}

#[test]
fn a_minute_without_the_api_server() {
    scenario("outage", |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let configuration = format!("{PEER}---{POOL}");
        let mut rack = Rack::start(scratch, &topology, "ebgp", &configuration)?;
        rack.cp.apply(&service("web"))?;
        // The one that makes EndpointSlices takes up to half a minute to come back after an outage, so they are made
        // before.
        rack.cp.apply(
            &service("next").replace("type: LoadBalancer, externalTrafficPolicy: Local,", ""),
        )?;
        let address = rack.await_addresses("web")?[0];
        let routes = rack.routes(&format!("{address}/32"), &[0, 1])?;
        rack.await_routes(&routes)?;
        rack.await_answers(address, &[0, 1])?;

        let target = SocketAddr::new(address, 80);
        let load = Load::start(rack.client()?, target, 50, 10)?;
        let sessions = rack.router.sessions()?;
        rack.cp.stop_api_server()?;
        let stopped = Instant::now();
        consistently("sessions and routes", Duration::from_secs(35), || {
            ensure!(rack.router.sessions()? == sessions, "a session flapped");
            check_table(&rack.router, &routes)
        })?;
        for announcer in &mut rack.announcers {
            announcer.await_log(&["the API server does not answer"], SOON)?;
            // Nothing is gained by taking a node out that does all it can.
            announcer.get("/readyz")?;
        }
        no_request_was_lost(load)?;

        a_restarted_announcer_announces_again(&mut rack, &routes)?;
        ensure!(
            stopped.elapsed() < OUTAGE,
            "all of that has to fit into the outage"
        );
        rack.await_answers(address, &[0, 1])?;
        let load = Load::start(rack.client()?, target, 50, 10)?;
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

/// The second node's, while nobody tells it anything.
fn a_restarted_announcer_announces_again(
    rack: &mut Rack<'_>,
    routes: &BTreeSet<RouteEntry>,
) -> Result<()> {
    let before = rack.router.sessions()?;
    let node: IpAddr = rack.topology.nodes[1].ipv4.into();
    rack.announcers[1].daemon().kill()?;
    eventually("its routes are gone", SOON, || {
        let table = rack.router.table()?;
        ensure!(
            table.iter().all(|route| route.next_hop != node),
            "{table:?}"
        );
        Ok(())
    })?;
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

#[test]
fn crds_come_late_go_and_come_back() {
    scenario("crds", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        rack.start_ferrolb()?;
        rack.cp.apply(&service("web"))?;
        what_is_missing_is_said(&mut rack)?;

        rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
        rack.cp.apply(&format!("{PEER}---{POOL}"))?;
        let address = rack.await_addresses("web")?[0];
        let routes = rack.routes(&format!("{address}/32"), &[0, 1])?;
        rack.await_routes(&routes)?;

        pools_without_a_crd_are_frozen(&mut rack, address, &routes)?;
        a_pool_that_comes_back_gives_again(&rack, address)?;
        a_pool_deleted_on_purpose_takes_its_addresses(&rack)
    });
}

fn what_is_missing_is_said(rack: &mut Rack<'_>) -> Result<()> {
    const WHAT_HELPS: &str = "apply MetalLB's CRDs";
    rack.allocators[0].await_log(&["IPAddressPool", WHAT_HELPS], SOON)?;
    for announcer in &rack.announcers {
        for kind in ["BGPPeer", "BGPAdvertisement"] {
            announcer.await_log(&[kind, WHAT_HELPS], SOON)?;
        }
    }
    for process in rack.announcers.iter_mut().chain(&mut rack.allocators) {
        process.daemon().ensure_running()?;
        eventually("what is missing, in the metrics", SOON, || {
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
    // It takes a moment until it is sure that it is the CRD that goes.
    eventually("the allocator knows", SOON, || {
        let unreadable = rack.allocators[0].metric(NO_POOL_CRD)?;
        ensure!(unreadable == 1.0, "{unreadable}");
        Ok(())
    })?;
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

    // Not even after a restart, when nobody remembers the pool.
    let allocator = &mut rack.allocators[0];
    allocator.daemon().terminate(SOON)?;
    allocator.start_again()?;
    let writes = rack.cp.writes()?.len();
    eventually("it leads again", SOON, || {
        // Its first write of the Lease and the list that follows take a moment.
        let text = std::fs::read_to_string(rack.allocators[0].log())?;
        let terms = text.matches("holding the lease").count();
        ensure!(terms == 2, "{terms} terms");
        ensure!(rack.cp.writes()?.len() > writes, "no write");
        Ok(())
    })?;
    let announcer = &mut rack.announcers[1];
    announcer.daemon().terminate(SOON)?;
    announcer.start_again()?;
    announcer.await_ready()?;
    let peers = sessions.into_keys().collect();
    await_sessions(&rack.router, &peers, SOON)?;
    rack.await_routes(routes)?;
    consistently("addresses and routes", Duration::from_secs(3), || {
        unchanged(rack)
    })
}

fn a_pool_that_comes_back_gives_again(rack: &Rack<'_>, address: IpAddr) -> Result<()> {
    rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
    rack.cp.apply(POOL)?;
    let late = rack.await_addresses("late")?[0];
    ensure!(late != address, "{late} is given twice");
    let mut routes = rack.routes(&format!("{address}/32"), &[0, 1])?;
    routes.extend(rack.routes(&format!("{late}/32"), &[0, 1])?);
    rack.await_routes(&routes)?;
    ensure!(rack.cp.service_addresses("default", "web")? == [address]);
    Ok(())
}

fn a_pool_deleted_on_purpose_takes_its_addresses(rack: &Rack<'_>) -> Result<()> {
    let delete = ["delete", "ipaddresspool", "pool", "-n", "metallb-system"];
    rack.cp.kubectl(&delete)?;
    rack.await_routes(&BTreeSet::new())?;
    eventually("no addresses", SOON, || {
        for name in ["web", "late"] {
            let addresses = rack.cp.service_addresses("default", name)?;
            ensure!(addresses.is_empty(), "{name} has {addresses:?}");
        }
        Ok(())
    })
}
