//! `ferrolb plan --against`: what a change, a drain or a failure would do. Nothing is written.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{Output, PlanArgs};
use crate::cli::block_on;
use crate::cli::output::{Style, json, print, table};
use crate::cli::workload_flags::index_with;
use crate::cli::world::LiveCluster;
use crate::core::plan::Prediction;
use crate::core::plan::difference::{AddressDifference, Difference, Effect};
use crate::core::plan::what_if::{Event, Objects};
use crate::core::printable::printable;
use crate::runtime::source::manifests::{Loader, Manifests, changes};

/// The value of `--against` for the cluster of the kubeconfig.
const LIVE: &str = "live";
/// Something would be withdrawn, or an address would move.
const WITHDRAWS: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct WhatIfArgs {
    /// Show what the manifests would change: live for the cluster of the kubeconfig, or a file or
    /// folder with its objects. Exits with 3 if something would be withdrawn, or an address would
    /// move.
    #[arg(long, value_name = "live|PATH")]
    against: Option<String>,
    /// Kubeconfig file; default: $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE", requires = "against")]
    kubeconfig: Option<PathBuf>,
    /// Assume that the manifests are the whole configuration: objects of MetalLB and ferrolb that
    /// they lack are deleted.
    #[arg(long, requires = "against", requires = "paths")]
    prune: bool,
    /// Assume that a node is drained: it announces nothing, and its Pods are gone.
    #[arg(long, value_name = "NODE", requires = "against")]
    drain: Vec<String>,
    /// Assume that a node fails.
    #[arg(long, value_name = "NODE", requires = "against")]
    lose: Vec<String>,
    /// Assume that the router of a BGPPeer fails.
    #[arg(long, value_name = "PEER", requires = "against")]
    lose_peer: Vec<String>,
}

impl WhatIfArgs {
    pub(super) const fn is_requested(&self) -> bool {
        self.against.is_some()
    }

    fn events(&self) -> impl Iterator<Item = Event> {
        let drained = self.drain.iter().cloned().map(Event::Drain);
        let lost = self.lose.iter().cloned().map(Event::LoseNode);
        let peers = self.lose_peer.iter().cloned().map(Event::LosePeer);
        drained.chain(lost).chain(peers)
    }
}

pub(super) fn run(args: &PlanArgs) -> Result<ExitCode> {
    let Base {
        objects: before,
        flags,
    } = base(args)?;
    let mut after = before.clone();
    if !args.paths.is_empty() {
        let manifests = load(args, args.paths.clone())?;
        if args.what_if.prune {
            after.prune(|key| manifests.objects.contains_key(key));
        }
        let objects = manifests.objects.into_iter();
        after.apply(objects.map(|(key, located)| (key, located.raw)));
    }
    for event in args.what_if.events() {
        after.assume(&event).map_err(anyhow::Error::msg)?;
    }
    let flags = args.flags_beside(flags);
    let [before, after] =
        [before, after].map(|objects| Prediction::of(index_with(&flags), objects.into_changes()));
    let difference = Difference::of(&before, &after);
    match args.output {
        Output::Json => json(&difference)?,
        Output::Table => print(&text(&difference)?)?,
    }
    Ok(if difference.withdraws() {
        ExitCode::from(WITHDRAWS)
    } else {
        ExitCode::SUCCESS
    })
}

/// Reads manifests, and reports what is wrong with them.
fn load(args: &PlanArgs, paths: Vec<PathBuf>) -> Result<Manifests> {
    let manifests = Loader::new(paths, args.config.places()).load();
    for error in &manifests.errors {
        eprintln!("ferrolb: {}", printable(&error.to_string()));
    }
    anyhow::ensure!(
        manifests.errors.is_empty(),
        "the manifests have errors, see above; a plan without these objects would be wrong"
    );
    Ok(manifests)
}

/// What the change is compared with.
struct Base {
    objects: Objects,
    /// The arguments of ferrolb's workloads in the cluster. None in manifests.
    flags: BTreeSet<String>,
}

