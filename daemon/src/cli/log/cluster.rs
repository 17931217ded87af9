//! `ferrolb log --cluster`: the logs of all Pods of ferrolb, read through the API server and merged
//! by time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::client_args::parse_duration;
use super::super::output::{json_line, try_print};
use super::super::{Output, block_on};
use crate::core::config::CONFIG_NAMESPACE;
use crate::core::printable::printable;
use crate::runtime::source::kube::Cluster;

/// Logs read at the same time.
const PARALLEL: usize = 8;
/// Interval of `--watch`. Each Pod is one request.
const INTERVAL: Duration = Duration::from_secs(5);
/// Lines of each Pod without `--tail`.
const TAIL: u32 = 1000;

#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// Merge the logs of all Pods of ferrolb, read with your kubeconfig, instead of asking the
    /// daemon on this host.
    #[arg(long, conflicts_with = "socket")]
    pub(super) cluster: bool,
    /// Kubeconfig file. [default: $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE", requires = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the Pods. [default: metallb-system]
    #[arg(long, value_name = "NAMESPACE", requires = "cluster")]
    namespace: Option<String>,
    /// Only Pods on this node; can be given several times.
    #[arg(long, value_name = "NODE", requires = "cluster")]
    node: Vec<String>,
    /// Only lines of the last 30m, 2h and so on.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "cluster")]
    since: Option<Duration>,
    /// At most this number of lines of each Pod. [default: 1000]
    #[arg(long, value_name = "LINES", requires = "cluster")]
    tail: Option<u32>,
}

/// Which lines are printed, and how.
pub(super) struct Wanted<'a> {
    /// Only lines about this peer, by name or address.
    pub(super) peer: Option<&'a str>,
    /// Keep running.
    pub(super) watch: bool,
    /// The format.
    pub(super) output: Output,
}

/// A Pod of ferrolb.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Pod {
    #[serde(rename = "pod")]
    name: String,
    node: String,
    component: String,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct PodLine {
    at: Timestamp,
    #[serde(flatten)]
    pod: Pod,
    level: String,
    message: String,
    /// Its other fields.
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Value>,
}

pub(super) fn run(args: &ClusterArgs, wanted: &Wanted<'_>) -> anyhow::Result<ExitCode> {
    block_on(follow(args, wanted))
}

