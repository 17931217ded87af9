//! The ways to install ferrolb: one file, the overlays of kustomize, and the Helm chart. Every
//! object that they create is validated by the API server.

mod chart;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Nodes, deploy, manifests, packaged};
use ferrolb_interop_tests::manifest::{NAMESPACE, ferrolb_peer};
use ferrolb_interop_tests::process::{ferrolb, run};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use serde_json::{Value, json};

use chart::{RELEASE, chart, helm, leaves, read, render, value_sets, without};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Objects by kind and name.
type Objects = BTreeMap<(String, String), Value>;

/// The objects of a text with YAML documents.
fn objects(yaml: &str) -> Result<Objects> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    let mut objects = Objects::new();
    for object in documents.into_iter().filter(|object| !object.is_null()) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let kind = text(&object["kind"]).context("no kind")?;
        let name = text(&object["metadata"]["name"]).context("no name")?;
        let key = (kind, name);
        let twice = objects.insert(key.clone(), object);
        ensure!(twice.is_none(), "two objects {key:?}");
    }
    Ok(objects)
}

/// The objects of `deploy/ferrolb.yaml`.
fn one_file() -> Result<Objects> {
    objects(&fs::read_to_string(deploy().join("ferrolb.yaml"))?)
}

/// The objects of an overlay.
fn overlay(cp: &ControlPlane<'_>, name: &str) -> Result<Objects> {
    let folder = deploy().join("kustomize").join(name);
    objects(&cp.kubectl(&["kustomize", &folder.to_string_lossy()])?)
}

/// Fails with the first object that is only in one of both, or differs.
fn ensure_equal(left: &Objects, right: &Objects) -> Result<()> {
    let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    for key in keys {
        let (left, right) = (left.get(key), right.get(key));
        ensure!(left == right, "{key:?}:\n{left:#?}\n{right:#?}");
    }
    Ok(())
}

#[test]
fn one_file_kustomize_and_the_chart_install_the_same_objects() {
    scenario("packaging-same", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        let file = one_file()?;
        ensure_equal(&file, &overlay(&cp, "all")?).context("deploy/kustomize/all")?;

        let mut rendered = objects(&render(scratch, &json!({}))?)?;
        // Helm creates the namespace, and keeps CRDs that have this annotation.
        let namespace = ("Namespace".to_owned(), NAMESPACE.to_owned());
        rendered.insert(namespace.clone(), file[&namespace].clone());
        for ((kind, name), object) in &mut rendered {
            if kind == "CustomResourceDefinition" {
                let metadata = object["metadata"].as_object_mut().context("no metadata")?;
                let annotations = metadata.remove("annotations");
                let keep = json!({"helm.sh/resource-policy": "keep"});
                ensure!(annotations == Some(keep), "{name}: {annotations:?}");
            }
        }
        ensure_equal(&file, &rendered).context("the chart's default values")?;

        for (name, other) in [("bgp", "layer2"), ("layer2", "announcer")] {
            let mut expected = file.clone();
            expected.retain(|_, object| {
                object["metadata"]["labels"]["app.kubernetes.io/component"] != *other
            });
            ensure!(expected.len() < file.len(), "{other}");
            ensure_equal(&expected, &overlay(&cp, name)?).context(name)?;
        }

        let workloads = [
            ("Deployment", "ferrolb-allocator"),
            ("DaemonSet", "ferrolb-announcer"),
            ("DaemonSet", "ferrolb-layer2"),
        ];
        for (component, values) in [
            ("net-admin", json!({"speaker": {"bgp": {"netAdmin": true}}})),
            (
                "unnumbered-net-admin",
                json!({"speaker": {"bgp": {"netAdmin": true, "unnumbered": true}}}),
            ),
            ("metrics-tls", json!({"tls": {"enabled": true}})),
        ] {
            let of = |objects: &Objects| -> Objects {
                let wanted = workloads.map(|(kind, name)| (kind.to_owned(), name.to_owned()));
                let found = wanted.map(|key| (key.clone(), objects[&key].clone()));
                found.into_iter().collect()
            };
            let patched = of(&with_component(&cp, scratch, component)?);
            ensure!(patched != of(&file), "{component} has no effect");
            let rendered = of(&objects(&render(scratch, &values)?)?);
            ensure_equal(&patched, &rendered).context(component)?;
        }
        Ok(())
    });
}

/// The objects of the overlay `all` with a component.
fn with_component(cp: &ControlPlane<'_>, scratch: &Scratch, component: &str) -> Result<Objects> {
    let own = kustomization_with(scratch, component)?;
    objects(&cp.kubectl(&["kustomize", &own])?)
}

