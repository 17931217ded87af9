//! `ferrolb plan`: what these manifests lead to.

use std::process::ExitCode;

use clap::Args;

use super::output::{Style, json, table};
use super::{ManifestArgs, Output};
use crate::plan::{Plan, PlanError, plan};

const EXAMPLES: &str = "\
Examples:
  ferrolb plan -f manifests/
  ferrolb plan -f manifests/ -o json | jq '.withheld[] | select(.name == \"web\")'
  kubectl get services,endpointslices,nodes,ipaddresspools,bgppeers,bgpadvertisements -A -o yaml > now.yaml
  ferrolb plan -f now.yaml";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Tables for people, JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let manifests = args.manifests.load();
    if manifests.objects.is_empty() && manifests.errors.is_empty() {
        anyhow::bail!(
            "no objects found in {}: give files or folders with -f that hold Services, Nodes and MetalLB's resources",
            args.manifests.shown_paths()
        );
    }
    let plan = plan(&manifests, &args.manifests.config_namespace);
    match args.output {
        Output::Json => json(&plan)?,
        Output::Table => print(&plan, &args.manifests.shown_paths()),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(plan: &Plan, paths: &str) {
    let style = Style::stdout();
    let heading = |text: &str| println!("{}", style.bold(text));
    heading("Services");
    let services = plan.services.iter().map(|service| {
        vec![
            format!("{}/{}", service.namespace, service.name),
            or_dash(join(&service.addresses)),
            or_dash(service.pool.clone().unwrap_or_default()),
            service.reason.clone().unwrap_or_default(),
        ]
    });
    println!(
        "{}",
        table(&["SERVICE", "ADDRESSES", "POOL", "REASON"], services)
    );
    for service in &plan.services {
        if let Some(message) = &service.message {
            println!("  {}/{}: {message}", service.namespace, service.name);
        }
    }
    heading("\nRoutes");
    let routes = plan.routes.iter().map(|route| {
        let communities = [route.communities.clone(), route.large_communities.clone()].concat();
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
            or_dash(communities.join(" ")),
            or_dash(
                route
                    .local_pref
                    .map(|value| value.to_string())
                    .unwrap_or_default(),
            ),
        ]
    });
    println!(
        "{}",
        table(
            &[
                "NODE",
                "PEER",
                "PREFIX",
                "NEXT HOP",
                "COMMUNITIES",
                "LOCAL PREF"
            ],
            routes
        )
    );
    if !plan.withheld.is_empty() {
        heading("\nNot announced");
        let withheld = plan.withheld.iter().map(|entry| {
            vec![
                format!("{}/{}", entry.namespace, entry.name),
                entry.node.clone(),
                or_dash(entry.peer.clone().unwrap_or_default()),
                entry.reason.clone(),
                entry.message.clone(),
            ]
        });
        println!(
            "{}",
            table(
                &["SERVICE", "NODE", "PEER", "REASON", "WHY, AND WHAT TO DO"],
                withheld
            )
        );
    }
    let section = |name: &str, entries: &[PlanError]| {
        if !entries.is_empty() {
            heading(name);
        }
        for entry in entries {
            println!("{}: {}", entry.object, entry.message);
        }
    };
    section("\nNot active yet", &plan.notices);
    section(&style.red("\nErrors"), &plan.errors);
    if !plan.errors.is_empty() {
        println!("find the places: ferrolb check -f {paths}");
    }
}

fn join<T: ToString>(values: &[T]) -> String {
    values
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn or_dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}
