//! `ferrolb migrate`: moves a running cluster from MetalLB to ferrolb, node by node.
//!
//! One label decides for each node: `ferrolb.io/speaker=metallb` lets MetalLB's speaker run there,
//! no label lets ferrolb run, and `moving` neither. So a migration that was interrupted continues
//! where it ended, and can be undone.

mod addresses;
mod announcement;
mod execute;
mod facts;
mod placement;
mod preview;
mod record;
mod samples;
mod sessions;
mod steps;
mod survey;

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::Value;

use self::addresses::{Addresses, changes};
use self::execute::{Migration, in_order};
use self::facts::{Facts, LABEL, Paths, is_bgp_sessions, is_ferrolb, name};
use self::preview::Preview;
use self::record::Record;
use self::steps::{Goal, Install, Step, left_out, steps, without_layer2, without_sessions};
use super::block_on;
use super::output::{Style, print};
use super::workload_flags::{common_flags, containers, index_with};
use crate::core::config::CONFIG_NAMESPACE;
use crate::core::printable::printable;
use crate::runtime::source::kube::Cluster;
use crate::runtime::source::manifests::values;

const EXAMPLES: &str = "\
Examples:
  ferrolb migrate -f deploy/ferrolb.yaml --dry-run   show each step, and what would differ
  ferrolb migrate -f deploy/ferrolb.yaml             move; repeat it to continue after an error
  ferrolb migrate --undo                             back to MetalLB, node by node
  ferrolb migrate --finish                           delete MetalLB's DaemonSet and Deployment

MetalLB's CRDs and objects stay. The labels and restrictions of the migration are in the cluster, so
you can continue or undo it from another host. If Argo CD or Flux manages MetalLB, suspend it first:
it would revert the changes.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct MigrateArgs {
    /// ferrolb's manifests: a file, or - for standard input, for instance from helm template.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    #[arg(required_unless_present_any = ["undo", "finish"])]
    file: Option<PathBuf>,
    /// Print the steps and what would differ, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Return all nodes to MetalLB.
    #[arg(long, conflicts_with_all = ["file", "finish"])]
    undo: bool,
    /// Delete what is left of MetalLB's workloads. After that there is no undo.
    #[arg(long, conflicts_with = "file")]
    finish: bool,
    /// Migrate although Services would lose addresses or announcements.
    #[arg(long, conflicts_with_all = ["undo", "finish"])]
    accept_losses: bool,
    /// MetalLB's namespace.
    #[arg(long, default_value = CONFIG_NAMESPACE)]
    namespace: String,
    /// A new file for all objects of MetalLB, without Secrets. What is announced before and after
    /// goes to a file beside it that ends in .plan.json.
    #[arg(long, value_name = "FILE", default_value = "metallb-objects.json")]
    save: PathBuf,
    /// Kubeconfig file; default: $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl MigrateArgs {
    const fn goal(&self) -> Goal {
        match (self.undo, self.finish) {
            (true, _) => Goal::Metallb,
            (_, true) => Goal::Finish,
            _ => Goal::Ferrolb,
        }
    }
}

pub(super) fn run(args: &MigrateArgs) -> Result<ExitCode> {
    block_on(migrate(args))
}

