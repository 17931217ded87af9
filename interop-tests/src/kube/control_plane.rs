//! A Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager and, for real nodes,
//! kube-scheduler.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{OLDEST, cached};
use crate::eventually::eventually;
use crate::netns::{Link, Namespace};
use crate::process::{Process, run};
use crate::scenario::Scratch;

/// Address of the API server on the management network; see [`ControlPlane::join`].
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const API_SERVER: &str = "https://10.77.0.254:6443";
const ADDRESS6: &str = "fd77::fe";
const BRIDGE: &str = "mgmt";
const ETCD: &str = "http://127.0.0.1:23790";
const ETCD_PEERS: &str = "http://127.0.0.1:23800";
/// Token of the test, which has all rights. ferrolb gets tokens of its own ServiceAccounts.
const ADMIN_TOKEN: &str = "lab-admin";
/// A ServiceAccount of the namespace `default`, in place of a person: its reads are in the audit
/// log too.
const READER: &str = "reader";
/// Its name as a user.
const READER_USER: &str = "system:serviceaccount:default:reader";
/// The group of all ServiceAccounts of ferrolb's namespace.
const ACCOUNTS: &str = "system:serviceaccounts:metallb-system";
/// ClusterIPs of both families.
const SERVICE_RANGE: &str = "10.96.0.0/16,fd00:96::/112";
/// Starting takes about 3 s on an idle machine and far longer on a loaded one.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Kind of the cluster's nodes; decides which components the control plane runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// Node and Pod objects whose status the test writes. Without scheduler, and only with the
    /// controllers for EndpointSlices and clean-up, none of which needs heartbeats of nodes.
    Objects,
    /// Kubelets. With all controllers, the scheduler, and ServiceAccount tokens in Pods.
    Real,
}

/// A running control plane in its own namespace. Dropping it kills its processes.
#[derive(Debug)]
pub struct ControlPlane<'s> {
    scratch: &'s Scratch,
    nodes: Nodes,
    folder: PathBuf,
    kubectl: PathBuf,
    api_server_program: PathBuf,
    joined: AtomicU8,
    manifests: AtomicU32,
    // Dropped in this order: clients before servers.
    controllers: Vec<Process>,
    api_server: Option<Process>,
    _etcd: Process,
    namespace: Namespace,
}

/// A node's addresses in the management and Pod networks. Other nodes reach its Pods only at the
/// addresses from [`Member::pod_address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    number: u8,
}

impl Member {
    /// Address on the management network. In a test with routers it is not the Node's InternalIP.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// IPv4 address of the node's Pod number `pod`, from 2 (1 is the bridge of a real node).
    #[must_use]
    pub fn pod_address(self, pod: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, pod)
    }

    /// IPv6 address of that Pod.
    #[must_use]
    pub fn pod_address6(self, pod: u8) -> Ipv6Addr {
        let (number, pod) = (self.number.into(), pod.into());
        Ipv6Addr::new(0xfd00, 0x244, 0, number, 0, 0, 0, pod)
    }

    /// The node's IPv4 Pod network.
    pub(super) fn pod_network(self) -> String {
        format!("10.244.{}.0/24", self.number)
    }
}

/// A request in the API server's audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its user: `system:serviceaccount:NAMESPACE:NAME`, `system:anonymous`, …
    pub user: String,
    /// `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// API group of the resource; empty for the core.
    pub group: String,
    /// Plural resource with subresource: `services/status`.
    pub resource: String,
    /// Empty for cluster-scoped resources.
    pub namespace: String,
    /// Empty if the server generates the name.
    pub name: String,
    /// HTTP status; rejected writes are included.
    pub status: u16,
    /// Address of the client.
    pub from: IpAddr,
    /// Time of reception: RFC 3339 in UTC with six decimals, so that strings sort by time.
    pub at: String,
}

