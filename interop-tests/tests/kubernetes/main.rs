//! ferrolb in a real cluster: Services get addresses, the router gets routes, clients get answers.
//! ferrolb has exactly the rights that `deploy/manifests` grants.

mod explain;
mod first_announcements;
mod floor;
mod metallb_controller;
mod metrics_tls;
mod other_ipam;
mod permissions;
mod reasons;
mod roles;
mod status;
mod what_if;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ALLOCATOR_USER, ANNOUNCER_USER, Ferrolb, Rack, Write};
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL, NAMESPACE, service};
use ferrolb_interop_tests::router::{RouteEntry, Router, await_sessions};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{MD5_PASSWORD, Topology};

const TIMEOUT: Duration = Duration::from_secs(20);
/// Time until ferrolb reports a denied list: 10 s of denials, and the delays between its retries.
const DENIAL_CONFIRMED: Duration = Duration::from_secs(40);

/// One peer, one pool, every Service announced.
fn plain_configuration() -> String {
    manifest::join(&[
        &manifest::metallb_peer(""),
        &manifest::pool("192.0.2.0/28"),
        &manifest::advertisement(""),
    ])
}

const LOCAL: &str = "externalTrafficPolicy: Local,";
const CLUSTER: &str = "externalTrafficPolicy: Cluster,";

#[test]
fn a_new_service_gets_an_address_and_routes_and_answers_requests() {
    scenario("thread", |scratch| {
        let mut topology = Topology::new(3)?;
        topology.add_client()?;
        let rack = Rack::start(scratch, &topology, "ebgp", &plain_configuration())?;
        rack.cp.apply(&service("web", "", LOCAL))?;

        let addresses = rack.await_addresses("web")?;
        ensure!(addresses.len() == 1, "{addresses:?}");
        let address = addresses[0];
        let shown = rack.cp.kubectl(&["get", "svc", "web", "--no-headers"])?;
        ensure!(
            shown.split_whitespace().nth(3) == Some(&address.to_string()),
            "{shown}"
        );
        rack.await_routes(&rack.routes(&format!("{address}/32"), &[0, 1, 2])?)?;
        rack.await_answers(address, &[0, 1, 2])?;

        let writes = rack.cp.writes()?;
        // One write request per Service.
        let of_services = service_writes(&writes);
        ensure!(
            of_services.len() == 1
                && of_services[0].user == ALLOCATOR_USER
                && of_services[0].resource == "services/status",
            "{of_services:?}"
        );
        check_writes_are_granted(&writes)
    });
}

fn service_writes(writes: &[Write]) -> Vec<&Write> {
    writes
        .iter()
        .filter(|write| write.resource.starts_with("services"))
        .collect()
}

/// Checks that announcers wrote only Events and BGPSessions, allocators only statuses, Events and
/// the Lease, and that no write was denied.
fn check_writes_are_granted(writes: &[Write]) -> Result<()> {
    for write in writes {
        let is_event = write.resource == "events" && write.verb == "create";
        let by_announcer = is_event || write.resource == "bgpsessions";
        ensure!(write.user != ANNOUNCER_USER || by_announcer, "{write:?}");
        let resource = write.resource.as_str();
        let granted = resource.ends_with("/status") || matches!(resource, "leases" | "events");
        ensure!(write.user != ALLOCATOR_USER || granted, "{write:?}");
        ensure!(write.status != 403, "{write:?}");
    }
    Ok(())
}

/// A session with a password, communities, and both families.
const FULL_CONFIGURATION: &str = "
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec:
  myASN: 64700
  peerASN: 64600
  peerAddress: 10.99.0.1
  dualStackAddressFamily: true
  passwordSecret: {name: tor-password}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: main, namespace: metallb-system}
