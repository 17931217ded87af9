//! The table of permissions in docs/security.md, from `deploy/manifests/2-rbac.yaml`.

use std::fmt::Write;

use serde_json::Value;

/// A role with what its rules grant.
struct Role {
    name: String,
    /// None: in all namespaces.
    namespace: Option<String>,
    /// The ServiceAccount that it is bound to.
    account: Option<String>,
    rules: Vec<Value>,
}

/// The rows of all roles, by the account that has them.
pub(super) fn table(manifest: &str) -> String {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest).expect("YAML");
    let mut table = String::from(
        "| account | role | where | resources | only those named | verbs |\n\
         |---|---|---|---|---|---|\n",
    );
    for role in roles(&documents) {
        let account = role.account.as_deref().unwrap_or("–");
        let place = role.namespace.as_deref().unwrap_or("the whole cluster");
        for rule in &role.rules {
            let (resources, names, verbs) = (resources(rule), names(rule), words(&rule["verbs"]));
            let name = &role.name;
            writeln!(
                table,
                "| {account} | {name} | {place} | {resources} | {names} | {verbs} |"
            )
            .expect("a string");
        }
    }
    table
}

fn roles(documents: &[Value]) -> Vec<Role> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of_kind = |suffix: &'static str| {
        documents.iter().filter(move |document| {
            let kind = document["kind"].as_str().unwrap_or_default();
            kind == suffix || kind.strip_prefix("Cluster") == Some(suffix)
        })
    };
    let account = |role: &Value| {
        let mut bindings = of_kind("RoleBinding").filter(|binding| {
            let reference = &binding["roleRef"];
            reference["kind"] == role["kind"]
                && reference["name"] == role["metadata"]["name"]
                && binding["metadata"]["namespace"] == role["metadata"]["namespace"]
        });
        let binding = bindings.next()?;
        assert!(bindings.next().is_none(), "two bindings of {role}");
        assert_eq!(binding["subjects"].as_array().map(Vec::len), Some(1));
        text(&binding["subjects"][0]["name"])
    };
    let roles = of_kind("Role").map(|role| Role {
        name: text(&role["metadata"]["name"]).expect("a name"),
        namespace: text(&role["metadata"]["namespace"]),
        account: account(role),
        rules: role["rules"].as_array().cloned().expect("rules"),
    });
    roles.collect()
}

/// Resources with their API group; the core group has none.
fn resources(rule: &Value) -> String {
    let groups = rule["apiGroups"].as_array().expect("groups");
    let groups: Vec<&str> = groups.iter().filter_map(Value::as_str).collect();
    let resources = words(&rule["resources"]);
    match groups[..] {
        [""] => resources,
        _ => format!("{resources} of {}", groups.join(" and ")),
    }
}

fn names(rule: &Value) -> String {
    match &rule["resourceNames"] {
        Value::Null => String::new(),
        names => words(names),
    }
}

fn words(values: &Value) -> String {
    let values = values.as_array().expect("a list");
    let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
    values.join(", ")
}

#[test]
fn a_rule_has_its_account_its_namespace_and_its_names() {
    let manifest = "
kind: Role
metadata: {name: r, namespace: team}
rules:
  - {apiGroups: [''], resources: [secrets], resourceNames: [a, b], verbs: [list, watch]}
  - {apiGroups: [x.io, y.io], resources: [pools], verbs: [list]}
---
kind: RoleBinding
metadata: {name: r, namespace: team}
roleRef: {kind: Role, name: r}
subjects: [{kind: ServiceAccount, name: s, namespace: team}]
---
kind: ClusterRole
metadata: {name: r}
rules: [{apiGroups: [''], resources: [nodes], verbs: [list]}]
";
    let table = table(manifest);
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(
        rows,
        [
            "| s | r | team | secrets | a, b | list, watch |",
            "| s | r | team | pools of x.io and y.io |  | list |",
            "| – | r | the whole cluster | nodes |  | list |",
        ]
    );
}
