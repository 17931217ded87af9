//! `cargo xtask test`: every check there is, in the order from cheap to dear.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::step::{announce, cargo, command, seconds, show_and_run, target_directory};
use crate::{fuzz, interop, layers, setup, style};

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Install what is missing without asking (also when CI=true)
    #[arg(long)]
    yes: bool,
    /// Only these steps, with those they need; all but `corpus` if none is named
    #[arg(value_name = "STEP")]
    steps: Vec<Step>,
    /// The folder of public recordings for the step `corpus`, with `mrt` and `pcap` in it
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// Of the unit and lab tests only those with one of these in their name
    #[arg(last = true, value_name = "TEST")]
    filters: Vec<String>,
}

/// The steps, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Step {
    /// rustfmt and clippy are there
    Rust,
    /// The Debian packages are installed
    Packages,
    /// Formatting
    Fmt,
    /// Lints, warnings denied
    Clippy,
    /// Lengths of lines and files, and the language
    Style,
    /// Who may depend on whom
    Layers,
    /// Licences and sources of dependencies
    Deny,
    /// Unit and doc tests of all crates
    Unit,
    /// The fuzz targets, for a minute in all
    Fuzz,
    /// The static release binary that the lab runs
    Binary,
    /// The Kubernetes programs, built once
    Kubernetes,
    /// Interop tests in network namespaces
    Lab,
    /// The rack in Docker containers
    Containers,
    /// Public recordings through the decoder; only when named, with --from
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
            Self::Fmt => "the code is formatted",
            Self::Clippy => "lints of code and of documentation, warnings are errors",
            Self::Style => "lengths of lines and files, and the language",
            Self::Layers => "who may depend on whom",
            Self::Deny => "licences and sources of dependencies",
            Self::Unit => "unit and doc tests of all crates",
            Self::Fuzz => "the fuzz targets, a minute in all (built once: 2 minutes)",
            Self::Binary => "the static release binary that the lab runs",
            Self::Kubernetes => "Kubernetes programs (7 minutes the first time, then cached)",
            Self::Lab => "interop tests: real routers, real Kubernetes",
            Self::Containers => "GoBGP's and BIRD's rack in Docker containers",
            Self::Corpus => "public recordings through the decoder",
        }
    }

    /// The steps that have to come before this one; each does nothing when there is nothing to do.
    pub(crate) fn needs(self) -> &'static [Self] {
        match self {
            Self::Fmt | Self::Clippy => &[Self::Rust],
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
                .context("to format: cargo fmt --all"),
            Self::Clippy => {
                // `cargo test` leaves public_corpus out, and so does --all-targets.
                for targets in ["--all-targets", "--test=public_corpus"] {
                    let clippy = ["clippy", "--workspace", targets, "--all-features"];
                    show_and_run(cargo(&clippy).args(["--", "-D", "warnings"]))?;
                }
                let mut documents = cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
                show_and_run(documents.env("RUSTDOCFLAGS", "-D warnings"))
            }
            Self::Style => style::check(),
            Self::Layers => layers::check(),
            Self::Deny => deny(options.yes),
            Self::Unit => show_and_run(
                cargo(&["test", "--workspace", "--no-fail-fast", "--"]).args(&options.filters),
            ),
            Self::Fuzz => fuzz::run(),
            Self::Binary => binary(),
            Self::Kubernetes => setup::kubernetes(),
            Self::Lab => lab(&options.filters),
            Self::Containers => containers(),
            Self::Corpus => public_corpus(options.from.as_deref()),
        }
    }
}

/// Runs the steps and stops at the first that fails.
///
/// # Errors
/// The failure of a step, with what to type to run it again.
pub(crate) fn run(options: &Options) -> Result<()> {
    let steps = chosen(&options.steps);
    ensure!(
        options.from.is_none() || steps.contains(&Step::Corpus),
        "--from is for the step `corpus`: cargo xtask test corpus --from FOLDER"
    );
    if steps.contains(&Step::Lab) {
        // Now rather than after ten minutes of building.
        setup::require_root("the lab (network namespaces)")?;
    }
    let mut summary = Vec::new();
    let with_binary = steps.contains(&Step::Binary);
    let mut build = None;
    for step in steps {
        if step == Step::Unit && with_binary {
            build = Some(BinaryBuild::start()?);
        }
        let took = announce(&step.name(), step.about(), || {
            if step == Step::Binary {
                build.take().map_or(Ok(()), BinaryBuild::wait)?;
            }
            step.run(options)
        })?;
        summary.push(format!("  {:<12}{}", step.name(), seconds(took)));
    }
    println!("\nAll passed:\n{}", summary.join("\n"));
    Ok(())
}