async fn migrate(args: &MigrateArgs) -> Result<ExitCode> {
    let objects = match &args.file {
        Some(file) => objects_of(file, &args.namespace)?,
        None => Vec::new(),
    };
    let install = install_of(&objects);
    let cluster = Cluster::connect(args.kubeconfig.as_deref()).await?;
    let facts = Facts::read(&cluster, &args.namespace).await?;
    let goal = args.goal();
    let steps = steps(&facts, &install, goal).map_err(|obstacles| refusal(&obstacles))?;
    let mut preview = Preview::default();
    if goal == Goal::Ferrolb {
        preview = Preview::of(&cluster, &args.namespace, index_with(&install.flags)).await?;
        preview.exclude_layer2(&without_layer2(&facts.nodes, &install));
        show(
            &preview,
            &facts,
            &install,
            args.accept_losses || args.dry_run,
        )?;
    }
    if args.dry_run {
        print(&listing(&steps)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let record = record_of(&facts, &preview);
    let mut migration = Migration {
        addresses: baseline(&record, &preview, args.accept_losses),
        record,
        cluster,
        namespace: args.namespace.clone(),
        paths: Paths::new(&args.namespace),
        save: args.save.clone(),
        install: in_order(objects),
        plans: preview.to_json()?,
        peers: preview.peers,
    };
    let mut number = 0;
    for step in &steps {
        number += 1;
        print(&format!("{number}/{} {step}\n", steps.len()))?;
        let done = migration.run(step).await;
        done.with_context(|| {
            let advice = advice(step, goal);
            format!("step {number} of {} failed; {advice}", steps.len())
        })?;
    }
    let compares = goal == Goal::Ferrolb && left_out(&facts, goal).is_empty();
    let complete = !compares || migration.compare_announced().await?;
    conclude(&facts, goal, args, complete)
}

/// What works after a step failed, and how to go on.
fn advice(step: &Step, goal: Goal) -> String {
    let mut advice = match step {
        Step::MoveNode(node) | Step::AwaitNode(node) => format!(
            "the nodes before it work, {node} perhaps not. To continue, resolve the cause and run \
             the same command again: it waits for {node} before it moves another node"
        ),
        _ => "the nodes before it work. To continue, run the same command again".to_owned(),
    };
    if goal == Goal::Ferrolb {
        advice += "; to go back: ferrolb migrate --undo";
    }
    advice
}

/// Prints the result and what to do next. Fails if nodes are left, or if it is not `complete`:
/// ferrolb does not announce all that MetalLB announced.
fn conclude(facts: &Facts, goal: Goal, args: &MigrateArgs, complete: bool) -> Result<ExitCode> {
    let left_out = left_out(facts, goal);
    if !left_out.is_empty() {
        print(&format!(
            "left out, because they are not Ready: {}; run the same command again when they are, \
             or when you have deleted the Nodes that don't come back\n",
            left_out.join(", ")
        ))?;
        return Ok(ExitCode::FAILURE);
    }
    let style = Style::stdout();
    let text = match goal {
        Goal::Ferrolb => outcome(args, complete),
        Goal::Metallb => format!("{}\n", style.green("MetalLB runs on all nodes again")),
        Goal::Finish => format!(
            "{}; its CRDs and objects stay\n",
            style.green("MetalLB's workloads are deleted")
        ),
    };
    print(&text)?;
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The end of a migration whose nodes all are moved.
fn outcome(args: &MigrateArgs, complete: bool) -> String {
    let style = Style::stdout();
    let runs = "ferrolb runs on all nodes";
    let (runs, sure) = if complete {
        (style.green(runs), "when you are sure")
    } else {
        let runs = format!("{runs}, but does not announce what is missing above");
        (style.red(&runs), "when nothing is missing any more")
    };
    format!(
        "{runs}; MetalLB's objects are saved in {}\n{sure}: ferrolb migrate --finish; to go back: \
         ferrolb migrate --undo\n",
        args.save.display()
    )
}

fn refusal(obstacles: &[String]) -> anyhow::Error {
    anyhow!("can't migrate:\n  {}", obstacles.join("\n  "))
}

/// What is recorded: by the run that began the migration, or by this one.
fn record_of(facts: &Facts, preview: &Preview) -> Record {
    let begun = facts.record.clone();
    begun.unwrap_or_else(|| Record {
        addresses: preview.addresses.clone(),
        announced: preview.kept(),
        ..facts.to_record()
    })
}

/// The addresses that Services must keep: those of the begin of the migration, and those that came
/// later. If losses are accepted, those of now.
fn baseline(record: &Record, preview: &Preview, losses_accepted: bool) -> Addresses {
    let mut addresses = preview.addresses.clone();
    if !losses_accepted {
        let before = record.addresses.iter();
        addresses.extend(before.map(|(service, found)| (service.clone(), found.clone())));
    }
    addresses
}

/// Prints what stays and what changes. Fails if something would be lost, unless that is accepted.
fn show(preview: &Preview, facts: &Facts, install: &Install, accepted: bool) -> Result<()> {
    print(&printable_lines(&preview.summary()?))?;
    for webhook in &facts.foreign_webhooks {
        print(&format!(
            "notice: the ValidatingWebhookConfiguration {} concerns metallb.io and is not \
             MetalLB's: it stays\n",
            printable(webhook)
        ))?;
    }
    let mut losses = preview.losses();
    losses.extend(without_sessions(&facts.nodes, install, &preview.peers));
    if let Some(record) = &facts.record {
        let changes = changes(&record.addresses, &preview.addresses);
        losses.extend(
            changes
                .into_iter()
                .map(|change| format!("{change}: since the migration began")),
        );
    }
    let style = Style::stdout();
    for loss in &losses {
        print(&format!("{}: {}\n", style.red("loss"), printable(loss)))?;
    }
    if !losses.is_empty() && !accepted {
        bail!(
            "a migration would lose what is listed above: mend it, or migrate anyway with \
             --accept-losses"
        );
    }
    Ok(())
}

fn printable_lines(text: &str) -> String {
    text.lines().map(|line| printable(line) + "\n").collect()
}

fn listing(steps: &[Step]) -> Result<String> {
    let mut text = String::from("steps:\n");
    for (index, step) in steps.iter().enumerate() {
        writeln!(text, "{:>3} {step}", index + 1)?;
    }
    text += "nothing was changed (--dry-run)\n";
    Ok(text)
}

/// The objects of a file of manifests.
fn objects_of(file: &Path, namespace: &str) -> Result<Vec<Value>> {
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).with_context(|| format!("can't read {}", file.display()))?)
    };
    let objects = values(input).map_err(|error| anyhow!("{}:{error}", file.display()))?;
    let workloads = objects.iter().filter(|object| is_workload(object));
    for workload in workloads.clone() {
        let found = workload["metadata"]["namespace"].as_str();
        if found != Some(namespace) {
            bail!(
                "{} {} is in namespace {}, but MetalLB is in {namespace}: ferrolb reads its \
                 configuration there and runs beside it",
                workload["kind"].as_str().unwrap_or_default(),
                name(workload),
                found.unwrap_or("default"),
            );
        }
    }
    if workloads.count() == 0 {
        bail!(
            "{} contains no workload of ferrolb: give deploy/ferrolb.yaml or the output of helm \
             template",
            file.display()
        );
    }
    Ok(objects)
}

