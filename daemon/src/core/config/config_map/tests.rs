//! The rules of MetalLB 0.12.1 and of its converter.

use serde_json::{Value as Json, json};

use super::names::Named;
use super::*;

/// MetalLB 0.12.1's example configuration, with the key that its parser reads, and every other key.
const ALL_KEYS: &str = "\
peers:
- peer-address: 10.0.0.1
  peer-asn: 64501
  my-asn: 64500
  source-address: 10.0.0.11
  peer-port: 1179
  hold-time: 120s
  keepalive-time: 40s
  router-id: 10.0.0.11
  password: \"yourPassword\"
  bfd-profile: fast
  ebgp-multihop: yes
  node-selectors:
  - match-labels:
      rack: frontend
      size: 12
    match-expressions:
    - key: network-speed
      operator: NotIn
      values: [slow]
bgp-communities:
  vpn-only: 1234:1
  NO_ADVERTISE: 65535:65282
bfd-profiles:
- name: fast
  receive-interval: 50
  transmit-interval: 60
  detect-multiplier: 4
  echo-interval: 70
  echo-mode: false
  passive-mode: true
  minimum-ttl: 250
address-pools:
- name: my-ip-space
  protocol: bgp
  addresses:
  - 198.51.100.0/24
  - 192.168.0.150 - 192.168.0.200
  avoid-buggy-ips: true
  auto-assign: false
  bgp-advertisements:
  - aggregation-length: 32
    localpref: 100
    communities:
    - vpn-only
  - aggregation-length: 27
    aggregation-length-v6: 64
    communities: [NO_ADVERTISE, 64512:7]
- name: lan
  protocol: layer2
  addresses: [10.9.0.0/28]
";

fn objects(text: &str) -> Vec<Object> {
    convert(text, "metallb-system").unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"))
}

/// The names, with the specs.
fn specs(text: &str) -> Vec<(String, Json)> {
    let objects = objects(text).into_iter();
    let spec = |object: Object| {
        let spec = object.raw.body.get("spec").cloned();
        (object.key.name.name, spec.unwrap_or_default())
    };
    objects.map(spec).collect()
}

/// The mistakes, each with its line.
fn mistakes(text: &str) -> Vec<String> {
    let mistakes = convert(text, "metallb-system").expect_err(text);
    let shown = mistakes
        .iter()
        .map(|mistake| format!("{}: {mistake}", mistake.line));
    shown.collect()
}

/// A pool with further fields.
fn pool(fields: &str) -> String {
    format!("address-pools:\n- name: p\n  addresses: [192.0.2.0/24]\n  {fields}\n")
}

/// A BGP pool and a peer with further fields.
fn peer(fields: &str) -> String {
    format!(
        "peers:\n- peer-address: 10.0.0.1\n  peer-asn: 64501\n  my-asn: 64500\n  {fields}\n{}",
        pool("protocol: bgp")
    )
}

#[test]
fn every_key_of_metallb_0_12_1_is_read() {
    insta::assert_yaml_snapshot!(specs(ALL_KEYS));
}

#[test]
fn an_unknown_key_refuses_the_document_and_the_nearest_one_is_named() {
    for (text, expected) in [
        (
            "adress-pools: []\n".to_owned(),
            "1: adress-pools: unknown field: write address-pools",
        ),
        // As in the example configuration of MetalLB 0.12, which its parser refused.
        (
            peer("bfdProfile: fast"),
            "5: peers[0].bfdProfile: unknown field: write bfd-profile",
        ),
        (
            peer("holdtime: 90s"),
            "5: peers[0].holdtime: unknown field: write hold-time",
        ),
        (
            pool("protocol: layer2\n  autoassign: true"),
            "5: address-pools[0].autoassign: unknown field: write auto-assign",
        ),
        (
            pool("protocol: bgp\n  bgp-advertisements:\n  - local-pref: 1"),
            "6: address-pools[0].bgp-advertisements[0].local-pref: unknown field: write localpref",
        ),
        (
            peer("node-selectors:\n  - matchlabels: {a: b}"),
            "6: peers[0].node-selectors[0].matchlabels: unknown field: write match-labels",
        ),
        (
            "bfd-profiles:\n- name: a\n  colour: red\n".to_owned(),
            "3: bfd-profiles[0].colour: unknown field: remove it; the fields here are name, \
             receive-interval, transmit-interval, detect-multiplier, echo-interval, echo-mode, \
             passive-mode, minimum-ttl",
        ),
    ] {
        assert_eq!(mistakes(&text), [expected], "{text}");
    }
}

