//! Real nodes: containerd and kubelet in a node's namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{ControlPlane, Image, Member, cached, container_cleanup};
use crate::eventually::eventually;
use crate::process::{Process, run};
use crate::topology::Node;

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A Node that kubelet registered and keeps alive. Dropping it ends its containers and removes
/// their mounts and network namespaces; the namespace given to [`RealNode::start`] stays its
/// owner's.
#[derive(Debug)]
pub struct RealNode {
    name: String,
    folder: PathBuf,
    _kube_proxy: Process,
    kubelet: Process,
    containerd: Process,
}

impl RealNode {
    /// Joins a rack's node to the control plane, starts containerd, kubelet and kube-proxy in it,
    /// and waits until the Node is Ready. Its InternalIPs are its uplink's addresses.
    ///
    /// # Errors
    /// When one of them is missing, ends early, or the Node does not become Ready.
    pub fn start(cp: &ControlPlane<'_>, node: &Node) -> Result<Self> {
        container_cleanup::sweep()?;
        let (name, namespace) = (&node.name, &node.namespace);
        let member = cp.join(namespace)?;
        cp.route_to(node.ipv4.into(), member)?;
        cp.route_to(node.ipv6.into(), member)?;
        // Kubelet's mounts must reach the containers' mount namespaces.
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
        // It gives up where containerd does not answer yet.
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

    /// Name of its Node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes an image available to its Pods.
    ///
    /// # Errors
    /// When containerd refuses the archive, which [`Image::write`] gave.
    pub fn import(&self, archive: &Path) -> Result<()> {
        import(&self.folder, archive).map(drop)
    }

    fn end(&mut self) -> Result<()> {
        // It would start again what ends below. It may have ended already.
        let _ = self.kubelet.kill();
        let namespaces = container_cleanup::network_namespaces(&self.folder)?;
        // Through containerd, so that it and runc take away cgroups too. It may be gone, and then
        // the rest is killed.
        if let Err(error) = end_containers(&self.folder) {
            eprintln!("cannot end the containers of {}: {error:#}", self.name);
        }
        let _ = self.containerd.kill();
        container_cleanup::clean(&self.folder, &namespaces)
    }

    /// Kubelet, to be suspended or killed: a node that stops reporting.
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

/// `ctr` in the namespace kubelet's containers live in (containerd's sense of the word).
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
    // A path in quotes is the same in TOML and in Rust's Debug as long as it is plain ASCII, as our
    // scratch folders are.
    format!(
        r#"version = 2
root = {root:?}
state = {state:?}

[grpc]
address = {socket:?}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "ferrolb.example/pause:lab"
# The machine may not let us lower oom_score_adj, and runc fails where that is asked for.
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
        // The machine belongs to others too: nothing is reserved, enforced or evicted.
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
