//! ferrolb in a real cluster: Services get addresses, the router learns them, requests are answered. Objects come from
//! kubectl; ferrolb may do what `deploy/manifests` grants, and nothing else.

mod roles;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{
    ALLOCATOR_USER, ANNOUNCER_USER, Ferrolb, NAMESPACE, Rack, Write,
};
use ferrolb_interop_tests::process::scenario;
use ferrolb_interop_tests::router::{RouteEntry, Router, await_sessions};
use ferrolb_interop_tests::topology::{MD5_PASSWORD, Topology};

const SOON: Duration = Duration::from_secs(20);
/// Until a refusal by the API server is believed (10 s), and the pauses between attempts.
const BELIEVED: Duration = Duration::from_secs(40);

/// One peer, one pool, everything announced.
const PLAIN: &str = "
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.1}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
";

/// A Service of the Pods on all nodes, with more metadata and spec.
fn service(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default, {metadata}}}
spec: {{type: LoadBalancer, selector: {{app: web}}, {spec}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    )
}

const LOCAL: &str = "externalTrafficPolicy: Local";
const CLUSTER: &str = "externalTrafficPolicy: Cluster";

#[test]
fn a_service_gets_an_address_a_route_and_an_answer() {
    scenario("thread", |scratch| {
        let mut topology = Topology::new(3)?;
        topology.add_client()?;
        let rack = Rack::start(scratch, &topology, "ebgp", PLAIN)?;
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
        // One request writes everything there is to write.
        let of_services = service_writes(&writes);
        ensure!(
            of_services.len() == 1
                && of_services[0].user == ALLOCATOR_USER
                && of_services[0].resource == "services/status",
            "{of_services:?}"
        );
        only_what_is_granted(&writes)
    });
}

fn service_writes(writes: &[Write]) -> Vec<&Write> {
    writes
        .iter()
        .filter(|write| write.resource.starts_with("services"))
        .collect()
}

/// Announcers write nothing, allocators only status and the Lease, and nobody was refused anything.
fn only_what_is_granted(writes: &[Write]) -> Result<()> {
    for write in writes {
        ensure!(write.user != ANNOUNCER_USER, "{write:?}");
        let granted = matches!(write.resource.as_str(), "services/status" | "leases");
        ensure!(write.user != ALLOCATOR_USER || granted, "{write:?}");
        ensure!(write.status != 403, "{write:?}");
    }
    Ok(())
}

/// The session needs a password. What is announced carries communities. Both families.
const RICH: &str = "
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

const PEER_REFUSED: &str =
    r#"ferrolb_object_refused_bool{kind="BGPPeer",name="tor",namespace="metallb-system"}"#;

#[test]
fn services_come_change_and_go() {
    scenario("services", |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let mut rack = Rack::start(scratch, &topology, "md5", RICH)?;
        the_password_comes_from_a_secret(&rack)?;
        requests_follow_ready_pods(&rack)?;
        requests_for_addresses_are_honoured(&rack)?;
        both_families_are_announced(&rack)?;
        a_deleted_service_frees_its_address(&rack)?;
        a_foreign_class_is_left_alone(&rack)?;
        an_address_in_two_hands_is_the_elders(&rack)?;
        an_excluded_node_announces_nothing(&rack)?;
        only_what_is_needed_is_granted(&rack)?;
        roles::the_configuration_moves_to_a_namespace_with_its_secrets(&mut rack)?;
        only_what_is_granted(&rack.cp.writes()?)
    });
}

/// Routes as the advertisement of [`RICH`] makes them.
fn marked(rack: &Rack<'_>, prefix: &str, nodes: &[usize]) -> Result<BTreeSet<RouteEntry>> {
    let routes = rack.routes(prefix, nodes)?.into_iter().map(|route| {
        route
            .communities(&["64700:120"])
            .large_communities(&["64700:1:2"])
    });
    Ok(routes.collect())
}

