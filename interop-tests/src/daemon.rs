//! The ferrolb daemon on the nodes of a rack, with a folder of manifests instead of an API server.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::eventually::eventually;
use crate::manifest::NAMESPACE;
use crate::metrics;
use crate::process::{Process, ferrolb, run};
use crate::router::RouteEntry;
use crate::scenario::Scratch;
use crate::topology::Node;

const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// The folder of manifests, which the daemons of all nodes watch.
#[derive(Debug)]
pub struct Folder<'lab> {
    scratch: &'lab Scratch,
    path: PathBuf,
}

/// Result of `ferrolb check`.
#[derive(Debug)]
pub struct CheckResult {
    /// Whether the exit status was 0.
    pub valid: bool,
    /// Stdout and stderr.
    pub output: String,
}

impl<'lab> Folder<'lab> {
    /// Creates an empty folder.
    ///
    /// # Errors
    /// When it can't be created.
    pub fn new(scratch: &'lab Scratch) -> Result<Self> {
        let path = scratch.file("manifests");
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { scratch, path })
    }

    /// Creates a folder with the manifests of another one.
    ///
    /// # Errors
    /// When a file can't be copied.
    pub fn copy_of(other: &Self, scratch: &'lab Scratch) -> Result<Self> {
        let copy = Self::new(scratch)?;
        for entry in fs::read_dir(&other.path)? {
            let entry = entry?;
            fs::copy(entry.path(), copy.path.join(entry.file_name()))?;
        }
        Ok(copy)
    }

    /// Writes a manifest atomically: it is written outside the folder and renamed into it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let new = self.scratch.file(name);
        fs::write(&new, text)?;
        fs::rename(&new, self.path.join(name)).with_context(|| format!("write {name}"))
    }

    /// Removes a manifest, which deletes its objects.
    ///
    /// # Errors
    /// When there is no such manifest.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.path.join(name)).with_context(|| format!("remove {name}"))
    }

    /// Writes the Node object of a node, with the addresses of its uplink as InternalIPs.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_node(&self, node: &Node, labels: &[(&str, &str)]) -> Result<()> {
        let name = &node.name;
        let labels: String = labels
            .iter()
            .map(|(key, value)| format!(", {key}: {value:?}"))
            .collect();
        let text = format!(
            "apiVersion: v1
kind: Node
metadata: {{name: {name}, labels: {{kubernetes.io/hostname: {name}{labels}}}}}
status:
  addresses:
    - {{type: InternalIP, address: {ipv4}}}
    - {{type: InternalIP, address: \"{ipv6}\"}}
",
            ipv4 = node.ipv4,
            ipv6 = node.ipv6
        );
        self.write(&format!("{name}.yaml"), &text)
    }

    /// Starts `ferrolb run` on a node. A second start appends to the same log.
    ///
    /// # Errors
    /// When `FERROLB_BIN` does not name a binary.
    pub fn run(&self, node: &Node) -> Result<Process> {
        self.run_role(node, "all")
    }

    /// As [`Folder::run`], with a role.
    ///
    /// # Errors
    /// When `FERROLB_BIN` does not name a binary.
    pub fn run_role(&self, node: &Node, role: &str) -> Result<Process> {
        self.start(node, role, &[], &self.socket(node))
    }

    /// As [`Folder::run`], listening on this address for routers that dial.
    ///
    /// # Errors
    /// When `FERROLB_BIN` does not name a binary.
    pub fn run_listening(&self, node: &Node, address: &str) -> Result<Process> {
        let mut command = self.command_of(node, "all", &[], &self.socket(node))?;
        command.args(["--metrics-addr", metrics::ADDRESS, "--listen", address]);
        Process::start(self.scratch, &format!("ferrolb-{}", node.name), &command)
    }

    /// As [`Folder::run`], reporting to a BMP collector.
    ///
    /// # Errors
    /// When `FERROLB_BIN` does not name a binary.
    pub fn run_reporting(&self, node: &Node, collector: &str) -> Result<Process> {
        let mut command = self.command_of(node, "all", &[], &self.socket(node))?;
        command.args(["--metrics-addr", metrics::ADDRESS, "--bmp", collector]);
        Process::start(self.scratch, &format!("ferrolb-{}", node.name), &command)
    }

    /// As [`Folder::run_role`], beside another process on the node: with a control socket of its
    /// own, and without metrics.
    ///
    /// # Errors
    /// When `FERROLB_BIN` does not name a binary.
    pub fn run_beside(&self, node: &Node, role: &str) -> Result<Process> {
        let name = format!("ferrolb-{role}-{}", node.name);
        let socket = self.scratch.file(&format!("{role}-{}.sock", node.name));
        let mut command = self.command_of(node, role, &[], &socket)?;
        command.arg("--metrics-addr=127.0.0.1:0");
        Process::start(self.scratch, &name, &command)
    }

    /// As [`Folder::run_role`], without a capability, for example `net_raw`.
    ///
    /// # Errors
    /// When `FERROLB_BIN` does not name a binary.
    pub fn run_without(&self, node: &Node, role: &str, capability: &str) -> Result<Process> {
        let bounding_set = format!("--bounding-set=-{capability}");
        let setpriv = ["setpriv", &bounding_set];
        self.start(node, role, &setpriv, &self.socket(node))
    }

    /// As [`Folder::run_role`], with no capability but this one.
    ///
    /// # Errors
    /// When `FERROLB_BIN` does not name a binary.
    pub fn run_with_only(&self, node: &Node, role: &str, capability: &str) -> Result<Process> {
        let bounding_set = format!("--bounding-set=-all,+{capability}");
        let setpriv = ["setpriv", &bounding_set];
        self.start(node, role, &setpriv, &self.socket(node))
    }

    /// Replaces the layer 2 process of a node as a rollout with surge does: starts a second one,
    /// waits until it is ready, and stops the first one with SIGTERM.
    ///
    /// # Errors
    /// When the second one does not become ready, or the first one does not end.
    pub fn replace(&self, node: &Node, first: &mut Process) -> Result<Process> {
        let socket = self.socket(node).with_extension("new.sock");
        let mut second = self.start(node, "layer2", &[], &socket)?;
        await_settled(&mut second, &socket)?;
        let status = first.terminate(READY_TIMEOUT)?;
        ensure!(status.success(), "{status}");
        fs::rename(&socket, self.socket(node))?;
        Ok(second)
    }

    fn start(&self, node: &Node, role: &str, wrapper: &[&str], socket: &Path) -> Result<Process> {
        let mut command = self.command_of(node, role, wrapper, socket)?;
        command.args(["--metrics-addr", metrics::ADDRESS]);
        Process::start(self.scratch, &format!("ferrolb-{}", node.name), &command)
    }

    fn command_of(
        &self,
        node: &Node,
        role: &str,
        wrapper: &[&str],
        socket: &Path,
    ) -> Result<Command> {
        let mut words: Vec<OsString> = wrapper.iter().map(OsString::from).collect();
        words.push(ferrolb()?.into());
        let mut command = node.namespace.command(words.remove(0));
        command.args(words).args(["run", "--role", role]);
        command.arg("--manifests").arg(&self.path);
        command.args(["--node-name", &node.name]);
        command.args(["--config-namespace", NAMESPACE]);
        command.args(["--log-format", "text"]);
        command.arg("--socket").arg(socket);
        Ok(command)
    }

    /// Path of the control socket of a node's daemon.
    #[must_use]
    pub fn socket(&self, node: &Node) -> PathBuf {
        self.scratch.file(&format!("{}.sock", node.name))
    }

    /// What `ferrolb l2 -o json` prints on a node.
    ///
    /// # Errors
    /// When it fails or does not print JSON.
    pub fn layer2_status(&self, node: &Node) -> Result<Value> {
        let output = self.ask(node, &["l2", "-o", "json"])?;
        serde_json::from_str(&output).with_context(|| format!("ferrolb l2: {output}"))
    }

    /// Runs a command of the CLI that asks the daemon of a node, and returns its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, node: &Node, arguments: &[&str]) -> Result<String> {
        ask(&self.socket(node), arguments)
    }

    /// Runs `ferrolb plan -o json` on the folder.
    ///
    /// # Errors
    /// When it fails or does not print JSON.
    pub fn plan(&self) -> Result<Plan> {
        let output = run(self.command("plan")?.args(["-o", "json"]))?;
        let plan = serde_json::from_str(&output).with_context(|| format!("plan: {output}"))?;
        Ok(Plan(plan))
    }

    /// Runs `ferrolb check` on the folder.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn check(&self) -> Result<CheckResult> {
        let output = self.command("check")?.output()?;
        let texts = [output.stdout, output.stderr].concat();
        Ok(CheckResult {
            valid: output.status.success(),
            output: String::from_utf8_lossy(&texts).into_owned(),
        })
    }

    /// What `ferrolb router-config` prints for the folder in this syntax, for the only router.
    ///
    /// # Errors
    /// When it fails, or the syntax can't express all sessions.
    pub fn router_config(&self, syntax: &str) -> Result<String> {
        run(self.command("router-config")?.args(["--for", syntax]))
    }

    fn command(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new(ferrolb()?);
        command.arg(subcommand).arg("-f").arg(&self.path);
        command.args(["--config-namespace", NAMESPACE]);
        Ok(command)
    }
}

