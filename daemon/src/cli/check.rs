//! `ferrolb check`: validates manifests.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;

use super::ManifestArgs;
use super::output::{Style, print};
use crate::core::api::{Kind, ObjectKey};
use crate::core::config::{Problem, Severity, config_map};
use crate::core::plan;
use crate::core::printable::printable;
use crate::runtime::source::manifests::{Manifests, changes};

const EXAMPLES: &str = "\
Examples:
  ferrolb check -f manifests/
  kubectl get -n metallb-system -o yaml \\
    ipaddresspools,bgppeers.metallb.io,bfdprofiles,bgpadvertisements,communities,\\
  l2advertisements.metallb.io > now.yaml
  # add bgppeers.ferrolb.io,l2advertisements.ferrolb.io if their CRDs are installed
  # before MetalLB 0.13: kubectl get -n metallb-system configmap config -o yaml > now.yaml
  ferrolb check -f now.yaml";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let style = Style::stdout();
    let manifests = args.manifests.load();
    let findings = findings(&manifests, &args.manifests.config.config_namespace);
    let objects = manifests.objects.len() + manifests.interface_lists.len();
    if objects == 0 && findings.is_empty() {
        anyhow::bail!("{}", args.manifests.nothing_found());
    }
    let mut text = String::new();
    for Finding {
        place,
        severity,
        message,
        correction,
    } in &findings
    {
        let label = match severity {
            Severity::Error | Severity::UnknownField => style.red("error"),
            Severity::Notice => style.yellow("notice"),
        };
        writeln!(
            text,
            "{}: {label}: {}",
            style.bold(&printable(place)),
            printable(message)
        )?;
        text += &shown_correction(correction.as_deref());
    }
    let errors = findings
        .iter()
        .filter(|finding| finding.severity != Severity::Notice)
        .count();
    if errors > 0 {
        let number = if errors == 1 {
            "1 error".to_owned()
        } else {
            format!("{errors} errors")
        };
        writeln!(text, "\n{} in {objects} objects", style.red(&number))?;
    } else if objects == 0 {
        let others = manifests.others;
        writeln!(
            text,
            "nothing to check: ferrolb reads none of these {others} objects"
        )?;
    } else {
        writeln!(
            text,
            "{}: {objects} objects read, {} of kinds that ferrolb does not use\npredict the \
             result: ferrolb plan -f {}",
            style.green("all valid"),
            manifests.others,
            printable(&args.manifests.shown_paths())
        )?;
    }
    print(&text)?;
    Ok(if errors > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

struct Finding {
    place: String,
    severity: Severity,
    message: String,
    /// The text as it was probably meant.
    correction: Option<String>,
}

/// The lines of a correction, indented.
pub(super) fn shown_correction(correction: Option<&str>) -> String {
    let Some(correction) = correction else {
        return String::new();
    };
    let lines = correction
        .lines()
        .map(|line| format!("    {}\n", printable(line)));
    format!("  probably meant:\n{}", lines.collect::<String>())
}

fn findings(manifests: &Manifests, namespaces: &[String]) -> Vec<Finding> {
    let mut index = plan::index_of(changes(&manifests.objects, namespaces));
    // Some conflicts show only with the addresses that services get.
    plan::allocate(&mut index);
    let place = |key: &ObjectKey| match manifests.objects.get(key) {
        Some(located) => format!("{} {key}", located.location),
        None => key.to_string(),
    };
    let unreadable = manifests.errors.iter().map(|error| Finding {
        place: error.location.to_string(),
        severity: Severity::Error,
        message: error.message.clone(),
        correction: error.correction.clone(),
    });
    let interface_lists = manifests.interface_lists.iter().filter_map(|list| {
        Some(Finding {
            place: format!("{} {}", list.location, list.object),
            severity: Severity::Error,
            message: list.error.clone()?,
            correction: None,
        })
    });
    let problems = index.problems().into_iter().map(|problem| Finding {
        place: place(&problem.object),
        severity: problem.severity,
        correction: correction(manifests, &problem),
        message: problem.message,
    });
    let elsewhere = manifests
        .objects
        .keys()
        .filter(|key| is_elsewhere(key, namespaces));
    let elsewhere = elsewhere.map(|key| Finding {
        place: place(key),
        severity: Severity::Error,
        message: format!(
            "is in namespace {0}, but configuration is read only from {1}: move it, or add \
             --config-namespace {0}",
            key.name.namespace,
            namespaces.join(", ")
        ),
        correction: None,
    });
    let unsupported = manifests.unread.iter().map(|(kind, unsupported)| Finding {
        place: unsupported.location.to_string(),
        severity: Severity::Notice,
        message: unsupported.message(kind),
        correction: None,
    });
    let findings = unreadable.chain(interface_lists);
    let findings = findings.chain(problems).chain(elsewhere);
    findings.chain(unsupported).collect()
}

/// The text of an invalid ConfigMap as it was probably meant.
fn correction(manifests: &Manifests, problem: &Problem) -> Option<String> {
    if (problem.object.kind, problem.severity) != (Kind::ConfigMap, Severity::Error) {
        return None;
    }
    let located = manifests.objects.get(&problem.object)?;
    config_map::correction(config_map::text_of(&located.raw).ok()?)
}

/// Secrets may be in any namespace; MetalLB's resources have no effect outside of the configuration
/// namespaces.
fn is_elsewhere(key: &ObjectKey, namespaces: &[String]) -> bool {
    key.kind != Kind::Secret
        && key.kind.is_configuration()
        && !namespaces.contains(&key.name.namespace)
}