fn is_workload(object: &Value) -> bool {
    is_ferrolb(object) && (object["kind"] == "DaemonSet" || object["kind"] == "Deployment")
}

fn install_of(objects: &[Value]) -> Install {
    let daemonsets = objects
        .iter()
        .filter(|object| is_workload(object) && object["kind"] == "DaemonSet");
    let images = daemonsets.clone().flat_map(containers);
    let images = images.filter_map(|container| container["image"].as_str());
    Install {
        objects: objects.len(),
        images: images.map(str::to_owned).collect(),
        flags: common_flags(objects.iter().filter(|object| is_workload(object))),
        daemonsets: daemonsets.clone().cloned().collect(),
        bgp_sessions: objects.iter().any(is_bgp_sessions),
        without_affinity: daemonsets
            .filter(|daemonset| !avoids_label(daemonset))
            .map(|daemonset| name(daemonset).to_owned())
            .collect(),
    }
}

/// Whether a DaemonSet runs only on nodes without [`LABEL`].
fn avoids_label(daemonset: &Value) -> bool {
    let affinity = &daemonset["spec"]["template"]["spec"]["affinity"]["nodeAffinity"];
    let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = required["nodeSelectorTerms"].as_array();
    let avoids = |term: &Value| {
        let expressions = term["matchExpressions"].as_array().into_iter().flatten();
        let mut expressions = expressions
            .filter(|expression| expression["key"] == LABEL)
            .filter(|expression| expression["operator"] == "DoesNotExist");
        expressions.next().is_some()
    };
    terms.is_some_and(|terms| !terms.is_empty() && terms.iter().all(avoids))
}
