//! The ferrolb under test in a cluster of objects: plain processes that may do exactly what `deploy/manifests` grants
//! to their roles.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::ControlPlane;
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Process, Scratch, ferrolb};
use crate::topology::Node;

/// The allocators' user, in [`Write::user`](super::Write::user).
pub const ALLOCATOR_USER: &str = "system:serviceaccount:metallb-system:ferrolb-allocator";

/// The announcers' user.
pub const ANNOUNCER_USER: &str = "system:serviceaccount:metallb-system:ferrolb-announcer";

/// The namespace of everything in `deploy/manifests`.
pub const NAMESPACE: &str = "metallb-system";

/// In each process's own network namespace.
const METRICS: &str = "127.0.0.1:7472";

/// Asks for a path there and prints the whole answer. A shell reaches into a namespace without one more program.
const ASK: &str =
    r#"exec 3<>/dev/tcp/127.0.0.1/7472 && printf 'GET %s HTTP/1.0\r\n\r\n' "$0" >&3 && cat <&3"#;

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// `deploy/manifests`.
#[must_use]
pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests")
}

impl ControlPlane<'_> {
    /// Applies the namespace, the ServiceAccounts and the RBAC of `deploy/manifests` as they stand.
    ///
    /// # Errors
    /// When one is refused.
    pub fn install_ferrolb_rbac(&self) -> Result<()> {
        self.apply_path(&manifests().join("1-namespace.yaml"))?;
        self.apply_path(&manifests().join("2-rbac.yaml"))
    }
}

/// A ferrolb process. Dropping it kills it, as a crash does.
#[derive(Debug)]
pub struct Ferrolb<'lab> {
    daemon: Process,
    scratch: &'lab Scratch,
    name: String,
    command: Command,
    host: Host<'lab>,
    address: Ipv4Addr,
}

/// Where it runs.
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
    /// Starts an allocator in a namespace of its own, as a Pod has, so that the audit log tells it from others by its
    /// address.
    ///
    /// # Errors
    /// When [`ControlPlane::install_ferrolb_rbac`] was not called, or it can't be started.
    pub fn allocator(cp: &ControlPlane<'lab>, name: &str) -> Result<Self> {
        let host = Namespace::new(name)?;
        let address = cp.join(&host)?.address();
        let mut command = host.command(ferrolb()?);
        command.args(["run", "--role=allocator"]);
        command.env("POD_NAME", name);
        Self::start_role(cp, "allocator", name, command, Host::Own(host), address)
    }

    /// Starts the announcer of a node, whose namespace has joined the control plane.
    ///
    /// # Errors
    /// As for [`Ferrolb::allocator`].
    pub fn announcer(cp: &ControlPlane<'lab>, node: &'lab Node) -> Result<Self> {
        let name = format!("announcer-{}", node.name);
        let state = cp.scratch().file(&format!("state-{}", node.name));
        fs::create_dir_all(&state)?;
        let mut command = node.namespace.command(ferrolb()?);
        command.args(["run", "--role=announcer"]);
        command.arg(format!("--state-dir={}", state.display()));
        command
            .arg("--socket")
            .arg(cp.scratch().file(&format!("{name}.sock")));
        command.env("NODE_NAME", &node.name);
        let host = Host::Node(&node.namespace);
        Self::start_role(cp, "announcer", &name, command, host, node.ipv4)
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
        command.arg(format!("--metrics-addr={METRICS}"));
        command.env("POD_NAMESPACE", NAMESPACE);
        Ok(Self {
            daemon: Process::start(cp.scratch(), name, &command)?,
            scratch: cp.scratch(),
            name: name.to_owned(),
            command,
            host,
            address,
        })
    }

    /// Starts it again after [`Process::kill`] or [`Process::terminate`], with the same arguments and state folder.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.daemon = Process::start(self.scratch, &self.name, &self.command)?;
        Ok(())
    }

    /// Adds an argument, for [`Ferrolb::start_again`].
    pub fn add_argument(&mut self, argument: &str) {
        self.command.arg(argument);
    }

    /// The process, to be signalled and read.
    pub fn daemon(&mut self) -> &mut Process {
        &mut self.daemon
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        self.daemon.log()
    }

    /// An allocator's address as the API server sees it; an announcer's on its uplink.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The body of `/metrics`, `/readyz` or `/livez`.
    ///
    /// # Errors
    /// When it does not answer, or answers with an error.
    pub fn get(&self, path: &str) -> Result<String> {
        let answer = self.host.run("bash", &["-c", ASK, path])?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .with_context(|| format!("no HTTP: {answer:?}"))?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "{status}: {body}");
        Ok(body.to_owned())
    }

    /// The value of a metric with exactly these labels, as it is written (`name{label="value"}`).
    ///
    /// # Errors
    /// When there is no such line.
    pub fn metric(&self, series: &str) -> Result<f64> {
        let text = self.get("/metrics")?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = value.with_context(|| format!("no {series} in: {text}"))?;
        Ok(value.parse()?)
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends or does not become ready.
    pub fn await_ready(&mut self) -> Result<()> {
        eventually(format!("{} ready", self.name), START_TIMEOUT, || {
            self.daemon.ensure_running()?;
            self.get("/readyz")
        })
        .map(drop)
    }

    /// Waits until a line of its log has all of these words.
    ///
    /// # Errors
    /// When there is none in time: the log's end.
    pub fn await_log(&self, words: &[&str], timeout: Duration) -> Result<()> {
        eventually(
            format!("{words:?} in the log of {}", self.name),
            timeout,
            || {
                let text = self.daemon.log_text()?;
                let found = text
                    .lines()
                    .any(|line| words.iter().all(|word| line.contains(word)));
                let tail: Vec<&str> = text.lines().rev().take(5).collect();
                ensure!(found, "{tail:?}");
                Ok(())
            },
        )
    }
}
