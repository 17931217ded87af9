use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::core::api::core::{ByteString, Endpoint, NodeStatus, ServiceSpec, ServiceStatus};
use crate::core::api::ferrolb::FerrolbBgpPeerSpec;
use crate::core::api::metallb::{
    BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec, IpAddressPoolSpec,
};

fn error<T: for<'de> Deserialize<'de> + std::fmt::Debug>(value: Value) -> String {
    read::<T>("spec", &value, &mut Vec::new())
        .into_result()
        .expect_err("an error")
        .to_string()
}

fn null_is_absent<T>(fields: &[&str])
where
    T: for<'de> Deserialize<'de> + Default + PartialEq + std::fmt::Debug,
{
    for field in fields {
        let mut unknown = Vec::new();
        let spec: T = read("spec", &json!({ *field: null }), &mut unknown)
            .into_result()
            .expect(field);
        assert_eq!(spec, T::default(), "{field}");
    }
}

#[test]
fn null_means_absent_in_each_field_of_a_resource() {
    null_is_absent::<BgpPeerSpec>(&[
        "myASN",
        "peerASN",
        "dynamicASN",
        "localASN",
        "peerAddress",
        "interface",
        "sourceAddress",
        "peerPort",
        "holdTime",
        "keepaliveTime",
        "connectTime",
        "routerID",
        "nodeSelectors",
        "password",
        "passwordSecret",
        "bfdProfile",
        "enableGracefulRestart",
        "ebgpMultiHop",
        "vrf",
        "dualStackAddressFamily",
        "disableMP",
    ]);
    null_is_absent::<FerrolbBgpPeerSpec>(&["drain", "linkBandwidth", "med", "passive", "prepend"]);
    null_is_absent::<IpAddressPoolSpec>(&["addresses", "autoAssign", "avoidBuggyIPs"]);
    null_is_absent::<BgpAdvertisementSpec>(&["localPref", "communities", "peers", "nodeSelectors"]);
    null_is_absent::<BfdProfileSpec>(&["receiveInterval", "passiveMode"]);
    null_is_absent::<CommunitySpec>(&["communities"]);
}

#[test]
fn null_means_absent_in_built_in_kinds_at_any_depth() {
    let spec = json!({
        "type": "LoadBalancer", "clusterIP": null, "clusterIPs": null, "selector": null,
        "loadBalancerIP": null, "externalTrafficPolicy": null,
        "ports": [{ "port": 80, "protocol": null, "name": null }],
    });
    let spec: ServiceSpec = read("spec", &spec, &mut Vec::new())
        .into_result()
        .expect("a Service");
    assert_eq!(spec.ports.len(), 1);
    let status = json!({ "loadBalancer": { "ingress": null } });
    let status: ServiceStatus = read("status", &status, &mut Vec::new())
        .into_result()
        .expect("a status");
    assert!(status.load_balancer.ingress.is_empty());
    let status = json!({ "addresses": null, "conditions": [{ "type": "Ready", "message": null }] });
    let status: NodeStatus = read("status", &status, &mut Vec::new())
        .into_result()
        .expect("a Node");
    assert_eq!(status.conditions.len(), 1);
    let endpoint = json!({ "addresses": null, "conditions": null, "nodeName": null });
    let endpoint: Endpoint = read("endpoints", &endpoint, &mut Vec::new())
        .into_result()
        .expect("an endpoint");
    assert_eq!(endpoint.conditions.ready, None);
}

#[test]
fn an_error_names_field_value_and_what_to_write() {
    let cases = [
        (
            json!({ "holdTime": 90 }),
            "spec.holdTime: is the number 90, expected a duration: write \"90s\"",
        ),
        (
            json!({ "peerASN": "1.10" }),
            "from 0 to 4294967295: write 65546, which is AS 1.10",
        ),
        (
            json!({ "peerASN": 1.1 }),
            "write AS A.B as the number A × 65536 + B",
        ),
        (json!({ "peerASN": "64512" }), "write 64512 without quotes"),
        (
            json!({ "peerPort": 70000 }),
            "is the number 70000, expected a whole number from 0 to 65535",
        ),
        (
            json!({ "passwordSecret": "tor" }),
            "spec.passwordSecret: is a text, expected an object with the name of a Secret: write \
             {name: SECRET}",
        ),
        (
            json!({ "ebgpMultiHop": "yes" }),
            "is the text \"yes\", expected true or false, without quotes",
        ),
        (
            json!({ "nodeSelectors": [{ "matchLabels": { "rack": 1 } }] }),
            "spec.nodeSelectors[0].matchLabels.rack: is the number 1, expected a text: write it in",
        ),
        (
            json!("nothing"),
            "spec: is the text \"nothing\", expected an object with the fields myASN, ",
        ),
    ];
    for (spec, message) in cases {
        let error = error::<BgpPeerSpec>(spec);
        assert!(error.contains(message), "expected {message}\nin {error}");
    }
    let error = error::<FerrolbBgpPeerSpec>(json!({ "linkBandwidth": "off" }));
    assert_eq!(
        error,
        "spec.linkBandwidth: is the text \"off\", expected one of none, transitive, nonTransitive"
    );
}

