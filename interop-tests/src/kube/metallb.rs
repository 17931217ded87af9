//! MetalLB's manifests as test data, downloaded by `interop-tests/kube/build.sh`, and its programs,
//! built by `interop-tests/metallb/build.sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{ControlPlane, Image, Pod, cached};
use crate::eventually::eventually;
use crate::manifest::{self, NAMESPACE};
use crate::netns::Namespace;
use crate::topology::Node;

/// The validating webhooks of MetalLB's manifests.
pub const METALLB_WEBHOOKS: &str = "validatingwebhookconfiguration/metallb-webhook-configuration";

/// The key of the speakers' memberlist.
const MEMBERLIST_KEY: &str = "0123456789abcdef0123456789abcdef";

/// A release of MetalLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metallb {
    /// The last release that builds from the Go module proxy alone.
    V0_14_9,
    /// The newest release with downloadable manifests.
    V0_16_2,
}

impl Metallb {
    /// All objects of the plain manifest, in its order: namespace, CRDs, RBAC, workloads, webhooks.
    ///
    /// # Errors
    /// When build.sh hasn't downloaded the manifest.
    pub fn objects(self) -> Result<Vec<Value>> {
        let path = cached(match self {
            Self::V0_14_9 => "metallb-v0.14.9.yaml",
            Self::V0_16_2 => "metallb-v0.16.2.yaml",
        })?;
        let text = fs::read_to_string(&path)?;
        serde_saphyr::from_multiple(&text).with_context(|| format!("read {}", path.display()))
    }

    /// The CustomResourceDefinitions, without the conversion webhook of BGPPeer, which the lab does
    /// not run: objects are stored and served in the version in which they were written.
    ///
    /// # Errors
    /// When build.sh hasn't downloaded the manifest.
    pub fn crds(self) -> Result<Vec<Value>> {
        let mut crds = self.objects()?;
        crds.retain(|object| object["kind"] == "CustomResourceDefinition");
        for crd in &mut crds {
            if let Some(spec) = crd["spec"].as_object_mut() {
                spec.remove("conversion");
            }
        }
        Ok(crds)
    }
}

