//! ferrolb's processes as in a deployment: one process per Pod, with the
//! ServiceAccount and the rights that `deploy/manifests` grants to its role.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::ControlPlane;
use crate::daemon::{ask, await_settled};
use crate::eventually::eventually;
use crate::manifest::NAMESPACE;
use crate::metrics;
use crate::netns::Namespace;
use crate::process::{Process, ferrolb};
use crate::scenario::Scratch;
use crate::topology::Node;

/// User of the allocators in [`Write::user`](super::Write::user).
pub const ALLOCATOR_USER: &str = "system:serviceaccount:metallb-system:ferrolb-allocator";

/// User of the announcers.
pub const ANNOUNCER_USER: &str = "system:serviceaccount:metallb-system:ferrolb-announcer";

/// ferrolb's own kinds, as in the API server's paths.
const OWN_KINDS: [&str; 7] = [
    "ipaddresspools",
    "bgppeers",
    "bfdprofiles",
    "bgpadvertisements",
    "l2advertisements",
    "communities",
    "bgpsessions",
];

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Path of `deploy`.
#[must_use]
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Path of `deploy/manifests`.
#[must_use]
pub fn manifests() -> PathBuf {
    deploy().join("manifests")
}

impl ControlPlane<'_> {
    /// Applies ferrolb's CRDs, and waits until they are served.
    ///
    /// # Errors
    /// When the API server rejects one.
    pub fn install_ferrolb_crds(&self) -> Result<()> {
        self.apply_path(&manifests().join("0-crds.yaml"))?;
        self.await_ferrolb_kinds()
    }

    /// Waits until ferrolb's kinds are served, whose CRDs exist.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn await_ferrolb_kinds(&self) -> Result<()> {
        self.kubectl(&["wait", "crd", "--all", "--for=condition=Established"])?;
        // The condition Established precedes serving by a moment.
        eventually("ferrolb's kinds are served", START_TIMEOUT, || {
            for kind in OWN_KINDS {
                self.get(&[&format!("{kind}.ferrolb.io"), "-n", "default"])?;
            }
            anyhow::Ok(())
        })
    }

    /// Applies the namespace, ServiceAccounts and RBAC of `deploy/manifests`.
    ///
    /// # Errors
    /// When the API server rejects an object.
    pub fn install_ferrolb_rbac(&self) -> Result<()> {
        self.apply_path(&manifests().join("1-namespace.yaml"))?;
        self.apply_path(&manifests().join("2-rbac.yaml"))
    }
}

/// An allocator, announcer or layer 2 process. Dropping it kills the process, as a crash does.
#[derive(Debug)]
pub struct Ferrolb<'lab> {
    process: Process,
    scratch: &'lab Scratch,
    name: String,
    command: Command,
    host: Host<'lab>,
    address: Ipv4Addr,
    /// Of its HTTP server.
    port: u16,
}

/// Namespace of the process.
#[derive(Debug)]
enum Host<'lab> {
    Own(Namespace),
    Node(&'lab Namespace),
}

impl Deref for Host<'_> {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        match self {
            Self::Own(namespace) => namespace,
            Self::Node(namespace) => namespace,
        }
    }
}

impl<'lab> Ferrolb<'lab> {
    /// Starts an allocator in its own namespace, like a Pod; its address identifies it in the audit
    /// log.
    ///
    /// # Errors
    /// When [`ControlPlane::install_ferrolb_rbac`] was not called, or the process can't be started.
    pub fn allocator(cp: &ControlPlane<'lab>, name: &str) -> Result<Self> {
        let host = Namespace::new(name)?;
        let address = cp.join(&host)?.address();
        let mut command = host.command(ferrolb()?);
        command.args(["run", "--role=allocator"]);
        command.env("POD_NAME", name);
        Self::start_role(cp, "allocator", name, command, Host::Own(host), address)
    }

    /// Starts the announcer of a node that has joined the control plane.
    ///
    /// # Errors
    /// As for [`Ferrolb::allocator`].
    pub fn announcer(cp: &ControlPlane<'lab>, node: &'lab Node) -> Result<Self> {
        Self::announcer_with(cp, node, &[])
    }

    /// Starts the announcer of a node with further arguments.
    ///
    /// # Errors
    /// As for [`Ferrolb::allocator`].
    pub fn announcer_with(
        cp: &ControlPlane<'lab>,
        node: &'lab Node,
        arguments: &[&str],
    ) -> Result<Self> {
        let name = format!("announcer-{}", node.name);
        let state = cp.scratch().file(&format!("state-{}", node.name));
        fs::create_dir_all(&state)?;
        let mut command = node.namespace.command(ferrolb()?);
        command.args(["run", "--role=announcer"]).args(arguments);
        command.arg(format!("--state-dir={}", state.display()));
        command.arg("--socket").arg(socket(cp.scratch(), &name));
        command.env("NODE_NAME", &node.name);
        let host = Host::Node(&node.namespace);
        Self::start_role(cp, "announcer", &name, command, host, node.ipv4)
    }

