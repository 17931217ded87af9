//! An allocator beside MetalLB's controller: it allocates nothing, and says so.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb, Metallb, Rack};
use ferrolb_interop_tests::manifest::{NAMESPACE, service};
use ferrolb_interop_tests::process::ferrolb;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use serde_json::{Value, json};

use super::{CLUSTER, TIMEOUT, await_metric, await_metric_for, plain_configuration};

/// A namespace that is none of ferrolb's configuration.
const OTHER: &str = "lb";
const RUNS: &str = "ferrolb_metallb_controller_bool";
/// Longer than the interval between two looks.
const SEEN: Duration = Duration::from_secs(60);
const STAYS: Duration = Duration::from_secs(5);

/// Creates a running Pod on `node1` with these labels and arguments.
fn create_pod(
    cp: &ControlPlane<'_>,
    namespace: &str,
    name: &str,
    labels: &Value,
    args: &Value,
) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "nodeName": "node1", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "none", "args": args}],
        },
    });
    cp.apply(&pod.to_string())?;
    let running = r#"{"status":{"phase":"Running"}}"#;
    let target = ["patch", "pod", name, "-n", namespace];
    let patch = ["--subresource=status", "-p", running];
    cp.kubectl(&[&target[..], &patch].concat()).map(drop)
}

fn delete_pod(cp: &ControlPlane<'_>, namespace: &str, name: &str) -> Result<()> {
    cp.kubectl(&["delete", "pod", name, "-n", namespace])
        .map(drop)
}

/// Creates the Pod of the controller in the manifest of MetalLB 0.14.9.
fn create_controller(cp: &ControlPlane<'_>, namespace: &str) -> Result<()> {
    let objects = Metallb::V0_14_9.objects()?;
    let mut deployments = objects.iter().filter(|one| one["kind"] == "Deployment");
    let template = &deployments.next().context("no Deployment")?["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    let args = &template["spec"]["containers"][0]["args"];
    create_pod(cp, namespace, "controller-x", labels, args)
}

/// The labels that the chart of MetalLB 0.16 gives to a component.
fn of_chart(component: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "metallb",
        "app.kubernetes.io/instance": "lb",
        "app.kubernetes.io/component": component,
    })
}

struct Lab<'lab> {
    rack: Rack<'lab>,
}

#[test]
fn beside_metallbs_controller_in_any_namespace_nothing_is_allocated_until_it_is_gone() {
    scenario("beside-controller", |scratch| {
        let topology = Topology::new(1)?;
        let rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
        rack.cp.install_ferrolb_crds()?;
        rack.cp.apply(&plain_configuration())?;
        rack.cp.apply(&service("web", "", CLUSTER))?;
        rack.cp.create_workloads(["node1"])?;
        rack.cp.kubectl(&["create", "namespace", OTHER])?;
        let mut lab = Lab { rack };
        lab.one_that_runs_before_is_reported_everywhere()?;
        lab.one_that_starts_later_ends_the_lead()?;
        lab.one_of_another_class_changes_nothing()?;
        lab.without_permissions_the_log_says_what_is_not_seen()
    });
}

