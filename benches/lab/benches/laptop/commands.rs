//! Measures commands on the laptop, and what they ask the API server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::ControlPlane;
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::{ferrolb, run};
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::statistics::{median, rounded};
use serde_json::{Value, json};

use super::objects::{OF_SERVICES, Size, service_name};

/// How often each command runs.
const RUNS: usize = 5;
const MEASURE: &str = include_str!("run_and_measure.py");
const TIMEOUT: Duration = Duration::from_secs(30);
/// What the others are compared with.
const KUBECTL: &str = "kubectl get services -A -o json";

/// The laptop: a host with a kubeconfig.
pub(crate) struct Laptop<'lab> {
    pub(crate) cp: &'lab ControlPlane<'lab>,
    pub(crate) host: &'lab Namespace,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) kubectl: PathBuf,
    /// A change for `plan`.
    pub(crate) change: PathBuf,
}

/// One run of a command.
struct Run {
    wall: f64,
    cpu: f64,
    peak_kib: u64,
    /// From the API server, with all headers.
    octets: u64,
}

impl Laptop<'_> {
    /// Measures all commands.
    pub(crate) fn measure(&self, size: Size) -> Result<()> {
        // An even number has the policy Cluster.
        let cluster = format!("{OF_SERVICES}/{}", service_name(size.services / 2 / 2 * 2));
        let local = format!(
            "{OF_SERVICES}/{}",
            service_name(size.services / 2 / 2 * 2 + 1)
        );
        let change = self.change.display().to_string();
        let commands: [&[&str]; 9] = [
            &["status"],
            &["status", "-o", "json"],
            &["explain", "svc", &cluster],
            &["explain", "svc", &local],
            &["explain", "pool", "production"],
            &["peers", "--context", "lab"],
            &["routes", "--context", "lab"],
            &["pools"],
            &["plan", "-f", &change, "--against", "live"],
        ];
        let get = ["get", "services", "-A", "-o", "json"];
        let kubectl = self.command(&self.kubectl, &get, KUBECTL, size, None)?;
        for arguments in commands {
            let shown = arguments.join(" ").replace(&change, "change.yaml");
            let shown = format!("ferrolb {shown}");
            self.command(&ferrolb()?, arguments, &shown, size, Some(kubectl))?;
        }
        Ok(())
    }

    /// Measures one command. Returns the median of its time in milliseconds.
    fn command(
        &self,
        program: &Path,
        arguments: &[&str],
        shown: &str,
        size: Size,
        kubectl: Option<f64>,
    ) -> Result<f64> {
        self.once(program, arguments).context(shown.to_owned())?;
        let before = self.requests()?;
        let runs = (0..RUNS).map(|_| self.once(program, arguments));
        let runs: Vec<Run> = runs.collect::<Result<_>>().context(shown.to_owned())?;
        let requests = (self.requests()? - before) / RUNS;
        let wall = median(runs.iter().map(|run| run.wall * 1e3));
        let slowest = runs.iter().map(|run| run.wall * 1e3).fold(0.0, f64::max);
        let cpu = median(runs.iter().map(|run| run.cpu * 1e3));
        let peak = runs.iter().map(|run| run.peak_kib).max();
        let octets = runs.iter().map(|run| run.octets).max();
        let ratio = kubectl.map(|kubectl| rounded(wall / kubectl));
        ensure!(requests > 0, "{shown} asked nothing");
        measurement::print(
            "laptop_commands",
            &[
                ("nodes", json!(size.nodes)),
                ("services", json!(size.services)),
                ("command", json!(shown)),
                ("median_ms", json!(wall.round())),
                ("slowest_ms", json!(slowest.round())),
                ("cpu_ms", json!(cpu.round())),
                ("peak_rss_kib", json!(peak)),
                ("requests", json!(requests)),
                ("received_octets", json!(octets)),
                ("time_by_that_of_kubectl", json!(ratio.unwrap_or(1.0))),
            ],
        );
        Ok(wall)
    }

    fn once(&self, program: &Path, arguments: &[&str]) -> Result<Run> {
        let before = self.received()?;
        let mut command = self.host.command("python3");
        command.args(["-c", MEASURE]).arg(program).args(arguments);
        // kubectl keeps what the API server serves; ferrolb reads no such file.
        command.env("HOME", self.change.parent().context("no folder")?);
        command.env("KUBECONFIG", &self.kubeconfig);
        let output = run(&mut command)?;
        let measured: Value = serde_json::from_str(output.lines().last().unwrap_or_default())?;
        // 3: something is wrong, or something would be withdrawn.
        let code = measured["code"].as_i64();
        ensure!(matches!(code, Some(0 | 3)), "exit code {code:?}: {output}");
        Ok(Run {
            wall: measured["wall"].as_f64().context("wall")?,
            cpu: measured["cpu"].as_f64().context("cpu")?,
            peak_kib: measured["peak_kib"].as_u64().context("peak_kib")?,
            octets: self.received()? - before,
        })
    }

    /// The requests so far. The API server writes its audit log shortly after the response.
    fn requests(&self) -> Result<usize> {
        let mut last = None;
        eventually("the audit log rests", TIMEOUT, || {
            let now = self.cp.reads()?.len();
            let known = last.replace(now);
            ensure!(known == Some(now), "{now} requests");
            anyhow::Ok(now)
        })
    }

    /// The octets that the laptop has received.
    fn received(&self) -> Result<u64> {
        let shown = ["-j", "-s", "link", "show", "dev", "mgmt0"];
        let links = self.host.json("ip", &shown)?;
        let octets = links[0]["stats64"]["rx"]["bytes"].as_u64();
        octets.context("no counter of mgmt0")
    }

    /// What `ferrolb status` prints as JSON.
    pub(crate) fn status(&self) -> Result<Value> {
        let mut command = self.host.command("sh");
        command.args(["-c", "\"$0\" status -o json; test $? -lt 5"]);
        command.arg(ferrolb()?).env("KUBECONFIG", &self.kubeconfig);
        Ok(serde_json::from_str(&run(&mut command)?)?)
    }
}
