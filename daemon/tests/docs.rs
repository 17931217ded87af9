//! Pages of docs/ and manifests that repeat contents of the code: generated with UPDATE_DOCS=1,
//! otherwise compared.

mod growth;
mod permissions;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use ferrolb::testing::{
    DaemonStatus, OWNER_TEXTS, Reason, crds, metallb_crds, metrics, render_metrics,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn check(page: &str, expected: &str) {
    let path = root().join("docs").join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).expect("docs/ can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/{page} is not what the code says: run UPDATE_DOCS=1 cargo test -p ferrolb --test docs"
    );
}

/// A page of which the part between two comments is generated.
fn check_part(page: &str, name: &str, part: &str) {
    let text = fs::read_to_string(root().join("docs").join(page)).expect("a page");
    let [begin, end] = ["begin", "end"].map(|what| format!("<!-- {name}: {what} -->\n"));
    let places = text
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = places.unwrap_or_else(|| panic!("docs/{page} has no comments {name}"));
    check(page, &format!("{before}{begin}\n{part}\n{end}{after}"));
}

#[test]
fn security_lists_the_permissions_of_the_manifest() {
    let manifest = root().join("deploy/manifests/2-rbac.yaml");
    let manifest = fs::read_to_string(manifest).expect("a manifest");
    let table = permissions::table(&manifest);
    assert!(table.lines().count() > 30, "{table}");
    check_part("security.md", "permissions", &table);
}

#[test]
fn scale_has_what_follows_from_the_measurements() {
    let measured = fs::read_to_string(root().join("docs/benchmarks.md")).expect("a page");
    for (name, part) in growth::parts(&measured) {
        check_part("scale.md", name, &part);
    }
}

/// The allocator's reasons with the first sentence of their documentation, read from their
/// definition.
fn allocation_reasons() -> Vec<(String, String)> {
    let source =
        fs::read_to_string(root().join("allocator/src/reason.rs")).expect("the allocator's source");
    let codes = source.lines().filter_map(|line| {
        let (variant, code) = line.trim().strip_prefix("Self::")?.split_once("=> \"")?;
        let variant = variant.split([' ', '{']).next()?;
        Some((variant.to_owned(), code.trim_end_matches("\",").to_owned()))
    });
    codes
        .map(|(variant, code)| {
            let (before, _) = source
                .split_once(&format!("\n    {variant}"))
                .unwrap_or_else(|| panic!("no variant {variant}"));
            let (_, doc) = before
                .rsplit_once("\n    /// ")
                .expect("a documented variant");
            (code, doc.lines().next().unwrap_or_default().to_owned())
        })
        .collect()
}

#[test]
fn reasons() {
    let mut page = String::from(
        "# Reason codes\n\nA code says why something is not announced, or gets no address. \
         `ferrolb explain` and `ferrolb plan` print it\nwith the object that causes it and a \
         remedy; `ferrolb status`, the condition `ferrolb.io/Announced` of a Service\nand metrics \
         name it. From the symptom to the command: \
         [troubleshooting.md](troubleshooting.md).\n\n\
         This page is generated from `daemon/src/core/decide/reason.rs`, \
         `allocator/src/reason.rs` and\n`daemon/src/core/decide/owner_reason.rs`.\n\n\
         ## Whether a node announces a service, and why not\n\n\
         `AddressConflict` of layer 2 is another reason: see the last table.\n\n\
         | code | it means | what to do |\n|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let (code, meaning) = (reason.code(), reason.meaning().trim());
        writeln!(page, "| `{code}` | {meaning} | {} |", reason.remedy()).expect("a string");
    }
    page.push_str(
        "\n## Why a service gets no address, or another one\n\n| code | it means |\n|---|---|\n",
    );
    let allocation = allocation_reasons();
    assert!(
        allocation.len() > 10,
        "the allocator's reasons were not found"
    );
    for (code, meaning) in allocation {
        writeln!(page, "| `{code}` | {meaning} |").expect("a string");
    }
    page.push_str(
        "\n## Which node owns an address by layer 2, and why\n\n`ferrolb l2` prints them in words, \
         and as codes with `-o json`. \
         `AddressConflict` concerns a host outside of the\ncluster; in the first table it concerns \
         two Services.\n\n| code | it means | what to do |\n|---|---|---|\n",
    );
    for owner in OWNER_TEXTS {
        let (code, meaning) = (owner.code, owner.meaning.trim());
        let remedy = owner.remedy.unwrap_or("none needed");
        writeln!(page, "| `{code}` | {meaning} | {remedy} |").expect("a string");
    }
    check("reasons.md", &page);
}

#[test]
fn metric_names() {
    let described = metrics().expect("metrics that the prometheus crate takes");
    let mut page = String::from(
        "# Metrics\n\nferrolb serves its metrics on `--metrics-addr` under `/metrics`. Names and \
         labels are those of MetalLB where it has\nthem.\n\n\
         The label `peer` is the router's address and port. If several BGPPeers have the same \
         router, with different source\naddresses, `@` and the name of the BGPPeer follow: \
         `10.0.0.1:179@tor-a`. A dynamic neighbor has no port.\n\n\
         The metrics of layer 2 (`metallb_layer2_…`, `ferrolb_layer2_…`) are those of processes \
         with `--role=layer2` or `all`,\nwhile there is an L2Advertisement. `ip` is an address of \
         a service. The counters of an address start at 0 each time the\nnode begins to announce \
         it.\n\n\
         This page is generated from `daemon/src/runtime/serve/metrics`.\n\n\
         | name | type | labels | help |\n|---|---|---|---|\n",
    );
    for metric in described {
        let labels = metric.labels.join(", ");
        writeln!(
            page,
            "| `{}` | {} | {labels} | {} |",
            metric.name, metric.kind, metric.help
        )
        .expect("a string");
    }
    check("metrics.md", &page);
}

