//! What a migration does, in which order: pure.

mod places;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

pub(super) use self::places::{without_layer2, without_sessions};
use super::facts::{Facts, FrrK8s, LABEL, METALLB, MOVING, Node, short_image};
use super::record::Record;

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// ferrolb runs instead of MetalLB.
    Ferrolb,
    /// MetalLB runs again.
    Metallb,
    /// The rest of MetalLB is removed.
    Finish,
}

/// What a file with ferrolb's manifests contains.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Install {
    /// The number of objects.
    pub objects: usize,
    /// The images of its DaemonSets.
    pub images: BTreeSet<String>,
    /// The arguments that MetalLB has as well.
    pub flags: BTreeSet<String>,
    /// Its DaemonSets.
    pub daemonsets: Vec<Value>,
    /// DaemonSets that would run beside MetalLB's speaker on a node with the label.
    pub without_affinity: Vec<String>,
    /// Whether it has the CRD of BGPSessions.
    pub bgp_sessions: bool,
}

/// One change. Each can be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Record,
    StopConversion(String),
    DeleteWebhook(String),
    MarkNodes(Vec<String>),
    BindSpeaker(String),
    PullImage { node: String, image: String },
    StopController(String),
    Apply(usize),
    AwaitAllocator,
    AwaitNode(String),
    MoveNode(String),

    ReturnNode { node: String, speaker: bool },
    StopAllocator,
    StartController(String),
    DeleteFerrolb,
    RestoreWebhooks,
    RestoreConversion(String),
    ReleaseSpeaker(String),
    UnmarkNodes(Vec<String>),

    KeepSecrets,
    DeleteSpeaker(String),
    DeleteController(String),
    DeleteFrrK8s(String),
    DeleteRecord,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record => f.write_str(
                "save MetalLB's objects, and what is announced before and after, to files, and \
                 what undo needs in the ConfigMap ferrolb-migration",
            ),
            Self::StopConversion(crd) => write!(
                f,
                "set conversion.strategy of the CRD {crd} to None: its webhook ends with the \
                 controller"
            ),
            Self::DeleteWebhook(name) => write!(
                f,
                "delete the ValidatingWebhookConfiguration {name}: without the controller it \
                 refuses each change"
            ),
            Self::MarkNodes(nodes) => {
                write!(
                    f,
                    "label {} node(s) as nodes of MetalLB's speaker",
                    nodes.len()
                )
            }
            Self::BindSpeaker(name) => write!(
                f,
                "restrict the DaemonSet {name} to nodes with that label, without a restart of its \
                 Pods"
            ),
            Self::PullImage { node, image } => write!(f, "pull {image} on node {node}"),
            Self::StopController(name) => {
                write!(
                    f,
                    "scale the Deployment {name} to 0 and wait until it has ended"
                )
            }
            Self::Apply(objects) => write!(
                f,
                "apply ferrolb's {objects} objects: on labelled nodes it doesn't start yet"
            ),
            Self::AwaitAllocator => f.write_str(
                "wait until ferrolb's allocator is available, and check that no address changed",
            ),
            Self::AwaitNode(node) => write!(f, "node {node}: wait for ferrolb and its sessions"),
            Self::MoveNode(node) => write!(
                f,
                "node {node}: end MetalLB's speaker, start ferrolb, wait for its sessions"
            ),
            Self::ReturnNode {
                node,
                speaker: true,
            } => write!(
                f,
                "node {node}: drain and end ferrolb, start MetalLB's speaker, wait for its sessions"
            ),
            Self::ReturnNode {
                node,
                speaker: false,
            } => {
                write!(f, "node {node}: drain and end ferrolb")
            }
            Self::StopAllocator => f.write_str("scale ferrolb's allocator to 0"),
            Self::StartController(name) => write!(f, "scale the Deployment {name} up again"),
            Self::DeleteFerrolb => {
                f.write_str("delete ferrolb's Deployment and DaemonSets, which have no Pods left")
            }
            Self::RestoreWebhooks => f.write_str(
                "wait until MetalLB's controller is available, and restore its webhooks",
            ),
            Self::RestoreConversion(crd) => write!(f, "restore the conversion of the CRD {crd}"),
            Self::ReleaseSpeaker(name) => write!(
                f,
                "let the DaemonSet {name} run on all nodes again: MetalLB restarts its speakers \
                 one by one"
            ),
            Self::UnmarkNodes(nodes) => write!(f, "remove the label from {} node(s)", nodes.len()),
            Self::KeepSecrets => f.write_str(
                "keep the Secrets that the controller owns: they would be deleted with it",
            ),
            Self::DeleteSpeaker(name) => {
                write!(f, "delete the DaemonSet {name}, which has no Pods left")
            }
            Self::DeleteController(name) | Self::DeleteFrrK8s(name) => {
                write!(f, "delete the Deployment {name}")
            }
            Self::DeleteRecord => {
                f.write_str("delete the ConfigMap ferrolb-migration: this migration is over")
            }
        }
    }
}