spec: {addresses: [192.0.2.16/28, '2001:db8:10::/120']}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: reserved, namespace: metallb-system}
spec: {addresses: [198.51.100.8-198.51.100.11], autoAssign: false}
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: names, namespace: metallb-system}
spec: {communities: [{name: web-tier, value: '64700:120'}]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
spec: {communities: [web-tier, 'large:64700:1:2']}
";

/// Series of a rejected object.
fn rejected_series(kind: &str, name: &str) -> String {
    format!(
        "ferrolb_object_refused_bool{{kind=\"{kind}\",name=\"{name}\",namespace=\"{NAMESPACE}\"}}"
    )
}

fn peer_rejected() -> String {
    rejected_series("BGPPeer", "tor")
}

#[test]
fn routes_and_addresses_follow_services_pods_and_nodes() {
    scenario("services", |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let mut rack = Rack::start(scratch, &topology, "md5", FULL_CONFIGURATION)?;
        the_password_comes_from_a_secret(&rack)?;
        requests_follow_ready_pods(&rack)?;
        requested_addresses_are_allocated(&rack)?;
        both_families_are_announced(&rack)?;
        a_deleted_service_frees_its_address(&rack)?;
        a_foreign_class_is_left_alone(&rack)?;
        a_conflicting_address_stays_with_the_older_service(&rack)?;
        an_excluded_node_announces_nothing(&rack)?;
        only_what_is_needed_is_granted(&rack)?;
        roles::the_configuration_moves_to_a_namespace_with_its_secrets(&mut rack)?;
        check_writes_are_granted(&rack.cp.writes()?)
    });
}

/// The expected routes with the communities of [`FULL_CONFIGURATION`].
fn with_communities(
    rack: &Rack<'_>,
    prefix: &str,
    nodes: &[usize],
) -> Result<BTreeSet<RouteEntry>> {
    let routes = rack.routes(prefix, nodes)?.into_iter().map(|route| {
        route
            .communities(&["64700:120"])
            .large_communities(&["64700:1:2"])
    });
    Ok(routes.collect())
}

/// Waits until the router has exactly these routes for the prefix.
fn await_prefix(rack: &Rack<'_>, prefix: &str, nodes: &[usize]) -> Result<()> {
    let expected = with_communities(rack, prefix, nodes)?;
    let prefix: ipnet::IpNet = prefix.parse()?;
    eventually(format!("{prefix} from {nodes:?}"), TIMEOUT, || {
        let mut table = rack.router.table()?;
        table.retain(|route| route.prefix == prefix);
        ensure!(table == expected, "{table:?}");
        Ok(())
    })
}

/// The Secret with the router's password.
fn secret(namespace: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, type: kubernetes.io/basic-auth, \
         stringData: {{password: {MD5_PASSWORD}}}, \
         metadata: {{name: tor-password, namespace: {namespace}}}}}"
    )
}

