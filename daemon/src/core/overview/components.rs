//! ferrolb's own workloads, and the nodes: what should run, and does not.

use std::collections::BTreeSet;

use super::observed::{Duty, Observed, Pod};
use super::sessions::Expected;
use super::{Code, Findings, View};
use crate::core::api::metallb_pod::Part;

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
    let speakers = check_metallb(view, observed, findings);
    if observed.workloads.as_ref().is_some_and(Vec::is_empty) {
        let text = "no Deployment or DaemonSet has the label app.kubernetes.io/name=ferrolb, so \
                    nothing is allocated and announced";
        let command = "kubectl apply -f deploy/ferrolb.yaml".to_owned();
        findings.add(Code::NotInstalled, "ferrolb", text, Some(command));
    } else {
        check_duties(view, expected, observed, &speakers, findings);
    }
    check_pods(observed, findings);
    check_versions(observed, findings);
}

/// Reports MetalLB beside ferrolb, unless it is meant to serve another class of Services. Returns
/// the nodes of its speakers.
fn check_metallb<'a>(
    view: &View<'_>,
    observed: &'a Observed,
    findings: &mut Findings,
) -> BTreeSet<&'a str> {
    let announces = is_installed(observed, Duty::Announcer) || is_installed(observed, Duty::Layer2);
    let mut speakers = BTreeSet::new();
    for pod in observed.metallb.iter().flatten() {
        let namespace = &pod.name.namespace;
        let same_services = pod.serves(view.index.lb_class());
        let mut workloads = observed.workloads.iter().flatten();
        let same_namespace = workloads.any(|workload| workload.namespace == *namespace);
        match pod.part {
            Part::Controller if same_services && is_installed(observed, Duty::Allocator) => {
                let text = format!(
                    "MetalLB's controller in the namespace {namespace} writes the same Services, \
                     so ferrolb allocates no addresses until it has ended: move over with ferrolb \
                     migrate, or stop it"
                );
                let object = format!("Pod {}", pod.name);
                let command = Some(pod.stop_command());
                findings.add(Code::MetallbRuns, object, text, command);
            }
            Part::Speaker if announces && (same_services || same_namespace) => {
                let consequence = if same_namespace {
                    "a process of ferrolb that starts there announces nothing until the speaker \
                     has ended, and its Pod is Pending while the speaker has port 7472 (MetalLB \
                     before 0.16)"
                } else {
                    "announcers of ferrolb don't look there, so both may announce the same \
                     addresses"
                };
                let text = format!(
                    "MetalLB's speaker in the namespace {namespace} runs on the node; \
                     {consequence}. Move over with ferrolb migrate, or delete MetalLB's DaemonSet"
                );
                let command = format!("kubectl get daemonsets -n {namespace} -l {}", pod.selector);
                findings.add(Code::MetallbRuns, pod.node.as_str(), text, Some(command));
                speakers.insert(pod.node.as_str());
            }
            Part::Controller | Part::Speaker => {}
        }
    }
    speakers
}

/// Reports the nodes that lack a Pod, and duties that no workload has. What nodes with a speaker of
/// MetalLB lack is its consequence.
fn check_duties(
    view: &View<'_>,
    expected: &Expected<'_>,
    observed: &Observed,
    speakers: &BTreeSet<&str>,
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
        let mut explained: BTreeSet<&str> = pods.map(|pod| pod.node.as_str()).collect();
        explained.extend(speakers);
        for node in nodes.difference(&explained) {
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
