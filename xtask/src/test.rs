//! `cargo xtask test`: runs every check, the fast ones first.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::step::{cargo, command, run_step, seconds, show_and_run, target_directory};
use crate::{fuzz, interop, lab, layers, links, release, setup, style};

/// Arguments of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Install missing packages without asking (default if CI=true)
    #[arg(long)]
    yes: bool,
    /// Run only these steps and their requirements (default: all except `corpus`)
    #[arg(value_name = "STEP")]
    steps: Vec<Step>,
    /// For the step `corpus`: the folder of public recordings, with subfolders `mrt` and `pcap`
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// Run only unit and lab tests with one of these in their name
    #[arg(last = true, value_name = "TEST")]
    filters: Vec<String>,
}

/// The steps in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Step {
    /// Install rustfmt and clippy
    Rust,
    /// Install the Debian packages of the lab
    Packages,
    /// Check formatting
    Fmt,
    /// Run the lints; a warning is an error
    Clippy,
    /// Check lengths of lines and files, and wording
    Style,
    /// Check dependencies between crates and modules
    Layers,
    /// Check licences and sources of external dependencies
    Deny,
    /// Run unit and doc tests of all crates
    Unit,
    /// Evaluate the alerts and the dashboard with Prometheus
    Prometheus,
    /// Run the fuzz targets for a minute
    Fuzz,
    /// Build the static release binary for the lab
    Binary,
    /// Build the Kubernetes programs, MetalLB's and Helm (once)
    Kubernetes,
    /// Write the files of a release with the static binary, and check them
    Release,
    /// Run the lab tests in network namespaces
    Lab,
    /// Run the lab tests in Docker containers
    Containers,
    /// Decode public recordings (needs --from)
    Corpus,
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    fn about(self) -> &'static str {
        match self {
            Self::Rust => "rustfmt and clippy",
            Self::Packages => "Debian packages for the lab",
            Self::Fmt => "formatting",
            Self::Clippy => "lints of code and documentation; warnings are errors",
            Self::Style => "lengths of lines and files, wording, links between documents",
            Self::Layers => "dependencies between crates and modules",
            Self::Deny => "licences and sources of external dependencies",
            Self::Unit => "unit and doc tests of all crates",
            Self::Prometheus => "alerts and dashboard, evaluated by Prometheus",
            Self::Fuzz => "fuzz targets, for a minute (the first build takes 2 minutes)",
            Self::Binary => "static release binary for the lab",
            Self::Kubernetes => "Kubernetes, MetalLB and Helm (the first build takes 14 minutes)",
            Self::Release => "files of a release, and what they install",
            Self::Lab => "lab tests with real routers and a real Kubernetes",
            Self::Containers => "lab tests in Docker containers, with GoBGP and BIRD",
            Self::Corpus => "public recordings",
        }
    }

    /// The steps that must run before this one. Each does nothing if its result exists.
    pub(crate) fn needs(self) -> &'static [Self] {
        match self {
            Self::Fmt | Self::Clippy => &[Self::Rust],
            Self::Prometheus => &[Self::Packages],
            Self::Release => &[Self::Packages, Self::Binary, Self::Kubernetes],
            Self::Lab => &[Self::Packages, Self::Binary, Self::Kubernetes],
            Self::Containers => &[Self::Packages, Self::Binary],
            _ => &[],
        }
    }

    fn run(self, options: &Options) -> Result<()> {
        match self {
            Self::Rust => setup::rust_components(),
            Self::Packages => setup::packages(options.yes),
            Self::Fmt => show_and_run(&mut cargo(&["fmt", "--all", "--check"]))
                .context("to fix: cargo fmt --all"),
            Self::Clippy => {
                // The tests with `test = false`, which also excludes them from --all-targets.
                let others = ["--test=public_corpus", "--test=prometheus"];
                for targets in [&["--all-targets"][..], &others] {
                    let mut clippy = cargo(&["clippy", "--workspace", "--all-features"]);
                    show_and_run(clippy.args(targets).args(["--", "-D", "warnings"]))?;
                }
                let mut documents = cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
                show_and_run(documents.env("RUSTDOCFLAGS", "-D warnings"))
            }
            Self::Style => style::check().and_then(|()| links::check()),
            Self::Layers => layers::check(),
            Self::Deny => deny(options.yes),
            Self::Unit => show_and_run(
                cargo(&["test", "--workspace", "--no-fail-fast", "--"]).args(&options.filters),
            ),
            // With all crates, so that dependencies have the features of the unit tests and are
            // not compiled again.
            Self::Prometheus => {
                show_and_run(&mut cargo(&["test", "--workspace", "--test=prometheus"]))
            }
            Self::Fuzz => fuzz::run(),
            Self::Binary => binary(),
            Self::Kubernetes => setup::kubernetes()
                .and_then(|()| setup::metallb())
                .and_then(|()| setup::packaging()),
            Self::Release => release::rehearse(&binary_path()?),
            Self::Lab => lab::run(&options.filters),
            Self::Containers => containers(),
            Self::Corpus => public_corpus(options.from.as_deref()),
        }
    }
}

