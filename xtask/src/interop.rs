//! `cargo xtask interop`: ferrolb against real routers, in network namespaces or in containers.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::step::{show_and_run, succeeds};
use crate::test::{Step, lab_test, prepare};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// In Docker containers, as interop-tests/containers/compose.yaml has them, instead of network
    /// namespaces
    #[arg(long)]
    containers: bool,
    /// Only these routers; in containers all of them if none is named
    #[arg(value_name = "ROUTER", requires = "containers")]
    routers: Vec<Router>,
}

/// A router that there is a container of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Router {
    /// GoBGP
    Gobgp,
    /// BIRD 2
    Bird,
    /// FRRouting
    Frr,
}

/// Runs the interop tests; those in containers bring the rack up, check it and take it down.
///
/// # Errors
/// The failure of a step.
pub(crate) fn run(options: &Options) -> Result<()> {
    prepare(&[Step::Packages, Step::Binary])?;
    if options.containers {
        return containers(&options.routers);
    }
    show_and_run(lab_test("lab", &["interop"])?.args(["--", "--test-threads=1"]))
}

/// The rack in containers, with each of these routers in turn, or with all of them.
///
/// # Errors
/// When Docker does not start or a check fails.
pub(crate) fn containers(routers: &[Router]) -> Result<()> {
    let names = routers.iter().filter_map(ValueEnum::to_possible_value);
    let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
    let mut command = lab_test("containers", &["containers"])?;
    show_and_run(command.args(["--", "--test-threads=1"]).args(names))
}

/// Whether a Docker daemon can be started here at all.
///
/// # Errors
/// When the test that tries it can't be built.
pub(crate) fn docker_starts() -> Result<bool> {
    let mut build = lab_test("containers", &["containers"])?;
    show_and_run(build.arg("--no-run"))?;
    let mut probe = lab_test("containers", &["containers"])?;
    Ok(succeeds(probe.args(["--", "docker_starts"])))
}