/// Writes a kustomization of the overlay `all` with a component: it names folders relative to its
/// own. Returns its folder.
fn kustomization_with(scratch: &Scratch, component: &str) -> Result<String> {
    let own = scratch.file(&format!("with-{component}"));
    fs::create_dir(&own)?;
    let up = "../".repeat(own.components().count() - 1);
    let folder = deploy().canonicalize()?.join("kustomize");
    let folder = format!(
        "{up}{}",
        folder.display().to_string().trim_start_matches('/')
    );
    let text = format!("resources: [{folder}/all]\ncomponents: [{folder}/{component}]\n");
    fs::write(own.join("kustomization.yaml"), text)?;
    Ok(own.to_string_lossy().into_owned())
}

/// Only the announcer gets the capability, and only where it is asked for.
#[test]
fn unnumbered_sessions_give_the_announcer_net_raw_and_nothing_else() {
    scenario("packaging-unnumbered", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        let key = ("DaemonSet".to_owned(), "ferrolb-announcer".to_owned());
        let mut expected = one_file()?;
        let announcer = expected.get_mut(&key).context("no announcer")?;
        let pod = &mut announcer["spec"]["template"]["spec"];
        pod["securityContext"] = json!({
            "runAsNonRoot": false, "runAsUser": 0, "runAsGroup": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        pod["containers"][0]["securityContext"]["capabilities"]["add"] = json!(["NET_RAW"]);
        ensure_equal(&expected, &overlay(&cp, "all-unnumbered")?).context("all-unnumbered")?;
        let bgp = overlay(&cp, "bgp-unnumbered")?;
        ensure!(bgp.get(&key) == expected.get(&key), "{:#?}", bgp.get(&key));
        let values = json!({"speaker": {"bgp": {"unnumbered": true}}});
        let rendered = objects(&render(scratch, &values)?)?;
        let chart = rendered.get(&key);
        ensure!(chart == expected.get(&key), "{chart:#?}");
        let values = json!({"speaker": {"bgp": {"unnumbered": true, "netAdmin": true}}});
        let rendered = objects(&render(scratch, &values)?)?;
        let container = &rendered[&key]["spec"]["template"]["spec"]["containers"][0];
        let added = &container["securityContext"]["capabilities"]["add"];
        ensure!(*added == json!(["NET_ADMIN", "NET_RAW"]), "{added}");
        Ok(())
    });
}

#[test]
fn the_api_server_accepts_every_overlay_and_every_use_of_the_chart() {
    scenario("packaging-valid", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.apply_path(&manifests().join("1-namespace.yaml"))?;
        cp.kubectl(&[
            "create",
            "-f",
            &packaged("monitoring-crds.yaml")?.to_string_lossy(),
        ])?;
        eventually("the operator's kinds are served", TIMEOUT, || {
            cp.get(&["podmonitors,servicemonitors,prometheusrules"])
        })?;

        let accepted = |what: &str, source: &[&str]| -> Result<()> {
            let dry = ["apply", "--server-side", "--dry-run=server"];
            let strict = ["--validate=strict"];
            let arguments = [&dry[..], &strict, source].concat();
            cp.kubectl(&arguments).map(drop).context(what.to_owned())
        };
        let file = deploy().join("ferrolb.yaml");
        accepted("deploy/ferrolb.yaml", &["-f", &file.to_string_lossy()])?;
        let dashboard = deploy().join("monitoring");
        accepted("the dashboard", &["-k", &dashboard.to_string_lossy()])?;
        for overlay in ["bgp", "layer2", "all", "bgp-unnumbered", "all-unnumbered"] {
            let folder = deploy().join("kustomize").join(overlay);
            accepted(overlay, &["-k", &folder.to_string_lossy()])?;
        }
        let mut flags = BTreeSet::new();
        let rendered = scratch.file("rendered.yaml");
        let mut sets = value_sets()?;
        sets.extend(metallb_values()?);
        for (name, values) in &sets {
            let yaml = render(scratch, values).with_context(|| name.clone())?;
            flags.extend(flags_of(&objects(&yaml)?));
            fs::write(&rendered, yaml)?;
            accepted(name, &["-f", &rendered.to_string_lossy()])?;
        }
        flags_exist(&flags)
    });
}

