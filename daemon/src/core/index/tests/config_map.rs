//! MetalLB's ConfigMap beside other objects: what takes precedence, and what stays in effect.

use super::*;
use crate::core::api::CONFIG_MAP;
use crate::core::config::config_map::convert;
use crate::core::config::{Problem, Severity};
use ferrolb_bgp::config::Remote;

const TEXT: &str = "\
peers:
- peer-address: 10.0.0.9
  peer-asn: 64513
  my-asn: 64512
address-pools:
- name: pool-0
  protocol: bgp
  addresses:
  - 192.0.2.0/24
";

fn config_map(text: &str) -> Change {
    object(
        Kind::ConfigMap,
        CONFIG_MAP,
        json!({ "data": { "config": text } }),
    )
}

/// The objects besides the configuration.
fn others() -> Vec<Change> {
    let is_other = |change: &Change| !change.kind().is_configuration();
    initial().into_iter().filter(is_other).collect()
}

/// An index with a ConfigMap alone.
fn with(text: &str) -> Index {
    let mut changes = others();
    changes.push(config_map(text));
    index(changes)
}

/// The objects that the text means, as changes.
fn meant(text: &str) -> Vec<Change> {
    let objects = convert(text, CONFIG).expect("valid").into_iter();
    objects
        .map(|object| Change::Apply(object.key, object.raw))
        .collect()
}

fn problem(index: &Index) -> (Severity, String) {
    let problems = index.problems();
    let [
        Problem {
            object,
            severity,
            message,
        },
    ] = problems.as_slice()
    else {
        panic!("{problems:?}");
    };
    assert_eq!(object.to_string(), "ConfigMap metallb-system/config");
    (*severity, message.clone())
}

#[test]
fn a_config_map_has_the_effect_of_the_objects_that_it_means() {
    let index = with(TEXT);
    assert_eq!(routes(&index), ["peer1 192.0.2.1/32"]);
    assert_eq!(index.problems(), []);
    let pool = index.config().pools.get("pool-0").expect("the pool");
    assert!(pool.options().auto_assign && index.config().pools.complete());
    // The defaults of MetalLB.
    let session = &index.config().peers["peer1"].session;
    assert_eq!(session.timers.hold_time.as_secs(), 90);
    assert_eq!(session.remote, Remote::Router(([10, 0, 0, 9], 179).into()));
    let ad = &index.config().advertisements["bgpadvertisement1"];
    assert_eq!(
        (
            ad.aggregation_length,
            ad.aggregation_length_v6,
            ad.local_pref
        ),
        (32, 128, None)
    );
    assert!(ad.communities.is_empty() && ad.peers.is_empty());
    assert!(ad.selection.nodes.matches(&index.nodes()[NODE].labels));
}

#[test]
fn an_invalid_config_map_keeps_its_last_valid_meaning() {
    let mut index = with(TEXT);
    let before = routes(&index);
    index.apply(config_map(&TEXT.replace("my-asn: 64512", "my-asn: 0")));
    assert_eq!(routes(&index), before);
    let (severity, message) = problem(&index);
    assert_eq!(severity, Severity::Error);
    assert_eq!(
        message,
        "data.config line 4: peers[0].my-asn: is missing or 0: set our AS number (the last valid \
         configuration stays in effect)"
    );
    assert_eq!(index.rejected_peers(NODE).len(), 1);
    index.apply(Change::Delete(key(Kind::ConfigMap, CONFIG_MAP)));
    assert_eq!((routes(&index), index.problems()), (vec![], vec![]));
}

/// Otherwise the leader would clear the status of all Services.
#[test]
fn a_config_map_that_was_never_valid_releases_no_address() {
    let index = with("peers: none\n");
    assert!(!index.config().pools.complete());
    assert_eq!(problem(&index).0, Severity::Error);
}

#[test]
fn objects_take_precedence_and_the_config_map_is_named_as_ignored() {
    for object in [
        pool("other", "198.51.100.0/24"),
        pool("pool-0", "198.51.100.0/24"),
        peer("peer1", "10.0.0.9", 64599),
        ferrolb_peer("tor", "10.0.0.10"),
        advertisement("all", json!({})),
        layer2_advertisement("all", json!({}), false),
        layer2_advertisement("all", json!({}), true),
    ] {
        let name = format!("{object:?}");
        let is_pool = object.kind() == Kind::IpAddressPool;
        let mut index = with(TEXT);
        index.apply(object);
        assert_eq!(routes(&index), Vec::<String>::new(), "{name}");
        let (severity, message) = problem(&index);
        assert_eq!(severity, Severity::Notice, "{name}");
        assert!(
            message
                .starts_with("is ignored, because objects take precedence and the namespace has ")
                && message.contains("kubectl delete -n metallb-system configmap config"),
            "{message}"
        );
        // Services keep addresses until the namespace has a pool.
        assert_eq!(index.config().pools.complete(), is_pool, "{name}");
    }
}

