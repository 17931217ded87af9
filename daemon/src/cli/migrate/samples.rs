//! Metrics of a Pod, in the text format of Prometheus, read through the API server.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::facts::{name, namespace_of};
use crate::runtime::source::kube::Cluster;

/// Metrics of MetalLB's speaker, and of ferrolb under the same names.
const SESSION_UP: &str = "metallb_bgp_session_up";

/// The samples of a Pod that are not 0.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Samples(Vec<Sample>);

#[derive(Debug, PartialEq)]
struct Sample {
    metric: String,
    labels: BTreeMap<String, String>,
    is_zero: bool,
}

impl Samples {
    /// Asks a Pod. `None` if it doesn't answer.
    pub(super) async fn of(cluster: &Cluster, pod: &Value) -> Option<Self> {
        let port = metrics_port(pod)?;
        let text = cluster
            .ask_pod(namespace_of(pod), name(pod), port, "/metrics")
            .await?;
        Some(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// The labels of a metric's samples that are not 0.
    pub(super) fn of_metric(
        &self,
        metric: &str,
    ) -> impl Iterator<Item = &BTreeMap<String, String>> {
        let samples = self.0.iter().filter(move |sample| sample.metric == metric);
        let samples = samples.filter(|sample| !sample.is_zero);
        samples.map(|sample| &sample.labels)
    }

    /// The peers of all sessions, with whether each is established.
    pub(super) fn sessions(&self) -> Sessions {
        let of_sessions = self.0.iter().filter(|sample| sample.metric == SESSION_UP);
        let mut sessions = Sessions::default();
        for sample in of_sessions {
            let peer = sample.labels.get("peer").cloned().unwrap_or_default();
            if sample.is_zero {
                sessions.down.insert(peer);
            } else {
                sessions.up.insert(peer);
            }
        }
        sessions
    }
}

/// The BGP sessions of a node, by peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sessions {
    pub up: BTreeSet<String>,
    pub down: BTreeSet<String>,
}

/// The port that a Pod's annotation or its container names.
fn metrics_port(pod: &Value) -> Option<u16> {
    let annotation = pod["metadata"]["annotations"]["prometheus.io/port"].as_str();
    if let Some(port) = annotation.and_then(|port| port.parse().ok()) {
        return Some(port);
    }
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let ports = containers.filter_map(|container| container["ports"].as_array());
    let mut named = ports
        .flatten()
        .filter(|port| port["name"] == "monitoring" || port["name"] == "metrics");
    let port = named.next()?["containerPort"].as_u64()?;
    u16::try_from(port).ok()
}

/// Parses `metric{label="value"} 1`.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (metric, labels) = series.split_once('{').unwrap_or((series, ""));
    let value: f64 = value.parse().ok()?;
    Some(Sample {
        metric: metric.to_owned(),
        labels: labels_of(labels.trim_end_matches('}')),
        is_zero: value == 0.0,
    })
}

/// Parses `a="x",b="y"`. Names of nodes, peers and Services have no quotes and no backslashes.
fn labels_of(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let Some((value, next)) = after.split_once('"') else {
            break;
        };
        labels.insert(name.trim_start_matches(',').to_owned(), value.to_owned());
        rest = next;
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_are_up_and_down_are_read_from_metrics() {
        let text = "\
# HELP metallb_bgp_session_up BGP session state
# TYPE metallb_bgp_session_up gauge
metallb_bgp_session_up{peer=\"10.0.0.1:179\"} 1
metallb_bgp_session_up{peer=\"[fd00::1]:179\"} 0
metallb_bgp_updates_total{peer=\"10.0.0.1:179\"} 3
metallb_speaker_announced{ip=\"192.0.2.1\",node=\"a\",protocol=\"bgp\",service=\"default/web\"} 1
";
        let samples = Samples::parse(text);
        let sessions = samples.sessions();
        assert_eq!(sessions.up, BTreeSet::from(["10.0.0.1:179".to_owned()]));
        assert_eq!(sessions.down, BTreeSet::from(["[fd00::1]:179".to_owned()]));
        let labels: Vec<_> = samples.of_metric("metallb_speaker_announced").collect();
        assert_eq!(labels.len(), 1);
        assert_eq!(labels[0]["service"], "default/web");
        assert_eq!(labels[0]["node"], "a");
    }
}
