use serde_json::{Value, json};

use super::*;
use crate::core::api::{Kind, ObjectName};

fn parse_spec(spec: &Value, own: bool) -> Result<Layer2Advertisement, FieldError> {
    let kind = if own {
        Kind::FerrolbL2Advertisement
    } else {
        Kind::L2Advertisement
    };
    let object = ObjectKey::new(kind, ObjectName::new("metallb-system", "lan"));
    let shared: L2AdvertisementSpec = serde_json::from_value(spec.clone()).expect("a spec");
    let ferrolb: FerrolbL2AdvertisementSpec = serde_json::from_value(spec.clone()).expect("a spec");
    parse(&object, &shared, own.then_some(&ferrolb))
}

fn errors(spec: &Value) -> String {
    let parsed = parse_spec(spec, true);
    parsed.map_or_else(|error| error.to_string(), |_| String::new())
}

#[test]
fn an_empty_spec_selects_everything_with_the_defaults() {
    let ad = parse_spec(&json!({}), false).expect("valid");
    assert!(ad.selection.selects_pool("any", None));
    assert!(ad.selects_node(&Node::default()));
    assert!(ad.interfaces.is_empty() && ad.preferences.is_empty());
    assert!(ad.sticky && !ad.on_cordon);
    assert_eq!(ad.conflict_detection, ConflictDetection::Fast);
    assert_eq!((ad.hello_interval, ad.gratuitous_rate), (None, None));
}

#[test]
fn the_further_fields_of_ferrolbs_kind_are_read() {
    let spec = json!({
        "conflictDetection": "rfc5227", "gratuitousRate": 100, "sticky": false,
        "helloInterval": "250ms", "drain": { "onCordon": true },
        "loadBalancerClasses": ["example.com/other"]
    });
    let ad = parse_spec(&spec, true).expect("valid");
    assert!(!ad.sticky && ad.on_cordon);
    assert_eq!(ad.conflict_detection, ConflictDetection::Rfc5227);
    assert_eq!(ad.gratuitous_rate, Some(100));
    assert!(ad.selection.classes.accepts("example.com/other"));
    assert_eq!(ad.hello_interval, Some(Duration::from_millis(250)));
    let none = parse_spec(&json!({ "conflictDetection": "none" }), true).expect("valid");
    assert_eq!(none.conflict_detection, ConflictDetection::Off);
}

#[test]
fn weights_of_the_preferences_that_match_a_node_add_up() {
    let rack = |name: &str| json!({ "matchLabels": { "rack": name } });
    let ssd = json!({ "matchExpressions": [{ "key": "ssd", "operator": "Exists" }] });
    let spec = json!({ "preferredNodeSelectors": [
        { "weight": 10, "preference": rack("a") },
        { "weight": 5, "preference": ssd },
        { "weight": 1, "preference": {} },
    ] });
    let ad = parse_spec(&spec, false).expect("valid");
    let weight = |labels: &[(&str, &str)]| {
        let labels = labels.iter();
        let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ad.weight(&labels.collect())
    };
    assert_eq!(weight(&[("rack", "a"), ("ssd", "")]), 16);
    assert_eq!(weight(&[("rack", "b"), ("ssd", "")]), 6);
    assert_eq!(weight(&[]), 1);
}

#[test]
fn each_invalid_field_is_reported_with_its_remedy() {
    let spec = json!({
        "ipAddressPools": ["a", "a"],
        "interfaces": ["eth0", "", "an-interface-of-16", "eth 0"],
        "preferredNodeSelectors": [{ "weight": 0, "preference": {} }, { "weight": 101 }],
        "gratuitousRate": 0,
        "helloInterval": "20ms",
        "loadBalancerClasses": ["*"]
    });
    let text = errors(&spec);
    for expected in [
        "spec.ipAddressPools: lists \"a\" twice: remove one",
        "spec.interfaces[1]: is empty",
        "spec.interfaces[2]: \"an-interface-of-16\" has 18 octets, but interface names have at \
         most 15",
        "spec.interfaces[3]: \"eth 0\" is not the name of an interface",
        "spec.preferredNodeSelectors[0].weight: 0: use 1 to 100",
        "spec.preferredNodeSelectors[1].weight: 101: use 1 to 100",
        "spec.preferredNodeSelectors[1].preference: is missing",
        "spec.gratuitousRate: 0: use 1 to 100000 frames per second",
        "spec.helloInterval: 20ms: use 50ms to 10s",
        "spec.loadBalancerClasses[0]: \"*\" is no class",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(errors(&json!({ "helloInterval": "soon" })).contains("is not a duration"));
}
