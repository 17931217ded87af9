//! `deploy/manifests` as they stand, on two real nodes, with an image of nothing but the static binary.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{
    ControlPlane, Image, Load, Metallb, NAMESPACE, Nodes, RealNode, manifests,
};
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::{Scratch, ferrolb, scenario};
use ferrolb_interop_tests::router::{
    Frr, RouteEntry, Router, await_kernel, await_sessions, await_table,
};
use ferrolb_interop_tests::topology::Topology;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

const WORKLOADS: [&str; 2] = [
    "deployment/ferrolb-allocator",
    "daemonset/ferrolb-announcer",
];

/// Without any capability, forbidden to get more, and seccomp filters its calls.
const CONFINED: [&str; 7] = [
    "Uid:\t65532\t65532\t65532\t65532",
    "Gid:\t65532\t65532\t65532\t65532",
    "CapPrm:\t0000000000000000",
    "CapEff:\t0000000000000000",
    "CapBnd:\t0000000000000000",
    "NoNewPrivs:\t1",
    "Seccomp:\t2",
];

const CONFIGURATION: &str = "
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.1, enableGracefulRestart: true}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
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
      - name: main
        image: ferrolb.example/traffic:lab
        imagePullPolicy: Never
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        args: [serve, $(NODE), '8080']
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
";

#[test]
fn the_shipped_manifests_run() {
    scenario("shipped", |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let mut router = Frr::new(scratch, &topology.tor, "graceful-restart");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Real)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        let _nodes = start_nodes(scratch, &cp, &topology)?;

        cp.apply_path(&manifests())?;
        cp.apply(CONFIGURATION)?;
        await_rollouts(&cp)?;
        let before = pods(&cp)?;
        ensure!(before.len() == 4, "{before:?}");
        for pod in &before {
            is_confined(&cp, pod)?;
        }
        let address = reached(&cp, &topology, &router)?;
        for pod in &before {
            log_is_readable(&cp, pod)?;
        }
        nothing_restarted(&cp)?;

        // A planned restart of everything, node after node, breaks nothing.
        let load = Load::start(client(&topology)?, SocketAddr::new(address, 80), 200, 100)?;
        for workload in WORKLOADS {
            cp.kubectl(&["rollout", "restart", workload, "-n", NAMESPACE])?;
        }
        await_rollouts(&cp)?;
        let after = eventually("only new Pods", SOON, || {
            let after = pods(&cp)?;
            ensure!(
                after.len() == 4 && after.is_disjoint(&before),
                "{before:?} {after:?}"
            );
            Ok(after)
        })?;
        let again = reached(&cp, &topology, &router)?;
        let report = load.stop()?;
        ensure!(
            (report.failed, report.broken, report.long_lived) == (0, 0, 100),
            "the rollout broke something: {report:?}"
        );
        ensure!(report.answered.len() == 2, "{report:?}");
        ensure!(again == address, "{address} became {again}");
        for pod in &after {
            is_confined(&cp, pod)?;
        }
        nothing_restarted(&cp)
    });
}

/// Two, with the images that their Pods need.
fn start_nodes(
    scratch: &Scratch,
    cp: &ControlPlane<'_>,
    topology: &Topology,
) -> Result<Vec<RealNode>> {
    // As deploy/Dockerfile makes it.
    let image = Image::new("ferrolb:dev")
        .file("/ferrolb", ferrolb()?)
        .entrypoint(&["/ferrolb"])
        .user("65532:65532")
        .write(scratch)?;
    let traffic = Image::traffic()?.write(scratch)?;
    let mut nodes = Vec::new();
    for node in &topology.nodes {
        let node = RealNode::start(cp, node)?;
        node.import(&image)?;
        node.import(&traffic)?;
        nodes.push(node);
    }
    Ok(nodes)
}

fn await_rollouts(cp: &ControlPlane<'_>) -> Result<()> {
    for workload in WORKLOADS {
        cp.kubectl(&[
            "rollout",
            "status",
            workload,
            "-n",
            NAMESPACE,
            "--timeout=90s",
        ])?;
    }
    Ok(())
}

