//! Names of objects for completion scripts, which run the hidden command `complete-names` with the
//! words of the command line; and complete answers for kubectl, which runs the program under the
//! name `kubectl_complete-ferrolb`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Command, CommandFactory};
use tokio::time::timeout;

use super::output::print;
use super::world::WorldArgs;
use super::{Cli, ConfigArgs, block_on};
use crate::core::api::{CONFIG_MAP, Kind, ObjectName};
use crate::core::config::CONFIG_NAMESPACE;
use crate::core::index::Index;
use crate::core::index::change::Change;
use crate::runtime::source::kube::{Cluster, Snapshot};

/// The name under which kubectl runs a program that completes a plugin's arguments.
const OF_KUBECTL: &str = "kubectl_complete-ferrolb";
/// The line that ends an answer for kubectl: no names of files.
const NO_FILES: &str = ":4";
/// A user who presses a key waits no longer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Options with a value, which is no positional argument.
const WITH_VALUE: &[&str] = &[
    "-o",
    "--output",
    "--kubeconfig",
    "--context",
    "--config-namespace",
    "-f",
    "--filename",
    "--against",
    "--drain",
    "--lose",
    "--lose-peer",
    "--peer",
];

#[derive(Debug, Args)]
pub(super) struct CompleteNamesArgs {
    /// The words after the program's name, up to the one that is completed.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Services,
    Nodes,
    Peers,
    Pools,
}

impl Names {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Services => &[Kind::Service],
            Self::Nodes => &[Kind::Node],
            Self::Peers => &[Kind::BgpPeer, Kind::FerrolbBgpPeer],
            Self::Pools => &[Kind::IpAddressPool, Kind::FerrolbIpAddressPool],
        }
    }

    /// What the last word names. None: nothing that has a name in the cluster.
    fn at_the_end_of(words: &[String]) -> Option<Self> {
        let (_, before) = words.split_last()?;
        match before.last().map(String::as_str) {
            Some("--peer" | "--lose-peer") => return Some(Self::Peers),
            Some("--drain" | "--lose") => return Some(Self::Nodes),
            Some(option) if WITH_VALUE.contains(&option) => return None,
            _ => {}
        }
        match positional(before)[..] {
            ["explain", "service" | "svc"] => Some(Self::Services),
            ["explain", "node"] => Some(Self::Nodes),
            ["explain", "peer"] => Some(Self::Peers),
            ["explain", "pool"] => Some(Self::Pools),
            _ => None,
        }
    }
}

/// The words that are neither options nor their values.
fn positional(words: &[String]) -> Vec<&str> {
    let mut positional = Vec::new();
    let mut previous = "";
    for word in words {
        if !word.starts_with('-') && !WITH_VALUE.contains(&previous) {
            positional.push(word.as_str());
        }
        previous = word;
    }
    positional
}

/// The cluster or the manifests that the words name.
fn world(words: &[String]) -> WorldArgs {
    let value = |names: &[&str]| {
        let pairs = words.windows(2);
        let mut separate = pairs.filter(|pair| names.contains(&pair[0].as_str()));
        let joined = || {
            let mut parts = words.iter().filter_map(|word| word.split_once('='));
            parts.find(|(name, _)| names.contains(name))
        };
        let separate = separate.next().map(|pair| pair[1].clone());
        separate.or_else(|| Some(joined()?.1.to_owned()))
    };
    WorldArgs {
        paths: value(&["-f", "--filename"])
            .into_iter()
            .map(PathBuf::from)
            .collect(),
        kubeconfig: value(&["--kubeconfig"]).map(PathBuf::from),
        context: value(&["--context"]),
        config: ConfigArgs {
            config_namespace: vec![
                value(&["--config-namespace"]).unwrap_or_else(|| CONFIG_NAMESPACE.to_owned()),
            ],
            config_map: value(&["--config-map"]).unwrap_or_else(|| CONFIG_MAP.to_owned()),
        },
    }
}

/// Prints the names that complete the last word.
pub(super) fn run(args: &CompleteNamesArgs) -> Result<ExitCode> {
    let names = names(&args.words)?;
    let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
    print(&lines)?;
    Ok(ExitCode::SUCCESS)
}

fn names(words: &[String]) -> Result<Vec<String>> {
    let Some(wanted) = Names::at_the_end_of(words) else {
        return Ok(Vec::new());
    };
    let world = world(words);
    let all = if world.names_manifests() {
        names_of(&world.manifests()?.index, wanted)
    } else {
        block_on(async {
            let read = names_in_cluster(&world, wanted);
            timeout(TIMEOUT, read)
                .await
                .unwrap_or_else(|_| Ok(BTreeSet::new()))
        })?
    };
    let begun = words.last().map_or("", String::as_str);
    Ok(all
        .into_iter()
        .filter(|name| name.starts_with(begun))
        .collect())
}