#[test]
fn from_metallb_lists_the_values_of_helm_without_effect() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file");
    let values = read("deploy/helm/ferrolb/no-effect.yaml");
    let values: BTreeMap<String, String> = serde_saphyr::from_str(&values).expect("YAML");
    let page = read("docs/from-metallb.md");
    let mut found = BTreeMap::new();
    let (_, table) = page
        .split_once("| value without effect |")
        .expect("a table");
    for row in table.lines().skip(2).take_while(|line| !line.is_empty()) {
        let mut cells = row.trim_matches('|').split(" | ").map(str::trim);
        let (value, reason) = (
            cells.next().expect("a value"),
            cells.next().expect("a reason"),
        );
        for value in value.split(", ") {
            found.insert(value.trim_matches('`').to_owned(), reason.to_owned());
        }
    }
    assert_eq!(
        found, values,
        "docs/from-metallb.md and deploy/helm/ferrolb/no-effect.yaml"
    );
}

/// A value of the chart: its path, its default (none for a map with entries), and its comment.
type HelmValue = (String, Option<String>, String);

/// The values in values.yaml. A comment belongs to the key below it.
fn helm_values(text: &str) -> Vec<HelmValue> {
    let mut values = Vec::new();
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        if let Some(words) = trimmed.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let Some((key, default)) = trimmed.split_once(':') else {
            // The comment above an empty line is about the file.
            comment.clear();
            continue;
        };
        let indent = line.len() - trimmed.len();
        parents.retain(|(other, _)| *other < indent);
        let path = parents.iter().map(|(_, parent)| *parent).chain([key]);
        let path = path.collect::<Vec<_>>().join(".");
        let default = default.trim();
        let is_parent = default.is_empty();
        if is_parent {
            parents.push((indent, key));
        }
        let comment = std::mem::take(&mut comment).join(" ");
        values.push((path, (!is_parent).then(|| default.to_owned()), comment));
    }
    values
}

#[test]
fn the_readme_of_the_chart_has_its_values() {
    let path = root().join("deploy/helm/ferrolb/values.yaml");
    let text = fs::read_to_string(path).expect("values");
    let values = helm_values(&text);
    let parsed: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert!(values.len() > 80, "{values:?}");
    for (path, default, _) in &values {
        let value = parsed.pointer(&format!("/{}", path.replace('.', "/")));
        let value = value.unwrap_or_else(|| panic!("no {path}"));
        match default {
            Some(default) => {
                let default: Value = serde_saphyr::from_str(default).expect("YAML");
                assert_eq!(*value, default, "{path}");
            }
            None => assert!(value.is_object(), "{path}"),
        }
    }
    let mut page = String::from(
        "# Helm chart of ferrolb\n\n\
         Addresses for Services of type LoadBalancer, announced by BGP, ARP and Neighbor \
         Discovery.\n\n    \
         helm install ferrolb deploy/helm/ferrolb --namespace metallb-system --create-namespace \
         \\\n      --set image.repository=REGISTRY/ferrolb --set image.tag=TAG\n\n\
         [from-metallb.md](../../../docs/from-metallb.md#helm-values) compares the values with \
         those of MetalLB's chart.\n`helm install` lists those of your values that have no \
         effect. `helm uninstall` keeps the CRDs.\n\n\
         ## Values\n\n\
         This page is generated from values.yaml: \
         `UPDATE_DOCS=1 cargo test -p ferrolb --test docs`.\n\n\
         | value | default | meaning |\n|---|---|---|\n",
    );
    for (path, default, comment) in &values {
        let default = default.as_ref().map(|default| format!("`{default}`"));
        // A map without a comment is clear from its entries.
        if default.is_none() && comment.is_empty() {
            continue;
        }
        let default = default.unwrap_or_default();
        let row = format!("| `{path}` | {default} | {comment} |");
        writeln!(page, "{}", row.replace("  ", " ")).expect("a string");
    }
    check("../deploy/helm/ferrolb/README.md", &page);
}

/// The second file has the manifests that `deploy/manifests/kustomization.yaml` names, in its
/// order, with the CRDs of the first one.
#[test]
fn the_crds_and_the_file_with_all_manifests_are_current() {
    let yaml = crds().expect("YAML");
    check("../deploy/manifests/0-crds.yaml", &yaml);
    check(
        "../deploy/metallb-crds.yaml",
        &metallb_crds().expect("YAML"),
    );
    let folder = root().join("deploy/manifests");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a manifest");
    let base: Value = serde_saphyr::from_str(&read("kustomization.yaml")).expect("YAML");
    let names = base["resources"].as_array().expect("resources").iter();
    let manifests: Vec<String> = names
        .map(|name| read(name.as_str().expect("a name")))
        .collect();
    let header =
        "# Generated from deploy/manifests: UPDATE_DOCS=1 cargo test -p ferrolb --test docs";
    check(
        "../deploy/ferrolb.yaml",
        &format!("{header}\n{}", manifests.join("---\n")),
    );
}

#[test]
fn a_scrape_without_any_state_is_valid() {
    let text =
        render_metrics(&DaemonStatus::default(), "node-a", &[], None, None).expect("metrics");
    let text = String::from_utf8(text).expect("text");
    assert!(
        text.contains("metallb_k8s_client_config_loaded_bool 0"),
        "{text}"
    );
}
