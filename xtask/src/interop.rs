//! `cargo xtask interop`: runs ferrolb with real routers, in network namespaces or in containers.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::step::{show_and_run, succeeds};
use crate::test::{Step, lab_test, prepare};

/// Arguments of `cargo xtask interop`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run the containers of interop-tests/containers/compose.yaml instead of namespaces
    #[arg(long)]
    containers: bool,
    /// With --containers: run only these routers (default: all)
    #[arg(value_name = "ROUTER", requires = "containers")]
    routers: Vec<Router>,
}

/// A router with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Router {
    /// GoBGP
    Gobgp,
    /// BIRD 2
    Bird,
    /// FRRouting
    Frr,
}

/// Runs the interop tests.
///
/// # Errors
/// When a step fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    prepare(&[Step::Packages, Step::Binary])?;
    if options.containers {
        return containers(&options.routers);
    }
    show_and_run(lab_test("lab", &["interop"])?.args(["--", "--test-threads=1"]))
}

/// Runs the tests in containers with each of these routers, or with all of them.
///
/// # Errors
/// When Docker does not start or a test fails.
pub(crate) fn containers(routers: &[Router]) -> Result<()> {
    let names = routers.iter().filter_map(ValueEnum::to_possible_value);
    let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
    let mut command = lab_test("containers", &["containers"])?;
    show_and_run(command.args(["--", "--test-threads=1"]).args(names))
}

/// Whether a Docker daemon can be started on this machine.
///
/// # Errors
/// When the test for it can't be built.
pub(crate) fn docker_starts() -> Result<bool> {
    let mut build = lab_test("containers", &["containers"])?;
    show_and_run(build.arg("--no-run"))?;
    let mut probe = lab_test("containers", &["containers"])?;
    Ok(succeeds(probe.args(["--", "docker_starts"])))
}
