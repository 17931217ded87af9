//! etcd, kube-apiserver, kube-controller-manager and, for real nodes, kube-scheduler.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::cached;
use crate::eventually::eventually;
use crate::netns::{Link, Namespace};
use crate::process::{Process, Scratch, run};

/// Where the API server is reached from every namespace that [`ControlPlane::join`]ed.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const API_SERVER: &str = "https://10.77.0.254:6443";
const ADDRESS6: &str = "fd77::fe";
const BRIDGE: &str = "mgmt";
const ETCD: &str = "http://127.0.0.1:23790";
const ETCD_PEERS: &str = "http://127.0.0.1:23800";
/// Token of the test itself, which may do everything. What is under test gets a token of its own.
const ADMIN_TOKEN: &str = "lab-admin";
/// ClusterIPs of both families.
const SERVICE_RANGE: &str = "10.96.0.0/16,fd00:96::/112";
/// A loaded machine takes far longer than the 3 s this usually needs.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// What the cluster's nodes are, which decides what the control plane runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// Node and Pod objects whose status the test writes. No scheduler; of the controllers only
    /// those that make EndpointSlices and clean up. None of them doubts a node without heartbeats.
    Objects,
    /// Kubelets: all controllers, the scheduler, and ServiceAccounts mounted into Pods.
    Real,
}

/// A running control plane in a namespace of its own. Dropping it ends and removes it.
#[derive(Debug)]
pub struct ControlPlane<'s> {
    scratch: &'s Scratch,
    nodes: Nodes,
    folder: PathBuf,
    kubectl: PathBuf,
    joined: AtomicU8,
    manifests: AtomicU32,
    // Dropped in this order: those who ask before those who answer.
    controllers: Vec<Process>,
    api_server: Option<Process>,
    _etcd: Process,
    namespace: Namespace,
}

/// A node's place in the management and Pod networks. Its Pods' addresses must be the ones given
/// here for nodes to reach each other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    number: u8,
}

impl Member {
    /// On the management network. Not what a Node's InternalIP should be in a test with routers.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// The node's Pod number `pod`, from 2 (real nodes have their bridge at 1).
    #[must_use]
    pub fn pod_address(self, pod: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, pod)
    }

    /// The same Pod's IPv6 address.
    #[must_use]
    pub fn pod_address6(self, pod: u8) -> Ipv6Addr {
        let (number, pod) = (self.number.into(), pod.into());
        Ipv6Addr::new(0xfd00, 0x244, 0, number, 0, 0, 0, pod)
    }

    /// The network of all its IPv4 Pods.
    pub(super) fn pod_network(self) -> String {
        format!("10.244.{}.0/24", self.number)
    }
}

/// One write that reached the API server, from its audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Who: `system:serviceaccount:NAMESPACE:NAME`, `system:anonymous`, …
    pub user: String,
    /// `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// Plural, with the subresource: `services/status`.
    pub resource: String,
    /// Empty for what has no namespace.
    pub namespace: String,
    /// Empty where the server makes up the name.
    pub name: String,
    /// The HTTP status: a refused write is here too.
    pub status: u16,
    /// Address it came from.
    pub from: IpAddr,
    /// When the API server received it: RFC 3339 in UTC with six decimals, so that strings sort by time.
    pub at: String,
}