async fn follow(args: &ClusterArgs, wanted: &Wanted<'_>) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::connect(args.kubeconfig.as_deref()).await?;
    let mut reader = Reader {
        cluster,
        args,
        read: BTreeMap::new(),
        unreadable: BTreeSet::new(),
    };
    loop {
        for line in reader.new_lines().await? {
            if wanted.peer.is_none_or(|peer| is_about(&line, peer)) && !put(&line, wanted.output)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
        if !wanted.watch {
            // Something was printed, but it is not all.
            return Ok(if reader.unreadable.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

struct Reader<'a> {
    cluster: Cluster,
    args: &'a ClusterArgs,
    /// The time of the last line read of each Pod.
    read: BTreeMap<Pod, Timestamp>,
    /// The Pods whose log can't be read, as reported.
    unreadable: BTreeSet<Pod>,
}

impl Reader<'_> {
    fn namespace(&self) -> &str {
        self.args.namespace.as_deref().unwrap_or(CONFIG_NAMESPACE)
    }

    /// The lines since the last call, by time.
    async fn new_lines(&mut self) -> anyhow::Result<Vec<PodLine>> {
        let pods = self.pods().await?;
        let logs = futures::stream::iter(pods.into_iter().map(|pod| self.log(pod)));
        let logs: Vec<_> = logs.buffer_unordered(PARALLEL).collect().await;
        let mut lines = Vec::new();
        for (pod, log) in logs {
            match log {
                Ok(text) => {
                    self.unreadable.remove(&pod);
                    let last = self.read.get(&pod).copied();
                    let new = text.lines().filter_map(|line| parse(&pod, line));
                    let new = new.filter(|line| last.is_none_or(|last| last < line.at));
                    let before = lines.len();
                    lines.extend(new);
                    if let Some(latest) = lines[before..].iter().map(|line| line.at).max() {
                        self.read.insert(pod, latest);
                    }
                }
                Err(error) => {
                    let text = format!("can't read the log of the Pod {}: {error:#}", pod.name);
                    if self.unreadable.insert(pod) {
                        eprintln!("ferrolb: {}", printable(&text));
                    }
                }
            }
        }
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }

    /// The Pods on the wanted nodes.
    async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        let namespace = self.namespace();
        let list = format!(
            "/api/v1/namespaces/{namespace}/pods?labelSelector=app.kubernetes.io/name%3Dferrolb"
        );
        let listed = self.cluster.list(&list).await?;
        let pods: Vec<Pod> = listed.iter().map(pod).collect();
        if pods.is_empty() {
            bail!(
                "no Pod in the namespace {namespace} has the label app.kubernetes.io/name=ferrolb: \
                 select another one with --namespace, or install ferrolb: kubectl apply -f \
                 deploy/ferrolb.yaml"
            );
        }
        let nodes: BTreeSet<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
        let nodes: Vec<&str> = nodes.into_iter().filter(|node| !node.is_empty()).collect();
        for node in &self.args.node {
            if !nodes.contains(&node.as_str()) {
                bail!(
                    "no Pod of ferrolb is on node {node}: they are on {}",
                    nodes.join(", ")
                );
            }
        }
        let wanted = |pod: &Pod| self.args.node.is_empty() || self.args.node.contains(&pod.node);
        // A Pod that is not scheduled has no log.
        let scheduled = pods.iter().filter(|pod| !pod.node.is_empty());
        Ok(scheduled.filter(|pod| wanted(pod)).cloned().collect())
    }

    async fn log(&self, pod: Pod) -> (Pod, anyhow::Result<String>) {
        let tail = self.args.tail.unwrap_or(TAIL);
        let mut path = format!(
            "/api/v1/namespaces/{}/pods/{}/log?timestamps=true&tailLines={tail}",
            self.namespace(),
            pod.name
        );
        if let Some(last) = self.read.get(&pod) {
            // In whole seconds: the lines before `last` are dropped later.
            path += &format!("&sinceTime={}", last.strftime("%Y-%m-%dT%H:%M:%SZ"));
        } else if let Some(since) = self.args.since {
            path += &format!("&sinceSeconds={}", since.as_secs().max(1));
        }
        let log = self.cluster.text(&path).await;
        (pod, log)
    }
}

fn pod(object: &Value) -> Pod {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    Pod {
        name: text(&metadata["name"]),
        node: text(&object["spec"]["nodeName"]),
        component: text(&metadata["labels"]["app.kubernetes.io/component"]),
    }
}

/// A line with the time of the kubelet before it; `None` without. The daemon's own time is that of
/// the event. A line that is no JSON, of `--log-format text` or a panic, is shown as it is.
fn parse(pod: &Pod, line: &str) -> Option<PodLine> {
    let (at, text) = line.split_once(' ')?;
    let mut at: Timestamp = at.parse().ok()?;
    let mut fields: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let mut take = |name: &str| match fields.remove(name) {
        Some(Value::String(value)) => Some(value),
        _ => None,
    };
    if let Some(own) = take("timestamp").and_then(|own| own.parse().ok()) {
        at = own;
    }
    let level = take("level").unwrap_or_default();
    let message = take("message").unwrap_or_else(|| text.to_owned());
    Some(PodLine {
        at,
        pod: pod.clone(),
        level,
        message,
        fields,
    })
}

/// Whether a line has this name or address as its peer, its address, or one of its peers.
fn is_about(line: &PodLine, wanted: &str) -> bool {
    let field = |name: &str| line.fields.get(name).and_then(Value::as_str);
    let names = [
        field("peer"),
        field("peers"),
        field("address"),
        field("remote"),
    ];
    let mut names = names
        .into_iter()
        .flatten()
        .flat_map(|value| value.split(", "));
    names.any(|name| {
        let without_port = name
            .rsplit_once(':')
            .map(|(host, _)| host.trim_matches(['[', ']']));
        name == wanted || without_port == Some(wanted)
    })
}

/// Prints a line. Returns whether standard output is still open.
fn put(line: &PodLine, output: Output) -> anyhow::Result<bool> {
    match output {
        Output::Json => json_line(line),
        Output::Table => Ok(try_print(&format!("{}\n", printable(&text(line))))?),
    }
}

fn text(line: &PodLine) -> String {
    let PodLine {
        at,
        pod,
        level,
        message,
        fields,
    } = line;
    let mut text = format!(
        "{at:.3}  {}  {}  {level:5} {message}",
        pod.node, pod.component
    );
    for (name, value) in fields {
        match value {
            Value::String(value) => text += &format!(" {name}={value}"),
            value => text += &format!(" {name}={value}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcer() -> Pod {
        Pod {
            name: "ferrolb-announcer-x".into(),
            node: "node1".into(),
            component: "announcer".into(),
        }
    }

    fn line(text: &str) -> PodLine {
        let line = format!("2026-01-02T03:04:06.5Z {text}");
        parse(&announcer(), &line).expect("a line")
    }

    #[test]
    fn a_line_has_the_time_of_the_event_and_its_fields() {
        let session = line(
            r#"{"timestamp":"2026-01-02T03:04:05.678901Z","level":"INFO",
            "message":"session up","peer":"tor","hold":90}"#,
        );
        let expected = "2026-01-02T03:04:05.678Z  node1  announcer  INFO  session up";
        assert_eq!(text(&session), format!("{expected} hold=90 peer=tor"));
    }

    #[test]
    fn a_line_that_is_no_json_is_shown_as_it_is() {
        let panic = line("thread 'main' panicked");
        let expected = "2026-01-02T03:04:06.500Z  node1  announcer        thread 'main' panicked";
        assert_eq!(text(&panic), expected);
        assert_eq!(
            parse(&announcer(), "unable to retrieve container logs"),
            None
        );
    }

    #[test]
    fn lines_are_selected_by_the_name_or_the_address_of_a_peer() {
        let one = line(r#"{"message":"m","peer":"tor","address":"10.0.0.1:179"}"#);
        let several = line(r#"{"message":"m","peers":"tor, other"}"#);
        let ipv6 = line(r#"{"message":"m","remote":"[2001:db8::1]:40000"}"#);
        for (line, wanted, expected) in [
            (&one, "tor", true),
            (&one, "10.0.0.1", true),
            (&one, "to", false),
            (&several, "other", true),
            (&several, "tor, other", false),
            (&ipv6, "2001:db8::1", true),
            (&line("tor"), "tor", false),
        ] {
            assert_eq!(is_about(line, wanted), expected, "{line:?} {wanted}");
        }
    }
}
