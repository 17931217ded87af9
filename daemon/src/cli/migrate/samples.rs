//! Metrics of a Pod, in the text format of Prometheus, read through the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::facts::{name, namespace_of};
use super::sessions::Routers;
use crate::runtime::source::kube::Cluster;

/// Metrics of MetalLB's speaker, and of ferrolb under the same names. In the FRR mode the sessions
/// are on another port than the rest, from another container.
const SESSION_UP: &str = "metallb_bgp_session_up";
const ANNOUNCED: &str = "metallb_speaker_announced";
/// Each speaker has metrics whose names begin with it, whatever it announces.
const OF_EACH_SPEAKER: &str = "metallb_k8s_client_";

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
    /// Asks a Pod on all of its ports for metrics. `None` if none answers.
    pub(super) async fn of(cluster: &Cluster, pod: &Value) -> Option<Self> {
        let mut all: Option<Self> = None;
        for port in metrics_ports(pod) {
            let answer = cluster.ask_pod(namespace_of(pod), name(pod), port, "/metrics");
            if let Some(text) = answer.await {
                let all = all.get_or_insert_default();
                all.0.extend(Self::parse(&text).0);
            }
        }
        all
    }

    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// The labels of what a speaker announces. `None` if the metrics are none of a speaker, so that
    /// they say nothing about it.
    pub(super) fn announced(&self) -> Option<impl Iterator<Item = &BTreeMap<String, String>>> {
        let mut samples = self.0.iter();
        if !samples
            .any(|sample| sample.metric == ANNOUNCED || sample.metric.starts_with(OF_EACH_SPEAKER))
        {
            return None;
        }
        let announced = self.0.iter().filter(|sample| sample.metric == ANNOUNCED);
        let announced = announced.filter(|sample| !sample.is_zero);
        Some(announced.map(|sample| &sample.labels))
    }

    /// The sessions. `None` if there is no series: the sessions are not known.
    pub(super) fn sessions(&self) -> Option<Routers> {
        let of_sessions = self.0.iter().filter(|sample| sample.metric == SESSION_UP);
        let sessions: Routers = of_sessions
            .map(|sample| {
                let peer = sample.labels.get("peer").map_or("", String::as_str);
                (router(peer), !sample.is_zero)
            })
            .collect();
        (!sessions.is_empty()).then_some(sessions)
    }
}

/// The address in `address:port`. FRR's exporter writes IPv6 without brackets, and something else
/// for unnumbered sessions, which stays as it is.
fn router(peer: &str) -> String {
    let address = peer.rsplit_once(':').map_or(peer, |(address, _)| address);
    let address = address.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or_else(|_| peer.to_owned(), |address| address.to_string())
}

/// The ports that a Pod's annotation and its containers name. MetalLB's FRR mode has two.
fn metrics_ports(pod: &Value) -> BTreeSet<u16> {
    let annotation = pod["metadata"]["annotations"]["prometheus.io/port"].as_str();
    let annotated = annotation.and_then(|port| port.parse().ok());
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let ports = containers.filter_map(|container| container["ports"].as_array());
    let named = ports.flatten().filter(|port| {
        let name = port["name"].as_str().unwrap_or_default();
        name.contains("monitoring") || name.contains("metrics")
    });
    let named = named.filter_map(|port| u16::try_from(port["containerPort"].as_u64()?).ok());
    annotated.into_iter().chain(named).collect()
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
    use serde_json::json;

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
        let sessions = samples.sessions().expect("sessions");
        let expected = [("10.0.0.1", true), ("fd00::1", false)];
        let expected = expected.map(|(router, up)| (router.to_owned(), up));
        assert_eq!(sessions, Routers::from(expected));
        let labels: Vec<_> = samples.announced().expect("of a speaker").collect();
        assert_eq!(labels.len(), 1);
        assert_eq!(labels[0]["service"], "default/web");
        assert_eq!(labels[0]["node"], "a");
    }

    /// Those of MetalLB 0.14.9 with METALLB_BGP_TYPE=frr: the speaker's port has no session.
    #[test]
    fn in_frr_mode_the_sessions_are_on_another_port_than_the_announcements() {
        let pod = json!({
            "metadata": {"annotations": {"prometheus.io/port": "7472"}},
            "spec": {"containers": [
                {"name": "speaker", "ports": [
                    {"name": "monitoring", "containerPort": 7472},
                    {"name": "memberlist-tcp", "containerPort": 7946},
                ]},
                {"name": "frr"},
                {"name": "frr-metrics", "ports": [{"name": "monitoring", "containerPort": 7473}]},
            ]},
        });
        assert_eq!(metrics_ports(&pod), BTreeSet::from([7472, 7473]));
        let speaker = Samples::parse(
            "\
# HELP metallb_bgp_session_up BGP session state
# TYPE metallb_bgp_session_up gauge
metallb_k8s_client_config_loaded_bool 1
",
        );
        assert_eq!(speaker.sessions(), None, "unknown, not none");
        assert_eq!(speaker.announced().map(Iterator::count), Some(0));

        let exporter = Samples::parse(
            "\
metallb_bgp_session_up{peer=\"10.0.0.1:179\",vrf=\"default\"} 1
metallb_bgp_session_up{peer=\"fd00::1:179\",vrf=\"default\"} 1
metallb_bgp_session_up{peer=\"<nil>:179\",vrf=\"default\"} 0
",
        );
        assert!(exporter.announced().is_none(), "says nothing about it");
        let expected = [("10.0.0.1", true), ("fd00::1", true), ("<nil>:179", false)];
        let expected = expected.map(|(router, up)| (router.to_owned(), up));
        assert_eq!(exporter.sessions(), Some(Routers::from(expected)));
    }
}