/// The steps that are left to reach a goal. The obstacles otherwise, each with its remedy.
pub(super) fn steps(
    facts: &Facts,
    install: &Install,
    goal: Goal,
) -> Result<Vec<Step>, Vec<String>> {
    let obstacles = match goal {
        Goal::Ferrolb => obstacles(facts, install),
        Goal::Metallb | Goal::Finish => without_record(facts, goal),
    };
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    Ok(match goal {
        Goal::Ferrolb => to_ferrolb(facts, install),
        Goal::Metallb => to_metallb(facts),
        Goal::Finish => finish(facts),
    })
}

/// What makes a migration impossible.
fn obstacles(facts: &Facts, install: &Install) -> Vec<String> {
    let mut obstacles = Vec::new();
    if facts.controllers.is_empty() && facts.speakers.is_empty() {
        obstacles.push(
            "there is no workload of MetalLB in this namespace: give its namespace with \
             --namespace, or install ferrolb with kubectl apply"
                .to_owned(),
        );
    }
    obstacles.extend(facts.frr_k8s.as_ref().and_then(obstacle_of_frr_k8s));
    for name in &install.without_affinity {
        obstacles.push(format!(
            "the DaemonSet {name} has no node affinity that excludes nodes with the label \
             ferrolb.io/speaker, so it would run beside MetalLB's speaker: add it as in \
             deploy/manifests/4-announcer.yaml"
        ));
    }
    obstacles.extend(places::dark(&to_move(facts), install));
    if !facts.bgp_sessions && !install.bgp_sessions {
        obstacles.push(
            "neither the cluster nor ferrolb's manifests have the CRD bgpsessions.ferrolb.io, by \
             which migrate sees sessions: add deploy/manifests/0-crds.yaml"
                .to_owned(),
        );
    }
    let workloads = facts.controllers.iter().map(|workload| &workload.flags);
    let workloads = workloads.chain(facts.speakers.iter().map(|speaker| &speaker.flags));
    let flags: BTreeSet<&String> = workloads.flatten().collect();
    for flag in flags {
        if !install.flags.contains(flag) {
            obstacles.push(format!(
                "MetalLB runs with {flag}, ferrolb's manifests don't: add it to the args of each \
                 container of ferrolb"
            ));
        }
    }
    obstacles
}

fn obstacle_of_frr_k8s(frr_k8s: &FrrK8s) -> Option<String> {
    if frr_k8s.daemonsets.is_empty() {
        return Some(
            "MetalLB's speakers leave their sessions to frr-k8s, but no DaemonSet has its label \
             app.kubernetes.io/name=frr-k8s: add the label to the DaemonSet of frr-k8s"
                .to_owned(),
        );
    }
    let foreign = frr_k8s.foreign_configurations.join(", ");
    (!foreign.is_empty()).then(|| {
        format!(
            "migrate would stop frr-k8s ({}), which also serves FRRConfigurations that MetalLB did \
             not write: {foreign}. Delete them if ferrolb's BGPPeers replace them; otherwise move \
             by hand: docs/from-metallb.md",
            frr_k8s.daemonsets.join(", ")
        )
    })
}

