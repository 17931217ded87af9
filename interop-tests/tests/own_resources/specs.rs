//! Which specs the API server accepts, by the rules of the CRDs.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::kube::ControlPlane;
use ferrolb_interop_tests::manifest::NAMESPACE;
use ferrolb_interop_tests::scenario::Scratch;
use serde_json::{Value, json};

/// The specs that a test of the daemon gives to its parsers as well.
const TABLES: [&str; 6] = [
    include_str!("../../../daemon/tests/specs/bgppeer.yaml"),
    include_str!("../../../daemon/tests/specs/ipaddresspool.yaml"),
    include_str!("../../../daemon/tests/specs/bgpadvertisement.yaml"),
    include_str!("../../../daemon/tests/specs/l2advertisement.yaml"),
    include_str!("../../../daemon/tests/specs/community.yaml"),
    include_str!("../../../daemon/tests/specs/bfdprofile.yaml"),
];

/// `base` with the fields of `more`. Null removes a field.
fn merged(base: &Value, more: &Value) -> Result<Value> {
    let mut fields = base.as_object().context("base is no object")?.clone();
    for (field, value) in more.as_object().context("a spec is no object")? {
        fields.insert(field.clone(), value.clone());
    }
    fields.retain(|_, value| !value.is_null());
    Ok(Value::Object(fields))
}

/// What the API server answers to the creation of an object with each spec, as a dry run. None: it
/// accepts the object.
fn answers(
    cp: &ControlPlane<'_>,
    kind: &str,
    file: &Path,
    specs: &[Value],
) -> Result<Vec<Option<String>>> {
    let objects = specs.iter().enumerate().map(|(index, spec)| {
        let metadata = json!({ "name": format!("case-{index}"), "namespace": NAMESPACE });
        let object = json!({
            "apiVersion": "ferrolb.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec
        });
        object.to_string()
    });
    let objects: Vec<String> = objects.collect();
    std::fs::write(file, objects.join("\n---\n"))?;
    let file = file.to_str().context("the path is not UTF-8")?;
    let created = cp.kubectl(&["create", "--dry-run=server", "-f", file]);
    let text = match created {
        Ok(text) => text,
        Err(error) => format!("{error:#}"),
    };
    let answer = |index: usize| {
        let name = format!("case-{index}");
        if text.contains(&format!("/{name} created (server dry run)")) {
            return Ok(None);
        }
        let refused = text.split_once(&format!("\"{name}\" is invalid:"));
        let (_, rest) = refused.with_context(|| format!("no answer about {name}: {text}"))?;
        let end = rest.find("Error from server").unwrap_or(rest.len());
        Ok(Some(rest[..end].to_owned()))
    };
    (0..specs.len()).map(answer).collect()
}

/// The specs of a table to which the API server answers otherwise than the table says. It must say
/// of each that the API server accepts why it does.
fn mistakes(cp: &ControlPlane<'_>, table: &Value, file: &Path) -> Result<Vec<String>> {
    let kind = table["kind"].as_str().context("no kind")?;
    let list = |name: &str| table[name].as_array().context("no list");
    let (accepted, refused) = (list("accepted")?, list("refused")?);
    let specs = accepted
        .iter()
        .chain(refused.iter().map(|case| &case["spec"]));
    let specs: Result<Vec<Value>> = specs.map(|spec| merged(&table["base"], spec)).collect();
    let specs = specs?;
    let answers = answers(cp, kind, file, &specs)?;
    let expected = accepted.iter().map(|_| None);
    let expected = expected.chain(refused.iter().map(|case| case["server"].as_str()));
    let mut wrong = Vec::new();
    for ((spec, answer), expected) in specs.iter().zip(&answers).zip(expected) {
        let is_right = match (expected, answer) {
            (Some(part), Some(answer)) => answer.contains(part),
            (None, None) => true,
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{kind} {spec}: {answer:?}, not {expected:?}"));
        }
    }
    for case in refused {
        let is_explained = case["ferrolb_only"].is_string();
        ensure!(case["server"].is_null() == is_explained, "{kind} {case}");
    }
    Ok(wrong)
}

/// Checks that the API server answers to each spec as the tables say.
pub(crate) fn check(cp: &ControlPlane<'_>, scratch: &Scratch) -> Result<()> {
    let mut wrong = Vec::new();
    for text in TABLES {
        let table: Value = serde_saphyr::from_str(text)?;
        wrong.extend(mistakes(cp, &table, &scratch.file("specs.json"))?);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
