//! The unmodified `deploy/ferrolb.yaml` on two real nodes, with an image that contains only the
//! static binary.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Image, Load, Metallb, Nodes, RealNode, deploy};
use ferrolb_interop_tests::manifest::{self, NAMESPACE};
use ferrolb_interop_tests::router::{
    Frr, RouteEntry, Router, await_kernel, await_sessions, await_table,
};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);

const WORKLOADS: [&str; 3] = [
    "deployment/ferrolb-allocator",
    "daemonset/ferrolb-announcer",
    "daemonset/ferrolb-layer2",
];

/// Two of each workload.
const PODS: usize = 6;

/// Lines of `/proc/PID/status`: user, capabilities (of layer 2 only NET_RAW), no new privileges,
/// seccomp filter on.
fn confined(pod: &str) -> Vec<String> {
    let (id, capabilities) = if pod.contains("layer2") {
        ("0", "0000000000002000")
    } else {
        ("65532", "0000000000000000")
    };
    let mut lines = vec!["NoNewPrivs:\t1".to_owned(), "Seccomp:\t2".to_owned()];
    lines.extend(["Uid", "Gid"].map(|name| format!("{name}:\t{id}\t{id}\t{id}\t{id}")));
    lines.extend(["CapPrm", "CapEff", "CapBnd"].map(|name| format!("{name}:\t{capabilities}")));
    lines
}

/// Peer, pool, advertisement, a Service, and a server on every node.
fn configuration() -> String {
    manifest::join(&[
        &manifest::metallb_peer(", enableGracefulRestart: true"),
        &manifest::pool("192.0.2.0/28"),
        &manifest::advertisement(""),
        &manifest::service("web", "", "externalTrafficPolicy: Local,"),
        manifest::SERVERS,
    ])
}

#[test]
fn the_shipped_manifests_run_and_a_rollout_breaks_no_connection() {
    scenario("shipped", |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let mut router = Frr::new(scratch, &topology.tor, "graceful-restart");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Real)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        let images = [Image::ferrolb()?, Image::traffic()?];
        let _nodes = RealNode::start_all(&cp, &topology, &images)?;

        cp.apply_path(&deploy().join("ferrolb.yaml"))?;
        cp.apply(&configuration())?;
        await_rollouts(&cp)?;
        let before = pods(&cp)?;
        ensure!(before.len() == PODS, "{before:?}");
        for pod in &before {
            check_confinement(&cp, pod)?;
        }
        let address = await_answer(&cp, &topology, &router)?;
        for pod in &before {
            check_log(&cp, pod)?;
        }
        check_no_restarts(&cp)?;

        // A rolling restart of all workloads.
        let load = Load::start(topology.client()?, SocketAddr::new(address, 80), 200, 100)?;
        for workload in WORKLOADS {
            cp.kubectl(&["rollout", "restart", workload, "-n", NAMESPACE])?;
        }
        await_rollouts(&cp)?;
        let after = eventually("only new Pods", TIMEOUT, || {
            let after = pods(&cp)?;
            ensure!(
                after.len() == PODS && after.is_disjoint(&before),
                "{before:?} {after:?}"
            );
            Ok(after)
        })?;
        let again = await_answer(&cp, &topology, &router)?;
        let report = load.stop()?;
        ensure!(
            (report.failed, report.broken, report.long_lived) == (0, 0, 100),
            "connections failed during the rollout: {report:?}"
        );
        ensure!(report.answered.len() == 2, "{report:?}");
        ensure!(again == address, "{address} became {again}");
        for pod in &after {
            check_confinement(&cp, pod)?;
        }
        check_no_restarts(&cp)
    });
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

/// Names of ferrolb's Pods that are not being deleted.
fn pods(cp: &ControlPlane<'_>) -> Result<BTreeSet<String>> {
    let list = cp.get(&["pods", "-n", NAMESPACE])?;
    let items = list["items"].as_array().context("no items")?;
    Ok(items
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned()))
        .collect())
}

/// The pid of a Pod's process, found by the container id in its cgroup.
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
        // Fails if the process has ended.
        let cgroups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroups.contains(id) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process of {container}")
}

fn check_confinement(cp: &ControlPlane<'_>, name: &str) -> Result<()> {
    let pod = cp.get(&["pod", name, "-n", NAMESPACE])?;
    let pid = process_of(&pod)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    for line in confined(name) {
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

/// Waits for sessions, the Service's address, routes, and an answer to a client; returns the
/// address.
fn await_answer(cp: &ControlPlane<'_>, topology: &Topology, router: &Frr<'_>) -> Result<IpAddr> {
    let nodes = topology.nodes.iter();
    let peers: BTreeSet<IpAddr> = nodes.map(|node| node.ipv4.into()).collect();
    await_sessions(router, &peers, TIMEOUT)?;
    let address = eventually("an address", TIMEOUT, || {
        let addresses = cp.service_addresses("default", "web")?;
        addresses.first().copied().context("none")
    })?;
    let prefix = format!("{address}/32");
    let routes: Result<BTreeSet<RouteEntry>> = peers
        .iter()
        .map(|peer| RouteEntry::new(&prefix, &peer.to_string()))
        .collect();
    await_table(router, &routes?, TIMEOUT)?;
    await_kernel(&topology.tor, &prefix, &peers, TIMEOUT)?;
    // The server answers with its name and the client's address.
    let ask = format!("exec 3<>/dev/tcp/{address}/80 && head -n1 <&3");
    eventually("an answer", TIMEOUT, || {
        let answer = topology
            .client()?
            .run("timeout", &["2", "bash", "-c", &ask])?;
        ensure!(answer.starts_with("node"), "{answer}");
        Ok(())
    })?;
    Ok(address)
}

/// Checks that every log line is a JSON object with time, level and message, that there is no
/// error, and that an announcer logs its session.
fn check_log(cp: &ControlPlane<'_>, name: &str) -> Result<()> {
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
    let logged = |words: &str| messages.iter().any(|message| message.contains(words));
    ensure!(logged("started"), "{log}");
    ensure!(
        !name.contains("announcer") || (logged("session up") && logged("announcing")),
        "{log}"
    );
    Ok(())
}

/// Checks that no container was restarted, by a probe or after a crash.
fn check_no_restarts(cp: &ControlPlane<'_>) -> Result<()> {
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