/// Waits until a layer 2 process that starts beside another one is ready, and until it has settled,
/// for which the DaemonSet waits with minReadySeconds.
pub(crate) fn await_settled(process: &mut Process, socket: &Path) -> Result<()> {
    eventually("the second process is ready", READY_TIMEOUT, || {
        process.ensure_running()?;
        ask(socket, &["probe", "ready"])?;
        let status = ask(socket, &["l2", "-o", "json"])?;
        let status: Value = serde_json::from_str(&status)?;
        ensure!(status["state"] == "ready", "{}", status["state"]);
        Ok(())
    })
}

/// Runs a command of the CLI that asks the daemon with this control socket.
pub(crate) fn ask(socket: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(ferrolb()?);
    run(command.args(arguments).arg("--socket").arg(socket))
}

/// Output of `ferrolb plan -o json`.
#[derive(Debug, Clone)]
pub struct Plan(pub Value);

impl Plan {
    /// The planned routes of these nodes to a BGPPeer.
    ///
    /// # Errors
    /// When the plan does not have the documented format.
    pub fn routes(&self, nodes: &[&Node], peer: &str) -> Result<BTreeSet<RouteEntry>> {
        let names: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let mut plan = self.0.clone();
        plan["routes"]
            .as_array_mut()
            .context("plan without routes")?
            .retain(|route| {
                route["node"]
                    .as_str()
                    .is_some_and(|name| names.contains(name))
            });
        RouteEntry::from_plan(&plan, peer)
    }

    /// The reason codes why a node does not announce a Service, one per peer.
    #[must_use]
    pub fn withheld(&self, service: &str, node: &str) -> Vec<&str> {
        let entries = self.0["withheld"].as_array().into_iter().flatten();
        entries
            .filter(|entry| entry["name"] == service && entry["node"] == node)
            .filter_map(|entry| entry["reason"].as_str())
            .collect()
    }
}

/// The delays before each retry of a peer, in seconds, from the daemon's log.
///
/// # Errors
/// When the log can't be read.
pub fn retry_delays(daemon: &Process, peer: &str) -> Result<Vec<f64>> {
    let marker = format!("peer={peer} ");
    daemon
        .log_text()?
        .lines()
        .filter(|line| line.contains(&marker))
        .filter_map(|line| line.split_once("next attempt in ")?.1.split_once(" s"))
        .map(|(seconds, _)| Ok(seconds.parse()?))
        .collect()
}