fn the_password_comes_from_a_secret(rack: &Rack<'_>) -> Result<()> {
    for announcer in &rack.announcers {
        announcer.await_log(
            &["BGPPeer", "tor", "tor-password", "there is no Secret"],
            TIMEOUT,
        )?;
        eventually("the rejected peer in the metrics", TIMEOUT, || {
            ensure!(announcer.metric(&peer_rejected())? == 1.0);
            Ok(())
        })?;
    }
    ensure!(
        rack.router.sessions()?.is_empty(),
        "a session without the password"
    );
    rack.cp.apply(&secret(NAMESPACE))?;
    let nodes = rack.topology.nodes.iter();
    let peers = nodes.map(|node| IpAddr::V4(node.ipv4)).collect();
    await_sessions(&rack.router, &peers, TIMEOUT)?;
    for announcer in &rack.announcers {
        eventually(
            "an accepted peer with a session in the metrics",
            TIMEOUT,
            || {
                ensure!(
                    announcer.metric(&peer_rejected()).is_err(),
                    "the peer is still rejected"
                );
                ensure!(
                    announcer.metric(r#"metallb_bgp_session_up{peer="10.99.0.1:179"}"#)? == 1.0
                );
                Ok(())
            },
        )?;
        let log = std::fs::read_to_string(announcer.log())?;
        ensure!(!log.contains(MD5_PASSWORD), "the password is in the log");
    }
    Ok(())
}

fn requests_follow_ready_pods(rack: &Rack<'_>) -> Result<()> {
    rack.cp.apply(&service("web", "", LOCAL))?;
    let address = rack.await_addresses("web")?[0];
    let prefix = format!("{address}/32");
    rack.await_routes(&with_communities(rack, &prefix, &[0, 1])?)?;
    rack.await_answers(address, &[0, 1])?;

    rack.cp.set_pod_ready("default", "web-node1", false)?;
    rack.await_routes(&with_communities(rack, &prefix, &[1])?)?;
    rack.await_answers(address, &[1])?;
    rack.cp.set_pod_ready("default", "web-node1", true)?;
    rack.await_routes(&with_communities(rack, &prefix, &[0, 1])?)?;

    // With the policy Cluster every node announces the address, wherever the Pods are.
    rack.cp.apply(&service("everywhere", "", CLUSTER))?;
    let address = rack.await_addresses("everywhere")?[0];
    rack.cp.set_pod_ready("default", "web-node1", false)?;
    await_prefix(rack, &prefix, &[1])?;
    await_prefix(rack, &format!("{address}/32"), &[0, 1])?;
    rack.await_answers(address, &[1])?;
    rack.cp.set_pod_ready("default", "web-node1", true)?;
    rack.await_answers(address, &[0, 1])?;
    rack.cp.kubectl(&["delete", "svc", "everywhere"]).map(drop)
}

fn requested_addresses_are_allocated(rack: &Rack<'_>) -> Result<()> {
    let annotated = |name: &str, key: &str, value: &str| {
        let metadata = format!("annotations: {{metallb.io/{key}: '{value}'}},");
        rack.cp.apply(&service(name, &metadata, CLUSTER))
    };
    annotated("this-address", "loadBalancerIPs", "192.0.2.29")?;
    annotated("this-pool", "address-pool", "reserved")?;
    annotated("no-such-address", "loadBalancerIPs", "203.0.113.1")?;
    rack.cp.apply(&service(
        "old-field",
        "",
        "externalTrafficPolicy: Cluster, loadBalancerIP: 192.0.2.28,",
    ))?;
    rack.await_address("this-address", "192.0.2.29")?;
    rack.await_address("this-pool", "198.51.100.8")?;
    rack.await_address("old-field", "192.0.2.28")?;
    await_prefix(rack, "198.51.100.8/32", &[0, 1])?;
    await_prefix(rack, "192.0.2.28/32", &[0, 1])?;
    rack.allocators[0].await_log(&["default/no-such-address", "203.0.113.1"], TIMEOUT)?;
    ensure!(
        rack.cp
            .service_addresses("default", "no-such-address")?
            .is_empty()
    );

    // Two Services share an address: same key, different ports.
    let shared = |name: &str, key: &str, port: u16| {
        let metadata = format!(
            "annotations: {{metallb.io/allow-shared-ip: {key}, \
             metallb.io/loadBalancerIPs: 192.0.2.27}},"
        );
        let manifest = service(name, &metadata, "");
        rack.cp
            .apply(&manifest.replace("port: 80,", &format!("port: {port},")))
    };
    shared("shared-a", "us", 80)?;
    shared("shared-b", "us", 81)?;
    shared("stranger", "them", 82)?;
    rack.await_address("shared-a", "192.0.2.27")?;
    rack.await_address("shared-b", "192.0.2.27")?;
    rack.allocators[0].await_log(&["default/stranger", "192.0.2.27"], TIMEOUT)?;
    ensure!(rack.cp.service_addresses("default", "stranger")?.is_empty());
    rack.await_answers("192.0.2.27".parse()?, &[0, 1])?;
    // The address is announced while one of them exists.
    rack.cp.kubectl(&["delete", "svc", "shared-a"])?;
    rack.cp.kubectl(&["delete", "svc", "stranger"])?;
    await_prefix(rack, "192.0.2.27/32", &[0, 1])?;
    rack.cp.kubectl(&["delete", "svc", "shared-b"])?;
    await_prefix(rack, "192.0.2.27/32", &[])
}

fn both_families_are_announced(rack: &Rack<'_>) -> Result<()> {
    rack.cp.apply(&service(
        "dual",
        "",
        "externalTrafficPolicy: Local, ipFamilyPolicy: RequireDualStack,",
    ))?;
    let addresses = rack.await_addresses("dual")?;
    let [ipv4 @ IpAddr::V4(_), ipv6 @ IpAddr::V6(_)] = addresses[..] else {
        anyhow::bail!("{addresses:?}");
    };
    await_prefix(rack, &format!("{ipv4}/32"), &[0, 1])?;
    await_prefix(rack, &format!("{ipv6}/128"), &[0, 1])?;
    rack.await_answers(ipv6, &[0, 1])
}

fn a_deleted_service_frees_its_address(rack: &Rack<'_>) -> Result<()> {
    let address = rack.await_addresses("web")?[0];
    rack.cp.kubectl(&["delete", "svc", "web"])?;
    await_prefix(rack, &format!("{address}/32"), &[])?;
    let metadata = format!("annotations: {{metallb.io/loadBalancerIPs: {address}}},");
    rack.cp.apply(&service("next", &metadata, LOCAL))?;
    rack.await_address("next", &address.to_string())?;
    await_prefix(rack, &format!("{address}/32"), &[0, 1])?;

    // Changing the type of a Service also releases its address.
    let cluster_ip = r#"{"spec":{"type":"ClusterIP"}}"#;
    rack.cp
        .kubectl(&["patch", "svc", "next", "-p", cluster_ip])?;
    await_prefix(rack, &format!("{address}/32"), &[])?;
    rack.cp.apply(&service("heir", &metadata, LOCAL))?;
    rack.await_address("heir", &address.to_string())
}

fn a_foreign_class_is_left_alone(rack: &Rack<'_>) -> Result<()> {
    rack.cp.apply(&service(
        "foreign",
        "annotations: {metallb.io/address-pool: main},",
        "externalTrafficPolicy: Cluster, loadBalancerClass: example.com/other,",
    ))?;
    // Another controller writes its address. ferrolb must neither announce nor remove it.
    let theirs: IpAddr = "192.0.2.30".parse()?;
    rack.cp
        .set_service_addresses("default", "foreign", &[theirs])?;
    rack.cp.apply(&service("after", "", CLUSTER))?;
    let after = rack.await_addresses("after")?[0];
    await_prefix(rack, &format!("{after}/32"), &[0, 1])?;
    await_prefix(rack, "192.0.2.30/32", &[])?;
    ensure!(rack.cp.service_addresses("default", "foreign")? == [theirs]);
    let writes = rack.cp.writes()?;
    ensure!(
        writes.iter().all(|write| write.name != "foreign"),
        "{writes:?}"
    );
    Ok(())
}

/// Two Services with the same address, which two concurrent leaders could cause: the younger
/// Service gets another address, the older one keeps its routes.
fn a_conflicting_address_stays_with_the_older_service(rack: &Rack<'_>) -> Result<()> {
    rack.cp.apply(&service("older", "", LOCAL))?;
    let address = rack.await_addresses("older")?[0];
    // Creation times have whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    rack.cp.apply(&service("younger", "", CLUSTER))?;
    let own = rack.await_addresses("younger")?;
    rack.cp
        .set_service_addresses("default", "younger", &[address])?;
    eventually("another address for the younger Service", TIMEOUT, || {
        let addresses = rack.cp.service_addresses("default", "younger")?;
        ensure!(
            addresses.len() == 1 && addresses[0] != address,
            "{addresses:?}"
        );
        Ok(())
    })?;
    ensure!(rack.cp.service_addresses("default", "older")? == [address]);
    await_prefix(rack, &format!("{address}/32"), &[0, 1])?;
    // The route has the policy Local of the older Service; with Cluster both nodes would announce
    // it.
    rack.cp.set_pod_ready("default", "web-node1", false)?;
    await_prefix(rack, &format!("{address}/32"), &[1])?;
    rack.cp.set_pod_ready("default", "web-node1", true)?;
    await_prefix(rack, &format!("{}/32", own[0]), &[0, 1])
}

fn an_excluded_node_announces_nothing(rack: &Rack<'_>) -> Result<()> {
    let with = rack.router.table()?;
    let node: IpAddr = rack.topology.nodes[0].ipv4.into();
    let node6: IpAddr = rack.topology.nodes[0].ipv6.into();
    let mut without = with.clone();
    without.retain(|route| route.next_hop != node && route.next_hop != node6);
    ensure!(with.len() == 2 * without.len(), "{with:?}");
    rack.cp
        .kubectl(&["label", "node", "node1", &format!("{EXCLUDE_LABEL}=")])?;
    rack.await_routes(&without)?;
    rack.cp
        .kubectl(&["label", "node", "node1", &format!("{EXCLUDE_LABEL}-")])?;
    rack.await_routes(&with)
}

/// The roles of `deploy/manifests` grant exactly what ferrolb needs.
fn only_what_is_needed_is_granted(rack: &Rack<'_>) -> Result<()> {
    for process in rack.allocators.iter().chain(&rack.announcers) {
        let log = std::fs::read_to_string(process.log())?;
        ensure!(!log.contains("forbidden"), "{log}");
    }
    for (role, verb, resource, namespace) in [
        ("allocator", "update", "services", "default"),
        ("allocator", "delete", "services", "default"),
        ("allocator", "list", "secrets", NAMESPACE),
        ("allocator", "update", "leases", "default"),
        ("allocator", "patch", "ipaddresspools", NAMESPACE),
        ("announcer", "patch", "services/status", "default"),
        ("announcer", "patch", "services", "default"),
        ("announcer", "list", "secrets", "default"),
        ("announcer", "patch", "nodes", "default"),
        ("allocator", "delete", "bgpsessions", "default"),
        ("layer2", "patch", "bgpsessions", "default"),
        ("announcer", "update", "leases", NAMESPACE),
    ] {
        let user = format!("--as=system:serviceaccount:{NAMESPACE}:ferrolb-{role}");
        let asked = ["auth", "can-i", verb, resource, "-n", namespace, &user];
        // A "no" also has a non-zero exit status.
        let answer = rack.cp.kubectl(&asked).err().map(|error| error.to_string());
        ensure!(
            answer
                .as_ref()
                .is_some_and(|answer| answer.trim_end().ends_with("no")),
            "{asked:?}: {answer:?}"
        );
    }
    Ok(())
}

#[test]
fn an_invalid_resource_leaves_its_last_valid_version_in_effect() {
    scenario("bad", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::start(scratch, &topology, "ebgp", &plain_configuration())?;
        rack.cp.apply(&service("before", "", CLUSTER))?;
        let before = rack.await_addresses("before")?[0];
        rack.await_routes(&rack.routes(&format!("{before}/32"), &[0, 1])?)?;
        let sessions = rack.router.sessions()?;

        edit(
            &rack,
            "bgppeer",
            "tor",
            r#"{"spec":{"peerAddress":"nonsense"}}"#,
        )?;
        for announcer in &rack.announcers {
            announcer.await_log(&["BGPPeer", "tor", "peerAddress", "nonsense"], TIMEOUT)?;
            await_metric(announcer, &peer_rejected(), Some(1.0))?;
        }
        an_overlapping_pool_is_rejected(&rack)?;
        an_invalid_pool_is_frozen(&rack)?;

        ensure!(rack.router.sessions()? == sessions, "a session flapped");
        let after = rack.await_addresses("after")?[0];
        let mut routes = rack.routes(&format!("{before}/32"), &[0, 1])?;
        routes.extend(rack.routes(&format!("{after}/32"), &[0, 1])?);
        rack.await_routes(&routes)?;

        edit(
            &rack,
            "bgppeer",
            "tor",
            r#"{"spec":{"peerAddress":"10.99.0.1"}}"#,
        )?;
        for announcer in &rack.announcers {
            await_metric(announcer, &peer_rejected(), None)?;
        }
        ensure!(rack.router.sessions()? == sessions, "a session flapped");
        roles::missing_rights_are_reported_and_services_still_work(&mut rack)?;
        roles::a_service_cidr_is_never_allocated(&rack)
    });
}