#[test]
fn the_chart_and_kustomize_make_one_config_map_of_the_dashboard() {
    scenario("packaging-dashboard", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        let folder = deploy().join("monitoring");
        let values = json!({"prometheus": {"grafanaDashboard": {"enabled": true}}});
        let rendered = objects(&render(scratch, &values)?)?;
        let key = ("ConfigMap".to_owned(), "ferrolb-dashboard".to_owned());
        let built = objects(&cp.kubectl(&["kustomize", &folder.to_string_lossy()])?)?;
        let chart = rendered.get(&key).context("no ConfigMap")?;
        ensure!(built.len() == 1, "{:?}", built.keys());
        for object in [chart, &built[&key]] {
            let data = object["data"]["ferrolb.json"].as_str().context("no data")?;
            let shown: Value = serde_json::from_str(data)?;
            let shipped = fs::read_to_string(folder.join("dashboard.json"))?;
            ensure!(shown == serde_json::from_str::<Value>(&shipped)?);
        }
        ensure!(chart["metadata"] == built[&key]["metadata"], "{chart:#}");
        let label = &chart["metadata"]["labels"]["grafana_dashboard"];
        ensure!(label == "1", "{label}");
        Ok(())
    });
}

#[test]
fn an_affinity_of_the_values_keeps_speakers_from_nodes_of_metallb() {
    scenario("packaging-affinity", |scratch| {
        let sets = value_sets()?;
        let rendered = objects(&render(scratch, &sets["placement"])?)?;
        for name in ["ferrolb-announcer", "ferrolb-layer2"] {
            let pod = &rendered[&("DaemonSet".to_owned(), name.to_owned())]["spec"]["template"];
            let affinity = &pod["spec"]["affinity"]["nodeAffinity"];
            let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
            let expected = json!([{"matchExpressions": [
                {"key": "example.com/edge", "operator": "Exists"},
                {"key": "ferrolb.io/speaker", "operator": "DoesNotExist"},
            ]}]);
            ensure!(
                required["nodeSelectorTerms"] == expected,
                "{name}: {required}"
            );
        }
        Ok(())
    });
}

/// The upgrade of docs/install.md, after an installation without `--server-side` and a component.
#[test]
fn a_server_side_apply_takes_over_what_an_earlier_apply_set() {
    scenario("packaging-server-side", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        let file = deploy().join("ferrolb.yaml");
        let next = scratch.file("next.yaml");
        let text = fs::read_to_string(&file)?;
        fs::write(
            &next,
            text.replace("image: ferrolb:dev", "image: ferrolb:next"),
        )?;
        let next = next.to_string_lossy();
        let upgraded = || -> Result<()> {
            cp.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &next])?;
            let object = cp.get(&["daemonset", "ferrolb-announcer", "-n", NAMESPACE])?;
            let container = &object["spec"]["template"]["spec"]["containers"][0];
            let added = &container["securityContext"]["capabilities"]["add"];
            ensure!(
                container["image"] == "ferrolb:next" && added.is_null(),
                "{container:#}"
            );
            Ok(())
        };
        cp.apply_path(&file)?;
        upgraded()?;
        let component = kustomization_with(scratch, "net-admin")?;
        cp.kubectl(&["apply", "-k", &component])?;
        upgraded()
    });
}

/// The flags of ferrolb's containers.
fn flags_of(objects: &Objects) -> BTreeSet<String> {
    let containers = objects
        .values()
        .filter_map(|object| object["spec"]["template"]["spec"]["containers"].as_array());
    let own = containers
        .flatten()
        .filter(|container| container["name"] == "ferrolb");
    let arguments = own.filter_map(|container| container["args"].as_array());
    let flags = arguments.flatten().filter_map(Value::as_str);
    flags
        .filter(|argument| argument.starts_with("--"))
        .map(|argument| argument.split('=').next().unwrap_or_default().to_owned())
        .collect()
}

fn flags_exist(flags: &BTreeSet<String>) -> Result<()> {
    let mut help = std::process::Command::new(ferrolb()?);
    let help = run(help.args(["run", "--help"]))?;
    ensure!(flags.len() > 3, "{flags:?}");
    for flag in flags {
        let known = help
            .split_whitespace()
            .any(|word| word.trim_end_matches(',') == flag);
        ensure!(known, "`ferrolb run` has no flag {flag}:\n{help}");
    }
    Ok(())
}

#[test]
fn every_value_of_the_chart_has_an_effect() {
    scenario("packaging-effect", |scratch| {
        let sets = value_sets()?;
        let mut full = BTreeMap::new();
        for (name, values) in &sets {
            full.insert(name, render(scratch, values)?);
        }
        for pointer in leaves(&read(&chart().join("values.yaml"))?) {
            let mut using = sets
                .iter()
                .filter(|(_, values)| values.pointer(&pointer).is_some());
            // Without a value that another one requires, the chart is refused.
            let changes = using.any(|(name, values)| {
                render(scratch, &without(values, &pointer)).ok().as_ref() != full.get(name)
            });
            ensure!(
                changes,
                "{pointer} of values.yaml changes the output of no set"
            );
        }
        Ok(())
    });
}