#[test]
fn a_duplicate_key_refuses_the_document() {
    let text = pool("protocol: layer2\n  protocol: bgp");
    assert_eq!(
        mistakes(&text),
        ["5: protocol: is given twice, here and in line 4: remove one of them"]
    );
    let text = "address-pools: []\npeers: []\naddress-pools: []\n";
    assert_eq!(
        mistakes(text),
        ["3: address-pools: is given twice, here and in line 1: remove one of them"]
    );
}

#[test]
fn a_pool_without_a_known_protocol_is_refused() {
    assert_eq!(
        mistakes(&pool("auto-assign: true")),
        ["2: address-pools[0]: protocol is missing: write protocol: layer2, or protocol: bgp"]
    );
    assert_eq!(
        mistakes(&pool("protocol: ospf")),
        [
            "4: address-pools[0].protocol: \"ospf\" is not known: write protocol: layer2, or \
          protocol: bgp"
        ]
    );
}

#[test]
fn the_protocols_and_the_key_of_addresses_before_0_6_are_read() {
    let text = "address-pools:\n- {name: a, protocol: arp, cidr: [192.0.2.0/28]}\n\
                - {name: b, protocol: ndp, cidr: [\"2001:db8::/120\"]}\n";
    let specs = specs(text);
    assert_eq!(specs[0].1, json!({ "addresses": ["192.0.2.0/28"] }));
    assert_eq!(specs[2].0, "l2advertisement1");
    assert_eq!(specs[3].1, json!({ "ipAddressPools": ["b"] }));
    let both = pool("protocol: layer2\n  cidr: [192.0.2.0/24]");
    assert_eq!(
        mistakes(&both),
        [
            "5: address-pools[0].cidr: is the older name of addresses, which is given too: move \
             its entries there"
        ]
    );
}

#[test]
fn a_layer2_pool_with_bgp_advertisements_is_refused() {
    let text = pool("protocol: layer2\n  bgp-advertisements:\n  - localpref: 5");
    assert_eq!(
        mistakes(&text),
        [
            "5: address-pools[0].bgp-advertisements: has no effect in a pool with protocol: \
             layer2: remove it, or write protocol: bgp"
        ]
    );
}

#[test]
fn a_bgp_pool_without_advertisements_has_one_without_fields() {
    for ads in ["", "\n  bgp-advertisements:", "\n  bgp-advertisements: []"] {
        let specs = specs(&pool(&format!("protocol: bgp{ads}")));
        let ad = (
            "bgpadvertisement1".to_owned(),
            json!({ "ipAddressPools": ["p"] }),
        );
        assert_eq!(specs[1..], [ad], "{ads}");
    }
}

#[test]
fn an_empty_node_selector_selects_all_nodes() {
    let specs = specs(&peer("node-selectors:\n  - {}"));
    assert_eq!(specs[0].1["nodeSelectors"], json!([{}]));
    let text = peer("node-selectors:\n  - match-labels: {a: b}\n  - match-labels: {a: b}");
    let repeated = self::specs(&text);
    assert_eq!(
        repeated[0].1["nodeSelectors"],
        json!([{ "matchLabels": { "a": "b" } }]),
        "MetalLB's objects must not repeat a selector, the ConfigMap may"
    );
}