fn edit(rack: &Rack<'_>, kind: &str, name: &str, patch: &str) -> Result<()> {
    let target = ["patch", kind, name, "-n", "metallb-system"];
    rack.cp
        .kubectl(&[&target[..], &["--type=merge", "-p", patch]].concat())
        .map(drop)
}

fn await_metric(process: &Ferrolb<'_>, series: &str, value: Option<f64>) -> Result<()> {
    await_metric_for(TIMEOUT, process, series, value)
}

fn await_metric_for(
    timeout: Duration,
    process: &Ferrolb<'_>,
    series: &str,
    value: Option<f64>,
) -> Result<()> {
    eventually(format!("{series} {value:?}"), timeout, || {
        let found = process.metric(series).ok();
        ensure!(found == value, "{found:?}");
        Ok(())
    })
}

fn an_overlapping_pool_is_rejected(rack: &Rack<'_>) -> Result<()> {
    let rejected = rejected_series("IPAddressPool", "second");
    let second = manifest::pool("192.0.2.8/29, 203.0.113.0/28");
    rack.cp
        .apply(&second.replace("name: pool", "name: second"))?;
    let allocator = &rack.allocators[0];
    allocator.await_log(&["IPAddressPool", "second", "pool"], TIMEOUT)?;
    await_metric(allocator, &rejected, Some(1.0))?;
    // The other pool keeps allocating; the rejected one allocates nothing.
    rack.cp.apply(&service("after", "", CLUSTER))?;
    let after = rack.await_addresses("after")?[0];
    ensure!(after.to_string().starts_with("192.0.2."), "{after}");
    let metadata = "annotations: {metallb.io/address-pool: second},";
    rack.cp.apply(&service("of-second", metadata, CLUSTER))?;
    allocator.await_log(&["default/of-second", "second"], TIMEOUT)?;
    ensure!(
        rack.cp
            .service_addresses("default", "of-second")?
            .is_empty()
    );
    // Once corrected, the pool allocates an address for the waiting Service.
    edit(
        rack,
        "ipaddresspool",
        "second",
        r#"{"spec":{"addresses":["203.0.113.0/28"]}}"#,
    )?;
    rack.await_address("of-second", "203.0.113.0")?;
    await_metric(allocator, &rejected, None)?;
    rack.cp.kubectl(&["delete", "svc", "of-second"])?;
    let delete = ["delete", "ipaddresspool", "second", "-n", "metallb-system"];
    rack.cp.kubectl(&delete)?;
    // The allocator waits until it is certain that the pool, and not its CRD, was deleted.
    await_metric(
        allocator,
        r#"metallb_allocator_addresses_total{pool="second"}"#,
        None,
    )
}

