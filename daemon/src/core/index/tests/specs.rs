//! The valid and invalid specs of `daemon/tests/specs`, which a lab test sends to a real API server
//! as well.

use super::*;
use crate::core::config::Severity;

/// The tables, with the kinds of ferrolb's group and of MetalLB's.
const TABLES: [(&str, Kind, Kind); 6] = [
    (
        include_str!("../../../../tests/specs/bgppeer.yaml"),
        Kind::FerrolbBgpPeer,
        Kind::BgpPeer,
    ),
    (
        include_str!("../../../../tests/specs/ipaddresspool.yaml"),
        Kind::FerrolbIpAddressPool,
        Kind::IpAddressPool,
    ),
    (
        include_str!("../../../../tests/specs/bgpadvertisement.yaml"),
        Kind::FerrolbBgpAdvertisement,
        Kind::BgpAdvertisement,
    ),
    (
        include_str!("../../../../tests/specs/l2advertisement.yaml"),
        Kind::FerrolbL2Advertisement,
        Kind::L2Advertisement,
    ),
    (
        include_str!("../../../../tests/specs/community.yaml"),
        Kind::FerrolbCommunity,
        Kind::Community,
    ),
    (
        include_str!("../../../../tests/specs/bfdprofile.yaml"),
        Kind::FerrolbBfdProfile,
        Kind::BfdProfile,
    ),
];

/// `base` with the fields of `more`. Null removes a field.
fn merged(base: &Value, more: &Value) -> Value {
    let mut spec = base.clone();
    let (Some(fields), Some(more)) = (spec.as_object_mut(), more.as_object()) else {
        panic!("{more} is no object")
    };
    for (field, value) in more {
        fields.insert(field.clone(), value.clone());
    }
    fields.retain(|_, value| !value.is_null());
    spec
}

/// The error of an object with this spec, beside the objects that the tables name.
fn error(kind: Kind, spec: &Value) -> Option<String> {
    let password = json!({ "type": "kubernetes.io/basic-auth", "data": { "password": "cHc=" } });
    let aliases = json!({ "communities": [{ "name": "near", "value": "64512:1" }] });
    let index = index(vec![
        Change::Reset(Kind::Secret, Vec::new()),
        object(Kind::Secret, "good", password),
        object(Kind::BfdProfile, "fast", json!({ "spec": {} })),
        object(Kind::Community, "names", json!({ "spec": aliases })),
        object(kind, "case", json!({ "spec": spec })),
    ]);
    let case = key(kind, "case");
    let mut problems = index.problems().into_iter();
    problems
        .find(|problem| problem.object == case && problem.severity == Severity::Error)
        .map(|problem| problem.message)
}

#[test]
fn each_spec_of_the_tables_is_accepted_or_refused_with_its_error() {
    let (mut wrong, mut accepted, mut refused) = (Vec::new(), 0, 0);
    for (text, own, metallbs) in TABLES {
        let table: Value = serde_saphyr::from_str(text).expect("YAML");
        let list = |name: &str| table[name].as_array().cloned().unwrap_or_default();
        for more in list("accepted") {
            accepted += 1;
            if let Some(error) = error(own, &merged(&table["base"], &more)) {
                wrong.push(format!("{own:?} {more}: {error}"));
            }
        }
        for case in list("refused") {
            refused += 1;
            let spec = merged(&table["base"], &case["spec"]);
            let expected = case["ferrolb"].as_str();
            assert_eq!(
                expected.is_none(),
                case["server_only"].is_string(),
                "{case}"
            );
            let is_metallbs = case["own"] != true;
            for kind in [Some(own), is_metallbs.then_some(metallbs)]
                .into_iter()
                .flatten()
            {
                let found = error(kind, &spec);
                let is_right = match (expected, &found) {
                    (Some(start), Some(found)) => found.starts_with(start),
                    (None, None) => true,
                    _ => false,
                };
                if !is_right {
                    wrong.push(format!(
                        "{kind:?} {}: {found:?}, not {expected:?}",
                        case["spec"]
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        accepted > 20 && refused > 100,
        "{accepted} and {refused} specs"
    );
}
