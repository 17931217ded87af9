//! `cargo xtask`: what is more than one cargo command. Set-up and every check in one (`test`), and
//! benchmarks (`bench`).

mod bench;
mod fuzz;
mod interop;
mod layers;
mod setup;
mod step;
mod style;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What is more than one cargo command.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    after_help = "Examples:
  cargo xtask test                   set up what is missing (asks first), then check everything
  cargo xtask test --yes             the same without asking, as CI does
  cargo xtask test fmt clippy unit   only these steps; none of the three needs root
  cargo xtask test lab               only the lab: network namespaces, routers, Kubernetes (root)
  cargo xtask test lab -- frr        only the lab's tests with `frr` in their name
  cargo xtask test corpus --from ~/corpus  public recordings (mrt/, pcap/) through the decoder
  cargo xtask interop --containers   three ferrolb containers and a router's: up, checked, down (root)
  cargo xtask bench                  measure, and write docs/benchmarks.md
  cargo xtask bench bgp              only beside other routers
  cargo xtask bench bgp -- latency   only the rows with `latency` in their name, not written down"
)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Check everything: format, lints, layers, licences, unit, doc and interop tests
    Test(test::Options),
    /// Run ferrolb against real routers only, in network namespaces or in containers
    Interop(interop::Options),
    /// Run the benchmarks and write their results into docs/benchmarks.md
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Subcommands::Test(options) => test::run(&options),
        Subcommands::Interop(options) => interop::run(&options),
        Subcommands::Bench(options) => bench::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
