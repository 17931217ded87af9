//! Tests of the lab's real nodes without ferrolb: images, probes, logs, ServiceAccounts, a rollout,
//! and clean-up.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Image, Nodes, RealNode};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A DaemonSet in the host network, like the announcer, and a Deployment in the Pod network, like
/// the allocator. Each first connects to the API server's ClusterIP; busybox has no usable TLS, so
/// it sends no request.
const WORKLOADS: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: on-every-node, namespace: default}
spec:
  selector: {matchLabels: {app: on-every-node}}
  template:
    metadata: {labels: {app: on-every-node}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: ferrolb.example/busybox:lab
        imagePullPolicy: Never
        command: [/bin/sh, -c]
        args:
        - |
          # A Pod can start before kube-proxy knows the endpoints.
          until busybox nc -w 5 "$KUBERNETES_SERVICE_HOST" 443 < /dev/null 2> /dev/null
          do busybox sleep 1; done
          echo "connected as $(busybox id -u)"
          busybox wc -c < /var/run/secrets/kubernetes.io/serviceaccount/token
          exec busybox httpd -f -p 8081
        readinessProbe: {tcpSocket: {port: 8081}, periodSeconds: 1}
        securityContext:
          runAsNonRoot: true
          runAsUser: 65532
          readOnlyRootFilesystem: true
          allowPrivilegeEscalation: false
          capabilities: {drop: [ALL]}
        volumeMounts: [{name: state, mountPath: /state}]
      volumes: [{name: state, emptyDir: {}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: own-network, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: own-network}}
  template:
    metadata: {labels: {app: own-network}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: ferrolb.example/busybox:lab
        imagePullPolicy: Never
        command: [/bin/sh, -c]
        args:
        - |
          until busybox nc -w 5 "$KUBERNETES_SERVICE_HOST" 443 < /dev/null 2> /dev/null
          do busybox sleep 1; done
          exec busybox httpd -f -p 8080
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
"#;

#[test]
fn workloads_run_on_two_nodes_and_are_cleaned_up() {
    scenario("real-nodes", |scratch| {
        let before = pod_namespaces()?;
        let topology = Topology::new(2)?;
        {
            let cp = ControlPlane::start(scratch, Nodes::Real)?;
            let nodes = start_nodes(scratch, &cp, &topology)?;
            workloads_become_ready(&cp)?;
            logs_can_be_read(&cp)?;
            a_rollout_replaces_every_pod(&cp)?;
            drop(nodes);
        }
        let mut after = pod_namespaces()?;
        after.retain(|name| !before.contains(name));
        ensure!(
            after.is_empty(),
            "network namespaces of Pods were not removed: {after:?}"
        );
        let folder = scratch.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(
            !mounts.contains(&folder),
            "mounts were not removed: {mounts}"
        );
        for node in &topology.nodes {
            let pids = node.namespace.pids()?;
            ensure!(
                pids.is_empty(),
                "processes still run in {}: {pids:?}",
                node.name
            );
        }
        Ok(())
    });
}

fn start_nodes(
    scratch: &Scratch,
    cp: &ControlPlane<'_>,
    topology: &Topology,
) -> Result<Vec<RealNode>> {
    let busybox = Image::busybox().write(scratch)?;
    let mut started = Vec::new();
    for node in &topology.nodes {
        let real = RealNode::start(cp, node)?;
        real.import(&busybox)?;
        let object = cp.get(&["node", real.name()])?;
        let address = &object["status"]["addresses"][0]["address"];
        ensure!(*address == node.ipv4.to_string(), "{object}");
        started.push(real);
    }
    Ok(started)
}

fn await_rollout(cp: &ControlPlane<'_>, workload: &str) -> Result<()> {
    cp.kubectl(&["rollout", "status", workload, "--timeout=60s"])
        .map(drop)
}

fn workloads_become_ready(cp: &ControlPlane<'_>) -> Result<()> {
    cp.apply(WORKLOADS)?;
    await_rollout(cp, "daemonset/on-every-node")?;
    await_rollout(cp, "deployment/own-network")?;
    let ready = cp.get(&["daemonset", "on-every-node"])?["status"]["numberReady"].clone();
    ensure!(ready == 2, "{ready}");
    Ok(())
}

fn logs_can_be_read(cp: &ControlPlane<'_>) -> Result<()> {
    for pod in pods(cp)? {
        eventually(format!("log of {pod}"), TIMEOUT, || {
            let log = cp.kubectl(&["logs", &pod])?;
            let mut lines = log.lines();
            ensure!(lines.next() == Some("connected as 65532"), "{log:?}");
            let token: usize = lines.next().unwrap_or_default().trim().parse()?;
            ensure!(token > 100, "no ServiceAccount token: {log:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn a_rollout_replaces_every_pod(cp: &ControlPlane<'_>) -> Result<()> {
    let before = pods(cp)?;
    cp.kubectl(&["rollout", "restart", "daemonset/on-every-node"])?;
    await_rollout(cp, "daemonset/on-every-node")?;
    let after = pods(cp)?;
    ensure!(
        after.len() == 2 && !after.iter().any(|pod| before.contains(pod)),
        "{before:?} {after:?}"
    );
    Ok(())
}

/// Network namespaces of containerd, also of other programs.
fn pod_namespaces() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/run/netns")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("cni-") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Names of the DaemonSet's Pods that are not being deleted.
fn pods(cp: &ControlPlane<'_>) -> Result<Vec<String>> {
    let list = cp.get(&["pods", "-l", "app=on-every-node"])?;
    let items = list["items"].as_array().into_iter().flatten();
    Ok(items
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned()))
        .collect())
}
