//! `ferrolb plan`: predicts addresses, routes and layer 2 announcements from manifests.

mod what_if;

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use self::what_if::WhatIfArgs;
use super::output::{Style, json, or_dash, print, table};
use super::workload_flags::index_with;
use super::{ConfigArgs, ManifestArgs, Output};
use crate::core::api::Kind;
use crate::core::index::Index;
use crate::core::plan::{Plan, PlanError, plan};
use crate::core::printable::printable;
use crate::runtime::source::manifests::{Manifests, changes};

const EXAMPLES: &str = "\
Examples:
  ferrolb plan -f manifests/
  ferrolb plan -f manifests/ -o json | jq '.withheld[] | select(.name == \"web\")'
  ferrolb plan -f change.yaml --against live      what a change would do to the cluster
  ferrolb plan -f new/ --against old/ --prune     the same for two folders
  ferrolb plan --against live --drain node-a      who would announce what without node-a

From the current state of a cluster:
  kubectl get services,endpointslices,nodes,namespaces -A -o yaml > services.yaml
  kubectl get -n metallb-system -o yaml \\
    ipaddresspools,bgppeers.metallb.io,bfdprofiles,bgpadvertisements,communities,\\
  l2advertisements.metallb.io > config.yaml
  # add bgppeers.ferrolb.io,l2advertisements.ferrolb.io if their CRDs are installed
  # before MetalLB 0.13: kubectl get -n metallb-system configmap config -o yaml > config.yaml
  ferrolb plan -f services.yaml config.yaml";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PlanArgs {
    /// Files or folders (with subfolders) of YAML or JSON; - reads standard input.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1..)]
    #[arg(required_unless_present = "against")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    what_if: WhatIfArgs,
    /// Announce also from nodes with the label
    /// node.kubernetes.io/exclude-from-external-load-balancers. With --against live it need not be
    /// given: the arguments of ferrolb's workloads say it.
    #[arg(long)]
    ignore_exclude_lb: bool,
    /// Allocate for Services with this spec.loadBalancerClass instead of those without one. With
    /// --against live the default is that of ferrolb's workloads.
    #[arg(long, value_name = "CLASS")]
    lb_class: Option<String>,
    /// Output format: tables for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl PlanArgs {
    /// The flags of a daemon that has those of workloads, and of the command line those that are
    /// given.
    fn flags_beside(&self, mut workloads: BTreeSet<String>) -> BTreeSet<String> {
        if let Some(class) = &self.lb_class {
            workloads.retain(|flag| !flag.starts_with("--lb-class="));
            workloads.insert(format!("--lb-class={class}"));
        }
        if self.ignore_exclude_lb {
            workloads.insert("--ignore-exclude-lb".to_owned());
        }
        workloads
    }
}

