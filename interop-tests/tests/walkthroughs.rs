//! Published walk-throughs of MetalLB, with their objects as they stand there
//! (`daemon/tests/plans/walkthroughs`): a Service gets its address and answers, over layer 2 and
//! over BGP. Those with a ConfigMap run in a cluster that never had a CRD. Walk-through 3 lost the
//! texts of its ConfigMap and Service when it was published: these are reconstructed.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ferrolb_interop_tests::bounce::Bounces;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Ferrolb, Load, Nodes, traffic_program};
use ferrolb_interop_tests::lan::{Host, Mac, answers, mac};
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::{Process, ferrolb};
use ferrolb_interop_tests::router::{Bird, RouteEntry, Router, await_sessions, await_table};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{Topology, ipv4_addresses};
use serde_json::json;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A walk-through, and what it shows.
struct Walkthrough {
    /// The folder with its objects.
    name: &'static str,
    /// The value of the label `app` of its Pods.
    app: &'static str,
    /// The port on which its Pods listen.
    pod_port: u16,
    /// Its Services, with their ports and the addresses that they get.
    services: &'static [(&'static str, u16, &'static str)],
    /// The network of its pool.
    network: &'static str,
    /// Whether the network is announced whole: then ferrolb discards what is not delivered.
    whole: bool,
}

fn file(walkthrough: &str, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/tests/plans/walkthroughs");
    folder.join(walkthrough).join(name)
}

/// A cluster with the Pods of a walk-through on every node.
struct Cluster<'lab> {
    _servers: Vec<Process>,
    data_path: DataPath,
    cp: ControlPlane<'lab>,
}

impl<'lab> Cluster<'lab> {
    fn start(scratch: &'lab Scratch, rack: &Topology, walkthrough: &Walkthrough) -> Result<Self> {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_rbac()?;
        for node in rack.nodes.iter().filter(|_| !walkthrough.whole) {
            // A packet that kube-proxy does not rewrite yet would loop between node and router.
            let unreachable = ["route", "add", "unreachable", walkthrough.network];
            node.namespace.ip(&unreachable)?;
        }
        let data_path = DataPath::start(&cp, &rack.nodes, walkthrough.app)?;
        let mut servers = Vec::new();
        for (pod, backend) in data_path.pods.iter().zip(&data_path.backends) {
            // As kubectl run labels Pods.
            let label = format!("run={}", walkthrough.app);
            cp.kubectl(&["label", "pod", &pod.name, &label])?;
            let mut command = backend.namespace().command(traffic_program()?);
            command.args(["serve", &pod.name, &walkthrough.pod_port.to_string()]);
            let name = format!("walkthrough-{}", pod.name);
            if walkthrough.pod_port != ferrolb_interop_tests::kube::PORT {
                servers.push(Process::start(scratch, &name, &command)?);
            }
        }
        Ok(Self {
            _servers: servers,
            data_path,
            cp,
        })
    }

    fn await_address(&self, service: &str, address: &str) -> Result<IpAddr> {
        let expected: IpAddr = address.parse()?;
        eventually(format!("{address} for {service}"), TIMEOUT, || {
            let found = self.cp.service_addresses("default", service)?;
            ensure!(found == [expected], "{found:?}");
            Ok(expected)
        })
    }
}

/// Waits until every request of a client is answered, for half a second.
fn await_answers(client: &Namespace, target: SocketAddr) -> Result<()> {
    eventually(format!("answers at {target}"), TIMEOUT, || {
        let load = Load::start(client, target, 20, 0)?;
        sleep(Duration::from_millis(500));
        let report = load.stop()?;
        ensure!(
            report.failed == 0 && report.total_answered() > 0,
            "{report:?}"
        );
        Ok(())
    })
}

/// The cluster of a walk-through of layer 2 mode, with a client on its segment.
struct Segment<'lab> {
    cluster: Cluster<'lab>,
    rack: &'lab Topology,
    client: Host,
    /// Of the nodes, in their order.
    macs: Vec<Mac>,
    _allocator: Ferrolb<'lab>,
    layer2: Vec<Ferrolb<'lab>>,
}

