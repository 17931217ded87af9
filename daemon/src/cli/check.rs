//! `ferrolb check`: is everything in these manifests valid?

use std::process::ExitCode;

use clap::Args;

use super::ManifestArgs;
use super::output::Style;
use crate::api::{Kind, ObjectKey};
use crate::config::Severity;
use crate::plan;
use crate::source::manifests::{Loader, Manifests};

const EXAMPLES: &str = "\
Examples:
  ferrolb check -f manifests/
  kubectl get ipaddresspools,bgppeers,bgpadvertisements,communities -n metallb-system -o yaml > now.yaml
  ferrolb check -f now.yaml";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
}

pub(super) fn run(args: &CheckArgs) -> ExitCode {
    let style = Style::stdout();
    let namespaces = &args.manifests.config_namespace;
    let manifests = args.manifests.load();
    let findings = findings(&manifests, namespaces);
    for finding in &findings {
        let label = match finding.severity {
            Severity::Error => style.red("error"),
            Severity::Notice => style.yellow("notice"),
        };
        println!(
            "{}: {label}: {}",
            style.bold(&finding.place),
            finding.message
        );
    }
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    let objects = manifests.objects.len();
    if errors > 0 {
        println!(
            "\n{} in {objects} objects",
            style.red(&count(errors, "error"))
        );
        return ExitCode::FAILURE;
    }
    println!(
        "{}: {objects} objects read, {} of kinds that ferrolb does not use",
        style.green("all valid"),
        manifests.others
    );
    if objects > 0 {
        println!(
            "see what they lead to: ferrolb plan -f {}",
            args.manifests.shown_paths()
        );
    }
    ExitCode::SUCCESS
}

struct Finding {
    place: String,
    severity: Severity,
    message: String,
}

fn findings(manifests: &Manifests, namespaces: &[String]) -> Vec<Finding> {
    let index = plan::index_of(manifests, namespaces);
    let mut findings: Vec<Finding> = manifests
        .errors
        .iter()
        .map(|error| Finding {
            place: error.location.to_string(),
            severity: Severity::Error,
            message: error.message.clone(),
        })
        .collect();
    let place = |key: &ObjectKey| match manifests.objects.get(key) {
        Some(located) => format!("{} {key}", located.location),
        None => key.to_string(),
    };
    findings.extend(index.problems().into_iter().map(|problem| Finding {
        place: place(&problem.object),
        severity: problem.severity,
        message: problem.message,
    }));
    findings.extend(manifests.objects.keys().filter(|key| is_elsewhere(key, namespaces)).map(|key| Finding {
        place: place(key),
        severity: Severity::Error,
        message: format!(
            "lies in namespace {}, but configuration is read from {} only: move it, or add --config-namespace {}",
            key.name.namespace,
            namespaces.join(", "),
            key.name.namespace
        ),
    }));
    findings
}

/// Secrets lie everywhere; MetalLB's resources outside the configuration namespaces have no effect.
fn is_elsewhere(key: &ObjectKey, namespaces: &[String]) -> bool {
    key.kind != Kind::Secret
        && key.kind.is_configuration()
        && !namespaces.contains(&key.name.namespace)
}

fn count(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}

impl ManifestArgs {
    /// Reads the manifests.
    pub(super) fn load(&self) -> Manifests {
        let default = self
            .config_namespace
            .first()
            .map_or(super::CONFIG_NAMESPACE, String::as_str);
        Loader::new(self.paths.clone(), default).load()
    }

    /// The paths as they would be typed.
    pub(super) fn shown_paths(&self) -> String {
        let paths: Vec<String> = self
            .paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.join(" ")
    }
}
