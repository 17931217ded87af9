//! Tests of the lab's Kubernetes without ferrolb: control plane, CRDs, RBAC, audit log, data path.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Load, Metallb, Nodes, PORT};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{CLIENT_IPV4, CLIENT_IPV6, Topology};

const TIMEOUT: Duration = Duration::from_secs(30);
const LOCAL: &str = "192.0.2.10";
const LOCAL6: &str = "2001:db8:10::10";
const CLUSTER: &str = "192.0.2.11";

fn services() -> String {
    let local = "externalTrafficPolicy: Local, ipFamilyPolicy: RequireDualStack,";
    manifest::join(&[
        &manifest::service("cluster", "", ""),
        &manifest::service("local", "", local),
    ])
}

fn configuration() -> String {
    manifest::join(&[
        &manifest::metallb_peer(""),
        &manifest::pool("192.0.2.0/24"),
        READER,
    ])
}

/// A ServiceAccount that may read and patch BGPPeers.
const READER: &str = r"
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: metallb-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [metallb.io], resources: [bgppeers], verbs: [get, list, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: metallb-system}]
";

#[test]
fn rbac_is_enforced_and_the_audit_log_has_all_writes_but_the_labs_own() {
    scenario("kube-control-plane", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.apply(&configuration())?;
        let peers = cp.get(&["bgppeers.metallb.io", "-n", "metallb-system"])?;
        assert_eq!(peers["items"][0]["apiVersion"], "metallb.io/v1beta2");
        assert_eq!(peers["items"][0]["spec"]["peerASN"], 64600);

        let reader = cp.service_account_kubeconfig("metallb-system", "reader")?;
        let name = cp.kubectl_as(&reader, &["get", "bgppeers", "-A", "-o", "name"])?;
        assert_eq!(name.trim(), "bgppeer.metallb.io/tor");
        let error = cp
            .kubectl_as(&reader, &["get", "services", "-A"])
            .unwrap_err();
        assert!(error.to_string().contains("Forbidden"), "{error}");

        assert!(
            cp.writes()?.is_empty(),
            "the lab's own writes must not be counted"
        );
        let label = ["label", "bgppeer", "tor", "-n", "metallb-system", "rack=a"];
        cp.kubectl_as(&reader, &label)?;
        let writes = cp.writes()?;
        assert_eq!(writes.len(), 1, "{writes:?}");
        assert_eq!(
            writes[0].user,
            "system:serviceaccount:metallb-system:reader"
        );
        assert_eq!(
            (writes[0].verb.as_str(), writes[0].resource.as_str()),
            ("patch", "bgppeers")
        );
        Ok(())
    });
}

#[test]
fn the_crds_of_an_older_metallb_apply() {
    scenario("kube-metallb-0-14", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_14_9)?;
        cp.apply(&configuration())
    });
}

/// A rack whose router has static routes to a Service of each traffic policy.
struct StaticRack<'s> {
    cp: ControlPlane<'s>,
    _data_path: DataPath,
    topology: Topology,
}

impl<'s> StaticRack<'s> {
    fn start(scratch: &'s Scratch) -> Result<Self> {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.apply(&services())?;
        cp.set_service_addresses("default", "local", &[LOCAL.parse()?, LOCAL6.parse()?])?;
        cp.set_service_addresses("default", "cluster", &[CLUSTER.parse()?])?;
        let data_path = DataPath::start(&cp, &topology.nodes, "web")?;
        // Both nodes have a Pod; the last address is routed to the first node only.
        for (address, first, second) in [
            (LOCAL, "10.99.0.11", Some("10.99.0.12")),
            (LOCAL6, "fd99::11", Some("fd99::12")),
            (CLUSTER, "10.99.0.11", None),
        ] {
            let mut route = vec!["route", "add", address, "nexthop", "via", first];
            if let Some(second) = second {
                route.extend(["nexthop", "via", second]);
            }
            topology.tor.ip(&route)?;
        }
        Ok(Self {
            cp,
            _data_path: data_path,
            topology,
        })
    }

    /// Waits until exactly these Pods answer several new connections, and returns the client
    /// addresses that they saw.
    fn await_answers(&self, address: &str, pods: &[&str]) -> Result<Vec<IpAddr>> {
        let target = SocketAddr::new(address.parse()?, 80);
        eventually(format!("{pods:?} answer at {address}"), TIMEOUT, || {
            let load = Load::start(self.topology.client()?, target, 50, 0)?;
            std::thread::sleep(Duration::from_millis(600));
            let report = load.stop()?;
            ensure!(report.failed == 0, "{report:?}");
            ensure!(report.answered.keys().eq(pods), "{report:?}");
            Ok(report.seen_as.into_keys().collect())
        })
    }
}

#[test]
fn requests_reach_pods_also_while_the_api_server_is_down() {
    scenario("kube-data-path", |scratch| {
        let mut rack = StaticRack::start(scratch)?;
        let addresses = rack.cp.service_addresses("default", "local")?;
        assert_eq!(addresses, [LOCAL.parse::<IpAddr>()?, LOCAL6.parse()?]);
        // With externalTrafficPolicy Local kube-proxy does not masquerade.
        let (client, client6) = (IpAddr::from(CLIENT_IPV4), IpAddr::from(CLIENT_IPV6));
        assert_eq!(
            rack.await_answers(LOCAL, &["web-node1", "web-node2"])?,
            [client]
        );
        assert_eq!(
            rack.await_answers(LOCAL6, &["web-node1", "web-node2"])?,
            [client6]
        );
        assert_ne!(
            rack.await_answers(CLUSTER, &["web-node1", "web-node2"])?,
            [client]
        );

        let target = SocketAddr::new(LOCAL.parse()?, 80);
        let load = Load::start(rack.topology.client()?, target, 20, 5)?;
        rack.cp.stop_api_server()?;
        rack.cp.kubectl(&["get", "nodes"]).unwrap_err();
        std::thread::sleep(Duration::from_secs(2));
        rack.cp.start_api_server()?;
        let report = load.stop()?;
        assert_eq!(
            (report.failed, report.long_lived, report.broken),
            (0, 5, 0),
            "{report:?}"
        );
        assert!(report.total_answered() >= 20, "{report:?}");

        // After its return a change in the API server reaches the nodes.
        rack.cp.set_pod_ready("default", "web-node2", false)?;
        rack.await_answers(CLUSTER, &["web-node1"])?;
        let ready = rack.cp.ready_endpoints("default", "cluster")?;
        assert_eq!(ready, ["10.244.1.2".parse::<IpAddr>()?]);
        Ok(())
    });
}

#[test]
fn connections_to_a_closed_port_are_reported_as_failures() {
    scenario("kube-load", |_| {
        let host = Namespace::new("host")?;
        let load = Load::start(&host, SocketAddr::new("127.0.0.1".parse()?, PORT), 20, 2)?;
        std::thread::sleep(Duration::from_millis(500));
        let report = load.stop()?;
        assert!(
            report.failed > 0 && report.total_answered() == 0,
            "{report:?}"
        );
        assert_eq!((report.long_lived, report.broken), (2, 2));
        assert!(report.longest_gap_ms >= 500, "{report:?}");
        assert!(report.failures[0].1.contains("refused"), "{report:?}");
        Ok(())
    });
}