impl<'lab> Segment<'lab> {
    /// Starts ferrolb with the walk-through's configuration.
    fn start(
        cluster: Cluster<'lab>,
        rack: &'lab Topology,
        walkthrough: &Walkthrough,
    ) -> Result<Self> {
        cluster
            .cp
            .apply_path(&file(walkthrough.name, "config.yaml"))?;
        let mut allocator = Ferrolb::allocator(&cluster.cp, "allocator1")?;
        let nodes = rack.nodes.iter();
        let mut layer2 = nodes
            .clone()
            .map(|node| Ferrolb::layer2(&cluster.cp, node))
            .collect::<Result<Vec<_>>>()?;
        allocator.await_ready()?;
        layer2.iter_mut().try_for_each(Ferrolb::await_ready)?;
        let client = Host::new(rack, "client", 100)?;
        let on_link = ["route", "add", walkthrough.network, "dev", "uplink"];
        client.namespace.ip(&on_link)?;
        Ok(Self {
            macs: nodes
                .map(|node| mac(&node.namespace))
                .collect::<Result<_>>()?,
            cluster,
            rack,
            client,
            _allocator: allocator,
            layer2,
        })
    }

    /// Waits until a Service has its address and answers. Returns the place of the node that
    /// `arping` shows.
    fn await_service(&self, (service, port, address): (&str, u16, &str)) -> Result<usize> {
        let address = self.cluster.await_address(service, address)?;
        await_answers(&self.client.namespace, SocketAddr::new(address, port))?;
        self.owner(address)
    }

    /// The place of the one node that answers ARP, once there is one.
    fn owner(&self, address: IpAddr) -> Result<usize> {
        eventually("one node answers ARP", TIMEOUT, || self.answering(address))
    }

    fn answering(&self, address: IpAddr) -> Result<usize> {
        let macs = &self.macs;
        let found = answers(&self.client.namespace, address)?;
        let mut owners = found.iter().map(|mac| macs.iter().position(|of| of == mac));
        match (owners.next().flatten(), owners.next()) {
            (Some(owner), None) => Ok(owner),
            _ => bail!("{address}: {found:?}, nodes {macs:?}"),
        }
    }
}