#[test]
fn every_value_of_metallbs_charts_has_an_effect_or_is_listed() {
    scenario("packaging-metallb", |_| {
        let own = read(&chart().join("values.yaml"))?;
        let listed = read(&chart().join("no-effect.yaml"))?;
        let listed = listed.as_object().context("no values")?;
        for (name, values) in metallb_values()? {
            let pointers = leaves(&values);
            ensure!(pointers.len() > 100, "{name}: {pointers:?}");
            for pointer in pointers {
                let dotted = pointer[1..].replace('/', ".");
                let known = in_values(&own, &pointer)
                    || listed.keys().any(|path| {
                        let rest = dotted.strip_prefix(path.as_str());
                        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                    });
                ensure!(
                    known,
                    "{name}: {dotted}: document it in values.yaml or no-effect.yaml"
                );
            }
        }
        Ok(())
    });
}

/// Whether the values have this one, or permit any content in a map around it.
fn in_values(values: &Value, pointer: &str) -> bool {
    match values.pointer(pointer) {
        Some(_) => true,
        None => pointer.rsplit_once('/').is_some_and(|(parent, _)| {
            let map = values.pointer(parent).and_then(Value::as_object);
            map.is_some_and(serde_json::Map::is_empty)
        }),
    }
}

/// The default values of MetalLB's charts.
fn metallb_values() -> Result<BTreeMap<String, Value>> {
    let versions = ["v0.14.9", "v0.16.2"];
    let named = versions.map(|version| {
        let name = format!("metallb-values-{version}");
        let values = read(&packaged(&format!("{name}.yaml"))?)?;
        Ok((name, values))
    });
    named.into_iter().collect()
}

/// Values, and words of the error.
const REFUSED: &[(&str, &[&str])] = &[
    ("speaker: {resources: null}", &["/speaker", "resources"]),
    (
        "speaker: {resources: {requests: {cpu: null}}}",
        &["/speaker/resources/requests", "missing property 'cpu'"],
    ),
    (
        "speaker: {resources: {requests: {cpu: ''}}}",
        &["/speaker/resources/requests/cpu", "pattern"],
    ),
    (
        "speaker: {layer2: {resources: {requests: {cpu: 0m}}}}",
        &["/speaker/layer2/resources/requests/cpu", "pattern"],
    ),
    (
        "controller: {resources: {requests: {cpu: 0}}}",
        &["/controller/resources/requests/cpu", "got 0"],
    ),
    (
        "controller: {resources: {requests: null}}",
        &["/controller/resources", "missing property 'requests'"],
    ),
    ("speaker: null", &["speaker"]),
    (
        "speaker: {logLevel: loud}",
        &["/speaker/logLevel", "'warn'"],
    ),
    ("speaker: {tolerateMasters: true}", &["tolerateMasters"]),
    (
        "speaker: {bgp: {bmp: collector.example.org}}",
        &["/speaker/bgp/bmp", "pattern"],
    ),
    (
        "prometheus: {metricsPort: 70000}",
        &["/prometheus/metricsPort"],
    ),
    (
        "networkpolicies: {apiPort: https}",
        &["/networkpolicies/apiPort"],
    ),
    ("image: {tag: ''}", &["/image/tag"]),
    (
        "image: {digest: 'sha256:0123'}",
        &["/image/digest", "pattern"],
    ),
    (
        "tls: {speakerMetricsTLSSecret: certificate}",
        &[
            "tls.speakerMetricsTLSSecret",
            "tls.enabled is false: set it to true",
        ],
    ),
    (
        "tls: {enabled: true}\nprometheus: {serviceMonitor: {enabled: true, speaker: {tlsConfig: \
         {serverName: a}}}}",
        &["serviceMonitor.speaker.tlsConfig differ", "make them equal"],
    ),
    (
        "prometheus: {podMonitor: {enabled: true}, serviceMonitor: {enabled: true}}",
        &[
            "podMonitor.enabled",
            "serviceMonitor.enabled",
            "set one to false",
        ],
    ),
    (
        "prometheus: {podMonitor: {enabled: true}, serviceAccount: prometheus}",
        &["prometheus.namespace", "set it to the namespace"],
    ),
    (
        "configInline: {address-pools: []}",
        &[
            "configInline",
            "Create the resources instead: IPAddressPool",
        ],
    ),
];