fn an_invalid_pool_is_frozen(rack: &Rack<'_>) -> Result<()> {
    let rejected = rejected_series("IPAddressPool", "pool");
    let allocator = &rack.allocators[0];
    let allocated = rack.await_addresses("before")?;
    edit(
        rack,
        "ipaddresspool",
        "pool",
        r#"{"spec":{"addresses":["192.0.2.0/33"]}}"#,
    )?;
    allocator.await_log(&["IPAddressPool", "192.0.2.0/33"], TIMEOUT)?;
    await_metric(allocator, &rejected, Some(1.0))?;
    rack.cp.apply(&service("waits", "", CLUSTER))?;
    allocator.await_log(&["default/waits"], TIMEOUT)?;
    ensure!(rack.cp.service_addresses("default", "waits")?.is_empty());
    ensure!(rack.cp.service_addresses("default", "before")? == allocated);

    edit(
        rack,
        "ipaddresspool",
        "pool",
        r#"{"spec":{"addresses":["192.0.2.0/28"]}}"#,
    )?;
    rack.await_addresses("waits")?;
    await_metric(allocator, &rejected, None)?;
    ensure!(rack.cp.service_addresses("default", "before")? == allocated);
    rack.cp
        .kubectl(&["delete", "svc", "waits"])
        .map(drop)
        .context("waits")
}