fn without_record(facts: &Facts, goal: Goal) -> Vec<String> {
    let mut obstacles = Vec::new();
    if facts.record.is_none() {
        obstacles.push(
            "no migration has begun in this namespace: there is no ConfigMap ferrolb-migration"
                .to_owned(),
        );
    }
    if let (Goal::Metallb, Some(record)) = (goal, &facts.record) {
        obstacles.extend(missing_workloads(facts, record));
    }
    let left = nodes_left(facts);
    if goal == Goal::Finish && !left.is_empty() {
        obstacles.push(format!(
            "MetalLB's speaker still runs on {}: run ferrolb migrate first",
            left.join(", ")
        ));
    }
    obstacles
}

/// The workloads that undo would start, and that were deleted: by an interrupted --finish, or by
/// hand.
fn missing_workloads(facts: &Facts, record: &Record) -> Vec<String> {
    let finish = "or stay with ferrolb: ferrolb migrate --finish";
    let has_speaker = |name: &String| facts.speakers.iter().any(|speaker| speaker.name == *name);
    let has_controller = |name: &String| facts.controllers.iter().any(|found| found.name == *name);
    let daemonsets = record.update_strategies.keys();
    let daemonsets = daemonsets.filter(|name| !has_speaker(name)).map(|name| {
        format!(
            "the DaemonSet {name}, which undo would start, does not exist: create it as it was, \
             with the nodeSelector {LABEL}: {METALLB} and the updateStrategy OnDelete, so that it \
             does not run beside ferrolb; {finish}"
        )
    });
    let deployments = record.replicas.keys();
    let deployments = deployments.filter(|name| !has_controller(name));
    let deployments = deployments.map(|name| {
        format!(
            "the Deployment {name}, which undo would start, does not exist: create it as it was, \
             with 0 replicas; {finish}"
        )
    });
    daemonsets.chain(deployments).collect()
}

/// The nodes that ferrolb doesn't run on yet.
fn nodes_left(facts: &Facts) -> Vec<&str> {
    let marked = facts.nodes.iter().filter(|node| node.mark.is_some());
    marked.map(|node| node.name.as_str()).collect()
}

/// The nodes that get the label of MetalLB's speaker now: those where it runs, before the speakers
/// are bound to the label, and only then. Later a node without it is ferrolb's.
fn to_mark(facts: &Facts) -> Vec<&Node> {
    let bound = facts.speakers.iter().all(|speaker| speaker.bound);
    let unmarked = facts.nodes.iter().filter(|node| node.mark.is_none());
    unmarked.filter(|node| node.speaker && !bound).collect()
}

/// The nodes that are still MetalLB's.
fn to_move(facts: &Facts) -> Vec<&Node> {
    let new = to_mark(facts);
    let nodes = facts.nodes.iter();
    nodes
        .filter(|node| node.mark.is_some() || new.contains(node))
        .collect()
}

/// The nodes that can't be moved or returned now, because they are not Ready.
pub(super) fn left_out(facts: &Facts, goal: Goal) -> Vec<&str> {
    let concerned: Vec<&Node> = match goal {
        Goal::Ferrolb => to_move(facts),
        Goal::Metallb => {
            let none = BTreeSet::new();
            let had_speaker = facts.record.as_ref().map_or(&none, |record| &record.nodes);
            let nodes = facts.nodes.iter();
            nodes
                .filter(|node| {
                    node.mark.is_some() || node.ferrolb || had_speaker.contains(&node.name)
                })
                .collect()
        }
        Goal::Finish => Vec::new(),
    };
    let unready = concerned.into_iter().filter(|node| !node.ready);
    unready.map(|node| node.name.as_str()).collect()
}