/// Waits until the router has these routes among others, and none of their prefixes otherwise.
fn await_among(rack: &Rack<'_>, prefix: &str, nodes: &[usize]) -> Result<()> {
    let expected = marked(rack, prefix, nodes)?;
    let prefix: ipnet::IpNet = prefix.parse()?;
    eventually(format!("{prefix} from {nodes:?}"), SOON, || {
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
            SOON,
        )?;
        eventually("the refusal in the metrics", SOON, || {
            ensure!(announcer.metric(PEER_REFUSED)? == 1.0);
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
    await_sessions(&rack.router, &peers, SOON)?;
    for announcer in &rack.announcers {
        eventually("no refusal, and a session, in the metrics", SOON, || {
            ensure!(announcer.metric(PEER_REFUSED).is_err(), "refused still");
            ensure!(announcer.metric(r#"metallb_bgp_session_up{peer="10.99.0.1:179"}"#)? == 1.0);
            Ok(())
        })?;
        let log = std::fs::read_to_string(announcer.log())?;
        ensure!(!log.contains(MD5_PASSWORD), "the password is in the log");
    }
    Ok(())
}

fn requests_follow_ready_pods(rack: &Rack<'_>) -> Result<()> {
    rack.cp.apply(&service("web", "", LOCAL))?;
    let address = rack.await_addresses("web")?[0];
    let prefix = format!("{address}/32");
    rack.await_routes(&marked(rack, &prefix, &[0, 1])?)?;
    rack.await_answers(address, &[0, 1])?;

    rack.cp.set_pod_ready("default", "web-node1", false)?;
    rack.await_routes(&marked(rack, &prefix, &[1])?)?;
    rack.await_answers(address, &[1])?;
    rack.cp.set_pod_ready("default", "web-node1", true)?;
    rack.await_routes(&marked(rack, &prefix, &[0, 1])?)?;

    // Every node can deliver with the other policy, wherever the Pods are.
    rack.cp.apply(&service("everywhere", "", CLUSTER))?;
    let address = rack.await_addresses("everywhere")?[0];
    rack.cp.set_pod_ready("default", "web-node1", false)?;
    await_among(rack, &prefix, &[1])?;
    await_among(rack, &format!("{address}/32"), &[0, 1])?;
    rack.await_answers(address, &[1])?;
    rack.cp.set_pod_ready("default", "web-node1", true)?;
    rack.await_answers(address, &[0, 1])?;
    rack.cp.kubectl(&["delete", "svc", "everywhere"]).map(drop)
}

fn requests_for_addresses_are_honoured(rack: &Rack<'_>) -> Result<()> {
    let annotated = |name: &str, key: &str, value: &str| {
        let metadata = format!("annotations: {{metallb.io/{key}: '{value}'}}");
        rack.cp.apply(&service(name, &metadata, CLUSTER))
    };
    annotated("this-address", "loadBalancerIPs", "192.0.2.29")?;
    annotated("this-pool", "address-pool", "reserved")?;
    annotated("no-such-address", "loadBalancerIPs", "203.0.113.1")?;
    rack.cp.apply(&service(
        "old-field",
        "",
        "externalTrafficPolicy: Cluster, loadBalancerIP: 192.0.2.28",
    ))?;
    rack.await_address("this-address", "192.0.2.29")?;
    rack.await_address("this-pool", "198.51.100.8")?;
    rack.await_address("old-field", "192.0.2.28")?;
    await_among(rack, "198.51.100.8/32", &[0, 1])?;
    await_among(rack, "192.0.2.28/32", &[0, 1])?;
    rack.allocators[0].await_log(&["default/no-such-address", "203.0.113.1"], SOON)?;
    ensure!(
        rack.cp
            .service_addresses("default", "no-such-address")?
            .is_empty()
    );

    // Two Services on one address: same key, other ports.
    let shared = |name: &str, key: &str, port: u16| {
        rack.cp.apply(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default, annotations: \
             {{metallb.io/allow-shared-ip: {key}, metallb.io/loadBalancerIPs: 192.0.2.27}}}}, spec: {{type: \
             LoadBalancer, selector: {{app: web}}, ports: [{{port: {port}, targetPort: 8080}}]}}}}"
        ))
    };
    shared("shared-a", "us", 80)?;
    shared("shared-b", "us", 81)?;
    shared("stranger", "them", 82)?;
    rack.await_address("shared-a", "192.0.2.27")?;
    rack.await_address("shared-b", "192.0.2.27")?;
    rack.allocators[0].await_log(&["default/stranger", "192.0.2.27"], SOON)?;
    ensure!(rack.cp.service_addresses("default", "stranger")?.is_empty());
    rack.await_answers("192.0.2.27".parse()?, &[0, 1])?;
    // The address is announced for as long as one of them is there.
    rack.cp.kubectl(&["delete", "svc", "shared-a"])?;
    rack.cp.kubectl(&["delete", "svc", "stranger"])?;
    await_among(rack, "192.0.2.27/32", &[0, 1])?;
    rack.cp.kubectl(&["delete", "svc", "shared-b"])?;
    await_among(rack, "192.0.2.27/32", &[])
}