/// Runs a walk-through of layer 2 mode whose Services are manifests, and what follows.
fn over_layer2(
    walkthrough: &Walkthrough,
    prepare: impl FnOnce(&ControlPlane<'_>) -> Result<()>,
    then: impl FnOnce(&mut Segment<'_>) -> Result<()>,
) {
    scenario(&format!("walkthrough-{}", walkthrough.name), |scratch| {
        let rack = Topology::new(3)?;
        let cluster = Cluster::start(scratch, &rack, walkthrough)?;
        prepare(&cluster.cp)?;
        let mut segment = Segment::start(cluster, &rack, walkthrough)?;
        let services = file(walkthrough.name, "services.yaml");
        segment.cluster.cp.apply_path(&services)?;
        for service in walkthrough.services {
            segment.await_service(*service)?;
        }
        then(&mut segment)
    });
}

const NGINX: Walkthrough = Walkthrough {
    name: "4",
    app: "nginx",
    pod_port: 80,
    services: &[("nginx", 80, "172.22.132.150")],
    network: "172.22.132.0/24",
    whole: false,
};

/// What `kubectl run nginx` created in 2019. The lab's Pods have its labels.
const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx, labels: {run: nginx}}
spec:
  replicas: 0
  selector: {matchLabels: {run: nginx}}
  template:
    metadata: {labels: {run: nginx}}
    spec: {containers: [{name: nginx, image: nginx, ports: [{containerPort: 80}]}]}
";

/// Runs `kubectl expose deploy nginx` with arguments.
fn expose(cp: &ControlPlane<'_>, arguments: &str) -> Result<()> {
    let command = format!("expose deploy nginx {arguments} --target-port 80 --type LoadBalancer");
    cp.kubectl(&command.split(' ').collect::<Vec<_>>())?;
    Ok(())
}

#[test]
fn walkthrough_1_services_get_an_address_each_from_a_config_map_or_share_one() {
    let walkthrough = Walkthrough { name: "1", ..NGINX };
    scenario("walkthrough-1", |scratch| {
        let rack = Topology::new(3)?;
        let cluster = Cluster::start(scratch, &rack, &walkthrough)?;
        let segment = Segment::start(cluster, &rack, &walkthrough)?;
        let cp = &segment.cluster.cp;
        cp.apply(DEPLOYMENT)?;
        expose(cp, "--port 8080")?;
        segment.await_service(("nginx", 8080, "172.22.132.150"))?;
        expose(cp, "--name nginx-80 --port 80")?;
        segment.await_service(("nginx-80", 80, "172.22.132.151"))?;
        // The annotation that the text ends with.
        expose(cp, "--name shared-81 --port 81")?;
        let annotation = "metallb.universe.tf/allow-shared-ip=nginx";
        cp.kubectl(&["annotate", "service", "shared-81", annotation])?;
        segment.await_service(("shared-81", 81, "172.22.132.152"))?;
        let shared = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "shared-82",
                "annotations": { "metallb.universe.tf/allow-shared-ip": "nginx" },
            },
            "spec": {
                "type": "LoadBalancer", "selector": { "run": "nginx" },
                "ports": [{ "port": 82, "targetPort": 80 }],
            },
        });
        cp.apply(&shared.to_string())?;
        segment.await_service(("shared-82", 82, "172.22.132.152"))?;
        // The pool that the text has in comments, with the protocol that it lacks there.
        let config = fs::read_to_string(file("1", "config.yaml"))?;
        let config = config
            .replace(
                "# - name: production",
                "- name: production\n      protocol: layer2",
            )
            .replace("    #   ", "      ")
            .replace("    # ", "    ");
        cp.apply(&config)?;
        expose(cp, "--name by-request --port 80")?;
        let pool = "metallb.universe.tf/address-pool=production";
        cp.kubectl(&["annotate", "service", "by-request", pool])?;
        // .0 is one of the addresses that some old routers drop.
        segment
            .cluster
            .await_address("by-request", "172.22.131.1")?;
        expose(cp, "--name unasked --port 80")?;
        segment.await_service(("unasked", 80, "172.22.132.153"))?;
        Ok(())
    });
}

#[test]
fn walkthrough_2_a_service_requests_a_pool_by_the_older_annotation() {
    let walkthrough = Walkthrough {
        name: "2",
        app: "s1.dep",
        pod_port: 8080,
        services: &[("s1", 80, "192.168.61.220")],
        network: "192.168.61.0/24",
        whole: false,
    };
    let install_crds = |cp: &ControlPlane<'_>| {
        cp.install_ferrolb_crds()?;
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/metallb-crds.yaml");
        let crds = crds.to_str().context("path is not UTF-8")?;
        cp.kubectl(&["apply", "--server-side", "-f", crds])?;
        cp.kubectl(&[
            "wait",
            "--for=condition=established",
            "--timeout=30s",
            "crd",
            "--all",
        ])?;
        Ok(())
    };
    over_layer2(&walkthrough, install_crds, |segment| {
        let (_, port, address) = walkthrough.services[0];
        let address: IpAddr = address.parse()?;
        let owner = segment.owner(address)?;
        segment.rack.nodes[owner]
            .namespace
            .ip(&["link", "set", "uplink", "down"])?;
        segment.layer2[owner].process().kill()?;
        // No kubelet reports that the Pod of the node is gone.
        let pod = &segment.cluster.data_path.pods[owner].name;
        segment
            .cluster
            .cp
            .kubectl(&["delete", "pod", pod, "--force"])?;
        eventually("another node answers", TIMEOUT, || {
            let next = segment.owner(address)?;
            ensure!(next != owner, "still node {owner}");
            Ok(())
        })?;
        await_answers(&segment.client.namespace, SocketAddr::new(address, port))
    });
}

/// Creates the Secret of walk-throughs 4 and 5. Its key has two lines.
fn create_memberlist(segment: &mut Segment<'_>) -> Result<()> {
    let cp = &segment.cluster.cp;
    let script = format!(
        "{} --kubeconfig {} create secret generic -n metallb-system memberlist \
         --from-literal=secretkey=\"$(openssl rand -base64 128)\"",
        cp.kubectl_program().display(),
        cp.admin_kubeconfig().display()
    );
    let created = cp.command("bash").args(["-c", &script]).output()?;
    ensure!(created.status.success(), "{created:?}");
    Ok(())
}

