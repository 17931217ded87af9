//! The unmodified `deploy/ferrolb.yaml` on real nodes: a published introduction to MetalLB,
//! followed step by step, and a rollout.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Image, Load, Metallb, Nodes, RealNode, deploy};
use ferrolb_interop_tests::lan::{Host, Mac, Switch, answers, mac};
use ferrolb_interop_tests::manifest::NAMESPACE;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;

use super::answers::greeting;

const TIMEOUT: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_secs(1);

/// The pool and the advertisement, with addresses of this LAN.
const POOL: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: mlb1
  namespace: metallb-system
spec:
  addresses:
    - 10.99.0.220-10.99.0.230
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata:
  name: mlb1
  namespace: metallb-system
";

/// The Deployment, with an image of the lab.
const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: s1.dep
spec:
  replicas: 2
  selector:
    matchLabels:
      app: s1.dep
  template:
    metadata:
      labels:
        app: s1.dep
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: ferrolb.example/traffic:lab
        imagePullPolicy: Never
        env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        args: [serve, $(NAME), '8080']
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata:
  name: s1
  annotations:
    metallb.universe.tf/address-pool: mlb1
spec:
  ports:
  - port: 80
    targetPort: 8080
  selector:
    app: s1.dep
  type: LoadBalancer
";

#[test]
fn an_introduction_to_metallb_works_as_written_and_a_rollout_loses_nothing() {
    scenario("l2-rollout", |scratch| {
        let rack = Topology::new(2)?;
        let client = Host::new(&rack, "client", 100)?;
        let cp = ControlPlane::start(scratch, Nodes::Real)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        let images = [Image::ferrolb()?, Image::traffic()?];
        let _nodes = RealNode::start_all(&cp, &rack, &images)?;

        cp.apply_path(&deploy().join("ferrolb.yaml"))?;
        cp.apply(POOL)?;
        cp.apply(DEPLOYMENT)?;
        cp.apply(SERVICE)?;
        await_rollout(&cp, "daemonset/ferrolb-layer2", NAMESPACE)?;
        await_rollout(&cp, "deployment/s1.dep", "default")?;
        let address: IpAddr = eventually("an address", TIMEOUT, || {
            let shown = cp.kubectl(&["get", "service", "s1", "--no-headers"])?;
            let address = shown.split_whitespace().nth(3).unwrap_or_default();
            address.parse().with_context(|| shown.clone())
        })?;
        ensure!(address.to_string() == "10.99.0.220", "{address}");
        both_pods_answer(&client, address)?;
        a_rollout_loses_nothing(&cp, &rack, &client, address)?;
        another_node_answers_when_the_owner_is_off(&rack, &client, address)
    });
}

fn await_rollout(cp: &ControlPlane<'_>, workload: &str, namespace: &str) -> Result<()> {
    let arguments = ["rollout", "status", workload, "-n", namespace];
    let timeout = ["--timeout=90s"];
    cp.kubectl(&[&arguments[..], &timeout].concat()).map(drop)
}

fn both_pods_answer(client: &Host, address: IpAddr) -> Result<()> {
    let mut seen = BTreeMap::new();
    eventually("answers of both Pods", TIMEOUT, || {
        let text = greeting(client, address)?;
        let pod = text.split(' ').next().unwrap_or_default();
        *seen.entry(pod.to_owned()).or_insert(0) += 1;
        ensure!(seen.len() == 2, "{seen:?}");
        Ok(())
    })
}

/// The node whose Ethernet address `arping` shows, and no other.
fn owner(rack: &Topology, client: &Host, address: IpAddr) -> Result<usize> {
    let macs: Vec<Mac> = rack
        .nodes
        .iter()
        .map(|node| mac(&node.namespace))
        .collect::<Result<_>>()?;
    let found: Vec<Mac> = answers(&client.namespace, address)?.into_iter().collect();
    let [only] = &found[..] else {
        anyhow::bail!("{address}: answers from {found:?}");
    };
    let node = macs.iter().position(|mac| mac == only);
    node.with_context(|| format!("{address}: a foreign {only}"))
}

/// New and old process of a node take turns; the owner stays.
fn a_rollout_loses_nothing(
    cp: &ControlPlane<'_>,
    rack: &Topology,
    client: &Host,
    address: IpAddr,
) -> Result<()> {
    let workload = "daemonset/ferrolb-layer2";
    let before = eventually("an owner", TIMEOUT, || owner(rack, client, address))?;
    let load = Load::start(&client.namespace, SocketAddr::new(address, 80), 50, 50)?;
    sleep(WARM_UP);
    cp.kubectl(&["rollout", "restart", workload, "-n", NAMESPACE])?;
    await_rollout(cp, workload, NAMESPACE)?;
    sleep(WARM_UP);
    let report = load.stop()?;
    ensure!(
        (report.failed, report.broken, report.long_lived) == (0, 0, 50),
        "{report:?}"
    );
    let after = owner(rack, client, address)?;
    ensure!(
        before == after,
        "node{} became node{}",
        before + 1,
        after + 1
    );
    Ok(())
}

/// The other node's Pod answers. The API server removes the Pod of the dead node only after a
/// minute, so every other request fails until then.
fn another_node_answers_when_the_owner_is_off(
    rack: &Topology,
    client: &Host,
    address: IpAddr,
) -> Result<()> {
    let off = owner(rack, client, address)?;
    Switch(&rack.tor).unplug(&rack.nodes[off].name)?;
    let node = &rack.nodes[off].namespace;
    node.ip(&["link", "set", "mgmt0", "down"])?;
    eventually("another Ethernet address", TIMEOUT, || {
        let found = owner(rack, client, address)?;
        ensure!(found != off, "node{} still answers", off + 1);
        Ok(())
    })?;
    eventually("the service answers", TIMEOUT, || greeting(client, address)).map(drop)
}