/// Runs the steps until one fails.
///
/// # Errors
/// The error of the failed step, with the command that repeats it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let steps = selected(&options.steps);
    ensure!(
        options.from.is_none() || steps.contains(&Step::Corpus),
        "--from needs the step `corpus`: cargo xtask test corpus --from FOLDER"
    );
    if steps.contains(&Step::Lab) {
        // Checked first, not after ten minutes of building.
        setup::require_root("the lab (network namespaces)")?;
    }
    let mut summary = Vec::new();
    let with_binary = steps.contains(&Step::Binary);
    let mut build = None;
    for step in steps {
        if step == Step::Unit && with_binary {
            build = Some(BackgroundBuild::start()?);
        }
        let took = run_step(&step.name(), step.about(), || {
            if step == Step::Binary {
                build.take().map_or(Ok(()), BackgroundBuild::wait)?;
            }
            step.run(options)
        })?;
        summary.push(format!("  {:<12}{}", step.name(), seconds(took)));
    }
    println!("\nAll passed:\n{}", summary.join("\n"));
    Ok(())
}

/// The named steps and their requirements, in order. Without names all steps except `corpus`, which
/// needs files from outside the repository.
fn selected(named: &[Step]) -> Vec<Step> {
    let mut steps: Vec<Step> = if named.is_empty() {
        let all = Step::value_variants().iter().copied();
        all.filter(|step| *step != Step::Corpus).collect()
    } else {
        let needed = named.iter().flat_map(|step| step.needs());
        named.iter().chain(needed).copied().collect()
    };
    steps.sort();
    steps.dedup();
    steps
}

/// Runs the steps that the lab requires.
///
/// # Errors
/// When a step fails.
pub(crate) fn prepare(steps: &[Step]) -> Result<()> {
    setup::require_root("the lab (network namespaces)")?;
    let options = Options {
        yes: false,
        steps: steps.to_vec(),
        from: None,
        filters: Vec::new(),
    };
    run(&options)
}

/// The Cargo profile of the binary in images.
const PROFILE: &str = "dist";

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// A build of the binary in parallel with other steps, which do not use all cores. The step
/// `binary` shows the result.
struct BackgroundBuild(Child);

impl BackgroundBuild {
    fn start() -> Result<Self> {
        let build = binary_command();
        let mut nice = command("nice", &["-n", "10"]);
        nice.arg(build.get_program()).args(build.get_args());
        for (name, value) in build.get_envs() {
            nice.env(name, value.unwrap_or_default());
        }
        nice.arg("--quiet").stderr(Stdio::null());
        Ok(Self(nice.spawn().context("start nice and cargo")?))
    }

    fn wait(mut self) -> Result<()> {
        self.0.wait().map(|_| ()).context("wait for cargo")
    }
}