#[test]
fn objects_are_numbered_across_pools_in_the_order_of_metallbs_converter() {
    let text = "\
address-pools:
- {name: a, protocol: bgp, addresses: [192.0.2.0/28]}
- {name: b, protocol: layer2, addresses: [192.0.2.16/28]}
- name: c
  protocol: bgp
  addresses: [192.0.2.32/28]
  bgp-advertisements: [{localpref: 1}, {localpref: 2}]
- {name: d, protocol: layer2, addresses: [192.0.2.48/28]}
bfd-profiles: [{name: fast}]
bgp-communities: {z: \"1:1\", a: \"1:2\"}
peers:
- {peer-address: 10.0.0.1, peer-asn: 1, my-asn: 2}
- {peer-address: 10.0.0.2, peer-asn: 1, my-asn: 2}
";
    let specs = specs(text);
    let names: Vec<&str> = specs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "peer1",
            "peer2",
            "a",
            "b",
            "c",
            "d",
            "bgpadvertisement1",
            "bgpadvertisement2",
            "bgpadvertisement3",
            "l2advertisement1",
            "l2advertisement2",
            "fast",
            "communities"
        ]
    );
    let sorted = json!([{ "name": "a", "value": "1:2" }, { "name": "z", "value": "1:1" }]);
    assert_eq!(specs[12].1["communities"], sorted);
}

#[test]
fn the_hold_time_is_always_written_and_the_keepalive_time_if_it_is_given() {
    let peer_spec = |fields: &str| specs(&peer(fields)).swap_remove(0).1;
    let spec = peer_spec("");
    assert_eq!(spec["holdTime"], "1m30s");
    assert_eq!(spec.get("keepaliveTime"), None);
    assert_eq!(spec.get("peerPort"), None, "the API server adds 179");
    // A number is a text, as in MetalLB, and Go reads a 0 without a unit.
    let spec = peer_spec("hold-time: 0\n  keepalive-time: 0");
    assert_eq!(
        (&spec["holdTime"], &spec["keepaliveTime"]),
        (&json!("0s"), &json!("0s"))
    );
    let spec = peer_spec("hold-time: 180s\n  keepalive-time: 1m");
    assert_eq!(
        (&spec["holdTime"], &spec["keepaliveTime"]),
        (&json!("3m0s"), &json!("1m0s"))
    );
}

#[test]
fn the_namespace_is_that_of_the_config_map() {
    let objects = convert(ALL_KEYS, "elsewhere").expect("valid");
    for object in objects {
        assert_eq!(object.key.name.namespace, "elsewhere");
        assert_eq!(object.raw.metadata.namespace.as_deref(), Some("elsewhere"));
    }
}

/// The text of two pools and a profile with these names.
fn named(one: &str, other: &str, profile: &str) -> String {
    format!(
        "address-pools:\n- {{name: {one}, protocol: bgp, addresses: [192.0.2.0/28]}}\n\
         - {{name: {other}, protocol: layer2, addresses: [192.0.2.16/28]}}\n\
         bfd-profiles:\n- {{name: {profile}}}\npeers:\n\
         - {{peer-address: 10.0.0.1, peer-asn: 1, my-asn: 2, bfd-profile: {profile}}}\n"
    )
}

#[test]
fn names_that_kubernetes_refuses_are_converted_everywhere() {
    let objects = objects(&named("My_Pool", "2-lan", "_Fast_1"));
    let Named { objects, renamed } = kubernetes_names(objects).expect("names");
    let names: Vec<&str> = objects
        .iter()
        .map(|object| &*object.key.name.name)
        .collect();
    assert_eq!(
        names,
        [
            "peer1",
            "my-pool",
            "lan",
            "bgpadvertisement1",
            "l2advertisement1",
            "fast-1"
        ]
    );
    assert_eq!(objects[1].raw.metadata.name, "my-pool");
    let spec = |index: usize| objects[index].raw.body["spec"].clone();
    assert_eq!(spec(0)["bfdProfile"], "fast-1");
    assert_eq!(spec(3)["ipAddressPools"], json!(["my-pool"]));
    assert_eq!(spec(4)["ipAddressPools"], json!(["lan"]));
    let pairs = [("My_Pool", "my-pool"), ("2-lan", "lan")];
    assert_eq!(
        renamed,
        pairs.map(|(old, new)| (old.to_owned(), new.to_owned()))
    );
    // A valid name stays, and a long one is cut.
    let long = "a".repeat(70);
    let Named { objects, .. } =
        kubernetes_names(self::objects(&named("a-b", &long, "f1"))).expect("names");
    assert_eq!(objects[1].key.name.name, "a-b");
    assert_eq!(objects[2].key.name.name.len(), 63);
}