impl ControlPlane<'_> {
    /// Applies MetalLB's CRDs and the namespace `metallb-system`, and waits until the kinds are
    /// served.
    ///
    /// # Errors
    /// When build.sh hasn't downloaded the manifest, or the API server rejects an object.
    pub fn install_metallb_crds(&self, release: Metallb) -> Result<()> {
        let mut items = release.crds()?;
        items.push(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "metallb-system"},
        }));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.apply(&list.to_string())?;
        self.kubectl(&["wait", "crd", "--all", "--for=condition=Established"])?;
        // The condition Established precedes serving by a moment.
        eventually("BGPPeer served", Duration::from_secs(20), || {
            self.get(&["bgppeers.v1beta2.metallb.io", "-n", "metallb-system"])
        })?;
        Ok(())
    }

    /// Runs MetalLB on real nodes: applies its manifest, waits for its workloads, and applies the
    /// configuration. The control plane has no kube-proxy, so that it does not reach the webhooks:
    /// they come after the objects.
    ///
    /// # Errors
    /// When the API server rejects an object, or a workload does not become ready.
    pub fn run_metallb(
        &self,
        manifest: &[Value],
        daemonsets: &[&str],
        configuration: &str,
    ) -> Result<()> {
        let apply = |objects: &[Value]| {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            self.apply(&list.to_string())
        };
        apply(manifest)?;
        for workload in ["deployment/controller"].iter().chain(daemonsets) {
            let wait = ["rollout", "status", workload, "-n", NAMESPACE];
            self.kubectl(&[&wait[..], &["--timeout=90s"]].concat())?;
        }
        // The controller wrote its certificate into them.
        let mut webhooks = self.get(&[METALLB_WEBHOOKS])?;
        self.kubectl(&["delete", METALLB_WEBHOOKS])?;
        self.apply(configuration)?;
        if let Some(metadata) = webhooks["metadata"].as_object_mut() {
            metadata.retain(|key, _| key == "name");
        }
        apply(&[webhooks])
    }

    /// Applies what speakers of 0.14.9 need: their RBAC, the Secret `memberlist`, and the Pods by
    /// which they find each other.
    ///
    /// # Errors
    /// When build.sh hasn't downloaded the manifest, or the API server rejects an object.
    pub fn prepare_metallb_speakers(&self, nodes: &[Node]) -> Result<()> {
        let mut items = Metallb::V0_14_9.objects()?;
        items.retain(|object| {
            let kind = object["kind"].as_str().unwrap_or_default();
            kind.starts_with("Role") || kind.starts_with("ClusterRole") || kind == "ServiceAccount"
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.apply(&list.to_string())?;
        self.apply(&manifest::memberlist_secret(MEMBERLIST_KEY))?;
        for node in nodes {
            self.create_pod(&Pod {
                namespace: NAMESPACE.to_owned(),
                name: speaker_pod(node),
                node: node.name.clone(),
                app: "metallb".to_owned(),
                addresses: vec![node.ipv4.into()],
            })?;
        }
        Ok(())
    }

    /// Applies what the controller of 0.14.9 needs beside its RBAC
    /// ([`ControlPlane::prepare_metallb_speakers`]): its Deployment, of which the lab runs no Pod.
    ///
    /// # Errors
    /// When build.sh hasn't downloaded the manifest, or the API server rejects the object.
    pub fn prepare_metallb_controller(&self) -> Result<()> {
        let objects = Metallb::V0_14_9.objects()?;
        let mut deployments = objects.iter();
        let deployment = deployments.find(|object| object["kind"] == "Deployment");
        self.apply(&deployment.context("no Deployment")?.to_string())
    }

    /// The command of a controller of 0.14.9 on a host that has joined the control plane, outside
    /// of a container, with the ServiceAccount of its manifest and without webhooks.
    ///
    /// # Errors
    /// When `METALLB_FOLDER` is not set, or the ServiceAccount is missing.
    pub fn metallb_controller(&self, host: &Namespace) -> Result<Command> {
        let kubeconfig = self.service_account_kubeconfig(NAMESPACE, "controller")?;
        let mut command = host.command(program("controller")?);
        command
            .env("KUBECONFIG", kubeconfig)
            .env("METALLB_NAMESPACE", NAMESPACE)
            .env("METALLB_BGP_TYPE", "native")
            .env("METALLB_DEPLOYMENT", "controller")
            .env("METALLB_ML_SECRET_NAME", "memberlist")
            .args(["--port=9120", "--log-level=info", "--webhook-mode=disabled"]);
        Ok(command)
    }

    /// The command of a speaker of 0.14.9, outside of a container, with the ServiceAccount of its
    /// manifest.
    ///
    /// # Errors
    /// When `METALLB_FOLDER` is not set, or the ServiceAccount is missing.
    pub fn metallb_speaker(&self, node: &Node) -> Result<Command> {
        let key = self.scratch().file("memberlist");
        fs::create_dir_all(&key)?;
        fs::write(key.join("secretkey"), MEMBERLIST_KEY)?;
        let kubeconfig = self.service_account_kubeconfig(NAMESPACE, "speaker")?;
        let mut command = node.namespace.command(program("speaker")?);
        command
            .env("KUBECONFIG", kubeconfig)
            .env("METALLB_NAMESPACE", NAMESPACE)
            .env("METALLB_POD_NAME", speaker_pod(node))
            .env("METALLB_BGP_TYPE", "native")
            .env("METALLB_NODE_NAME", &node.name)
            .env("METALLB_HOST", node.ipv4.to_string())
            .env("METALLB_ML_BIND_ADDR", node.ipv4.to_string())
            .env("METALLB_ML_LABELS", "app=metallb")
            .env("METALLB_ML_SECRET_KEY_PATH", &key)
            .args(["--port=7473", "--log-level=info"]);
        Ok(command)
    }
}

/// The images that the manifest of 0.14.9 names.
///
/// # Errors
/// When `METALLB_FOLDER` is not set.
pub fn metallb_images() -> Result<Vec<Image>> {
    let image = |name: &str| {
        let target = format!("/{name}");
        let image = Image::new(&format!("quay.io/metallb/{name}:v0.14.9"));
        Ok(image.file(&target, program(name)?).entrypoint(&[&target]))
    };
    ["controller", "speaker"].into_iter().map(image).collect()
}

/// The image of frr-k8s that MetalLB's manifest for it names. In place of an FRR of its own it runs
/// that of the host.
///
/// # Errors
/// When `METALLB_FOLDER` is not set.
pub fn frr_k8s_image() -> Result<Image> {
    let start = Path::new(env!("CARGO_MANIFEST_DIR")).join("metallb/frr-k8s.sh");
    Ok(Image::new("quay.io/metallb/frr-k8s:v0.0.16")
        .file("/bin/busybox", "/bin/busybox")
        .file("/bin/sh", "/bin/busybox")
        .file("/frr-k8s", program("frr-k8s")?)
        .file("/frr-reloader.sh", program("frr-reloader.sh")?)
        .file("/start.sh", start))
}

/// All objects of MetalLB 0.14.9's manifest for frr-k8s, in its order. The DaemonSet of frr-k8s has
/// one container in place of six: that of [`frr_k8s_image`].
///
/// # Errors
/// When `METALLB_FOLDER` is not set, or the manifest has another shape.
pub fn metallb_with_frr_k8s() -> Result<Vec<Value>> {
    let path = program("metallb-frr-k8s.yaml")?;
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(&path)?)
        .with_context(|| format!("read {}", path.display()))?;
    let mut daemonsets = objects.iter_mut();
    let daemonset = daemonsets
        .find(|object| {
            object["metadata"]["name"] == "frr-k8s-daemon" && object["kind"] == "DaemonSet"
        })
        .context("no DaemonSet frr-k8s-daemon")?;
    let pod = &mut daemonset["spec"]["template"]["spec"];
    let mut containers = pod["containers"].as_array().into_iter().flatten();
    let container = containers.find(|container| container["name"] == "frr-k8s");
    let mut container = container.context("no container frr-k8s")?.clone();
    container["command"] = json!(["/bin/sh", "/start.sh"]);
    container["securityContext"] = json!({"privileged": true});
    container["volumeMounts"] = json!([{"name": "host", "mountPath": "/host"}]);
    pod["containers"] = json!([container]);
    pod["volumes"] = json!([{"name": "host", "hostPath": {"path": "/"}}]);
    if let Some(pod) = pod.as_object_mut() {
        pod.remove("initContainers");
    }
    Ok(objects)
}

/// The path of a file that belongs to 0.14.9.
fn program(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("METALLB_FOLDER").context(
        "METALLB_FOLDER is not set: `cargo xtask test kubernetes` builds MetalLB's programs; set \
         it to ~/.cache/ferrolb/metallb/v0.14.9",
    )?;
    let path = Path::new(&folder).join(name);
    ensure!(path.is_file(), "METALLB_FOLDER: no file {}", path.display());
    Ok(path)
}

fn speaker_pod(node: &Node) -> String {
    format!("speaker-{}", node.name)
}
