//! `ferrolb convert`: prints the resources that MetalLB's ConfigMap and AddressPools mean.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::check::shown_correction;
use super::output::print;
use crate::core::api::{ObjectName, RawObject};
use crate::core::config::CONFIG_NAMESPACE;
use crate::core::config::address_pools;
use crate::core::config::config_map::{self, Mistake};
use crate::core::printable::printable;
use crate::core::syntax::SyntaxError;
use crate::runtime::source::config_maps::{ConfigMapText, Found, read};

const EXAMPLES: &str = "\
Examples:
  ferrolb convert config.yaml
  kubectl get -n metallb-system configmap config -o yaml | ferrolb convert - > resources.yaml

Replace the ConfigMap in a cluster that has MetalLB's CRDs. Addresses and sessions stay:
  kubectl apply -f resources.yaml
  kubectl delete -n metallb-system configmap config

In the same way, replace AddressPools, which MetalLB 0.14 does not read:
  kubectl get -n metallb-system addresspools -o yaml | ferrolb convert - > resources.yaml

FILE may contain the ConfigMap, alone or among other objects, or only its text:
  address-pools:
  - name: default
    protocol: layer2
    addresses:
    - 192.0.2.0/24";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ConvertArgs {
    /// YAML or JSON; - reads standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    let shown = args.file.display().to_string();
    let found = read(&args.file).with_context(|| shown.clone())?;
    let shown = if args.file == Path::new("-") {
        "<stdin>"
    } else {
        &shown
    };
    let Found {
        texts,
        address_pools,
        errors,
    } = &found;
    let mut failed = !errors.is_empty();
    for error in errors {
        report_syntax(shown, error);
    }
    if texts.is_empty() && address_pools.is_empty() && errors.is_empty() {
        anyhow::bail!(
            "{shown} contains no ConfigMap with the key config, and no AddressPool: give those of \
             MetalLB, for instance from kubectl get -n {CONFIG_NAMESPACE} configmap config -o yaml"
        );
    }
    let of_texts = texts.iter().map(|text| converted(text, shown));
    let of_pools = address_pools.iter();
    let of_pools = of_pools.map(|(line, pool)| converted_pool(pool, &format!("{shown}:{line}")));
    let mut output = String::new();
    for result in of_texts.chain(of_pools) {
        match result {
            Ok(resources) => output += &resources,
            Err(error) => {
                failed = true;
                eprint!("{error}");
            }
        }
    }
    if failed {
        return Ok(ExitCode::FAILURE);
    }
    print(&output)?;
    Ok(ExitCode::SUCCESS)
}

fn report_syntax(file: &str, error: &SyntaxError) {
    let line = format!("{file}:{}: {}", error.line, error.message);
    let correction = shown_correction(error.correction.as_deref());
    eprint!("{}\n{correction}", printable(&line));
}

/// The resources, or what is wrong with the text.
fn converted(found: &ConfigMapText, file: &str) -> Result<String, String> {
    let namespace = found
        .name
        .as_ref()
        .and_then(|(namespace, _)| namespace.clone());
    let namespace = namespace.unwrap_or_else(|| CONFIG_NAMESPACE.to_owned());
    let object = match &found.name {
        Some((_, name)) => format!("ConfigMap {namespace}/{name}"),
        None => file.to_owned(),
    };
    let place = |line: Option<usize>| match (&found.name, line) {
        (None, line) => format!("{file}:{}", line.unwrap_or(1)),
        (Some(_), None) => format!("{file}:{} {object}", found.line),
        (Some(_), Some(line)) => {
            format!(
                "{file}:{} {object}: data.{} line {line}",
                found.line,
                config_map::KEY
            )
        }
    };
    let text = found
        .text
        .as_ref()
        .map_err(|error| format!("{}\n", printable(&format!("{}: {error}", place(None)))))?;
    let report = |mistakes: Vec<Mistake>| {
        let lines = mistakes.iter().map(|mistake| {
            let line = format!("{}: {mistake}", place(Some(mistake.line)));
            format!("{}\n", printable(&line))
        });
        let correction = config_map::correction(text);
        lines.collect::<String>() + &shown_correction(correction.as_deref())
    };
    let objects = config_map::convert(text, &namespace).map_err(report)?;
    let named = config_map::kubernetes_names(objects).map_err(report)?;
    for (old, new) in named.renamed {
        let line = format!(
            "{}: the pool {old:?} becomes {new}: change the annotation address-pool of Services \
             that name it",
            place(None)
        );
        eprintln!("{}", printable(&line));
    }
    let objects = named.objects.iter().map(|object| &object.raw);
    yaml(objects, &object).map_err(|error| format!("{}: {error}\n", place(None)))
}

/// The resources that an AddressPool means, or what is wrong with it.
fn converted_pool(pool: &RawObject, place: &str) -> Result<String, String> {
    let namespace = pool.metadata.namespace.as_deref();
    let namespace = namespace.unwrap_or(CONFIG_NAMESPACE);
    let name = ObjectName::new(namespace, pool.metadata.name.as_str());
    let place = format!("{place} AddressPool {name}");
    let report = |errors: Vec<String>| -> String {
        let errors = errors.into_iter();
        errors
            .map(|error| format!("{}\n", printable(&format!("{place}: {error}"))))
            .collect()
    };
    let mut unknown = Vec::new();
    let objects = address_pools::convert(&name, pool, &mut unknown)
        .map_err(|error| report(vec![error.to_string()]))?;
    if !unknown.is_empty() {
        let unknown = unknown.into_iter();
        return Err(report(
            unknown
                .map(|path| format!("{path}: AddressPool has no such field: check the spelling"))
                .collect(),
        ));
    }
    let objects = objects.into_iter().map(|mut object| {
        // The names that they have in a plan are no names for Kubernetes.
        object.raw.metadata.name = object.raw.metadata.name.replace('/', "-");
        object.raw
    });
    let objects: Vec<RawObject> = objects.collect();
    yaml(&objects, &format!("AddressPool {name}")).map_err(|error| format!("{place}: {error}\n"))
}

/// The objects as YAML, each followed by `---`.
pub(super) fn yaml<'a>(
    objects: impl IntoIterator<Item = &'a RawObject>,
    source: &str,
) -> Result<String, serde_saphyr::ser::Error> {
    let source = source.replace(|c: char| c.is_control(), " ");
    let mut text = format!("# Converted by ferrolb from {source}.\n");
    for raw in objects {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        let resource = json!({
            "apiVersion": raw.api_version,
            "kind": raw.kind,
            "metadata": { "name": raw.metadata.name, "namespace": raw.metadata.namespace },
            "spec": raw.body.get("spec"),
        });
        text += &serde_saphyr::to_string_with_options(&resource, options)?;
        // Writing to a String does not fail.
        _ = writeln!(text, "---");
    }
    Ok(text)
}