impl<'s> ControlPlane<'s> {
    /// Starts all components and waits until the API server is ready.
    ///
    /// # Errors
    /// When a program is missing from the cache, ends early or does not become ready.
    pub fn start(scratch: &'s Scratch, nodes: Nodes) -> Result<Self> {
        Self::start_program(scratch, nodes, cached("kube-apiserver")?)
    }

    /// Starts the API server of [`OLDEST`], with the controllers of the current version.
    ///
    /// # Errors
    /// As for [`ControlPlane::start`].
    pub fn start_oldest(scratch: &'s Scratch) -> Result<Self> {
        let program = cached(&format!("kube-apiserver-{OLDEST}"))?;
        Self::start_program(scratch, Nodes::Objects, program)
    }

    fn start_program(
        scratch: &'s Scratch,
        nodes: Nodes,
        api_server_program: PathBuf,
    ) -> Result<Self> {
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
            api_server_program,
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

    /// Starts the API server after [`ControlPlane::stop_api_server`] and waits until it is ready.
    ///
    /// # Errors
    /// When the API server ends early or does not become ready.
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
        let mut command = self.namespace.command(&self.api_server_program);
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
            // A long run must not be cut into several files.
            .arg("--audit-log-maxsize=4096")
            .arg("--allow-privileged=true");
        match self.nodes {
            // The plugin would reject Pods without an existing ServiceAccount.
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

    /// Kills the API server, as a reboot of its host does: connections break and new ones are
    /// refused. etcd keeps running.
    ///
    /// # Errors
    /// When the API server isn't running.
    pub fn stop_api_server(&mut self) -> Result<()> {
        self.api_server
            .take()
            .context("the API server isn't running")?
            .kill()
    }

    /// Restarts the controllers. After an outage of the API server their retries back off to half a
    /// minute.
    ///
    /// # Errors
    /// When they can't be started.
    pub fn restart_controllers(&mut self) -> Result<()> {
        self.controllers.clear();
        self.start_controllers()
    }

    /// Connects a namespace to the management network with an interface `mgmt0`. From then on it
    /// reaches the API server and the Pods of all other joined nodes.
    ///
    /// # Errors
    /// When the kernel rejects an interface or route, for example because the namespace has joined
    /// before.
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
        // ClusterIPs need a route before kube-proxy can rewrite them, also on a node without
        // uplink.
        node.route("10.96.0.0/16", &ADDRESS.to_string())?;
        node.route("fd00:96::/112", ADDRESS6)?;
        Ok(member)
    }

    /// Isolates the management ports of all nodes that have joined. They reach the API server, but
    /// not each other.
    ///
    /// # Errors
    /// When `bridge` fails.
    pub fn isolate_nodes(&self) -> Result<()> {
        let mut ports = 1..=self.joined.load(Ordering::Relaxed);
        ports.try_for_each(|number| self.namespace.isolate(&format!("port{number}")))
    }

    /// Adds a route to another address of a node: the API server fetches logs from the InternalIP.
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

    /// A command that runs where the API server is reachable.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// Path of the lab's kubectl.
    #[must_use]
    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// Runs kubectl as administrator and returns its stdout.
    ///
    /// # Errors
    /// When kubectl fails, with its message.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_as(&self.admin_kubeconfig(), arguments)
    }

    /// Runs kubectl with this kubeconfig.
    ///
    /// # Errors
    /// When kubectl fails, with its message.
    pub fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<String> {
        // The default cache in $HOME is keyed by the server's address, which is the same in all
        // tests.
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
    /// When kubectl fails, for example because there is no such object.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?;
        serde_json::from_str(&text).context("kubectl did not print JSON")
    }

    /// `kubectl get --raw PATH`.
    ///
    /// # Errors
    /// When the API server does not answer with JSON.
    pub fn get_raw(&self, path: &str) -> Result<Value> {
        let text = self.kubectl(&["get", "--raw", path])?;
        serde_json::from_str(&text).with_context(|| path.to_owned())
    }