#[test]
fn objects_of_other_namespaces_do_not_concern_the_config_map() {
    let mut index = with(TEXT);
    let Change::Apply(mut key, mut raw) = pool("other", "198.51.100.0/24") else {
        unreachable!()
    };
    key.name.namespace = "elsewhere".to_owned();
    raw.metadata.namespace = Some("elsewhere".to_owned());
    index.apply(Change::Apply(key, raw));
    assert_eq!(routes(&index), ["peer1 192.0.2.1/32"]);
    assert!(index.config().pools.get("other").is_some());
}

/// `kubectl apply` creates one object after the other.
#[test]
fn nothing_changes_while_the_config_map_is_replaced_by_the_objects_that_it_means() {
    let mut index = with(TEXT);
    let before = routes(&index);
    let objects = meant(TEXT);
    let count = objects.len();
    for (number, object) in objects.into_iter().enumerate() {
        index.apply(with_defaults(object));
        assert_eq!(routes(&index), before);
        let (severity, message) = problem(&index);
        assert_eq!(severity, Severity::Notice);
        let expected = if number + 1 == count {
            "is ignored, because the namespace has all objects that it means: delete it".to_owned()
        } else {
            format!("{} of the {count} objects that it means exist", number + 1)
        };
        assert!(message.starts_with(&expected), "{message}");
        assert!(index.config().pools.complete());
    }
    index.apply(Change::Delete(key(Kind::ConfigMap, CONFIG_MAP)));
    assert_eq!((routes(&index), index.problems()), (before, vec![]));
}

/// What the API server stores: with the defaults of MetalLB's CRDs.
fn with_defaults(change: Change) -> Change {
    let Change::Apply(key, mut raw) = change else {
        unreachable!()
    };
    let defaults = match key.kind {
        Kind::IpAddressPool => json!({ "autoAssign": true, "avoidBuggyIPs": false }),
        Kind::BgpPeer => json!({ "peerPort": 179, "disableMP": false }),
        Kind::BgpAdvertisement => json!({ "aggregationLength": 32, "aggregationLengthV6": 128 }),
        _ => json!({}),
    };
    for (name, value) in defaults.as_object().into_iter().flatten() {
        raw.body["spec"][name] = value.clone();
    }
    Change::Apply(key, raw)
}

#[test]
fn a_problem_of_a_converted_object_names_the_line_of_the_config_map() {
    let mut index = with(&TEXT.replace("192.0.2.0/24", "192.0.2.7/24"));
    let (severity, message) = problem(&index);
    assert_eq!(severity, Severity::Notice);
    assert!(
        message.starts_with(
            "data.config line 8: address-pools[0].addresses: 192.0.2.7/24 has host bits"
        ),
        "{message}"
    );
    // A conflict on a node.
    let twice = "- {peer-address: 10.0.0.9, peer-asn: 64513, my-asn: 64512, peer-port: 180}\n";
    let text = TEXT.replace("address-pools:", &format!("{twice}address-pools:"));
    index.apply(config_map(&text));
    let problems = index.problems();
    for problem in &problems {
        assert_eq!(problem.object.kind, Kind::ConfigMap, "{problem}");
    }
}

/// A cluster that still has MetalLB's ConfigMap may never have had a CRD.
#[test]
fn with_a_config_map_no_custom_resource_is_needed() {
    let mut index = with(TEXT);
    let absent: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| kind.is_custom())
        .collect();
    for kind in &absent {
        index.apply(Change::Absent(*kind, "apply the CRDs".to_owned()));
    }
    assert_eq!(index.problems(), []);
    assert_eq!(routes(&index), ["peer1 192.0.2.1/32"]);
    let config = index.config();
    let pool = config.pools.get("pool-0").expect("the pool");
    assert!(config.pools.complete() && !pool.options().frozen);
    assert!(index.is_synced(&absent) && index.is_listed(&absent));
    // Without it, a missing CRD is an error, and no Service loses its address.
    index.apply(Change::Delete(key(Kind::ConfigMap, CONFIG_MAP)));
    assert!(!index.is_listed(&[Kind::IpAddressPool]) && !index.config().pools.complete());
    let named = index
        .problems()
        .into_iter()
        .map(|problem| problem.to_string());
    let named: Vec<String> = named.collect();
    assert!(
        named
            .iter()
            .any(|problem| problem.starts_with("IPAddressPool *: can't be read")),
        "{named:?}"
    );
}

#[test]
fn a_config_map_that_can_not_be_read_releases_no_address() {
    let mut index = index(others());
    index.apply(Change::Unreadable(Kind::ConfigMap, "forbidden".to_owned()));
    assert!(!index.config().pools.complete());
    index.apply(Change::Reset(Kind::ConfigMap, Vec::new()));
    assert!(index.config().pools.complete());
}
