//! The real ferrolb binary on the rack's nodes, all of them reading one folder of manifests.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{Process, Scratch, ferrolb, run};
use crate::router::RouteEntry;
use crate::topology::Node;

/// Where MetalLB's resources lie in the lab's manifests.
pub const CONFIG_NAMESPACE: &str = "metallb-system";
/// On a node's loopback: metrics and probes.
const METRICS_PORT: u16 = 7472;

/// The folder of manifests that all nodes watch.
#[derive(Debug)]
pub struct Folder<'lab> {
    scratch: &'lab Scratch,
    path: PathBuf,
}

/// What `ferrolb check` said.
#[derive(Debug)]
pub struct Checked {
    /// The exit status was 0.
    pub valid: bool,
    /// Everything it printed.
    pub output: String,
}

impl<'lab> Folder<'lab> {
    /// An empty folder.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(scratch: &'lab Scratch) -> Result<Self> {
        let path = scratch.file("manifests");
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { scratch, path })
    }

    /// Writes a manifest at once: beside the folder, then renamed into it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let new = self.scratch.file(name);
        fs::write(&new, text)?;
        fs::rename(&new, self.path.join(name)).with_context(|| format!("write {name}"))
    }

    /// Removes a manifest, and so deletes its objects.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.path.join(name)).with_context(|| format!("remove {name}"))
    }

    /// Writes the Node object of a node: its uplink's addresses are its InternalIPs.
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
    /// When `FERROLB_BIN` names no binary.
    pub fn run(&self, node: &Node) -> Result<Process> {
        let mut command = node.namespace.command(ferrolb()?);
        command.arg("run").arg("--manifests").arg(&self.path);
        command.args(["--node-name", &node.name]);
        command.args(["--config-namespace", CONFIG_NAMESPACE]);
        command.args(["--metrics-addr", &format!("127.0.0.1:{METRICS_PORT}")]);
        command.args(["--log-format", "text"]);
        let socket = self.scratch.file(&format!("{}.sock", node.name));
        command.arg("--socket").arg(socket);
        Process::start(self.scratch, &format!("ferrolb-{}", node.name), &command)
    }

    /// `ferrolb plan -o json` on the folder as it is now.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn plan(&self) -> Result<Plan> {
        let output = run(self.command("plan")?.args(["-o", "json"]))?;
        let plan = serde_json::from_str(&output).with_context(|| format!("plan: {output}"))?;
        Ok(Plan(plan))
    }

    /// `ferrolb check` on the folder as it is now.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn check(&self) -> Result<Checked> {
        let output = self.command("check")?.output()?;
        let texts = [output.stdout, output.stderr].concat();
        Ok(Checked {
            valid: output.status.success(),
            output: String::from_utf8_lossy(&texts).into_owned(),
        })
    }

    fn command(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new(ferrolb()?);
        command.arg(subcommand).arg("-f").arg(&self.path);
        command.args(["--config-namespace", CONFIG_NAMESPACE]);
        Ok(command)
    }
}

/// What `ferrolb plan -o json` printed.
#[derive(Debug, Clone)]
pub struct Plan(pub Value);

impl Plan {
    /// The routes that these nodes announce to a BGPPeer.
    ///
    /// # Errors
    /// When the plan isn't of the form that ferrolb documents.
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

    /// The reason codes why a node does not announce a service; once for each peer.
    #[must_use]
    pub fn withheld(&self, service: &str, node: &str) -> Vec<&str> {
        let entries = self.0["withheld"].as_array().into_iter().flatten();
        entries
            .filter(|entry| entry["name"] == service && entry["node"] == node)
            .filter_map(|entry| entry["reason"].as_str())
            .collect()
    }
}

/// Asks a node's daemon over HTTP: `/metrics`, `/livez`, `/readyz`. Gives the body.
///
/// # Errors
/// When it does not answer, or not with 200.
pub fn http(node: &Node, path: &str) -> Result<String> {
    // The shell's own client: Debian's static busybox has a wget that crashes at once.
    const GET: &str = r#"exec 3<>/dev/tcp/127.0.0.1/"$1"
        printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
        exec timeout 5 cat <&3"#;
    let port = METRICS_PORT.to_string();
    let answer = node
        .namespace
        .run("bash", &["-c", GET, "bash", &port, path])?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("{path}: no HTTP: {answer}"))?;
    let status = head.split_whitespace().nth(1);
    ensure!(status == Some("200"), "{path}: {answer}");
    Ok(body.to_owned())
}

/// The value of a metric, whose name is given with its labels as in the text format.
///
/// # Errors
/// When the daemon does not answer or has no such metric.
pub fn metric(node: &Node, name: &str) -> Result<f64> {
    let text = http(node, "/metrics")?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("no {name} in: {text}"))?;
    Ok(value.parse()?)
}

/// The waits that a daemon's log names before each next attempt, in seconds, of one peer.
///
/// # Errors
/// When the log can't be read.
pub fn announced_waits(daemon: &Process, peer: &str) -> Result<Vec<f64>> {
    let marker = format!("peer={peer} ");
    daemon
        .log_text()?
        .lines()
        .filter(|line| line.contains(&marker))
        .filter_map(|line| line.split_once("next attempt in ")?.1.split_once(" s"))
        .map(|(seconds, _)| Ok(seconds.parse()?))
        .collect()
}

/// Checks that a daemon's log holds a line with all of these texts.
///
/// # Errors
/// When none does.
pub fn said(daemon: &Process, texts: &[&str]) -> Result<()> {
    let log = daemon.log_text()?;
    let found = log
        .lines()
        .any(|line| texts.iter().all(|text| line.contains(text)));
    ensure!(found, "{} never said {texts:?}", daemon.name());
    Ok(())
}