/// Names of ferrolb's Pods that are not on their way out.
fn pods(cp: &ControlPlane<'_>) -> Result<BTreeSet<String>> {
    let list = cp.get(&["pods", "-n", NAMESPACE])?;
    let items = list["items"].as_array().context("no items")?;
    Ok(items
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned()))
        .collect())
}

/// The process of a Pod, found by the container's id in its cgroup.
fn process_of(pod: &Value) -> Result<u32> {
    let container = &pod["status"]["containerStatuses"][0]["containerID"];
    let container = container.as_str().context("no container")?;
    let id = container.rsplit('/').next().unwrap_or_default();
    ensure!(id.len() == 64, "{container}");
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // It may end while we look.
        let cgroups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroups.contains(id) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process in {container}")
}

fn is_confined(cp: &ControlPlane<'_>, name: &str) -> Result<()> {
    let pod = cp.get(&["pod", name, "-n", NAMESPACE])?;
    let pid = process_of(&pod)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    for line in CONFINED {
        ensure!(
            status.lines().any(|found| found == line),
            "{name}, {line}: {status}"
        );
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let root = mounts
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/"));
    let options = root
        .and_then(|line| line.split(' ').nth(5))
        .unwrap_or_default();
    ensure!(
        options.split(',').any(|option| option == "ro"),
        "{name}: {mounts}"
    );
    Ok(())
}

/// Sessions, address, routes, an answer to a client. Gives the address.
fn reached(cp: &ControlPlane<'_>, topology: &Topology, router: &Frr<'_>) -> Result<IpAddr> {
    let nodes = topology.nodes.iter();
    let peers: BTreeSet<IpAddr> = nodes.map(|node| node.ipv4.into()).collect();
    await_sessions(router, &peers, SOON)?;
    let address = eventually("an address", SOON, || {
        let addresses = cp.service_addresses("default", "web")?;
        addresses.first().copied().context("none")
    })?;
    let prefix = format!("{address}/32");
    let routes: Result<BTreeSet<RouteEntry>> = peers
        .iter()
        .map(|peer| RouteEntry::new(&prefix, &peer.to_string()))
        .collect();
    await_table(router, &routes?, SOON)?;
    await_kernel(&topology.tor, &prefix, &peers, SOON)?;
    // The Pod's name for itself, and the client's address.
    let ask = format!("exec 3<>/dev/tcp/{address}/80 && head -n1 <&3");
    eventually("an answer", SOON, || {
        let answer = client(topology)?.run("timeout", &["2", "bash", "-c", &ask])?;
        ensure!(answer.starts_with("node"), "{answer}");
        Ok(())
    })?;
    Ok(address)
}

fn client(topology: &Topology) -> Result<&Namespace> {
    topology.client.as_ref().context("no client")
}

/// Every line is a JSON object that says when, how bad and what; nothing went wrong; an announcer tells its session.
fn log_is_readable(cp: &ControlPlane<'_>, name: &str) -> Result<()> {
    let log = cp.kubectl(&["logs", name, "-n", NAMESPACE])?;
    let mut messages = Vec::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("{name}: {line}"))?;
        for key in ["timestamp", "level", "message"] {
            ensure!(line[key].is_string(), "{name}: {line}");
        }
        ensure!(line["level"] != "ERROR", "{name}: {line}");
        messages.push(line["message"].as_str().unwrap_or_default().to_owned());
    }
    let said = |words: &str| messages.iter().any(|message| message.contains(words));
    ensure!(said("started"), "{log}");
    ensure!(
        !name.contains("announcer") || (said("session up") && said("announce")),
        "{log}"
    );
    Ok(())
}

/// Neither a probe nor a crash ended a container.
fn nothing_restarted(cp: &ControlPlane<'_>) -> Result<()> {
    let list = cp.get(&["pods", "-n", NAMESPACE])?;
    for pod in list["items"].as_array().context("no items")? {
        let count = &pod["status"]["containerStatuses"][0]["restartCount"];
        ensure!(
            *count == 0,
            "{}: {}",
            pod["metadata"]["name"],
            pod["status"]
        );
    }
    Ok(())
}
