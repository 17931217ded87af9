//! What undo and a later run need to know about a migration that has begun.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::addresses::Addresses;
use super::announcement::Announced;

/// The ConfigMap with what is needed to undo a migration.
pub(super) const RECORD: &str = "ferrolb-migration";
/// The key in its data.
pub(super) const RECORD_KEY: &str = "record";

/// Limit for the text of a record, in bytes. The API server takes 1 MiB for a whole ConfigMap, and
/// an object of etcd is limited as well.
const MAX_BYTES: usize = 700_000;

/// What a migration changes in ways that the cluster does not remember itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The validating webhooks of MetalLB.
    pub webhooks: Vec<Value>,
    /// How its CRDs convert versions.
    pub conversions: BTreeMap<String, Value>,
    /// Replicas of its controllers.
    pub replicas: BTreeMap<String, i64>,
    /// Update strategies of the DaemonSets of its speakers and of frr-k8s, by namespace and name.
    pub update_strategies: BTreeMap<String, Value>,
    /// Whether frr-k8s had its sessions.
    pub frr_k8s: bool,
    /// Nodes on which its speaker ran.
    pub nodes: BTreeSet<String>,
    /// The addresses of all Services when it began.
    #[serde(default)]
    pub addresses: Addresses,
    /// What MetalLB announced then, as far as it is known, and ferrolb will announce.
    #[serde(default, with = "groups")]
    pub announced: BTreeSet<Announced>,
    /// The BGPPeers, by node, that MetalLB did not reach when ferrolb replaced it there. Later runs
    /// don't wait for their sessions.
    #[serde(default)]
    pub unreached: BTreeMap<String, BTreeSet<String>>,
}

impl Record {
    /// Its text, and whether that lacks what was announced because it would be too long.
    pub(super) fn to_text(&self) -> Result<(String, bool)> {
        let text = serde_json::to_string(self)?;
        if text.len() <= MAX_BYTES {
            return Ok((text, false));
        }
        let short = Self {
            announced: BTreeSet::new(),
            ..self.clone()
        };
        let text = serde_json::to_string(&short)?;
        ensure!(
            text.len() <= MAX_BYTES,
            "the ConfigMap {RECORD} would have {} bytes, and may have {MAX_BYTES}: there are too \
             many Services for ferrolb migrate, move by hand: docs/from-metallb.md",
            text.len()
        );
        Ok((text, true))
    }
}

/// Announcements as text: addresses that the same nodes announce are one group.
mod groups {
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::IpAddr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Announced;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Bgp {
            addresses: BTreeSet<IpAddr>,
            nodes: BTreeSet<String>,
        },
        /// By layer 2, and in records of earlier versions also by BGP.
        One(Announced),
    }

    pub(super) fn serialize<S: Serializer>(
        announced: &BTreeSet<Announced>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut nodes: BTreeMap<IpAddr, BTreeSet<&String>> = BTreeMap::new();
        let mut entries = Vec::new();
        for one in announced {
            match one {
                Announced::Bgp(address, node) => {
                    _ = nodes.entry(*address).or_default().insert(node)
                }
                Announced::Layer2(_) => entries.push(Entry::One(one.clone())),
            }
        }
        let mut groups: BTreeMap<BTreeSet<&String>, BTreeSet<IpAddr>> = BTreeMap::new();
        for (address, nodes) in nodes {
            groups.entry(nodes).or_default().insert(address);
        }
        entries.extend(groups.into_iter().map(|(nodes, addresses)| Entry::Bgp {
            addresses,
            nodes: nodes.into_iter().cloned().collect(),
        }));
        entries.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<Announced>, D::Error> {
        let mut announced = BTreeSet::new();
        for entry in Vec::<Entry>::deserialize(deserializer)? {
            match entry {
                Entry::One(one) => _ = announced.insert(one),
                Entry::Bgp { addresses, nodes } => {
                    let of_node = |node: &String| {
                        let node = node.clone();
                        let addresses = addresses.iter();
                        addresses.map(move |address| Announced::Bgp(*address, node.clone()))
                    };
                    announced.extend(nodes.iter().flat_map(of_node));
                }
            }
        }
        Ok(announced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u32) -> impl Iterator<Item = std::net::IpAddr> {
        (0..count).map(|number| std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into())
    }

    #[test]
    fn addresses_that_the_same_nodes_announce_are_recorded_as_one_group() {
        let nodes: Vec<String> = (0..100).map(|node| format!("worker-{node}")).collect();
        let of_nodes = |address| {
            let nodes = nodes.iter();
            nodes.map(move |node| Announced::Bgp(address, node.clone()))
        };
        let mut record = Record {
            announced: addresses(1000).flat_map(of_nodes).collect(),
            ..Record::default()
        };
        record
            .announced
            .insert(Announced::Layer2([192, 0, 2, 1].into()));
        record
            .announced
            .insert(Announced::Bgp([192, 0, 2, 2].into(), "a".to_owned()));
        let (text, shortened) = record.to_text().expect("text");
        assert!(!shortened && text.len() < 20_000, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<Record>(&text).expect("read"), record);
        assert_eq!(record.announced.len(), 100_002);
    }

    #[test]
    fn announcements_of_an_earlier_version_are_read() {
        let mut record = serde_json::to_value(Record::default()).expect("JSON");
        record["announced"] =
            serde_json::json!([{"bgp": ["192.0.2.1", "a"]}, {"layer2": "10.0.0.9"}]);
        let record: Record = serde_json::from_value(record).expect("a record");
        let expected = [
            Announced::Bgp([192, 0, 2, 1].into(), "a".to_owned()),
            Announced::Layer2([10, 0, 0, 9].into()),
        ];
        assert_eq!(record.announced, BTreeSet::from(expected));
    }

    #[test]
    fn a_record_that_would_be_too_large_lacks_what_was_announced() {
        let mut record = Record {
            announced: addresses(40_000).map(Announced::Layer2).collect(),
            ..Record::default()
        };
        let (text, shortened) = record.to_text().expect("text");
        assert!(shortened && text.len() < 1000, "{} bytes", text.len());
        record.nodes = (0..100_000).map(|node| format!("node-{node}")).collect();
        let error = record.to_text().expect_err("too large").to_string();
        assert!(error.contains("ferrolb-migration"), "{error}");
    }
}