fn base(args: &PlanArgs) -> Result<Base> {
    let against = args.what_if.against.as_deref().unwrap_or(LIVE);
    if against != LIVE {
        let manifests = load(args, vec![PathBuf::from(against)])?;
        let changes = changes(&manifests.objects, &args.config.config_namespace);
        return Ok(Base {
            objects: Objects::of(changes),
            flags: BTreeSet::new(),
        });
    }
    let kubeconfig = args.what_if.kubeconfig.as_deref();
    let live = block_on(LiveCluster::read(kubeconfig, None, &args.config.places()))?;
    for line in &live.unseen {
        eprintln!("ferrolb: can't see {}", printable(line));
    }
    Ok(Base {
        objects: Objects::of(live.snapshot.into_changes()?),
        flags: live.flags,
    })
}

fn text(difference: &Difference) -> Result<String, fmt::Error> {
    let style = Style::stdout();
    let mut text = String::new();
    if difference.is_empty() {
        text += "nothing changes\n";
        return Ok(text);
    }
    for (title, services) in [
        ("No longer announced", &difference.lost),
        ("Announced from now on", &difference.gained),
    ] {
        if !services.is_empty() {
            let title = style.bold(&format!("{title} ({})", services.len()));
            writeln!(text, "{title}\n{}\n", printable(&services.join("\n")))?;
        }
    }
    for (title, table) in [
        ("Addresses", addresses(&difference.addresses)),
        ("Routes", routes(difference)),
        ("Flows that move to another node", flows(difference)),
        ("Layer 2 candidates", layer2(difference)),
        ("New errors", errors(difference)),
    ] {
        if let Some(table) = table {
            writeln!(text, "{}\n{table}\n", style.bold(title))?;
        }
    }
    Ok(text)
}

type Row = Vec<String>;

fn table_of(header: &[&str], rows: impl Iterator<Item = Row>) -> Option<String> {
    let rows: Vec<Row> = rows.collect();
    (!rows.is_empty()).then(|| table(header, rows))
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

fn addresses(differences: &[AddressDifference]) -> Option<String> {
    let rows = differences.iter().map(|entry| {
        vec![
            entry.service.clone(),
            joined(&entry.before),
            joined(&entry.after),
        ]
    });
    table_of(&["SERVICE", "BEFORE", "AFTER"], rows)
}

fn routes(difference: &Difference) -> Option<String> {
    let rows = difference.routes.iter().map(|route| {
        let sign = match route.effect {
            Effect::Announced => "+",
            Effect::Withdrawn => "-",
            Effect::Changed => "~",
        };
        vec![
            sign.to_owned(),
            route.node.clone(),
            route.peer.clone(),
            route.prefix.to_string(),
            route.attributes.join("; "),
        ]
    });
    table_of(&["", "NODE", "PEER", "PREFIX", "CHANGE"], rows)
}

fn flows(difference: &Difference) -> Option<String> {
    let rows = difference.flows.iter().map(|flow| {
        vec![
            flow.peer.clone(),
            flow.prefix.to_string(),
            format!("{} to {}", flow.nodes_before, flow.nodes_after),
            format!("{} %", flow.moved_at_least),
            format!("{} %", flow.moved_by_rehash),
        ]
    });
    let header = ["PEER", "PREFIX", "NODES", "RESILIENT HASHING", "OTHERWISE"];
    table_of(&header, rows)
}

fn layer2(difference: &Difference) -> Option<String> {
    let rows = difference.layer2.iter().map(|entry| {
        vec![
            entry.address.to_string(),
            joined(&entry.before),
            joined(&entry.after),
        ]
    });
    table_of(&["ADDRESS", "BEFORE", "AFTER"], rows)
}

fn errors(difference: &Difference) -> Option<String> {
    let rows = difference.errors.iter();
    let rows = rows.map(|error| vec![error.object.clone(), error.message.clone()]);
    table_of(&["OBJECT", "ERROR"], rows)
}

#[cfg(test)]
mod tests;