#[test]
fn walkthrough_4_a_service_gets_an_address_from_a_config_map() {
    let create = |segment: &mut Segment<'_>| {
        let (_, port, address) = NGINX.services[0];
        let address: IpAddr = address.parse()?;
        let owner = segment.owner(address)?;
        let target = SocketAddr::new(address, port);
        let load = Load::start(&segment.client.namespace, target, 20, 0)?;
        create_memberlist(segment)?;
        // The nodes change from the key of their own to this one.
        sleep(Duration::from_secs(3));
        let report = load.stop()?;
        ensure!(
            report.failed == 0 && report.total_answered() > 0,
            "{report:?}"
        );
        ensure!(segment.owner(address)? == owner, "another owner");
        // A process that starts now knows no other key.
        let next = (owner + 1) % segment.layer2.len();
        let process = &mut segment.layer2[next];
        process.process().kill()?;
        process.start_again()?;
        process.await_ready()?;
        ensure!(segment.owner(address)? == owner, "another owner");
        Ok(())
    };
    over_layer2(&NGINX, |_| Ok(()), create);
}

#[test]
fn walkthrough_5_a_service_gets_an_address_from_a_config_map() {
    let walkthrough = Walkthrough {
        name: "5",
        services: &[("nginx-service", 80, "11.11.11.150")],
        network: "11.11.11.0/24",
        ..NGINX
    };
    over_layer2(&walkthrough, |_| Ok(()), |_| Ok(()));
}