impl<'s> ControlPlane<'s> {
    /// Starts everything and waits until the API server is ready.
    ///
    /// # Errors
    /// When a program is missing from the cache, ends early or does not become ready.
    pub fn start(scratch: &'s Scratch, nodes: Nodes) -> Result<Self> {
        let folder = scratch.file("control-plane");
        fs::create_dir_all(&folder)?;
        let namespace = Namespace::new("cp")?;
        namespace.bridge(BRIDGE)?;
        namespace.address(BRIDGE, &format!("{ADDRESS}/24"))?;
        namespace.address(BRIDGE, &format!("{ADDRESS6}/64"))?;
        write_inputs(&folder)?;
        let mut etcd = namespace.command("etcd");
        etcd.arg("--data-dir").arg(folder.join("etcd"));
        etcd.args(["--listen-client-urls", ETCD]);
        etcd.args(["--advertise-client-urls", ETCD]);
        etcd.args(["--listen-peer-urls", ETCD_PEERS]);
        etcd.args(["--initial-advertise-peer-urls", ETCD_PEERS]);
        etcd.args(["--initial-cluster", &format!("default={ETCD_PEERS}")]);
        let etcd = Process::start(scratch, "etcd", &etcd)?;

        let mut control_plane = Self {
            scratch,
            nodes,
            kubectl: cached("kubectl")?,
            joined: AtomicU8::new(0),
            manifests: AtomicU32::new(0),
            controllers: Vec::new(),
            api_server: None,
            _etcd: etcd,
            namespace,
            folder,
        };
        control_plane.start_api_server()?;
        control_plane.start_controllers()?;
        Ok(control_plane)
    }

    /// Starts the API server, again after [`ControlPlane::stop_api_server`], and waits until it is
    /// ready.
    ///
    /// # Errors
    /// When it ends early or does not become ready.
    pub fn start_api_server(&mut self) -> Result<()> {
        let command = self.api_server_command()?;
        let mut daemon = Process::start(self.scratch, "kube-apiserver", &command)?;
        eventually("API server ready", START_TIMEOUT, || {
            daemon.ensure_running()?;
            self.kubectl(&["get", "--raw", "/readyz"])
        })?;
        self.api_server = Some(daemon);
        Ok(())
    }

    fn api_server_command(&self) -> Result<Command> {
        let file =
            |flag: &str, name: &str| format!("--{flag}={}", self.folder.join(name).display());
        let mut command = self.namespace.command(cached("kube-apiserver")?);
        command
            .arg(format!("--etcd-servers={ETCD}"))
            .arg(format!("--bind-address={ADDRESS}"))
            .arg("--secure-port=6443")
            .arg(file("cert-dir", "certs"))
            .arg(file("service-account-key-file", "sa.key"))
            .arg(file("service-account-signing-key-file", "sa.key"))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(file("token-auth-file", "tokens.csv"))
            .arg("--authorization-mode=RBAC")
            .arg(format!("--service-cluster-ip-range={SERVICE_RANGE}"))
            .arg(file("audit-policy-file", "audit-policy.json"))
            .arg(file("audit-log-path", "audit.json"))
            .arg("--allow-privileged=true");
        match self.nodes {
            // It would refuse Pods whose ServiceAccount nobody made.
            Nodes::Objects => command.arg("--disable-admission-plugins=ServiceAccount"),
            Nodes::Real => command.arg("--kubelet-preferred-address-types=InternalIP"),
        };
        Ok(command)
    }

    fn start_controllers(&mut self) -> Result<()> {
        let kubeconfig = format!("--kubeconfig={}", self.admin_kubeconfig().display());
        let mut manager = self.namespace.command(cached("kube-controller-manager")?);
        manager
            .arg(&kubeconfig)
            .arg("--leader-elect=false")
            .arg(format!(
                "--service-account-private-key-file={}",
                self.folder.join("sa.key").display()
            ))
            .arg(format!("--root-ca-file={}", self.ca().display()))
            .arg(match self.nodes {
                Nodes::Objects => {
                    "--controllers=endpointslice-controller,garbage-collector-controller,\
                     namespace-controller"
                }
                Nodes::Real => "--controllers=*,-node-ipam-controller",
            });
        let manager = Process::start(self.scratch, "kube-controller-manager", &manager)?;
        self.controllers.push(manager);
        if self.nodes == Nodes::Real {
            let mut scheduler = self.namespace.command(cached("kube-scheduler")?);
            scheduler.arg(&kubeconfig).arg("--leader-elect=false");
            let scheduler = Process::start(self.scratch, "kube-scheduler", &scheduler)?;
            self.controllers.push(scheduler);
        }
        Ok(())
    }