impl Lab<'_> {
    fn allocator(&self) -> &Ferrolb<'_> {
        &self.rack.allocators[0]
    }

    fn restart(&mut self) -> Result<()> {
        let allocator = &mut self.rack.allocators[0];
        allocator.process().terminate(TIMEOUT)?;
        allocator.start_again()
    }

    /// Whether `ferrolb status` reports MetalLB with an object.
    fn is_found(&self, object: &str) -> Result<bool> {
        let mut command = self.rack.cp.command(ferrolb()?);
        command.args(["status", "-o", "json", "--kubeconfig"]);
        command.arg(self.rack.cp.admin_kubeconfig());
        let status: Value = serde_json::from_slice(&command.output()?.stdout)?;
        let findings = status["findings"].as_array().context("findings")?;
        let mut findings = findings.iter().filter(|one| one["code"] == "MetallbRuns");
        Ok(findings.any(|finding| {
            let objects = finding["objects"].as_array().into_iter().flatten();
            objects.into_iter().any(|one| one == object)
        }))
    }

    fn check_no_address(&self, name: &str) -> Result<()> {
        consistently(format!("{name} has no address"), STAYS, || {
            let addresses = self.rack.cp.service_addresses("default", name)?;
            ensure!(addresses.is_empty(), "{addresses:?}");
            Ok(())
        })
    }

    fn one_that_runs_before_is_reported_everywhere(&mut self) -> Result<()> {
        create_controller(&self.rack.cp, OTHER)?;
        let args = json!(["--port=9120"]);
        create_pod(
            &self.rack.cp,
            OTHER,
            "speaker-x",
            &of_chart("speaker"),
            &args,
        )?;
        let allocator = Ferrolb::allocator(&self.rack.cp, "allocator1")?;
        self.rack.allocators.push(allocator);
        let command = "kubectl scale deployment -n lb -l app=metallb,component=controller";
        let words = ["ERROR", "lb/controller-x", "ferrolb migrate", command];
        self.allocator().await_log(&words, TIMEOUT)?;
        await_metric(self.allocator(), RUNS, Some(1.0))?;
        let ready = self.allocator().get("/readyz").err();
        let ready = format!("{:#}", ready.context("it is ready")?);
        ensure!(ready.contains("MetalLB's controller runs"), "{ready}");
        let of_reason = "--field-selector=reason=MetalLBControllerRuns";
        eventually("the Event", TIMEOUT, || {
            let events = self.rack.cp.get(&["events", "-n", OTHER, of_reason])?;
            let about = &events["items"][0]["involvedObject"];
            ensure!(about["kind"] == "Pod" && about["name"] == "controller-x");
            Ok(())
        })?;
        for object in ["Pod lb/controller-x", "node1"] {
            ensure!(self.is_found(object)?, "status does not report {object}");
        }
        self.check_no_address("web")?;

        delete_pod(&self.rack.cp, OTHER, "controller-x")?;
        delete_pod(&self.rack.cp, OTHER, "speaker-x")?;
        self.rack.await_addresses("web")?;
        await_metric(self.allocator(), RUNS, Some(0.0))?;
        self.rack.allocators[0].await_ready()?;
        for object in ["Pod lb/controller-x", "node1"] {
            ensure!(!self.is_found(object)?, "status still reports {object}");
        }
        Ok(())
    }

    fn one_that_starts_later_ends_the_lead(&mut self) -> Result<()> {
        let mut other = Ferrolb::allocator(&self.rack.cp, "allocator2")?;
        other.await_ready()?;
        let args = json!(["--port=9120"]);
        let labels = of_chart("controller");
        create_pod(&self.rack.cp, NAMESPACE, "controller-y", &labels, &args)?;
        for allocator in [self.allocator(), &other] {
            await_metric_for(SEEN, allocator, RUNS, Some(1.0))?;
        }
        eventually("no allocator leads", TIMEOUT, || {
            let lease = ["lease/ferrolb-allocator", "-n", NAMESPACE];
            let lease = self.rack.cp.get(&lease)?;
            let holder = &lease["spec"]["holderIdentity"];
            ensure!(holder.as_str().unwrap_or_default().is_empty(), "{holder}");
            Ok(())
        })?;
        self.rack.cp.apply(&service("second", "", CLUSTER))?;
        self.check_no_address("second")?;
        let before = self.rack.await_addresses("web")?;
        delete_pod(&self.rack.cp, NAMESPACE, "controller-y")?;
        self.rack.await_addresses("second")?;
        other.process().terminate(TIMEOUT)?;
        ensure!(self.rack.await_addresses("web")? == before, "web has moved");
        Ok(())
    }

    fn one_of_another_class_changes_nothing(&mut self) -> Result<()> {
        let args = json!(["--port=9120", "--lb-class=example.org/other"]);
        let labels = of_chart("controller");
        create_pod(&self.rack.cp, OTHER, "controller-z", &labels, &args)?;
        self.restart()?;
        self.rack.cp.apply(&service("third", "", CLUSTER))?;
        self.rack.await_addresses("third")?;
        await_metric(self.allocator(), RUNS, Some(0.0))?;
        ensure!(!self.is_found("Pod lb/controller-z")?, "status reports it");
        delete_pod(&self.rack.cp, OTHER, "controller-z")
    }

    fn without_permissions_the_log_says_what_is_not_seen(&mut self) -> Result<()> {
        create_controller(&self.rack.cp, OTHER)?;
        let cluster_role = ["clusterrole", "ferrolb-allocator"];
        let role = ["role", "ferrolb-allocator-config", "-n", NAMESPACE];
        for (object, words) in [
            (
                &cluster_role[..],
                ["only seen in the namespaces", NAMESPACE],
            ),
            (&role, ["can't see whether", "allocated as if it did not"]),
        ] {
            let mut object = self.rack.cp.get(object)?;
            let rules = object["rules"].as_array_mut().context("no rules")?;
            rules.retain(|rule| rule["resources"] != json!(["pods"]));
            self.rack.cp.apply(&object.to_string())?;
            self.restart()?;
            let words = [&words[..], &["2-rbac.yaml"]].concat();
            // The API server may permit the first look still.
            self.allocator().await_log(&words, SEEN)?;
        }
        self.rack.cp.apply(&service("fourth", "", CLUSTER))?;
        self.rack.await_addresses("fourth").map(drop)
    }
}
