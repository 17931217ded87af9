//! From MetalLB.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::book::Page;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{
    ControlPlane, Image, METALLB_WEBHOOKS, Metallb, Nodes, RealNode, metallb_images,
};
use ferrolb_interop_tests::manifest::{self, NAMESPACE};
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::router::{Frr, Router, await_sessions};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use serde_json::{Value, json};

use super::{busybox, machine};

const TIMEOUT: Duration = Duration::from_secs(90);

/// MetalLB's objects, as a reader has them.
const CONFIGURATION: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: public, namespace: metallb-system}
spec: {addresses: [203.0.113.10-203.0.113.99]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: public, namespace: metallb-system}
spec: {ipAddressPools: [public]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [10.99.0.200-10.99.0.219]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: metallb-system}
spec: {ipAddressPools: [lan]}
";

/// A server on each node.
const SERVERS: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: busybox:1.35
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        command: [sh, -c]
        args:
        - |
          mkdir /www
          echo \"hello from a Pod on $NODE\" > /www/index.html
          exec httpd -f -p 8080 -h /www
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
";

/// A configuration of MetalLB before 0.13.
const OLD_CONFIGURATION: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: metallb-system}
data:
  config: |
    address-pools:
    - name: default
      protocol: layer2
      addresses: [10.99.0.200-10.99.0.219]
";

fn configuration() -> String {
    let from = |pool: &str| format!("annotations: {{metallb.io/address-pool: {pool}}},");
    let local = "externalTrafficPolicy: Local,";
    manifest::join(&[
        CONFIGURATION,
        &manifest::metallb_peer(""),
        &manifest::service("web", &from("public"), local),
        &manifest::service("files", &from("lan"), ""),
        SERVERS,
    ])
}

/// MetalLB's manifest, with probes that do not delay each of its Pods by 10 s.
fn manifest() -> Result<Vec<Value>> {
    let mut objects = Metallb::V0_14_9.objects()?;
    let containers = "/spec/template/spec/containers";
    let containers = objects
        .iter_mut()
        .filter_map(|object| object.pointer_mut(containers)?.as_array_mut());
    for container in containers.flatten() {
        for field in ["initialDelaySeconds", "periodSeconds"] {
            container["readinessProbe"][field] = json!(1);
        }
    }
    Ok(objects)
}

#[test]
pub(crate) fn a_cluster_moves_from_metallb() {
    scenario("book-metallb", |scratch| {
        let mut rack = Topology::new(2)?;
        rack.add_client()?;
        let mut router = Frr::new(scratch, &rack.tor, "ebgp");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Real)?;
        let mut images = vec![Image::ferrolb()?, busybox()];
        images.extend(metallb_images()?);
        let _nodes = RealNode::start_all(&cp, &rack, &images)?;
        let client = rack.client()?;
        cp.join(client)?;

        cp.run_metallb(&manifest()?, &["daemonset/speaker"], &configuration())?;
        let peers: BTreeSet<IpAddr> = rack.nodes.iter().map(|node| node.ipv4.into()).collect();
        await_sessions(&router, &peers, TIMEOUT)?;
        for (service, address) in [("web", "203.0.113.10"), ("files", "10.99.0.200")] {
            await_answer(&cp, client, service, address)?;
        }

        let shell = machine(scratch, &cp, client, "metallb")?;
        Page::read("docs/start/metallb.md")?.run_rest(&shell)?;
        // The objects that the reader keeps.
        for kept in [
            "ipaddresspool.metallb.io/public",
            "secret/memberlist",
            "configmap/metallb-excludel2",
        ] {
            cp.get(&[kept, "-n", NAMESPACE])?;
        }
        ensure!(cp.get(&[METALLB_WEBHOOKS]).is_err(), "the webhook is there");
        Ok(())
    });
}

/// Waits until a Service has this address and answers.
fn await_answer(
    cp: &ControlPlane<'_>,
    client: &Namespace,
    service: &str,
    address: &str,
) -> Result<()> {
    eventually(format!("an answer of {service}"), TIMEOUT, || {
        let found = cp.service_addresses("default", service)?;
        ensure!(found == [address.parse::<IpAddr>()?], "{found:?}");
        let url = format!("http://{address}");
        let answer = client.run("curl", &["-sS", "--max-time", "2", &url])?;
        ensure!(answer.starts_with("hello"), "{answer}");
        Ok(())
    })
}

/// MetalLB's objects without its Pods.
#[test]
pub(crate) fn the_reference_of_the_migration_runs_on_metallbs_objects() {
    scenario("book-from-metallb", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        let host = Namespace::new("laptop")?;
        cp.join(&host)?;
        let items = Metallb::V0_14_9.objects()?;
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        cp.apply(&list.to_string())?;
        let shell = machine(scratch, &cp, &host, "from-metallb")?;
        let mut page = Page::read("docs/from-metallb.md")?;

        page.run("By hand", &shell)?;
        let crd = cp.get(&["crd", "bgppeers.metallb.io"])?;
        let conversion = &crd["spec"]["conversion"];
        ensure!(*conversion == json!({"strategy": "None"}), "{conversion}");
        for gone in [METALLB_WEBHOOKS, "daemonset/speaker"] {
            let found = cp.get(&[gone, "-n", NAMESPACE]);
            ensure!(found.is_err(), "{gone}: {found:?}");
        }
        let controller = cp.get(&["deployment/controller", "-n", NAMESPACE])?;
        ensure!(controller["spec"]["replicas"] == 0, "{controller:#}");
        cp.get(&["daemonset/ferrolb-layer2", "-n", NAMESPACE])?;

        cp.apply(OLD_CONFIGURATION)?;
        page.run("The old ConfigMap", &shell)?;
        let pool = cp.get(&["ipaddresspool.metallb.io/default", "-n", NAMESPACE])?;
        let addresses = &pool["spec"]["addresses"];
        ensure!(*addresses == json!(["10.99.0.200-10.99.0.219"]), "{pool:#}");
        cp.get(&[
            "l2advertisement.metallb.io/l2advertisement1",
            "-n",
            NAMESPACE,
        ])?;
        let old = cp.get(&["configmap/config", "-n", NAMESPACE]);
        ensure!(old.is_err(), "the ConfigMap is there");
        page.finish()
    });
}