impl Drop for BackgroundBuild {
    fn drop(&mut self) {
        // Both fail if the build has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn binary_command() -> Command {
    let target = target();
    let mut build = cargo(&["build", "--profile", PROFILE, "-p", "ferrolb"]);
    build.args(["--target", &target]);
    build.env("RUSTFLAGS", "-C target-feature=+crt-static");
    build
}

/// Builds the binary statically, so that it can be the only file of an image. With an explicit
/// target the flag does not apply to proc macros, which can't be static.
fn binary() -> Result<()> {
    show_and_run(&mut binary_command())?;
    let binary = binary_path()?;
    println!("    {}", binary.display());
    ensure!(binary.exists(), "cargo did not create {}", binary.display());
    Ok(())
}

/// Path of the binary that [`binary`] builds.
///
/// # Errors
/// When `cargo metadata` fails.
pub(crate) fn binary_path() -> Result<PathBuf> {
    Ok(target_directory()?
        .join(target())
        .join(PROFILE)
        .join("ferrolb"))
}

/// The `cargo test` command for the interop tests of a feature, all or only some files.
///
/// # Errors
/// When `cargo metadata` fails.
pub(crate) fn lab_test(feature: &str, files: &[&str]) -> Result<Command> {
    let mut command = cargo(&["test", "-p", "ferrolb-interop-tests", "--features", feature]);
    for file in files {
        command.args(["--test", file]);
    }
    command.env("FERROLB_BIN", binary_path()?);
    command.env("METALLB_FOLDER", setup::metallb_folder()?);
    command.env("PACKAGING_FOLDER", setup::packaging_folder()?);
    Ok(command)
}

/// Runs the tests in containers. Some CI machines do not permit a Docker daemon; there the tests
/// are left to the step `lab`, which runs the same racks in network namespaces. Elsewhere it is an
/// error.
fn containers() -> Result<()> {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    if in_ci && !interop::docker_starts()? {
        println!(
            "    NOTE: dockerd does not start on this machine: the racks with GoBGP and BIRD were \
             tested in network namespaces only (step lab)."
        );
        return Ok(());
    }
    interop::containers(&[interop::Router::Gobgp, interop::Router::Bird])
}

/// Runs the decoder and the fuzz targets on recordings from outside the repository.
fn public_corpus(from: Option<&Path>) -> Result<()> {
    let from = from.context(
        "the public recordings are not part of the repository; give their folder: \
         cargo xtask test corpus --from FOLDER",
    )?;
    let folder = from.canonicalize();
    let folder = folder.with_context(|| format!("--from {}", from.display()))?;
    for part in ["mrt", "pcap"] {
        let part = folder.join(part);
        ensure!(
            part.is_dir(),
            "{} is not a folder; the public recordings must be in `mrt` and `pcap`",
            part.display()
        );
    }
    let mut tests = cargo(&["test", "--workspace", "--test=public_corpus"]);
    show_and_run(
        tests
            .arg("--test=fuzz_targets")
            .env("FERROLB_CORPUS", folder),
    )
}

/// Checks only what depends on Cargo.lock, so that the result for a commit never changes.
/// Advisories come from GitHub and change daily; deny.toml has the command for them.
fn deny(yes: bool) -> Result<()> {
    setup::cargo_deny(yes)?;
    show_and_run(&mut cargo(&[
        "deny",
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_added_in_order() {
        assert_eq!(
            selected(&[Step::Lab, Step::Fmt]),
            [
                Step::Rust,
                Step::Packages,
                Step::Fmt,
                Step::Binary,
                Step::Kubernetes,
                Step::Lab
            ]
        );
    }

    #[test]
    fn without_names_all_steps_but_corpus_are_selected() {
        let all = selected(&[]);
        let excluded: Vec<_> = Step::value_variants()
            .iter()
            .filter(|step| !all.contains(step))
            .collect();
        assert_eq!(excluded, [&Step::Corpus]);
        assert_eq!(selected(&[Step::Corpus]), [Step::Corpus]);
    }

    #[test]
    fn the_folder_of_the_public_corpus_must_be_given_and_exist() {
        let error = |from: Option<&str>| {
            let error = public_corpus(from.map(Path::new)).expect_err("an invalid folder");
            format!("{error:#}")
        };
        assert!(error(None).contains("cargo xtask test corpus --from FOLDER"));
        let missing = error(Some("/nonexistent/corpus"));
        assert!(
            missing.starts_with("--from /nonexistent/corpus: No such file"),
            "{missing}"
        );
        let empty = error(Some(env!("CARGO_MANIFEST_DIR")));
        assert!(empty.contains("xtask/mrt is not a folder"), "{empty}");
    }
}