#[test]
fn a_name_that_can_not_be_converted_is_refused() {
    let refused = |one: &str, other: &str| {
        let mistakes = kubernetes_names(objects(&named(one, other, "f1"))).expect_err(one);
        mistakes[0].to_string()
    };
    assert_eq!(
        refused("\"123\"", "lan"),
        "address-pools[0].name: \"123\" can't become the name of a Kubernetes object: rename it, \
         with the letters a to z, digits and -"
    );
    assert!(refused("my pool", "lan").contains("\"my pool\" can't become"));
    assert_eq!(
        refused("A_b", "a-b"),
        "address-pools[1].name: \"a-b\" and \"A_b\" both become \"a-b\": rename one of them"
    );
}

#[test]
fn a_bad_value_names_its_line_what_was_found_and_what_is_expected() {
    let entry = |section: &str, fields: &str| format!("{section}:\n- {fields}\n");
    let ad = |fields: &str| {
        pool(&format!(
            "protocol: bgp\n  bgp-advertisements:\n  - {fields}"
        ))
    };
    let texts = [
        peer("hold-time: 2s"),
        peer("hold-time: soon"),
        peer("keepalive-time: 2m\n  hold-time: 90s"),
        peer("peer-port: \"179\""),
        peer("peer-port: 65536"),
        peer("peer-port: 20000"),
        peer("router-id: me"),
        peer("source-address: here"),
        peer("ebgp-multihop: maybe"),
        peer("ebgp-multihop: true").replace("64501", "64500"),
        peer("bfd-profile: fast"),
        peer("node-selectors: {a: b}"),
        peer("node-selectors:\n  - match-expressions:\n    - {key: a, operator: Near}"),
        entry("peers", "peer-asn: 1\n  peer-address: 10.0.0.1"),
        entry("peers", "my-asn: 1\n  peer-address: 10.0.0.1"),
        entry("peers", "my-asn: 1\n  peer-asn: 1"),
        entry("peers", "my-asn: 1\n  peer-asn: 1\n  peer-address: router"),
        ad("aggregation-length: 33"),
        ad("aggregation-length-v6: 129"),
        ad("localpref: -1"),
        ad("communities: [\"1:2\", nowhere]"),
        ad("communities: [\"1:2\", \"1:2\"]"),
        "bgp-communities: {a: \"1\"}\n".to_owned(),
        entry(
            "address-pools",
            "addresses: [192.0.2.0/24]\n  protocol: bgp",
        ),
        entry("bfd-profiles", "name: a\n  detect-multiplier: 1"),
        entry(
            "bfd-profiles",
            "name: a\n  receive-interval: 5\n  echo-mode: 1",
        ),
        entry("bfd-profiles", "receive-interval: 50"),
        "- a\n".to_owned(),
        "address-pools: none\n".to_owned(),
        "peers: [\n".to_owned(),
        "peers:\n\t- my-asn: 1\n".to_owned(),
    ];
    let reports = texts.map(|text| format!("{text}=> {}", mistakes(&text).join("\n=> ")));
    insta::assert_snapshot!(reports.join("\n\n"));
}