fn both_families_are_announced(rack: &Rack<'_>) -> Result<()> {
    rack.cp.apply(&service(
        "dual",
        "",
        "externalTrafficPolicy: Local, ipFamilyPolicy: RequireDualStack",
    ))?;
    let addresses = rack.await_addresses("dual")?;
    let [ipv4 @ IpAddr::V4(_), ipv6 @ IpAddr::V6(_)] = addresses[..] else {
        anyhow::bail!("{addresses:?}");
    };
    await_among(rack, &format!("{ipv4}/32"), &[0, 1])?;
    await_among(rack, &format!("{ipv6}/128"), &[0, 1])?;
    rack.await_answers(ipv6, &[0, 1])
}

fn a_deleted_service_frees_its_address(rack: &Rack<'_>) -> Result<()> {
    let address = rack.await_addresses("web")?[0];
    rack.cp.kubectl(&["delete", "svc", "web"])?;
    await_among(rack, &format!("{address}/32"), &[])?;
    let metadata = format!("annotations: {{metallb.io/loadBalancerIPs: {address}}}");
    rack.cp.apply(&service("next", &metadata, LOCAL))?;
    rack.await_address("next", &address.to_string())?;
    await_among(rack, &format!("{address}/32"), &[0, 1])?;

    // A Service that is no load balancer any more gives its address back, too.
    let cluster_ip = r#"{"spec":{"type":"ClusterIP"}}"#;
    rack.cp
        .kubectl(&["patch", "svc", "next", "-p", cluster_ip])?;
    await_among(rack, &format!("{address}/32"), &[])?;
    rack.cp.apply(&service("heir", &metadata, LOCAL))?;
    rack.await_address("heir", &address.to_string())
}

fn a_foreign_class_is_left_alone(rack: &Rack<'_>) -> Result<()> {
    rack.cp.apply(&service(
        "foreign",
        "annotations: {metallb.io/address-pool: main}",
        "externalTrafficPolicy: Cluster, loadBalancerClass: example.com/other",
    ))?;
    // Somebody else gives it an address, which isn't ours to announce or to take away.
    let theirs: IpAddr = "192.0.2.30".parse()?;
    rack.cp
        .set_service_addresses("default", "foreign", &[theirs])?;
    rack.cp.apply(&service("after", "", CLUSTER))?;
    let after = rack.await_addresses("after")?[0];
    await_among(rack, &format!("{after}/32"), &[0, 1])?;
    await_among(rack, "192.0.2.30/32", &[])?;
    ensure!(rack.cp.service_addresses("default", "foreign")? == [theirs]);
    let writes = rack.cp.writes()?;
    ensure!(
        writes.iter().all(|write| write.name != "foreign"),
        "{writes:?}"
    );
    Ok(())
}

/// What two leaders at once could do: the younger Service gets another address, the elder never loses its route.
fn an_address_in_two_hands_is_the_elders(rack: &Rack<'_>) -> Result<()> {
    rack.cp.apply(&service("elder", "", LOCAL))?;
    let address = rack.await_addresses("elder")?[0];
    // Creation times have whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    rack.cp.apply(&service("younger", "", CLUSTER))?;
    let own = rack.await_addresses("younger")?;
    rack.cp
        .set_service_addresses("default", "younger", &[address])?;
    eventually("an address of its own for the younger", SOON, || {
        let addresses = rack.cp.service_addresses("default", "younger")?;
        ensure!(
            addresses.len() == 1 && addresses[0] != address,
            "{addresses:?}"
        );
        Ok(())
    })?;
    ensure!(rack.cp.service_addresses("default", "elder")? == [address]);
    await_among(rack, &format!("{address}/32"), &[0, 1])?;
    // With the other policy it would come from everywhere: it is the elder's route.
    rack.cp.set_pod_ready("default", "web-node1", false)?;
    await_among(rack, &format!("{address}/32"), &[1])?;
    rack.cp.set_pod_ready("default", "web-node1", true)?;
    await_among(rack, &format!("{}/32", own[0]), &[0, 1])
}

fn an_excluded_node_announces_nothing(rack: &Rack<'_>) -> Result<()> {
    const LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
    let with = rack.router.table()?;
    let node: IpAddr = rack.topology.nodes[0].ipv4.into();
    let node6: IpAddr = rack.topology.nodes[0].ipv6.into();
    let mut without = with.clone();
    without.retain(|route| route.next_hop != node && route.next_hop != node6);
    ensure!(with.len() == 2 * without.len(), "{with:?}");
    rack.cp
        .kubectl(&["label", "node", "node1", &format!("{LABEL}=")])?;
    rack.await_routes(&without)?;
    rack.cp
        .kubectl(&["label", "node", "node1", &format!("{LABEL}-")])?;
    rack.await_routes(&with)
}

