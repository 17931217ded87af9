//! What MetalLB's speakers, or ferrolb's Pods under the same names, announce.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use serde_json::Value;

use super::addresses::Addresses;
use super::announcement::Announced;
use super::facts::{Paths, is_metallb};
use super::samples::Samples;
use crate::runtime::source::kube::Cluster;

/// Objects in which speakers say what they announce: by layer 2 since MetalLB 0.14.2, by BGP since
/// 0.15.
const LAYER2_STATUSES: &str = "/apis/metallb.io/v1beta1/servicel2statuses";
const BGP_STATUSES: &str = "/apis/metallb.io/v1beta1/servicebgpstatuses";

/// What is known about the announcements of some Pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Survey {
    pub announced: BTreeSet<Announced>,
    /// The number of Pods that were asked.
    pub asked: usize,
    /// The nodes of those that do not answer, so that what they announce is not known.
    pub silent: BTreeSet<String>,
}

/// The objects in which speakers say what they announce. `None` if MetalLB has no such kind.
#[derive(Debug, Default)]
struct Statuses {
    bgp: Option<Vec<Value>>,
    layer2: Option<Vec<Value>>,
}

impl Survey {
    /// Asks MetalLB's speakers. For those that don't answer, it reads their objects.
    pub(super) async fn of_metallb(
        cluster: &Cluster,
        namespace: &str,
        addresses: &Addresses,
    ) -> Result<Self> {
        let is_speaker = |pod: &Value| is_metallb(pod, "speaker");
        let mut survey = Self::of_pods(cluster, namespace, is_speaker).await?;
        if !survey.silent.is_empty() {
            let statuses = Statuses {
                bgp: cluster.list_if_served(BGP_STATUSES).await?,
                layer2: cluster.list_if_served(LAYER2_STATUSES).await?,
            };
            survey.add(&statuses, addresses);
        }
        Ok(survey)
    }

    /// Asks Pods by their metrics.
    pub(super) async fn of_pods(
        cluster: &Cluster,
        namespace: &str,
        are_meant: impl Fn(&Value) -> bool,
    ) -> Result<Self> {
        let mut pods = cluster.list(&Paths::new(namespace).pods).await?;
        pods.retain(are_meant);
        let mut survey = Self::default();
        for pod in &pods {
            let samples = Samples::of(cluster, pod).await;
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            survey.take(node, samples.as_ref());
        }
        Ok(survey)
    }

    fn take(&mut self, node: &str, answer: Option<&Samples>) {
        self.asked += 1;
        match answer.and_then(Samples::announced) {
            Some(announced) => self.announced.extend(announced.filter_map(read)),
            None => _ = self.silent.insert(node.to_owned()),
        }
    }

    /// Takes from objects what silent speakers announce. With the objects of both protocols nothing
    /// is left unknown.
    fn add(&mut self, statuses: &Statuses, addresses: &Addresses) {
        let of_silent = |objects: &Option<Vec<Value>>| -> Vec<(String, IpAddr)> {
            let objects = objects.iter().flatten();
            let announced = objects.filter_map(|object| {
                let text = |field: &str| object["status"][field].as_str().unwrap_or_default();
                let node = text("node");
                let id = format!("{}/{}", text("serviceNamespace"), text("serviceName"));
                let addresses = addresses.get(&id).filter(|_| self.silent.contains(node))?;
                Some(addresses.iter().map(|address| (node.to_owned(), *address)))
            });
            announced.flatten().collect()
        };
        let bgp = of_silent(&statuses.bgp);
        let layer2 = of_silent(&statuses.layer2);
        let bgp = bgp.into_iter();
        self.announced
            .extend(bgp.map(|(node, address)| Announced::Bgp(address, node)));
        let layer2 = layer2.into_iter();
        self.announced
            .extend(layer2.map(|(_, address)| Announced::Layer2(address)));
        if statuses.bgp.is_some() && statuses.layer2.is_some() {
            self.silent.clear();
        }
    }

    /// Whether it would contain an announcement, if that was made.
    pub(super) fn covers(&self, announced: &Announced) -> bool {
        match announced {
            Announced::Bgp(_, node) => !self.silent.contains(node),
            Announced::Layer2(_) => self.silent.is_empty(),
        }
    }

    /// For people: what is not known. `None` if all is. `program` is for instance `speakers of
    /// MetalLB`.
    pub(super) fn gap(&self, program: &str) -> Option<String> {
        let silent: Vec<&str> = self.silent.iter().map(String::as_str).collect();
        (!silent.is_empty()).then(|| {
            format!(
                "{} of {} {program} do not answer: {}; what they announce is not compared",
                silent.len(),
                self.asked,
                silent.join(", ")
            )
        })
    }
}

/// What of before can be compared with now: not what silent Pods may announce, nor addresses that
/// no Service has any more.
pub(super) fn compared(
    before: &BTreeSet<Announced>,
    now: &Survey,
    addresses: &Addresses,
) -> BTreeSet<Announced> {
    let in_use: BTreeSet<&IpAddr> = addresses.values().flatten().collect();
    let known = before
        .iter()
        .filter(|announced| now.announced.contains(announced) || now.covers(announced));
    known
        .filter(|announced| in_use.contains(&announced.address()))
        .cloned()
        .collect()
}

