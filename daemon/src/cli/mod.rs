//! The command line.

mod capture;
mod check;
mod client_args;
mod cluster;
mod completion_names;
mod completions;
mod convert;
mod crds;
pub(crate) mod demo;
mod explain;
mod gate_args;
mod l2;
mod log;
mod metrics_args;
mod migrate;
pub(crate) mod output;
mod peer;
mod peers;
mod plan;
mod probe;
mod router_config;
mod routes;
mod run;
pub(crate) mod signals;
mod status_objects;
pub(crate) mod ui;
mod workload_flags;
mod world;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ferrolb_bgp::speaker;

use self::cluster::Invocation;
use crate::core::api::CONFIG_MAP;
use crate::core::config::{CONFIG_NAMESPACE, ConfigPlaces};
use crate::core::printable::printable;
use crate::runtime::panicked;
use crate::runtime::source::manifests::{Loader, Manifests};

/// Load-balancer addresses for bare-metal Kubernetes: allocates addresses for Services of type
/// LoadBalancer and announces them by BGP and layer 2.
#[derive(Debug, Parser)]
#[command(name = "ferrolb", version, about, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ferrolb demo                          see it at work: three nodes and a router on loopback
  ferrolb check -f manifests/           validate manifests
  ferrolb plan -f manifests/            predict addresses and routes, and why some are withheld
  ferrolb status                        what is wrong in a cluster, and what is left of its pools
  ferrolb explain svc shop/web          why the cluster does or does not announce a Service
  ferrolb ui                            the same as a picture in the browser, and what-if
  ferrolb router-config --for frr -f manifests/
                                        print the configuration of the router
  ferrolb convert config.yaml           print the resources that MetalLB's old ConfigMap means
  ferrolb crds | kubectl apply -f -     install the CRDs of ferrolb's own resources
  ferrolb run --manifests manifests/ --node-name node-a
                                        announce the manifests of a folder, without a cluster
  ferrolb run --role announcer          announce the Services of a cluster, as the DaemonSet does
  ferrolb peers                         list the sessions of the daemon on this host
  ferrolb l2                            show which node announces which address by layer 2";

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate manifests and print each error with its place and remedy. Exits with 1 if there are
    /// errors.
    Check(check::CheckArgs),
    /// Print the resources that MetalLB's ConfigMap and AddressPools mean, which configured it
    /// before 0.14. Their effect is the same, so that they can replace them.
    Convert(convert::ConvertArgs),
    /// Print the CRDs of ferrolb's own resources, for kubectl apply -f -.
    Crds(crds::CrdsArgs),
    /// Predict from manifests the addresses, the routes of every node, the layer 2 candidates of
    /// every address, and what is withheld, with reason codes.
    Plan(plan::PlanArgs),
    /// Explain why a Service is or is not announced: from its pool to the routers, with a verdict
    /// and a command for each step. Exits with 1 if it is not announced.
    Explain(explain::ExplainArgs),
    /// Show the state of a whole cluster, by its API server: what is wrong first, then components,
    /// pools, sessions and layer 2. The exit code says whether something is wrong.
    Status(cluster::StatusArgs),
    /// List the pools of a cluster: addresses in use, free ones, and how long they last.
    Pools(cluster::PoolsArgs),
    /// Print the router's side of the sessions: neighbors, import filter, BFD and the rest, in the
    /// syntax of a router. Exits with 1 if it can't express a part of it.
    RouterConfig(router_config::RouterConfigArgs),
    /// Show on a page who announces what to whom, what is wrong, and what a change would do.
    /// It serves on this host only, and can change nothing.
    Ui(ui::UiArgs),
    /// Show ferrolb at work: three nodes and a router on loopback, without root and without a
    /// cluster.
    Demo(demo::DemoArgs),
    /// Move a running cluster from MetalLB to ferrolb, node by node.
    Migrate(migrate::MigrateArgs),
    /// Run the daemon: allocates addresses and announces them from this node.
    Run(run::RunArgs),
    /// List the sessions of the daemon on this host, or of a whole cluster.
    Peers(peers::PeersArgs),
    /// Show the details of one session.
    Peer(peer::PeerArgs),
    /// List the routes sent to peers, with attributes and the time they were last sent; or those of
    /// a whole cluster.
    Routes(routes::RoutesArgs),
    /// Ask the daemon on this host whether it is live or ready, as the kubelet does. Exits with 1
    /// if it isn't.
    Probe(probe::ProbeArgs),
    /// Show the events of sessions.
    Log(log::LogArgs),
    /// Record the messages of a session, as MRT or for Wireshark. The daemon copies them only
    /// meanwhile.
    Capture(capture::CaptureArgs),
    /// Show which node announces which address by layer 2, and why; move and test addresses.
    L2(l2::L2Args),
    /// Print the names that complete a command line: completion scripts run it.
    #[command(hide = true)]
    CompleteNames(completion_names::CompleteNamesArgs),
    /// Print the completion script of a shell.
    Completions(completions::CompletionsArgs),
    /// Write the manual pages to a folder, one for each command.
    Man(completions::ManArgs),
}

