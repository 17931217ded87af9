//! ferrolb's own workloads, and the nodes: what should run, and does not.

use std::collections::BTreeSet;

use super::observed::{Duty, Observed, Pod};
use super::sessions::Expected;
use super::{Code, Findings, View};

/// Reports what does not run.
pub(super) fn check(view: &View<'_>, expected: &Expected<'_>, findings: &mut Findings) {
    let Some(observed) = view.observed else {
        // Manifests: Nodes have no conditions there, and nothing runs.
        return;
    };
    for (name, _) in view.index.nodes().iter().filter(|(_, node)| !node.ready) {
        let text = "the node is not Ready: what it announces, and its sessions, are unknown";
        let command = format!("kubectl describe node {name}");
        findings.add(Code::NodeNotReady, name.as_str(), text, Some(command));
    }
    if observed.workloads.as_ref().is_some_and(Vec::is_empty) {
        let text = "no Deployment or DaemonSet has the label app.kubernetes.io/name=ferrolb, so \
                    nothing is allocated and announced";
        let command = "kubectl apply -f deploy/ferrolb.yaml".to_owned();
        findings.add(Code::NotInstalled, "ferrolb", text, Some(command));
    } else {
        check_duties(view, expected, observed, findings);
    }
    check_pods(observed, findings);
    check_versions(observed, findings);
}

/// Reports the nodes that lack a Pod, and duties that no workload has.
fn check_duties(
    view: &View<'_>,
    expected: &Expected<'_>,
    observed: &Observed,
    findings: &mut Findings,
) {
    let layer2 = view.layer2.addresses().values();
    let candidates = layer2.flat_map(|spec| spec.candidates.iter());
    let candidates: BTreeSet<&str> = candidates.map(|candidate| &*candidate.node).collect();
    for (duty, nodes) in [
        (Duty::Announcer, expected.nodes()),
        (Duty::Layer2, candidates),
    ] {
        if nodes.is_empty() {
            continue;
        }
        if !is_installed(observed, duty) {
            let text = format!(
                "the configuration has work for it, but no workload has --role={}",
                duty.role()
            );
            let command = "kubectl apply -f deploy/ferrolb.yaml".to_owned();
            findings.add(Code::NotInstalled, duty.role(), text, Some(command));
            continue;
        }
        let Some(pods) = &observed.pods else {
            continue;
        };
        let pods = pods.iter().filter(|pod| pod.duties.contains(&duty));
        let with_pod: BTreeSet<&str> = pods.map(|pod| pod.node.as_str()).collect();
        for node in nodes.difference(&with_pod) {
            let text = format!(
                "no Pod with --role={} runs on the node: look at its taints and labels, and at the \
                 DaemonSet",
                duty.role()
            );
            let command = format!("kubectl describe node {node}");
            findings.add(Code::DaemonMissing, *node, text, Some(command));
        }
    }
    let has_pools = view.index.config().pools.iter().next().is_some();
    if has_pools && !is_installed(observed, Duty::Allocator) {
        // Another program may allocate; then services have addresses.
        let waits = view.index.services();
        let mut waits = waits.filter(|service| service.is_ours());
        if waits.any(|service| service.addresses().is_empty()) {
            let text = "Services wait for addresses, but no workload has --role=allocator";
            findings.add(Code::NotInstalled, Duty::Allocator.role(), text, None);
        }
    }
}

/// Whether some workload has a duty. True if that can't be read.
fn is_installed(observed: &Observed, duty: Duty) -> bool {
    let workloads = observed.workloads.as_ref();
    workloads.is_none_or(|all| all.iter().any(|one| one.duties.contains(&duty)))
}

fn check_pods(observed: &Observed, findings: &mut Findings) {
    let pods = observed.pods.iter().flatten();
    for Pod {
        name,
        node,
        problem,
        ..
    } in pods
    {
        let Some(problem) = problem else {
            continue;
        };
        let place = if node.is_empty() {
            String::new()
        } else {
            format!(" on {node}")
        };
        let command = format!("kubectl describe pod -n {} {}", name.namespace, name.name);
        findings.add(
            Code::PodNotReady,
            format!("Pod {name}{place}"),
            problem.clone(),
            Some(command),
        );
    }
}

fn check_versions(observed: &Observed, findings: &mut Findings) {
    let pods = observed.pods.iter().flatten();
    let images: BTreeSet<&str> = pods.map(|pod| pod.image.as_str()).collect();
    if images.len() > 1 {
        let images: Vec<&str> = images.into_iter().collect();
        let text = format!(
            "a rollout is in progress, or has stopped: {}",
            images.join(", ")
        );
        let command = "kubectl get pods -A -l app.kubernetes.io/name=ferrolb -o wide".to_owned();
        findings.add(Code::VersionsDiffer, "Pods of ferrolb", text, Some(command));
    }
}