#[test]
fn addresses_must_be_valid_and_must_not_overlap() {
    let text = "address-pools:\n- name: a\n  protocol: layer2\n  addresses:\n  - 192.0.2.0/24\n  \
                - 192.0.2.9-192.0.2.1\n  - nonsense\n";
    let found = mistakes(text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("6: address-pools[0].addresses[1]: "),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("7: address-pools[0].addresses[2]: "),
        "{found:?}"
    );
    let overlap = "address-pools:\n- {name: a, protocol: layer2, addresses: [192.0.2.0/24]}\n\
                   - {name: b, protocol: bgp, addresses: [192.0.2.128/25]}\n";
    let found = mistakes(overlap);
    assert!(
        found.len() == 1 && found[0].starts_with("3: address-pools[1].addresses: "),
        "{found:?}"
    );
    assert!(found[0].contains("192.0.2.128"), "{found:?}");
    let none = "address-pools:\n- name: a\n  protocol: bgp\n";
    let found = mistakes(none);
    assert!(
        found[0].starts_with("2: address-pools[0].addresses: "),
        "{found:?}"
    );
}

#[test]
fn an_aggregate_must_not_exceed_its_pool() {
    let text = pool("protocol: bgp\n  bgp-advertisements:\n  - aggregation-length: 23");
    let found = mistakes(&text);
    assert!(
        found.len() == 1
            && found[0].starts_with(
                "6: address-pools[0].bgp-advertisements[0].aggregation-length: 23 is shorter"
            ),
        "{found:?}"
    );
}

#[test]
fn what_is_there_twice_is_refused_with_both_places() {
    let peers = "- {peer-address: 10.0.0.1, peer-asn: 1, my-asn: 2}\n";
    assert_eq!(
        mistakes(&format!("peers:\n{peers}{peers}")),
        ["3: peers[1]: is the same as peers[0] in line 2: remove or change one of them"]
    );
    let pools = "address-pools:\n- {name: a, protocol: bgp, addresses: [192.0.2.0/28]}\n\
                 - {name: a, protocol: layer2, addresses: [192.0.2.16/28]}\n";
    assert_eq!(
        mistakes(pools),
        [
            "3: address-pools[1]: has the same name as address-pools[0] in line 2: remove or \
             change one of them"
        ]
    );
    let ads = pool("protocol: bgp\n  bgp-advertisements:\n  - localpref: 1\n  - localpref: 1");
    assert_eq!(
        mistakes(&ads),
        ["7: address-pools[0].bgp-advertisements[1]: is the same as \
          address-pools[0].bgp-advertisements[0] in line 6: remove or change one of them"]
    );
    let profiles = "bfd-profiles:\n- name: a\n- name: a\n  receive-interval: 50\n";
    assert_eq!(
        mistakes(profiles),
        [
            "3: bfd-profiles[1]: has the same name as bfd-profiles[0] in line 2: remove or \
             change one of them"
        ]
    );
}

#[test]
fn an_empty_document_means_nothing_and_anchors_are_resolved() {
    for text in ["", "# nothing\n", "---\n", "peers:\naddress-pools:\n"] {
        assert!(objects(text).is_empty(), "{text:?}");
    }
    let text = "peers:\n- &one {peer-address: 10.0.0.1, peer-asn: 1, my-asn: 2}\n\
                - {<<: *one, peer-address: 10.0.0.2}\n";
    let specs = specs(text);
    assert_eq!(specs[1].1["peerAddress"], "10.0.0.2");
    assert_eq!(specs[1].1["myASN"], 2);
}

#[test]
fn aliases_that_repeat_too_much_are_refused() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, of) in ["b", "c", "d", "e", "f"]
        .iter()
        .zip(["a", "b", "c", "d", "e"])
    {
        let list = vec![format!("*{of}"); 10].join(", ");
        text += &format!("{name}: &{name} [{list}]\n");
    }
    assert!(mistakes(&text)[0].contains("repeats too much by aliases"));
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    assert_eq!(mistakes(&deep).len(), 1);
}

#[test]
fn fields_that_lost_their_indentation_are_one_mistake_with_what_was_meant() {
    let text = "\
peers:
- peer-address: 10.0.0.1
peer-asn: 64501
my-asn: 64500
address-pools:
- name: default
protocol: bgp
addresses:
- 192.168.10.0/24
";
    assert_eq!(
        mistakes(text),
        [
            "3: peer-asn: has lost its indentation: it belongs to an entry of peers in line 1, so \
          indent it further than the - of that entry (also my-asn in line 4, protocol in line 7, \
          addresses in line 8)"
        ]
    );
    let correction = correction(text).expect("a correction");
    assert_eq!(
        correction,
        "peers:\n- peer-address: 10.0.0.1\n  peer-asn: 64501\n  my-asn: 64500\naddress-pools:\n\
         - name: default\n  protocol: bgp\n  addresses:\n  - 192.168.10.0/24\n"
    );
}

