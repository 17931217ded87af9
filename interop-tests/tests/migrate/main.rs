//! `ferrolb migrate` on real nodes with the real MetalLB 0.14.9: its manifest as published, BGP and
//! layer 2, and clients all the while.

mod frr_k8s;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{
    ControlPlane, Image, Load, METALLB_WEBHOOKS, Metallb, Nodes, RealNode, Report, deploy,
    metallb_images,
};
use ferrolb_interop_tests::manifest::{self, NAMESPACE};
use ferrolb_interop_tests::process::{ferrolb, run};
use ferrolb_interop_tests::router::{Frr, Router, await_sessions};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(90);
/// Time of traffic before and after a migration.
const AROUND: Duration = Duration::from_secs(2);
/// How often the paths of a Service change in a migration of two nodes: each leaves, and comes
/// back.
const PATH_CHANGES: u64 = 4;

/// A webhook about MetalLB's objects that is not MetalLB's.
const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: policy}
webhooks:
- name: policy.example.com
  clientConfig: {url: 'https://127.0.0.1:1/'}
  rules: [{apiGroups: [metallb.io], apiVersions: ['*'], operations: [DELETE], resources: [none]}]
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
";

/// A pool and a Service for BGP, another of each for layer 2, and a server on every node.
fn configuration() -> String {
    let layer2 = |document: String| document.replace("name: pool", "name: lan");
    let only = "ipAddressPools: [pool]";
    let only_lan = "ipAddressPools: [lan]";
    manifest::join(&[
        &manifest::metallb_peer(""),
        &manifest::pool("192.0.2.0/28"),
        &manifest::advertisement(only),
        &layer2(manifest::pool("10.99.0.200-10.99.0.210")),
        &manifest::layer2_advertisement(only_lan),
        &manifest::service("bgp", &from_pool("pool"), "externalTrafficPolicy: Local,"),
        &manifest::service("lan", &from_pool("lan"), ""),
        manifest::SERVERS,
    ])
}

fn from_pool(pool: &str) -> String {
    format!("annotations: {{metallb.universe.tf/address-pool: {pool}}},")
}

/// Runs a test on a cluster of two real nodes with MetalLB, whose Services answer.
fn with_metallb(
    name: &str,
    images: Vec<Image>,
    manifest: &[Value],
    daemonsets: &[&str],
    test: impl FnOnce(&Cluster<'_>) -> Result<()>,
) {
    scenario(name, |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let mut router = Frr::new(scratch, &topology.tor, "ebgp");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Real)?;
        let mut all = vec![Image::ferrolb()?, Image::traffic()?];
        all.extend(metallb_images()?);
        all.extend(images);
        let _nodes = RealNode::start_all(&cp, &topology, &all)?;
        let mut cluster = Cluster {
            scratch,
            cp: &cp,
            topology: &topology,
            router: &router,
            addresses: Vec::new(),
        };
        cluster.install(manifest, daemonsets)?;
        test(&cluster)
    });
}

#[test]
fn a_cluster_moves_from_metallb_and_back_and_loses_no_request() {
    let manifest = Metallb::V0_14_9.objects().expect("the manifest");
    let daemonsets = ["daemonset/speaker"];
    with_metallb("migrate", Vec::new(), &manifest, &daemonsets, |cluster| {
        cluster.cp.apply(POLICY)?;
        // Nothing changes with --dry-run, which shows each step.
        let shown = cluster.migrate(&["--dry-run"])?;
        for part in [
            "0 would move",
            "0 announcements of MetalLB would be lost",
            "node2: end",
            "notice: the ValidatingWebhookConfiguration policy",
        ] {
            ensure!(shown.contains(part), "no {part:?}: {shown}");
        }
        cluster.cp.get(&[METALLB_WEBHOOKS])?;
        cluster.check_runs("metallb")?;

        cluster.migrate_under_load()?;
        cluster.check_runs("ferrolb")?;
        ensure!(
            cluster.cp.get(&[METALLB_WEBHOOKS]).is_err(),
            "{METALLB_WEBHOOKS} is still there"
        );
        cluster.cp.get(&["validatingwebhookconfiguration/policy"])?;
        cluster.check_conversion("None")?;
        cluster.check_saved()?;

        cluster.migrate_back()?;
        cluster.check_runs("metallb")?;
        cluster.cp.get(&[METALLB_WEBHOOKS])?;
        cluster.check_conversion("Webhook")?;

        cluster.migrate_again()?;
        cluster.check_allocator_stands_back()?;
        cluster.finish()?;
        cluster.check_deleted(&["deployment/controller", "daemonset/speaker"])?;
        cluster.check_runs("ferrolb")
    });
}