pub(super) fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    if args.what_if.is_requested() {
        return what_if::run(args);
    }
    let files = ManifestArgs {
        paths: args.paths.clone(),
        config: args.config.clone(),
    };
    let manifests = files.load();
    if manifests.objects.is_empty() {
        for error in &manifests.errors {
            eprintln!("ferrolb: {}", printable(&error.to_string()));
        }
        for (kind, unsupported) in &manifests.unread {
            let line = format!("{}: {}", unsupported.location, unsupported.message(kind));
            eprintln!("ferrolb: {}", printable(&line));
        }
        if !manifests.unread.is_empty() {
            anyhow::bail!("nothing to plan: ferrolb reads none of these objects, see above");
        }
        anyhow::bail!("{}", files.nothing_found());
    }
    let index = index_with(&args.flags_beside(BTreeSet::new()));
    let plan = plan_manifests(&manifests, &args.config.config_namespace, index);
    match args.output {
        Output::Json => json(&plan)?,
        Output::Table => {
            let has = |kind| manifests.objects.keys().any(|key| key.kind == kind);
            let hint = match plan.routes.is_empty() && plan.layer2.is_empty() {
                false => "",
                true if !has(Kind::Node) && !has(Kind::EndpointSlice) => NEITHER,
                true if !has(Kind::Node) => NO_NODES,
                true if !has(Kind::EndpointSlice) => NO_SLICES,
                true => "none\n",
            };
            print(&text(&plan, hint, &files.shown_paths())?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

const NEITHER: &str = "none: routes are planned for each Node, where a Service has endpoints, but \
                       these manifests contain neither a Node nor an EndpointSlice; add the \
                       output of kubectl get nodes,endpointslices -A -o yaml\n";

const NO_NODES: &str = "none: routes are planned for each Node, but these manifests contain none; \
                        add the output of kubectl get nodes -o yaml\n";

const NO_SLICES: &str = "none: a Service is announced only with endpoints, but these manifests \
                         contain no EndpointSlice; add the output of kubectl get endpointslices \
                         -A -o yaml\n";

/// The plan from an empty index and manifests, including errors in reading them.
pub(super) fn plan_manifests(
    manifests: &Manifests,
    config_namespaces: &[String],
    index: Index,
) -> Plan {
    let changes = changes(&manifests.objects, config_namespaces);
    let mut plan = plan(index, changes);
    let errors = manifests.errors.iter().map(|error| PlanError {
        object: error.location.to_string(),
        message: error.message.clone(),
    });
    let interface_lists = manifests.interface_lists.iter().filter_map(|list| {
        Some(PlanError {
            object: list.object.clone(),
            message: list.error.clone()?,
        })
    });
    plan.errors.splice(0..0, errors.chain(interface_lists));
    let unsupported = manifests
        .unread
        .iter()
        .map(|(kind, unsupported)| PlanError {
            object: unsupported.location.to_string(),
            message: unsupported.message(kind),
        });
    plan.notices.splice(0..0, unsupported);
    plan
}

fn text(plan: &Plan, no_routes: &str, paths: &str) -> Result<String, fmt::Error> {
    let style = Style::stdout();
    let mut text = String::new();
    writeln!(text, "{}\n{}", style.bold("Services"), services(plan))?;
    for service in &plan.services {
        if let Some(message) = &service.message {
            let line = format!("{}/{}: {message}", service.namespace, service.name);
            writeln!(text, "  {}", printable(&line))?;
        }
    }
    if plan.layer2.is_empty() || !plan.routes.is_empty() {
        writeln!(text, "\n{}", style.bold("Routes"))?;
        if no_routes.is_empty() {
            writeln!(text, "{}", routes(plan))?;
        } else {
            text += no_routes;
        }
    }
    if !plan.layer2.is_empty() {
        let title = style.bold("Layer 2 (owner: if all nodes start at once)");
        writeln!(text, "\n{title}\n{}", layer2(plan))?;
    }
    if !plan.withheld.is_empty() {
        writeln!(
            text,
            "\n{}\n{}",
            style.bold("Not announced"),
            withheld(plan)
        )?;
    }
    if !plan.withheld_aggregates.is_empty() {
        let title = style.bold("Aggregates not announced");
        writeln!(text, "\n{title}\n{}", withheld_aggregates(plan))?;
    }
    section(&mut text, &style.bold("Without effect"), &plan.notices)?;
    section(&mut text, &style.red("Errors"), &plan.errors)?;
    if !plan.errors.is_empty() {
        writeln!(
            text,
            "find the lines: ferrolb check -f {}",
            printable(paths)
        )?;
    }
    Ok(text)
}

fn services(plan: &Plan) -> String {
    let rows = plan.services.iter().map(|service| {
        vec![
            format!("{}/{}", service.namespace, service.name),
            or_dash(join(&service.addresses)),
            or_dash(service.pool.clone().unwrap_or_default()),
            or_dash(service.reason.clone().unwrap_or_default()),
        ]
    });
    table(&["SERVICE", "ADDRESSES", "POOL", "REASON"], rows)
}

fn routes(plan: &Plan) -> String {
    let rows = plan.routes.iter().map(|route| {
        vec![
            route.node.clone(),
            route.peer.clone(),
            route.prefix.to_string(),
            or_dash(
                route
                    .next_hop
                    .map(|next_hop| next_hop.to_string())
                    .unwrap_or_default(),
            ),
            or_dash(route.all_communities()),
            or_dash(
                route
                    .local_pref
                    .map(|value| value.to_string())
                    .unwrap_or_default(),
            ),
        ]
    });
    table(
        &[
            "NODE",
            "PEER",
            "PREFIX",
            "NEXT HOP",
            "COMMUNITIES",
            "LOCAL PREF",
        ],
        rows,
    )
}

/// Maximum number of nodes that the table names for an address.
const LISTED_NODES_MAX: usize = 8;

fn layer2(plan: &Plan) -> String {
    let rows = plan.layer2.iter().map(|entry| {
        let nodes = entry.candidates.iter().take(LISTED_NODES_MAX).map(|node| {
            let weight = (node.weight > 0).then(|| format!("weight {}", node.weight));
            let interfaces = node.interfaces.as_ref().map(|names| names.join(" "));
            let about: Vec<String> = weight.into_iter().chain(interfaces).collect();
            if about.is_empty() {
                node.node.clone()
            } else {
                format!("{} ({})", node.node, about.join(", "))
            }
        });
        let mut nodes = join(&nodes.collect::<Vec<_>>());
        let others = entry.candidates.len().saturating_sub(LISTED_NODES_MAX);
        if others > 0 {
            nodes += &format!(" and {others} more");
        }
        vec![
            entry.address.to_string(),
            join(&entry.services),
            or_dash(entry.owner.clone().unwrap_or_default()),
            nodes,
        ]
    });
    table(&["ADDRESS", "SERVICES", "OWNER", "CANDIDATES"], rows)
}

fn withheld(plan: &Plan) -> String {
    let rows = plan.withheld.iter().map(|entry| {
        vec![
            format!("{}/{}", entry.namespace, entry.name),
            or_dash(entry.node.clone().unwrap_or_default()),
            or_dash(entry.peer.clone().unwrap_or_default()),
            entry.reason.clone(),
            entry.message.clone(),
        ]
    });
    table(
        &["SERVICE", "NODE", "PEER", "REASON", "WHY, AND WHAT TO DO"],
        rows,
    )
}

fn withheld_aggregates(plan: &Plan) -> String {
    let rows = plan.withheld_aggregates.iter().map(|entry| {
        vec![
            entry.pool.clone(),
            entry.node.clone(),
            or_dash(entry.peer.clone().unwrap_or_default()),
            entry.reason.clone(),
            entry.message.clone(),
        ]
    });
    table(
        &["POOL", "NODE", "PEER", "REASON", "WHY, AND WHAT TO DO"],
        rows,
    )
}

fn section(text: &mut String, name: &str, entries: &[PlanError]) -> fmt::Result {
    if !entries.is_empty() {
        writeln!(text, "\n{name}")?;
    }
    entries.iter().try_for_each(|entry| {
        let line = format!("{}: {}", entry.object, entry.message);
        writeln!(text, "{}", printable(&line))
    })
}

fn join<T: ToString>(values: &[T]) -> String {
    values
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests;