    /// Kills the API server: connections break at once and new ones are refused, as when its
    /// machine reboots. etcd stays, so nothing is lost.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn stop_api_server(&mut self) -> Result<()> {
        self.api_server
            .take()
            .context("the API server is stopped already")?
            .kill()
    }

    /// Starts the controllers anew. After the API server was away they ask again at longer and longer intervals, up to
    /// half a minute.
    ///
    /// # Errors
    /// When they can't be started.
    pub fn restart_controllers(&mut self) -> Result<()> {
        self.controllers.clear();
        self.start_controllers()
    }

    /// Connects a node's namespace to the management network by an interface `mgmt0`: from there it
    /// reaches the API server, and the Pods of all other nodes that joined.
    ///
    /// # Errors
    /// When the kernel refuses, for example because the namespace is connected already.
    pub fn join(&self, node: &Namespace) -> Result<Member> {
        let member = Member {
            number: self.joined.fetch_add(1, Ordering::Relaxed) + 1,
        };
        let (number, address) = (member.number, member.address());
        let port = format!("port{number}");
        Link::new((node, "mgmt0"), (&self.namespace, &port))?;
        self.namespace.attach(&port, BRIDGE)?;
        node.address("mgmt0", &format!("{address}/24"))?;
        node.address("mgmt0", &format!("fd77::{number:x}/64"))?;
        // The control plane's namespace is the hub of the Pod network.
        node.route("10.244.0.0/16", &ADDRESS.to_string())?;
        node.route("fd00:244::/48", ADDRESS6)?;
        self.namespace
            .route(&format!("10.244.{number}.0/24"), &address.to_string())?;
        let pods = format!("fd00:244:0:{number:x}::/64");
        self.namespace.route(&pods, &format!("fd77::{number:x}"))?;
        // So that ClusterIPs are routable before kube-proxy rewrites them, with or without an
        // uplink.
        node.route("10.96.0.0/16", &ADDRESS.to_string())?;
        node.route("fd00:96::/112", ADDRESS6)?;
        Ok(member)
    }

    /// Makes another address of a node reachable for the API server, which fetches logs from its
    /// InternalIP.
    pub(super) fn route_to(&self, address: IpAddr, member: Member) -> Result<()> {
        match address {
            IpAddr::V4(_) => {
                let via = member.address().to_string();
                self.namespace.route(&format!("{address}/32"), &via)
            }
            IpAddr::V6(_) => {
                let via = format!("fd77::{:x}", member.number);
                self.namespace.route(&format!("{address}/128"), &via)
            }
        }
    }

    /// Runs kubectl as administrator and gives what it printed.
    ///
    /// # Errors
    /// When it fails, with its message.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_as(&self.admin_kubeconfig(), arguments)
    }

    /// Runs kubectl as whomever a kubeconfig is for.
    ///
    /// # Errors
    /// When it fails, with its message.
    pub fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<String> {
        // It remembers a server's kinds by address in $HOME; every test's server has the same.
        let cache = format!(
            "--cache-dir={}",
            self.folder.join("kubectl-cache").display()
        );
        run(self
            .namespace
            .command("timeout")
            .arg("120")
            .arg(&self.kubectl)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg(cache)
            .args(arguments))
    }

    /// `kubectl get ARGUMENTS -o json`.
    ///
    /// # Errors
    /// When it fails, for example because there is no such object.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?;
        serde_json::from_str(&text).context("kubectl's JSON")
    }

    /// `kubectl apply` of manifests as text (YAML, several documents, or JSON). The text stays in
    /// the scratch folder.
    ///
    /// # Errors
    /// When an object is refused.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let count = self.manifests.fetch_add(1, Ordering::Relaxed);
        let file = self.folder.join(format!("apply-{count}.yaml"));
        fs::write(&file, manifests)?;
        self.apply_path(&file)
    }

    /// `kubectl apply -f PATH`, a file or a folder, as it stands.
    ///
    /// # Errors
    /// When an object is refused.
    pub fn apply_path(&self, path: &Path) -> Result<()> {
        let path = path.to_str().context("path is not UTF-8")?;
        self.kubectl(&["apply", "-f", path]).map(drop)
    }

    /// The administrator's kubeconfig, for the lab's own programs. What is under test gets
    /// [`ControlPlane::service_account_kubeconfig`].
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// Writes a kubeconfig for an existing ServiceAccount, with a token for a day and the API
    /// server's real CA.
    ///
    /// # Errors
    /// When there is no such ServiceAccount.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", name, "-n", namespace, "--duration=24h"])?;
        let path = self.folder.join(format!("{namespace}-{name}.kubeconfig"));
        fs::write(&path, kubeconfig(&self.ca(), token.trim()))?;
        Ok(path)
    }

    /// Every write so far by anybody but the lab itself, oldest first: the honest count of what a
    /// program asks of the API server.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn writes(&self) -> Result<Vec<Write>> {
        let path = self.folder.join("audit.json");
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        // The last line may be half-written, or cut short by a kill.
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        Ok(events.map(write_of).collect())
    }

    pub(super) fn scratch(&self) -> &'s Scratch {
        self.scratch
    }

    /// The self-signed CA is in the same file as the serving certificate.
    fn ca(&self) -> PathBuf {
        self.folder.join("certs/apiserver.crt")
    }
}