#[test]
fn values_that_the_chart_does_not_know_are_refused_with_their_place() {
    scenario("packaging-refused", |scratch| {
        for (yaml, words) in REFUSED {
            let refused = render(scratch, &serde_saphyr::from_str(yaml)?);
            let Err(error) = refused else {
                anyhow::bail!("not refused: {yaml}");
            };
            let error = format!("{error:#}");
            for word in *words {
                ensure!(error.contains(word), "{yaml}: no {word:?} in: {error}");
            }
        }
        Ok(())
    });
}

#[test]
fn helm_installs_upgrades_and_removes_ferrolb_and_keeps_crds_and_objects() {
    scenario("packaging-helm", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        let helm = |arguments: &[&str]| helm(&cp, scratch, arguments);
        let folder = chart().to_string_lossy().into_owned();
        helm(&["lint", "--strict", &folder])?;
        // As a release has it, with the files that the chart links to.
        helm(&[
            "package",
            &folder,
            "--destination",
            &scratch.file("").to_string_lossy(),
        ])?;
        let archive = format!("ferrolb-{}.tgz", env!("CARGO_PKG_VERSION"));
        let path = scratch.file(&archive).to_string_lossy().into_owned();
        let notes = helm(&["install", RELEASE, &path, "--create-namespace"])?;
        ensure!(
            notes.contains("ds/ferrolb-announcer -- /ferrolb peers"),
            "{notes}"
        );
        ensure!(
            !notes.contains("no effect") && !notes.contains("WARNING"),
            "{notes}"
        );
        eventually("an object of ferrolb", TIMEOUT, || {
            cp.apply(&ferrolb_peer("10.99.0.1", ""))
        })?;

        names_of_values_without_effect(&helm, &path)?;
        let no_layer2 = "speaker.layer2.enabled=false";
        helm(&["upgrade", RELEASE, &path, "--set", no_layer2])?;
        ensure!(daemonsets(&cp)? == ["ferrolb-announcer"]);
        // Also if a CRD is no longer in the chart.
        helm(&["upgrade", RELEASE, &path, "--set", "crds.enabled=false"])?;
        peer_exists(&cp)?;
        ensure!(daemonsets(&cp)?.len() == 2);

        helm(&["uninstall", RELEASE, "--wait"])?;
        ensure!(daemonsets(&cp)?.is_empty());
        peer_exists(&cp)?;
        helm(&["install", RELEASE, &path])?;
        helm(&["uninstall", RELEASE, "--wait"])?;

        // From kubectl to Helm.
        cp.apply_path(&deploy().join("ferrolb.yaml"))?;
        ensure!(
            helm(&["install", RELEASE, &path]).is_err(),
            "not adopted by mistake"
        );
        helm(&["install", RELEASE, &path, "--take-ownership"])?;
        ensure!(daemonsets(&cp)?.len() == 2);
        peer_exists(&cp)
    });
}

/// NOTES.txt names each value of `no-effect.yaml` that is set, with its reason.
fn names_of_values_without_effect(
    helm: &dyn Fn(&[&str]) -> Result<String>,
    path: &str,
) -> Result<()> {
    let listed = read(&chart().join("no-effect.yaml"))?;
    let listed = listed.as_object().context("no values")?;
    ensure!(listed.len() > 20, "{listed:?}");
    let set: Vec<String> = listed.keys().map(|name| format!("{name}.x=y")).collect();
    let set = set.join(",");
    let limit = "speaker.layer2.resources.limits.cpu=1";
    let dry = ["upgrade", RELEASE, path, "--dry-run=server"];
    let notes = helm(&[&dry[..], &["--set", &set, "--set", limit]].concat())?;
    for (name, reason) in listed {
        let reason = reason.as_str().context("no reason")?;
        let line = format!("  {name}: {reason}");
        ensure!(
            notes.lines().any(|found| found == line),
            "no {line:?} in: {notes}"
        );
    }
    let warning = "WARNING: speaker.layer2.resources.limits.cpu: ";
    ensure!(notes.contains(warning), "{notes}");
    Ok(())
}

/// Names of ferrolb's DaemonSets that aren't being deleted.
fn daemonsets(cp: &ControlPlane<'_>) -> Result<Vec<String>> {
    let list = cp.get(&["daemonsets", "-n", NAMESPACE])?;
    let items = list["items"].as_array().context("no items")?;
    Ok(items
        .iter()
        .filter(|object| object["metadata"]["deletionTimestamp"].is_null())
        .filter_map(|object| Some(object["metadata"]["name"].as_str()?.to_owned()))
        .collect())
}

fn peer_exists(cp: &ControlPlane<'_>) -> Result<()> {
    cp.get(&["bgppeers.ferrolb.io", "tor", "-n", NAMESPACE])
        .map(drop)
}