/// The roles of `deploy/manifests` give no more than ferrolb asks for, and no less.
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
        ("announcer", "update", "leases", NAMESPACE),
    ] {
        let user = format!("--as=system:serviceaccount:{NAMESPACE}:ferrolb-{role}");
        let asked = ["auth", "can-i", verb, resource, "-n", namespace, &user];
        // It says no by its exit status, too.
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
fn a_bad_resource_leaves_the_last_good_one_running() {
    scenario("bad", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::start(scratch, &topology, "ebgp", PLAIN)?;
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
            announcer.await_log(&["BGPPeer", "tor", "peerAddress", "nonsense"], SOON)?;
            await_metric(announcer, PEER_REFUSED, Some(1.0))?;
        }
        an_overlapping_pool_is_refused(&rack)?;
        a_broken_pool_is_frozen(&rack)?;

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
            await_metric(announcer, PEER_REFUSED, None)?;
        }
        ensure!(rack.router.sessions()? == sessions, "a session flapped");
        roles::what_a_role_lacks_is_reported_and_the_rest_goes_on(&mut rack)?;
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
    await_metric_for(SOON, process, series, value)
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

fn an_overlapping_pool_is_refused(rack: &Rack<'_>) -> Result<()> {
    const REFUSED: &str = r#"ferrolb_object_refused_bool{kind="IPAddressPool",name="second",namespace="metallb-system"}"#;
    rack.cp.apply(
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: second, namespace: metallb-system}, \
         spec: {addresses: [192.0.2.8/29, 203.0.113.0/28]}}",
    )?;
    let allocator = &rack.allocators[0];
    allocator.await_log(&["IPAddressPool", "second", "pool"], SOON)?;
    await_metric(allocator, REFUSED, Some(1.0))?;
    // The other pool works on, and of the refused one nothing is given.
    rack.cp.apply(&service("after", "", CLUSTER))?;
    let after = rack.await_addresses("after")?[0];
    ensure!(after.to_string().starts_with("192.0.2."), "{after}");
    let metadata = "annotations: {metallb.io/address-pool: second}";
    rack.cp.apply(&service("of-second", metadata, CLUSTER))?;
    allocator.await_log(&["default/of-second", "second"], SOON)?;
    ensure!(
        rack.cp
            .service_addresses("default", "of-second")?
            .is_empty()
    );
    // Mended, it gives an address to the one that waits.
    edit(
        rack,
        "ipaddresspool",
        "second",
        r#"{"spec":{"addresses":["203.0.113.0/28"]}}"#,
    )?;
    rack.await_address("of-second", "203.0.113.0")?;
    await_metric(allocator, REFUSED, None)?;
    rack.cp.kubectl(&["delete", "svc", "of-second"])?;
    let delete = ["delete", "ipaddresspool", "second", "-n", "metallb-system"];
    rack.cp.kubectl(&delete)?;
    // It takes a moment until it is sure that the pool was deleted, and not its CRD.
    await_metric(
        allocator,
        r#"metallb_allocator_addresses_total{pool="second"}"#,
        None,
    )
}

fn a_broken_pool_is_frozen(rack: &Rack<'_>) -> Result<()> {
    const REFUSED: &str = r#"ferrolb_object_refused_bool{kind="IPAddressPool",name="pool",namespace="metallb-system"}"#;
    let allocator = &rack.allocators[0];
    let held = rack.await_addresses("before")?;
    edit(
        rack,
        "ipaddresspool",
        "pool",
        r#"{"spec":{"addresses":["192.0.2.0/33"]}}"#,
    )?;
    allocator.await_log(&["IPAddressPool", "192.0.2.0/33"], SOON)?;
    await_metric(allocator, REFUSED, Some(1.0))?;
    rack.cp.apply(&service("waits", "", CLUSTER))?;
    allocator.await_log(&["default/waits"], SOON)?;
    ensure!(rack.cp.service_addresses("default", "waits")?.is_empty());
    ensure!(rack.cp.service_addresses("default", "before")? == held);

    edit(
        rack,
        "ipaddresspool",
        "pool",
        r#"{"spec":{"addresses":["192.0.2.0/28"]}}"#,
    )?;
    rack.await_addresses("waits")?;
    await_metric(allocator, REFUSED, None)?;
    ensure!(rack.cp.service_addresses("default", "before")? == held);
    rack.cp
        .kubectl(&["delete", "svc", "waits"])
        .map(drop)
        .context("waits")
}