async fn names_in_cluster(world: &WorldArgs, wanted: Names) -> Result<BTreeSet<String>> {
    let (kubeconfig, context) = (world.kubeconfig.as_deref(), world.context.as_deref());
    let cluster = Cluster::connect_to(kubeconfig, context).await?;
    let snapshot = Snapshot::read(&cluster, wanted.kinds(), &world.config.places()).await?;
    let mut names = BTreeSet::new();
    for change in snapshot.into_changes()? {
        if let Change::Reset(_, objects) = change {
            let objects = objects.into_iter().filter(|(key, object)| {
                let spec = object.body.get("spec");
                let balanced = spec.is_some_and(|spec| spec["type"] == "LoadBalancer");
                key.kind != Kind::Service || balanced
            });
            names.extend(objects.map(|(key, _)| shown(wanted, &key.name)));
        }
    }
    Ok(names)
}

fn names_of(index: &Index, wanted: Names) -> BTreeSet<String> {
    let config = index.config();
    match wanted {
        Names::Services => {
            let services = index.services().filter(|service| service.load_balancer);
            services.map(|service| service.name.to_string()).collect()
        }
        Names::Nodes => index.nodes().keys().cloned().collect(),
        Names::Peers => config.peers.keys().cloned().collect(),
        Names::Pools => config
            .pools
            .iter()
            .map(|pool| pool.name().to_owned())
            .collect(),
    }
}

fn shown(wanted: Names, name: &ObjectName) -> String {
    match wanted {
        Names::Services => name.to_string(),
        Names::Nodes | Names::Peers | Names::Pools => name.name.clone(),
    }
}

/// Whether kubectl runs the program to complete arguments.
pub(super) fn is_asked_by_kubectl(program: Option<&OsString>) -> bool {
    let name = program.and_then(|path| Path::new(path).file_name());
    name.is_some_and(|name| name == OF_KUBECTL)
}

/// Prints everything that completes the last argument: names, or else commands and options.
pub(super) fn answer_kubectl(arguments: &[OsString]) -> ExitCode {
    let words = arguments.iter().skip(1);
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // Without an answer of the cluster there are no names, and nowhere to say why.
    let mut candidates = names(&words).unwrap_or_default();
    if candidates.is_empty() {
        candidates = commands_and_options(&words);
    }
    candidates.push(NO_FILES.to_owned());
    let lines: String = candidates.iter().map(|line| format!("{line}\n")).collect();
    match print(&lines) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The commands and options that complete the last word.
fn commands_and_options(words: &[String]) -> Vec<String> {
    let Some((begun, before)) = words.split_last() else {
        return Vec::new();
    };
    let mut command: Command = Cli::command();
    command.build();
    for word in positional(before) {
        let Some(inner) = command.find_subcommand(word) else {
            break;
        };
        command = inner.clone();
    }
    let commands = command.get_subcommands().filter(|one| !one.is_hide_set());
    let commands = commands.map(|one| one.get_name().to_owned());
    let options = command.get_arguments().filter_map(|one| one.get_long());
    let options = options.map(|name| format!("--{name}"));
    let options = options.filter(|_| begun.starts_with('-'));
    let all = commands.chain(options);
    all.filter(|candidate| candidate.starts_with(begun.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_belong_to_the_argument_or_option_that_is_completed() {
        for (line, names) in [
            ("explain svc ", Some(Names::Services)),
            ("explain service sh", Some(Names::Services)),
            ("explain --context prod node n", Some(Names::Nodes)),
            ("explain peer --kubeconfig=a ", Some(Names::Peers)),
            ("explain pool -o json ", Some(Names::Pools)),
            ("routes --peer ", Some(Names::Peers)),
            ("plan --against live --drain ", Some(Names::Nodes)),
            ("explain ", None),
            ("explain svc shop/web ", None),
            ("explain svc -o ", None),
            ("", None),
        ] {
            assert_eq!(Names::at_the_end_of(&words(line)), names, "{line}");
        }
    }

    #[test]
    fn the_words_name_the_cluster() {
        let world = world(&words("explain svc --context=prod --kubeconfig my.conf "));
        assert_eq!(world.context.as_deref(), Some("prod"));
        assert_eq!(world.kubeconfig, Some(PathBuf::from("my.conf")));
        let named = super::world(&words("explain svc -f dir "));
        assert!(named.names_manifests());
    }

    #[test]
    fn kubectl_is_offered_commands_and_options() {
        let offered = commands_and_options(&words("sta"));
        assert_eq!(offered, ["status"]);
        assert!(commands_and_options(&words("explain ")).contains(&"pool".to_owned()));
        let offered = commands_and_options(&words("status --con"));
        assert_eq!(offered, ["--context", "--config-namespace", "--config-map"]);
        assert!(!commands_and_options(&words("")).contains(&"complete-names".to_owned()));
    }
}
