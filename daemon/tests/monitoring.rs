//! deploy/monitoring: alerts, dashboard and monitors use metrics, labels and ports that exist.
//! tests/prometheus.rs evaluates the expressions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ferrolb::testing::metrics;
use regex::Regex;
use serde_json::Value;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The documents of a YAML file, or the only one of a JSON file.
fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(deploy().join(file)).expect("shipped");
    let documents = text.split("\n---\n");
    documents
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}")))
        .collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The alert rules.
fn alerts() -> Vec<Value> {
    let file = documents("monitoring/alerts.yaml").swap_remove(0);
    let groups = list(&file, "groups").iter();
    groups
        .flat_map(|group| list(group, "rules"))
        .cloned()
        .collect()
}

/// Expression and legend of each query of the dashboard.
fn queries() -> Vec<(String, String)> {
    let dashboard = documents("monitoring/dashboard.json").swap_remove(0);
    let panels = list(&dashboard, "panels").iter();
    let targets = panels.flat_map(|panel| list(panel, "targets"));
    targets
        .map(|target| {
            let part = |key| text(target, key).to_owned();
            (part("expr"), part("legendFormat"))
        })
        .collect()
}

/// Labels that a scrape adds.
const OF_THE_TARGET: [&str; 3] = ["instance", "pod", "job"];

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a regular expression")
}

static METRIC: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(metallb|ferrolb)_\w+"));
static SELECTOR: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(\w+)\{([^}]*)\}"));
static MATCHER: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(\w+)=~?""#));
static LABELS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b(?:by|on|without|ignoring) \(([^)]*)\)"));
static SHOWN: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}"));

/// Metrics with their labels.
type Known = BTreeMap<String, Vec<String>>;

/// Each metric and label of an expression that doesn't exist. `legend` may name labels too.
fn unknown(known: &Known, expression: &str, legend: &str) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut labels: BTreeSet<&str> = OF_THE_TARGET.into();
    for found in METRIC.find_iter(expression) {
        match known.get(found.as_str()) {
            Some(of_metric) => labels.extend(of_metric.iter().map(String::as_str)),
            None => unknown.push(found.as_str().to_owned()),
        }
    }
    // In a selector, each label must be one of that metric.
    for found in SELECTOR.captures_iter(expression) {
        let of_metric = known.get(&found[1]).map_or(&[][..], Vec::as_slice);
        for label in MATCHER.captures_iter(&found[2]) {
            let label = &label[1];
            if !OF_THE_TARGET.contains(&label) && !of_metric.iter().any(|known| known == label) {
                unknown.push(format!("{}{{{label}}}", &found[1]));
            }
        }
    }
    let mut used: Vec<String> = Vec::new();
    for found in LABELS.captures_iter(expression) {
        used.extend(found[1].split(',').map(|name| name.trim().to_owned()));
    }
    used.extend(SHOWN.captures_iter(legend).map(|found| found[1].to_owned()));
    used.retain(|label| !label.is_empty() && !labels.contains(label.as_str()));
    unknown.extend(used);
    unknown
}

fn known() -> Known {
    let mut known = Known::new();
    for metric in metrics().expect("metrics") {
        if metric.kind != "histogram" {
            known.insert(metric.name, metric.labels);
            continue;
        }
        for suffix in ["sum", "count"] {
            known.insert(format!("{}_{suffix}", metric.name), metric.labels.clone());
        }
        let labels = [metric.labels, vec!["le".to_owned()]].concat();
        known.insert(format!("{}_bucket", metric.name), labels);
    }
    known
}

#[test]
fn every_metric_and_label_of_the_dashboard_exists() {
    let known = known();
    let queries = queries();
    assert!(queries.len() > 40, "{}", queries.len());
    for (expression, legend) in queries {
        let unknown = unknown(&known, &expression, &legend);
        assert!(unknown.is_empty(), "{unknown:?} in {expression} {legend}");
    }
}

#[test]
fn every_metric_and_label_of_the_alerts_exists() {
    let known = known();
    let alerts = alerts();
    assert!(alerts.len() > 15, "{}", alerts.len());
    for alert in alerts {
        let texts = alert["annotations"].to_string();
        let unknown = unknown(&known, text(&alert, "expr"), &texts);
        assert!(unknown.is_empty(), "{unknown:?} in {alert}");
    }
}

/// The checks above find what they are for.
#[test]
fn an_unknown_metric_or_label_is_found() {
    let known = known();
    for (expression, legend, expected) in [
        (
            "metallb_bgp_session_down == 1",
            "",
            "metallb_bgp_session_down",
        ),
        (
            r#"metallb_bgp_session_up{ip="a"}"#,
            "",
            "metallb_bgp_session_up{ip}",
        ),
        ("sum by (pool) (metallb_bgp_session_up)", "", "pool"),
        ("metallb_bgp_session_up", "{{ $labels.node }}", "node"),
        ("metallb_bgp_session_up", "{{peer}} {{node}}", "node"),
    ] {
        assert_eq!(unknown(&known, expression, legend), [expected]);
    }
}

#[test]
fn every_alert_says_how_severe_it_is_and_which_command_comes_next() {
    for alert in alerts() {
        let severity = text(&alert["labels"], "severity");
        assert!(matches!(severity, "warning" | "critical"), "{alert}");
        let summary = text(&alert["annotations"], "summary");
        assert!(summary.ends_with('.') && summary.len() < 100, "{alert}");
        let description = text(&alert["annotations"], "description");
        assert!(description.contains(" kubectl "), "{alert}");
    }
}