    /// Runs `kubectl apply` with manifests as text (YAML with one or more documents, or JSON). The
    /// text is kept in the scratch folder.
    ///
    /// # Errors
    /// When the API server rejects an object.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let count = self.manifests.fetch_add(1, Ordering::Relaxed);
        let file = self.folder.join(format!("apply-{count}.yaml"));
        fs::write(&file, manifests)?;
        self.apply_path(&file)
    }

    /// Runs `kubectl apply -f PATH` with a file or a folder.
    ///
    /// # Errors
    /// When the API server rejects an object.
    pub fn apply_path(&self, path: &Path) -> Result<()> {
        let path = path.to_str().context("path is not UTF-8")?;
        self.kubectl(&["apply", "-f", path]).map(drop)
    }

    /// The administrator's kubeconfig, for the lab's programs. ferrolb runs with
    /// [`ControlPlane::service_account_kubeconfig`].
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// Writes a kubeconfig for an existing ServiceAccount, with a token that is valid for a day and
    /// the API server's CA.
    ///
    /// # Errors
    /// When there is no such ServiceAccount.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", name, "-n", namespace, "--duration=24h"])?;
        let path = self.folder.join(format!("{namespace}-{name}.kubeconfig"));
        fs::write(&path, kubeconfig(&self.ca(), token.trim()))?;
        Ok(path)
    }

    /// All write requests so far except the lab's own, oldest first. The audit log has the reads of
    /// ferrolb too, for [`ControlPlane::requests_of`].
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn writes(&self) -> Result<Vec<Write>> {
        let mut requests = self.audit_log()?;
        requests.retain(|request| {
            let is_read = ["get", "list", "watch"].contains(&request.verb.as_str());
            request.user != READER_USER && !is_read
        });
        Ok(requests)
    }

    /// Creates a user with the permissions of ferrolb's ClusterRole `ferrolb-viewer`. Returns the
    /// kubeconfig. [`ControlPlane::reads`] has the requests of this user.
    ///
    /// # Errors
    /// When ferrolb's RBAC is not installed, or the user exists.
    pub fn reader_kubeconfig(&self) -> Result<PathBuf> {
        self.kubectl(&["create", "serviceaccount", READER, "-n", "default"])?;
        let account = format!("--serviceaccount=default:{READER}");
        let role = "--clusterrole=ferrolb-viewer";
        self.kubectl(&["create", "clusterrolebinding", READER, role, &account])?;
        self.service_account_kubeconfig("default", READER)
    }

    /// All requests so far of the user of [`ControlPlane::reader_kubeconfig`], oldest first.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn reads(&self) -> Result<Vec<Write>> {
        self.requests_of(READER_USER)
    }

    /// All requests so far of the user of [`ControlPlane::reader_kubeconfig`] or of a
    /// ServiceAccount of ferrolb's namespace, oldest first.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn requests_of(&self, user: &str) -> Result<Vec<Write>> {
        let mut requests = self.audit_log()?;
        requests.retain(|request| request.user == user);
        Ok(requests)
    }

    fn audit_log(&self) -> Result<Vec<Write>> {
        let path = self.folder.join("audit.json");
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        // The last line may be incomplete, or truncated when the server was killed.
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        Ok(events.map(write_of).collect())
    }

    pub(super) fn scratch(&self) -> &'s Scratch {
        self.scratch
    }

    /// The serving certificate; its file includes the self-signed CA.
    fn ca(&self) -> PathBuf {
        self.folder.join("certs/apiserver.crt")
    }
}

/// Writes the files that the API server reads at its start.
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
            {"level": "Metadata", "users": [READER_USER]},
            {"level": "Metadata", "userGroups": [ACCOUNTS]},
            {"level": "None", "verbs": ["get", "list", "watch"]},
            // The lab's kubectl and the controllers.
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

/// A kubeconfig in JSON, which is valid YAML.
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

/// The fields of an audit event that [`Write`] needs.
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
#[serde(default, rename_all = "camelCase")]
struct AuditObject {
    api_group: String,
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
        group: object.api_group,
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