    /// Starts the layer 2 process of a node that has joined the control plane.
    ///
    /// # Errors
    /// As for [`Ferrolb::allocator`].
    pub fn layer2(cp: &ControlPlane<'lab>, node: &'lab Node) -> Result<Self> {
        Self::layer2_named(cp, node, &format!("layer2-{}", node.name))
    }

    fn layer2_named(cp: &ControlPlane<'lab>, node: &'lab Node, name: &str) -> Result<Self> {
        let mut command = node.namespace.command(ferrolb()?);
        command.args(["run", "--role=layer2"]);
        command.arg("--socket").arg(socket(cp.scratch(), name));
        command.env("NODE_NAME", &node.name);
        let host = Host::Node(&node.namespace);
        Self::start_role(cp, "layer2", name, command, host, node.ipv4)
    }

    /// Replaces the layer 2 process of a node as a rollout with surge does: starts a second one,
    /// waits until it is ready, and stops the first one with SIGTERM.
    ///
    /// # Errors
    /// When the second one does not become ready, or the first one does not end.
    pub fn replace_layer2(&mut self, cp: &ControlPlane<'lab>, node: &'lab Node) -> Result<()> {
        let first = format!("layer2-{}", node.name);
        let name = if self.name == first {
            format!("{first}-next")
        } else {
            first
        };
        let mut second = Self::layer2_named(cp, node, &name)?;
        await_settled(&mut second.process, &socket(cp.scratch(), &name))?;
        let status = self.process.terminate(START_TIMEOUT)?;
        ensure!(status.success(), "{status}");
        *self = second;
        Ok(())
    }

    fn start_role(
        cp: &ControlPlane<'lab>,
        role: &str,
        name: &str,
        mut command: Command,
        host: Host<'lab>,
        address: Ipv4Addr,
    ) -> Result<Self> {
        let kubeconfig = cp.service_account_kubeconfig(NAMESPACE, &format!("ferrolb-{role}"))?;
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        let port = match role {
            "layer2" => metrics::LAYER2_PORT,
            _ => metrics::PORT,
        };
        command.arg(format!("--metrics-addr=127.0.0.1:{port}"));
        command.env("POD_NAMESPACE", NAMESPACE);
        Ok(Self {
            process: Process::start(cp.scratch(), name, &command)?,
            scratch: cp.scratch(),
            name: name.to_owned(),
            command,
            host,
            address,
            port,
        })
    }

    /// Starts the process after [`Process::kill`] or [`Process::terminate`], with the same
    /// arguments and state folder.
    ///
    /// # Errors
    /// When the process can't be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = Process::start(self.scratch, &self.name, &self.command)?;
        Ok(())
    }

    /// Adds an argument for the next [`Ferrolb::start_again`].
    pub fn add_argument(&mut self, argument: &str) {
        self.command.arg(argument);
    }

    /// Sets a variable of the environment for the next [`Ferrolb::start_again`].
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.command.env(name, value);
    }

    /// Path of the control socket of an announcer or layer 2 process.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(self.scratch, &self.name)
    }

    /// Where the process runs.
    #[must_use]
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Path of the log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Runs a command of the CLI that asks an announcer or layer 2 process, and returns its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        ask(&self.socket(), arguments)
    }

    /// Of an allocator the address in the audit log; of an announcer the address of its uplink.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The body of `/metrics`, `/readyz` or `/livez`.
    ///
    /// # Errors
    /// When the process does not answer, or answers with an error.
    pub fn get(&self, path: &str) -> Result<String> {
        metrics::get_at(&self.host, self.port, path)
    }

    /// The response to a request over TLS ([`metrics::get_over_tls`]).
    ///
    /// # Errors
    /// When the process does not answer.
    pub fn get_over_tls(&self, path: &str, token: Option<&str>) -> Result<String> {
        metrics::get_over_tls(&self.host, path, token)
    }

    /// The value of a series ([`metrics::value`]).
    ///
    /// # Errors
    /// When there is no such series.
    pub fn metric(&self, series: &str) -> Result<f64> {
        metrics::value_in(&self.get("/metrics")?, series)
    }

    /// Waits until `/readyz` succeeds.
    ///
    /// # Errors
    /// When the process ends or does not become ready.
    pub fn await_ready(&mut self) -> Result<()> {
        eventually(format!("{} ready", self.name), START_TIMEOUT, || {
            self.process.ensure_running()?;
            self.get("/readyz")
        })
        .map(drop)
    }

    /// Waits until a line of the log has all of these words.
    ///
    /// # Errors
    /// After `timeout`, with the last lines of the log.
    pub fn await_log(&self, words: &[&str], timeout: Duration) -> Result<()> {
        self.process.await_log(words, timeout)
    }
}

/// The control socket of a process with this name.
fn socket(scratch: &Scratch, name: &str) -> PathBuf {
    scratch.file(&format!("{name}.sock"))
}
