//! The bill of materials in CycloneDX: the crates that the program is built from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Arch;
use crate::step::{cargo, output, root};

/// The bill of the programs of these architectures as JSON: a crate that only one of them needs is
/// listed. It depends on Cargo.lock and on the manifests only.
///
/// # Errors
/// When `cargo metadata` fails.
pub(super) fn bill(architectures: &[Arch]) -> Result<String> {
    let mut metadata = cargo(&["metadata", "--locked", "--format-version=1"]);
    // Crates for other systems are not part of the program.
    for arch in architectures {
        metadata.args(["--filter-platform", &arch.target()]);
    }
    let metadata: Value = serde_json::from_str(&output(&mut metadata)?)?;
    let lock = fs::read_to_string(root().join("Cargo.lock"))?;
    Ok(format!("{:#}\n", bill_of(&metadata, &checksums(&lock))?))
}

/// The SHA-256 of each package in Cargo.lock, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let packages = lock.split("[[package]]").skip(1);
    let fields = packages.map(|package| {
        let field = |name: &str| {
            let mut lines = package.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
            Some(value.trim_matches('"').to_owned())
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    });
    fields.flatten().collect()
}

fn bill_of(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Result<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let program = packages
        .iter()
        .find(|(_, package)| package["name"] == "ferrolb");
    let (program, _) = program.context("no package ferrolb")?;
    let mut used: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
    let mut pending = vec![program];
    while let Some(id) = pending.pop() {
        if used.contains_key(id) {
            continue;
        }
        let (id, node) = nodes.get_key_value(id).context("an unknown package")?;
        let needs = list(&node["deps"]).into_iter().filter(is_in_program);
        let needs: BTreeSet<String> = needs.map(|dep| text(&dep["pkg"])).collect();
        for need in &needs {
            pending.push(nodes.get_key_value(need).context("an unknown package")?.0);
        }
        used.insert(id, needs);
    }
    let component = |id: &String| component(&packages[id], checksums);
    let reference = |id: &String| purl(&packages[id]);
    let components = used.keys().filter(|id| **id != program);
    let components: Vec<Value> = components.map(|id| component(id)).collect();
    let dependencies = used.iter().map(|(id, needs)| {
        let needs: Vec<String> = needs.iter().map(reference).collect();
        json!({ "ref": reference(id), "dependsOn": needs })
    });
    let mut of_program = component(program);
    of_program["type"] = json!("application");
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": of_program },
        "components": components,
        "dependencies": dependencies.collect::<Vec<_>>(),
    }))
}

/// Whether a dependency is linked or expanded into the program: neither for tests nor for build
/// scripts only.
fn is_in_program(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds
        .into_iter()
        .flatten()
        .any(|kind| kind["kind"].is_null())
}

fn purl(package: &Value) -> String {
    let part = |name: &str| {
        package[name]
            .as_str()
            .unwrap_or_default()
            .replace('+', "%2B")
    };
    format!("pkg:cargo/{}@{}", part("name"), part("version"))
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let part = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
    let mut component = json!({
        "type": "library",
        "bom-ref": purl(package),
        "name": part("name"),
        "version": part("version"),
        "purl": purl(package),
    });
    let license = part("license");
    if !license.is_empty() {
        // The slash is cargo's older notation of OR.
        let expression = license.replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    if let Some(checksum) = checksums.get(&(part("name"), part("version"))) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, license: Value) -> Value {
        json!({ "id": name, "name": name, "version": "1.0.0+a", "license": license })
    }

    #[test]
    fn the_bill_has_what_the_program_needs_with_licenses_and_checksums() {
        let needs = |name: &str, kinds: &[Option<&str>]| {
            let kinds: Vec<Value> = kinds.iter().map(|kind| json!({ "kind": kind })).collect();
            json!({ "pkg": name, "dep_kinds": kinds })
        };
        let metadata = json!({
            "packages": [
                package("ferrolb", json!("Apache-2.0")), package("linked", json!("MIT/Apache-2.0")),
                package("below", Value::Null), package("test-only", json!("MIT")),
            ],
            "resolve": { "nodes": [
                { "id": "ferrolb", "deps": [
                    needs("linked", &[Some("dev"), None]), needs("test-only", &[Some("dev")]),
                ] },
                { "id": "linked", "deps": [
                    needs("below", &[None]), needs("test-only", &[Some("build")]),
                ] },
                { "id": "below", "deps": [] },
                { "id": "test-only", "deps": [] },
            ] },
        });
        let lock = "version = 4\n\n[[package]]\nname = \"linked\"\nversion = \"1.0.0+a\"\n\
            checksum = \"abc\"\n\n[[package]]\nname = \"below\"\nversion = \"1.0.0+a\"\n";
        let bill = bill_of(&metadata, &checksums(lock)).expect("a bill");
        assert_eq!(
            bill["components"],
            json!([
                { "type": "library", "bom-ref": "pkg:cargo/below@1.0.0%2Ba", "name": "below",
                  "version": "1.0.0+a", "purl": "pkg:cargo/below@1.0.0%2Ba" },
                { "type": "library", "bom-ref": "pkg:cargo/linked@1.0.0%2Ba", "name": "linked",
                  "version": "1.0.0+a", "purl": "pkg:cargo/linked@1.0.0%2Ba",
                  "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                  "hashes": [{ "alg": "SHA-256", "content": "abc" }] },
            ])
        );
        assert_eq!(bill["metadata"]["component"]["type"], "application");
        assert_eq!(
            bill["dependencies"][1]["dependsOn"],
            json!(["pkg:cargo/linked@1.0.0%2Ba"])
        );
    }

    /// The references of the components.
    fn crates(architectures: &[Arch]) -> BTreeSet<String> {
        let bill = bill(architectures).expect("a bill");
        let bill: Value = serde_json::from_str(&bill).expect("JSON");
        let components = bill["components"].as_array().expect("components").iter();
        let references = components.map(|component| component["bom-ref"].to_string());
        references.collect()
    }

    #[test]
    fn the_bill_has_the_crates_of_each_architecture() {
        let mut of_each = crates(&[Arch::Amd64]);
        of_each.extend(crates(&[Arch::Arm64]));
        assert_eq!(crates(&[Arch::Amd64, Arch::Arm64]), of_each);
    }

    #[test]
    fn every_crate_of_a_registry_has_its_checksum() {
        let bill = bill(&[Arch::Amd64, Arch::Arm64]).expect("a bill");
        let bill: Value = serde_json::from_str(&bill).expect("JSON");
        let components = bill["components"].as_array().expect("components");
        assert!(components.len() > 100, "{}", components.len());
        for component in components {
            let own = component["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("ferrolb-"));
            assert_ne!(own, component["hashes"].is_array(), "{component}");
            assert!(component["licenses"].is_array(), "{component}");
        }
    }
}