struct Cluster<'lab> {
    scratch: &'lab Scratch,
    cp: &'lab ControlPlane<'lab>,
    topology: &'lab Topology,
    router: &'lab Frr<'lab>,
    /// Of the Services `bgp` and `lan`.
    addresses: Vec<IpAddr>,
}

impl Cluster<'_> {
    /// Applies a manifest of MetalLB, and objects, and waits until the Services answer.
    fn install(&mut self, manifest: &[Value], daemonsets: &[&str]) -> Result<()> {
        self.cp
            .run_metallb(manifest, daemonsets, &configuration())?;
        for service in ["bgp", "lan"] {
            let address = eventually(format!("an address of {service}"), TIMEOUT, || {
                let addresses = self.cp.service_addresses("default", service)?;
                addresses.first().copied().context("none")
            })?;
            self.addresses.push(address);
        }
        self.check_runs("metallb")
    }

    fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.cp.apply(&list.to_string())
    }

    /// Waits until these speakers run on all nodes, with sessions, and only they; the Services have
    /// their addresses and answer.
    fn check_runs(&self, project: &str) -> Result<()> {
        let (components, gone) = match project {
            "metallb" => (vec!["app=metallb"], "app.kubernetes.io/name=ferrolb"),
            _ => (vec!["app.kubernetes.io/name=ferrolb"], "app=metallb"),
        };
        eventually(format!("only {project}"), TIMEOUT, || {
            let left = self.pods(gone)?;
            ensure!(left.is_empty(), "{left:?}");
            for component in &components {
                let pods = self.pods(component)?;
                ensure!(pods.len() >= 3, "{pods:?}");
            }
            Ok(())
        })?;
        let nodes = self.topology.nodes.iter();
        let peers: BTreeSet<IpAddr> = nodes.map(|node| node.ipv4.into()).collect();
        await_sessions(self.router, &peers, TIMEOUT)?;
        for (service, address) in ["bgp", "lan"].iter().zip(&self.addresses) {
            let found = self.cp.service_addresses("default", service)?;
            ensure!(found == [*address], "{service}: {found:?}, not {address}");
            self.await_answer(*address)?;
        }
        Ok(())
    }

    /// The names of the Pods with a label.
    fn pods(&self, selector: &str) -> Result<BTreeSet<String>> {
        let list = self.cp.get(&["pods", "-n", NAMESPACE, "-l", selector])?;
        let items = list["items"].as_array().context("no items")?;
        let names = items
            .iter()
            .filter_map(|pod| pod["metadata"]["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn await_answer(&self, address: IpAddr) -> Result<()> {
        let ask = format!("exec 3<>/dev/tcp/{address}/80 && head -n1 <&3");
        eventually(format!("an answer of {address}"), TIMEOUT, || {
            let client = self.topology.client()?;
            let answer = client.run("timeout", &["2", "bash", "-c", &ask])?;
            ensure!(answer.starts_with("node"), "{answer}");
            Ok(())
        })
    }

    /// The reports of clients of both Services while something happens.
    fn under_load(&self, happens: impl FnOnce(&Self) -> Result<()>) -> Result<Vec<Report>> {
        let client = self.topology.client()?;
        let start = |address: &IpAddr| Load::start(client, SocketAddr::new(*address, 80), 50, 0);
        let loads: Result<Vec<Load>> = self.addresses.iter().map(start).collect();
        let loads = loads?;
        std::thread::sleep(AROUND);
        happens(self)?;
        std::thread::sleep(AROUND);
        loads.into_iter().map(Load::stop).collect()
    }

    fn saved(&self) -> PathBuf {
        self.scratch.file("saved.json")
    }

    fn saved_plans(&self) -> PathBuf {
        self.scratch.file("saved.plan.json")
    }

    fn ferrolb_migrate(&self) -> Result<Command> {
        let mut command = self.cp.command(ferrolb()?);
        command.arg("migrate").arg("--kubeconfig");
        command.arg(self.cp.admin_kubeconfig());
        command.arg("--save").arg(self.saved());
        Ok(command)
    }

    fn migrate(&self, more: &[&str]) -> Result<String> {
        let mut command = self.ferrolb_migrate()?;
        run(command
            .arg("-f")
            .arg(deploy().join("ferrolb.yaml"))
            .args(more))
    }

    /// Migrates with clients of both Services, and checks what they lost.
    fn migrate_under_load(&self) -> Result<()> {
        let migrate = |cluster: &Self| {
            let shown = cluster.migrate(&[])?;
            // The Service of BGP from each node, the other one from one.
            let all = self.topology.nodes.len() + 1;
            let expected = format!("ferrolb announces {all} of {all} announcements");
            ensure!(shown.contains(&expected), "no {expected:?}: {shown}");
            ensure!(!shown.contains("missing:"), "{shown}");
            Ok(())
        };
        for report in self.under_load(migrate)? {
            // Of the requests that were open when the paths changed, some are cut, as all
            // connections may be.
            ensure!(
                report.failed == report.cut && report.cut <= 2 * PATH_CHANGES,
                "{report:?}"
            );
        }
        Ok(())
    }

    fn migrate_again(&self) -> Result<()> {
        fs::remove_file(self.saved())?;
        fs::remove_file(self.saved_plans())?;
        self.migrate(&[])?;
        self.check_runs("ferrolb")
    }

    fn finish(&self) -> Result<()> {
        let mut finish = self.ferrolb_migrate()?;
        run(finish.arg("--finish")).map(drop)
    }

    fn migrate_back(&self) -> Result<()> {
        let mut command = self.ferrolb_migrate()?;
        run(command.arg("--undo")).map(drop)
    }

    /// Of both installed at once, only MetalLB's controller allocates.
    fn check_allocator_stands_back(&self) -> Result<()> {
        let scale = |replicas: &str| -> Result<String> {
            let replicas = format!("--replicas={replicas}");
            let arguments = ["scale", "-n", NAMESPACE, "deployment/controller", &replicas];
            self.cp.kubectl(&arguments)
        };
        let holder = || -> Result<String> {
            let lease = self.cp.get(&["lease/ferrolb-allocator", "-n", NAMESPACE])?;
            let holder = lease["spec"]["holderIdentity"].as_str();
            Ok(holder.unwrap_or_default().to_owned())
        };
        scale("1")?;
        eventually("no allocator leads", TIMEOUT, || {
            let holder = holder()?;
            ensure!(holder.is_empty(), "{holder} leads");
            Ok(())
        })?;
        // The other one of the two looks on its own.
        eventually("each allocator says why", TIMEOUT, || {
            let arguments = ["logs", "-n", NAMESPACE, "deployment/ferrolb-allocator"];
            let log = self.cp.kubectl(&arguments)?;
            ensure!(log.contains("MetalLB's controller runs"), "{log}");
            Ok(())
        })?;
        scale("0")?;
        eventually("an allocator leads", TIMEOUT, || {
            let holder = holder()?;
            ensure!(!holder.is_empty(), "none leads");
            Ok(())
        })
    }

    fn check_conversion(&self, expected: &str) -> Result<()> {
        let crd = self.cp.get(&["crd", "bgppeers.metallb.io"])?;
        let strategy = &crd["spec"]["conversion"]["strategy"];
        ensure!(strategy == expected, "{strategy}");
        Ok(())
    }

    /// The objects are saved, and are still in the cluster.
    fn check_saved(&self) -> Result<()> {
        let saved: Value = serde_json::from_str(&fs::read_to_string(self.saved())?)?;
        let items = saved["items"].as_array().context("no items")?;
        let kinds: BTreeSet<&str> = items
            .iter()
            .filter_map(|item| item["kind"].as_str())
            .collect();
        for kind in [
            "IPAddressPool",
            "BGPPeer",
            "BGPAdvertisement",
            "L2Advertisement",
        ] {
            ensure!(kinds.contains(kind), "no {kind}: {kinds:?}");
            let resource = format!("{}s.metallb.io", kind.to_lowercase());
            let found = self.cp.get(&[&resource, "-n", NAMESPACE])?;
            let found = found["items"].as_array().map_or(0, Vec::len);
            ensure!(found > 0, "no {kind} in the cluster");
        }
        let plans: Value = serde_json::from_str(&fs::read_to_string(self.saved_plans())?)?;
        for part in ["/metallb/announced", "/ferrolb/routes"] {
            let found = plans.pointer(part).and_then(Value::as_array);
            ensure!(found.is_some_and(|found| !found.is_empty()), "{plans:#}");
        }
        Ok(())
    }

    /// MetalLB's workloads are deleted; the Secret that its controller owned stays.
    fn check_deleted(&self, workloads: &[&str]) -> Result<()> {
        for gone in ["configmap/ferrolb-migration"].iter().chain(workloads) {
            eventually(format!("{gone} deleted"), TIMEOUT, || {
                ensure!(
                    self.cp.get(&[gone, "-n", NAMESPACE]).is_err(),
                    "still there"
                );
                Ok(())
            })?;
        }
        self.cp
            .get(&["secret/memberlist", "-n", NAMESPACE])
            .map(drop)
    }
}
