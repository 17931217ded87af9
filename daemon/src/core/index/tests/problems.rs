//! Which problems are reported, and when they end.

use super::*;

#[test]
fn an_error_in_an_object_changes_only_the_problems() {
    let mut index = index(initial());
    let dirty = index.apply(service("service-0", "Nonsense", "192.0.2.1"));
    assert!(dirty.problems && dirty.services.is_empty());
    assert!(!dirty.is_empty());
    // The same error again changes nothing; its correction does.
    assert!(
        index
            .apply(service("service-0", "Nonsense", "192.0.2.1"))
            .is_empty()
    );
    assert!(
        index
            .apply(service("service-0", "Cluster", "192.0.2.1"))
            .problems
    );
    assert!(index.problems().is_empty());
}

#[test]
fn a_misspelled_annotation_of_a_node_is_a_problem_until_it_is_corrected() {
    let annotated = |key: &str| {
        let Change::Apply(object, mut raw) = node("node-0", json!({})) else {
            unreachable!()
        };
        raw.metadata.annotations.insert(key.into(), "2".into());
        Change::Apply(object, raw)
    };
    let mut index = Index::default();
    assert!(index.apply(annotated("ferrolb.io/wieght")).problems);
    let problem = index.problems()[0].to_string();
    assert!(
        problem.contains("did you mean ferrolb.io/weight?"),
        "{problem}"
    );
    assert!(index.apply(annotated("ferrolb.io/weight")).problems);
    assert!(index.problems().is_empty());
}

#[test]
fn an_invalid_weight_is_reported_and_ignored() {
    let mut index = index(initial());
    let dirty = index.apply(weighted_node(NODE, "banana"));
    assert!(dirty.problems && dirty.nodes.contains(NODE));
    let problems: Vec<String> = index
        .problems()
        .iter()
        .map(|p| format!("{}: {}", p.object, p.message))
        .collect();
    assert!(
        problems[0].starts_with("Node node-0: metadata.annotations[ferrolb.io/weight]: \"banana\""),
        "{problems:?}"
    );
    assert_eq!(routes(&index).len(), 2, "the rest of the node is valid");
    assert!(index.apply(weighted_node(NODE, "2")).problems);
    assert!(index.problems().is_empty());
}

#[test]
fn an_invalid_drain_annotation_is_reported_and_ignored() {
    let mut index = index(initial());
    let annotated = |text: &str| {
        let Change::Apply(key, mut raw) = service("service-0", "Cluster", "192.0.2.1") else {
            unreachable!()
        };
        let annotations = &mut raw.metadata.annotations;
        annotations.insert("ferrolb.io/drain".into(), text.into());
        Change::Apply(key, raw)
    };
    assert!(index.apply(annotated("soon")).problems);
    let problem = index.problems()[0].to_string();
    assert!(
        problem.starts_with(
            "Service default/service-0: metadata.annotations[ferrolb.io/drain]: \"soon\""
        ),
        "{problem}"
    );
    assert_eq!(routes(&index).len(), 2);
    assert!(index.apply(annotated("30s,on-cordon")).problems);
    assert!(index.problems().is_empty());
    let node_routes = NodeRoutes::of(&index, NODE);
    let key = node_routes.routes().keys().next().expect("a route");
    let drain = node_routes.drain(key);
    assert_eq!((drain.time.as_secs(), drain.on_cordon), (30, true));
}