#[test]
fn all_sections_can_be_indented_again() {
    let flat = |text: &str| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.join("\n")
    };
    let text = "\
peers:
- my-asn: 64500
  peer-asn: 64501
  peer-address: 10.0.0.1
  bfd-profile: fast
  node-selectors:
  - match-labels:
      kubernetes.io/hostname: node-1
      key: a
    match-expressions:
    - key: example.com/speed
      operator: NotIn
      values:
      - slow
      - slower
    - operator: Exists
      key: rack
  - match-expressions:
    - key: zone
      operator: In
      values: [a, b]
    match-labels:
      size: large
  hold-time: 30s
- my-asn: 64500
  peer-asn: 64502
  peer-address: 10.0.0.2
  node-selectors:
  - match-labels: {rack: b}
bgp-communities:
  vpn-only: 1234:1
bfd-profiles:
- name: fast
  receive-interval: 50
address-pools:
- name: a
  protocol: bgp
  addresses:
  - 198.51.100.0/24
  - 192.168.0.150-192.168.0.200
  bgp-advertisements:
  - aggregation-length: 32
    communities:
    - vpn-only
  - localpref: 7
    aggregation-length: 32
- name: b
  protocol: layer2
  addresses:
  - 10.0.0.0/28
";
    assert!(convert(&flat(text), "").is_err());
    assert_eq!(correction(&flat(text)).as_deref(), Some(text));
}

#[test]
fn a_correction_contains_no_password_and_is_valid() {
    let text = "peers:\n- my-asn: 1\npeer-asn: 2\npeer-address: 10.0.0.1\npassword: secret\n";
    let correction = correction(text).expect("a correction");
    assert!(!correction.contains("secret"), "{correction}");
    // Where only the indentation says what is meant, or a text would be invalid, there is none.
    for text in [
        "peers:\n- my-asn: 1\npeer-asn: 2\npeer-address: 10.0.0.1\nnode-selectors:\nrack: a\n",
        "peers:\n- my-asn: 1\npeer-asn: 0\npeer-address: 10.0.0.1\n",
        "nonsense\n",
    ] {
        assert_eq!(super::correction(text), None, "{text}");
    }
}

#[test]
fn no_error_contains_a_password() {
    for text in [
        peer("password: [geheim]"),
        peer("password: geheim\n  password: geheim"),
        peer("password: 'geheim"),
        peer("password: geheim\n  hold-time: 1s"),
    ] {
        let found = mistakes(&text).join("\n");
        assert!(!found.contains("geheim"), "{found}");
    }
}

#[test]
fn a_config_map_without_the_text_names_the_remedy() {
    let text = |data: Json| {
        let raw = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "config" }, "data": data
        });
        text_of(&RawObject::from_json(raw).expect("an object")).map(str::to_owned)
    };
    assert_eq!(text(json!({ "config": "peers:" })).as_deref(), Ok("peers:"));
    for (data, expected) in [
        (
            json!({ "confg": "" }),
            "data: there is no key config: write MetalLB's configuration under that key (rename \
             confg), or delete the ConfigMap",
        ),
        (
            Json::Null,
            "data: there is no key config: write MetalLB's configuration under that key, or \
             delete the ConfigMap",
        ),
        (
            json!({ "config": { "peers": [] } }),
            "data.config is not a text: write config: | and indent the lines below it",
        ),
        (
            json!({ "config": "", "peers": [], "address-pools": [] }),
            "data: address-pools, peers must be a part of the text of config: write config: | and \
             indent the lines below it",
        ),
    ] {
        assert_eq!(text(data), Err(expected.to_owned()));
    }
}