/// What the API server reads at its start.
fn write_inputs(folder: &Path) -> Result<()> {
    let key = folder.join("sa.key");
    run(Command::new("openssl")
        .args(["genrsa", "-out"])
        .arg(&key)
        .arg("2048"))?;
    let tokens = format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n");
    fs::write(folder.join("tokens.csv"), tokens)?;
    let policy = serde_json::json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "verbs": ["get", "list", "watch"]},
            // The lab's own kubectl and controllers.
            {"level": "None", "userGroups": ["system:masters"]},
            {"level": "Metadata"},
        ],
    });
    fs::write(folder.join("audit-policy.json"), policy.to_string())?;
    let ca = folder.join("certs/apiserver.crt");
    fs::write(
        folder.join("admin.kubeconfig"),
        kubeconfig(&ca, ADMIN_TOKEN),
    )?;
    Ok(())
}

/// JSON is YAML, and clients take it.
fn kubeconfig(ca: &Path, token: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {
            "server": API_SERVER, "certificate-authority": ca,
        }}],
        "users": [{"name": "lab", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    })
    .to_string()
}

/// The part of an audit event that [`Write`] keeps.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditEvent {
    verb: String,
    user: AuditUser,
    #[serde(rename = "sourceIPs")]
    source_ips: Vec<IpAddr>,
    request_received_timestamp: String,
    #[serde(default)]
    object_ref: AuditObject,
    #[serde(default)]
    response_status: AuditStatus,
}

#[derive(Deserialize)]
struct AuditUser {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuditObject {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuditStatus {
    code: u16,
}

fn write_of(event: AuditEvent) -> Write {
    let object = event.object_ref;
    let resource = match object.subresource.as_str() {
        "" => object.resource,
        subresource => format!("{}/{subresource}", object.resource),
    };
    Write {
        user: event.user.username,
        verb: event.verb,
        resource,
        namespace: object.namespace,
        name: object.name,
        status: event.response_status.code,
        from: event
            .source_ips
            .first()
            .copied()
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        at: event.request_received_timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_event_becomes_a_write() {
        let line = r#"{"kind":"Event","verb":"patch","user":{"username":"u","groups":["g"]},
            "objectRef":{"resource":"services","namespace":"n","name":"web","subresource":"status"},
            "sourceIPs":["10.77.0.1"],"requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z",
            "responseStatus":{"code":200}}"#;
        let write = write_of(serde_json::from_str(line).unwrap());
        assert_eq!(write.resource, "services/status");
        assert_eq!(
            (write.user.as_str(), write.verb.as_str(), write.status),
            ("u", "patch", 200)
        );
        assert_eq!(write.from, IpAddr::from([10, 77, 0, 1]));
    }
}