/// The named steps with those they need, in order. If none is named, all that a clone can run.
fn chosen(named: &[Step]) -> Vec<Step> {
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

/// Does what has to be there before something runs in the lab: these steps.
///
/// # Errors
/// The failure of a step.
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

/// The Cargo profile of what images contain.
const PROFILE: &str = "dist";

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// A build of the binary beside other steps, which leave the cores idle for much of their time. The
/// step `binary` shows how it ended.
struct BinaryBuild(Child);

impl BinaryBuild {
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

impl Drop for BinaryBuild {
    fn drop(&mut self) {
        // Both fail if it has ended.
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

/// Builds the binary, static so that it can be an image's only file. The explicit target
/// keeps the flag from proc macros, which can't be static.
fn binary() -> Result<()> {
    show_and_run(&mut binary_command())?;
    let binary = binary_path()?;
    println!("    {}", binary.display());
    ensure!(binary.exists(), "cargo left no {}", binary.display());
    Ok(())
}

/// Where [`binary`] leaves its result.
///
/// # Errors
/// When `cargo metadata` fails.
pub(crate) fn binary_path() -> Result<PathBuf> {
    Ok(target_directory()?
        .join(target())
        .join(PROFILE)
        .join("ferrolb"))
}

/// One test at a time: two cores are busy enough with one rack.
fn lab(filters: &[String]) -> Result<()> {
    let mut command = lab_test("lab", &[])?;
    show_and_run(
        command
            .args(["--no-fail-fast", "--", "--test-threads=1"])
            .args(filters),
    )
}

/// `cargo test` of the interop tests: those of a feature, all of them or only some files.
///
/// # Errors
/// When `cargo metadata` fails.
pub(crate) fn lab_test(feature: &str, files: &[&str]) -> Result<Command> {
    let mut command = cargo(&["test", "-p", "ferrolb-interop-tests", "--features", feature]);
    for file in files {
        command.args(["--test", file]);
    }
    command.env("FERROLB_BIN", binary_path()?);
    Ok(command)
}

/// Some CI machines don't let a Docker daemon start. The lab has run the same racks in network
/// namespaces then, which is as good; elsewhere it is an error.
fn containers() -> Result<()> {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    if in_ci && !interop::docker_starts()? {
        println!(
            "    NOTE: dockerd does not start on this machine. GoBGP's and BIRD's rack ran in network namespaces only (lab)."
        );
        return Ok(());
    }
    interop::containers(&[interop::Router::Gobgp, interop::Router::Bird])
}

/// Runs the decoder and the fuzz targets over recordings that aren't part of the repository.
fn public_corpus(from: Option<&Path>) -> Result<()> {
    let from = from.context(
        "the public recordings are not part of the repository; name their folder: \
         cargo xtask test corpus --from FOLDER",
    )?;
    let folder = from.canonicalize();
    let folder = folder.with_context(|| format!("--from {}", from.display()))?;
    for part in ["mrt", "pcap"] {
        let part = folder.join(part);
        ensure!(
            part.is_dir(),
            "{} is no folder; the public recordings lie in `mrt` and `pcap`",
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

/// Only what depends on Cargo.lock alone. Advisories change by the day and come from GitHub: a
/// commit that was good stays good here; deny.toml says how to ask for them.
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
    fn the_lab_brings_what_it_needs_in_order() {
        assert_eq!(
            chosen(&[Step::Lab, Step::Fmt]),
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
    fn no_name_means_all_that_a_clone_can_run() {
        let all = chosen(&[]);
        let left_out: Vec<_> = Step::value_variants()
            .iter()
            .filter(|step| !all.contains(step))
            .collect();
        assert_eq!(left_out, [&Step::Corpus]);
        assert_eq!(chosen(&[Step::Corpus]), [Step::Corpus]);
    }

    #[test]
    fn the_public_corpus_must_be_named_and_be_there() {
        let error = |from: Option<&str>| {
            let error = public_corpus(from.map(Path::new)).expect_err("no corpus");
            format!("{error:#}")
        };
        assert!(error(None).contains("cargo xtask test corpus --from FOLDER"));
        let missing = error(Some("/nonexistent/corpus"));
        assert!(
            missing.starts_with("--from /nonexistent/corpus: No such file"),
            "{missing}"
        );
        let empty = error(Some(env!("CARGO_MANIFEST_DIR")));
        assert!(empty.contains("xtask/mrt is no folder"), "{empty}");
    }
}