#[test]
fn metallbs_alert_names_are_kept() {
    let alerts = alerts();
    let names: Vec<&str> = alerts.iter().map(|alert| text(alert, "alert")).collect();
    for name in [
        "StaleConfig",
        "ConfigNotLoaded",
        "AddressPoolExhausted",
        "AddressPoolUsage75Percent",
        "AddressPoolUsage85Percent",
        "AddressPoolUsage95Percent",
        "BGPSessionDown",
    ] {
        assert!(names.contains(&&*format!("MetalLB{name}")), "{name}");
    }
}

/// tests/prometheus.rs runs these tests with promtool.
#[test]
fn each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() {
    let file = documents("monitoring/alerts_test.yaml").swap_remove(0);
    let groups = list(&file, "tests").iter();
    let tests: Vec<&Value> = groups
        .flat_map(|group| list(group, "promql_expr_test"))
        .collect();
    for alert in alerts() {
        let name = text(&alert, "alert");
        let expression = format!(r#"ALERTS{{alertname="{name}",alertstate="firing"}}"#);
        let of_alert = tests.iter().filter(|test| test["expr"] == *expression);
        let fires: BTreeSet<bool> = of_alert
            .map(|test| !list(test, "exp_samples").is_empty())
            .collect();
        assert_eq!(fires, [false, true].into(), "{name}");
    }
}

/// prometheusrule.yaml has the groups of alerts.yaml, indented.
#[test]
fn the_rules_for_the_operator_are_those_of_the_file() {
    let path = deploy().join("monitoring/prometheusrule.yaml");
    let rules = fs::read_to_string(deploy().join("monitoring/alerts.yaml")).expect("shipped");
    let (_, groups) = rules.split_once("\ngroups:\n").expect("groups");
    let indented = |line: &str| match line {
        "" => "\n".to_owned(),
        _ => format!("  {line}\n"),
    };
    let expected = format!(
        "# Generated from alerts.yaml: UPDATE_DOCS=1 cargo test -p ferrolb --test monitoring\n\
         apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: ferrolb\n  \
         namespace: metallb-system\n  labels: {{app.kubernetes.io/name: ferrolb}}\nspec:\n  \
         groups:\n{}",
        groups.lines().map(indented).collect::<String>()
    );
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).expect("deploy/ can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "prometheusrule.yaml is not alerts.yaml: run UPDATE_DOCS=1 cargo test -p ferrolb --test \
         monitoring"
    );
    let rule = documents("monitoring/prometheusrule.yaml").swap_remove(0);
    let source = documents("monitoring/alerts.yaml").swap_remove(0);
    assert_eq!(rule["spec"], source);
}

/// Component, labels and metrics port of each shipped workload.
fn workloads() -> Vec<(Value, u64)> {
    ["3-allocator", "4-announcer", "5-layer2"]
        .into_iter()
        .map(|file| {
            let objects = documents(&format!("manifests/{file}.yaml")).into_iter();
            let mut workloads = objects.filter(|object| !object["spec"]["template"].is_null());
            let workload = workloads.next().expect("a workload");
            let pod = &workload["spec"]["template"];
            let container = &pod["spec"]["containers"][0];
            let arguments = list(container, "args").iter().filter_map(Value::as_str);
            let port = arguments
                .filter_map(|argument| argument.strip_prefix("--metrics-addr=0.0.0.0:"))
                .find_map(|port| port.parse().ok());
            let labels = pod["metadata"]["labels"].clone();
            (labels, port.expect("a port for metrics"))
        })
        .collect()
}

/// Whether an object with these labels is selected.
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = list(selector, "matchExpressions").iter();
    equal.clone().all(|(key, value)| labels[key] == *value)
        && expressions.all(|expression| {
            assert_eq!(expression["operator"], "In");
            list(expression, "values").contains(&labels[text(expression, "key")])
        })
}

#[test]
fn one_pod_monitor_scrapes_each_process_at_its_port() {
    let monitors = documents("monitoring/podmonitor.yaml");
    for (labels, port) in workloads() {
        let selecting = monitors
            .iter()
            .filter(|monitor| selects(&monitor["spec"]["selector"], &labels));
        let [monitor] = selecting.collect::<Vec<_>>()[..] else {
            panic!("{labels}");
        };
        let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
        if labels["app.kubernetes.io/component"] == "layer2" {
            let addresses = list(endpoint, "relabelings").iter();
            let addresses: Vec<&str> = addresses.map(|rule| text(rule, "replacement")).collect();
            assert_eq!(addresses, [format!("$1:{port}"), format!("[$1]:{port}")]);
        } else {
            // The name of the container's port.
            assert_eq!((&endpoint["port"], port), (&"metrics".into(), 7472));
        }
    }
}

#[test]
fn the_service_monitor_scrapes_each_process_through_one_service() {
    let objects = documents("monitoring/servicemonitor.yaml");
    let (services, monitors): (Vec<Value>, Vec<Value>) = objects
        .into_iter()
        .partition(|object| object["kind"] == "Service");
    let [monitor] = &monitors[..] else {
        panic!("{monitors:?}");
    };
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], "metrics");
    for (labels, port) in workloads() {
        let mut selecting = services.iter().filter(|service| {
            let selector = service["spec"]["selector"].as_object();
            let mut selector = selector.into_iter().flatten();
            selects(&monitor["spec"]["selector"], &service["metadata"]["labels"])
                && selector.all(|(key, value)| labels[key] == *value)
        });
        let service = selecting.next().unwrap_or_else(|| panic!("{labels}"));
        assert_eq!(service["spec"]["ports"][0]["name"], "metrics");
        assert_eq!(service["spec"]["ports"][0]["port"], port);
        assert_eq!(selecting.next(), None);
    }
}