fn to_ferrolb(facts: &Facts, install: &Install) -> Vec<Step> {
    let mut steps = Vec::new();
    if facts.record.is_none() {
        steps.push(Step::Record);
    }
    let unbound = facts.speakers.iter().filter(|speaker| !speaker.bound);
    let new: Vec<String> = to_mark(facts)
        .iter()
        .map(|node| node.name.clone())
        .collect();
    let to_move = to_move(facts);
    for node in to_move.iter().filter(|node| node.ready) {
        for image in &install.images {
            if !node.images.contains(&short_image(image)) {
                let (node, image) = (node.name.clone(), image.clone());
                steps.push(Step::PullImage { node, image });
            }
        }
    }
    if !new.is_empty() {
        steps.push(Step::MarkNodes(new));
    }
    steps.extend(unbound.map(|speaker| Step::BindSpeaker(speaker.name.clone())));
    steps.extend(facts.conversions.keys().cloned().map(Step::StopConversion));
    let webhooks = facts.webhooks.iter().map(super::facts::name);
    steps.extend(webhooks.map(|name| Step::DeleteWebhook(name.to_owned())));
    let controllers = facts.controllers.iter().filter(|found| found.replicas > 0);
    steps.extend(controllers.map(|found| Step::StopController(found.name.clone())));
    steps.push(Step::Apply(install.objects));
    steps.push(Step::AwaitAllocator);
    // A node that was interrupted half-way carries no traffic: it goes first. Then those that
    // ferrolb has must work, before another one loses MetalLB's speaker.
    let (halfway, others): (Vec<&Node>, Vec<&Node>) = to_move
        .into_iter()
        .partition(|node| node.mark.as_deref() == Some(MOVING));
    let moves = |nodes: &[&Node]| -> Vec<Step> {
        let nodes = nodes.iter().filter(|node| node.ready);
        nodes
            .map(|node| Step::MoveNode(node.name.clone()))
            .collect()
    };
    steps.extend(moves(&halfway));
    let moved = moved(facts).filter(|node| node.ready);
    steps.extend(moved.map(|node| Step::AwaitNode(node.name.clone())));
    steps.extend(moves(&others));
    steps
}

/// The nodes from which earlier runs took MetalLB's speaker. Perhaps ferrolb does not work there:
/// such a run may have ended while it waited for that.
fn moved(facts: &Facts) -> impl Iterator<Item = &Node> {
    let had_speaker = facts.record.as_ref().map(|record| &record.nodes);
    let to_move = to_move(facts);
    facts.nodes.iter().filter(move |node| {
        !to_move.contains(node) && had_speaker.is_some_and(|nodes| nodes.contains(&node.name))
    })
}

/// While a node is left out, what a later run needs stays: ferrolb's DaemonSets, which may run
/// there, the labels, the restriction of MetalLB's DaemonSets, and the record.
fn to_metallb(facts: &Facts) -> Vec<Step> {
    let record = facts.record.clone().unwrap_or_default();
    let complete = left_out(facts, Goal::Metallb).is_empty();
    let mut steps = Vec::new();
    for node in &facts.nodes {
        if node.ready && node.mark.as_deref() != Some(METALLB) {
            steps.push(Step::ReturnNode {
                node: node.name.clone(),
                speaker: record.nodes.contains(&node.name),
            });
        }
    }
    steps.push(Step::StopAllocator);
    steps.extend(record.replicas.into_keys().map(Step::StartController));
    // The controller does not become available before it has put its certificate there.
    steps.extend(record.conversions.into_keys().map(Step::RestoreConversion));
    if complete {
        steps.push(Step::DeleteFerrolb);
    }
    if !record.webhooks.is_empty() {
        steps.push(Step::RestoreWebhooks);
    }
    if complete {
        let speakers = record.update_strategies.into_keys();
        steps.extend(speakers.map(Step::ReleaseSpeaker));
        let nodes = facts.nodes.iter().map(|node| node.name.clone()).collect();
        steps.push(Step::UnmarkNodes(nodes));
        steps.push(Step::DeleteRecord);
    }
    steps
}

fn finish(facts: &Facts) -> Vec<Step> {
    let mut steps = vec![Step::KeepSecrets];
    let speakers = facts.speakers.iter();
    steps.extend(speakers.map(|speaker| Step::DeleteSpeaker(speaker.name.clone())));
    if let Some(frr_k8s) = &facts.frr_k8s {
        // Without its Deployment its webhook would refuse each change.
        steps.extend(frr_k8s.webhooks.iter().cloned().map(Step::DeleteWebhook));
        let deployments = frr_k8s.deployments.iter().cloned();
        steps.extend(deployments.map(Step::DeleteFrrK8s));
    }
    let controllers = facts.controllers.iter();
    steps.extend(controllers.map(|found| Step::DeleteController(found.name.clone())));
    steps.push(Step::DeleteRecord);
    steps
}

#[cfg(test)]
mod tests;
