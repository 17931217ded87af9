//! The command line.

mod check;
mod client_args;
mod crds;
pub(crate) mod demo;
mod log;
pub(crate) mod output;
mod peer;
mod peers;
mod plan;
mod routes;
mod run;
pub(crate) mod signals;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ferrolb_bgp::speaker;

use crate::core::config::CONFIG_NAMESPACE;
use crate::core::printable::printable;
use crate::runtime::panicked;
use crate::runtime::source::manifests::{Loader, Manifests};

/// Load-balancer addresses for bare-metal Kubernetes: gives Services of type LoadBalancer an address and announces it
/// over BGP.
#[derive(Debug, Parser)]
#[command(name = "ferrolb", version, about, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ferrolb demo                          see it work: three nodes and a router, on loopback, in seconds
  ferrolb check -f manifests/           is everything in these manifests valid?
  ferrolb plan -f manifests/            who gets which address, who announces what, and why not
  ferrolb crds | kubectl apply -f -     define ferrolb's own BGPPeer, for what MetalLB's can't say
  ferrolb run --manifests manifests/ --node-name node-a
                                        announce for a node what a folder says, without a cluster
  ferrolb run --role announcer          announce what the Kubernetes API says, as the DaemonSet does
  ferrolb peers                         the sessions of the daemon that runs here; peer, routes and log tell more";

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate manifests; every error with its place and remedy. Exits with 1 if there is one.
    Check(check::CheckArgs),
    /// Print the definitions (CRDs) of ferrolb's own resources, for kubectl apply -f -.
    Crds,
    /// Predict from manifests: addresses, routes of every node, and what is withheld, with reason codes.
    Plan(plan::PlanArgs),
    /// See it work: three nodes and a router on loopback, no root, no cluster, in seconds.
    Demo,
    /// The daemon: allocates addresses, and announces them from this node.
    Run(run::RunArgs),
    /// All sessions of the daemon that runs here, in short.
    Peers(peers::PeersArgs),
    /// All there is to know about one session.
    Peer(peer::PeerArgs),
    /// What peers hold from here: prefixes, attributes, and when they were last sent.
    Routes(routes::RoutesArgs),
    /// What happened to sessions.
    Log(log::LogArgs),
}

/// Which manifests, and which namespaces hold configuration.
#[derive(Debug, Args)]
struct ManifestArgs {
    /// Files or folders (with subfolders) of YAML or JSON; - reads the standard input.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    paths: Vec<PathBuf>,
    /// Namespace that holds MetalLB's resources; may be given several times.
    #[arg(long, value_name = "NAMESPACE", default_value = CONFIG_NAMESPACE)]
    config_namespace: Vec<String>,
}

impl ManifestArgs {
    /// Reads the manifests.
    fn load(&self) -> Manifests {
        Loader::new(self.paths.clone(), &self.config_namespace).load()
    }

    /// The paths as they would be typed.
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
            "no objects found in {}: give files or folders with -f that hold Services, Nodes and MetalLB's resources",
            self.shown_paths()
        )
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// What `ferrolb run` asks of the host and of the clock. A test gives functions of its own, in
/// order to make the control loop panic and to restart soon.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    interface_exists: fn(&str) -> bool,
    pause_after_panic: fn(Duration) -> Duration,
}

impl Host {
    /// `interface_exists` says whether the host has a network interface of that name.
    /// `pause_after_panic` gives the time from a panic to the restart of a process of that age.
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

/// Runs the program with these arguments, the first of which is its name.
pub fn main_on(host: Host, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let result = match Cli::parse_from(arguments).command {
        Command::Check(args) => check::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Crds => crds::run(),
        Command::Demo => run_demo(),
        Command::Run(args) => run::run(args, host),
        Command::Peers(args) => peers::run(&args),
        Command::Peer(args) => peer::run(&args),
        Command::Routes(args) => routes::run(&args),
        Command::Log(args) => log::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("ferrolb: {}", printable(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

fn run_demo() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(demo::run())?;
    Ok(ExitCode::SUCCESS)
}
