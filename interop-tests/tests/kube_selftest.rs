//! The lab's Kubernetes by itself, without ferrolb: control plane, CRDs, RBAC, data path, outage.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Load, Metallb, Nodes, PORT};
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::{Scratch, scenario};
use ferrolb_interop_tests::topology::{CLIENT_IPV4, CLIENT_IPV6, Topology};

const SOON: Duration = Duration::from_secs(30);
const LOCAL: &str = "192.0.2.10";
const LOCAL6: &str = "2001:db8:10::10";
const CLUSTER: &str = "192.0.2.11";

const SERVICES: &str = r"
apiVersion: v1
kind: Service
metadata: {name: cluster, namespace: default}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: local, namespace: default}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";

const CONFIGURATION: &str = r"
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 64500, peerAddress: 10.99.1.1}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.0.2.0/24]}
---
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
fn control_plane_crds_rbac_and_audit() {
    scenario("kube-control-plane", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.apply(CONFIGURATION)?;
        let peers = cp.get(&["bgppeers.metallb.io", "-n", "metallb-system"])?;
        assert_eq!(peers["items"][0]["apiVersion"], "metallb.io/v1beta2");
        assert_eq!(peers["items"][0]["spec"]["peerASN"], 64500);

        let reader = cp.service_account_kubeconfig("metallb-system", "reader")?;
        let name = cp.kubectl_as(&reader, &["get", "bgppeers", "-A", "-o", "name"])?;
        assert_eq!(name.trim(), "bgppeer.metallb.io/tor");
        let refused = cp
            .kubectl_as(&reader, &["get", "services", "-A"])
            .unwrap_err();
        assert!(refused.to_string().contains("Forbidden"), "{refused}");

        assert!(
            cp.writes()?.is_empty(),
            "the lab's own writes are not counted"
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
fn older_crds_apply_too() {
    scenario("kube-metallb-0-14", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_14_9)?;
        cp.apply(CONFIGURATION)
    });
}

/// A rack whose ToR has static routes to a Service of each traffic policy.
struct Rack<'s> {
    cp: ControlPlane<'s>,
    _data_path: DataPath,
    topology: Topology,
}

impl<'s> Rack<'s> {
    fn start(scratch: &'s Scratch) -> Result<Self> {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.apply(SERVICES)?;
        cp.set_service_addresses("default", "local", &[LOCAL.parse()?, LOCAL6.parse()?])?;
        cp.set_service_addresses("default", "cluster", &[CLUSTER.parse()?])?;
        let data_path = DataPath::start(&cp, &topology.nodes, "web")?;
        // The second node has a Pod too, but for the last address only the first is asked.
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

    fn client(&self) -> Result<&Namespace> {
        self.topology.client.as_ref().context("no client")
    }

    /// Waits until these Pods and no others answer several new connections in a row, and gives
    /// the addresses they saw as their client's.
    fn answering(&self, address: &str, pods: &[&str]) -> Result<Vec<IpAddr>> {
        let target = SocketAddr::new(address.parse()?, 80);
        eventually(format!("{pods:?} answer at {address}"), SOON, || {
            let load = Load::start(self.client()?, target, 50, 0)?;
            std::thread::sleep(Duration::from_millis(600));
            let report = load.stop()?;
            ensure!(report.failed == 0, "{report:?}");
            ensure!(report.answered.keys().eq(pods), "{report:?}");
            Ok(report.seen_as.into_keys().collect())
        })
    }
}

#[test]
fn requests_reach_pods_and_outlive_the_api_server() {
    scenario("kube-data-path", |scratch| {
        let mut rack = Rack::start(scratch)?;
        let addresses = rack.cp.service_addresses("default", "local")?;
        assert_eq!(addresses, [LOCAL.parse::<IpAddr>()?, LOCAL6.parse()?]);
        // externalTrafficPolicy Local: nobody masquerades.
        let (client, client6) = (IpAddr::from(CLIENT_IPV4), IpAddr::from(CLIENT_IPV6));
        assert_eq!(
            rack.answering(LOCAL, &["web-node1", "web-node2"])?,
            [client]
        );
        assert_eq!(
            rack.answering(LOCAL6, &["web-node1", "web-node2"])?,
            [client6]
        );
        assert_ne!(
            rack.answering(CLUSTER, &["web-node1", "web-node2"])?,
            [client]
        );

        let target = SocketAddr::new(LOCAL.parse()?, 80);
        let load = Load::start(rack.client()?, target, 20, 5)?;
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

        // What the API server is told after its return still reaches the nodes.
        rack.cp.set_pod_ready("default", "web-node2", false)?;
        rack.answering(CLUSTER, &["web-node1"])?;
        let ready = rack.cp.ready_endpoints("default", "cluster")?;
        assert_eq!(ready, ["10.244.1.2".parse::<IpAddr>()?]);
        Ok(())
    });
}

#[test]
fn a_port_no_pod_serves_is_reported_as_failures() {
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
