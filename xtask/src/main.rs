//! `cargo xtask`: the development tasks of the project. `test` sets up the machine and runs every
//! check, `interop` runs the scenarios with real routers, `bench` runs the benchmarks, `release`
//! writes the files of a release.

mod bench;
mod files;
mod fuzz;
mod interop;
mod lab;
mod layers;
mod links;
mod release;
mod setup;
mod step;
mod style;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development tasks of ferrolb: checks, tests with real routers, benchmarks
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:
  cargo xtask test                   install what is missing (asks first), then run every check
  cargo xtask test --yes             the same without asking, as CI does
  cargo xtask test fmt clippy unit   run only these steps; none of the three needs root
  cargo xtask test lab               run the lab tests: namespaces, routers, Kubernetes (root)
  cargo xtask test lab -- frr        run the lab tests with `frr` in their name
  cargo xtask test corpus --from ~/corpus  decode public recordings (mrt/, pcap/)
  cargo xtask interop                run the scenarios of docs/interop.md (root)
  cargo xtask interop --containers   test three ferrolb containers and a router container (root)
  cargo xtask bench                  run all benchmarks and update docs/benchmarks.md
  cargo xtask bench bgp              compare ferrolb with other routers
  cargo xtask release --url https://example.com/v1 --image registry.example/ferrolb --out ../v1
                                     write the files of a release
  cargo xtask bench bgp -- latency   run only the measurements with `latency` in their name"
)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Run every check: format, lints, layers, licences, unit, doc and lab tests
    Test(test::Options),
    /// Run ferrolb with real routers, in network namespaces or in containers
    Interop(interop::Options),
    /// Run the benchmarks and write the results to docs/benchmarks.md
    Bench(bench::Options),
    /// Write the files of a release: static programs, archives, image, SBOM, manifests, chart
    Release(release::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Subcommands::Test(options) => test::run(&options),
        Subcommands::Interop(options) => interop::run(&options),
        Subcommands::Bench(options) => bench::run(&options),
        Subcommands::Release(options) => release::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
