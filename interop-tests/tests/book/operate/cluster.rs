//! The clusters of the pages: a real one with a router and a client, and one of objects only, on
//! which the pages install ferrolb in other ways.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use ferrolb_interop_tests::book::Shell;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Image, Metallb, Nodes, RealNode, packaged};
use ferrolb_interop_tests::lan::Host;
use ferrolb_interop_tests::manifest::NAMESPACE;
use ferrolb_interop_tests::router::{Frr, RouteEntry, Router, await_sessions};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;

use super::{TIMEOUT, in_namespace, next_hops, shell};

/// Of Debian's `iputils-arping`. The page's `arping` is a script.
const ARPING: &str = "/usr/bin/arping";

/// The Service `shop/web`, with a Pod on each node.
const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {matchLabels: {app: web}}
      containers:
      - name: main
        image: ferrolb.example/traffic:lab
        imagePullPolicy: Never
        args: [serve, web, '8080']
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

/// Configurations of MetalLB, of which docs/validate.md reads both, and a Service.
const METALLB: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: metallb-system}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.0.2.0/24]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: metallb-system}
data:
  config: |
    address-pools:
    - name: default
      protocol: layer2
      addresses:
      - 198.51.100.0/24
";

/// Both clusters, and what is around the real one.
pub(super) struct Clusters<'lab> {
    // Dropped in this order: nodes before the control plane.
    _nodes: Vec<RealNode>,
    real: ControlPlane<'lab>,
    /// With MetalLB's CRDs, and without kubelets.
    pub(super) objects: ControlPlane<'lab>,
    router: Frr<'lab>,
    pub(super) client: Host,
    rack: &'lab Topology,
}

/// Where the pages run.
pub(super) struct Shells<'a> {
    /// The administrator of the real cluster. `arping` runs on the client.
    pub(super) real: Shell<'a>,
    /// The administrator of the cluster of objects.
    pub(super) objects: Shell<'a>,
    /// The first node.
    pub(super) node: Shell<'a>,
}

impl<'lab> Clusters<'lab> {
    /// Starts the clusters without ferrolb. The one of objects has its files in `aside`.
    pub(super) fn start(
        scratch: &'lab Scratch,
        aside: &'lab Scratch,
        rack: &'lab Topology,
    ) -> Result<Self> {
        let client = Host::new(rack, "client", 100)?;
        let mut router = Frr::new(scratch, &rack.tor, "graceful-restart");
        router.start()?;
        let images = [Image::ferrolb()?, Image::traffic()?];
        let (real, objects) = thread::scope(|scope| {
            let objects = scope.spawn(|| start_objects(aside));
            let real = ControlPlane::start(scratch, Nodes::Real);
            (real, objects.join())
        });
        let (real, objects) = (real?, objects.map_err(|_| anyhow!("a panic"))??);
        let nodes = RealNode::start_all(&real, rack, &images)?;
        Ok(Self {
            _nodes: nodes,
            real,
            objects,
            router,
            client,
            rack,
        })
    }

    /// The shells of the pages.
    pub(super) fn shells(&self, scratch: &Scratch) -> Result<Shells<'_>> {
        let node = &self.rack.nodes[0].namespace;
        let client = in_namespace(&self.client.namespace, ARPING);
        let real = administrator(&self.real, &scratch.file("operator"))?;
        Ok(Shells {
            real: real.script("arping", &format!("exec {client} \"$@\""))?,
            objects: administrator(&self.objects, &scratch.file("packager"))?,
            node: shell(&scratch.file("on-node1"), || node.command("bash"))?,
        })
    }

    /// Defines the kinds of the Prometheus operator in the cluster of objects.
    pub(super) fn serve_kinds_of_prometheus(&self) -> Result<()> {
        let crds = packaged("monitoring-crds.yaml")?;
        self.objects
            .kubectl(&["create", "-f", &crds.to_string_lossy()])?;
        eventually("the operator's kinds are served", TIMEOUT, || {
            self.objects.get(&["podmonitors,prometheusrules", "-A"])
        })?;
        Ok(())
    }

    /// A program that reads the real cluster.
    pub(super) fn real_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.real.command(program);
        command.env("KUBECONFIG", self.real.admin_kubeconfig());
        command
    }

    /// Creates the Service of the pages, and waits for its Pods.
    pub(super) fn start_shop(&self) -> Result<()> {
        self.real.apply(SHOP)?;
        let wait = ["rollout", "status", "-n", "shop", "deployment/web"];
        self.real.kubectl(&wait)?;
        for workload in ["deployment/ferrolb-allocator", "daemonset/ferrolb-layer2"] {
            let wait = ["rollout", "status", "-n", NAMESPACE, workload];
            self.real.kubectl(&wait)?;
        }
        Ok(())
    }

    /// Waits for the sessions of all nodes.
    pub(super) fn await_sessions(&self) -> Result<()> {
        await_sessions(&self.router, &next_hops(&self.rack.nodes), TIMEOUT)
    }

    /// Waits until the router has exactly these prefixes, from all nodes.
    pub(super) fn await_routes(&self, prefixes: &[&str]) -> Result<()> {
        let nodes = next_hops(&self.rack.nodes);
        let pairs = prefixes.iter().flat_map(|prefix| {
            let route = |node: &_| RouteEntry::new(prefix, &format!("{node}"));
            nodes.iter().map(route).collect::<Vec<_>>()
        });
        let expected: BTreeSet<RouteEntry> = pairs.collect::<Result<_>>()?;
        eventually("the router's table", TIMEOUT, || {
            let mut found = self.router.table()?;
            // Communities of the aggregates are not the subject.
            found = found.into_iter().map(without_communities).collect();
            ensure!(found == expected, "{found:?}");
            Ok(())
        })
    }
}

fn without_communities(route: RouteEntry) -> RouteEntry {
    RouteEntry {
        communities: Vec::new(),
        large_communities: Vec::new(),
        ..route
    }
}

fn start_objects(scratch: &Scratch) -> Result<ControlPlane<'_>> {
    let objects = ControlPlane::start(scratch, Nodes::Objects)?;
    objects.install_metallb_crds(Metallb::V0_16_2)?;
    objects.apply(METALLB)?;
    Ok(objects)
}

/// The shell of an administrator, with a home folder of its own.
fn administrator<'a>(cp: &'a ControlPlane<'_>, folder: &Path) -> Result<Shell<'a>> {
    let home = folder.join("home");
    fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
    shell(folder, || cp.command("bash"))?
        .administrator(cp, &home)?
        .program("helm", &packaged("helm")?)
}