/// What was announced before and is not now, with the Service and a command. `before` is what can
/// be [`compared`].
pub(super) fn missing_lines(
    before: &BTreeSet<Announced>,
    now: &Survey,
    addresses: &Addresses,
) -> Vec<String> {
    let missing = before.difference(&now.announced);
    let lines = missing.filter_map(|announced| {
        let mut services = addresses.iter();
        let (service, _) = services.find(|(_, found)| found.contains(&announced.address()))?;
        Some(format!(
            "{announced}, which MetalLB announced: ferrolb explain svc {service}"
        ))
    });
    lines.collect()
}

fn read(labels: &BTreeMap<String, String>) -> Option<Announced> {
    let address = labels.get("ip")?.parse().ok()?;
    match labels.get("protocol")?.as_str() {
        "bgp" => Some(Announced::Bgp(address, labels.get("node")?.clone())),
        _ => Some(Announced::Layer2(address)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ANSWER: &str = "metallb_speaker_announced{service=\"shop/web\",protocol=\"bgp\",\
                          node=\"a\",ip=\"192.0.2.1\"} 1\n";

    fn status(node: &str, service: &str) -> Value {
        json!({"status": {"node": node, "serviceNamespace": "shop", "serviceName": service}})
    }

    fn addresses() -> Addresses {
        let of = |name: &str, address: &str| {
            let addresses = address.parse().into_iter().collect();
            (format!("shop/{name}"), addresses)
        };
        [of("web", "192.0.2.1"), of("lan", "10.0.0.9")].into()
    }

    fn bgp(node: &str) -> Announced {
        Announced::Bgp([192, 0, 2, 1].into(), node.to_owned())
    }

    fn of_two_speakers() -> Survey {
        let mut survey = Survey::default();
        survey.take("a", Some(&Samples::parse(ANSWER)));
        survey.take("b", None);
        survey
    }

    #[test]
    fn a_speaker_that_does_not_answer_is_named_and_not_taken_for_one_without_announcements() {
        let survey = of_two_speakers();
        assert_eq!(survey.announced, BTreeSet::from([bgp("a")]));
        let gap = survey.gap("speakers of MetalLB").expect("b is silent");
        let expected =
            "1 of 2 speakers of MetalLB do not answer: b; what they announce is not compared";
        assert_eq!(gap, expected);
        assert!(survey.covers(&bgp("a")) && !survey.covers(&bgp("b")));
        assert!(!survey.covers(&Announced::Layer2([10, 0, 0, 9].into())));
    }

    #[test]
    fn an_answer_of_frrs_exporter_alone_says_nothing_about_announcements() {
        let mut survey = Survey::default();
        let exporter = Samples::parse("metallb_bgp_session_up{peer=\"10.0.0.1:179\"} 1\n");
        survey.take("a", Some(&exporter));
        assert_eq!(survey.silent, BTreeSet::from(["a".to_owned()]));
        let mut survey = Survey::default();
        let idle = Samples::parse("metallb_k8s_client_config_loaded_bool 1\n");
        survey.take("a", Some(&idle));
        assert_eq!(survey.gap("speakers"), None);
    }

    #[test]
    fn objects_say_what_a_silent_speaker_announces() {
        let mut survey = of_two_speakers();
        // Of a, only its metrics count.
        let statuses = Statuses {
            bgp: Some(vec![
                status("a", "lan"),
                status("b", "web"),
                status("b", "gone"),
            ]),
            layer2: Some(vec![status("b", "lan")]),
        };
        survey.add(&statuses, &addresses());
        let layer2 = Announced::Layer2([10, 0, 0, 9].into());
        assert_eq!(
            survey.announced,
            BTreeSet::from([bgp("a"), bgp("b"), layer2])
        );
        assert_eq!(survey.gap("speakers"), None);
    }

    /// MetalLB 0.14.
    #[test]
    fn objects_of_layer_2_alone_leave_a_gap() {
        let mut survey = of_two_speakers();
        let statuses = Statuses {
            bgp: None,
            layer2: Some(vec![status("b", "lan")]),
        };
        survey.add(&statuses, &addresses());
        let layer2 = Announced::Layer2([10, 0, 0, 9].into());
        assert!(survey.announced.contains(&layer2), "{survey:?}");
        assert!(survey.gap("speakers").is_some());
    }

    #[test]
    fn what_metallb_announced_and_ferrolb_does_not_is_missing_while_a_service_has_the_address() {
        let layer2 = Announced::Layer2([10, 0, 0, 9].into());
        let deleted = Announced::Layer2([10, 0, 0, 1].into());
        let before = BTreeSet::from([bgp("a"), bgp("b"), bgp("c"), layer2, deleted]);
        // a announces, b is silent, c announces nothing.
        let mut now = of_two_speakers();
        now.take(
            "c",
            Some(&Samples::parse("metallb_k8s_client_updates_total 1\n")),
        );
        let compared = |now: &Survey| compared(&before, now, &addresses());
        let missing = |now: &Survey| missing_lines(&compared(now), now, &addresses());
        // Of a and c. What silent Pods announce is not counted as if they announced nothing.
        assert_eq!(compared(&now), BTreeSet::from([bgp("a"), bgp("c")]));
        let of_c = "192.0.2.1 by BGP from c, which MetalLB announced: ferrolb explain svc shop/web";
        assert_eq!(missing(&now), [of_c]);
        now.silent.clear();
        assert_eq!(missing(&now).len(), 3, "{:?}", missing(&now));
    }
}