/// The router of walk-through 4: AS 64501 at 10.0.0.1, a hop away from the nodes' network.
const BIRD: &str = "
router id 10.0.0.1;
log stderr all;
protocol device {}
protocol direct { ipv4; interface \"rack\"; }
protocol kernel {
  ipv4 { import none; export where source = RTS_BGP; };
  merge paths on limit 64;
}
template bgp node {
  local 10.0.0.1 as 64501;
  multihop 2;
  passive;
  ipv4 { import all; export none; };
}
protocol bgp node1 from node { neighbor 10.99.0.11 as 64500; }
protocol bgp node2 from node { neighbor 10.99.0.12 as 64500; }
protocol bgp node3 from node { neighbor 10.99.0.13 as 64500; }
";

/// The corrected manifest that `ferrolb check` prints for one that it refuses.
fn corrected(path: &Path) -> Result<String> {
    let output = Command::new(ferrolb()?)
        .args(["check", "-f"])
        .arg(path)
        .output()?;
    ensure!(!output.status.success(), "it is valid");
    let text = String::from_utf8(output.stdout)?;
    let (_, correction) = text.split_once("probably meant:\n").context(text.clone())?;
    let lines = correction
        .lines()
        .map_while(|line| line.strip_prefix("    "));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

#[test]
fn walkthrough_4_over_bgp_runs_as_its_error_message_corrects_it() {
    let walkthrough = Walkthrough {
        name: "4-bgp",
        services: &[("nginx", 80, "192.168.10.0")],
        network: "192.168.10.0/24",
        ..NGINX
    };
    scenario("walkthrough-bgp", |scratch| {
        let mut rack = Topology::new(3)?;
        rack.add_client()?;
        rack.tor.address("rack", "10.0.0.1/32")?;
        let configuration = scratch.file("bird.conf");
        fs::write(&configuration, BIRD)?;
        let mut router = Bird::with_configuration(scratch, &rack.tor, configuration);
        router.start()?;
        let cluster = Cluster::start(scratch, &rack, &walkthrough)?;
        let published = file(walkthrough.name, "config.yaml");
        ensure!(
            cluster.cp.apply_path(&published).is_err(),
            "the API server accepts the published text"
        );
        cluster.cp.apply(&corrected(&published)?)?;
        cluster
            .cp
            .apply_path(&file(walkthrough.name, "services.yaml"))?;
        let mut processes = vec![Ferrolb::allocator(&cluster.cp, "allocator1")?];
        for node in &rack.nodes {
            processes.push(Ferrolb::announcer(&cluster.cp, node)?);
        }
        processes.iter_mut().try_for_each(Ferrolb::await_ready)?;
        let nodes: Vec<_> = rack.nodes.iter().collect();
        await_sessions(&router, &ipv4_addresses(&nodes), TIMEOUT)?;
        let (service, port, address) = walkthrough.services[0];
        let address = cluster.await_address(service, address)?;
        await_answers(rack.client()?, SocketAddr::new(address, port))?;
        // An invalid edit changes nothing, and is reported.
        let invalid = corrected(&published)?.replace("peer-asn", "peer-as");
        cluster.cp.apply(&invalid)?;
        for process in &processes[1..] {
            process.await_log(&["ConfigMap", "unknown field: write peer-asn"], TIMEOUT)?;
        }
        await_answers(rack.client()?, SocketAddr::new(address, port))
    });
}

/// The switch of walk-through 3: AS 65116, with a password, and all nodes' paths to a prefix.
const SWITCH: &str = "
router id 10.99.0.1;
log stderr all;
protocol device {}
protocol kernel {
  ipv4 { import none; export where source = RTS_BGP; };
  merge paths on limit 64;
}
template bgp node {
  local 10.99.0.1 as 65116;
  neighbor range 10.99.0.0/24 as 64700;
  dynamic name \"node\";
  password \"tor-secret\";
  ipv4 { import all; export none; };
}
protocol bgp nodes from node {}
";

/// The allocator reads the ConfigMap. Calico announces the whole network there, with both
/// communities, from the workers only: objects of ferrolb do that instead.
#[test]
fn walkthrough_3_a_service_answers_in_a_network_that_all_nodes_announce_whole() {
    let walkthrough = Walkthrough {
        name: "3",
        app: "http-server",
        pod_port: 80,
        services: &[("http-server-svc", 80, "192.168.5.0")],
        network: "192.168.5.0/24",
        whole: true,
    };
    scenario("walkthrough-3", |scratch| {
        let mut rack = Topology::new(3)?;
        rack.add_client()?;
        let configuration = scratch.file("bird.conf");
        fs::write(&configuration, SWITCH)?;
        let mut router = Bird::with_configuration(scratch, &rack.tor, configuration);
        router.start()?;
        let cluster = Cluster::start(scratch, &rack, &walkthrough)?;
        cluster.cp.install_ferrolb_crds()?;
        cluster.cp.apply_path(&file("3", "config.yaml"))?;
        let mut allocator = Ferrolb::allocator(&cluster.cp, "allocator1")?;
        allocator.await_ready()?;
        cluster.cp.apply_path(&file("3", "services.yaml"))?;
        let (service, port, address) = walkthrough.services[0];
        let address = cluster.await_address(service, address)?;

        cluster.cp.apply_path(&file("3-bgp", "config.yaml"))?;
        // The first node stands for the control plane.
        let workers = &rack.nodes[1..];
        for worker in workers {
            let label = "node-role.kubernetes.io/worker=true";
            cluster
                .cp
                .kubectl(&["label", "node", &worker.name, label])?;
        }
        let mut announcers = Vec::new();
        for node in &rack.nodes {
            announcers.push(Ferrolb::announcer(&cluster.cp, node)?);
        }
        announcers.iter_mut().try_for_each(Ferrolb::await_ready)?;
        let whole = workers.iter().map(|node| {
            let route = RouteEntry::new(walkthrough.network, &node.ipv4.to_string())?;
            let route = route.communities(&["64700:120"]);
            Ok(route.large_communities(&["64700:300:100"]))
        });
        await_table(&router, &whole.collect::<Result<_>>()?, TIMEOUT)?;
        await_answers(rack.client()?, SocketAddr::new(address, port))?;
        // Processes of a node reach it too, although the node discards what is not delivered.
        await_answers(&workers[0].namespace, SocketAddr::new(address, port))?;
        let unused: IpAddr = "192.168.5.77".parse()?;
        let bounces = Bounces::count(&rack, unused)?;
        ensure!(bounces == Bounces::NONE, "{bounces:?}");
        cluster.await_address(service, walkthrough.services[0].2)?;
        Ok(())
    });
}
