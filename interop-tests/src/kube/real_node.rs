//! Real nodes: containerd, kubelet and kube-proxy in a node's namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{ControlPlane, Image, Member, cached, container_cleanup};
use crate::eventually::eventually;
use crate::process::{Process, run};
use crate::scenario::sweep_lock;
use crate::topology::{Node, Topology};

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A Node with a running kubelet. Dropping it kills its containers and removes their mounts and
/// network namespaces; the namespace of the node stays.
#[derive(Debug)]
pub struct RealNode {
    name: String,
    folder: PathBuf,
    _kube_proxy: Process,
    kubelet: Process,
    containerd: Process,
}

impl RealNode {
    /// Joins a node of a rack to the control plane, starts containerd, kubelet and kube-proxy, and
    /// waits until the Node is Ready. Its InternalIPs are the addresses of its uplink.
    ///
    /// # Errors
    /// When a program is missing or ends early, or the Node does not become Ready.
    pub fn start(cp: &ControlPlane<'_>, node: &Node) -> Result<Self> {
        {
            let _one_at_a_time = sweep_lock()?;
            container_cleanup::sweep()?;
        }
        let (name, namespace) = (&node.name, &node.namespace);
        let member = cp.join(namespace)?;
        cp.route_to(node.ipv4.into(), member)?;
        cp.route_to(node.ipv6.into(), member)?;
        // Mounts made by kubelet must propagate to the mount namespaces of containers.
        run(Command::new("mount").args(["--make-rshared", "/"]))?;
        let folder = cp.scratch().file(&format!("node-{name}"));
        fs::create_dir_all(folder.join("cni"))?;

        fs::write(
            folder.join("containerd.toml"),
            containerd_configuration(&folder),
        )?;
        let network = network_configuration(&folder, member);
        fs::write(folder.join("cni/10-lab.conflist"), network)?;
        let mut command = namespace.command("containerd");
        command.arg("--config").arg(folder.join("containerd.toml"));
        let containerd = Process::start(cp.scratch(), &format!("containerd-{name}"), &command)?;

        fs::write(folder.join("kubelet.json"), kubelet_configuration(&folder))?;
        let mut command = namespace.command(cached("kubelet")?);
        command
            .arg(flag("config", &folder.join("kubelet.json")))
            .arg(flag("root-dir", &folder.join("kubelet")))
            .arg(flag("cert-dir", &folder.join("kubelet-certs")))
            .arg(flag("kubeconfig", &cp.admin_kubeconfig()))
            .arg(format!("--hostname-override={name}"))
            .arg(format!("--node-ip={},{}", node.ipv4, node.ipv6));
        // Kubelet exits if containerd does not answer yet.
        let pause = Image::pause(cp.scratch())?.write(cp.scratch())?;
        eventually("containerd ready", START_TIMEOUT, || {
            import(&folder, &pause)
        })?;
        let kubelet = Process::start(cp.scratch(), &format!("kubelet-{name}"), &command)?;

        let mut started = Self {
            name: name.clone(),
            _kube_proxy: cp.start_kube_proxy(namespace, name)?,
            kubelet,
            containerd,
            folder,
        };
        eventually(format!("node {name} Ready"), START_TIMEOUT, || {
            started.kubelet.ensure_running()?;
            started.containerd.ensure_running()?;
            let wait = format!("node/{name}");
            cp.kubectl(&["wait", &wait, "--for=condition=Ready", "--timeout=10s"])
        })?;
        Ok(started)
    }

    /// Starts all nodes of a rack, and imports these images.
    ///
    /// # Errors
    /// As [`RealNode::start`], or when containerd rejects an image.
    pub fn start_all(
        cp: &ControlPlane<'_>,
        rack: &Topology,
        images: &[Image],
    ) -> Result<Vec<Self>> {
        let archives = images.iter().map(|image| image.write(cp.scratch()));
        let archives: Vec<PathBuf> = archives.collect::<Result<_>>()?;
        let start = |node| {
            let node = Self::start(cp, node)?;
            archives
                .iter()
                .try_for_each(|archive| node.import(archive))?;
            Ok(node)
        };
        rack.nodes.iter().map(start).collect()
    }

    /// Name of the Node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Imports an image archive ([`Image::write`]).
    ///
    /// # Errors
    /// When containerd rejects the archive.
    pub fn import(&self, archive: &Path) -> Result<()> {
        import(&self.folder, archive).map(drop)
    }

    fn end(&mut self) -> Result<()> {
        // First, since it would restart the containers. Fails if kubelet has ended.
        let _ = self.kubelet.kill();
        let namespaces = container_cleanup::network_namespaces(&self.folder)?;
        // Through containerd, which also removes cgroups. If containerd has ended, `clean` kills
        // the containers.
        if let Err(error) = end_containers(&self.folder) {
            eprintln!("cannot delete the containers of {}: {error:#}", self.name);
        }
        let _ = self.containerd.kill();
        container_cleanup::clean(&self.folder, &namespaces)
    }

    /// The kubelet process. Suspend or kill it to stop the node's heartbeats.
    pub fn kubelet(&mut self) -> &mut Process {
        &mut self.kubelet
    }
}

impl Drop for RealNode {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("cannot clean up after {}: {error:#}", self.name);
        }
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("containerd.sock")
}

/// `ctr` in containerd's namespace of kubelet's containers.
fn ctr(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["60", "ctr", "-a"])
        .arg(socket(folder))
        .args(["-n", "k8s.io"])
        .args(arguments);
    command
}

fn import(folder: &Path, archive: &Path) -> Result<String> {
    run(ctr(folder, &["images", "import"]).arg(archive))
}

fn end_containers(folder: &Path) -> Result<()> {
    let tasks = run(&mut ctr(folder, &["tasks", "list", "-q"]))?;
    let tasks: Vec<&str> = tasks.lines().collect();
    if tasks.is_empty() {
        return Ok(());
    }
    run(ctr(folder, &["tasks", "delete", "--force"]).args(tasks))
        .map(drop)
        .context("ctr")
}

fn containerd_configuration(folder: &Path) -> String {
    // A quoted ASCII path, as the paths of scratch folders, is the same in TOML and in Rust's
    // Debug.
    format!(
        r#"version = 2
root = {root:?}
state = {state:?}

[grpc]
address = {socket:?}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "ferrolb.example/pause:lab"
# Lowering oom_score_adj may not be permitted on this machine, and then runc fails.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = {cni:?}
"#,
        root = folder.join("root"),
        state = folder.join("state"),
        socket = socket(folder),
        cni = folder.join("cni"),
    )
}

fn network_configuration(folder: &Path, member: Member) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "lab",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "dataDir": folder.join("cni-addresses"),
                "ranges": [[{"subnet": member.pod_network()}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
    .to_string()
}

fn kubelet_configuration(folder: &Path) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", socket(folder).display()),
        "podLogsDir": folder.join("pod-logs"),
        "volumePluginDir": folder.join("volume-plugins"),
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        // Other programs use the machine too: reserve, enforce and evict nothing.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "memory.available": "0%", "nodefs.available": "0%",
            "nodefs.inodesFree": "0%", "imagefs.available": "0%",
        },
        "failSwapOn": false,
        "failCgroupV1": false,
        "localStorageCapacityIsolation": false,
        "oomScoreAdj": 0,
        "resolvConf": "",
    })
    .to_string()
}