/// The manifests, and the namespaces with configuration.
#[derive(Debug, Args)]
struct ManifestArgs {
    /// Files or folders (with subfolders) of YAML or JSON; - reads standard input.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
struct ConfigArgs {
    /// Namespace of the configuration; can be given several times.
    #[arg(long, value_name = "NAMESPACE", default_value = CONFIG_NAMESPACE)]
    config_namespace: Vec<String>,
    /// Name of MetalLB's ConfigMap, before 0.13: that of its option --config.
    #[arg(long, value_name = "NAME", default_value = CONFIG_MAP)]
    #[arg(value_parser = config_map_name)]
    config_map: String,
}

/// Checks the name of a ConfigMap.
fn config_map_name(name: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    if name.is_empty() || !name.chars().all(is_allowed) {
        return Err("no ConfigMap has this name: write letters a to z, digits, - and .".to_owned());
    }
    Ok(name.to_owned())
}

impl ConfigArgs {
    fn places(&self) -> ConfigPlaces {
        ConfigPlaces {
            namespaces: self.config_namespace.clone(),
            config_map: self.config_map.clone(),
        }
    }
}

impl ManifestArgs {
    /// Reads the manifests.
    fn load(&self) -> Manifests {
        Loader::new(self.paths.clone(), self.config.places()).load()
    }

    /// The paths as given on the command line.
    fn shown_paths(&self) -> String {
        let paths: Vec<String> = self
            .paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.join(" ")
    }

    fn nothing_found(&self) -> String {
        format!(
            "no objects found in {}: give files or folders with Services, Nodes and MetalLB \
             resources with -f",
            self.shown_paths()
        )
    }
}

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Hooks for tests: what `ferrolb run` asks the host, and how long it waits after a panic.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    interface_exists: fn(&str) -> bool,
    pause_after_panic: fn(Duration) -> Duration,
}

impl Host {
    /// `interface_exists` returns whether the host has a network interface of that name.
    /// `pause_after_panic` returns the delay between a panic and the restart, for a process of that
    /// age.
    pub fn new(
        interface_exists: fn(&str) -> bool,
        pause_after_panic: fn(Duration) -> Duration,
    ) -> Self {
        Self {
            interface_exists,
            pause_after_panic,
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let host = Host::new(speaker::interface_exists, panicked::restart_delay);
    main_on(host, env::args_os())
}

/// Runs the program with these arguments; the first one is its name.
pub fn main_on(host: Host, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if completion_names::is_asked_by_kubectl(arguments.first()) {
        return completion_names::answer_kubectl(&arguments);
    }
    let invocation = Invocation::of(arguments.first());
    let result = match parse(invocation, arguments).command {
        Command::Status(args) => cluster::run_status(&args),
        Command::Pools(args) => cluster::run_pools(&args),
        Command::CompleteNames(args) => completion_names::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Crds(args) => crds::run(&args),
        Command::RouterConfig(args) => router_config::run(&args),
        Command::Ui(args) => ui::run(&args),
        Command::Demo(args) => run_demo(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Run(args) => run::run(args, host),
        Command::Peers(args) => peers::run(&args, invocation),
        Command::Peer(args) => peer::run(&args),
        Command::Routes(args) => routes::run(&args, invocation),
        Command::Probe(args) => probe::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Capture(args) => capture::run(&args),
        Command::L2(args) => l2::run(&args, invocation),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("ferrolb: {}", printable(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

/// The arguments. Usage and errors name the program as the user called it.
fn parse(invocation: Invocation, arguments: Vec<OsString>) -> Cli {
    let mut command = Cli::command();
    if invocation == Invocation::Plugin {
        command = command.bin_name("kubectl ferrolb");
    }
    let matches = command.get_matches_from(arguments);
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn run_demo(args: &demo::DemoArgs) -> anyhow::Result<ExitCode> {
    block_on(demo::run(args))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that waits for I/O.
fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(command)
}