#[test]
fn protocols_are_case_sensitive() {
    let mut index = Index::default();
    let spec = json!({ "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "tcp" }] });
    index.apply(object(Kind::Service, "service-0", json!({ "spec": spec })));
    let problems = index.problems();
    let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(
        messages,
        [r#"spec.ports[0].protocol: "tcp" is not TCP, UDP or SCTP"#]
    );
}

#[test]
fn a_password_that_ends_with_a_newline_gets_a_notice() {
    let mut index = Index::default();
    let secret = |password: &str| {
        let body =
            json!({ "type": "kubernetes.io/basic-auth", "stringData": { "password": password } });
        object(Kind::Secret, "tor", body)
    };
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1",
        "passwordSecret": { "name": "tor" }
    });
    index.apply(secret("right\n"));
    index.apply(object(Kind::BgpPeer, "tor", json!({ "spec": spec })));
    let problems = index.problems();
    let [problem] = problems.as_slice() else {
        panic!("one notice expected: {problems:?}");
    };
    assert!(
        problem.message.contains("ends with a newline"),
        "{problem:?}"
    );
    assert!(!problem.message.contains("right"), "{problem:?}");
    assert_eq!(index.config().peers.len(), 1, "the peer is valid");
    index.apply(secret("right"));
    assert!(index.problems().is_empty());
}

/// Passwords in a Secret, in a BGPPeer, and in the annotation that `kubectl apply` adds to both.
#[test]
fn no_debug_output_contains_a_password() {
    const PASSWORD: &str = "open-sesame";
    const ENCODED: &str = "b3Blbi1zZXNhbWU=";
    let objects = [
        (
            Kind::Secret,
            "encoded",
            json!({ "type": "kubernetes.io/basic-auth", "data": { "password": ENCODED } }),
        ),
        (
            Kind::Secret,
            "plain",
            json!({ "type": "kubernetes.io/basic-auth", "stringData": { "password": PASSWORD } }),
        ),
        (
            Kind::BgpPeer,
            "by-value",
            json!({ "spec": {
                "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1", "password": PASSWORD
            } }),
        ),
        (
            Kind::BgpPeer,
            "by-name",
            json!({ "spec": {
                "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.2",
                "passwordSecret": { "name": "encoded" }
            } }),
        ),
    ];
    let mut index = Index::default();
    let mut shown = String::new();
    for (kind, name, body) in objects {
        let Change::Apply(key, mut raw) = object(kind, name, body.clone()) else {
            panic!("an object is applied");
        };
        let applied = "kubectl.kubernetes.io/last-applied-configuration".to_owned();
        raw.metadata.annotations.insert(applied, body.to_string());
        shown += &format!("{raw:?}");
        let change = Change::Apply(key, raw);
        shown += &format!("{change:?}");
        index.apply(change);
    }
    shown += &format!("{index:?}{:?}", index.config());
    assert_eq!(index.problems(), []);
    let passwords = index
        .config()
        .peers
        .values()
        .map(|peer| &peer.session.transport.password);
    assert_eq!(passwords.flatten().count(), 2);
    assert!(shown.contains("last-applied-configuration") && shown.contains("by-value"));
    for password in [PASSWORD, ENCODED, &format!("{:?}", PASSWORD.as_bytes())] {
        assert!(!shown.contains(password), "{password} is in {shown}");
    }
}

/// The notices about an L2Advertisement among nodes of rack 1 and rack 2.
fn layer2_notices(spec: Value, missing: &[&str]) -> Vec<String> {
    let mut index = index(vec![
        pool("pool-0", "192.0.2.0/24"),
        node(NODE, json!({ "rack": "1" })),
        node("node-1", json!({ "rack": "2" })),
        layer2_advertisement("lan", spec, false),
    ]);
    let missing = missing.iter().map(|name| (*name).to_owned());
    index.set_missing_interfaces(NODE, missing.collect());
    let problems = index.problems();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn parts_of_an_l2_advertisement_without_effect_are_reported_by_name() {
    let rack = |name: &str| json!({ "matchLabels": { "rack": name } });
    let both = json!({
        "matchLabels": { "rack": "1" },
        "matchExpressions": [{ "key": "rack", "operator": "In", "values": ["2"] }]
    });
    let prefer = |preference: Value| json!([{ "weight": 1, "preference": preference }]);
    let name = "L2Advertisement metallb-system/lan: spec.";
    for (spec, missing, expected) in [
        (
            json!({ "ipAddressPools": ["none"] }),
            "",
            "ipAddressPools: there is no IPAddressPool none",
        ),
        (
            json!({ "nodeSelectors": [rack("3")] }),
            "",
            "nodeSelectors: select no node",
        ),
        (
            json!({ "preferredNodeSelectors": prefer(rack("3")) }),
            "",
            "preferredNodeSelectors[0].preference: selects no node",
        ),
        (
            json!({ "nodeSelectors": [rack("1")], "preferredNodeSelectors": prefer(rack("2")) }),
            "",
            "preferredNodeSelectors[0].preference: selects node node-1, but never applies",
        ),
        (
            json!({ "interfaces": ["eth0", "eth9"] }),
            "eth0 eth9",
            "interfaces: node node-0 has none of eth0, eth9",
        ),
        (
            json!({ "nodeSelectors": [rack("1"), both] }),
            "",
            "nodeSelectors: its conditions on the label rack exclude each other",
        ),
        (
            json!({ "preferredNodeSelectors": [
                { "weight": 1, "preference": rack("1") }, { "weight": 2, "preference": rack("1") }
            ] }),
            "",
            "preferredNodeSelectors[1]: prefers the same nodes as spec.preferredNodeSelectors[0]",
        ),
    ] {
        let missing: Vec<&str> = missing.split_whitespace().collect();
        let notices = layer2_notices(spec, &missing);
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(
            notices[0].starts_with(&format!("{name}{expected}")),
            "{notices:?}"
        );
    }
}

#[test]
fn a_node_needs_one_of_the_interfaces_of_an_l2_advertisement() {
    let names = json!({ "interfaces": ["eth0", "eth9"] });
    assert_eq!(layer2_notices(names.clone(), &["eth9"]), [""; 0]);
    assert_eq!(layer2_notices(names, &["eth0", "eth9"]).len(), 1);
    // The node is not selected.
    let rack = json!([{ "matchLabels": { "rack": "2" } }]);
    let elsewhere = json!({ "interfaces": ["eth9"], "nodeSelectors": rack });
    assert_eq!(layer2_notices(elsewhere, &["eth9"]), [""; 0]);
}

#[test]
fn of_two_l2_advertisements_with_one_name_the_older_one_is_used() {
    let index = index(vec![
        layer2_advertisement("lan", json!({ "interfaces": ["eth0"] }), false),
        layer2_advertisement("lan", json!({ "sticky": false }), true),
    ]);
    let problems: Vec<String> = index.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with(
            "L2Advertisement.ferrolb.io metallb-system/lan: metadata.name: is already used by \
             L2Advertisement metallb-system/lan"
        ),
        "{problems:?}"
    );
    assert!(index.config().layer2_advertisements["lan"].sticky);
}

#[test]
fn a_field_of_ferrolbs_l2_advertisement_in_metallbs_is_reported() {
    let index = index(vec![layer2_advertisement(
        "lan",
        json!({ "sticky": false }),
        false,
    )]);
    let problem = index.problems()[0].to_string();
    assert!(
        problem.contains("only ferrolb's L2Advertisement has this field: change apiVersion"),
        "{problem}"
    );
}

#[test]
fn an_invalid_l2_advertisement_keeps_its_last_good_value() {
    let mut index = index(vec![layer2_advertisement(
        "lan",
        json!({ "sticky": false }),
        true,
    )]);
    index.apply(layer2_advertisement(
        "lan",
        json!({ "helloInterval": "1ms" }),
        true,
    ));
    assert!(
        index.problems()[0]
            .to_string()
            .contains("spec.helloInterval: 1ms: use 50ms to 10s")
    );
    assert!(!index.config().layer2_advertisements["lan"].sticky);
    index.apply(Change::Delete(key(Kind::FerrolbL2Advertisement, "lan")));
    assert!(index.config().layer2_advertisements.is_empty() && index.problems().is_empty());
}

#[test]
fn clusters_without_the_crds_of_l2_advertisements_have_no_problem() {
    let mut index = index(initial());
    for kind in [Kind::L2Advertisement, Kind::FerrolbL2Advertisement] {
        index.apply(Change::Absent(kind, "no CRD".into()));
    }
    assert!(index.problems().is_empty(), "{:?}", index.problems());
}