#[test]
fn all_errors_of_an_object_are_reported_at_once_and_none_repeats_a_password() {
    let spec = json!({ "holdTime": 90, "peerPort": "bgp", "password": 12345, "myASN": 64512 });
    let error = error::<BgpPeerSpec>(spec);
    assert_eq!(error.matches("; ").count(), 2, "{error}");
    for field in [
        "spec.holdTime",
        "spec.peerPort",
        "spec.password: is a number, expected a text: write it in quotes",
    ] {
        assert!(error.contains(field), "expected {field} in {error}");
    }
    assert!(!error.contains("12345"), "{error}");
}

#[test]
fn an_error_repeats_neither_long_values_nor_control_characters() {
    let long = error::<BgpPeerSpec>(json!({ "peerPort": "x".repeat(100_000) }));
    assert!(long.len() < 300, "{}", long.len());
    let escape = error::<BgpPeerSpec>(json!({ "peerPort": "\u{1b}[31m" }));
    assert!(!escape.contains('\u{1b}'), "{escape}");
}

/// A password in each type of value.
fn passwords() -> [Value; 5] {
    [
        json!("hunter2"),
        json!(7_002_002),
        json!({ "a": "hunter2" }),
        json!(["hunter2", 7_002_002]),
        json!({ "name": { "hunter2": [7_002_002] } }),
    ]
}

fn repeats_password(error: &str) -> bool {
    error.contains("hunter2") || error.contains("7002002")
}

#[test]
fn an_error_about_a_password_names_the_kind_of_value_and_the_remedy() {
    let cases = [
        (
            json!({ "password": { "a": "hunter2" } }),
            "spec.password: is an object, expected a text",
        ),
        (
            json!({ "password": true }),
            "spec.password: is a boolean, expected a text: write it in quotes",
        ),
        (
            json!({ "passwordSecret": 7_002_002 }),
            "spec.passwordSecret: is a number, expected an object with the name of a Secret: write \
             {name: SECRET}",
        ),
        (
            json!({ "passwordSecret": { "name": 7_002_002 } }),
            "spec.passwordSecret.name: is a number, expected a text: write it in quotes",
        ),
        (
            json!([{ "Password": "hunter2" }]),
            "spec: is a list, expected an object with the fields myASN, ",
        ),
    ];
    for (spec, message) in cases {
        let error = error::<BgpPeerSpec>(spec);
        assert!(
            error.starts_with(message),
            "expected {message}\nat the start of {error}"
        );
        assert!(!repeats_password(&error), "{error}");
    }
}

#[test]
fn no_error_or_unknown_field_repeats_the_value_of_a_password() {
    let mut rejected = 0;
    let mut check = |path: &str, result: Result<(), FieldError>, unknown: &[String]| {
        if let Err(error) = result {
            rejected += 1;
            let error = error.to_string();
            assert!(!repeats_password(&error), "{path}: {error}");
        }
        assert!(!unknown.iter().any(|path| repeats_password(path)), "{path}");
    };
    for value in passwords() {
        for field in [
            "password",
            "passwordSecret",
            "PASSWORDS",
            "nodeSelectors",
            "peerPort",
        ] {
            let within = json!({ "password": value });
            for spec in [json!({ "password": value }), json!({ field: within })] {
                let mut unknown = Vec::new();
                let read = read::<BgpPeerSpec>("spec", &spec, &mut unknown);
                check(field, read.into_result().map(|_| ()), &unknown);
            }
        }
        let named = json!({ "passwordSecret": { "name": value } });
        let read_named = read::<BgpPeerSpec>("spec", &named, &mut Vec::new());
        check("name", read_named.into_result().map(|_| ()), &[]);
        for spec in [
            json!({ "passwordSecret": value }),
            json!([{ "password": value }]),
        ] {
            let read = read::<BgpPeerSpec>("spec", &spec, &mut Vec::new());
            check("spec", read.into_result().map(|_| ()), &[]);
        }
        for root in ["data", "stringData"] {
            for spec in [value.clone(), json!({ "key": value })] {
                let texts = read::<BTreeMap<String, String>>(root, &spec, &mut Vec::new());
                check(root, texts.into_result().map(|_| ()), &[]);
                let octets = read::<BTreeMap<String, ByteString>>(root, &spec, &mut Vec::new());
                check(root, octets.into_result().map(|_| ()), &[]);
            }
        }
    }
    assert!(rejected > 40, "only {rejected} values were rejected");
}
